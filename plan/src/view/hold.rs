//! Why a plan does not move: typed reasons, each with the command that clears it.

mod find;

use std::fmt;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub(in crate::view) use self::find::degraded_sides;
pub use self::find::{holds, of_service};
use crate::gate::{Outcome, Verdict};
use crate::ledger::SinkId;
use crate::measure::Contradiction;
use crate::name::{PlanName, ServiceName};
use crate::spec::Plane;
use crate::split::{Side, Split};
use crate::time::Timestamp;
use crate::token::Token;

/// A hold as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HoldView {
    /// Why.
    pub reason: Reason,
    /// What exactly, in words.
    pub detail: String,
    /// The command that clears it; `null` where only time or a repair does.
    pub clear: Option<String>,
}

/// Why a plan does not move.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// Restored from a backup; no operator has acted yet.
    Restored,
    /// Everyone was taken back.
    RolledBack,
    /// It went back a step by itself.
    Expired,
    /// An operator paused it.
    Paused,
    /// An operator moved it by hand.
    Manual,
    /// Not started.
    Ready,
    /// A plane that the plan uses has no sink.
    NoSink,
    /// A sink refused what it was sent.
    Nacked,
    /// A sink is not connected.
    Away,
    /// A sink has not applied everything yet.
    Lagging,
    /// Traffic is not where the plan says.
    Contradicted,
    /// Every endpoint of a side fails.
    Degraded,
    /// The controller started a moment ago; sinks are still coming back.
    Settling,
    /// Answers with the steady TTL are still out.
    TtlDraining,
    /// The step must stay converged and healthy for longer.
    Baking,
    /// A gate has not passed.
    Gate,
    /// A window in which nothing rises.
    Frozen,
    /// The next step is further than one revision may raise.
    MaxStep,
    /// A service would overtake one that it comes after.
    After,
    /// A proxy cannot keep clients on their side.
    NotSticky,
    /// The rules refuse the move for a reason that has no word of its own here.
    Rules,
}

/// One reason why a plan does not move.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// The plan.
    pub plan: PlanName,
    /// Whether automation is to take a step next, so that `step` can override what keeps it.
    pub steps: bool,
    /// Why.
    pub why: Why,
}

