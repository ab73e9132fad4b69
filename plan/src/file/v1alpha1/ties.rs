//! Rules that tie parts of the file together.

use std::collections::{HashMap, HashSet};

use super::Placed;
use super::services::Draft as Service;
use super::steps::{Draft as Step, GateDraft};
use super::zones::Draft as Zone;
use crate::command::Override;
use crate::file::nearest::nearest;
use crate::file::problem::Problems;
use crate::file::read::Fields;
use crate::name::{GateName, HostName};
use crate::policy::Policy;
use crate::spec::Strategy;
use crate::split::Split;

/// Every host stands once, and inside a zone.
///
/// Zones may nest: a host belongs to the longest origin that fits, as in DNS.
pub(super) fn hosts(problems: &mut Problems, zones: &[Zone<'_, '_>], services: &[Service<'_, '_>]) {
    let origins: HashSet<&str> =
        zones.iter().filter_map(|zone| Some(zone.name.as_ref()?.value.as_str())).collect();
    let all_known = zones.iter().all(|zone| zone.name.is_some()) && !zones.is_empty();
    let mut lines: HashMap<&HostName, u32> = HashMap::new();
    for Placed { node, value: host } in services.iter().flat_map(|service| &service.hosts) {
        if let Some(line) = lines.insert(host, node.mark.line) {
            let problem = format!("host `{host}` stands in line {line} already");
            problems.value(node, problem, "give each host to one service");
        }
        if all_known && !suffixes(host.as_str()).any(|suffix| origins.contains(suffix)) {
            let fix = match nearest(host.as_str(), suffixes(host.as_str())) {
                Some(_) | None if origins.len() == 1 => {
                    let origin = origins.iter().next().copied().unwrap_or_default();
                    format!("write a name under `{origin}`, or add its zone to `zones`")
                }
                Some(_) | None => "add its zone to `zones`".to_owned(),
            };
            problems.value(node, format!("host `{host}` is in no zone of this plan"), fix);
        }
    }
}

/// The name and its parents: `a.b.c`, `b.c`, `c`.
fn suffixes(name: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(name), |name| name.split_once('.').map(|(_, parent)| parent))
}

/// `after` names other services of the plan, each once, in no circle.
pub(super) fn after(problems: &mut Problems, services: &[Service<'_, '_>]) {
    let mut places: HashMap<&str, usize> = HashMap::new();
    for (at, service) in services.iter().enumerate() {
        if let Some(name) = &service.name {
            places.entry(name.value.as_str()).or_insert(at);
        }
    }
    let mut edges: Vec<Vec<usize>> = Vec::with_capacity(services.len());
    for (at, service) in services.iter().enumerate() {
        let mut known = Vec::new();
        for Placed { node, value } in &service.after {
            match places.get(value.as_str()) {
                Some(other) if *other == at => {
                    let problem = format!("service `{value}` comes after itself");
                    problems.value(node, problem, "remove it here");
                }
                Some(other) if known.contains(other) => {
                    problems.value(node, format!("`{value}` is named twice"), "keep one of them");
                }
                Some(other) => known.push(*other),
                None => {
                    let fix = nearest(value.as_str(), places.keys().copied()).map_or_else(
                        || "name a service of this plan".to_owned(),
                        |meant| format!("did you mean `{meant}`?"),
                    );
                    problems.value(node, format!("no service is called `{value}`"), fix);
                }
            }
        }
        edges.push(known);
    }
    for circle in circles(&edges) {
        tell_circle(problems, services, &circle);
    }
}

/// How far the search for circles is with a service.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Seen {
    Not,
    OnPath,
    Done,
}

/// At least one circle of every knot, each as the services along it. Depth first, without
/// recursion: 20 000 services may stand in one line.
fn circles(edges: &[Vec<usize>]) -> Vec<Vec<usize>> {
    let mut seen = vec![Seen::Not; edges.len()];
    let mut circles = Vec::new();
    for start in 0..edges.len() {
        if seen.get(start) != Some(&Seen::Not) {
            continue;
        }
        let mut path: Vec<(usize, usize)> = vec![(start, 0)];
        mark(&mut seen, start, Seen::OnPath);
        while let Some((at, tried)) = path.last_mut() {
            let next = edges.get(*at).and_then(|next| next.get(*tried)).copied();
            *tried += 1;
            let Some(next) = next else {
                mark(&mut seen, *at, Seen::Done);
                path.pop();
                continue;
            };
            match seen.get(next) {
                Some(Seen::Not) => {
                    mark(&mut seen, next, Seen::OnPath);
                    path.push((next, 0));
                }
                Some(Seen::OnPath) => {
                    let circle = path.iter().map(|(at, _)| *at).skip_while(|at| *at != next);
                    circles.push(circle.collect());
                }
                Some(Seen::Done) | None => {}
            }
        }
    }
    circles
}

