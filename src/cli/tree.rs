//! A status as people read it: a tree on a terminal, a line in a pipe.

use std::fmt::Write as _;
use std::time::Duration;

use plan::measure::{Basis, Share};
use plan::view::hold::Reason;
use plan::view::phase::Phase;
use plan::view::status::{PlaneStatus, ServiceStatus, Status};
use plan::{SinkId, Split, Timestamp};

use crate::cli::paint::Paint;

/// The most of a service's notes that are shown.
const NOTES_MAX: usize = 3;

/// The whole of a status. `passed` is how long ago it was computed.
pub(crate) fn tree(status: &Status, passed: Duration, paint: Paint) -> String {
    let mut text = head(status, passed, paint);
    let name_width = status.services.iter().map(|s| s.name.as_str().len()).max().unwrap_or(0);
    let rows = status.services.iter().map(|service| service_rows(service, name_width, paint));
    text.extend(rows);
    text.push_str(&sinks(status, paint));
    if let Some(until) = status.old_until {
        let _ = writeln!(text, "  old answers  the last one expires at {}", clock(until));
    }
    for hold in &status.holds {
        let reason = shown_reason(hold.reason);
        let detail = bake_left(status, passed)
            .filter(|_| hold.reason == Reason::Baking)
            .map_or_else(|| hold.detail.clone(), |left| format!("{} left", span(left)));
        let _ = write!(text, "  {} {reason}: {detail}", paint.warn("waiting"));
        match &hold.clear {
            Some(command) => {
                let _ = writeln!(text, "\n          {}", paint.bold(command));
            }
            None => text.push('\n'),
        }
    }
    for note in &status.notes {
        let _ = writeln!(text, "  {} {}: {}", paint.warn("warning"), note.code, note.detail);
    }
    if status.phase == Phase::Retired {
        text.push_str(&retired(status, paint));
    }
    text
}

/// What is left to do with a plan that was ended.
fn retired(status: &Status, paint: Paint) -> String {
    let here = status.services.iter().any(|service| service.planes.iter().next().is_some());
    let (words, verb) = if here {
        ("its names leave when the zone file answers the target; the lines for it:", "retire")
    } else {
        ("its names have left: the zone file answers them; to serve its zones no more:", "delete")
    };
    let command = paint.bold(&format!("crossfade {verb} {}", status.plan));
    format!("  next  {words}\n          {command}\n")
}

/// A status in one line: `plan phase revision=… step=… service=intended/acked/measured …`.
pub(crate) fn line(status: &Status) -> String {
    let mut text = format!("{} {} revision={}", status.plan, status.phase, status.revision);
    if let Some(step) = &status.step {
        let _ = write!(text, " step={}/{}", step.index, step.count);
    }
    let _ = write!(text, " converged={}", status.converged);
    for service in &status.services {
        for (plane, numbers) in service.planes.iter() {
            let acked = numbers.acked_bp.map_or_else(|| "-".to_owned(), percent);
            let measured = numbers.measured.as_ref().map_or_else(|| "-".to_owned(), share_bp);
            let intended = percent(numbers.intended_bp);
            let _ = write!(text, " {}.{plane}={intended}/{acked}/{measured}", service.name);
        }
    }
    let holds: Vec<String> = status.holds.iter().map(|hold| shown_reason(hold.reason)).collect();
    if !holds.is_empty() {
        let _ = write!(text, " holds={}", holds.join(","));
    }
    for note in &status.notes {
        let _ = write!(text, " warning={}", note.code);
    }
    text
}

