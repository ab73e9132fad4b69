//! Rows from findings: a function, without a look at the machine.

mod host;
mod kernel;
mod network;

use crate::journal::{Change, Key};

use super::findings::{Findings, Wishes};
use super::{Check, Row, Verdict};

/// Judges everything; one row a check, in order.
#[must_use]
pub fn judge(findings: &Findings, wishes: &Wishes) -> Vec<Row> {
    let mut rows = kernel::rows(findings);
    rows.extend(network::rows(findings));
    rows.extend(host::rows(findings, wishes));
    rows.sort_by_key(|row| row.check);
    rows
}

/// The gravest verdict; good where there is no row.
#[must_use]
pub fn worst(rows: &[Row]) -> Verdict {
    rows.iter().map(|row| row.verdict).max().unwrap_or(Verdict::Good)
}

/// What the rows chose to change on the host, for the journal to make, in order.
#[must_use]
pub fn chosen_changes(findings: &Findings) -> Vec<Change> {
    let mut settings = Vec::new();
    if findings.forwarding4.on == Some(false) {
        settings.push(("net.ipv4.ip_forward".to_owned(), "1"));
    }
    if findings.forwarding6.on == Some(false) {
        // First: the default route would be forgotten otherwise.
        for name in &findings.forwarding6.advertised {
            settings.push((format!("net/ipv6/conf/{name}/accept_ra"), "2"));
        }
        settings.push(("net.ipv6.conf.all.forwarding".to_owned(), "1"));
    }
    let change = |(key, value): (String, &str)| {
        let key = key.parse::<Key>().ok()?;
        Some(Change::Sysctl { key, value: value.to_owned() })
    };
    settings.into_iter().filter_map(change).collect()
}

/// A row with nothing to mend.
fn row(check: Check, verdict: Verdict, found: String, chosen: &str, why: &str) -> Row {
    Row { check, verdict, found, chosen: chosen.to_owned(), why: why.to_owned(), mend: None }
}

impl Row {
    fn mend(self, command: impl Into<String>) -> Self {
        Self { mend: Some(command.into()), ..self }
    }
}
