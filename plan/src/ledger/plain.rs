//! What the ledger says, by the plain definitions: every sink asked each time. The ledger itself
//! must say the same.

use proptest::prelude::*;

use super::*;
use crate::fixture;
use crate::view::world::World;

const PLANS: [&str; 3] = ["other", "shop", "third"];

fn plans(bits: u8) -> BTreeSet<PlanName> {
    let named = PLANS.iter().enumerate().filter(|(at, _)| bits >> at & 1 == 1);
    named.map(|(_, name)| name.parse().unwrap()).collect()
}

/// A sink of a name, one of twelve; any of its fields may be anything.
fn sinks() -> impl Strategy<Value = Arc<Sink>> {
    (0..12_u8, any::<[u8; 3]>(), 0..6_u64, prop::option::of(0..8_u8), any::<bool>()).prop_map(
        |(id, [expects, owes, which], revision, refused, there)| {
            let acked = Token { incarnation: 1, revision };
            Arc::new(Sink {
                id: SinkId::new(&format!("mesh/{id:02}")),
                plane: Plane::Mesh,
                kind: if which & 1 == 0 { "envoy" } else { "grpc" }.to_owned(),
                version: (which & 2 == 0).then(|| format!("1.{}.0", 34 + which % 5)),
                plans: (which & 12 != 0).then(|| plans(expects)),
                since: there.then(Timestamp::default),
                left: None,
                acked,
                owes: plans(if which & 16 == 0 { 0 } else { owes }),
                nack: refused.filter(|_| which & 32 == 0).map(|refused| Nack {
                    token: acked,
                    plans: plans(refused),
                    detail: "no".to_owned(),
                    at: Timestamp::default(),
                }),
            })
        },
    )
}

/// What is said next: by whom, how far they are, and the sinks that are new or otherwise.
fn said() -> impl Strategy<Value = (bool, u64, Vec<Arc<Sink>>, u16)> {
    (any::<bool>(), 0..6_u64, prop::collection::vec(sinks(), 0..6), any::<u16>())
}

/// The standings of a plane, and what they come to.
#[derive(Default)]
struct Plain(BTreeMap<Source, Standing>);

impl Plain {
    /// A few sinks change, a few go; all others are the same.
    fn next(&mut self, source: Source, through: Token, changed: Vec<Arc<Sink>>, gone: u16) {
        let old = self.0.get(&source).map_or(&[][..], |standing| &standing.sinks);
        let mut sinks: BTreeMap<SinkId, Arc<Sink>> =
            old.iter().map(|sink| (sink.id.clone(), Arc::clone(sink))).collect();
        let mut at = 0;
        sinks.retain(|_, _| {
            at += 1;
            gone >> (at % 16) & 1 == 0 || gone & 3 != 0
        });
        // No sink is in two standings.
        let half = usize::from(source == Source::Plane);
        let mine = |sink: &Arc<Sink>| usize::from(sink.id.as_str().as_bytes()[6] & 1) == half;
        sinks.extend(changed.into_iter().filter(mine).map(|sink| (sink.id.clone(), sink)));
        self.0.insert(source, Standing { through, sinks: sinks.into_values().collect() });
    }

    fn sinks(&self) -> impl Iterator<Item = (&Arc<Sink>, Token)> {
        self.0.values().flat_map(|s| s.sinks.iter().map(|sink| (sink, s.through)))
    }

    fn expected(&self, plan: &PlanName) -> Vec<(&Arc<Sink>, Token)> {
        let mut expected: Vec<_> =
            self.sinks().filter(|(sink, _)| sink.expected_by(plan)).collect();
        expected.sort_by(|a, b| a.0.id.cmp(&b.0.id));
        expected
    }

