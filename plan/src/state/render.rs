//! Making the snapshot: an unchanged leaf stays the same `Arc`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::bucket;
use crate::name::{PlanName, ServiceId, ServiceName};
use crate::snapshot::{Motion, Parts, Service, Serving, Snapshot, Zone};
use crate::spec::{self, ZoneSource};
use crate::split::Split;
use crate::state::{Broken, Mode, PlanState, ServiceState};
use crate::token::{Digest, Token};

/// What a record may have changed.
#[derive(Debug, Default)]
pub(super) struct Touched {
    plans: BTreeSet<PlanName>,
    services: BTreeSet<ServiceId>,
}

impl Touched {
    pub(super) fn plan(&mut self, plan: &PlanName) {
        if !self.plans.contains(plan) {
            self.plans.insert(plan.clone());
        }
    }

    pub(super) fn service(&mut self, service: &ServiceId) {
        if !self.services.contains(service) {
            self.services.insert(service.clone());
        }
    }
}

impl Snapshot {
    /// The snapshot of `plans`, which differ from those of this one in what is `touched`. Notes in
    /// each plan whether what planes render of it changed.
    pub(super) fn next(
        &self,
        plans: &mut BTreeMap<PlanName, Arc<PlanState>>,
        touched: &Touched,
        token: Token,
        digest: Digest,
    ) -> Result<Self, Broken> {
        let mut changed = BTreeSet::new();
        let services = self.next_services(plans, touched, token, &mut changed);
        let zones = self.next_zones(plans, touched, token, &mut changed)?;
        // A plan that came or went changed perhaps nothing else.
        let same = changed.is_empty() && self.plans.len() == plans.len();
        for name in changed {
            if let Some(plan) = plans.get_mut(&name) {
                Arc::make_mut(plan).rendered = token;
            }
        }
        let plans = if same { Arc::clone(&self.plans) } else { rendered(plans) };
        let shape = if self.has_shape_of(&services) { self.shape } else { token };
        Ok(Self { token, digest, services, zones, plans, shape })
    }

    /// Whether these are the same services as before, and look the same from outside.
    fn has_shape_of(&self, services: &Arc<[Arc<Service>]>) -> bool {
        let same = |(a, b): (&Arc<Service>, &Arc<Service>)| {
            Arc::ptr_eq(a, b) || (a.id == b.id && a.parts.shape == b.parts.shape)
        };
        Arc::ptr_eq(&self.services, services)
            || self.services.len() == services.len()
                && self.services.iter().zip(services.iter()).all(same)
    }

    fn next_services(
        &self,
        plans: &BTreeMap<PlanName, Arc<PlanState>>,
        touched: &Touched,
        token: Token,
        changed: &mut BTreeSet<PlanName>,
    ) -> Arc<[Arc<Service>]> {
        let mut services = None;
        for name in &touched.plans {
            let old = self.services_of(name);
            let new = plans.get(name).map_or_else(Vec::new, |plan| leaves(plan, old, token));
            let same = |(a, b): (&Arc<_>, &Arc<_>)| Arc::ptr_eq(a, b);
            if old.len() != new.len() || !old.iter().zip(&new).all(same) {
                changed.insert(name.clone());
                let all: &mut Vec<_> = services.get_or_insert_with(|| self.services.to_vec());
                let from = all.partition_point(|service| service.id.plan < *name);
                let to = all.partition_point(|service| service.id.plan <= *name);
                all.splice(from..to, new);
            }
        }
        let rest = touched.services.iter().filter(|id| !touched.plans.contains(&id.plan));
        for id in rest {
            let Ok(at) = self.services.binary_search_by(|service| service.id.cmp(id)) else {
                continue;
            };
            let state =
                plans.get(&id.plan).and_then(|plan| Some((plan, plan.services.get(&id.service)?)));
            let (Some(old), Some((plan, state))) = (self.services.get(at), state) else { continue };
            let (serving, motion) = (serving(state), motion(plan, state));
            if old.serving == serving && old.motion == motion {
                continue;
            }
            changed.insert(id.plan.clone());
            let all = services.get_or_insert_with(|| self.services.to_vec());
            // Plans that were rebuilt above may have moved this one.
            if let Ok(at) = all.binary_search_by(|service| service.id.cmp(id))
                && let Some(slot) = all.get_mut(at)
            {
                let new = Service { since: token, serving, motion, ..Service::clone(old) };
                let parts = new.parts_after(old, token);
                *slot = Arc::new(Service { parts, ..new });
            }
        }
        services.map_or_else(|| Arc::clone(&self.services), Into::into)
    }

    /// The leaves of one plan: they stand together, as ids begin with the plan's name.
    fn services_of(&self, plan: &PlanName) -> &[Arc<Service>] {
        let from = self.services.partition_point(|service| service.id.plan < *plan);
        let to = self.services.partition_point(|service| service.id.plan <= *plan);
        self.services.get(from..to).unwrap_or_default()
    }

