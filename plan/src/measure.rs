//! What traffic really did.

mod contradiction;
mod notes;
mod stragglers;
mod sum;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::contradiction::{Contradiction, contradiction};
pub use self::notes::Note;
pub use self::stragglers::{StragglerNetwork, Stragglers};
use crate::name::{PlanName, ServiceId, ServiceName};
use crate::spec::Plane;
use crate::split::Split;
use crate::time::Timestamp;

/// What every plane counted.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    /// Each plane's counts.
    pub planes: BTreeMap<Plane, Counts>,
}

/// What one plane counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Each service that anyone asked for.
    pub services: Arc<BTreeMap<ServiceId, Count>>,
    /// Who still reached legacy VMs at exactly 100 %, of the services that anyone reached there.
    pub stragglers: Arc<BTreeMap<ServiceId, Stragglers>>,
    /// What the stub DNS servers of hosts did.
    pub names: Names,
    /// What receivers do otherwise than the plan asks: of each service the first
    /// [`Note::LISTED_MAX`].
    pub notes: Arc<BTreeMap<ServiceId, BTreeSet<Note>>>,
}

/// What stub DNS servers on hosts did since they started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// Plan names that were answered.
    pub answered: u64,
    /// Other queries that were relayed and answered.
    pub forwarded: u64,
    /// Those that no upstream answered.
    pub failed: u64,
    /// Those that were dropped.
    pub dropped: u64,
}

/// What one plane counted for one service since its split last changed.
///
/// Requests count only where they were issued after the proxy that reports them had applied that
/// split: an interval of a report that began before is left out. Else a move would seem to
/// contradict itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Distinct client keys that were sent to legacy (for dns), or requests, or connections.
    pub legacy: u64,
    /// The same for target.
    pub target: u64,
    /// Answers, requests or connections in all.
    pub events: u64,
    /// Distinct client keys seen.
    pub keys: u64,
    /// Events of the busiest key.
    pub largest: u64,
    /// Sum over keys of (events of the key)²; with `events` it gives the effective number of keys.
    pub squares: u128,
    /// When the last answer given under another split expires at the latest, if that is to come.
    pub old_until: Option<Timestamp>,
    /// What else proxies say of requests; `None` in planes that see no requests.
    pub traffic: Option<Traffic>,
}

/// What proxies say of the requests of a service, beside their number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Of those to legacy.
    pub legacy: Load,
    /// Of those to target.
    pub target: Load,
    /// The time that the counts cover, in whole seconds.
    pub seconds: u64,
}

/// What proxies say of the requests to one side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Requests that failed, of those that [`Count`] has for the side.
    pub errors: u64,
    /// Requests, or connections of tcp, in progress when last reported.
    pub in_progress: u64,
}

/// A measured share with its 95 % interval.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Share {
    /// What was counted.
    pub basis: Basis,
    /// The share on target.
    pub bp: u16,
    /// The lower end of the interval.
    pub low_bp: u16,
    /// The upper end of the interval.
    pub high_bp: u16,
    /// How many were counted: distinct client keys for `answers`.
    pub samples: u64,
    /// Distinct client keys seen.
    pub keys: u64,
    /// Answers, requests or connections in all.
    pub events: u64,
    /// The busiest key's share of all events.
    pub largest_key_bp: u16,
    /// How many equally busy keys would make shares as coarse as these: events² / Σ (a key's
    /// events)².
    pub effective_keys: u64,
    /// The standard deviation, at the intended split, of the share of events on target that comes
    /// of whole keys being on one side.
    pub expected_deviation_bp: u16,
    /// What went to legacy; only for `requests`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub legacy: Option<SideTraffic>,
    /// What went to target; only for `requests`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<SideTraffic>,
    /// The time that was counted over, in seconds; only for `requests`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval_seconds: Option<u64>,
}

/// What went to one side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SideTraffic {
    /// Requests.
    pub requests: u64,
    /// Those that failed.
    pub errors: u64,
    /// Requests, or connections of tcp, in progress when last reported.
    pub in_progress: u64,
}

/// What a share was counted from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Basis {
    /// DNS answers, by distinct client keys.
    Answers,
    /// Requests.
    Requests,
    /// Connections.
    Connections,
}

impl Measured {
    /// What this plane counted for this service.
    pub fn count(&self, plane: Plane, service: &ServiceId) -> Option<&Count> {
        self.planes.get(&plane)?.services.get(service)
    }

