//! The verbs that run a plan: `start`, `step`, `pause`, `resume`, `approve`, `retire`, `delete`.

use serde_json::json;

use super::{Context, Exit, Failure, send, subject};
use crate::cli::{Approve, Change, How, OptionalPlan, Overrides, RequiredPlan, Step};

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
    let body = json!({ "override": overrides(&args.what.overrides) });
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
    send::post(&path, json!({}), &args.how, &format!("retire {plan}"), context).await
}

/// `delete`: forgets a plan that is retired, or ready at 0 %.
pub(crate) async fn delete(args: Change<RequiredPlan>, context: &Context) -> Result<Exit, Failure> {
    let plan = args.what.plan;
    let path = format!("/v1/plans/{plan}{}", send::reason_query(&args.how));
    let answered = context.client.delete(&path, &send::headers(&args.how)).await?;
    // Nothing is left to arrive.
    let how = How { no_wait: true, ..args.how };
    send::finish(&answered, &how, &format!("delete {plan}"), context).await
}

/// The limits to override, as the API takes them.
pub(crate) fn overrides(overrides: &Overrides) -> Vec<String> {
    overrides.overrides.iter().map(ToString::to_string).collect()
}
