//! What may happen.

use proptest::prelude::*;

/// One thing that happens. Numbers choose among what there is at that moment.
#[derive(Clone, Debug)]
pub(crate) enum Action {
    Apply {
        plan: u8,
        variant: u8,
        how: How,
    },
    Start {
        plan: u8,
        how: How,
    },
    Step {
        plan: u8,
        over: u8,
        how: How,
    },
    Shift {
        plan: u8,
        service: Option<u8>,
        split: u8,
        over: u8,
        how: How,
    },
    Pause {
        plan: u8,
        how: How,
    },
    Resume {
        plan: u8,
        how: How,
    },
    Rollback {
        scope: u8,
        how: How,
    },
    Approve {
        plan: u8,
        how: How,
    },
    Retire {
        plan: u8,
        how: How,
    },
    Delete {
        plan: u8,
        how: How,
    },
    /// A client that has had no answer asks again.
    Repeat {
        back: u8,
    },
    Automation {
        plan: u8,
        kind: u8,
        stale: bool,
    },
    Health {
        plan: u8,
        service: u8,
        target: bool,
        failing: u8,
    },
    Process,
    Ack {
        sink: u8,
    },
    AckAll,
    Nack {
        sink: u8,
        plan: u8,
    },
    Leave {
        sink: u8,
    },
    Clock {
        seconds: i64,
    },
    Restart {
        checkpoint: bool,
    },
    Restore,
}

/// How a command is asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct How {
    pub(crate) key: Option<u8>,
    pub(crate) revision: Revision,
    pub(crate) actor: u8,
}

/// What `--if-revision` names.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Revision {
    None,
    Current,
    Older(u8),
}

fn how() -> impl Strategy<Value = How> {
    let revision = prop_oneof![
        6 => Just(Revision::None),
        3 => Just(Revision::Current),
        1 => (1..4u8).prop_map(Revision::Older),
    ];
    (prop::option::weighted(0.2, 0..3u8), revision, 0..2u8).prop_map(|(key, revision, actor)| How {
        key,
        revision,
        actor,
    })
}

fn command() -> impl Strategy<Value = Action> {
    let plan = 0..2u8;
    prop_oneof![
        2 => (plan.clone(), 0..12u8, how())
            .prop_map(|(plan, variant, how)| Action::Apply { plan, variant, how }),
        3 => (plan.clone(), how()).prop_map(|(plan, how)| Action::Start { plan, how }),
        2 => (plan.clone(), 0..16u8, how())
            .prop_map(|(plan, over, how)| Action::Step { plan, over, how }),
        5 => (plan.clone(), prop::option::of(0..3u8), 0..8u8, 0..16u8, how()).prop_map(
            |(plan, service, split, over, how)| Action::Shift { plan, service, split, over, how }
        ),
        2 => (plan.clone(), how()).prop_map(|(plan, how)| Action::Pause { plan, how }),
        4 => (plan.clone(), how()).prop_map(|(plan, how)| Action::Resume { plan, how }),
        2 => (0..7u8, how()).prop_map(|(scope, how)| Action::Rollback { scope, how }),
        2 => (plan.clone(), how()).prop_map(|(plan, how)| Action::Approve { plan, how }),
        1 => (plan.clone(), how()).prop_map(|(plan, how)| Action::Retire { plan, how }),
        1 => (plan, how()).prop_map(|(plan, how)| Action::Delete { plan, how }),
    ]
}

fn action() -> impl Strategy<Value = Action> {
    let plan = 0..2u8;
    prop_oneof![
        20 => command(),
        16 => (plan.clone(), prop_oneof![6 => Just(0u8), 2 => Just(1), 2 => Just(2)],
               prop::bool::weighted(0.1))
            .prop_map(|(plan, kind, stale)| Action::Automation { plan, kind, stale }),
        3 => (plan.clone(), 0..3u8, any::<bool>(), 0..4u8).prop_map(
            |(plan, service, target, failing)| Action::Health { plan, service, target, failing }
        ),
        2 => (0..3u8).prop_map(|back| Action::Repeat { back }),
        2 => Just(Action::Process),
        3 => (0..2u8).prop_map(|sink| Action::Ack { sink }),
        12 => Just(Action::AckAll),
        1 => (0..2u8, plan).prop_map(|(sink, plan)| Action::Nack { sink, plan }),
        1 => (0..2u8).prop_map(|sink| Action::Leave { sink }),
        2 => prop_oneof![-7_200..7_200i64, Just(-86_400 * 365), Just(3_600)]
            .prop_map(|seconds| Action::Clock { seconds }),
        2 => any::<bool>().prop_map(|checkpoint| Action::Restart { checkpoint }),
        1 => Just(Action::Restore),
    ]
}

/// A history. It begins with two plans, so that most of it is about something.
pub(crate) fn history() -> impl Strategy<Value = Vec<Action>> {
    prop::collection::vec(action(), 30..80)
}