/// What keeps a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// Restored from a backup; no operator has acted yet.
    Restored,
    /// The plan, or a part of it, was taken back.
    RolledBack {
        /// What `resume` must name: the plan's revision, which may be later than the rollback's.
        revision: u64,
        /// Services that a rollback of others left on target.
        above: Vec<ServiceName>,
    },
    /// Nobody moved on in time.
    Expired {
        /// When it went back.
        at: Timestamp,
    },
    /// An operator paused it.
    Paused {
        /// When.
        at: Timestamp,
    },
    /// An operator moved it by hand.
    Manual {
        /// When.
        at: Timestamp,
    },
    /// Not started.
    Ready,
    /// A plane that the plan uses has no sink.
    NoSink {
        /// Which.
        plane: Plane,
    },
    /// A sink refused what it was sent.
    Nacked {
        /// Which sink.
        sink: SinkId,
        /// Its plane.
        plane: Plane,
        /// What.
        token: Token,
        /// Its own words.
        detail: String,
        /// When.
        at: Timestamp,
        /// How many others refused, told of the last that is named.
        more: usize,
    },
    /// A sink is not connected.
    Away {
        /// Which.
        sink: SinkId,
        /// Since when, where known.
        left: Option<Timestamp>,
        /// How many others are, told of the last that is named.
        more: usize,
    },
    /// Sinks have not applied everything yet.
    Lagging {
        /// What was committed.
        token: Token,
        /// When, where that was a command or a step and not a change of endpoints.
        at: Option<Timestamp>,
        /// Planes that have not taken it up.
        planes: Vec<Plane>,
        /// Sinks that have not applied it, with what they have: the first [`NAMED_MAX`].
        sinks: Vec<(SinkId, Token)>,
        /// How many others have not.
        more: usize,
    },
    /// Traffic is not where the plan says, though everything has arrived.
    Contradicted {
        /// In which plane.
        plane: Plane,
        /// Of which service.
        service: ServiceName,
        /// What was measured beside what is intended.
        found: Contradiction,
        /// How many other services are not, told of the last that is named.
        more: usize,
    },
    /// Every endpoint of a side fails; the last good set is kept.
    Degraded {
        /// Of which service.
        service: ServiceName,
        /// Which side.
        side: Side,
    },
    /// The controller started a moment ago.
    Settling {
        /// How long it still waits.
        left: Duration,
    },
    /// Answers with the steady TTL are still out.
    TtlDraining {
        /// How long they still are.
        left: Duration,
        /// Where the plan goes after.
        to: Split,
    },
    /// The step must stay converged and healthy for longer.
    Baking {
        /// How long.
        left: Duration,
    },
    /// A gate has not passed.
    Gate(Verdict),
    /// A window in which nothing rises.
    Frozen {
        /// When it ends.
        until: Timestamp,
    },
    /// The next step is further than one revision may raise.
    MaxStep {
        /// Which service.
        service: ServiceName,
        /// Where it is.
        from: Split,
        /// Where the step would take it.
        to: Split,
        /// The most that one revision may raise.
        most: Split,
    },
    /// A service would overtake one that it comes after.
    After {
        /// Which service.
        service: ServiceName,
        /// The one it comes after.
        first: ServiceName,
        /// The split of that one.
        split: Split,
        /// Where the step would take both.
        to: Split,
    },
    /// A proxy draws a side for every request where the plan says that clients keep theirs.
    NotSticky {
        /// Which sink.
        sink: SinkId,
        /// What it says of its version.
        version: String,
        /// How many others do.
        more: usize,
    },
    /// The rules refuse the move for another reason.
    Rules {
        /// What they say.
        detail: String,
        /// What clears it.
        clear: Option<String>,
    },
}

impl Hold {
    /// Why, in a word.
    pub const fn reason(&self) -> Reason {
        match &self.why {
            Why::Restored => Reason::Restored,
            Why::RolledBack { .. } => Reason::RolledBack,
            Why::Expired { .. } => Reason::Expired,
            Why::Paused { .. } => Reason::Paused,
            Why::Manual { .. } => Reason::Manual,
            Why::Ready => Reason::Ready,
            Why::NoSink { .. } => Reason::NoSink,
            Why::Nacked { .. } => Reason::Nacked,
            Why::Away { .. } => Reason::Away,
            Why::Lagging { .. } => Reason::Lagging,
            Why::Contradicted { .. } => Reason::Contradicted,
            Why::Degraded { .. } => Reason::Degraded,
            Why::Settling { .. } => Reason::Settling,
            Why::TtlDraining { .. } => Reason::TtlDraining,
            Why::Baking { .. } => Reason::Baking,
            Why::Gate(_) => Reason::Gate,
            Why::Frozen { .. } => Reason::Frozen,
            Why::MaxStep { .. } => Reason::MaxStep,
            Why::After { .. } => Reason::After,
            Why::NotSticky { .. } => Reason::NotSticky,
            Why::Rules { .. } => Reason::Rules,
        }
    }
}

impl Hold {
    /// As JSON.
    pub fn view(&self) -> HoldView {
        HoldView { reason: self.reason(), detail: self.detail(), clear: self.clear() }
    }

