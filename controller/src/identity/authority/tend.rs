//! What has to be done from time to time.

use std::time::Duration;

use plan::Timestamp;
use tokio::time::MissedTickBehavior;
use xds::server::Tls;

use super::{Authority, ServerIdentity};
use crate::identity::SKEW_MAX;
use crate::identity::ca::SERVER_LIFE;

/// How often the list of machines is read again: so long it may take until another controller's
/// revocation counts here.
const REFRESH_EVERY: Duration = Duration::from_secs(1);

/// After how long a controller's certificate is made anew: half its life.
const SERVER_RENEW_AFTER: Duration = Duration::from_secs(SERVER_LIFE.as_secs() / 2);

/// How long to wait after a certificate could not be made.
const SERVER_RENEW_AGAIN: Duration = Duration::from_secs(60);

impl Authority {
    /// Learns what other controllers decide, and renews the certificate of `tls`, which
    /// [`Authority::server_tls`] made with these names. Runs until dropped.
    pub async fn tend(self, tls: Option<(Tls, Vec<String>)>) {
        let mut ticks = tokio::time::interval(REFRESH_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut made, mut again_at) = (self.inner.clock.now(), Duration::ZERO);
        let mut is_well = true;
        loop {
            ticks.tick().await;
            let refreshed = self.inner.refresh().await;
            // Told once, and again after it was well.
            if let Err(error) = &refreshed
                && is_well
            {
                let cause = std::error::Error::source(error).map(ToString::to_string);
                tracing::warn!(%error, cause, "machines are let in by what was known before");
            }
            is_well = refreshed.is_ok();
            // Where it fails the store's trouble is told, and they are refused here as they are.
            drop(self.inner.freeze_all().await);
            let (now, uptime) = (self.inner.clock.now(), self.inner.clock.uptime());
            if let Some((tls, names)) = &tls
                && is_due(made, now)
                && uptime >= again_at
            {
                if self.renew(tls, names) {
                    made = now;
                } else {
                    again_at = uptime + SERVER_RENEW_AGAIN;
                }
            }
        }
    }

    fn renew(&self, tls: &Tls, names: &[String]) -> bool {
        let made = self.server_identity(names);
        let renewed = made.and_then(|ServerIdentity { chain, key }| Ok(tls.renew(chain, key)?));
        match renewed {
            Ok(()) => tracing::info!("the controller's certificate was renewed"),
            Err(error) => {
                tracing::error!(%error, "the controller's certificate cannot be renewed");
                return false;
            }
        }
        true
    }
}

/// Whether a controller's certificate is to be made anew, by the wall clock: it is what others
/// judge it by. It may have been set since, or have gone on while the machine was suspended.
fn is_due(made: Timestamp, now: Timestamp) -> bool {
    made.since(now) >= SKEW_MAX || now.since(made) >= SERVER_RENEW_AFTER
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_made_anew_at_half_its_life_and_before_it_begins() {
        let day = 24 * 3_600_000;
        for (passed, due) in [
            (0, false),
            (15 * day - 1, false),
            (15 * day, true),
            (400 * day, true),
            (-299_999, false),
            (-300_000, true),
            (-day, true),
        ] {
            let made = Timestamp::from_millis(1_800_000_000_000);
            let now = Timestamp::from_millis(made.millis() + passed);
            assert_eq!(is_due(made, now), due, "{passed} ms");
        }
    }
}
