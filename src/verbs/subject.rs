//! Finds out which plan or service a word means.

use controller::api::answer::Plans;
use plan::view::PlanSummary;
use plan::{PlanName, ServiceId, ServiceName};

use super::{Context, Failure};
use crate::cli::args::Subject;

/// A plan, or one service of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// All of a plan.
    Plan(PlanName),
    /// One service.
    Service(ServiceId),
}

impl Found {
    /// The plan.
    pub(crate) const fn plan(&self) -> &PlanName {
        match self {
            Self::Plan(plan) => plan,
            Self::Service(id) => &id.plan,
        }
    }

    /// The service, where one is meant.
    pub(crate) const fn service(&self) -> Option<&ServiceName> {
        match self {
            Self::Plan(_) => None,
            Self::Service(id) => Some(&id.service),
        }
    }
}

/// The plan or service that `subject` means.
pub(crate) async fn find(subject: &Subject, context: &Context) -> Result<Found, Failure> {
    match subject {
        Subject::Service(plan, service) => {
            Ok(Found::Service(ServiceId { plan: plan.clone(), service: service.clone() }))
        }
        Subject::Word(word) => resolve(word, &all(context).await?),
    }
}

/// The service that `subject` means; a plan with a single service means that one.
pub(crate) async fn service(subject: &Subject, context: &Context) -> Result<ServiceId, Failure> {
    match find(subject, context).await? {
        Found::Service(id) => Ok(id),
        Found::Plan(name) => {
            let plans = all(context).await?;
            let plan = plans.iter().find(|plan| plan.plan == name);
            match plan.map(|plan| plan.services.as_slice()) {
                Some([only]) => Ok(ServiceId { plan: name, service: only.clone() }),
                _ => Err(Failure::Usage(format!(
                    "`{name}` is a plan; name one of its services: {}",
                    list(plans.iter().filter(|plan| plan.plan == name).flat_map(full_names))
                ))),
            }
        }
    }
}

/// The plan that was named, or the only one.
pub(crate) async fn plan(
    named: Option<PlanName>,
    verb: &str,
    context: &Context,
) -> Result<PlanName, Failure> {
    if let Some(plan) = named {
        return Ok(plan);
    }
    let plans = all(context).await?;
    match plans.as_slice() {
        [only] => Ok(only.plan.clone()),
        [] => {
            Err(Failure::Usage("there is no plan; hand one over: crossfade apply PLAN.yaml".into()))
        }
        several => Err(Failure::Usage(format!(
            "there are several plans; name one: {}",
            list(several.iter().map(|plan| format!("crossfade {verb} {}", plan.plan)))
        ))),
    }
}

async fn all(context: &Context) -> Result<Vec<PlanSummary>, Failure> {
    Ok(context.client.get::<Plans>("/v1/plans").await?.plans)
}

fn resolve(word: &str, plans: &[PlanSummary]) -> Result<Found, Failure> {
    // A plan's own name always means the plan, so that nothing stands between it and a rollback; a
    // service of the same name is `plan/service`.
    if let Some(plan) = plans.iter().find(|plan| plan.plan.as_str() == word) {
        return Ok(Found::Plan(plan.plan.clone()));
    }
    let mut found: Vec<ServiceId> = Vec::new();
    for plan in plans {
        let fits = plan.services.iter().filter(|service| service.as_str() == word);
        found.extend(
            fits.map(|service| ServiceId { plan: plan.plan.clone(), service: service.clone() }),
        );
    }
    match found.as_slice() {
        [one] => Ok(Found::Service(one.clone())),
        [] => Err(Failure::Usage(unknown(word, plans))),
        several => {
            let names = list(several.iter().map(ToString::to_string));
            Err(Failure::Usage(format!("several plans have `{word}`; name one: {names}")))
        }
    }
}

fn unknown(word: &str, plans: &[PlanSummary]) -> String {
    if plans.is_empty() {
        return format!(
            "no plan or service `{word}`: there is no plan yet; crossfade apply PLAN.yaml"
        );
    }
    let names: Vec<String> = plans
        .iter()
        .flat_map(|plan| {
            let services = plan.services.iter().map(|service| service.as_str().to_owned());
            services.chain([plan.plan.as_str().to_owned()])
        })
        .collect();
    match plan::file::nearest(word, names.iter().map(String::as_str)) {
        Some(near) => format!("no plan or service `{word}`; did you mean `{near}`?"),
        None => format!("no plan or service `{word}`; see: crossfade plans"),
    }
}

fn full_names(plan: &PlanSummary) -> impl Iterator<Item = String> {
    plan.services.iter().map(|service| format!("{}/{service}", plan.plan))
}

fn list(names: impl Iterator<Item = String>) -> String {
    names.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_means_a_plan_before_a_service_and_a_service_where_it_is_unique() {
        let summary = |name: &str, services: &[&str]| PlanSummary {
            plan: name.parse().unwrap(),
            services: services.iter().map(|service| service.parse().unwrap()).collect(),
            phase: plan::view::phase::Phase::Ready,
            revision: 1,
            changed_at: plan::Timestamp::from_millis(0),
            converged: true,
            step: None,
            lowest_bp: 0,
            highest_bp: 0,
            holds: Vec::new(),
        };
        let plans = [summary("ledger", &["ledger", "web"]), summary("shop", &["web", "orders"])];
        let found = |word| match resolve(word, &plans) {
            Ok(Found::Plan(plan)) => format!("plan {plan}"),
            Ok(Found::Service(id)) => format!("service {id}"),
            Err(failure) => failure.to_string(),
        };
        assert_eq!(found("ledger"), "plan ledger");
        assert_eq!(found("orders"), "service shop/orders");
        assert!(found("web").ends_with("name one: ledger/web, shop/web"), "{}", found("web"));
        assert!(found("order").ends_with("did you mean `orders`?"), "{}", found("order"));
    }
}
