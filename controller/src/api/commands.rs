//! The verbs.

use std::sync::Arc;

use axum::Json as Answer;
use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;

use plan::{Command, PlanName, Scope, ServiceId};

use super::Api;
use super::answer::{Changed, ChangedAll};
use super::body::Json;
use super::call::{Asked, Caller, Named, Nothing};
use super::problem::Failure;
use super::request::{Approve, Plain, Reason, Rollback, Shift, Step};

/// What every verb on a plan answers.
type Done = Result<Answer<Changed>, Failure>;

/// Which plan a verb is about, and who asks.
pub(crate) struct OnPlan {
    api: Arc<Api>,
    caller: Caller,
    plan: PlanName,
}

impl FromRequestParts<Arc<Api>> for OnPlan {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, Failure> {
        let Named(plan) = Named::from_request_parts(parts, api).await?;
        let Asked(Nothing {}) = Asked::from_request_parts(parts, api).await?;
        let caller = Caller::from_request_parts(parts, api).await?;
        Ok(Self { api: Arc::clone(api), caller, plan })
    }
}

impl OnPlan {
    async fn ask(self, command: impl FnOnce(PlanName) -> Command, reason: Option<Reason>) -> Done {
        let command = command(self.plan.clone());
        change(&self.api, self.caller, self.plan, command, reason).await.map(Answer)
    }
}

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
pub(crate) async fn start(on: OnPlan, Json(body): Json<Plain>) -> Done {
    on.ask(Command::Start, body.reason).await
}

/// `step`
pub(crate) async fn step(on: OnPlan, Json(body): Json<Step>) -> Done {
    let overrides = body.overrides.into();
    on.ask(|plan| Command::Step { plan, overrides }, body.reason).await
}

/// `shift`
pub(crate) async fn shift(on: OnPlan, Json(body): Json<Shift>) -> Done {
    let Shift { service, split, reason, overrides } = body;
    let overrides = overrides.into();
    on.ask(|plan| Command::Shift { plan, service, split, overrides }, reason).await
}

/// `pause`
pub(crate) async fn pause(on: OnPlan, Json(body): Json<Plain>) -> Done {
    on.ask(Command::Pause, body.reason).await
}

/// `resume`
pub(crate) async fn resume(on: OnPlan, Json(body): Json<Plain>) -> Done {
    on.ask(Command::Resume, body.reason).await
}

/// `approve`
pub(crate) async fn approve(on: OnPlan, Json(body): Json<Approve>) -> Done {
    let Approve { gate, reason } = body;
    on.ask(|plan| Command::Approve { plan, gate }, reason).await
}

/// `retire`
pub(crate) async fn retire(on: OnPlan, Json(body): Json<Plain>) -> Done {
    on.ask(Command::Retire, body.reason).await
}

/// `rollback` of a plan or a service
pub(crate) async fn rollback(on: OnPlan, Json(body): Json<Rollback>) -> Done {
    let Rollback { service, reason } = body;
    let scope = |plan| match service {
        Some(service) => Scope::Service(ServiceId { plan, service }),
        None => Scope::Plan(plan),
    };
    on.ask(|plan| Command::Rollback(scope(plan)), reason).await
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
