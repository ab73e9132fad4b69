//! What is shown of a plan. Computed from state and facts whenever somebody asks, never stored.
//!
//! These types are the JSON of the API: field names are camelCase, and an integer in basis points
//! has a name that ends in `Bp`.

pub mod diff;
pub mod explain;
pub mod history;
pub mod hold;
pub mod phase;
pub mod sinks;
pub mod status;
#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) mod world;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::diff::warn::in_the_clear;
pub use self::diff::{Diff, ZoneFacts, ZoneHost, diff};
pub use self::explain::{Explain, explain};
pub use self::history::{Entry, history};
pub use self::hold::{Hold, HoldView, Reason, holds};
pub use self::phase::{Phase, Progress, phase};
pub use self::sinks::{SinkView, sinks};
pub use self::status::{PlanSummary, Status, plans, status};
use crate::spec::Plane;

/// Something for each plane; `null` for a plane that the plan does not use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Planes<T> {
    /// DNS answers.
    pub dns: Option<T>,
    /// Proxies and gRPC clients.
    pub mesh: Option<T>,
    /// The kernel rules of node agents.
    pub host: Option<T>,
}

impl<T> Planes<T> {
    /// What `make` says of each plane.
    pub fn of(mut make: impl FnMut(Plane) -> Option<T>) -> Self {
        Self { dns: make(Plane::Dns), mesh: make(Plane::Mesh), host: make(Plane::Host) }
    }

    /// What is said of this plane.
    pub const fn plane(&self, plane: Plane) -> Option<&T> {
        match plane {
            Plane::Dns => self.dns.as_ref(),
            Plane::Mesh => self.mesh.as_ref(),
            Plane::Host => self.host.as_ref(),
        }
    }

    /// The planes that have something, in the order they are shown.
    pub fn iter(&self) -> impl Iterator<Item = (Plane, &T)> {
        Plane::ALL.into_iter().filter_map(|plane| Some((plane, self.plane(plane)?)))
    }
}