fn head(status: &Status, passed: Duration, paint: Paint) -> String {
    let phase = match status.phase {
        Phase::Complete | Phase::Retired => paint.good(status.phase.as_str()),
        Phase::RolledBack | Phase::Held => paint.bad(status.phase.as_str()),
        Phase::Ready | Phase::Shifting | Phase::Baking | Phase::Paused => {
            paint.warn(status.phase.as_str())
        }
    };
    let mut text = format!("{}  {phase}", paint.bold(status.plan.as_str()));
    if let Some(step) = &status.step {
        let at = percent(step.split_bp);
        let _ = write!(text, "  step {} of {} ({at})", step.index, step.count);
    }
    let arrived = if status.converged { "arrived everywhere" } else { "on its way" };
    let _ = writeln!(text, "  {}", paint.dim(&format!("revision {}, {arrived}", status.revision)));
    if let Some(left) = bake_left(status, passed) {
        let bar = status.step.as_ref().map_or(0, |step| step.bake_seconds);
        let _ = writeln!(text, "  bake  {} {} left", progress(bar, left), span(left));
    }
    if let Some(next) = &status.next {
        let to = match next.index {
            Some(_) => format!("on to {}", percent(next.split_bp)),
            None => "complete".to_owned(),
        };
        let gates: Vec<&str> = next.gates.iter().map(|gate| gate.as_str()).collect();
        let gates =
            if gates.is_empty() { String::new() } else { format!(" after {}", gates.join(", ")) };
        let _ = writeln!(text, "  next  {to}{gates}");
    }
    text
}

fn service_rows(service: &ServiceStatus, width: usize, paint: Paint) -> String {
    let mut text = String::new();
    let split = percent(service.split_bp);
    let _ = write!(text, "  {:width$}  {split:>7}", service.name.as_str());
    if !service.degraded.is_empty() {
        let sides: Vec<String> = service.degraded.iter().map(ToString::to_string).collect();
        let words = format!("every {} endpoint fails", sides.join(" and "));
        let _ = write!(text, "  {}", paint.bad(&words));
    }
    text.push('\n');
    let planes: Vec<_> = service.planes.iter().collect();
    for (at, (plane, numbers)) in planes.iter().enumerate() {
        let branch = if at + 1 == planes.len() { "└─" } else { "├─" };
        let _ = writeln!(text, "  {branch} {plane:<5} {}", three_numbers(numbers, paint));
    }
    if let Some(seen) = &service.stragglers {
        let from: Vec<&str> = seen.networks.iter().take(3).map(|one| &*one.network).collect();
        let more = if seen.networks.len() > from.len() { ", …" } else { "" };
        let words = format!("{} connections came to legacy and were forwarded", seen.flows);
        let _ = writeln!(text, "     {} from {}{more}", paint.warn(&words), from.join(", "));
    }
    for note in service.notes.iter().take(NOTES_MAX) {
        let _ = writeln!(text, "     {}", paint.warn(&format!("{}: {}", note.sink, note.words)));
    }
    if let Some(more @ 1..) = service.notes.len().checked_sub(NOTES_MAX) {
        let _ = writeln!(text, "     and {more} more: -o json");
    }
    text
}

fn three_numbers(numbers: &PlaneStatus, paint: Paint) -> String {
    let intended = percent(numbers.intended_bp);
    let acked = match numbers.acked_bp {
        Some(bp) if bp == numbers.intended_bp => paint.good(&format!("{:>7}", percent(bp))),
        Some(bp) => paint.warn(&format!("{:>7}", percent(bp))),
        None => paint.warn("   none"),
    };
    let measured = numbers.measured.as_ref().map_or_else(|| "nothing yet".to_owned(), share);
    format!("intended {intended:>7}   acked {acked}   measured {measured}")
}

fn share(share: &Share) -> String {
    format!(
        "{} ({} to {}, {} {})",
        percent(share.bp),
        percent(share.low_bp),
        percent(share.high_bp),
        share.samples,
        match share.basis {
            Basis::Answers => "clients by their answers",
            Basis::Requests => "requests",
            Basis::Connections => "connections",
        }
    ) + &errors(share)
}

/// What failed on each side, where that is counted.
fn errors(share: &Share) -> String {
    let (Some(legacy), Some(target)) = (&share.legacy, &share.target) else {
        return String::new();
    };
    format!("   errors legacy {}, target {}", legacy.errors, target.errors)
}

fn share_bp(share: &Share) -> String {
    percent(share.bp)
}

