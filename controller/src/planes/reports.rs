//! Reports of receivers of our own: replicas, relays, agents.

mod in_force;
mod inbox;
mod machines;

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use ipnet::IpNet;
use plan::measure::{Names, Stragglers};
use plan::{Count, PlanName, Plane, ServiceId, Timestamp, Token};
use proto::crossfade::v1 as wire;
use proto::crossfade::v1::report_service_server::{ReportService, ReportServiceServer};
use proto::google::protobuf;
use tonic::{Request, Response, Status, Streaming};
use xds::Client;
use xds::client::Identity;
use xds::server::Peer;

pub use self::in_force::InForce;
use self::inbox::Inbox;
pub use self::inbox::Reports;
use self::machines::{Machines, Place};
use crate::identity::{Authority, Watched};

/// The longest report, in bytes: 20 000 services in three planes, or 5 000 sinks.
const REPORT_BYTES_MAX: usize = 8 << 20;
/// The most services, sinks and notes of one report that are read.
const PARTS_MAX: usize = 100_000;
/// The most services, sinks, overrides and notes of all reports of one machine that are kept, and
/// of those that wait: one in twenty of what is kept of all. 20 000 services, all of them counted
/// and noted.
pub(crate) const MACHINE_PARTS_MAX: usize = 50_000;
/// The most break-glass of one report that is read: each is a command of an operator, who has one
/// word for all services.
pub(crate) const OVERRIDES_MAX: usize = 256;
/// The most clients of the relay of one machine that are read: each has a stream of load reports,
/// of which the machine has no more.
const SINKS_MAX: usize = xds::server::Limits::STREAMS_PER_IDENTITY;
/// The most of a client's words that is kept, in bytes.
const DETAIL_MAX: usize = 2_000;
/// The most of a note that is kept, in bytes: there may be one for each service of each VM.
const NOTE_MAX: usize = 300;
/// How often receivers are to report.
const EVERY: Duration = Duration::from_secs(1);

/// What one receiver said last.
#[derive(Clone, Debug)]
pub struct Said {
    /// Who.
    pub client: Arc<Client>,
    /// All that it says. `None`: its stream has ended.
    pub report: Option<Report>,
}

/// All that a receiver has to say at a moment.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// What it counted, and under which `since` of the service.
    pub counts: Vec<(Plane, ServiceId, Token, Count)>,
    /// The clients of a relay.
    pub sinks: Vec<Behind>,
    /// Break-glass in force.
    pub overrides: BTreeSet<InForce>,
    /// How many overrides and sinks there were that are not read.
    pub left_out: usize,
    /// Who still reached legacy VMs of services at exactly 100 %.
    pub stragglers: Vec<(ServiceId, Stragglers)>,
    /// It goes for good.
    pub leaving: bool,
    /// What its stub DNS server did.
    pub names: Names,
    /// What it does otherwise than the plan asks, in words.
    pub notes: Vec<(ServiceId, Arc<str>)>,
}

/// A client of a relay.
#[derive(Clone, Debug)]
pub struct Behind {
    /// Its node id.
    pub id: String,
    /// Its program.
    pub agent: String,
    /// Its program's version.
    pub version: Option<String>,
    /// How long it has been connected.
    pub connected: Duration,
    /// The newest token up to which it has acked everything.
    pub acked: Token,
    /// What it owes.
    pub owes: BTreeSet<PlanName>,
    /// Its newest refusal: token, plans, words, age.
    pub nack: Option<(Token, BTreeSet<PlanName>, String, Duration)>,
}

/// The gRPC service, and where its reports arrive. Machines whose identities are known are looked
/// at for copies.
pub fn service(identity: Option<Authority>) -> (ReportServiceServer<impl ReportService>, Reports) {
    let (inbox, reports) = inbox::inbox();
    let server = ReportServiceServer::new(Desk { inbox, identity, machines: Machines::default() })
        .max_decoding_message_size(REPORT_BYTES_MAX);
    (server, reports)
}

/// Where streams begin.
#[derive(Debug)]
struct Desk {
    inbox: Inbox,
    identity: Option<Authority>,
    machines: Machines,
}

