//! Refusals in words, and the commands that clear them.

use std::fmt;

use super::refused::{Change, Phase, Refused, Verb};
use crate::name::PlanName;
use crate::split::Split;

/// The command line that clears a refusal.
pub(super) fn clear(refused: &Refused) -> Option<String> {
    Some(match refused {
        Refused::UnknownPlan { .. } | Refused::TooManyPlans { .. } => "crossfade plans".to_owned(),
        Refused::UnknownService { service, .. } => format!("crossfade status {}", service.plan),
        Refused::UnknownGate { plan, .. } => format!("crossfade status {plan}"),
        Refused::Stale { plan, current, .. } if *current > 0 => format!("crossfade status {plan}"),
        Refused::RevisionNeeded { plan, current } => {
            format!("crossfade resume {plan} --if-revision {current}")
        }
        Refused::Phase { plan, verb, mode, revision } => {
            return clear_phase(plan, *verb, *mode, *revision);
        }
        Refused::Acks { .. } | Refused::NotSticky { .. } => "crossfade sinks".to_owned(),
        Refused::Contradicted { service, .. } => format!("crossfade explain {service}"),
        Refused::Gate { plan, gate, .. } => format!("crossfade approve {plan} {gate}"),
        // It is as far as it may be: the one that it comes after goes first.
        Refused::After { service, after, from, to, allowed } if allowed <= from => {
            format!("crossfade shift {}/{after} {to}", service.plan)
        }
        Refused::MaxStep { service, allowed, .. }
        | Refused::After { service, allowed, .. }
        | Refused::AfterBroken { service, allowed, .. } => {
            format!("crossfade shift {service} {allowed}")
        }
        Refused::HostTaken { by: plan, .. }
        | Refused::ZoneTaken { by: plan, .. }
        | Refused::ZoneHides { other: plan, .. } => format!("crossfade get {plan}"),
        Refused::UnknownZone { .. }
        | Refused::Stale { .. }
        | Refused::KeyReused { .. }
        | Refused::Freeze { .. }
        | Refused::ReasonNeeded { .. }
        | Refused::WouldMove { .. }
        | Refused::ZoneText { .. }
        | Refused::NotDue { .. } => return None,
    })
}

fn clear_phase(plan: &PlanName, verb: Verb, mode: Phase, revision: u64) -> Option<String> {
    match (verb, mode) {
        (_, Phase::RolledBack) => Some(format!("crossfade resume {plan} --if-revision {revision}")),
        (Verb::Step | Verb::Resume, Phase::Ready) => Some(format!("crossfade start {plan}")),
        (Verb::Start | Verb::Step, Phase::Paused | Phase::Expired) => {
            Some(format!("crossfade resume {plan}"))
        }
        (Verb::Delete, Phase::Complete) => Some(format!("crossfade retire {plan}")),
        (Verb::Delete, Phase::Running | Phase::Paused | Phase::Expired) => {
            Some(format!("crossfade rollback {plan}"))
        }
        (Verb::Apply | Verb::Shift | Verb::Rollback, Phase::Retired) => {
            Some(format!("crossfade delete {plan}"))
        }
        (Verb::Retire, Phase::Ready) => Some(format!("crossfade delete {plan}")),
        (Verb::Retire, Phase::Paused | Phase::Expired) => Some(format!("crossfade resume {plan}")),
        (_, Phase::Running) => Some(format!("crossfade status {plan}")),
        _ => None,
    }
}

/// The nearest names, as the end of a sentence.
pub(super) fn offer<N: fmt::Display>(near: &[N]) -> String {
    let near: Vec<_> = near.iter().map(|name| format!("`{name}`")).collect();
    if near.is_empty() { String::new() } else { format!("; did you mean {}?", near.join(" or ")) }
}

/// All of them, with commas.
pub(super) fn list<N: fmt::Display>(items: &[N]) -> String {
    let items: Vec<_> = items.iter().map(ToString::to_string).collect();
    items.join(", ")
}

pub(super) fn stale(plan: &PlanName, given: u64, current: u64) -> String {
    if current == 0 {
        return format!("there is no plan `{plan}` yet, so it cannot be at revision {given}");
    }
    format!("plan `{plan}` is at revision {current}, not {given}: it was changed since")
}

/// A measured share by its interval.
pub(super) fn between(low_bp: u16, high_bp: u16) -> String {
    let percent = |bp| Split::from_bp(bp).unwrap_or(Split::TARGET);
    format!("{} to {}", percent(low_bp), percent(high_bp))
}

pub(super) const fn acks(overridable: bool) -> &'static str {
    if overridable {
        "wait for them, or `--override acks --reason TEXT`"
    } else {
        "it is not complete before they have, or are forgotten"
    }
}

/// What would be allowed where the phase forbids a verb.
pub(super) const fn phase(verb: Verb, mode: Phase) -> &'static str {
    match (verb, mode) {
        (Verb::Shift | Verb::Start | Verb::Step, Phase::RolledBack) => {
            "nothing rises before a `resume` that names its revision"
        }
        (Verb::Start, _) => "`start` is for a plan that is ready",
        (Verb::Step, _) => "`step` is for a plan that is taking its steps",
        (Verb::Resume, _) => "there is nothing to resume",
        (Verb::Retire, _) => "`retire` is for a plan that is complete",
        (Verb::Delete, _) => "`delete` is for a plan that is retired, or ready at 0%",
        (Verb::Apply, _) => "only its zones may change now",
        (Verb::Shift | Verb::Pause | Verb::Rollback, _) => {
            "its clients are on target for good, and nothing moves"
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ready => "ready",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Expired => "held (expired)",
            Self::RolledBack => "rolled back",
            Self::Complete => "complete",
            Self::Retired => "retired",
        })
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Clients => f.write_str("clients"),
            Self::Resolvers => f.write_str("resolvers"),
            Self::ClientKey => f.write_str("clientKey"),
            Self::Salt { service } => write!(f, "salt of `{service}`"),
            Self::Affinity { service } => write!(f, "affinity of `{service}`"),
            Self::Address { service } => write!(f, "address of `{service}`"),
            Self::Hosts { service } => write!(f, "hosts of `{service}`"),
            Self::Removed { service } => write!(f, "`{service}` removed"),
        }
    }
}
