//! Who is let in: the seam between connections and whoever knows the certificates.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;

use super::counts::Bad;
use super::paths;
use super::shared::{Line, Shared};
use crate::client::Identity;
use crate::session::{Close, Code};

/// How often every connection is asked for again although nobody was revoked: certificates expire
/// while connections last.
const AGAIN_EVERY: Duration = Duration::from_secs(60);

/// Who is at the other end of a connection, as far as the network tells. In the extensions of
/// requests that other services answer; beside it the [`Arc`] of an [`Identity`], if there is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// From where.
    pub address: SocketAddr,
    /// The certificate that it showed, in DER: signed by a CA of ours, and valid when the
    /// connection began.
    pub certificate: Option<Bytes>,
}

/// What is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Service {
    /// Discovery: the aggregated service and those of one type.
    Discovery,
    /// Load reports of proxies.
    Load,
    /// Reports of receivers of our own.
    Report,
    /// Where certificates are had.
    Enroll,
    /// Health.
    Health,
    /// Anything else, also what is not here.
    Other,
}

impl Service {
    /// Services that other rooms answer, by the first part of their paths.
    const PATHS: [(&str, Self); 4] = [
        ("envoy.service.load_stats.v3.LoadReportingService", Self::Load),
        ("crossfade.v1.ReportService", Self::Report),
        ("crossfade.v1.EnrollService", Self::Enroll),
        ("grpc.health.v1.Health", Self::Health),
    ];

    /// The service of a path `/SERVICE/METHOD`.
    pub(super) fn of(path: &str) -> Self {
        if !matches!(paths::called(path), paths::Called::Other) {
            return Self::Discovery;
        }
        let Some((service, _)) = path.strip_prefix('/').and_then(|rest| rest.split_once('/'))
        else {
            return Self::Other;
        };
        let found = Self::PATHS.iter().find(|(known, _)| *known == service);
        found.map_or(Self::Other, |(_, service)| *service)
    }

    /// Whether only clients are served that were proved to be somebody. All but where the proof
    /// is had, and what a load balancer asks.
    pub const fn needs_identity(self) -> bool {
        !matches!(self, Self::Enroll | Self::Health)
    }
}

/// Knows who is who, and who is it no more.
pub trait Doorman: Send + Sync + fmt::Debug {
    /// Who this is. `None`: nobody that is known, who is served what needs no identity. Asked for
    /// each stream, so it must be quick, and again for connections that last: then, and where
    /// [`Doorman::revoked`] changes, whoever is refused is cut off.
    ///
    /// # Errors
    /// Not to be served: revoked, frozen, expired; the words say which and what to do.
    fn admit(&self, peer: &Peer, service: Service) -> Result<Option<Identity>, Close>;

    /// Changes when somebody may be refused who was admitted before.
    fn revoked(&self) -> watch::Receiver<u64>;
}

/// Who calls, where that may be called by it. Without a doorman whoever has got here may.
pub(super) fn admit(
    shared: &Shared,
    line: &Line,
    service: Service,
) -> Result<Option<Arc<Identity>>, Close> {
    let Some(doorman) = &shared.doorman else { return Ok(None) };
    let admitted = doorman.admit(&line.peer(), service).and_then(|identity| match identity {
        None if service.needs_identity() => Err(unknown()),
        identity => Ok(identity),
    });
    match admitted {
        Ok(None) => Ok(None),
        Ok(Some(identity)) => {
            let known = line.known(identity)?;
            shared.knows(line).map_err(|over| shared.over(&over, line.peer))?;
            Ok(Some(known))
        }
        Err(close) => {
            shared.bad(Bad::Stranger, line.peer, &close);
            Err(close)
        }
    }
}

/// A connection's handshake is done: whether somebody is known on it now. Without a doorman whoever
/// has got through it is.
pub(super) fn greet(shared: &Shared, line: &Line) {
    let is_known = shared.doorman.as_ref().is_none_or(|doorman| {
        // Who is refused is told so where it calls.
        let admitted = doorman.admit(&line.peer(), Service::Discovery);
        admitted.ok().flatten().is_some_and(|identity| line.known(identity).is_ok())
    });
    if is_known && let Err(over) = shared.knows(line) {
        // So is he.
        shared.over(&over, line.peer);
    }
}

fn unknown() -> Close {
    Close {
        code: Code::Unauthenticated,
        message: "no certificate of this controller was shown; join the machine first (`crossfade \
                  token create NAME` prints how), or give the client its certificate and key"
            .to_owned(),
    }
}

/// Asks again for those who are there, whenever somebody was revoked, until dropped.
pub(super) async fn watch(shared: Arc<Shared>) {
    let Some(doorman) = shared.doorman.clone() else { return };
    let mut revoked = doorman.revoked();
    let mut there = true;
    let mut ticks = tokio::time::interval(AGAIN_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            changed = revoked.changed(), if there => there = changed.is_ok(),
        }
        look(&shared, doorman.as_ref());
    }
}

/// Cuts off those who are not admitted any more, or are somebody else now.
fn look(shared: &Shared, doorman: &dyn Doorman) {
    let mut refused: BTreeMap<String, usize> = BTreeMap::new();
    for line in shared.lines() {
        let peer = line.peer();
        if peer.certificate.is_none() && line.identity().is_none() {
            continue;
        }
        let why = match doorman.admit(&peer, Service::Discovery) {
            Ok(now) if line.identity().is_none_or(|was| Some(&*was) == now.as_ref()) => continue,
            Ok(_) => "it is not who it was".to_owned(),
            Err(close) => close.message,
        };
        shared.bad(Bad::Stranger, line.peer, &why);
        *refused.entry(why).or_default() += 1;
        line.cut();
    }
    for (why, connections) in refused {
        tracing::warn!(connections, %why, "connections are cut off");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_enrolment_and_health_are_for_anybody() {
        for (path, service, needs) in [
            ("/crossfade.v1.EnrollService/Renew", Service::Enroll, false),
            ("/crossfade.v1.EnrollServiceX/Renew", Service::Other, true),
            ("crossfade.v1.EnrollService/Renew", Service::Other, true),
            ("//crossfade.v1.EnrollService/Renew", Service::Other, true),
            ("/grpc.health.v1.Health/Check", Service::Health, false),
            ("/crossfade.v1.ReportService/Report", Service::Report, true),
            (
                "/envoy.service.load_stats.v3.LoadReportingService/StreamLoadStats",
                Service::Load,
                true,
            ),
            (
                "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources",
                Service::Discovery,
                true,
            ),
            (
                "/envoy.service.cluster.v3.ClusterDiscoveryService/FetchClusters",
                Service::Discovery,
                true,
            ),
            ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", Service::Other, true),
            ("", Service::Other, true),
        ] {
            assert_eq!((Service::of(path), service.needs_identity()), (service, needs), "{path}");
        }
    }
}