#[tonic::async_trait]
impl ReportService for Desk {
    type ReportStream = Pin<Box<dyn Stream<Item = Result<wire::ReportResponse, Status>> + Send>>;

    async fn report(
        &self,
        request: Request<Streaming<wire::ReportRequest>>,
    ) -> Result<Response<Self::ReportStream>, Status> {
        let identity = request.extensions().get::<Arc<Identity>>().cloned();
        let peer = request.extensions().get::<Peer>().map(|peer| peer.address.ip());
        let watched = peer.and_then(|from| Some(self.identity.as_ref()?.watch(from)));
        let place = match &identity {
            Some(who) => Some(self.place(who)?),
            None => None,
        };
        let (inbox, incoming) = (self.inbox.clone(), request.into_inner());
        let stream = Reporting { inbox, incoming, identity, watched, place, client: None };
        let answers = futures::stream::unfold(Some(stream), |stream| async move {
            let mut stream = stream?;
            match stream.next().await? {
                Ok(answer) => Some((Ok(answer), Some(stream))),
                Err(status) => Some((Err(status), None)),
            }
        });
        Ok(Response::new(Box::pin(answers)))
    }
}

impl Desk {
    /// A place for a stream of this machine.
    fn place(&self, who: &Arc<Identity>) -> Result<Place, Status> {
        self.machines.begin(who).ok_or_else(|| {
            let words = format!("`{}` has as many streams of reports as one machine may", who.name);
            self.machines.tell(who, &words);
            Status::resource_exhausted(words)
        })
    }
}

/// One receiver's stream.
struct Reporting {
    inbox: Inbox,
    incoming: Streaming<wire::ReportRequest>,
    /// Who it was proved to be.
    identity: Option<Arc<Identity>>,
    watched: Option<Watched>,
    /// Where it was proved to be somebody.
    place: Option<Place>,
    client: Option<Arc<Client>>,
}

impl fmt::Debug for Reporting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reporting").field("client", &self.client).finish_non_exhaustive()
    }
}

impl Reporting {
    /// The next answer: only the first report is answered.
    async fn next(&mut self) -> Option<Result<wire::ReportResponse, Status>> {
        loop {
            let message = match self.incoming.message().await {
                Ok(message) => message?,
                Err(status) => return Some(Err(status)),
            };
            let first = self.client.is_none();
            if let Err(status) = self.take(&message) {
                return Some(Err(status));
            }
            if first {
                let seconds = i64::try_from(EVERY.as_secs()).unwrap_or(1);
                let every = Some(protobuf::Duration { seconds, nanos: 0 });
                return Some(Ok(wire::ReportResponse { every }));
            }
        }
    }

    fn take(&mut self, message: &wire::ReportRequest) -> Result<(), Status> {
        let identity = self.identity.as_ref();
        let client = Client::of_reports(&mut self.client, message.node.as_ref(), identity)?;
        let report = Report::read(message, identity.is_some()).map_err(Status::invalid_argument)?;
        // Who can only relay has nothing to say of a host or a resolver, nor leaves as one.
        if identity.is_some_and(|identity| !identity.kind.is_agent()) && !report.is_of_a_relay() {
            let words = format!("`{}` is a gateway, which reports its proxies alone", client.id);
            return Err(Status::permission_denied(words));
        }
        if let Some(place) = self.place.as_ref().filter(|_| report.parts() > MACHINE_PARTS_MAX) {
            let words = format!(
                "a report has more than {MACHINE_PARTS_MAX} services, sinks and notes, the most \
                 that one machine may say"
            );
            place.tell(&words);
            return Err(Status::resource_exhausted(words));
        }
        if let (Some(watched), Some(identity)) = (&mut self.watched, identity) {
            let role = client.says("role").unwrap_or_default();
            watched.heard(&identity.name, role, &client.id);
        }
        self.inbox.hand_in(Said { client, report: Some(report) });
        Ok(())
    }
}

impl Drop for Reporting {
    fn drop(&mut self) {
        if let Some(client) = self.client.take() {
            self.inbox.hand_in(Said { client, report: None });
        }
    }
}

