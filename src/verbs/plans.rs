//! `crossfade plans` and `crossfade get`.

use controller::api::answer::Plans;
use serde_json::Value;

use super::{Context, Exit, Failure};
use crate::cli::{OnePlan, Output, page, tree};

/// Lists the plans.
pub(crate) async fn list(context: &Context) -> Result<Exit, Failure> {
    let Plans { plans } = context.client.get("/v1/plans").await?;
    if context.output == Output::Json {
        page::json(&plans)?;
        return Ok(Exit::Done);
    }
    if plans.is_empty() {
        page::print("there is no plan; hand one over: crossfade apply PLAN.yaml\n")?;
        return Ok(Exit::Done);
    }
    let mut table =
        page::Table::new(&["PLAN", "PHASE", "SPLIT", "STEP", "REVISION", "ARRIVED", "SERVICES"]);
    for plan in &plans {
        let split = match (plan.lowest_bp, plan.highest_bp) {
            (low, high) if low == high => tree::percent(low),
            (low, high) => format!("{} to {}", tree::percent(low), tree::percent(high)),
        };
        let step =
            plan.step.as_ref().map_or_else(String::new, |s| format!("{}/{}", s.index, s.count));
        table.row(vec![
            plan.plan.to_string(),
            plan.phase.to_string(),
            split,
            step,
            plan.revision.to_string(),
            if plan.converged { "yes" } else { "not yet" }.to_owned(),
            plan.services.len().to_string(),
        ]);
    }
    page::print(&table.text())?;
    Ok(Exit::Done)
}

/// Prints a plan in the schema of the file; JSON is YAML.
pub(crate) async fn get(args: &OnePlan, context: &Context) -> Result<Exit, Failure> {
    let plan: Value = context.client.get(&format!("/v1/plans/{}", args.plan)).await?;
    page::json(&plan)?;
    Ok(Exit::Done)
}
