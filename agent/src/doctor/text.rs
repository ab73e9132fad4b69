//! Rows for people.

use std::fmt::Write as _;

use super::{Row, Verdict};

/// One line a row, with the reason and the command below those that are not good.
#[must_use]
pub fn table(rows: &[Row]) -> String {
    let width = rows.iter().map(|row| name(row).len()).max().unwrap_or_default();
    let mut text = String::new();
    for row in rows {
        let word = match row.verdict {
            Verdict::Good => "good",
            Verdict::Note => "note",
            Verdict::Warn => "WARN",
            Verdict::Fail => "FAIL",
        };
        let _ = writeln!(text, "{word}  {:width$}  {}", name(row), row.found);
        if row.verdict == Verdict::Good {
            continue;
        }
        let indent = " ".repeat(width + 8);
        let _ = writeln!(text, "{indent}chosen: {}", row.chosen);
        let _ = writeln!(text, "{indent}why: {}", row.why);
        if let Some(mend) = &row.mend {
            let _ = writeln!(text, "{indent}mend: {mend}");
        }
    }
    text
}

/// As it is in JSON, too.
fn name(row: &Row) -> String {
    let value = serde_json::to_value(row.check).ok();
    value.and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}
