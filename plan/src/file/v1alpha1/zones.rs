//! `zones`: origins, where their text comes from, TTLs.

use std::collections::HashSet;
use std::time::Duration;

use super::Placed;
use crate::file::problem::Problems;
use crate::file::read::{self, Fields};
use crate::file::shape::{self, PATH_MAX};
use crate::file::tree::{Node, shown};
use crate::file::{TEXT_MAX, ZONE_TEXT_MAX, duration};
use crate::name::ZoneName;
use crate::spec::{Ttl, ZoneSource, ZoneSpec};

/// RFC 2181 section 8: a TTL has 31 bits.
const TTL_MAX: u32 = (1 << 31) - 1;

/// A zone as far as it could be read.
pub(super) struct Draft<'n, 't> {
    pub(super) name: Option<Placed<'n, 't, ZoneName>>,
    source: Option<ZoneSource>,
    ttl: Option<Ttl>,
}

impl Draft<'_, '_> {
    pub(super) fn finish(self) -> Option<ZoneSpec> {
        Some(ZoneSpec { name: self.name?.value, source: self.source?, ttl: self.ttl? })
    }
}

/// The zones; `bytes` is the length of the whole file.
pub(super) fn read<'n, 't>(
    problems: &mut Problems,
    spec: &Fields<'n, 't>,
    bytes: usize,
) -> Vec<Draft<'n, 't>> {
    let mut drafts: Vec<Draft<'n, 't>> = Vec::new();
    let mut names = HashSet::new();
    let (mut text_bytes, mut source_bytes) = (0, 0);
    for node in spec.list(problems, "zones") {
        let Some(fields) = read::fields(problems, node, &shape::ZONE) else { continue };
        let name = fields.get("name").and_then(|node| {
            let value: ZoneName = read::name(problems, node)?;
            if !names.insert(value.clone()) {
                problems.value(node, format!("zone `{value}.` is given twice"), "keep one of them");
            }
            Some(Placed { node, value })
        });
        if let Some(scalar) =
            fields.get("text").and_then(|node| read::scalar(&mut Problems::default(), node))
        {
            text_bytes += scalar.text.len();
            source_bytes += scalar.source_bytes;
        }
        drafts.push(Draft { name, source: source(problems, &fields), ttl: ttl(problems, &fields) });
    }
    if text_bytes > ZONE_TEXT_MAX {
        problems.value(
            spec.node,
            format!("the texts of the zones have {text_bytes} bytes, more than {ZONE_TEXT_MAX}"),
            "split the plan by zones",
        );
    }
    let rest = bytes.saturating_sub(source_bytes);
    if rest > TEXT_MAX {
        problems.value(
            spec.node,
            format!("the plan has {rest} bytes without its zone texts, more than {TEXT_MAX}"),
            "split it into several plans",
        );
    }
    drafts
}

fn source(problems: &mut Problems, zone: &Fields<'_, '_>) -> Option<ZoneSource> {
    match (zone.get("file"), zone.get("text")) {
        (None, None) => Some(ZoneSource::Own),
        (Some(_), Some(text)) => {
            problems.value(text, "the zone has both `file` and `text`", "keep one of them");
            None
        }
        (Some(node), None) => {
            let path = read::text(problems, node)?;
            if path.is_empty() || path.len() > PATH_MAX || path.contains('\0') {
                let problem = format!("`{}` is no path of a file", shown(path));
                problems.value(node, problem, format!("write 1 to {PATH_MAX} bytes"));
                return None;
            }
            Some(ZoneSource::File(path.to_owned()))
        }
        (None, Some(node)) => {
            let scalar = read::scalar(problems, node)?;
            if scalar.text.trim().is_empty() {
                let fix =
                    "write the zone file's text, or leave out `text` for an SOA and NS of its own";
                problems.value(node, "the zone's text is empty", fix);
                return None;
            }
            Some(ZoneSource::Text(scalar.text.to_arc()))
        }
    }
}

fn ttl(problems: &mut Problems, zone: &Fields<'_, '_>) -> Option<Ttl> {
    let default = Ttl::default();
    let Some(node) = zone.get("ttl") else { return Some(default) };
    let fields = read::fields(problems, node, &shape::TTL)?;
    let steady = match fields.get("steady") {
        Some(node) => seconds(problems, node)?,
        None => default.steady,
    };
    let Some(node) = fields.get("shifting") else {
        return Some(Ttl { steady, shifting: default.shifting.min(steady) });
    };
    let shifting = seconds(problems, node)?;
    if shifting > steady {
        problems.value(
            node,
            format!("the shifting TTL, {shifting}s, is above the steady one, {steady}s"),
            format!(
                "write {steady}s at most, so that old answers expire sooner while the plan moves"
            ),
        );
        return None;
    }
    Some(Ttl { steady, shifting })
}

/// A TTL: 1 to 2^31 - 1 whole seconds.
fn seconds(problems: &mut Problems, node: &Node<'_>) -> Option<u32> {
    let value = read::duration(problems, node, Duration::ZERO..=Duration::MAX)?;
    let seconds = u32::try_from(value.as_secs()).ok().filter(|s| (1..=TTL_MAX).contains(s));
    if value.subsec_nanos() != 0 || seconds.is_none() {
        let problem = format!("`{}` is no TTL", duration::text(value));
        problems.value(node, problem, format!("write whole seconds, 1s to {TTL_MAX}s"));
        return None;
    }
    seconds
}