    /// The command that clears it; `None` where only time or a repair does.
    pub fn clear(&self) -> Option<String> {
        let plan = &self.plan;
        let overriding = |limit: &str| {
            self.steps.then(|| format!("crossfade step {plan} --override {limit} --reason TEXT"))
        };
        match &self.why {
            Why::Restored | Why::Expired { .. } | Why::Paused { .. } | Why::Manual { .. } => {
                Some(format!("crossfade resume {plan}"))
            }
            Why::RolledBack { revision, .. } => {
                Some(format!("crossfade resume {plan} --if-revision {revision}"))
            }
            Why::Ready => Some(format!("crossfade start {plan}")),
            Why::NoSink { .. } | Why::Nacked { .. } | Why::Lagging { .. } => overriding("acks"),
            Why::Away { sink, .. } => {
                Some(format!("crossfade sinks forget {}", word(sink.as_str())))
            }
            Why::Degraded { service, side: Side::Target } => {
                Some(format!("crossfade rollback {plan}/{service}"))
            }
            Why::Degraded { side: Side::Legacy, .. } | Why::Settling { .. } => None,
            Why::TtlDraining { to, .. } => Some(format!("crossfade shift {plan} {to}")),
            Why::Baking { .. } => Some(format!("crossfade step {plan}")),
            Why::Gate(verdict) => Some(format!("crossfade approve {plan} {}", verdict.gate)),
            Why::Contradicted { .. } => overriding("measured"),
            Why::NotSticky { .. } => overriding("sticky"),
            Why::Frozen { .. } => overriding("freeze"),
            Why::MaxStep { .. } => overriding("max-step"),
            Why::After { first, to, .. } => Some(format!("crossfade shift {plan}/{first} {to}")),
            Why::Rules { clear, .. } => clear.clone(),
        }
    }

    /// What exactly, in words.
    pub fn detail(&self) -> String {
        match &self.why {
            Why::Restored => "restored from a backup; no operator has acted yet".to_owned(),
            Why::RolledBack { above, .. } => rolled_back(above),
            Why::Expired { at } => format!("nobody moved on in time: back one step at {at}"),
            Why::Paused { at } => format!("paused at {at}"),
            Why::Manual { at } => format!("moved by hand at {at}"),
            Why::Ready => "not started".to_owned(),
            Why::NoSink { plane } => {
                format!("nothing receives in plane {plane}, which the plan uses")
            }
            Why::Nacked { sink, plane, token, detail, at, more } => {
                let others = others(*more, "refused");
                // Nothing tells a server that what a proxy stumbled over is out of its way.
                let mend = match plane {
                    Plane::Mesh => "; mend that, then restart it: it is not sent the same again",
                    Plane::Dns | Plane::Host => "",
                };
                format!("{sink} refused {token} at {at}: {detail}{others}{mend}")
            }
            Why::Away { sink, left, more } => {
                let since = left.map_or(String::new(), |left| format!(" since {left}"));
                format!("{sink} is away{since}{}", others(*more, "are away"))
            }
            Why::Lagging { token, at, planes, sinks, more } => {
                lagging(*token, *at, planes, sinks, *more)
            }
            Why::Contradicted { plane, service, found, more } => {
                contradicted(*plane, service, found, *more)
            }
            Why::NotSticky { sink, version, more } => {
                format!(
                    "{sink} says version {version}; an Envoy before 1.36 draws a side for every \
                     request anew{}",
                    others(*more, "do")
                )
            }
            Why::Degraded { service, side } => {
                format!("every {side} endpoint of {service} fails; the last good set is kept")
            }
            Why::Settling { left } => {
                format!("{} left of the reconnect window after a start", seconds(*left))
            }
            Why::TtlDraining { left, .. } => {
                format!("{} until the last answer with the steady TTL expires", seconds(*left))
            }
            Why::Baking { left } => format!("{} left", seconds(*left)),
            Why::Gate(verdict) => gate(verdict),
            Why::Frozen { until } => format!("nothing rises before {until}"),
            Why::MaxStep { service, from, to, most } => {
                format!("{service} would rise from {from} to {to}; one revision may raise {most}")
            }
            Why::After { service, first, split, to } => {
                format!(
                    "{service} would rise to {to}; {first}, which it comes after, is at {split}"
                )
            }
            Why::Rules { detail, .. } => detail.clone(),
        }
    }
}

