//! Which sinks are expected: every sink that ever acked a plan, until it is forgotten.
//!
//! The list is a cell of the store. A sink counts as having acked a plan only once the list that
//! says so is durable, so that no restart can lose a sink that convergence was owed to. Sinks in
//! the controller's own process are not listed: they are there whenever it is.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use plan::{PlanName, Plane, Sink, SinkId, Source, Standing, Token};
use serde::{Deserialize, Serialize};

/// The name of the cell that holds the list.
pub const CELL: &str = "sinks";

/// The most sinks of the list: those of a large fleet, and what a cell has room for.
pub const SINKS_MAX: usize = 10_000;

/// The expected sinks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expected {
    sinks: BTreeMap<SinkId, Known>,
}

/// What is kept of a sink.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Known {
    plane: Plane,
    kind: String,
    /// The plans that it ever acked.
    plans: BTreeSet<PlanName>,
}

/// The bytes are no list of sinks.
#[derive(Debug, thiserror::Error)]
#[error("the cell `{CELL}` holds no list of sinks")]
pub struct ExpectedError(#[source] serde_json::Error);

impl Expected {
    /// The list from its cell.
    ///
    /// # Errors
    /// The bytes are no such list.
    pub fn decode(bytes: &[u8]) -> Result<Self, ExpectedError> {
        serde_json::from_slice(bytes).map_err(ExpectedError)
    }

    /// The bytes of the cell.
    pub fn encode(&self) -> Vec<u8> {
        // Serialising these types cannot fail: every key is text, no writer is in it.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Whether any sink of this plane is on the list.
    pub(super) fn has(&self, plane: Plane) -> bool {
        self.sinks.values().any(|known| known.plane == plane)
    }

    /// Who speaks for the sinks of a plane that are listed: those that follow over the network.
    pub(super) const fn source(plane: Plane) -> Source {
        match plane {
            Plane::Dns => Source::Followers,
            Plane::Mesh | Plane::Host => Source::Plane,
        }
    }

    pub(super) fn remove(&mut self, id: &SinkId) -> bool {
        self.sinks.remove(id).is_some()
    }

    /// Takes up the connected sinks of a plane with the plans that they ever acked.
    pub(super) fn note(&mut self, standing: &Standing) {
        for sink in standing.sinks.iter().filter(|sink| !sink.is_away()) {
            let Some(plans) = &sink.plans else { continue };
            let full = self.sinks.len() >= SINKS_MAX;
            match self.sinks.get_mut(&sink.id) {
                Some(known) => known.note(sink, plans),
                None if plans.is_empty() || full => {}
                None => {
                    let (plane, kind, plans) = (sink.plane, sink.kind.clone(), plans.clone());
                    self.sinks.insert(sink.id.clone(), Known { plane, kind, plans });
                }
            }
        }
    }

    /// Forgets plans that are no more, and sinks that no plan expects any more.
    pub(super) fn prune(&mut self, exists: impl Fn(&PlanName) -> bool) {
        for known in self.sinks.values_mut() {
            if !known.plans.iter().all(&exists) {
                known.plans.retain(&exists);
            }
        }
        self.sinks.retain(|_, known| !known.plans.is_empty());
    }

    /// A plane's standing as the ledger takes it. `self` is the durable list, `wanted` the next.
    ///
    /// A sink owes the plans that it acked but that the durable list does not say yet. One on the
    /// list that the plane does not know is away and owes all its plans. One that is away and on no
    /// list was forgotten.
    pub(super) fn complete(&self, wanted: &Self, plane: Plane, standing: &Standing) -> Standing {
        let known = |(id, known): &(&SinkId, &Known)| {
            known.plane == plane && wanted.sinks.contains_key(*id)
        };
        let mut listed = self.sinks.iter().filter(known).peekable();
        let mut sinks = Vec::with_capacity(standing.sinks.len());
        // Both are sorted by id.
        for sink in standing.sinks.iter() {
            while let Some((id, known)) = listed.next_if(|(id, _)| **id < sink.id) {
                sinks.push(Arc::new(known.away(id)));
            }
            let is_listed = listed.next_if(|(id, _)| **id == sink.id).is_some();
            if is_listed || !sink.is_away() || sink.plans.is_none() {
                sinks.push(self.complete_one(sink));
            }
        }
        sinks.extend(listed.map(|(id, known)| Arc::new(known.away(id))));
        Standing { through: standing.through, sinks: sinks.into() }
    }

    fn complete_one(&self, sink: &Arc<Sink>) -> Arc<Sink> {
        let Some(plans) = &sink.plans else { return Arc::clone(sink) };
        let nothing = BTreeSet::new();
        let kept = self.sinks.get(&sink.id).map_or(&nothing, |known| &known.plans);
        if plans == kept {
            return Arc::clone(sink);
        }
        let mut completed = sink.as_ref().clone();
        completed.owes.extend(plans.difference(kept).cloned());
        completed.owes.extend(kept.difference(plans).cloned());
        completed.plans = Some(plans.union(kept).cloned().collect());
        Arc::new(completed)
    }
}

impl Known {
    fn note(&mut self, sink: &Sink, plans: &BTreeSet<PlanName>) {
        if self.plane != sink.plane || self.kind != sink.kind {
            // Another program under the name of one that was here before.
            self.plane = sink.plane;
            self.kind.clone_from(&sink.kind);
        }
        if !plans.is_subset(&self.plans) {
            self.plans.extend(plans.iter().cloned());
        }
    }

    fn away(&self, id: &SinkId) -> Sink {
        Sink {
            id: id.clone(),
            plane: self.plane,
            kind: self.kind.clone(),
            version: None,
            plans: Some(self.plans.clone()),
            since: None,
            left: None,
            acked: Token::NEVER,
            owes: self.plans.clone(),
            nack: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sink(id: &str, plans: &[&str]) -> Sink {
        let plans = plans.iter().map(|plan| plan.parse().unwrap()).collect();
        let known = Known { plane: Plane::Mesh, kind: "envoy".to_owned(), plans };
        let since = Some(plan::Timestamp::from_millis(0));
        Sink { since, owes: BTreeSet::new(), ..known.away(&SinkId::new(id)) }
    }

    fn standing(sinks: Vec<Sink>) -> Standing {
        let through = Token { incarnation: 1, revision: 7 };
        Standing { through, sinks: sinks.into_iter().map(Arc::new).collect() }
    }

    #[test]
    fn a_sink_counts_once_the_list_that_names_it_is_durable() {
        let said = standing(vec![sink("mesh/a", &["shop"])]);
        let (kept, mut wanted) = (Expected::default(), Expected::default());
        wanted.note(&said);
        let before = kept.complete(&wanted, Plane::Mesh, &said);
        assert!(before.sinks[0].owes(&"shop".parse().unwrap()));
        let kept = Expected::decode(&wanted.encode()).unwrap();
        assert_eq!(kept.complete(&wanted, Plane::Mesh, &said), said);
    }

    #[test]
    fn a_listed_sink_that_the_plane_does_not_know_is_away_and_owes_its_plans() {
        let mut kept = Expected::default();
        kept.note(&standing(vec![sink("mesh/a", &["shop"])]));
        let after = kept.complete(&kept, Plane::Mesh, &standing(Vec::new()));
        assert!(after.sinks[0].is_away() && after.sinks[0].owes(&"shop".parse().unwrap()));
        assert!(kept.complete(&kept, Plane::Host, &standing(Vec::new())).sinks.is_empty());
        let mut forgotten = kept.clone();
        assert!(forgotten.remove(&SinkId::new("mesh/a")));
        assert!(kept.complete(&forgotten, Plane::Mesh, &standing(Vec::new())).sinks.is_empty());
    }
}
