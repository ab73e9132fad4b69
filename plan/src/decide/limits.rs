//! Limits on raising. Lowering has none.

use std::collections::{BTreeMap, BTreeSet};

use super::near::near;
use super::traffic::{contradictions, unsticky};
use super::{Facts, Refused};
use crate::command::Override;
use crate::gate::Verdict;
use crate::name::{GateName, ServiceId, ServiceName};
use crate::spec::{GateTest, Step, Strategy};
use crate::split::Split;
use crate::state::PlanState;

/// The limits of one plan at one moment, and those that an operator overrides.
pub(super) struct Limits<'a> {
    plan: &'a PlanState,
    facts: &'a Facts,
    overrides: &'a BTreeSet<Override>,
    used: Vec<Override>,
}

impl<'a> Limits<'a> {
    pub(super) const fn new(
        plan: &'a PlanState,
        facts: &'a Facts,
        overrides: &'a BTreeSet<Override>,
    ) -> Self {
        Self { plan, facts, overrides, used: Vec::new() }
    }

    /// An operator may override, but says why, and names gates that exist.
    pub(super) fn overrides_are_fine(&self, reason: Option<&str>) -> Result<(), Refused> {
        for limit in self.overrides {
            if let Override::Gate(gate) = limit {
                gate_of(self.plan, gate)?;
            }
        }
        if self.overrides.is_empty() || reason.is_some_and(|reason| !reason.trim().is_empty()) {
            return Ok(());
        }
        Err(Refused::ReasonNeeded {
            plan: self.plan.spec.name.clone(),
            overrides: self.overrides.iter().cloned().collect(),
        })
    }

    /// Every sink has applied what is committed.
    pub(super) fn acks(&mut self) -> Result<(), Refused> {
        let plan = self.plan;
        if is_converged(plan, self.facts) {
            return Ok(());
        }
        let refused = Refused::Acks { plan: plan.spec.name.clone(), overridable: true };
        self.unless(&Override::Acks, refused)
    }

    /// Proxies can keep clients on their side, if `moves` end between 0 and 100 %. Where they end
    /// exactly there, nobody has to be kept.
    pub(super) fn sticky(&mut self, moves: &BTreeMap<ServiceName, Split>) -> Result<(), Refused> {
        let plan = self.plan;
        let between =
            |(name, to): (&ServiceName, &Split)| split_of(plan, name) < *to && *to != Split::TARGET;
        if !moves.iter().any(between) {
            return Ok(());
        }
        let Some((sink, _)) = unsticky(plan, self.facts) else { return Ok(()) };
        let refused = Refused::NotSticky {
            plan: plan.spec.name.clone(),
            sink: sink.id.clone(),
            version: sink.version.clone().unwrap_or_default(),
        };
        self.unless(&Override::Sticky, refused)
    }

    /// Traffic is where the plan says.
    pub(super) fn measured(&mut self) -> Result<(), Refused> {
        let plan = self.plan;
        let Some((plane, service, found)) = contradictions(plan, self.facts).next() else {
            return Ok(());
        };
        let refused = Refused::Contradicted {
            service: id(plan, service),
            plane,
            intended: found.intended,
            low_bp: found.low_bp,
            high_bp: found.high_bp,
        };
        self.unless(&Override::Measured, refused)
    }

    /// Every gate of these steps has passed.
    pub(super) fn gates(&mut self, steps: &[&Step]) -> Result<(), Refused> {
        let names: BTreeSet<&GateName> = steps.iter().flat_map(|step| &step.gates).collect();
        for name in names {
            let Some(refused) = gate_holds(self.plan, name) else { continue };
            self.unless(&Override::Gate(name.clone()), refused)?;
        }
        Ok(())
    }

    /// `after`, maxStep and freezes, for all services that rise.
    pub(super) fn rise(&mut self, moves: &BTreeMap<ServiceName, Split>) -> Result<(), Refused> {
        let plan = self.plan;
        let rises = |(name, to): &(&ServiceName, &Split)| split_of(plan, name) < **to;
        let rising: Vec<_> = moves.iter().filter(rises).collect();
        if rising.is_empty() {
            return Ok(());
        }
        self.after(moves)?;
        if let Some(most) = plan.spec.policy.max_step {
            for (name, to) in rising {
                self.max_step(name, *to, most)?;
            }
        }
        let Some((freeze, until)) = plan.spec.policy.frozen(self.facts.now) else { return Ok(()) };
        let refused =
            Refused::Freeze { plan: plan.spec.name.clone(), window: freeze.to_string(), until };
        self.unless(&Override::Freeze, refused)
    }