    fn converged(&self, plan: &PlanName, t: Token) -> bool {
        let expected = self.expected(plan);
        !self.0.is_empty()
            && self.0.values().all(|standing| standing.through >= t)
            && !expected.is_empty()
            && expected.iter().all(|(sink, _)| {
                !sink.owes(plan) && !sink.is_away() && sink.refused(plan).is_none()
            })
    }

    fn acked(&self, trail: &Trail, service: &ServiceId, snapshot: &Snapshot) -> Option<u16> {
        let intended = snapshot.service(service)?.serving.split();
        let mut farthest: Option<Split> = None;
        for (sink, through) in self.expected(&service.plan) {
            let up_to = if sink.owes(&service.plan) { sink.acked.min(through) } else { through };
            let held = trail.split_at(service, up_to)?;
            let so_far = farthest.map_or(0, |split| split.distance(intended));
            if farthest.is_none() || held.distance(intended) > so_far {
                farthest = Some(held);
            }
        }
        farthest.map(|split| split.distance(intended))
    }
}

proptest! {
    /// Whatever was said before, the ledger says what the plain definitions say.
    #[test]
    fn the_ledger_says_what_the_plain_definitions_say(
        story in prop::collection::vec(said(), 1..12),
    ) {
        let mut world = World::new(fixture::plan());
        for bp in [1000, 2500, 5000] {
            world.shift(None, bp);
        }
        let snapshot = world.state.snapshot();
        let mut ledger = world.facts.ledger.clone();
        let mut plain = Plain::default();
        for (of_plane, revision, changed, gone) in story {
            let source = if of_plane { Source::Plane } else { Source::Followers };
            plain.next(source, Token { incarnation: 1, revision }, changed, gone);
            let before = ledger.clone();
            ledger.set_from(Plane::Mesh, source, plain.0[&source].clone());
            drop(before);
            for plan in PLANS.map(|name| name.parse::<PlanName>().unwrap()) {
                agree(&ledger, &plain, &plan)?;
            }
            let has: Vec<_> = plain.sinks().map(|(sink, through)| {
                let idle = sink.owes.is_empty() && sink.nack.is_none();
                (&sink.id, if idle { sink.acked.max(through) } else { sink.acked })
            }).collect();
            let told = ledger.sinks().filter(|(sink, _)| sink.plane == Plane::Mesh);
            let told: Vec<_> = told.map(|(sink, has)| (&sink.id, has)).collect();
            prop_assert_eq!(told, has);
            let orders: ServiceId = "shop/orders".parse().unwrap();
            let intended = snapshot.service(&orders).unwrap().serving.split();
            let acked = ledger.acked(Plane::Mesh, &orders, snapshot);
            prop_assert_eq!(
                acked.map(|split| split.distance(intended)),
                plain.acked(&ledger.trail, &orders, snapshot)
            );
        }
    }
}

fn agree(ledger: &Ledger, plain: &Plain, plan: &PlanName) -> Result<(), TestCaseError> {
    let expected = plain.expected(plan);
    prop_assert_eq!(ledger.expected_count(Plane::Mesh, plan), expected.len());
    let keeps = |sink: &Sink| sink.owes(plan) || sink.is_away() || sink.refused(plan).is_some();
    let late: Vec<_> = expected.iter().map(|(sink, _)| *sink).filter(|sink| keeps(sink)).collect();
    prop_assert_eq!(ledger.late(Plane::Mesh, plan), late);
    let old = |sink: &Sink| {
        let versions = ["1.34.0", "1.35.0"];
        sink.kind == "envoy" && sink.version.as_deref().is_some_and(|v| versions.contains(&v))
    };
    let anew: Vec<_> = expected.iter().map(|(sink, _)| *sink).filter(|sink| old(sink)).collect();
    prop_assert_eq!(ledger.unsticky(plan), anew);
    for revision in 0..6 {
        let t = Token { incarnation: 1, revision };
        prop_assert_eq!(ledger.converged_in(Plane::Mesh, plan, t), plain.converged(plan, t));
    }
    Ok(())
}
