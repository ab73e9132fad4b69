//! The verbs.

use std::sync::Arc;

use axum::Json as Answer;
use axum::extract::State;

use plan::{Command, PlanName, Scope, ServiceId};

use super::Api;
use super::answer::{Changed, ChangedAll};
use super::body::Json;
use super::call::{Asked, Caller, Named, Nothing};
use super::problem::Failure;
use super::request::{Approve, Plain, Reason, Rollback, Shift, Step};

/// What every verb on a plan answers.
type Done = Result<Answer<Changed>, Failure>;

/// Asks for a change of one plan and says what came of it.
pub(crate) async fn change(
    api: &Api,
    caller: Caller,
    plan: PlanName,
    command: Command,
    reason: Option<Reason>,
) -> Result<Changed, Failure> {
    let done = api.handle.ask(caller.ask(command, reason)).await?;
    // Where nothing changed, the plan may be untouched by any record for long.
    let revision = api.handle.state().plan(&plan).map_or(0, |plan| plan.revision);
    Ok(Changed::of(done, plan, revision))
}

/// `start`
pub(crate) async fn start(
    State(api): State<Arc<Api>>,
    Named(plan): Named<PlanName>,
    Asked(Nothing {}): Asked<Nothing>,
    caller: Caller,
    Json(body): Json<Plain>,
) -> Done {
    let command = Command::Start(plan.clone());
    change(&api, caller, plan, command, body.reason).await.map(Answer)
}

/// `step`
pub(crate) async fn step(
    State(api): State<Arc<Api>>,
    Named(plan): Named<PlanName>,
    Asked(Nothing {}): Asked<Nothing>,
    caller: Caller,
    Json(body): Json<Step>,
) -> Done {
    let command = Command::Step { plan: plan.clone(), overrides: body.overrides.into() };
    change(&api, caller, plan, command, body.reason).await.map(Answer)
}

/// `shift`
pub(crate) async fn shift(
    State(api): State<Arc<Api>>,
    Named(plan): Named<PlanName>,
    Asked(Nothing {}): Asked<Nothing>,
    caller: Caller,
    Json(body): Json<Shift>,
) -> Done {
    let Shift { service, split, reason, overrides } = body;
    let overrides = overrides.into();
    let command = Command::Shift { plan: plan.clone(), service, split, overrides };
    change(&api, caller, plan, command, reason).await.map(Answer)
}

/// `pause`
pub(crate) async fn pause(
    State(api): State<Arc<Api>>,
    Named(plan): Named<PlanName>,
    Asked(Nothing {}): Asked<Nothing>,
    caller: Caller,
    Json(body): Json<Plain>,
) -> Done {
    let command = Command::Pause(plan.clone());
    change(&api, caller, plan, command, body.reason).await.map(Answer)
}

/// `resume`
pub(crate) async fn resume(
    State(api): State<Arc<Api>>,
    Named(plan): Named<PlanName>,
    Asked(Nothing {}): Asked<Nothing>,
    caller: Caller,
    Json(body): Json<Plain>,
) -> Done {
    let command = Command::Resume(plan.clone());
    change(&api, caller, plan, command, body.reason).await.map(Answer)
}

/// `approve`
pub(crate) async fn approve(
    State(api): State<Arc<Api>>,
    Named(plan): Named<PlanName>,
    Asked(Nothing {}): Asked<Nothing>,
    caller: Caller,
    Json(body): Json<Approve>,
) -> Done {
    let command = Command::Approve { plan: plan.clone(), gate: body.gate };
    change(&api, caller, plan, command, body.reason).await.map(Answer)
}

/// `retire`
pub(crate) async fn retire(
    State(api): State<Arc<Api>>,
    Named(plan): Named<PlanName>,
    Asked(Nothing {}): Asked<Nothing>,
    caller: Caller,
    Json(body): Json<Plain>,
) -> Done {
    let command = Command::Retire(plan.clone());
    change(&api, caller, plan, command, body.reason).await.map(Answer)
}

/// `rollback` of a plan or a service
pub(crate) async fn rollback(
    State(api): State<Arc<Api>>,
    Named(plan): Named<PlanName>,
    Asked(Nothing {}): Asked<Nothing>,
    caller: Caller,
    Json(body): Json<Rollback>,
) -> Done {
    let scope = match body.service {
        Some(service) => Scope::Service(ServiceId { plan: plan.clone(), service }),
        None => Scope::Plan(plan.clone()),
    };
    change(&api, caller, plan, Command::Rollback(scope), body.reason).await.map(Answer)
}

/// `rollback` of everything
pub(crate) async fn rollback_all(
    State(api): State<Arc<Api>>,
    Asked(Nothing {}): Asked<Nothing>,
    caller: Caller,
    Json(body): Json<Plain>,
) -> Result<Answer<ChangedAll>, Failure> {
    let ask = caller.ask(Command::Rollback(Scope::All), body.reason);
    Ok(Answer(api.handle.ask(ask).await?.into()))
}
