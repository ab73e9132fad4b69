//! From what the xDS server knows of its clients to sinks of the planes.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use plan::{Nack, PlanName, Plane, Sink, SinkId, Standing, Timestamp};
use xds::Client;
use xds::registry::{SinkState, Standings};

use crate::clock::Clock;

/// Sinks as planes say them, made anew only where something changed.
#[derive(Debug)]
pub(super) struct Sinks {
    clock: Clock,
    known: HashMap<Arc<str>, Known>,
    round: u64,
}

#[derive(Debug)]
struct Known {
    state: Arc<SinkState>,
    sink: Arc<Sink>,
    round: u64,
}

impl Sinks {
    pub(super) fn new(clock: Clock) -> Self {
        Self { clock, known: HashMap::new(), round: 0 }
    }

    /// The standing of each plane that clients of the xDS server are in.
    pub(super) fn standings(&mut self, standings: &Standings) -> BTreeMap<Plane, Standing> {
        self.round = self.round.wrapping_add(1);
        let mut planes: BTreeMap<Plane, Vec<Arc<Sink>>> = BTreeMap::new();
        for state in standings.sinks.iter().chain(standings.away.iter()) {
            let sink = self.sink(state);
            planes.entry(sink.plane).or_default().push(sink);
        }
        let round = self.round;
        self.known.retain(|_, known| known.round == round);
        let standing = |plane| {
            let mut sinks = planes.remove(&plane).unwrap_or_default();
            sinks.sort_unstable_by(|a, b| a.id.cmp(&b.id));
            (plane, Standing { through: standings.through, sinks: sinks.into() })
        };
        Plane::ALL.into_iter().map(standing).collect()
    }

    fn sink(&mut self, state: &Arc<SinkState>) -> Arc<Sink> {
        let (round, clock) = (self.round, self.clock);
        let known = self.known.entry(Arc::clone(&state.client.id)).or_insert_with(|| Known {
            state: Arc::clone(state),
            sink: Arc::new(sink(state, clock)),
            round,
        });
        if !Arc::ptr_eq(&known.state, state) {
            known.sink = Arc::new(sink(state, clock));
            known.state = Arc::clone(state);
        }
        known.round = round;
        Arc::clone(&known.sink)
    }

    /// The plans that expect this client, where it is known.
    pub(super) fn plans_of(&self, id: &str) -> Option<BTreeSet<PlanName>> {
        self.known.get(id)?.sink.plans.clone()
    }
}

fn sink(state: &SinkState, clock: Clock) -> Sink {
    let progress = &state.progress;
    let wall = |uptime: Duration| {
        let ago = clock.uptime().saturating_sub(uptime);
        let ago = i64::try_from(ago.as_millis()).unwrap_or(i64::MAX);
        Timestamp::from_millis(clock.now().millis().saturating_sub(ago))
    };
    let nack = progress.refused.as_ref().map(|refused| Nack {
        token: refused.token,
        plans: refused.plans.clone(),
        detail: refused.detail.clone(),
        at: wall(refused.at),
    });
    let plans = progress.plans.as_ref().clone();
    // What it holds while it is away nobody knows: it may have been started anew.
    let owes = if state.left.is_some() { plans.clone() } else { progress.owes.as_ref().clone() };
    Sink {
        id: SinkId::new(&state.client.id),
        plane: plane(&state.client),
        kind: kind(&state.client),
        version: state.client.version.clone(),
        plans: Some(plans),
        since: state.left.is_none().then(|| wall(state.since)),
        left: state.left.map(wall),
        acked: progress.acked,
        owes,
        nack,
    }
}

/// The plane that a client is a receiver of.
fn plane(client: &Client) -> Plane {
    match client.says("role") {
        Some("dns") => Plane::Dns,
        Some("agent") => Plane::Host,
        Some(_) | None => Plane::Mesh,
    }
}

/// What it is, in a word.
fn kind(client: &Client) -> String {
    if let Some(own @ ("dns" | "relay" | "agent")) = client.says("role") {
        return own.to_owned();
    }
    let agent = client.agent.to_ascii_lowercase();
    match agent.as_str() {
        "" => "xds".to_owned(),
        _ if agent.starts_with("grpc") => "grpc".to_owned(),
        _ => agent,
    }
}
