//! Snapshots for tests.

use std::sync::Arc;

use plan::{Actor, Ask, Cause, Command, Decided, Facts, Override, Snapshot, Split, State};

/// The fixture's snapshot, all of it at this split.
pub(super) fn snapshot_at(bp: u16) -> Snapshot {
    let plan = plan::fixture::plan();
    let name = plan.name.clone();
    let state = take(&State::empty(), Command::Apply(Arc::new(plan)));
    let overrides = [Override::Gate("sign-off".parse().unwrap())].into();
    let split = Split::from_bp(bp).unwrap();
    let shifted = take(&state, Command::Shift { plan: name, service: None, split, overrides });
    shifted.snapshot().as_ref().clone()
}

fn take(state: &State, command: Command) -> State {
    let (actor, reason) = (Actor::new("alice"), Some("planned".to_owned()));
    let ask = Ask { command, if_revision: None, key: None, actor, reason };
    match state.decide(&Cause::Operator(ask), &Facts::default()).unwrap() {
        Decided::Commit(record) => state.apply(&record).unwrap(),
        Decided::Already(_) => state.clone(),
    }
}