impl Report {
    /// How much it is: services, sinks, overrides and notes.
    pub fn parts(&self) -> usize {
        let overrides: usize = self.overrides.iter().map(InForce::parts).sum();
        let parts = self.counts.len() + self.sinks.len() + overrides;
        parts + self.stragglers.len() + self.notes.len()
    }

    /// Whether it is of the clients of a relay, and of nothing else.
    fn is_of_a_relay(&self) -> bool {
        let Self { counts, overrides, leaving, names, stragglers, notes, .. } = self;
        let is_empty = counts.is_empty() && overrides.is_empty() && stragglers.is_empty();
        is_empty && notes.is_empty() && !leaving && *names == Names::default()
    }

    /// Reads a report, of a machine that was proved to be somebody or not.
    ///
    /// # Errors
    /// What in it cannot be.
    fn read(message: &wire::ReportRequest, is_machine: bool) -> Result<Self, String> {
        let (counts, seen) = (message.counts.len(), message.stragglers.len());
        let notes = message.notes.len();
        let parts = [counts, message.sinks.len(), seen, notes];
        if parts.iter().any(|parts| *parts > PARTS_MAX) {
            return Err("a report has at most 100000 parts of a kind".to_owned());
        }
        let sinks_max = if is_machine { SINKS_MAX } else { PARTS_MAX };
        let over = |length: usize, most| length.saturating_sub(most);
        Ok(Self {
            left_out: over(message.sinks.len(), sinks_max)
                + over(message.overrides.len(), OVERRIDES_MAX),
            counts: message.counts.iter().map(count).collect::<Result<_, _>>()?,
            sinks: message.sinks.iter().take(sinks_max).map(behind).collect::<Result<_, _>>()?,
            overrides: overrides(&message.overrides),
            leaving: message.leaving,
            names: message.names.map(names).unwrap_or_default(),
            stragglers: message.stragglers.iter().map(stragglers).collect::<Result<_, _>>()?,
            notes: message.notes.iter().map(note).collect::<Result<_, _>>()?,
        })
    }
}

fn count(count: &wire::Count) -> Result<(Plane, ServiceId, Token, Count), String> {
    let service = count.service.parse().map_err(|_| "a count of no service".to_owned())?;
    let plane = match count.plane() {
        wire::Plane::Dns => Plane::Dns,
        wire::Plane::Mesh => Plane::Mesh,
        wire::Plane::Host => Plane::Host,
        wire::Plane::Unspecified => return Err("a count of no plane".to_owned()),
    };
    let old_until = i64::try_from(count.old_until_ms).unwrap_or(i64::MAX);
    let counted = Count {
        legacy: count.legacy,
        target: count.target,
        events: count.events,
        keys: count.keys,
        largest: count.largest,
        squares: u128::from(count.squares_high) << 64 | u128::from(count.squares_low),
        old_until: (old_until > 0).then(|| Timestamp::from_millis(old_until)),
        ..Count::default()
    };
    Ok((plane, service, token(count.since.as_ref()), counted))
}

const fn names(names: wire::Names) -> Names {
    let wire::Names { answered, forwarded, failed, dropped } = names;
    Names { answered, forwarded, failed, dropped }
}

fn stragglers(seen: &wire::Stragglers) -> Result<(ServiceId, Stragglers), String> {
    let service = seen.service.parse().map_err(|_| "stragglers of no service".to_owned())?;
    let sources = seen.sources.iter().take(Stragglers::NETWORKS_MAX).map(|source| {
        let network = source.network.as_ref().and_then(network).ok_or("a source of no network")?;
        Ok((network.to_string().into(), source.flows))
    });
    let sources: Vec<_> = sources.collect::<Result<_, String>>()?;
    Ok((service, Stragglers::new(seen.flows, sources)))
}

fn note(note: &wire::Note) -> Result<(ServiceId, Arc<str>), String> {
    let service = note.service.parse().map_err(|_| "a note of no service".to_owned())?;
    Ok((service, clean(&note.words, NOTE_MAX).into()))
}

