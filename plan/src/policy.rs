//! Limits on raising: the largest step, and windows in which nothing rises.

use serde::{Deserialize, Serialize};

use crate::split::Split;
use crate::time::Timestamp;

/// Limits on raising. Lowering has none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// The most that one revision may raise a service.
    pub max_step: Option<Split>,
    /// Windows in which nothing rises.
    pub freeze: Vec<Freeze>,
}

/// A recurring window in which nothing rises.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Freeze {
    /// When it begins: five cron fields, as written.
    pub cron: String,
    /// How long it lasts.
    pub lasts: std::time::Duration,
    /// Where the clock hangs: a name of the bundled time zone data.
    pub tz: String,
}

impl Policy {
    /// The freeze that holds at `now`, with the moment it ends.
    pub fn frozen(&self, _now: Timestamp) -> Option<(&Freeze, Timestamp)> {
        None
    }
}
