use std::sync::{Mutex, PoisonError};

use agent::dataplane::Fake;
use agent::rules::fake;
use agent::rules::{Forbidden, Host, Marks, Table};
use plan::Split;
use tokio::sync::oneshot;

use super::*;
use crate::glass::{self, Act, Log};
use crate::host::fixture::{held, item};
use crate::host::world::World;

/// An actor that has a kernel in memory, and a directory that goes with it.
struct Bench {
    actor: Actor,
    kernel: Arc<Mutex<fake::Kernel>>,
    noticed: Notify,
    again: watch::Receiver<Again>,
    confirmed: BTreeSet<PlanName>,
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.actor.directory);
    }
}

fn name(word: &str) -> rules::Name {
    rules::Name::new(word).unwrap()
}

fn half() -> Split {
    Split::from_bp(5_000).unwrap()
}

impl Bench {
    fn new(test: &str) -> Self {
        let directory =
            std::env::temp_dir().join(format!("xf-actor-{test}-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let kernel = Arc::new(Mutex::new(fake::Kernel::new([], 1)));
        let [ours, rollback] =
            Kernel::TABLES.map(|table| Fake::new(Arc::clone(&kernel), name(table)));
        let host = Host::new("10.50.0.1".parse().unwrap());
        let again = watch::channel(Again::default());
        let actor = Actor {
            world: Shared::new(World::new(host, Marks::default())),
            kernel: Kernel::new(ours, rollback),
            directory,
            stub: None,
            clock: Clock::start(),
            again: again.0,
            links: watch::channel(None).1,
            in_force: watch::channel(InForce::default()).0,
            state: State::default(),
        };
        let (again, noticed) = (again.1, Notify::new());
        let mut bench = Self { actor, kernel, noticed, again, confirmed: BTreeSet::new() };
        bench.actor.begin();
        bench
    }

    /// The controller sends these plans: a name, and the split of its one service `web`.
    fn sends(&mut self, plans: &[(&str, Split)]) -> Applied {
        let items = (1..).zip(plans).map(|(at, (plan, split))| {
            item(plan, &format!("192.0.2.{at}"), *split, 10 + u64::from(split.bp()))
        });
        let held = held(items);
        let named = held.resources.keys().cloned().collect();
        let (done, mut applied) = oneshot::channel();
        let ask = Ask::Apply { held: Arc::new(held), named, done };
        self.actor.ask(ask, &mut self.confirmed);
        applied.try_recv().unwrap()
    }

    fn kernel<T>(&self, task: impl FnOnce(&mut fake::Kernel) -> T) -> T {
        task(&mut self.kernel.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn table(&self, table: &str) -> Option<Table> {
        self.kernel(|kernel| kernel.table(&name(table)).cloned())
    }

    /// Break-glass as it would be for these services.
    fn rollback_of(&self, services: &[&str]) -> Table {
        self.actor.world.lock().rollback(|id| services.contains(&id.to_string().as_str()))
    }

    fn put(&self, table: Table) {
        self.kernel(|kernel| kernel.put(table)).unwrap();
    }

    /// What the actor does every 200 ms.
    fn checks(&mut self) {
        self.actor.check();
        self.actor.check_glass(&self.noticed);
    }

    fn glass(&self) -> Vec<String> {
        let in_force = self.actor.in_force.borrow();
        let all = in_force.force.iter().map(|force| {
            let service =
                force.service.as_ref().map_or_else(|| "*".to_owned(), ToString::to_string);
            format!("{service} by {}", force.by)
        });
        all.collect()
    }

    fn refused(applied: &Applied) -> Vec<String> {
        let plans = applied.refused.iter().flat_map(|refusal| &refusal.name);
        plans.map(|plan| plan.as_str().to_owned()).collect()
    }
}

/// `agent rollback` of one service: the kernel first, then the log.
fn command(bench: &Bench, log: &mut Log, kernel_says: &[&str], act: Act, service: Option<&str>) {
    match kernel_says {
        [] => drop(bench.kernel(|kernel| kernel.delete(&name("crossfade_rollback")))),
        some => bench.put(bench.rollback_of(some)),
    }
    let service = service.map(|id| id.parse().unwrap());
    log.append(act, service.as_ref(), "uid:0", "", plan::Timestamp::from_millis(1)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_take_away_is_put_back() {
    let mut bench = Bench::new("back");
    assert!(bench.table("crossfade").unwrap().counters.is_empty());
    assert!(bench.sends(&[("shop", half())]).refused.is_empty());
    let table = bench.table("crossfade").unwrap();
    bench.kernel(|kernel| kernel.delete(&name("crossfade")));
    bench.checks();
    assert_eq!(bench.table("crossfade"), Some(table));
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_nft_is_taken_up_and_its_end_too() {
    let mut bench = Bench::new("nft");
    bench.sends(&[("shop", half())]);
    let round = bench.again.borrow().round;
    bench.put(bench.rollback_of(&["shop/web"]));
    bench.checks();
    assert_eq!(bench.glass(), ["* by nft"]);
    assert_eq!(bench.again.borrow().round, round + 1);
    assert_eq!(Bench::refused(&bench.actor.applied()), ["shop"]);
    bench.kernel(|kernel| kernel.delete(&name("crossfade_rollback")));
    bench.checks();
    assert_eq!(bench.glass(), [""; 0]);
    assert!(bench.actor.applied().refused.is_empty());
    assert!(glass::read(&bench.actor.directory).unwrap().force.is_empty());
}

/// An act of a command is not taken for another's, however the two fall in time; and another's on
/// top of it is told as what it is.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_is_not_taken_for_another_and_what_comes_on_top_is_told() {
    let mut bench = Bench::new("command");
    bench.sends(&[("book", half()), ("shop", half())]);
    let directory = bench.actor.directory.clone();
    let mut log = Log::open(&directory).unwrap();
    bench.put(bench.rollback_of(&["shop/web"]));
    bench.checks();
    assert_eq!(bench.glass(), [""; 0], "a command is at work");
    command(&bench, &mut log, &["shop/web"], Act::Rollback, Some("shop/web"));
    drop(log);
    bench.checks();
    assert_eq!(bench.glass(), [""; 0], "what it wrote down is taken up by who looks at the log");
    bench.actor.glass_changed(&bench.noticed);
    bench.checks();
    assert_eq!(bench.glass(), ["shop/web by uid:0"]);
    assert_eq!(bench.table("crossfade_rollback"), Some(bench.rollback_of(&["shop/web"])));
    // The file that was prepared, by plain `nft -f`.
    let all = bench.rollback_of(&["book/web", "shop/web"]);
    bench.put(all.clone());
    bench.checks();
    assert_eq!(bench.glass(), ["shop/web by uid:0", "* by nft"]);
    assert_eq!(bench.table("crossfade_rollback"), Some(all), "it is left as the operator made it");
    // Ended by the command.
    let mut log = Log::open(&directory).unwrap();
    command(&bench, &mut log, &[], Act::Undo, None);
    drop(log);
    bench.actor.glass_changed(&bench.noticed);
    bench.checks();
    assert_eq!(bench.glass(), [""; 0]);
    assert_eq!(bench.table("crossfade_rollback"), None);
}

/// A disk that takes nothing keeps nobody from being told.
#[tokio::test(flavor = "multi_thread")]
async fn break_glass_that_cannot_be_written_down_is_told() {
    let mut bench = Bench::new("full");
    bench.sends(&[("shop", half())]);
    std::fs::create_dir(bench.actor.directory.join(glass::FILE)).unwrap();
    bench.put(bench.rollback_of(&["shop/web"]));
    bench.checks();
    assert_eq!(bench.glass(), ["* by nft"]);
    bench.checks();
    assert_eq!(bench.glass(), ["* by nft"]);
    bench.kernel(|kernel| kernel.delete(&name("crossfade_rollback")));
    bench.checks();
    assert_eq!(bench.glass(), [""; 0]);
}

/// The table of an agent before this one, which others made larger while none ran.
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_starts_narrows_nothing() {
    let mut bench = Bench::new("start");
    bench.sends(&[("book", half()), ("shop", half())]);
    let directory = bench.actor.directory.clone();
    let mut log = Log::open(&directory).unwrap();
    command(&bench, &mut log, &["book/web", "shop/web"], Act::Rollback, Some("shop/web"));
    drop(log);
    bench.actor.state.glass.clear();
    bench.actor.begin();
    bench.checks();
    assert_eq!(bench.glass(), ["shop/web by uid:0", "* by nft"]);
    let all = bench.rollback_of(&["book/web", "shop/web"]);
    assert_eq!(bench.table("crossfade_rollback"), Some(all));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_controller_hears_of_plans_that_the_host_refuses_since_it_changed() {
    let mut bench = Bench::new("refused");
    assert!(bench.sends(&[("book", half()), ("shop", half())]).refused.is_empty());
    bench.actor.state.untold = false;
    let mut host = bench.actor.world.lock().host.clone();
    host.forbidden.push(Forbidden {
        net: "192.0.2.1/32".parse().unwrap(),
        port: None,
        why: "a test says so".to_owned(),
    });
    bench.actor.ask(Ask::Host(Box::new(host.clone())), &mut bench.confirmed);
    assert!(bench.actor.state.untold);
    assert_eq!(Bench::refused(&bench.actor.applied()), ["book"]);
    bench.actor.state.untold = false;
    // The same again is nothing new.
    bench.actor.ask(Ask::Host(Box::new(host)), &mut bench.confirmed);
    assert!(!bench.actor.state.untold);
}
