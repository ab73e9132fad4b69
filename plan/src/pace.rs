//! When a plan may move by itself: bakes, settling and old TTLs, counted over uptime.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::command::{Automation, Cause};
use crate::decide::place::present;
use crate::decide::run::gates_before_next;
use crate::decide::traffic::contradictions;
use crate::decide::{Decided, Facts};
use crate::name::{GateName, PlanName};
use crate::spec::{Plane, Step};
use crate::split::Split;
use crate::state::{Mode, PlanState, Run, Stage, State};
use crate::time::Timestamp;

/// The clockwork of automation: what was seen of each plan so far, by uptime.
///
/// Nothing of it is stored, on purpose: after a restart every timer begins again, which errs to the
/// safe side. [`Pace::due`] has to be called whenever the state or the facts changed.
#[derive(Clone, Debug, Default)]
pub struct Pace {
    settings: Settings,
    plans: BTreeMap<PlanName, Tempo>,
}

/// What the timers wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The reconnect window: before this uptime no bake starts and no automation acts, since sinks
    /// that were there before a restart may not be back.
    pub settle: Duration,
    /// A bake stands still while the plan is not converged or not healthy, and starts again from
    /// nothing once that has lasted longer than this: endpoints that come and go reach sinks within
    /// a moment each, and must not keep a long bake from ever ending.
    pub lapse: Duration,
}

impl Default for Settings {
    /// 30 s and 5 s.
    fn default() -> Self {
        Self { settle: Duration::from_secs(30), lapse: Duration::from_secs(5) }
    }
}

/// What automation should do, and when to ask again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Due {
    /// What to do now; every one of it was accepted by the rules as the facts are.
    pub causes: Vec<Automation>,
    /// The earliest uptime at which something may become due without any change of state or facts.
    pub wake: Option<Duration>,
}

/// What automation does next with a plan that takes its steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The step of this index, from 1.
    Step {
        /// Which step.
        index: u16,
        /// Its split.
        split: Split,
    },
    /// The plan is complete.
    Complete,
}

/// How often a deadline by the wall clock is looked at again at least, since that clock may jump.
const GLANCE: Duration = Duration::from_secs(60);

/// What was seen of one plan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Tempo {
    /// The `moving_since` that was seen, and the uptime at which it was seen first.
    moving: Option<(Timestamp, Duration)>,
    bake: Option<Bake>,
}

/// A bake under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bake {
    run: Run,
    /// What is over, up to `at`.
    baked: Duration,
    /// The uptime of the last look.
    at: Duration,
    /// Since which uptime the plan is not converged or not healthy; `None` while it is fine.
    lapsed: Option<Duration>,
}

impl Bake {
    /// What is over at `uptime`, if nothing has changed since the last look.
    fn by(&self, uptime: Duration) -> Duration {
        match self.lapsed {
            None => self.baked.saturating_add(uptime.saturating_sub(self.at)),
            Some(_) => self.baked,
        }
    }

    /// What passed since the last look was as that look found it: every change is looked at.
    fn look(&mut self, fine: bool, uptime: Duration, lapse: Duration) {
        self.baked = self.by(uptime);
        self.at = uptime;
        if self.lapsed.is_some_and(|since| uptime.saturating_sub(since) > lapse) {
            self.baked = Duration::ZERO;
        }
        self.lapsed = if fine { None } else { Some(self.lapsed.unwrap_or(uptime)) };
    }
}

impl Pace {
    /// A clockwork that has seen nothing yet.
    pub const fn new(settings: Settings) -> Self {
        Self { settings, plans: BTreeMap::new() }
    }

    /// What the timers wait for.
    pub const fn settings(&self) -> Settings {
        self.settings
    }

