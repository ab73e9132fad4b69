//! What only the kernel refuses.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use agent::dataplane::{
    Adopted, Committed, Dataplane, DataplaneError, Fake, Forget, Straggler, Tally,
};
use nix::errno::Errno;

use super::*;

/// A kernel that lacks what some rules need.
struct Lacking {
    fake: Fake,
    /// Part of a table that it refuses where there are rules in it.
    refuses: Vec<rules::Name>,
    /// Whether it says which.
    names: bool,
    offers: Arc<AtomicUsize>,
}

impl Dataplane for Lacking {
    fn adopt(&mut self) -> Result<Adopted, DataplaneError> {
        self.fake.adopt()
    }

    fn commit(&mut self, table: &Table) -> Result<Committed, DataplaneError> {
        self.offers.fetch_add(1, Ordering::Relaxed);
        let mut chains = table.chains.iter().filter(|(_, chain)| !chain.rules.is_empty());
        let Some((part, _)) = chains.find(|(name, _)| self.refuses.contains(name)) else {
            return self.fake.commit(table);
        };
        let part = self.names.then(|| part.to_string());
        Err(DataplaneError::Refused { what: "a rule".to_owned(), part, errno: Errno::ENOENT })
    }

    fn counters(&mut self) -> Result<BTreeMap<rules::Name, Tally>, DataplaneError> {
        self.fake.counters()
    }

    fn stragglers(&mut self) -> Result<BTreeMap<rules::Name, Vec<Straggler>>, DataplaneError> {
        self.fake.stragglers()
    }

    fn forget(&mut self, which: &Forget) -> Result<(), DataplaneError> {
        self.fake.forget(which)
    }

    fn remove(&mut self) -> Result<bool, DataplaneError> {
        self.fake.remove()
    }

    fn is_intact(&mut self) -> Result<bool, DataplaneError> {
        self.fake.is_intact()
    }
}

/// It refuses that these plans split clients.
fn lacking(test: &str, plans: &[&str], names: bool) -> (Bench, Arc<AtomicUsize>) {
    let mut bench = Bench::new(test);
    let [ours, rollback] =
        Kernel::TABLES.map(|table| Fake::new(Arc::clone(&bench.kernel), name(table)));
    let refuses = plans.iter().map(|plan| name(&format!("split/{plan}/web"))).collect();
    let offers = Arc::new(AtomicUsize::new(0));
    let ours = Lacking { fake: ours, refuses, names, offers: Arc::clone(&offers) };
    bench.actor.kernel = Kernel::new(ours, rollback);
    (bench, offers)
}

fn in_force(bench: &Bench) -> Vec<String> {
    let table = bench.table("crossfade");
    let chains = table.iter().flat_map(|table| table.chains.keys());
    chains.filter_map(|name| name.as_str().strip_prefix("in/").map(str::to_owned)).collect()
}

fn is_rolled_back(bench: &Bench, plan: &str) -> bool {
    let table = bench.table("crossfade").unwrap();
    table.chains[&name(&format!("split/{plan}/web"))].rules.is_empty()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_that_the_kernel_refuses_holds_up_no_other_s_rollback() {
    for names in [true, false] {
        let (mut bench, offers) = lacking("apart", &["tool"], names);
        let applied = bench.sends(&[("book", half()), ("shop", half())]);
        assert_eq!(Bench::refused(&applied), [""; 0]);
        assert_eq!(offers.swap(0, Ordering::Relaxed), 1);
        // The new one is refused, and says why; the others stay.
        let applied = bench.sends(&[("book", half()), ("shop", half()), ("tool", half())]);
        assert_eq!(Bench::refused(&applied), ["tool"], "{names}");
        assert!(applied.refused[0].why.contains("ENOENT"), "{applied:?}");
        assert_eq!(in_force(&bench), ["book/web", "shop/web"]);
        assert_eq!(offers.swap(0, Ordering::Relaxed), 2);
        // A rollback of another is in force.
        let applied = bench.sends(&[("book", Split::LEGACY), ("shop", half()), ("tool", half())]);
        assert_eq!(Bench::refused(&applied), ["tool"], "{names}");
        assert!(is_rolled_back(&bench, "book"));
        assert_eq!(offers.swap(0, Ordering::Relaxed), 2);
        // Nothing is offered again for it at every look.
        bench.checks();
        assert_eq!(offers.swap(0, Ordering::Relaxed), 0);
        // And so is its own.
        let applied = bench.sends(&[("book", half()), ("shop", half()), ("tool", Split::LEGACY)]);
        assert_eq!(Bench::refused(&applied), [""; 0]);
        assert_eq!(in_force(&bench), ["book/web", "shop/web", "tool/web"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kernel_that_takes_nothing_is_not_asked_for_ever() {
    let all: Vec<String> = (0..40).map(|at| format!("p{at:02}")).collect();
    let plans: Vec<(&str, Split)> = all.iter().map(|plan| (plan.as_str(), half())).collect();
    let refused: Vec<&str> = all.iter().map(String::as_str).collect();
    for names in [true, false] {
        let (mut bench, offers) = lacking("nothing", &refused, names);
        let applied = bench.sends(&plans);
        assert_eq!(Bench::refused(&applied), refused);
        assert_eq!(offers.swap(0, Ordering::Relaxed), 16);
        assert_eq!(bench.actor.world.lock().leaves().len(), 40, "what is held is not less");
        bench.actor.enforce();
        assert_eq!(offers.swap(0, Ordering::Relaxed), 1);
    }
}
