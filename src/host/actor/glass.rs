//! Break-glass: what this host's operator does, with our command or with plain `nft`.

use std::collections::BTreeSet;
use std::sync::Arc;

use agent::rules::{Mark, Marks};
use plan::snapshot::{Service, Serving};
use plan::{PlanName, ServiceId, Side, Split};
use tokio::sync::Notify;

use super::{Actor, has_datagrams};
use crate::glass::{self, Act, BY_RULES, Deed, Force, Glass, Log, NOT_BY_US};
use crate::verbs::chain;

/// These services with those on legacy that break-glass keeps there.
pub(in crate::host) fn on_legacy(
    mut leaves: Vec<Arc<Service>>,
    glass: &Glass,
) -> Vec<Arc<Service>> {
    for leaf in &mut leaves {
        if !glass.covers(&leaf.id) {
            continue;
        }
        let serving = match leaf.serving.clone() {
            Serving::Both { legacy, target, .. }
            | Serving::Target { legacy: Some(legacy), target } => {
                Serving::Legacy { legacy, target: Some(target) }
            }
            // Nobody knows who would serve there.
            Serving::Target { legacy: None, .. } | Serving::Legacy { .. } => continue,
        };
        *leaf = Arc::new(Service { serving, ..Service::clone(leaf) });
    }
    leaves
}

/// Which datagrams are to be decided anew as break-glass changes: those on target of services that
/// it takes hold of, and those on legacy of services that it lets go.
pub(crate) fn turned(
    leaves: &[Arc<Service>],
    marks: &Marks,
    before: &Glass,
    after: &Glass,
) -> BTreeSet<(Mark, Side)> {
    let with_datagrams = leaves.iter().filter(|leaf| has_datagrams(leaf));
    let one = |leaf: &Arc<Service>| {
        let side = match (before.covers(&leaf.id), after.covers(&leaf.id)) {
            (_, true) => Side::Target,
            (true, false) if leaf.serving.split() > Split::LEGACY => Side::Legacy,
            (true | false, false) => return None,
        };
        Some((marks.of(&leaf.id)?, side))
    };
    with_datagrams.filter_map(one).collect()
}

impl Actor {
    /// Puts in force what was when the agent last ran.
    pub(super) fn begin_glass(&mut self) {
        self.state.glass = glass::read_or_nothing(&self.directory);
        self.bring();
        if !self.state.glass.force.is_empty() {
            tracing::warn!("break-glass is in force");
            // What stands may be more than what was written down: that is found by the next look.
            if !self.is_widened() {
                self.force();
            }
        }
    }

    /// Puts the rules of break-glass in force, for the services that it names.
    pub(super) fn force(&mut self) {
        if self.unreadable().is_some() && self.is_glass_standing() {
            // What stands may be about more.
            return;
        }
        let table = self.world.lock().rollback(|id| self.state.glass.covers(id));
        if let Err(error) = self.kernel.break_glass(&table) {
            tracing::error!(why = %chain(&error), "break-glass is not in force");
        }
    }

    /// Takes up what an operator wrote down; the operator's command has changed the rules already.
    pub(super) fn glass_changed(&mut self, noticed: &Notify) {
        let glass = glass::read_or_nothing(&self.directory);
        if glass.force == self.state.glass.force {
            return;
        }
        glass.log();
        let before = std::mem::replace(&mut self.state.glass, glass);
        if !self.state.glass.force.is_empty() {
            self.force();
        }
        self.turn_datagrams(&before);
        self.publish();
        // Whoever ended it has taken its rules out: the operator may put them back meanwhile.
        self.ask_again(noticed);
    }

    /// Writes down what was done to the table of break-glass by other means than ours, and takes it
    /// up.
    pub(super) fn check_glass(&mut self, noticed: &Notify) {
        if self.done_by_others().is_none() {
            return;
        }
        let mut log = match Log::try_open(&self.directory) {
            Ok(Some(log)) => Ok(log),
            // A command of ours is at work, and writes down what it did.
            Ok(None) => return,
            Err(error) => Err(error),
        };
        let said = log.as_mut().ok().and_then(|log| log.read().ok());
        if said.is_some_and(|said| said.force != self.state.glass.force) {
            // It has done so; that is taken up first.
            return;
        }
        let Some(act) = self.done_by_others() else { return };
        let now = self.clock.now();
        let written = log.and_then(|mut log| log.append(act, None, BY_RULES, NOT_BY_US, now));
        tracing::warn!(?act, "break-glass was changed in the kernel");
        let glass = written.unwrap_or_else(|error| {
            tracing::error!(why = %chain(&error), "break-glass is not written down");
            let deed = Deed { act, service: None, by: BY_RULES, reason: NOT_BY_US };
            Glass::nothing().after(&[deed], now)
        });
        let before = std::mem::replace(&mut self.state.glass, glass);
        self.turn_datagrams(&before);
        self.publish();
        self.ask_again(noticed);
    }

    /// Datagrams that are under way go the way that break-glass says now, too. Its rules have been
    /// put in force, or taken out.
    fn turn_datagrams(&mut self, before: &Glass) {
        let marked = {
            let (world, glass) = (self.world.lock(), &self.state.glass);
            turned(&world.leaves(), &world.marks, before, glass)
        };
        self.state.due.marked.extend(marked);
        self.settle();
    }

    /// Whether its table is there; it is too, where the kernel does not say.
    pub(super) fn is_glass_standing(&mut self) -> bool {
        self.kernel.glass().map_or(true, |found| found.is_some())
    }

    /// What others did to the table.
    fn done_by_others(&mut self) -> Option<Act> {
        let stands = self.kernel.glass().ok()?.is_some();
        match (stands, self.state.glass.force.is_empty()) {
            (true, true) => Some(Act::Rollback),
            (false, false) => Some(Act::Undo),
            (true, false) => self.is_widened().then_some(Act::Rollback),
            (false, true) => None,
        }
    }

    /// Whether the table is about more services than what was written down.
    fn is_widened(&mut self) -> bool {
        if self.state.glass.force.iter().any(|force| force.service.is_none()) {
            return false;
        }
        let Ok(Some(found)) = self.kernel.glass() else { return false };
        let ours = self.world.lock().rollback(|id| self.state.glass.covers(id));
        !found.is_subset(&ours.counters)
    }

    /// Ends break-glass where the controller itself says legacy by now.
    pub(super) fn dissolve(&mut self, confirmed: &BTreeSet<PlanName>) {
        // While the kernel does not hold what the controller says, break-glass alone is legacy;
        // when it does, the controller says it once more.
        if self.state.glass.force.is_empty() || self.state.broken.is_some() {
            return;
        }
        let done: Vec<Option<ServiceId>> = {
            let world = self.world.lock();
            let is_done = |force: &&Force| {
                let covered = |plan: &&PlanName| match &force.service {
                    Some(id) => id.plan == **plan,
                    None => true,
                };
                let mut plans = world.plans().filter(covered).peekable();
                plans.peek().is_some()
                    && plans.all(|plan| confirmed.contains(plan))
                    && world.above_legacy(|id| force.covers(id)).is_empty()
            };
            let force = self.state.glass.force.iter().filter(is_done);
            force.map(|force| force.service.clone()).collect()
        };
        for service in done {
            // The file has changed, so it is taken up as any other act is.
            let left = glass::dissolve(&self.directory, service.as_ref(), self.clock.now());
            if left.is_some_and(|glass| glass.force.is_empty())
                && let Err(error) = self.kernel.end_glass()
            {
                tracing::error!(why = %chain(&error), "break-glass has not ended");
            }
        }
    }
}
