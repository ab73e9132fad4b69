//! `--wait`: follows plans until what was committed has arrived, and shows how it arrives.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::time::Duration;

use plan::PlanName;
use plan::view::Status;
use tokio::time::Instant;

use super::send::Answered;
use super::{Context, Exit, Failure};
use crate::cli::{Output, page, tree};
use crate::client::{ClientError, Events};

/// Follows `plans` until each has converged on `answered`, for `limit` at the most.
pub(crate) async fn until_converged(
    plans: &[PlanName],
    answered: &Answered,
    limit: Duration,
    context: &Context,
) -> Result<(Exit, Vec<Status>), Failure> {
    // A deleted plan has nothing to wait for; neither has a command without a plan.
    let existing: Vec<PlanName> = existing(plans, context).await?;
    let deadline = Instant::now() + limit;
    let mut last = BTreeMap::new();
    let mut exit = Exit::Done;
    for plan in &existing {
        let follow = follow(plan, answered, context, &mut last);
        match tokio::time::timeout_at(deadline, follow).await {
            Ok(done) => done?,
            Err(_) => exit = Exit::NotConverged,
        }
    }
    let statuses: Vec<Status> = existing.iter().filter_map(|plan| last.remove(plan)).collect();
    if context.output == Output::Text {
        page::print(&summary(&statuses, exit, limit))?;
    }
    Ok((exit, statuses))
}

async fn existing(plans: &[PlanName], context: &Context) -> Result<Vec<PlanName>, Failure> {
    let mut existing = Vec::new();
    for plan in plans {
        match context.client.get::<Status>(&format!("/v1/plans/{plan}/status")).await {
            Ok(_) => existing.push(plan.clone()),
            Err(ClientError::Problem(problem)) if problem.status == 404 => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(existing)
}

async fn follow(
    plan: &PlanName,
    answered: &Answered,
    context: &Context,
    last: &mut BTreeMap<PlanName, Status>,
) -> Result<(), Failure> {
    let mut events: Events = context.client.events(&format!("/v1/watch?plan={plan}"), "").await?;
    let show = context.output == Output::Text && std::io::stdout().is_terminal();
    let mut shown = String::new();
    while let Some(event) = events.next().await? {
        let Ok(status) = serde_json::from_str::<Status>(&event.data) else { continue };
        let reached = status.head >= answered.token() && status.converged;
        let line =
            format!("  {plan}: {} of {} sinks have it", status.sinks.acked, status.sinks.expected);
        if show && line != shown {
            page::print(&format!("{line}\n"))?;
            shown = line;
        }
        last.insert(plan.clone(), status);
        if reached {
            return Ok(());
        }
    }
    Err(Failure::Failed(format!(
        "the controller stopped while waiting for {plan}; see: crossfade status {plan}"
    )))
}

/// Each service with its split; of many, how many are at each split.
fn services(status: &Status) -> String {
    const NAMED_MAX: usize = 8;
    if status.services.len() <= NAMED_MAX {
        let named = status.services.iter();
        let named = named.map(|s| format!("{} {}", s.name, tree::percent(s.split_bp)));
        return named.collect::<Vec<_>>().join(", ");
    }
    let mut counts: BTreeMap<u16, usize> = BTreeMap::new();
    for service in &status.services {
        *counts.entry(service.split_bp).or_default() += 1;
    }
    let (kinds, all) = (counts.len(), status.services.len());
    let mut parts: Vec<String> = counts
        .into_iter()
        .take(NAMED_MAX)
        .map(|(bp, count)| format!("{count} services at {}", tree::percent(bp)))
        .collect();
    if kinds > NAMED_MAX {
        parts.push(format!("others elsewhere, {all} in all"));
    }
    parts.join(", ")
}

fn summary(statuses: &[Status], exit: Exit, limit: Duration) -> String {
    let mut text = String::new();
    for status in statuses {
        let services = services(status);
        let arrived = if status.converged { "arrived everywhere" } else { "still on its way" };
        text.push_str(&format!("{}: {arrived} ({services})\n", status.plan));
        if let Some(until) = status.old_until {
            let at = tree::clock(until);
            text.push_str(&format!("  the last old DNS answer expires at {at}\n"));
        }
    }
    if exit == Exit::NotConverged {
        let names: Vec<&str> = statuses.iter().map(|status| status.plan.as_str()).collect();
        let (limit, names) = (tree::span(limit), names.join(" "));
        text.push_str(&format!("not converged within {limit}; see: crossfade status {names}\n"));
        for status in statuses.iter().filter(|status| !status.converged) {
            for hold in &status.holds {
                text.push_str(&format!("  {}\n", hold.detail));
            }
        }
    }
    text
}
