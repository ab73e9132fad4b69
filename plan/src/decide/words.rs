//! Refusals in words, and the commands that clear them.

use std::fmt;

use super::refused::{Change, Phase, Refused, Verb};

/// The command line that clears a refusal.
pub(super) fn clear(refused: &Refused) -> Option<String> {
    Some(match refused {
        Refused::UnknownPlan { near, .. } if near.is_empty() => "crossfade plans".to_owned(),
        Refused::UnknownService { service, .. } => format!("crossfade status {}", service.plan),
        Refused::UnknownGate { plan, .. } => format!("crossfade status {plan}"),
        Refused::Stale { plan, current, .. } if *current > 0 => format!("crossfade status {plan}"),
        Refused::RevisionNeeded { plan, current } => {
            format!("crossfade resume {plan} --if-revision {current}")
        }
        Refused::Phase { .. } => return clear_phase(refused),
        Refused::Acks { .. } => "crossfade sinks".to_owned(),
        Refused::Gate { plan, gate, .. } => format!("crossfade approve {plan} {gate}"),
        Refused::MaxStep { service, allowed, .. }
        | Refused::After { service, allowed, .. }
        | Refused::AfterBroken { service, allowed, .. } => {
            format!("crossfade shift {service} {allowed}")
        }
        Refused::HostTaken { by: plan, .. }
        | Refused::ZoneTaken { by: plan, .. }
        | Refused::ZoneHides { other: plan, .. } => format!("crossfade get {plan}"),
        Refused::TooManyPlans { .. } => "crossfade plans".to_owned(),
        Refused::UnknownPlan { .. }
        | Refused::UnknownZone { .. }
        | Refused::Stale { .. }
        | Refused::KeyReused { .. }
        | Refused::Freeze { .. }
        | Refused::ReasonNeeded { .. }
        | Refused::WouldMove { .. }
        | Refused::ZoneText { .. }
        | Refused::NotDue { .. } => return None,
    })
}

