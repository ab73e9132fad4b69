//! The verbs that run a plan: `start`, `step`, `pause`, `resume`, `approve`, `retire`, `delete`.

use hyper::Method;
use plan::Split;
use plan::view::Status;
use serde_json::json;

use super::{Context, Exit, Failure, send, subject};
use crate::cli::{Approve, Change, How, OptionalPlan, Output, RequiredPlan, Step, page, tree};

/// `start`, `pause` and `resume`: a plan and nothing else.
pub(crate) async fn plan_verb(
    verb: &str,
    args: Change<OptionalPlan>,
    context: &Context,
) -> Result<Exit, Failure> {
    let plan = subject::plan(args.what.plan, verb, context).await?;
    let path = format!("/v1/plans/{plan}/{verb}");
    send::post(&path, json!({}), &args.how, &format!("{verb} {plan}"), context).await
}

/// `step`: ends the bake of this step.
pub(crate) async fn step(args: Change<Step>, context: &Context) -> Result<Exit, Failure> {
    let plan = subject::plan(args.what.plan, "step", context).await?;
    let body = json!({ "override": send::overrides(&args.what.overrides) });
    let path = format!("/v1/plans/{plan}/step");
    send::post(&path, body, &args.how, &format!("step {plan}"), context).await
}

/// `approve`: a manual gate, by name.
pub(crate) async fn approve(args: Change<Approve>, context: &Context) -> Result<Exit, Failure> {
    let Approve { plan, gate } = args.what;
    let words = format!("approve {gate} of {plan}");
    let path = format!("/v1/plans/{plan}/approve");
    send::post(&path, json!({ "gate": gate }), &args.how, &words, context).await
}

/// `retire`: ends a complete plan; the answer prints the zone lines to add.
pub(crate) async fn retire(args: Change<RequiredPlan>, context: &Context) -> Result<Exit, Failure> {
    let plan = args.what.plan;
    let path = format!("/v1/plans/{plan}/retire");
    if context.output == Output::Text {
        let status: Status = context.client.get(&format!("/v1/plans/{plan}/status")).await?;
        page::print(&still_at_legacy(&status))?;
    }
    let body = json!({ "reason": args.how.reason }).to_string().into_bytes();
    let json = "application/json";
    let answered = send::change(Method::POST, &path, json, body, &args.how, context).await?;
    let exit = send::finish(&answered, &args.how, &format!("retire {plan}"), context).await?;
    if context.output == Output::Text && !answered.notes().is_empty() {
        page::print(
            "next: put the lines above into the zone file in place of what it has for these \
             names, then: crossfade reload\n\
             the names leave the plan once the file answers the target\n",
        )?;
    }
    Ok(exit)
}

/// What was measured to arrive at legacy still, service by service.
fn still_at_legacy(status: &Status) -> String {
    let mut text = String::from("still at legacy:\n");
    for service in &status.services {
        for (plane, numbers) in service.planes.iter() {
            let share = numbers.measured.as_ref().map_or_else(
                || "nothing was measured".to_owned(),
                |share| {
                    let legacy = Split::WHOLE.saturating_sub(share.bp);
                    format!("{} of {} clients", tree::percent(legacy), share.samples)
                },
            );
            text.push_str(&format!("  {} {plane}: {share}\n", service.name));
        }
    }
    if let Some(until) = status.old_until {
        let at = tree::clock(until);
        text.push_str(&format!("  the last old DNS answer expires at {at}\n"));
    }
    text
}

/// `delete`: forgets a plan that is retired, or ready at 0 %.
pub(crate) async fn delete(args: Change<RequiredPlan>, context: &Context) -> Result<Exit, Failure> {
    let plan = args.what.plan;
    let path = format!("/v1/plans/{plan}{}", send::reason_query(&args.how));
    let answered = context.client.delete(&path, &send::headers(&args.how)).await?;
    // Nothing is left to arrive.
    let how = How { no_wait: true, ..args.how };
    let exit = send::finish(&answered, &how, &format!("delete {plan}"), context).await?;
    if context.output == Output::Text {
        page::print("  its zones are no longer served here\n")?;
    }
    Ok(exit)
}
