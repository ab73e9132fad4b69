//! `crossfade diff`: what applying a plan file would change, per plane.

use std::fmt::Write as _;

use hyper::Method;
use plan::view::Diff;
use plan::view::diff::{Change, FieldChange, Finding};

use super::{Context, Exit, Failure, files};
use crate::cli::paint::Paint;
use crate::cli::{Output, PlanFile, page, tree};

/// Asks the controller and prints.
pub(crate) async fn run(args: &PlanFile, context: &Context) -> Result<Exit, Failure> {
    let plan = files::plan(&args.file)?;
    let path = format!("/v1/plans/{}?dryRun=true", plan.name);
    let body = plan::file::write(&plan).to_string().into_bytes();
    let diff: Diff = context.client.send(Method::PUT, &path, &[], "application/json", body).await?;
    match context.output {
        Output::Json => page::json(&diff)?,
        Output::Text => page::print(&text(&diff, context.paint))?,
    }
    Ok(Exit::Done)
}

fn text(diff: &Diff, paint: Paint) -> String {
    let mut text = String::new();
    let head = match (diff.new, diff.changes) {
        (true, _) => "a new plan",
        (false, true) => "changes",
        (false, false) => "no change",
    };
    let _ = writeln!(text, "{}: {head}", paint.bold(diff.plan.as_str()));
    push_fields(&mut text, "  ", &diff.fields);
    for service in &diff.services {
        let split = tree::percent(service.split_bp);
        let what = format!("service {} (stays at {split})", service.name);
        let _ = writeln!(text, "{}", mark(service.change, &what, paint));
        push_fields(&mut text, "      ", &service.fields);
    }
    for step in &diff.steps {
        let (from, to) = (step.from.as_deref(), step.to.as_deref());
        let words = [from, to].into_iter().flatten().collect::<Vec<_>>().join(" → ");
        let _ = writeln!(
            text,
            "{}",
            mark(step.change, &format!("step {}: {words}", step.index), paint)
        );
    }
    push_planes(&mut text, diff, paint);
    push_findings(&mut text, &paint.warn("warning"), &diff.warnings);
    push_findings(&mut text, &paint.bad("refused"), &diff.refused);
    text
}

fn push_planes(text: &mut String, diff: &Diff, paint: Paint) {
    for (plane, change) in diff.planes.iter() {
        let nothing =
            change.zones.is_empty() && change.hosts.is_empty() && change.services.is_empty();
        if nothing {
            continue;
        }
        let _ = writeln!(text, "  {plane}");
        for zone in &change.zones {
            let _ =
                writeln!(text, "  {}", mark(zone.change, &format!("zone {}.", zone.zone), paint));
            push_fields(text, "        ", &zone.fields);
        }
        for host in &change.hosts {
            let ttl = format!("TTL {} s, {} s while moving", host.ttl_steady, host.ttl_shifting);
            let words = format!("{}. → {} ({ttl})", host.host, host.service);
            let _ = writeln!(text, "  {}", mark(host.change, &words, paint));
            for replaced in &host.replaces {
                let _ = writeln!(text, "        in place of {replaced}");
            }
            if !host.keeps.is_empty() {
                let _ = writeln!(text, "        as in the zone file: {}", host.keeps.join(", "));
            }
        }
        for service in &change.services {
            let _ = writeln!(text, "      {service} is rendered anew");
        }
    }
}

fn push_fields(text: &mut String, indent: &str, fields: &[FieldChange]) {
    for field in fields {
        let from = field.from.as_deref().unwrap_or("nothing");
        let to = field.to.as_deref().unwrap_or("nothing");
        let _ = writeln!(text, "{indent}{}: {from} → {to}", field.field);
    }
}

fn push_findings(text: &mut String, word: &str, findings: &[Finding]) {
    for finding in findings {
        let _ = writeln!(text, "  {word}: {}", finding.detail);
    }
}

fn mark(change: Change, words: &str, paint: Paint) -> String {
    match change {
        Change::Added => format!("  {}", paint.good(&format!("+ {words}"))),
        Change::Removed => format!("  {}", paint.bad(&format!("- {words}"))),
        Change::Changed => format!("  {}", paint.warn(&format!("~ {words}"))),
    }
}
