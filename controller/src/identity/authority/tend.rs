//! What has to be done from time to time.

use std::time::Duration;

use tokio::time::MissedTickBehavior;
use xds::server::Tls;

use super::{Authority, ServerIdentity};
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
        let mut renew_at = self.inner.clock.uptime() + SERVER_RENEW_AFTER;
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
            let now = self.inner.clock.uptime();
            if let Some((tls, names)) = &tls
                && now >= renew_at
            {
                let is_done = self.renew(tls, names);
                renew_at = now + if is_done { SERVER_RENEW_AFTER } else { SERVER_RENEW_AGAIN };
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
