//! The fold: what a record makes of a state. No rules; those are in [`crate::decide`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::decide::Done;
use crate::endpoint::{Endpoint, Endpoints, Pool};
use crate::name::{PlanName, ServiceId};
use crate::record::{CauseSummary, Put, Record};
use crate::spec::{Plan, ZoneSource};
use crate::split::{Side, Split};
use crate::state::render::Touched;
use crate::state::{Broken, Mode, PlanState, ServiceState, SideState, State};
use crate::token::Token;

impl State {
    /// The state after this record. Checks that the record follows the head, and no rule.
    ///
    /// # Errors
    /// The record is not the next one of this log, or changes what is not there.
    pub fn apply(&self, record: &Record) -> Result<Self, Broken> {
        self.check_follows(record)?;
        let mut fold = Fold { plans: self.plans.clone(), touched: Touched::default(), record };
        for put in &record.puts {
            fold.put(put)?;
        }
        fold.number();
        let Fold { mut plans, touched, .. } = fold;
        let digest = record.digest();
        let snapshot = self.snapshot.next(&mut plans, &touched, record.token, digest)?;
        let mut keys = Arc::clone(&self.keys);
        if let Some(used) = &record.key {
            Arc::make_mut(&mut keys).push(used, Done::of(record));
        }
        Ok(Self { token: record.token, digest, plans, keys, snapshot: Arc::new(snapshot) })
    }

    fn check_follows(&self, record: &Record) -> Result<(), Broken> {
        if !follows(self.token, record) {
            return Err(Broken::Order { head: self.token, found: record.token });
        }
        if record.parent != self.digest {
            return Err(Broken::Parent {
                token: record.token,
                expected: self.digest,
                found: record.parent,
            });
        }
        Ok(())
    }
}

/// Whether a record's number and cause fit the one before: the revision is one higher, and the
/// incarnation is the same, or higher by a restore.
pub(crate) fn follows(head: Token, record: &Record) -> bool {
    let restored = matches!(record.cause, CauseSummary::Restored { .. });
    let incarnation = if restored {
        record.token.incarnation > head.incarnation
    } else {
        record.token.incarnation == head.incarnation
    };
    incarnation && head.revision.checked_add(1) == Some(record.token.revision)
}

/// A fold under way.
struct Fold<'a> {
    plans: BTreeMap<PlanName, Arc<PlanState>>,
    touched: Touched,
    record: &'a Record,
}

impl Fold<'_> {
    fn put(&mut self, put: &Put) -> Result<(), Broken> {
        match put {
            Put::Plan(spec) => return self.put_plan(spec),
            Put::Mode { plan, mode } => self.put_mode(plan, *mode)?,
            Put::Split { service, split } => self.service(service)?.split = *split,
            Put::Approval { plan, gate, actor } => {
                let approvals = self.plan(plan)?.approvals.entry(gate.clone()).or_default();
                approvals.insert(actor.clone());
            }
            Put::NoApprovals(plan) => self.plan(plan)?.approvals.clear(),
            Put::Health { service, side, failing, pool } => {
                let state = self.service(service)?;
                let side = match side {
                    Side::Legacy => &mut state.legacy,
                    Side::Target => &mut state.target,
                };
                *side = SideState { failing: failing.clone(), pool: pool.clone() };
            }
            Put::Restored { plan, waits } => {
                self.touched.plan(plan);
                self.plan(plan)?.restored = *waits;
            }
            Put::Released(plan) => {
                self.touched.plan(plan);
                self.plan(plan)?.released = true;
            }
            Put::Deleted(plan) => {
                self.touched.plan(plan);
                self.plans.remove(plan).ok_or_else(|| self.unknown(plan))?;
            }
        }
        Ok(())
    }

    fn put_plan(&mut self, spec: &Arc<Plan>) -> Result<(), Broken> {
        let stored = |source: &ZoneSource| match source {
            ZoneSource::Own | ZoneSource::Blob(_) => true,
            ZoneSource::File(_) | ZoneSource::Text(_) => false,
        };
        if let Some(zone) = spec.zones.iter().find(|zone| !stored(&zone.source)) {
            let token = self.record.token;
            return Err(Broken::ZoneSource { token, zone: zone.name.clone() });
        }
        self.touched.plan(&spec.name);
        let next = match self.plans.get(&spec.name) {
            Some(old) => edited(old, spec),
            None => created(spec, self.record),
        };
        self.plans.insert(spec.name.clone(), Arc::new(next));
        Ok(())
    }

    fn put_mode(&mut self, plan: &PlanName, mode: Mode) -> Result<(), Broken> {
        let at = self.record.at;
        self.touched.plan(plan);
        let state = self.plan(plan)?;
        if state.mode.is_shifting() != mode.is_shifting() {
            state.moving_since = at;
        }
        state.mode = mode;
        Ok(())
    }

    /// Commands and automation, and a restore, give the plans that they change their number.
    /// Observations do not, so that they never make an operator's `If-Match` stale.
    fn number(&mut self) {
        if matches!(self.record.cause, CauseSummary::Observed { .. }) {
            return;
        }
        let named: BTreeSet<&PlanName> = self.record.puts.iter().map(Put::plan).collect();
        for name in named {
            if let Some(plan) = self.plans.get_mut(name) {
                let plan = Arc::make_mut(plan);
                plan.revision = self.record.token.revision;
                plan.changed = self.record.at;
            }
        }
    }

    fn plan(&mut self, name: &PlanName) -> Result<&mut PlanState, Broken> {
        let token = self.record.token;
        match self.plans.get_mut(name) {
            Some(plan) => Ok(Arc::make_mut(plan)),
            None => Err(Broken::UnknownPlan { token, plan: name.clone() }),
        }
    }

    fn service(&mut self, id: &ServiceId) -> Result<&mut ServiceState, Broken> {
        let token = self.record.token;
        self.touched.service(id);
        match self.plan(&id.plan)?.services.get_mut(&id.service) {
            Some(service) => Ok(Arc::make_mut(service)),
            None => Err(Broken::UnknownService { token, service: id.clone() }),
        }
    }

    fn unknown(&self, plan: &PlanName) -> Broken {
        Broken::UnknownPlan { token: self.record.token, plan: plan.clone() }
    }
}