fn network(network: &wire::Network) -> Option<IpNet> {
    let address = match network.address.len() {
        4 => IpAddr::from(<[u8; 4]>::try_from(&*network.address).ok()?),
        _ => IpAddr::from(<[u8; 16]>::try_from(&*network.address).ok()?),
    };
    IpNet::new(address, u8::try_from(network.length).ok()?).ok()
}

fn behind(sink: &wire::SinkReport) -> Result<Behind, String> {
    if sink.id.is_empty() || sink.id.len() > Client::ID_MAX {
        return Err("a sink without an id, or with one over 512 bytes".to_owned());
    }
    let nack = sink.nack.as_ref().map(|nack| {
        let detail = clean(&nack.detail, DETAIL_MAX);
        (token(nack.token.as_ref()), plans(&nack.plans), detail, length(nack.age.as_ref()))
    });
    Ok(Behind {
        id: clean(&sink.id, Client::ID_MAX),
        agent: clean(&sink.agent, 64),
        version: Some(clean(&sink.version, 64)).filter(|version| !version.is_empty()),
        connected: length(sink.connected.as_ref()),
        acked: token(sink.acked.as_ref()),
        owes: plans(&sink.owes),
        nack,
    })
}

/// Names that are none are nobody's plan.
fn plans(names: &[String]) -> BTreeSet<PlanName> {
    names.iter().filter_map(|name| name.parse().ok()).collect()
}

fn overrides(found: &[wire::Override]) -> BTreeSet<InForce> {
    found.iter().take(OVERRIDES_MAX).filter_map(InForce::read).collect()
}

fn token(token: Option<&wire::Token>) -> Token {
    token.map_or(Token::NEVER, |token| Token {
        incarnation: token.incarnation,
        revision: token.revision,
    })
}

fn length(length: Option<&protobuf::Duration>) -> Duration {
    length.map_or(Duration::ZERO, |length| {
        Duration::from_secs(u64::try_from(length.seconds).unwrap_or(0))
    })
}

/// So much of a text, on one line.
fn clean(text: &str, bytes_max: usize) -> String {
    let mut clean = String::new();
    for c in text.chars() {
        if clean.len() + c.len_utf8() > bytes_max {
            break;
        }
        clean.push(if c.is_control() { ' ' } else { c });
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_of_a_report_is_read_than_a_machine_can_have() {
        let found = |n: usize| wire::Override { since_ms: n as u64, ..wire::Override::default() };
        let sink = |n: usize| wire::SinkReport { id: n.to_string(), ..wire::SinkReport::default() };
        let message = wire::ReportRequest {
            overrides: (0..PARTS_MAX).map(found).collect(),
            sinks: (0..=SINKS_MAX).map(sink).collect(),
            ..wire::ReportRequest::default()
        };
        let report = Report::read(&message, true).unwrap();
        assert_eq!((report.overrides.len(), report.sinks.len()), (OVERRIDES_MAX, SINKS_MAX));
        assert_eq!(report.left_out, PARTS_MAX - OVERRIDES_MAX + 1);
        // Relays that are not told apart may have as many clients as ever.
        assert_eq!(Report::read(&message, false).unwrap().sinks.len(), SINKS_MAX + 1);
    }

    #[test]
    fn break_glass_is_said_of_services_that_are_ones_own() {
        let found = |services: &[&str]| wire::Override {
            services: services.iter().map(|id| (*id).to_owned()).collect(),
            by: "uid:0".to_owned(),
            reason: "broken".to_owned(),
            ..wire::Override::default()
        };
        let own = |services: &[&str]| {
            let mut found = InForce::read(&found(services))?;
            let is_its = |id: &ServiceId| id.to_string() == "shop/orders";
            found.retain(is_its).then(|| found.to_string())
        };
        let begin = Timestamp::from_millis(0);
        let words = |what: &str| Some(format!("{what} on legacy since {begin} by uid:0: broken"));
        assert_eq!(own(&[]), words("every service"));
        assert_eq!(own(&["shop/payments", "shop/orders"]), words("shop/orders"));
        assert_eq!(own(&["shop/payments"]), None);
        assert_eq!(own(&["no service"]), None);
    }
}
