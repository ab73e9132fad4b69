//! The phase shown: the stored mode and the facts of the moment.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::hold::Reason;
use crate::state::{Mode, Run, Stage};
use crate::time::Timestamp;

/// What a plan does, in a word.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Not started; everyone on legacy.
    Ready,
    /// What is committed is on its way to the sinks, or the next move is due at once.
    Shifting,
    /// The step has arrived and must stay so for a while.
    Baking,
    /// Nothing moves until an operator acts.
    Paused,
    /// The plan would move, and something that time alone does not clear keeps it.
    Held,
    /// Everyone was taken back.
    RolledBack,
    /// The last step's bake is over.
    Complete,
    /// Ended by an operator.
    Retired,
}

impl Phase {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Shifting => "shifting",
            Self::Baking => "baking",
            Self::Paused => "paused",
            Self::Held => "held",
            Self::RolledBack => "rolled-back",
            Self::Complete => "complete",
            Self::Retired => "retired",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What the facts say of a plan, in a word: all of them that the phase depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Progress {
    /// Something that is not mere lag keeps it: no sink, one that is away or refused, a side
    /// without a healthy endpoint, traffic elsewhere, the reconnect window, old TTLs.
    Stuck,
    /// Sinks have not applied everything yet.
    Lagging,
    /// Everything has arrived; the bake runs.
    Baking,
    /// The bake is over; a gate or a limit keeps the plan.
    Limited,
    /// Nothing keeps it.
    Free,
}

/// The phase of a plan: `restored` says that it waits for an operator after a restore.
///
/// This is the whole table; `plan/tests/golden/phase.txt` prints it.
pub const fn phase(mode: &Mode, restored: bool, progress: Progress) -> Phase {
    match mode {
        Mode::Retired => Phase::Retired,
        Mode::RolledBack => Phase::RolledBack,
        _ if restored => Phase::Paused,
        Mode::Ready => Phase::Ready,
        Mode::Paused(_) => Phase::Paused,
        Mode::Expired(_) => Phase::Held,
        Mode::Manual => match progress {
            Progress::Lagging => Phase::Shifting,
            Progress::Stuck | Progress::Baking | Progress::Limited | Progress::Free => {
                Phase::Paused
            }
        },
        // Never shown complete while an expected sink lags.
        Mode::Complete => match progress {
            Progress::Lagging => Phase::Shifting,
            Progress::Stuck => Phase::Held,
            Progress::Baking | Progress::Limited | Progress::Free => Phase::Complete,
        },
        Mode::Running(_) => match progress {
            Progress::Stuck | Progress::Limited => Phase::Held,
            Progress::Lagging | Progress::Free => Phase::Shifting,
            Progress::Baking => Phase::Baking,
        },
    }
}

impl Progress {
    /// All of them, as they are printed.
    pub const ALL: [Self; 5] =
        [Self::Stuck, Self::Lagging, Self::Baking, Self::Limited, Self::Free];

    /// What these reasons come to.
    pub fn of(reasons: impl IntoIterator<Item = Reason>) -> Self {
        let of = |reason| match reason {
            Reason::NoSink
            | Reason::Nacked
            | Reason::Away
            | Reason::Contradicted
            | Reason::Degraded
            | Reason::Settling
            | Reason::TtlDraining => Self::Stuck,
            Reason::Lagging => Self::Lagging,
            Reason::Baking => Self::Baking,
            Reason::Gate
            | Reason::Frozen
            | Reason::MaxStep
            | Reason::After
            | Reason::NotSticky
            | Reason::Rules => Self::Limited,
            Reason::Restored
            | Reason::RolledBack
            | Reason::Expired
            | Reason::Paused
            | Reason::Manual
            | Reason::Ready => Self::Free,
        };
        reasons.into_iter().map(of).min().unwrap_or(Self::Free)
    }

    const fn words(self) -> &'static str {
        match self {
            Self::Stuck => "stuck",
            Self::Lagging => "lagging",
            Self::Baking => "baking",
            Self::Limited => "limited",
            Self::Free => "free",
        }
    }
}

/// The whole table as Markdown: a row for each mode, a column for each progress.
pub fn table() -> String {
    let run = |stage| Run { step: 1, stage, entered: Timestamp::default() };
    let modes = [
        ("ready", Mode::Ready),
        ("running (onward)", Mode::Running(run(Stage::Onward))),
        ("running (bake)", Mode::Running(run(Stage::Bake))),
        ("manual", Mode::Manual),
        ("paused", Mode::Paused(run(Stage::Bake))),
        ("expired", Mode::Expired(run(Stage::Bake))),
        ("rolled back", Mode::RolledBack),
        ("complete", Mode::Complete),
        ("retired", Mode::Retired),
    ];
    let mut text = "| mode | restored |".to_owned();
    Progress::ALL.iter().for_each(|progress| text.push_str(&format!(" {} |", progress.words())));
    text.push_str("\n|---|---|---|---|---|---|---|\n");
    for (name, mode) in modes {
        for restored in [false, true] {
            text.push_str(&format!("| {name} | {} |", if restored { "yes" } else { "no" }));
            for progress in Progress::ALL {
                text.push_str(&format!(" {} |", phase(&mode, restored, progress)));
            }
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_the_golden_one() {
        crate::view::tests::golden::same("phase.txt", &table());
    }

    #[test]
    fn the_most_serious_reason_counts() {
        for (reasons, progress) in [
            (vec![], Progress::Free),
            (vec![Reason::Ready], Progress::Free),
            (vec![Reason::Baking, Reason::Gate], Progress::Baking),
            (vec![Reason::Gate, Reason::Frozen], Progress::Limited),
            (vec![Reason::Baking, Reason::Lagging], Progress::Lagging),
            (vec![Reason::Lagging, Reason::Away], Progress::Stuck),
        ] {
            assert_eq!(Progress::of(reasons.clone()), progress, "{reasons:?}");
        }
    }
}
