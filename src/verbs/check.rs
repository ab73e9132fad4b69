//! `crossfade check`: every error of a plan file at once. Starts nothing, asks nobody.

use plan::file::Problem;
use serde_json::json;

use super::{Context, Exit, Failure, files};
use crate::cli::{Output, PlanFile, page};

/// Checks.
pub(crate) fn run(args: &PlanFile, context: &Context) -> Result<Exit, Failure> {
    let checked = files::plan(&args.file);
    if context.output == Output::Json {
        let none: &[Problem] = &[];
        let errors = match &checked {
            Ok(_) => none,
            Err(Failure::Invalid(problems)) => problems,
            Err(_) => return checked.map(|_| Exit::Done),
        };
        page::json(&json!({ "valid": checked.is_ok(), "errors": errors }))?;
    }
    let plan = checked?;
    if context.output == Output::Text {
        let mtls = plan.gateways.iter().find(|gateway| !gateway.mtls.is_empty());
        let needs = mtls.map_or_else(String::new, |gateway| {
            format!(
                "gateway {}: `mtls` needs a controller that gives machines identities; `crossfade \
                 diff` says if yours does not\n",
                gateway.name
            )
        });
        page::print(&format!(
            "{}: a valid plan: {}, {}, {}\n{needs}",
            args.file.display(),
            page::count(plan.services.len(), "service"),
            page::count(plan.steps.len(), "step"),
            page::count(plan.zones.len(), "zone")
        ))?;
    }
    Ok(Exit::Done)
}
