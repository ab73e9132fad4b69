//! The whole state as bytes, so that start-up need not fold the whole log.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::name::{PlanName, ServiceId, ZoneName};
use crate::snapshot::{Parts, Service, Snapshot, Zone};
use crate::state::keys::Keys;
use crate::state::render::{Touched, rendered};
use crate::state::{Broken, PlanState, State};
use crate::token::{Digest, Token};

/// The version of what is written here.
const VERSION: u32 = 1;

/// What a checkpoint holds: SHA-256 of the rest in hexadecimal, a line feed, and this as JSON.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Checkpoint {
    version: u32,
    token: Token,
    digest: Digest,
    plans: BTreeMap<PlanName, Arc<PlanState>>,
    keys: Arc<Keys>,
    /// The token that last changed each leaf: it travels to sinks, so it must come back the same.
    services: BTreeMap<ServiceId, Token>,
    zones: BTreeMap<ZoneName, Token>,
    /// The same of each part of a leaf. Checkpoints of before there were parts have none: every
    /// part is as new as the whole.
    #[serde(default)]
    parts: BTreeMap<ServiceId, Parts>,
    /// [`Snapshot::shape`]; absent as above: as new as the checkpoint.
    #[serde(default)]
    shape: Option<Token>,
}

impl State {
    /// The state as bytes that carry their own digest.
    pub fn checkpoint(&self) -> Vec<u8> {
        let services = self.snapshot.services.iter();
        let zones = self.snapshot.zones.iter();
        let checkpoint = Checkpoint {
            version: VERSION,
            token: self.token,
            digest: self.digest,
            plans: self.plans.clone(),
            keys: Arc::clone(&self.keys),
            services: services.clone().map(|leaf| (leaf.id.clone(), leaf.since)).collect(),
            zones: zones.map(|zone| (zone.name.clone(), zone.since)).collect(),
            parts: services.map(|service| (service.id.clone(), service.parts)).collect(),
            shape: Some(self.snapshot.shape),
        };
        // Serialising these types cannot fail: every map key is text, no writer is in it.
        let body = serde_json::to_vec(&checkpoint).unwrap_or_default();
        let mut bytes = format!("{}\n", Digest::of(&body)).into_bytes();
        bytes.extend(body);
        bytes
    }

    /// The state that these bytes hold.
    ///
    /// # Errors
    /// The bytes do not fit their own digest, or are of another version.
    pub fn from_checkpoint(bytes: &[u8]) -> Result<Self, Broken> {
        let at = bytes.iter().position(|b| *b == b'\n').ok_or(Broken::CheckpointDigest)?;
        let (digest, body) = bytes.split_at(at);
        let body = body.get(1..).unwrap_or_default();
        if Digest::of(body).to_string().as_bytes() != digest {
            return Err(Broken::CheckpointDigest);
        }
        let wrong = |why: String| Broken::Checkpoint(why);
        let mut held: Checkpoint =
            serde_json::from_slice(body).map_err(|error| wrong(error.to_string()))?;
        if held.version != VERSION {
            return Err(wrong(format!("it has version {}, not {VERSION}", held.version)));
        }
        let whole = held.plans.iter().all(|(name, plan)| is_whole(name, plan));
        if !whole {
            return Err(wrong("a plan's services are not those of its spec".to_owned()));
        }
        let snapshot = snapshot(&mut held)?;
        let Checkpoint { token, digest, plans, keys, .. } = held;
        Ok(Self { token, digest, plans, keys, snapshot: Arc::new(snapshot) })
    }
}

fn is_whole(name: &PlanName, plan: &PlanState) -> bool {
    plan.spec.name == *name
        && plan.spec.services.len() == plan.services.len()
        && plan.spec.services.iter().all(|service| plan.services.contains_key(&service.name))
}

/// The snapshot made anew, with the tokens that its leaves had.
fn snapshot(held: &mut Checkpoint) -> Result<Snapshot, Broken> {
    let mut touched = Touched::default();
    held.plans.keys().for_each(|plan| touched.plan(plan));
    // On a copy: nothing of what was noted about the plans changes by reading them again.
    let mut plans = held.plans.clone();
    let made = Snapshot::empty().next(&mut plans, &touched, held.token, held.digest)?;
    let service = |leaf: &Arc<Service>| {
        let since = held.services.get(&leaf.id).copied().unwrap_or(held.token);
        let parts = held.parts.get(&leaf.id).copied().unwrap_or_else(|| Parts::all(since));
        Arc::new(Service { since, parts, ..Service::clone(leaf) })
    };
    let zone = |leaf: &Arc<Zone>| {
        let since = held.zones.get(&leaf.name).copied().unwrap_or(held.token);
        Arc::new(Zone { since, ..Zone::clone(leaf) })
    };
    Ok(Snapshot {
        services: made.services.iter().map(service).collect(),
        zones: made.zones.iter().map(zone).collect(),
        plans: rendered(&held.plans),
        shape: held.shape.unwrap_or(held.token),
        ..made
    })
}