fn mark(seen: &mut [Seen], at: usize, as_what: Seen) {
    if let Some(place) = seen.get_mut(at) {
        *place = as_what;
    }
}

fn tell_circle(problems: &mut Problems, services: &[Service<'_, '_>], circle: &[usize]) {
    /// Longer circles are cut in the middle of their names.
    const NAMES_MAX: usize = 20;
    let named = circle.iter().filter_map(|at| services.get(*at));
    let names: Vec<&str> =
        named.filter_map(|service| Some(service.name.as_ref()?.value.as_str())).collect();
    let Some(first) = names.first() else { return };
    let mut way = names.iter().take(NAMES_MAX).copied().collect::<Vec<_>>().join(" after ");
    if names.len() > NAMES_MAX {
        way.push_str(" after …");
    }
    // Told where the circle closes: at the last service's reference to the first.
    let last = circle.last().and_then(|at| services.get(*at));
    let closes =
        last.and_then(|last| last.after.iter().find(|after| after.value.as_str() == *first));
    if let Some(closes) = closes {
        let problem = format!("services come after one another in a circle: {way} after {first}");
        problems.value(closes.node, problem, "remove one `after` of the circle");
    }
}

/// Splits rise to 100 %, by `maxStep` at most; `whole` has the one step.
pub(super) fn steps(
    problems: &mut Problems,
    spec: &Fields<'_, '_>,
    strategy: Strategy,
    steps: &[Step<'_, '_>],
    policy: Option<&Policy>,
) {
    let mut before = Split::LEGACY;
    for Placed { node, value: split } in steps.iter().filter_map(|step| step.split.as_ref()) {
        if *split <= before {
            let problem = format!("the step to {split} does not rise above {before}");
            problems.value(node, problem, format!("write more than {before}"));
        } else if let Some(most) = policy.and_then(|policy| policy.max_step)
            && split.distance(before) > most.bp()
        {
            let limit = before.bp().saturating_add(most.bp()).min(Split::WHOLE);
            let limit = Split::from_bp(limit).unwrap_or(Split::TARGET);
            problems.value(
                node,
                format!("the step from {before} to {split} rises by more than `maxStep`, {most}"),
                format!("write {limit} at most here, with steps between, or raise `maxStep`"),
            );
        }
        before = *split;
    }
    let Some(last) = steps.last() else { return };
    let whole = strategy == Strategy::Whole;
    if whole && steps.len() > 1 {
        let node = spec.get("steps").unwrap_or(last.node);
        let problem = format!("strategy `whole` has one step, not {}", steps.len());
        problems.value(node, problem, "keep the step to 100%, or write `strategy: gradual`");
    }
    if let Some(Placed { node, value }) = last.split.as_ref().filter(|s| s.value != Split::TARGET) {
        let problem = format!("the last step goes to {value}");
        let fix = if whole { "write 100%" } else { "add a step to 100%" };
        problems.value(node, problem, fix);
    }
}

/// Steps name gates of the plan; every gate is named by a step.
pub(super) fn gates(problems: &mut Problems, gates: &[GateDraft<'_, '_>], steps: &[Step<'_, '_>]) {
    let names: HashSet<&GateName> =
        gates.iter().filter_map(|gate| Some(&gate.name.as_ref()?.value)).collect();
    let mut used = HashSet::new();
    for Placed { node, value } in steps.iter().flat_map(|step| &step.gates) {
        used.insert(value);
        if !names.contains(value) {
            let fix = nearest(value.as_str(), names.iter().map(|name| name.as_str())).map_or_else(
                || format!("add a gate `{value}` to `gates`"),
                |meant| format!("did you mean `{meant}`?"),
            );
            problems.value(node, format!("no gate is called `{value}`"), fix);
        }
    }
    for Placed { node, value } in gates.iter().filter_map(|gate| gate.name.as_ref()) {
        if !matches!(value.as_str().parse(), Ok(Override::Gate(_))) {
            let problem = format!("`--override {value}` means another limit than this gate");
            problems.value(node, problem, "give the gate another name");
        }
        if !used.contains(value) {
            let problem = format!("no step waits for gate `{value}`");
            problems.value(node, problem, "name it in a step's `gates`, or remove it");
        }
    }
}
