//! The plan file: text in, a [`Plan`] or every problem out; and back.
//!
//! What is built nowhere yet is refused by name, never accepted and ignored. Zones may nest: a host
//! belongs to the longest origin that fits.

pub mod duration;
mod nearest;
mod problem;
mod read;
mod schema;
mod shape;
#[cfg(test)]
mod tests;
mod tree;
mod v1alpha1;
mod write;

use crate::spec::Plan;

pub(crate) use self::nearest::distance;
pub use self::nearest::nearest;
pub use self::problem::{PROBLEMS_MAX, Problem};
pub use self::schema::schema;
pub use self::shape::{
    ADDRESSES_MAX, AFTER_MAX, APPROVERS_MAX, ENDPOINTS_MAX, ENTRIES_MAX, FREEZES_MAX, GATES_MAX,
    GATEWAYS_MAX, HOPS_MAX, HOSTS_MAX, NETWORKS_MAX, PATH_MAX, PORTS_MAX, RESOLVERS_MAX, ROWS_MAX,
    SALT_MAX, SERVICES_MAX, STEPS_MAX, ZONES_MAX,
};
pub use self::write::write;

/// The most bytes of a plan file without the texts of its zones: 20 000 services of 800 bytes.
pub const TEXT_MAX: usize = 16 << 20;

/// The most bytes that the texts of a plan's zones have together: a zone of some three million
/// records.
pub const ZONE_TEXT_MAX: usize = 256 << 20;

/// The most bytes that are looked at: zone texts may be written with escapes or deep indentation.
pub const FILE_MAX: usize = TEXT_MAX + 2 * ZONE_TEXT_MAX;

/// The plan of a text in YAML, and so in JSON.
///
/// ```
/// let text = "
/// apiVersion: crossfade.dev/v1alpha1
/// kind: CutoverPlan
/// metadata: { name: shop }
/// spec:
///   zones: [{ name: corp.example. }]
///   services:
///     - name: orders
///       hosts: [orders.corp.example]
///       ports: [{ name: http, port: 8080, protocol: http }]
///       legacy: { endpoints: [10.0.1.11] }
///       target: { endpoints: [10.9.1.21] }
///   steps: [{ split: 25%, bake: 1h }, { split: 100%, bake: 24h }]
/// ";
/// let plan = plan::check(text).expect("the text is right");
/// assert_eq!(plan.services[0].name.as_str(), "orders");
///
/// let problems = plan::check(&text.replace("25%", "25")).unwrap_err();
/// assert_eq!(
///     problems[0].to_string(),
///     "line 13: spec.steps[0].split: `25` has no `%`; write `25%`",
/// );
/// ```
///
/// # Errors
/// Every problem of the text, in its order; at most [`PROBLEMS_MAX`] of them and one that says that
/// there are more. Never empty.
pub fn check(text: &str) -> Result<Plan, Vec<Problem>> {
    if text.len() > FILE_MAX {
        return Err(vec![Problem::at(
            tree::Mark { line: 1, column: 1 },
            format!("the file has {} bytes, more than {FILE_MAX}", text.len()),
            "split it into several plans",
        )]);
    }
    let text = tree::without_surrogates(text);
    let (root, problems) = tree::read(&text)?;
    v1alpha1::plan(&root, problems, text.len())
}

/// The plan of bytes that should be UTF-8.
///
/// # Errors
/// As [`check`]; and the place of the first byte that is no UTF-8.
pub fn check_bytes(bytes: &[u8]) -> Result<Plan, Vec<Problem>> {
    let error = match std::str::from_utf8(bytes) {
        Ok(text) => return check(text),
        Err(error) => error,
    };
    let good = bytes.get(..error.valid_up_to()).unwrap_or_default();
    let good = String::from_utf8_lossy(good);
    let line = good.bytes().filter(|byte| *byte == b'\n').count() + 1;
    let column = good.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    let clamp = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    Err(vec![Problem::at(
        tree::Mark { line: clamp(line), column: clamp(column) },
        format!("byte {} of the file is no UTF-8", error.valid_up_to() + 1),
        "save the file as UTF-8",
    )])
}