/// Whole seconds, rounded up: `0 s` is never shown for time that is left.
fn seconds(left: Duration) -> String {
    let whole = left.as_secs().saturating_add(u64::from(left.subsec_nanos() > 0));
    format!("{whole} s")
}

/// More are told by their number: `status` and `sinks` show more of them.
pub const NAMED_MAX: usize = 3;

/// The most holds of one reason with a sink or a service each: a status stays small, however many
/// sinks are away.
pub const HOLDS_MAX: usize = 20;

/// A text as one word of a shell's line: what clients call themselves is pasted into shells.
fn word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._/:@%+=,-".contains(c);
    let quoted = if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    };
    if text.starts_with('-') { format!("-- {quoted}") } else { quoted }
}

fn others(more: usize, what: &str) -> String {
    if more == 0 { String::new() } else { format!("; {more} more {what}") }
}

fn contradicted(plane: Plane, service: &ServiceName, found: &Contradiction, more: usize) -> String {
    let percent = |bp| Split::from_bp(bp).unwrap_or(Split::TARGET);
    format!(
        "{service}: {plane} measured {} to {} on target, the plan says {} ({} samples since \
         then){}",
        percent(found.low_bp),
        percent(found.high_bp),
        found.intended,
        found.samples,
        others(more, "services are not where the plan says"),
    )
}

fn rolled_back(above: &[ServiceName]) -> String {
    if above.is_empty() {
        return "everyone was taken back to legacy".to_owned();
    }
    let mut named: Vec<String> = above.iter().take(NAMED_MAX).map(ToString::to_string).collect();
    if let Some(more) = above.len().checked_sub(NAMED_MAX).filter(|more| *more > 0) {
        named.push(format!("{more} more"));
    }
    format!("a part was taken back to legacy; still on target: {}", named.join(", "))
}

fn lagging(
    token: Token,
    at: Option<Timestamp>,
    planes: &[Plane],
    sinks: &[(SinkId, Token)],
    more: usize,
) -> String {
    let mut parts: Vec<String> =
        planes.iter().map(|plane| format!("plane {plane} has not taken it up")).collect();
    parts.extend(sinks.iter().map(|(sink, acked)| format!("{sink} has {acked}")));
    if more > 0 {
        parts.push(format!("{more} more lag"));
    }
    let at = at.map_or(String::new(), |at| format!(" at {at}"));
    format!("{token} was committed{at}; {}", parts.join(", "))
}

fn gate(verdict: &Verdict) -> String {
    let by: Vec<&str> = verdict.approved.iter().map(crate::command::Actor::as_str).collect();
    let by = if by.is_empty() { String::new() } else { format!("; approved by {}", by.join(", ")) };
    match verdict.outcome {
        Outcome::Fail => format!("gate {} fails{by}", verdict.gate),
        Outcome::Pass => format!("gate {} passes{by}", verdict.gate),
        Outcome::Hold => {
            let more = if verdict.missing == 1 { "approval" } else { "approvals" };
            let other = if verdict.approved.is_empty() { "" } else { ", by someone else" };
            format!("gate {} needs {} more {more}{other}{by}", verdict.gate, verdict.missing)
        }
    }
}

impl Reason {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Restored => "restored",
            Self::RolledBack => "rolled-back",
            Self::Expired => "expired",
            Self::Paused => "paused",
            Self::Manual => "manual",
            Self::Ready => "ready",
            Self::NoSink => "no-sink",
            Self::Nacked => "nacked",
            Self::Away => "away",
            Self::Lagging => "lagging",
            Self::Contradicted => "contradicted",
            Self::Degraded => "degraded",
            Self::Settling => "settling",
            Self::TtlDraining => "ttl-draining",
            Self::Baking => "baking",
            Self::Gate => "gate",
            Self::Frozen => "frozen",
            Self::MaxStep => "max-step",
            Self::After => "after",
            Self::NotSticky => "not-sticky",
            Self::Rules => "rules",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
