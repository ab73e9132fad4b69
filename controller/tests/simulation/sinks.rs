//! Fake planes and sinks: they lag, lose, reorder, repeat and refuse, and never go back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use controller::core::Input;
use plan::{Nack, PlanName, Plane, Sink, SinkId, Snapshot, Source, Standing, Timestamp, Token};

use crate::client::shop;
use crate::oracle::Violation;
use crate::world::World;

/// Older than any token.
pub(crate) const NEVER: Token = Token { incarnation: 0, revision: 0 };

/// A receiver in the mesh.
#[derive(Debug)]
pub(crate) struct MeshSink {
    pub(crate) id: SinkId,
    /// What it holds, durably.
    pub(crate) held: Token,
    /// The snapshot that it holds.
    pub(crate) snapshot: Option<Arc<Snapshot>>,
    /// Whether it ever acked the plan.
    pub(crate) acked_plan: bool,
    pub(crate) connected: Option<usize>,
    /// What is on its way to it, from any controller.
    pub(crate) inbox: Vec<(usize, Arc<Snapshot>)>,
    /// It has refused something and not acked since.
    pub(crate) refuses: bool,
}

/// What a controller's fake planes know.
#[derive(Debug, Default)]
pub(crate) struct Planes {
    /// The newest published snapshot that each has yet to take up.
    pub(crate) mesh_inbox: Option<Arc<Snapshot>>,
    pub(crate) dns_inbox: Option<Arc<Snapshot>>,
    pub(crate) mesh: Option<Arc<Snapshot>>,
    pub(crate) sinks: BTreeMap<SinkId, Sink>,
}

impl Planes {
    fn through(&self) -> Token {
        self.mesh.as_ref().map_or(NEVER, |snapshot| snapshot.token)
    }

    fn standing(&self) -> Standing {
        let sinks = self.sinks.values().cloned().map(Arc::new).collect();
        Standing { through: self.through(), sinks }
    }

    /// What a sink owes once it holds `held`.
    fn owes(&self, held: Token) -> BTreeSet<PlanName> {
        let leaves = self.mesh.iter().flat_map(|snapshot| snapshot.services.iter());
        leaves.filter(|leaf| leaf.since > held).map(|leaf| leaf.id.plan.clone()).collect()
    }
}

impl World {
    /// The DNS plane of a controller takes up the newest snapshot: one sink, which acks at once.
    pub(crate) fn dns_takes(&mut self, node: usize) -> Result<(), Violation> {
        let Some(live) = self.nodes[node].as_mut() else { return Ok(()) };
        let Some(snapshot) = live.planes.dns_inbox.take() else { return Ok(()) };
        let sink = Sink {
            id: SinkId::new("dns/local"),
            plane: Plane::Dns,
            kind: "dns".to_owned(),
            version: None,
            plans: None,
            since: Some(Timestamp::from_millis(0)),
            left: None,
            acked: snapshot.token,
            owes: BTreeSet::new(),
            nack: None,
        };
        let standing = Standing { through: snapshot.token, sinks: Arc::new([Arc::new(sink)]) };
        self.feed(node, Input::Standing(Plane::Dns, Source::Plane, standing))
    }

    /// The mesh plane takes up the newest snapshot and sends it to its sinks; some do not get it.
    pub(crate) fn mesh_takes(&mut self, node: usize) -> Result<(), Violation> {
        let Some(live) = self.nodes[node].as_mut() else { return Ok(()) };
        let Some(snapshot) = live.planes.mesh_inbox.take() else { return Ok(()) };
        live.planes.mesh = Some(Arc::clone(&snapshot));
        for index in 0..self.sinks.len() {
            if self.sinks[index].connected == Some(node) && (self.calm || !self.rng.chance(200)) {
                self.sinks[index].inbox.push((node, Arc::clone(&snapshot)));
            }
            self.refresh(node, index);
        }
        self.say_mesh(node)
    }