    /// What this plane counted for the services of this plan.
    pub fn of_plan<'a>(
        &'a self,
        plane: Plane,
        plan: &'a PlanName,
    ) -> impl Iterator<Item = (&'a ServiceName, &'a Count)> {
        let counts = self.planes.get(&plane).into_iter();
        let counts = counts.flat_map(|counts| counts.services.range(ServiceId::least(plan)..));
        counts.take_while(move |(id, _)| id.plan == *plan).map(|(id, count)| (&id.service, count))
    }

    /// The share of this service on target in this plane, beside the intended one.
    pub fn share(&self, plane: Plane, service: &ServiceId, intended: Split) -> Option<Share> {
        let basis = match plane {
            Plane::Dns => Basis::Answers,
            Plane::Mesh => Basis::Requests,
            Plane::Host => Basis::Connections,
        };
        self.count(plane, service)?.share(basis, intended)
    }
}

impl Count {
    /// The share on target with its 95 % interval; `None` until anything was counted.
    pub fn share(&self, basis: Basis, intended: Split) -> Option<Share> {
        let samples = self.legacy.saturating_add(self.target);
        if samples == 0 {
            return None;
        }
        let (low_bp, high_bp) = wilson(self.target, samples);
        let side = |requests, load: Load| {
            let Load { errors, in_progress } = load;
            SideTraffic { requests, errors, in_progress }
        };
        Some(Share {
            basis,
            bp: part(self.target.into(), samples.into()),
            low_bp,
            high_bp,
            samples,
            keys: self.keys,
            events: self.events,
            largest_key_bp: part(self.largest.into(), self.events.into()),
            effective_keys: self.effective_keys(),
            expected_deviation_bp: self.deviation(intended),
            legacy: self.traffic.map(|traffic| side(self.legacy, traffic.legacy)),
            target: self.traffic.map(|traffic| side(self.target, traffic.target)),
            interval_seconds: self.traffic.map(|traffic| traffic.seconds),
        })
    }

    /// How many equally busy keys would make shares as coarse as these: events² / Σ (a key's
    /// events)², rounded down. 0 where nothing was counted by key.
    pub fn effective_keys(&self) -> u64 {
        let events = u128::from(self.events);
        let ratio = events.saturating_mul(events).checked_div(self.squares).unwrap_or(0);
        // Never more than there are: the sums may have been read at slightly different moments.
        u64::try_from(ratio).unwrap_or(u64::MAX).min(self.keys)
    }

    /// The standard deviation, in basis points, of the share of events on target when keys of these
    /// sizes are put on target independently with probability `split`: √(w (1 - w) Σ sᵢ²).
    pub fn deviation(&self, split: Split) -> u16 {
        let events = u128::from(self.events);
        if events == 0 {
            return 0;
        }
        let (w, whole) = (u128::from(split.bp()), u128::from(Split::WHOLE));
        // In basis points squared: w (10 000 - w) Σ eᵢ² / events².
        let spread = w * (whole - w);
        let squares = self.squares.min(events.saturating_mul(events));
        let variance = spread.saturating_mul(squares) / events.saturating_mul(events);
        bounded(variance.isqrt())
    }
}

/// `part` of `whole` in basis points, rounded to the nearest.
fn part(part: u128, whole: u128) -> u16 {
    let tenths = part.saturating_mul(u128::from(Split::WHOLE)).saturating_add(whole / 2);
    bounded(tenths.checked_div(whole).unwrap_or(0))
}

fn bounded(bp: u128) -> u16 {
    u16::try_from(bp).unwrap_or(u16::MAX).min(Split::WHOLE)
}

/// The Wilson score interval (E. B. Wilson, JASA 22, 1927) at 95 %, in basis points, rounded
/// outwards.
///
/// It holds its level for shares near 0 and 1 and for few samples, where the usual one does not.
fn wilson(hits: u64, samples: u64) -> (u16, u16) {
    /// The 97.5 % point of the normal distribution.
    const Z: f64 = 1.959_963_984_540_054;
    #[expect(clippy::cast_precision_loss, reason = "53 bits are more than basis points need")]
    let (hits, n) = (hits as f64, samples as f64);
    let share = hits / n;
    let z2 = Z * Z;
    let middle = share + z2 / (2.0 * n);
    let half = Z * (share * (1.0 - share) / n + z2 / (4.0 * n * n)).sqrt();
    let scale = f64::from(Split::WHOLE) / (1.0 + z2 / n);
    (to_bp(((middle - half) * scale).floor()), to_bp(((middle + half) * scale).ceil()))
}

/// Saturates, as conversions from floats do.
fn to_bp(value: f64) -> u16 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "saturates; the value was rounded and is within 0 and 10 000"
    )]
    let bp = value.clamp(0.0, f64::from(Split::WHOLE)) as u16;
    bp
}

#[cfg(test)]
mod tests;