fn sinks(status: &Status, paint: Paint) -> String {
    let sinks = &status.sinks;
    let mut text = format!("  sinks  {} of {} acked", sinks.acked, sinks.expected);
    for (word, ids, count) in
        [("lagging", &sinks.lagging, sinks.lagging_count), ("away", &sinks.away, sinks.away_count)]
    {
        if !ids.is_empty() {
            let _ = write!(text, "  {}", paint.warn(&format!("{word}: {}", named(ids, count))));
        }
    }
    text.push('\n');
    text
}

/// The first names of so many; a tree has room for a few.
fn named(ids: &[SinkId], count: u32) -> String {
    const NAMES_MAX: usize = 10;
    let names: Vec<&str> = ids.iter().take(NAMES_MAX).map(SinkId::as_str).collect();
    let more = usize::try_from(count).unwrap_or(usize::MAX).saturating_sub(names.len());
    let rest = if more == 0 { String::new() } else { format!(" and {more} more") };
    format!("{}{rest}", names.join(", "))
}

fn bake_left(status: &Status, passed: Duration) -> Option<Duration> {
    let step = status.step.as_ref().filter(|_| status.phase == Phase::Baking)?;
    let baked = Duration::from_secs(step.baked_seconds).saturating_add(passed);
    Some(Duration::from_secs(step.bake_seconds).saturating_sub(baked))
}

fn progress(whole: u64, left: Duration) -> String {
    const CELLS: u64 = 20;
    let done = whole.saturating_sub(left.as_secs());
    let full = (done * CELLS).checked_div(whole).unwrap_or(CELLS).min(CELLS);
    let cells = |n: u64, cell: &str| cell.repeat(usize::try_from(n).unwrap_or(0));
    format!("{}{}", cells(full, "█"), cells(CELLS - full, "░"))
}

/// Basis points as a percentage; what is over 10 000 never comes from a controller.
pub(crate) fn percent(bp: u16) -> String {
    Split::from_bp(bp).map_or_else(|| format!("{bp} bp"), |split| split.to_string())
}

/// `1h 30m`, `12m 5s`, `40s`.
pub(crate) fn span(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) => format!("{rest}s"),
        (0, _) => format!("{minutes}m {rest}s"),
        _ => format!("{hours}h {minutes}m"),
    }
}

/// The time of day in UTC, to the second.
pub(crate) fn clock(moment: Timestamp) -> String {
    let text = Timestamp::from_millis(moment.millis() / 1000 * 1000).to_string();
    text.replace('T', " ").replace('Z', " UTC")
}

fn shown_reason(reason: Reason) -> String {
    match serde_json::to_value(reason) {
        Ok(serde_json::Value::String(word)) => word,
        _ => format!("{reason:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn baking() -> Status {
        let golden = include_str!("../../plan/tests/golden/status.json");
        serde_json::from_str(golden).unwrap()
    }

    #[test]
    fn a_status_as_a_tree() {
        let text = tree(&baking(), Duration::from_secs(1), Paint::plain());
        let expected = "\
shop  baking  step 2 of 6 (10%)  revision 4, arrived everywhere
  bake  ██████████░░░░░░░░░░ 5s left
  next  on to 25%
  orders        10%
  └─ dns   intended     10%   acked     10%   \
measured 10.13% (9.29% to 11.02%, 4711 clients by their answers)
  payments      10%
  └─ dns   intended     10%   acked     10%   measured nothing yet
  sinks  1 of 1 acked
  old answers  the last one expires at 2026-01-01 00:01:15 UTC
  waiting baking: 5s left
          crossfade step shop
";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_status_as_a_line() {
        assert_eq!(
            line(&baking()),
            "shop baking revision=4 step=2/6 converged=true orders.dns=10%/10%/10.13% \
             payments.dns=10%/10%/- holds=baking"
        );
    }

    #[test]
    fn spans() {
        for (seconds, text) in [(40, "40s"), (725, "12m 5s"), (5400, "1h 30m")] {
            assert_eq!(span(Duration::from_secs(seconds)), text);
        }
    }
}