    /// What was overridden that would have held.
    pub(super) fn used(self) -> Vec<Override> {
        self.used
    }

    fn after(&self, moves: &BTreeMap<ServiceName, Split>) -> Result<(), Refused> {
        let plan = self.plan;
        let goes_to = |name| moves.get(name).copied().unwrap_or_else(|| split_of(plan, name));
        for service in &plan.spec.services {
            let Some(to) = moves.get(&service.name) else { continue };
            if *to <= split_of(plan, &service.name) {
                continue;
            }
            let Some(lowest) = service.after.iter().min_by_key(|name| goes_to(*name)) else {
                continue;
            };
            if *to > goes_to(lowest) {
                return Err(Refused::After {
                    service: id(plan, &service.name),
                    after: lowest.clone(),
                    from: split_of(plan, &service.name),
                    to: *to,
                    allowed: goes_to(lowest),
                });
            }
        }
        Ok(())
    }

    fn max_step(&mut self, name: &ServiceName, to: Split, most: Split) -> Result<(), Refused> {
        let from = split_of(self.plan, name);
        if to.bp().saturating_sub(from.bp()) <= most.bp() {
            return Ok(());
        }
        let allowed = from.bp().saturating_add(most.bp()).min(Split::WHOLE);
        let allowed = Split::from_bp(allowed).unwrap_or(from);
        let refused = Refused::MaxStep { service: id(self.plan, name), from, to, allowed };
        self.unless(&Override::MaxStep, refused)
    }

    fn unless(&mut self, limit: &Override, refused: Refused) -> Result<(), Refused> {
        if !self.overrides.contains(limit) {
            return Err(refused);
        }
        if !self.used.contains(limit) {
            self.used.push(limit.clone());
        }
        Ok(())
    }
}

/// Whether every sink has applied everything of this plan that is committed.
pub(super) fn is_converged(plan: &PlanState, facts: &Facts) -> bool {
    facts.ledger.converged(&plan.spec, plan.rendered)
}

/// The steps whose gates stand before a rise to `to`: those below it, and for `whole` its only one.
pub(super) fn steps_below(plan: &PlanState, to: Split) -> Vec<&Step> {
    let whole = plan.spec.strategy == Strategy::Whole;
    plan.spec.steps.iter().filter(|step| whole || step.split < to).collect()
}

/// The gate of this name, by what it asks.
pub(super) fn gate_of<'a>(plan: &'a PlanState, name: &GateName) -> Result<&'a GateTest, Refused> {
    let gates = &plan.spec.gates;
    let found = gates.iter().find(|gate| gate.name == *name);
    found.map(|gate| &gate.test).ok_or_else(|| Refused::UnknownGate {
        plan: plan.spec.name.clone(),
        gate: name.clone(),
        near: near(name.as_str(), gates.iter().map(|gate| &gate.name)),
    })
}

/// Why the gate has not passed; `None` where it has.
fn gate_holds(plan: &PlanState, name: &GateName) -> Option<Refused> {
    if let Err(unknown) = gate_of(plan, name) {
        return Some(unknown);
    }
    let verdict = Verdict::of(plan, name);
    let approved = u32::try_from(verdict.approved.len()).unwrap_or(u32::MAX);
    (!verdict.passed()).then(|| Refused::Gate {
        plan: plan.spec.name.clone(),
        gate: name.clone(),
        approved,
        needed: approved.saturating_add(verdict.missing),
    })
}

/// Where a service is; one that is not there is at 0.
pub(super) fn split_of(plan: &PlanState, name: &ServiceName) -> Split {
    plan.services.get(name).map_or(Split::LEGACY, |service| service.split)
}

fn id(plan: &PlanState, service: &ServiceName) -> ServiceId {
    ServiceId { plan: plan.spec.name.clone(), service: service.clone() }
}

/// These services, and all that come after them, directly or not.
pub(super) fn with_followers(
    plan: &PlanState,
    services: impl IntoIterator<Item = ServiceName>,
) -> BTreeSet<ServiceName> {
    let mut followers: BTreeMap<&ServiceName, Vec<&ServiceName>> = BTreeMap::new();
    for service in &plan.spec.services {
        for before in &service.after {
            followers.entry(before).or_default().push(&service.name);
        }
    }
    let mut open: Vec<ServiceName> = services.into_iter().collect();
    let mut found = BTreeSet::new();
    while let Some(name) = open.pop() {
        let next = followers.get(&name).into_iter().flatten();
        open.extend(next.filter(|next| !found.contains(**next)).map(|next| (*next).clone()));
        found.insert(name);
    }
    found
}