    fn next_zones(
        &self,
        plans: &BTreeMap<PlanName, Arc<PlanState>>,
        touched: &Touched,
        token: Token,
        changed: &mut BTreeSet<PlanName>,
    ) -> Result<Arc<[Arc<Zone>]>, Broken> {
        if touched.plans.is_empty() {
            return Ok(Arc::clone(&self.zones));
        }
        let mut zones: Vec<Arc<Zone>> = Vec::with_capacity(self.zones.len());
        for plan in plans.values() {
            zones
                .extend(plan.spec.zones.iter().map(|zone| self.zone(&plan.spec.name, zone, token)));
        }
        zones.sort_by(|a, b| a.name.cmp(&b.name));
        let twice = zones.iter().zip(zones.iter().skip(1)).find(|(a, b)| a.name == b.name);
        if let Some((zone, _)) = twice {
            return Err(Broken::ZoneTwice { token, zone: zone.name.clone() });
        }
        let before: HashMap<_, _> = self.zones.iter().map(|zone| (&zone.name, zone)).collect();
        let mut gone: HashMap<_, _> = before.clone();
        for zone in &zones {
            let old = gone.remove(&zone.name);
            if !old.is_some_and(|old| Arc::ptr_eq(old, zone)) {
                changed.insert(zone.plan.clone());
            }
        }
        changed.extend(gone.into_values().map(|zone| zone.plan.clone()));
        let same = zones.len() == self.zones.len()
            && zones.iter().zip(self.zones.iter()).all(|(a, b)| Arc::ptr_eq(a, b));
        Ok(if same { Arc::clone(&self.zones) } else { zones.into() })
    }

    fn zone(&self, plan: &PlanName, spec: &spec::ZoneSpec, token: Token) -> Arc<Zone> {
        let text = match &spec.source {
            ZoneSource::Blob(digest) => Some(*digest),
            ZoneSource::Own | ZoneSource::File(_) | ZoneSource::Text(_) => None,
        };
        let old = self.zones.binary_search_by(|zone| zone.name.cmp(&spec.name)).ok();
        match old.and_then(|at| self.zones.get(at)) {
            Some(old) if old.plan == *plan && old.text == text && old.ttl == spec.ttl => {
                Arc::clone(old)
            }
            _ => Arc::new(Zone {
                name: spec.name.clone(),
                plan: plan.clone(),
                since: token,
                text,
                ttl: spec.ttl,
            }),
        }
    }
}

/// Every plan with the token at which what is rendered of it last changed.
pub(super) fn rendered(plans: &BTreeMap<PlanName, Arc<PlanState>>) -> Arc<[(PlanName, Token)]> {
    plans.iter().map(|(name, plan)| (name.clone(), plan.rendered)).collect()
}

/// All leaves of a plan, sorted by name; those that did not change are the old ones.
fn leaves(plan: &PlanState, old: &[Arc<Service>], token: Token) -> Vec<Arc<Service>> {
    if plan.released {
        return Vec::new();
    }
    let specs: HashMap<&ServiceName, &Arc<spec::Service>> =
        plan.spec.services.iter().map(|service| (&service.name, service)).collect();
    let known = plan.services.iter().filter_map(|(name, state)| Some((*specs.get(name)?, state)));
    let leaf = |(spec, state): (&Arc<spec::Service>, &Arc<ServiceState>)| {
        let at = old.binary_search_by(|leaf| leaf.id.service.cmp(&spec.name)).ok();
        let old = at.and_then(|at| old.get(at));
        let held = old.map_or_else(|| (token, Parts::all(token)), |old| (old.since, old.parts));
        let new = leaf(plan, spec, state, held);
        match old {
            Some(old) if **old == new => Arc::clone(old),
            Some(old) => {
                let parts = new.parts_after(old, token);
                Arc::new(Service { since: token, parts, ..new })
            }
            None => Arc::new(new),
        }
    };
    known.map(leaf).collect()
}

fn leaf(
    plan: &PlanState,
    spec: &Arc<spec::Service>,
    state: &ServiceState,
    (since, parts): (Token, Parts),
) -> Service {
    let ttl = |host| {
        let ttl = plan.spec.zone_of(host).map(|zone| zone.ttl).unwrap_or_default();
        if plan.is_shifting() { ttl.shifting } else { ttl.steady }
    };
    Service {
        id: ServiceId { plan: plan.spec.name.clone(), service: spec.name.clone() },
        since,
        spec: Arc::clone(spec),
        clients: Arc::clone(&plan.spec.clients),
        serving: serving(state),
        motion: motion(plan, state),
        salt: bucket::salt(&spec.salt),
        gateways: Arc::clone(&plan.spec.gateways),
        drain: plan.spec.policy.drain,
        ttls: spec.hosts.iter().map(ttl).collect(),
        parts,
    }
}

fn serving(state: &ServiceState) -> Serving {
    let (legacy, target) = (state.legacy.pool.clone(), state.target.pool.clone());
    match state.split {
        Split::LEGACY => Serving::Legacy { legacy, target: Some(target) },
        Split::TARGET => Serving::Target { legacy: Some(legacy), target },
        split => Serving::Both { legacy, target, split },
    }
}

/// A service that a rollback of others left at its split still moves: gateways must not catch what
/// the plan still sends to target.
fn motion(plan: &PlanState, state: &ServiceState) -> Motion {
    if plan.restored {
        return Motion::Restored;
    }
    match plan.mode {
        Mode::Ready | Mode::Complete | Mode::Retired => Motion::Steady,
        Mode::Running(_) | Mode::Manual | Mode::Paused(_) | Mode::Expired(_) => Motion::Moving,
        Mode::RolledBack if state.split == Split::LEGACY => Motion::RolledBack,
        Mode::RolledBack => Motion::Moving,
    }
}
