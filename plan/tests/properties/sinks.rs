//! Two DNS servers that ack late, refuse, and go away.

use std::collections::BTreeMap;
use std::sync::Arc;

use plan::{Ledger, Nack, PlanName, Plane, Sink, SinkId, Snapshot, Standing, Timestamp, Token};

/// What the plane and its sinks have done.
#[derive(Clone, Debug)]
pub(crate) struct Sinks {
    /// The plane has taken up snapshots through here.
    through: Token,
    sinks: [Held; 2],
    /// When what planes render of each plan last changed, found by comparing snapshots.
    changed: BTreeMap<PlanName, Token>,
}

#[derive(Clone, Debug)]
struct Held {
    acked: Token,
    away: bool,
    refused: Option<PlanName>,
}

impl Sinks {
    pub(crate) fn new() -> Self {
        let held = Held { acked: Token::START, away: false, refused: None };
        Self { through: Token::START, sinks: [held.clone(), held], changed: BTreeMap::new() }
    }

    /// A snapshot was published.
    pub(crate) fn published(&mut self, before: &Snapshot, after: &Snapshot) {
        let plans = |snapshot: &Snapshot| -> Vec<PlanName> {
            let services = snapshot.services.iter().map(|service| service.id.plan.clone());
            services.chain(snapshot.zones.iter().map(|zone| zone.plan.clone())).collect()
        };
        for plan in plans(before).into_iter().chain(plans(after)) {
            let services = |snapshot: &Snapshot| -> Vec<_> {
                let of = snapshot.services.iter().filter(|service| service.id.plan == plan);
                of.cloned().collect()
            };
            let zones = |snapshot: &Snapshot| -> Vec<_> {
                snapshot.zones.iter().filter(|zone| zone.plan == plan).cloned().collect()
            };
            if services(before) != services(after) || zones(before) != zones(after) {
                self.changed.insert(plan, after.token);
            }
        }
    }

    pub(crate) fn process(&mut self, token: Token) {
        self.through = token;
    }

    pub(crate) fn ack(&mut self, sink: u8) {
        let through = self.through;
        let held = &mut self.sinks[usize::from(sink)];
        *held = Held { acked: held.acked.max(through), away: false, refused: None };
    }

    pub(crate) fn refuse(&mut self, sink: u8, plan: PlanName) {
        self.sinks[usize::from(sink)].refused = Some(plan);
    }

    pub(crate) fn leave(&mut self, sink: u8) {
        self.sinks[usize::from(sink)].away = true;
    }

    /// Whether every sink is there and has applied everything of this plan.
    pub(crate) fn hold_all_of(&self, plan: &PlanName) -> bool {
        let changed = self.changed.get(plan).copied().unwrap_or(Token::START);
        self.sinks
            .iter()
            .all(|held| held.acked >= changed && !held.away && held.refused.as_ref() != Some(plan))
    }

    /// What the plane says of itself.
    pub(crate) fn ledger(&self) -> Ledger {
        let sink = |(i, held): (usize, &Held)| {
            let owed = self.changed.iter().filter(|(_, t)| held.acked < **t && **t <= self.through);
            Arc::new(Sink {
                id: SinkId::new(&format!("dns/{i}")),
                plane: Plane::Dns,
                kind: "dns".to_owned(),
                version: None,
                plans: None,
                since: (!held.away).then(Timestamp::default),
                left: None,
                acked: held.acked,
                owes: owed.map(|(plan, _)| plan.clone()).collect(),
                nack: held.refused.as_ref().map(|plan| Nack {
                    token: self.through,
                    plans: [plan.clone()].into(),
                    detail: "refused".to_owned(),
                    at: Timestamp::default(),
                }),
            })
        };
        let sinks = self.sinks.iter().enumerate().map(sink).collect();
        let mut ledger = Ledger::default();
        ledger.set(Plane::Dns, Standing { through: self.through, sinks });
        ledger
    }
}
