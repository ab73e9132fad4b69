//! `policy`: the largest step, drain, freezes.

use std::time::Duration;

use crate::file::problem::Problems;
use crate::file::read::{self, Fields};
use crate::file::shape;
use crate::file::tree::{Node, Value};
use crate::policy::{Freeze, Policy};
use crate::split::Split;

/// The policy; `None` where a part of it cannot be read.
pub(super) fn read(problems: &mut Problems, spec: &Fields<'_, '_>) -> Option<Policy> {
    let Some(node) = spec.get("policy") else { return Some(Policy::default()) };
    let fields = read::fields(problems, node, &shape::POLICY)?;
    let max_step = match fields.get("maxStep") {
        Some(node) => max_step(problems, node).map(Some),
        None => Some(None),
    };
    let drain = match fields.get("drain") {
        Some(node) => drain(problems, node),
        None => Some(None),
    };
    let nodes = fields.list(problems, "freeze");
    let freeze: Vec<Freeze> = nodes.iter().filter_map(|node| freeze(problems, node)).collect();
    (freeze.len() == nodes.len()).then_some(())?;
    Some(Policy { max_step: max_step?, freeze, drain: drain? })
}

fn max_step(problems: &mut Problems, node: &Node<'_>) -> Option<Split> {
    let split = read::percent(problems, node)?;
    if split == Split::LEGACY {
        let fix = "write 0.01% to 100%, or remove `maxStep`";
        problems.value(node, "with `maxStep` 0% nothing ever rises", fix);
        return None;
    }
    Some(split)
}

/// A length of time, or `none`.
fn drain(problems: &mut Problems, node: &Node<'_>) -> Option<Option<Duration>> {
    if matches!(&node.value, Value::Scalar(scalar) if &*scalar.text == "none") {
        return Some(None);
    }
    let bounds = Policy::DRAIN_MIN..=Policy::DRAIN_MAX;
    read::duration_or(problems, node, bounds, "none").map(Some)
}

fn freeze(problems: &mut Problems, node: &Node<'_>) -> Option<Freeze> {
    let fields = read::fields(problems, node, &shape::FREEZE)?;
    let cron = fields
        .get("cron")
        .and_then(|node| read::parsed(problems, node, "write it like `0 18 * * FRI`"));
    let lasts = fields.get("for").and_then(|node| {
        read::duration(problems, node, Duration::from_secs(1)..=Freeze::LASTS_MAX)
    });
    let tz = fields.get("tz").and_then(|node| {
        read::parsed(problems, node, "write an IANA name such as `Europe/Berlin` or `UTC`")
    });
    Some(Freeze { cron: cron?, lasts: lasts?, tz: tz? })
}