    /// What automation should do now, and when to ask again.
    pub fn due(&mut self, state: &State, facts: &Facts) -> Due {
        self.plans.retain(|name, _| state.plan(name).is_some());
        let mut due = Due::default();
        for (name, plan) in state.plans() {
            let tempo = self.plans.entry(name.clone()).or_default();
            tempo.look(plan, facts, self.settings);
            let Mode::Running(run) = plan.mode else { continue };
            if plan.restored {
                continue;
            }
            if let Some(left) = left(self.settings.settle, facts.uptime) {
                due.wake_by(facts.uptime.saturating_add(left));
                continue;
            }
            match self.forward(state, facts, plan) {
                Ok(cause) => due.causes.push(cause),
                Err(wake) => {
                    wake.into_iter().for_each(|wake| due.wake_by(wake));
                    expire(state, facts, plan, run, &mut due);
                }
            }
        }
        due
    }

    /// The move onward that the rules accept now; else the uptime at which that may change by
    /// itself.
    fn forward(
        &self,
        state: &State,
        facts: &Facts,
        plan: &PlanState,
    ) -> Result<Automation, Option<Duration>> {
        let name = &plan.spec.name;
        let later = |left: Duration| Some(facts.uptime.saturating_add(left));
        if !fine(plan, facts) {
            return Err(None);
        }
        if let Some(left) = self.draining(plan, facts) {
            return Err(later(left));
        }
        if let Some(left) = self.bake_left(plan, facts) {
            return Err(later(left));
        }
        let seen = plan.revision;
        let cause = match next(plan) {
            None => return Err(None),
            Some(Next::Step { .. }) => Automation::Advance { plan: name.clone(), seen },
            Some(Next::Complete) => Automation::Complete { plan: name.clone(), seen },
        };
        if accepted(state, facts, &cause) {
            return Ok(cause);
        }
        let thaw = plan.spec.policy.frozen(facts.now).map(|(_, until)| until.since(facts.now));
        Err(thaw.and_then(|left| later(left.min(GLANCE))))
    }

    /// How much of the present step's bake is over by this uptime; `None` where no bake runs.
    pub fn baked(&self, plan: &PlanName, uptime: Duration) -> Option<Duration> {
        let bake = self.plans.get(plan)?.bake.as_ref()?;
        Some(bake.by(uptime))
    }

    /// How long the reconnect window still lasts; `None` once it is over.
    pub fn settling(&self, facts: &Facts) -> Option<Duration> {
        left(self.settings.settle, facts.uptime)
    }

    /// How long answers with the steady TTL may still be out, where automation has yet to take its
    /// first step after `start` or `resume`; `None` where it need not wait.
    ///
    /// Counted over uptime from when this controller first saw the plan moving, so that no jump of
    /// the wall clock shortens it.
    pub fn draining(&self, plan: &PlanState, facts: &Facts) -> Option<Duration> {
        let Mode::Running(Run { stage: Stage::Onward, .. }) = plan.mode else { return None };
        if !plan.spec.uses(Plane::Dns) {
            return None;
        }
        let ttl = plan.spec.zones.iter().map(|zone| zone.ttl.steady).max().unwrap_or(0);
        let ttl = Duration::from_secs(ttl.into());
        let tempo = self.plans.get(&plan.spec.name);
        let (_, seen) =
            tempo.and_then(|tempo| tempo.moving).unwrap_or((plan.changed, facts.uptime));
        left(ttl, facts.uptime.saturating_sub(seen))
    }

    /// How much of the present step's bake is left; `None` where it is over or none runs.
    pub fn bake_left(&self, plan: &PlanState, facts: &Facts) -> Option<Duration> {
        baking(plan)?;
        let bake = step(plan)?.bake;
        let baked = self.baked(&plan.spec.name, facts.uptime).unwrap_or_default();
        left(bake, baked)
    }
}

