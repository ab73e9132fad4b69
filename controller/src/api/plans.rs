//! Plans: applied, shown as they were applied, forgotten.

use std::sync::Arc;

use axum::Json as Answer;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::IntoResponse;
use plan::spec::ZoneSource;
use plan::{Command, Plan, PlanName, file};
use serde::Deserialize;
use tokio::sync::SemaphorePermit;

use super::answer::{Changed, Put};
use super::call::{Asked, Caller, Named, Nothing};
use super::problem::{Code, Failure};
use super::refuse::invalid;
use super::request::Reason;
use super::{Api, body, commands, limits};

/// What may stand behind the path of a PUT.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct HowToApply {
    #[serde(default)]
    dry_run: bool,
    reason: Option<Reason>,
}

/// What may stand behind the path of a DELETE.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Why {
    reason: Option<Reason>,
}

/// `PUT /v1/plans/{plan}`
pub(crate) async fn apply(
    State(api): State<Arc<Api>>,
    Named(name): Named<PlanName>,
    Asked(how): Asked<HowToApply>,
    caller: Caller,
    request: Request,
) -> Result<Answer<Put>, Failure> {
    body::want_type(request.headers(), &["application/json", "application/yaml"])?;
    let _room = room(&api)?;
    let (max, time) = (limits::PLAN_BODY_BYTES_MAX, limits::PLAN_BODY_TIME_MAX);
    let text = body::read(request.into_body(), max, time).await?;
    // A plan of 10 000 services takes some hundred milliseconds.
    let checked =
        tokio::task::spawn_blocking(move || checked(&text, &name).map(|plan| (plan, name)));
    let (plan, name) =
        checked.await.map_err(|_| Failure::new(Code::Internal, "the check broke off"))??;
    if how.dry_run {
        return Ok(Answer(Put::Compared(Box::new(api.handle.diff(&plan).await?))));
    }
    let plan = api.handle.store_zones(plan).await?;
    let command = Command::Apply(Arc::new(plan));
    commands::change(&api, caller, name, command, how.reason).await.map(Put::Applied).map(Answer)
}

fn room(api: &Api) -> Result<SemaphorePermit<'_>, Failure> {
    api.plans.try_acquire().map_err(|_| {
        let most = limits::PLANS_AT_ONCE_MAX;
        Failure::new(Code::TooMany, format!("{most} plans are on their way already; wait a moment"))
    })
}

/// The plan of this text, if it is the one that the path names and all of it is here.
fn checked(text: &[u8], name: &PlanName) -> Result<Plan, Failure> {
    let plan = file::check_bytes(text).map_err(invalid)?;
    let mut problems: Vec<_> =
        plan.zones.iter().enumerate().filter_map(sent_without_text).collect();
    if plan.name != *name {
        problems.push(problem(
            "metadata.name".to_owned(),
            format!("the plan is named {}, the path {name}", plan.name),
            format!("PUT it to /v1/plans/{}, or name it {name}", plan.name),
        ));
    }
    if problems.is_empty() { Ok(plan) } else { Err(invalid(problems)) }
}

fn sent_without_text((at, zone): (usize, &plan::spec::ZoneSpec)) -> Option<file::Problem> {
    match &zone.source {
        ZoneSource::Own | ZoneSource::Text(_) | ZoneSource::Blob(_) => None,
        ZoneSource::File(path) => Some(problem(
            format!("spec.zones[{at}].file"),
            format!("the file `{path}` of zone {} is on your side, not on the server's", zone.name),
            "send its content as `text:`; `crossfade apply` does so by itself".to_owned(),
        )),
    }
}

/// A problem of the plan as a whole: its fields are fine each.
fn problem(field: String, problem: String, fix: String) -> file::Problem {
    file::Problem { file: None, line: 1, column: 1, field, problem, fix }
}

/// `GET /v1/plans/{plan}`
pub(crate) async fn read(
    State(api): State<Arc<Api>>,
    Named(name): Named<PlanName>,
    Asked(Nothing {}): Asked<Nothing>,
) -> Result<impl IntoResponse, Failure> {
    let (plan, revision) = {
        let state = api.handle.state();
        let known = state.known(&name)?;
        (Plan::clone(&known.spec), known.revision)
    };
    let plan = with_texts(&api, plan).await?;
    let mut headers = HeaderMap::new();
    let tag = HeaderValue::from_str(&format!("\"{revision}\""));
    // Digits in quotes are a header's value.
    headers.extend(tag.ok().map(|tag| (header::ETAG, tag)));
    Ok((headers, Answer(file::write(&plan))))
}

/// The plan with the texts of its zones, so that it can be applied as it is.
async fn with_texts(api: &Api, mut plan: Plan) -> Result<Plan, Failure> {
    for zone in &mut plan.zones {
        let ZoneSource::Blob(digest) = zone.source else { continue };
        let lost = |why: &str| {
            Failure::new(Code::StoreFailed, format!("the text of zone {}: {why}", zone.name))
        };
        let blob = api.handle.shared.store.blob(digest).await;
        let blob = blob.map_err(|error| lost(&error.to_string()))?;
        let text = blob.and_then(|bytes| String::from_utf8(bytes).ok());
        zone.source = ZoneSource::Text(text.ok_or_else(|| lost("it is not stored"))?.into());
    }
    Ok(plan)
}

/// `DELETE /v1/plans/{plan}`
pub(crate) async fn delete(
    State(api): State<Arc<Api>>,
    Named(name): Named<PlanName>,
    Asked(why): Asked<Why>,
    caller: Caller,
) -> Result<Answer<Changed>, Failure> {
    let command = Command::Delete(name.clone());
    commands::change(&api, caller, name, command, why.reason).await.map(Answer)
}
