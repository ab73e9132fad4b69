//! Plans and services by name; the nearest names where there is none.

use std::sync::Arc;

use super::Refused;
use super::near::near;
use crate::name::{PlanName, ServiceId, ServiceName};
use crate::state::{PlanState, State};

pub(super) fn plan<'a>(state: &'a State, name: &PlanName) -> Result<&'a Arc<PlanState>, Refused> {
    state.plans.get(name).ok_or_else(|| Refused::UnknownPlan {
        plan: name.clone(),
        near: near(name.as_str(), state.plans.keys()),
    })
}

pub(super) fn service<'a>(
    plan: &'a PlanState,
    name: &ServiceName,
) -> Result<&'a ServiceName, Refused> {
    let found = plan.services.get_key_value(name).map(|(name, _)| name);
    found.ok_or_else(|| Refused::UnknownService {
        service: ServiceId { plan: plan.spec.name.clone(), service: name.clone() },
        near: near(name.as_str(), plan.services.keys()),
    })
}

impl State {
    /// The plan of this name.
    ///
    /// # Errors
    /// There is none; the nearest names.
    pub fn known(&self, name: &PlanName) -> Result<&Arc<PlanState>, Refused> {
        plan(self, name)
    }
}

impl PlanState {
    /// Makes sure that the plan has this service.
    ///
    /// # Errors
    /// There is none; the nearest names.
    pub fn known<'a>(&'a self, name: &ServiceName) -> Result<&'a ServiceName, Refused> {
        service(self, name)
    }
}