impl Tempo {
    fn look(&mut self, plan: &PlanState, facts: &Facts, settings: Settings) {
        self.moving = match self.moving {
            _ if !plan.is_shifting() => None,
            Some((since, seen)) if since == plan.moving_since => Some((since, seen)),
            Some(_) | None => Some((plan.moving_since, facts.uptime)),
        };
        let Some(run) = baking(plan) else {
            self.bake = None;
            return;
        };
        let settled = left(settings.settle, facts.uptime).is_none();
        let fresh =
            Bake { run, baked: Duration::ZERO, at: facts.uptime, lapsed: Some(facts.uptime) };
        let bake = self.bake.get_or_insert(fresh);
        if bake.run != run {
            *bake = fresh;
        }
        bake.look(settled && fine(plan, facts), facts.uptime, settings.lapse);
    }
}

/// The run of a plan that is in a step's bake.
fn baking(plan: &PlanState) -> Option<Run> {
    let Mode::Running(run) = plan.mode else { return None };
    (run.stage == Stage::Bake && !plan.restored).then_some(run)
}

impl Due {
    fn wake_by(&mut self, uptime: Duration) {
        self.wake = Some(self.wake.map_or(uptime, |wake| wake.min(uptime)));
    }
}

/// Goes back a step where nobody moved on in time, else asks to be woken for it.
fn expire(state: &State, facts: &Facts, plan: &PlanState, run: Run, due: &mut Due) {
    let Some(deadline) = expires_at(plan) else { return };
    if deadline > facts.now {
        let left = deadline.since(facts.now).min(GLANCE);
        due.wake_by(facts.uptime.saturating_add(left));
        return;
    }
    let cause = Automation::Expire { plan: plan.spec.name.clone(), seen: plan.revision };
    if run.step > 0 && accepted(state, facts, &cause) {
        due.causes.push(cause);
    }
}

/// When the plan goes back a step if nobody moves on. Suspended unless it takes its steps.
pub fn expires_at(plan: &PlanState) -> Option<Timestamp> {
    let run = baking(plan)?;
    let expires = step(plan)?.expires?;
    Some(run.entered.after(expires))
}

/// The step that a plan is in, where it takes its steps, or would.
pub fn step(plan: &PlanState) -> Option<&Step> {
    let (Mode::Running(run) | Mode::Paused(run) | Mode::Expired(run)) = plan.mode else {
        return None;
    };
    present(&plan.spec, run)
}

/// What automation does next; `None` where the plan does not take its steps.
pub fn next(plan: &PlanState) -> Option<Next> {
    let Mode::Running(run) = plan.mode else { return None };
    let (steps, at) = (&plan.spec.steps, usize::from(run.step));
    match steps.get(at) {
        Some(step) => Some(Next::Step { index: u16::try_from(at + 1).ok()?, split: step.split }),
        None => Some(Next::Complete),
    }
}

/// The gates that must pass before that.
pub fn gates(plan: &PlanState) -> BTreeSet<&GateName> {
    let Mode::Running(run) = plan.mode else { return BTreeSet::new() };
    gates_before_next(plan, run).into_iter().flat_map(|step| &step.gates).collect()
}

/// Whether everything has arrived, every side has a healthy endpoint, and traffic is where the plan
/// says.
fn fine(plan: &PlanState, facts: &Facts) -> bool {
    !is_degraded(plan)
        && facts.ledger.converged(&plan.spec, plan.rendered)
        && contradictions(plan, facts).next().is_none()
}

/// Whether every endpoint of a side of some service fails.
pub fn is_degraded(plan: &PlanState) -> bool {
    plan.services.values().any(|s| s.legacy.pool.degraded || s.target.pool.degraded)
}

fn accepted(state: &State, facts: &Facts, cause: &Automation) -> bool {
    let decided = state.decide(&Cause::Automation(cause.clone()), facts);
    matches!(decided, Ok(Decided::Commit(_)))
}

/// What is left of `whole` after `over`; `None` where nothing is.
fn left(whole: Duration, over: Duration) -> Option<Duration> {
    whole.checked_sub(over).filter(|left| !left.is_zero())
}

#[cfg(test)]
mod tests;
