//! Break-glass in force, as receivers report it.

use std::fmt;
use std::sync::Arc;

use plan::{ServiceId, Timestamp};
use proto::crossfade::v1 as wire;

use super::{DETAIL_MAX, clean};

/// The most services of one that are read: as many as the log has room for in a line.
const SERVICES_MAX: usize = 64;

/// Break-glass in force at a receiver.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct InForce {
    /// For these services; `None`: for every one that the receiver has.
    services: Option<Vec<ServiceId>>,
    /// Since when, by whom and why.
    words: Arc<str>,
}

impl InForce {
    /// Reads one; `None` where it is for no service.
    pub(super) fn read(found: &wire::Override) -> Option<Self> {
        let services = (!found.services.is_empty()).then(|| {
            let services = found.services.iter().take(SERVICES_MAX);
            services.filter_map(|service| service.parse().ok()).collect::<Vec<_>>()
        });
        if services.as_ref().is_some_and(Vec::is_empty) {
            return None;
        }
        let since = i64::try_from(found.since_ms).unwrap_or(i64::MAX);
        let since = Timestamp::from_millis(since);
        let why =
            if found.reason.is_empty() { String::new() } else { format!(": {}", found.reason) };
        let words = clean(&format!("since {since} by {}{why}", found.by), DETAIL_MAX);
        Some(Self { services, words: words.into() })
    }

    /// Leaves out services that are not these; whether there are any left.
    pub fn retain(&mut self, is_its: impl Fn(&ServiceId) -> bool) -> bool {
        let Some(services) = &mut self.services else { return true };
        services.retain(is_its);
        !services.is_empty()
    }

    /// How much it is.
    pub(super) fn parts(&self) -> usize {
        1 + self.services.as_ref().map_or(0, Vec::len)
    }

    /// One of this number, for tests.
    #[cfg(test)]
    pub(crate) fn number(n: usize) -> Self {
        Self { services: None, words: format!("since then by {n}").into() }
    }
}

impl fmt::Display for InForce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.services {
            None => write!(f, "every service")?,
            Some(services) => {
                for (n, service) in services.iter().enumerate() {
                    let between = if n == 0 { "" } else { ", " };
                    write!(f, "{between}{service}")?;
                }
            }
        }
        write!(f, " on legacy {}", self.words)
    }
}