fn clear_phase(refused: &Refused) -> Option<String> {
    let Refused::Phase { plan, verb, mode, revision } = refused else { return None };
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

/// What is wrong, and what would be allowed.
pub(super) fn say(refused: &Refused, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match refused {
        Refused::UnknownPlan { plan, near } => unknown(f, "plan", plan, near),
        Refused::UnknownService { service, near } => {
            let kind = format!("service in plan `{}`", service.plan);
            unknown(f, &kind, &service.service, near)
        }
        Refused::UnknownGate { plan, gate, near } => {
            unknown(f, &format!("gate in plan `{plan}`"), gate, near)
        }
        Refused::UnknownZone { plan, zone } => {
            write!(f, "there is no zone `{zone}` in plan `{plan}`")
        }
        Refused::Stale { plan, given, current: 0 } => {
            write!(f, "there is no plan `{plan}` yet, so it cannot be at revision {given}")
        }
        Refused::Stale { plan, given, current } => {
            write!(f, "plan `{plan}` is at revision {current}, not {given}: it was changed since")
        }
        Refused::RevisionNeeded { plan, current } => write!(
            f,
            "plan `{plan}` was rolled back; `resume` must name its revision, which is {current}"
        ),
        Refused::KeyReused { key } => write!(
            f,
            "the idempotency key `{}` was used for another command; use a new one",
            key.as_str()
        ),
        Refused::Phase { plan, verb, mode, .. } => say_phase(f, plan, *verb, *mode),
        Refused::ReasonNeeded { overrides, .. } => {
            let names: Vec<_> = overrides.iter().map(ToString::to_string).collect();
            write!(f, "overriding {} needs a reason: add `--reason TEXT`", names.join(", "))
        }
        Refused::TooManyPlans { limit } => {
            write!(f, "there are {limit} plans already, which is the limit; delete one first")
        }
        Refused::NotDue { plan } => write!(f, "plan `{plan}` has nothing to do by itself now"),
        Refused::Acks { .. }
        | Refused::Gate { .. }
        | Refused::Freeze { .. }
        | Refused::MaxStep { .. }
        | Refused::After { .. } => say_limit(refused, f),
        Refused::WouldMove { .. }
        | Refused::AfterBroken { .. }
        | Refused::HostTaken { .. }
        | Refused::ZoneTaken { .. }
        | Refused::ZoneHides { .. }
        | Refused::ZoneText { .. } => say_edit(refused, f),
    }
}

fn unknown<N: fmt::Display>(
    f: &mut fmt::Formatter<'_>,
    kind: &str,
    name: &dyn fmt::Display,
    near: &[N],
) -> fmt::Result {
    write!(f, "there is no {kind} called `{name}`")?;
    let near: Vec<_> = near.iter().map(|name| format!("`{name}`")).collect();
    if near.is_empty() { Ok(()) } else { write!(f, "; did you mean {}?", near.join(" or ")) }
}

fn say_phase(
    f: &mut fmt::Formatter<'_>,
    plan: &dyn fmt::Display,
    verb: Verb,
    mode: Phase,
) -> fmt::Result {
    write!(f, "plan `{plan}` is {mode}; ")?;
    f.write_str(match (verb, mode) {
        (Verb::Shift | Verb::Start | Verb::Step, Phase::RolledBack) => {
            "nothing rises before a `resume` that names its revision"
        }
        (Verb::Start, Phase::Retired) | (Verb::Resume | Verb::Step, Phase::Retired) => {
            "a retired plan goes nowhere"
        }
        (Verb::Start, _) => "`start` is for a plan that is ready",
        (Verb::Step, _) => "`step` is for a plan that is taking its steps",
        (Verb::Resume, _) => "there is nothing to resume",
        (Verb::Retire, _) => "`retire` is for a plan that is complete",
        (Verb::Delete, _) => "`delete` is for a plan that is retired, or ready at 0%",
        (Verb::Apply, _) => "only its zones' texts may change now",
        (Verb::Shift | Verb::Pause | Verb::Rollback, _) => {
            "its clients are on target for good, and nothing moves"
        }
    })
}

fn say_limit(refused: &Refused, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match refused {
        Refused::Acks { plan, overridable: true } => write!(
            f,
            "not every sink has applied what plan `{plan}` has committed; wait for them, or \
             `--override acks --reason TEXT`"
        ),
        Refused::Acks { plan, .. } => write!(
            f,
            "not every sink has applied what plan `{plan}` has committed; it is not complete \
             before they have, or are forgotten"
        ),
        Refused::Gate { plan, gate, approved, needed } => write!(
            f,
            "gate `{gate}` of plan `{plan}` has {approved} of {needed} approvals; approve it, or \
             `--override {gate} --reason TEXT`"
        ),
        Refused::Freeze { plan, window, until } => write!(
            f,
            "plan `{plan}` is frozen until {until} (`{window}`): nothing rises before, lowering is \
             allowed; or `--override freeze --reason TEXT`"
        ),
        Refused::MaxStep { service, from, to, allowed } => write!(
            f,
            "`{service}` would rise from {from} to {to} at once; maxStep allows {allowed}; or \
             `--override max-step --reason TEXT`"
        ),
        Refused::After { service, after, allowed } => {
            write!(f, "`{service}` comes after `{after}`, so its split is at most {allowed} now")
        }
        _ => Ok(()),
    }
}

fn say_edit(refused: &Refused, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match refused {
        Refused::WouldMove { plan, changes } => {
            let changes: Vec<_> = changes.iter().map(ToString::to_string).collect();
            write!(
                f,
                "plan `{plan}` has clients on target, so this would move clients unasked: {}; it is \
                 allowed at 0%",
                changes.join(", ")
            )
        }
        Refused::AfterBroken { service, after, .. } => {
            write!(f, "`{service}` cannot come after `{after}`: its split is above that one's now")
        }
        Refused::HostTaken { host, by } => write!(f, "host `{host}` belongs to plan `{by}`"),
        Refused::ZoneTaken { zone, by } => write!(f, "zone `{zone}` belongs to plan `{by}`"),
        Refused::ZoneHides { zone, host, other } => {
            write!(f, "zone `{zone}` would hide host `{host}`; the other plan is `{other}`")
        }
        Refused::ZoneText { zone } => {
            write!(f, "the text of zone `{zone}` was not stored; send it with the plan")
        }
        _ => Ok(()),
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