fn created(spec: &Arc<Plan>, record: &Record) -> PlanState {
    let services = spec.services.iter();
    PlanState {
        spec: Arc::clone(spec),
        mode: Mode::Ready,
        revision: record.token.revision,
        changed: record.at,
        rendered: record.token,
        moving_since: record.at,
        restored: false,
        released: false,
        approvals: BTreeMap::new(),
        services: services.map(|s| (s.name.clone(), Arc::new(service_state(s, None)))).collect(),
    }
}

/// The plan as it goes on under a new spec. What is equal stays the same `Arc`; approvals of gates
/// that are gone go with them, so that a later gate of the same name is not approved already.
fn edited(old: &PlanState, spec: &Arc<Plan>) -> PlanState {
    let before: BTreeMap<_, _> = old.spec.services.iter().map(|s| (&s.name, s)).collect();
    let mut spec = Plan::clone(spec);
    if spec.clients == old.spec.clients {
        spec.clients = Arc::clone(&old.spec.clients);
    }
    for service in &mut spec.services {
        if let Some(same) = before.get(&service.name).filter(|same| **same == service) {
            *service = Arc::clone(same);
        }
    }
    let state = |service: &Arc<crate::spec::Service>| {
        let kept = old.services.get(&service.name);
        let same = before.get(&service.name).is_some_and(|same| Arc::ptr_eq(same, service));
        match kept {
            Some(kept) if same => Arc::clone(kept),
            _ => Arc::new(service_state(service, kept.map(Arc::as_ref))),
        }
    };
    let mut next = old.clone();
    next.services = spec.services.iter().map(|s| (s.name.clone(), state(s))).collect();
    next.approvals.retain(|gate, _| spec.gates.iter().any(|kept| kept.name == *gate));
    next.spec = Arc::new(spec);
    next
}

fn service_state(spec: &crate::spec::Service, old: Option<&ServiceState>) -> ServiceState {
    ServiceState {
        split: old.map_or(Split::LEGACY, |old| old.split),
        legacy: side_state(&spec.legacy, old.map(|old| &old.legacy)),
        target: side_state(&spec.target, old.map(|old| &old.target)),
    }
}

/// A side with these endpoints, of which those that failed before still fail.
fn side_state(endpoints: &Endpoints, old: Option<&SideState>) -> SideState {
    let all = || Pool { serving: endpoints.clone(), degraded: false };
    let Some(old) = old else { return SideState { failing: BTreeSet::new(), pool: all() } };
    let fails = |endpoint: &&Endpoint| old.failing.contains(endpoint);
    let failing: BTreeSet<_> = endpoints.iter().filter(fails).copied().collect();
    let pool = pool(endpoints, &failing, &old.pool);
    SideState { failing, pool }
}

/// The endpoints that count: those that do not fail; if all fail, those of the last good set that
/// are still there, else all.
pub(crate) fn pool(endpoints: &Endpoints, failing: &BTreeSet<Endpoint>, last: &Pool) -> Pool {
    let good = endpoints.iter().filter(|endpoint| !failing.contains(endpoint)).copied();
    if let Some(serving) = Endpoints::new(good.collect()) {
        return Pool { serving, degraded: false };
    }
    let known = |endpoint: &&Endpoint| endpoints.as_slice().binary_search(endpoint).is_ok();
    let kept = Endpoints::new(last.serving.iter().filter(known).copied().collect());
    Pool { serving: kept.unwrap_or_else(|| endpoints.clone()), degraded: true }
}