    /// A sink takes one of the messages on their way to it, not always the oldest.
    pub(crate) fn sink_takes(&mut self, index: usize) -> Result<(), Violation> {
        let at = self.rng.index(self.sinks[index].inbox.len());
        let repeat = self.rng.chance(150) && !self.calm;
        let refuse = self.rng.chance(60) && !self.calm;
        let sink = &mut self.sinks[index];
        let (node, snapshot) = if repeat { sink.inbox[at].clone() } else { sink.inbox.remove(at) };
        let mut nack = None;
        if snapshot.token < sink.held {
            self.seen.note("sink refused an older snapshot");
        } else if refuse && snapshot.token > sink.held {
            sink.refuses = true;
            nack = Some(Nack {
                token: snapshot.token,
                plans: [shop()].into(),
                detail: "no such cluster".to_owned(),
                at: Timestamp::from_millis(0),
            });
        } else {
            sink.held = snapshot.token;
            sink.acked_plan |= snapshot.services.iter().any(|s| s.id.plan == shop());
            sink.refuses = false;
            sink.snapshot = Some(snapshot);
        }
        let (held, refused) = (sink.held, nack.is_some());
        self.note(format!("  sink {index} holds {held} refused={refused}"));
        if self.sinks[index].connected != Some(node) || self.nodes[node].is_none() {
            return Ok(());
        }
        self.refresh(node, index);
        if let Some(live) = self.nodes[node].as_mut()
            && let Some(known) = live.planes.sinks.get_mut(&self.sinks[index].id)
        {
            if nack.is_some() || !self.sinks[index].refuses {
                known.nack = nack;
            }
            if known.nack.is_some() {
                known.owes.insert(shop());
            }
        }
        self.say_mesh(node)
    }

    /// A sink finds a controller, which sends it the newest.
    pub(crate) fn sink_connects(&mut self, index: usize, node: usize) -> Result<(), Violation> {
        self.sink_leaves(index)?;
        self.note(format!("sink {index} connects to controller {node}"));
        self.sinks[index].connected = Some(node);
        self.resend(index);
        self.refresh(node, index);
        self.say_mesh(node)
    }

    pub(crate) fn sink_leaves(&mut self, index: usize) -> Result<(), Violation> {
        let Some(node) = self.sinks[index].connected.take() else { return Ok(()) };
        self.note(format!("sink {index} leaves controller {node}"));
        let id = self.sinks[index].id.clone();
        let Some(live) = self.nodes[node].as_mut() else { return Ok(()) };
        if let Some(known) = live.planes.sinks.get_mut(&id) {
            known.since = None;
        }
        self.say_mesh(node)
    }

    /// The newest snapshot once more for a sink that may have missed it.
    pub(crate) fn resend(&mut self, index: usize) {
        let Some(node) = self.sinks[index].connected else { return };
        let Some(live) = self.nodes[node].as_ref() else { return };
        if let Some(snapshot) = &live.planes.mesh {
            self.sinks[index].inbox.push((node, Arc::clone(snapshot)));
        }
    }

    /// What the plane of this controller knows of a sink that is connected to it.
    fn refresh(&mut self, node: usize, index: usize) {
        let sink = &self.sinks[index];
        if sink.connected != Some(node) {
            return;
        }
        let Some(live) = self.nodes[node].as_mut() else { return };
        let mut owes = live.planes.owes(sink.held);
        let nack = live.planes.sinks.get(&sink.id).and_then(|known| known.nack.clone());
        let nack = nack.filter(|_| sink.refuses);
        owes.extend(nack.iter().flat_map(|nack| nack.plans.clone()));
        let known = Sink {
            id: sink.id.clone(),
            plane: Plane::Mesh,
            kind: "envoy".to_owned(),
            version: None,
            plans: Some(if sink.acked_plan { [shop()].into() } else { BTreeSet::new() }),
            since: Some(Timestamp::from_millis(0)),
            left: None,
            acked: sink.held,
            owes,
            nack,
        };
        live.planes.sinks.insert(sink.id.clone(), known);
    }

    fn say_mesh(&mut self, node: usize) -> Result<(), Violation> {
        let Some(live) = self.nodes[node].as_ref() else { return Ok(()) };
        let standing = live.planes.standing();
        self.feed(node, Input::Standing(Plane::Mesh, Source::Plane, standing))
    }
}
