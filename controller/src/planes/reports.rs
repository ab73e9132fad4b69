//! Reports of receivers of our own: replicas, relays, agents.

mod inbox;

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

use self::inbox::Inbox;
pub use self::inbox::Reports;
use crate::identity::{Authority, Watched};

/// The longest report, in bytes: 20 000 services in three planes, or 5 000 sinks.
const REPORT_BYTES_MAX: usize = 8 << 20;
/// The most services, sinks, overrides and notes of one report that are read.
const PARTS_MAX: usize = 100_000;
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
    /// Break-glass in force, in words.
    pub overrides: Vec<String>,
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
    let server = ReportServiceServer::new(Desk { inbox, identity })
        .max_decoding_message_size(REPORT_BYTES_MAX);
    (server, reports)
}

/// Where streams begin.
#[derive(Debug)]
struct Desk {
    inbox: Inbox,
    identity: Option<Authority>,
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
        let (inbox, incoming) = (self.inbox.clone(), request.into_inner());
        let stream = Reporting { inbox, incoming, identity, watched, client: None };
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

/// One receiver's stream.
struct Reporting {
    inbox: Inbox,
    incoming: Streaming<wire::ReportRequest>,
    /// Who it was proved to be.
    identity: Option<Arc<Identity>>,
    watched: Option<Watched>,
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
        let report = Report::read(message).map_err(Status::invalid_argument)?;
        // Who can only relay has nothing to say of a host or a resolver, nor leaves as one.
        if identity.is_some_and(|identity| !identity.kind.is_agent()) && !report.is_of_a_relay() {
            let words = format!("`{}` is a gateway, which reports its proxies alone", client.id);
            return Err(Status::permission_denied(words));
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
        let parts = self.counts.len() + self.sinks.len() + self.overrides.len();
        parts + self.stragglers.len() + self.notes.len()
    }

    /// Whether it is of the clients of a relay, and of nothing else.
    fn is_of_a_relay(&self) -> bool {
        let Self { counts, sinks: _, overrides, leaving, names, stragglers, notes } = self;
        let is_empty = counts.is_empty() && overrides.is_empty() && stragglers.is_empty();
        is_empty && notes.is_empty() && !leaving && *names == Names::default()
    }

    /// Reads a report.
    ///
    /// # Errors
    /// What in it cannot be.
    fn read(message: &wire::ReportRequest) -> Result<Self, String> {
        let (counts, seen) = (message.counts.len(), message.stragglers.len());
        let notes = message.notes.len();
        let parts = [counts, message.sinks.len(), message.overrides.len(), seen, notes];
        if parts.iter().any(|parts| *parts > PARTS_MAX) {
            return Err("a report has at most 100000 parts of a kind".to_owned());
        }
        Ok(Self {
            counts: message.counts.iter().map(count).collect::<Result<_, _>>()?,
            sinks: message.sinks.iter().map(behind).collect::<Result<_, _>>()?,
            overrides: message.overrides.iter().map(in_force).collect(),
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

fn in_force(found: &wire::Override) -> String {
    let what = match found.services.as_slice() {
        [] => "every service".to_owned(),
        services => services.join(", "),
    };
    let since = i64::try_from(found.since_ms).unwrap_or(i64::MAX);
    let since = Timestamp::from_millis(since);
    let why = if found.reason.is_empty() { String::new() } else { format!(": {}", found.reason) };
    clean(&format!("{what} on legacy since {since} by {}{why}", found.by), DETAIL_MAX)
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
