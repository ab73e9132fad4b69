//! What is asked without changing anything.

use std::sync::Arc;

use axum::Json as Answer;
use axum::extract::State;
use ipnet::IpNet;
use plan::view::{Explain, Status};
use plan::{PlanName, Refused, ServiceId, ServiceName};
use serde::Deserialize;

use super::Api;
use super::answer::{Plans, Sinks};
use super::call::{Asked, Named, Nothing};
use super::limits;
use super::names::Client;
use super::problem::{Code, Failure};
use crate::handle::{History, Page};

/// `GET /v1/plans`
pub(crate) async fn plans(
    State(api): State<Arc<Api>>,
    Asked(Nothing {}): Asked<Nothing>,
) -> Answer<Plans> {
    Answer(Plans { plans: api.handle.plans() })
}

/// `GET /v1/plans/{plan}/status`
pub(crate) async fn status(
    State(api): State<Arc<Api>>,
    Named(name): Named<PlanName>,
    Asked(Nothing {}): Asked<Nothing>,
) -> Result<Answer<Status>, Failure> {
    match api.handle.status(&name) {
        Some(status) => Ok(Answer(status)),
        None => Err(gone(&api, &name)),
    }
}

/// There is no such plan, or was none a moment ago.
pub(crate) fn gone(api: &Api, name: &PlanName) -> Failure {
    match api.handle.state().known(name) {
        Err(refused) => refused.into(),
        Ok(_) => Refused::UnknownPlan { plan: name.clone(), near: Vec::new() }.into(),
    }
}

/// Which page of the history.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WhichPage {
    before: Option<u64>,
    limit: Option<u32>,
}

/// `GET /v1/plans/{plan}/history`
///
/// A plan that was deleted has a history still; a name that never was a plan has none.
pub(crate) async fn history(
    State(api): State<Arc<Api>>,
    Named(name): Named<PlanName>,
    Asked(which): Asked<WhichPage>,
) -> Result<Answer<History>, Failure> {
    let limit = which.limit.unwrap_or(limits::PAGE);
    if !(1..=limits::PAGE_MAX).contains(&limit) {
        let most = limits::PAGE_MAX;
        return Err(Failure::new(Code::BadRequest, format!("in the query: limit: 1 to {most}")));
    }
    // The document promises numbers that every language's integers hold.
    if which.before.is_some_and(|before| i64::try_from(before).is_err()) {
        let most = i64::MAX;
        return Err(Failure::new(
            Code::BadRequest,
            format!("in the query: before: at most {most}"),
        ));
    }
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let page = Page { before: which.before, limit };
    let history = api.handle.history(Some(&name), page).await?;
    if history.entries.is_empty() && history.before.is_none() && which.before.is_none() {
        api.handle.state().known(&name)?;
    }
    Ok(Answer(history))
}

/// Whose side is asked for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Whose {
    service: ServiceName,
    client: Option<Client>,
}

/// `GET /v1/plans/{plan}/explain`
pub(crate) async fn explain(
    State(api): State<Arc<Api>>,
    Named(plan): Named<PlanName>,
    Asked(whose): Asked<Whose>,
) -> Result<Answer<Explain>, Failure> {
    api.handle.state().known(&plan)?.known(&whose.service)?;
    let service = ServiceId { plan: plan.clone(), service: whose.service };
    let client = whose.client.map(IpNet::from);
    match api.handle.explain(&service, client) {
        Some(explain) => Ok(Answer(explain)),
        None if api.handle.state().plan(&plan).is_some_and(|plan| plan.released) => {
            let why =
                format!("the names of plan `{plan}` have left it: its zone file answers them");
            Err(Failure::new(Code::NotFound, why))
        }
        None => Err(gone(&api, &plan)),
    }
}

/// `GET /v1/sinks`
pub(crate) async fn sinks(
    State(api): State<Arc<Api>>,
    Asked(Nothing {}): Asked<Nothing>,
) -> Answer<Sinks> {
    Answer(Sinks { sinks: api.handle.sinks() })
}
