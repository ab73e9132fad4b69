//! `crossfade agent status`.

use std::fmt::Write as _;

use controller::clock::Clock;

use super::not_running;
use crate::cli::agent::Here;
use crate::cli::paint::Paint;
use crate::cli::{Output, page};
use crate::glass;
use crate::host::control::{self, Answer, Question, ServiceStatus, Status};
use crate::host::envoy::EnvoyStatus;
use crate::host::files;
use crate::verbs::{Context, Exit, Failure};

/// Asks the agent and prints.
pub(super) async fn run(args: &Here, context: &Context) -> Result<Exit, Failure> {
    let directory = files::directory(args.data.as_ref())?;
    match control::ask(&directory, &Question::Status).await? {
        Some(Answer::Status(status)) => {
            if context.output == Output::Json {
                page::json(&status)?;
            } else {
                page::print(&text(&status, context.paint))?;
            }
            Ok(Exit::Done)
        }
        Some(_) => Err(control::misunderstood("it answers something else")),
        None => Err(not_running(&directory)),
    }
}

fn text(status: &Status, paint: Paint) -> String {
    let mut text = String::new();
    let controller = match &status.controller {
        Some(address) => paint.good(address),
        None => {
            let why = status.away.as_ref().map_or_else(String::new, |why| format!(": {why}"));
            paint.warn(&format!("not reached; what was held stays in force{why}"))
        }
    };
    let token = status
        .token
        .map_or_else(|| "nothing held yet".to_owned(), |token| format!("token {token}"));
    let _ = writeln!(text, "{}  {}  {token}", paint.bold(&status.name), status.address);
    let _ = writeln!(text, "  controller  {controller}");
    if let Some(identity) = &status.identity {
        let trouble = identity
            .trouble
            .as_ref()
            .map_or_else(String::new, |trouble| format!("  {}", paint.bad(trouble)));
        let _ = writeln!(text, "  identity    {} until {}{trouble}", identity.id, identity.expires);
    }
    if let Some(end) = status.trial {
        let left = end.since(Clock::start().now()).as_secs();
        let words = format!("undoes itself in {left} s unless you say that all is well");
        let _ = writeln!(text, "  trial       {}", paint.warn(&words));
        let _ = writeln!(text, "          {}", paint.bold("crossfade agent confirm"));
    }
    let table = match (&status.broken, &status.table) {
        (Some(why), _) => paint.bad(why),
        (None, Some(kept)) => format!("in the kernel, {kept}"),
        (None, None) => "not in the kernel".to_owned(),
    };
    let _ = writeln!(text, "  rules       {table}");
    if let Some(names) = &status.names {
        let _ = writeln!(
            text,
            "  names       {} on {}: {} answered, {} relayed to {}, {} failed",
            names.names,
            names.listen.join(", "),
            names.answered,
            names.forwarded,
            names.upstreams.join(", "),
            names.failed
        );
    }
    if let Some(envoy) = &status.envoy {
        let _ = writeln!(text, "  envoy       {}", self::envoy(envoy, paint));
    }
    for service in &status.break_glass {
        let what = if service == glass::EVERY { "everything" } else { service };
        let words = format!("break-glass: {what} is on legacy here");
        let _ = writeln!(text, "  {}", paint.bad(&words));
        let _ = writeln!(text, "          {}", paint.bold("crossfade agent rollback --undo"));
    }
    for note in &status.notes {
        let _ = writeln!(text, "  {} {note}", paint.warn("note"));
    }
    text.extend(status.services.iter().map(|service| row(service, paint)));
    text
}

fn envoy(envoy: &EnvoyStatus, paint: Paint) -> String {
    let pid = envoy.pid.map_or_else(|| "no process".to_owned(), |pid| format!("process {pid}"));
    let since = envoy.since.map_or_else(String::new, |since| format!(" since {since}"));
    let trouble = envoy.trouble.as_deref().unwrap_or_default();
    let state = if envoy.well {
        paint.good(&format!("well{since}; it takes this VM's own calls"))
    } else {
        paint.bad(&format!("not well: {trouble}; this VM's own calls go without it"))
    };
    let ended = envoy.last_end.iter().zip(envoy.ended_at);
    let ended: String =
        ended.map(|(how, at)| format!("; the one before ended {at}: {how}")).collect();
    format!("{pid}, {state}{ended}")
}

fn row(service: &ServiceStatus, paint: Paint) -> String {
    let split = crate::cli::tree::percent(service.split_bp);
    let address = service.address.map_or_else(|| "names only".to_owned(), |ip| ip.to_string());
    let mut text = format!(
        "  {:<32} {address:<16} {split:>7}  {} flows to legacy, {} to target\n",
        service.service.to_string(),
        service.legacy,
        service.target
    );
    if service.stragglers > 0 {
        let from: Vec<&str> = service.networks.iter().take(3).map(String::as_str).collect();
        let words = format!("{} came to legacy and were forwarded", service.stragglers);
        let _ = writeln!(text, "    {} from {}", paint.warn(&words), from.join(", "));
    }
    text
}
