mod apart;

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use agent::dataplane::{DataplaneError, Fake, Straggler, Tally};
use agent::rules::fake;
use agent::rules::{Forbidden, Host, Marks, Table};
use plan::Split;
use tokio::sync::oneshot;
use xds::follow::Held;

use super::*;
use crate::glass::{self, Act, Force, Log};
use crate::host::fixture::{held, item, item_of};
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
            watchdog: Watchdog::nobody(),
            state: State::default(),
        };
        let (again, noticed) = (again.1, Notify::new());
        let mut bench = Self { actor, kernel, noticed, again, confirmed: BTreeSet::new() };
        bench.actor.begin();
        bench
    }

    /// Another process begins with what is on disk.
    fn restarts(&mut self) {
        self.actor.state = State::default();
        self.actor.begin();
    }

    /// The controller sends these plans: a name, and the split of its one service `web`.
    fn sends(&mut self, plans: &[(&str, Split)]) -> Applied {
        let items = (1..).zip(plans).map(|(at, (plan, split))| {
            item(plan, &format!("192.0.2.{at}"), *split, 10 + u64::from(split.bp()))
        });
        self.sends_items(held(items))
    }

    fn sends_items(&mut self, held: Held) -> Applied {
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
        let all = in_force.force.iter();
        all.map(|force| format!("{} by {}", force.subject(), force.by)).collect()
    }

    /// A service of datagrams at 192.0.2.1 with this split and target.
    fn sends_datagrams(&mut self, split: Split, target: &str, revision: u64) {
        let item = item_of("shop", "192.0.2.1", split, revision, ["udp", target]);
        assert!(self.sends_items(held([item])).refused.is_empty());
    }

    /// Where a client's datagrams go.
    fn datagram(&self) -> String {
        let (source, destination) = ("10.20.0.9:4000", "192.0.2.1:8080");
        let packet = fake::Packet {
            transport: rules::Transport::Udp,
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
        };
        self.kernel(|kernel| kernel.receive(packet)).destination.ip().to_string()
    }

    /// Flows to legacy and to target, as they are told.
    fn measured(&mut self) -> [u64; 2] {
        self.actor.show();
        let in_force = self.actor.in_force.borrow();
        in_force.services.first().map_or([0, 0], |one| [one.legacy, one.target])
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
    // A table of the controller that comes before it is noticed does not put it back.
    bench.sends(&[("shop", half())]);
    assert_eq!(bench.table("crossfade_rollback"), None);
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
    bench.actor.state.glass.force.clear();
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

/// Rules that do not stand are no reason to end break-glass, whatever the controller says.
#[tokio::test(flavor = "multi_thread")]
async fn break_glass_does_not_end_while_the_kernel_holds_something_else() {
    let mut bench = Bench::new("broken");
    bench.sends(&[("shop", half())]);
    let directory = bench.actor.directory.clone();
    let mut log = Log::open(&directory).unwrap();
    command(&bench, &mut log, &["shop/web"], Act::Rollback, None);
    drop(log);
    bench.actor.glass_changed(&bench.noticed);
    let [wrong, rollback] = ["another", "crossfade_rollback"]
        .map(|table| Fake::new(Arc::clone(&bench.kernel), name(table)));
    let [ours, kept] =
        Kernel::TABLES.map(|table| Fake::new(Arc::clone(&bench.kernel), name(table)));
    bench.actor.kernel = Kernel::new(wrong, rollback);
    assert_eq!(Bench::refused(&bench.sends(&[("shop", Split::LEGACY)])), ["shop"]);
    assert_eq!(bench.glass(), ["* by uid:0"]);
    assert!(bench.table("crossfade_rollback").is_some(), "the kernel still splits");
    // It holds it again, and the controller says the same once more.
    bench.actor.kernel = Kernel::new(ours, kept);
    assert!(bench.sends(&[("shop", Split::LEGACY)]).refused.is_empty());
    assert_eq!(bench.table("crossfade_rollback"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn datagrams_leave_an_endpoint_that_is_gone_and_legacy_that_lost() {
    let mut bench = Bench::new("datagrams");
    // Before the service is in any plan.
    assert_eq!(bench.datagram(), "192.0.2.1");
    bench.sends_datagrams(Split::LEGACY, "10.40.0.2", 1);
    assert_eq!(bench.datagram(), "192.0.2.1", "at 0 % it is left alone");
    bench.sends_datagrams(Split::TARGET, "10.40.0.2", 2);
    assert_eq!(bench.datagram(), "10.40.0.2");
    bench.sends_datagrams(Split::TARGET, "10.40.0.3", 3);
    assert_eq!(bench.datagram(), "10.40.0.3");
    bench.sends_datagrams(Split::LEGACY, "10.40.0.3", 4);
    assert_eq!(bench.datagram(), "10.30.0.2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_loses_no_count_and_nothing_that_was_to_be_done() {
    let mut bench = Bench::new("restart");
    bench.sends_datagrams(Split::TARGET, "10.40.0.2", 1);
    bench.datagram();
    assert_eq!(bench.measured(), [0, 1]);
    bench.restarts();
    assert_eq!(bench.measured(), [0, 1]);
    // Killed when the table stood, and nothing else was done.
    let leaves = |bench: &Bench| bench.actor.world.lock().leaves();
    let item = item_of("shop", "192.0.2.1", Split::LEGACY, 2, ["udp", "10.40.0.2"]);
    bench.actor.world.lock().take(&held([item]));
    bench.actor.enforce();
    assert_eq!(leaves(&bench)[0].serving.split(), Split::LEGACY);
    assert_eq!(bench.datagram(), "10.40.0.2");
    bench.restarts();
    assert_eq!(bench.datagram(), "10.30.0.2");
}

/// Ended by our command, which forgets nothing here, or by plain nft.
#[tokio::test(flavor = "multi_thread")]
async fn datagrams_follow_break_glass_there_and_back() {
    let mut bench = Bench::new("there-and-back");
    bench.sends_datagrams(Split::TARGET, "10.40.0.2", 1);
    for by_nft in [false, true] {
        assert_eq!(bench.datagram(), "10.40.0.2");
        let directory = bench.actor.directory.clone();
        if by_nft {
            bench.put(bench.rollback_of(&["shop/web"]));
        } else {
            let mut log = Log::open(&directory).unwrap();
            command(&bench, &mut log, &["shop/web"], Act::Rollback, None);
            drop(log);
            bench.actor.glass_changed(&bench.noticed);
        }
        bench.checks();
        bench.checks();
        assert_eq!(bench.datagram(), "10.30.0.2", "by nft: {by_nft}");
        if by_nft {
            bench.kernel(|kernel| kernel.delete(&name("crossfade_rollback")));
        } else {
            let mut log = Log::open(&directory).unwrap();
            command(&bench, &mut log, &[], Act::Undo, None);
            drop(log);
            bench.actor.glass_changed(&bench.noticed);
        }
        bench.checks();
        bench.checks();
    }
    assert_eq!(bench.datagram(), "10.40.0.2");
}

/// This host must not touch it any more, or it is in no plan any more.
#[tokio::test(flavor = "multi_thread")]
async fn datagrams_of_a_service_that_is_out_of_force_go_where_they_are_sent() {
    let mut bench = Bench::new("out");
    bench.sends_datagrams(Split::TARGET, "10.40.0.2", 1);
    assert_eq!(bench.datagram(), "10.40.0.2");
    let before = bench.actor.world.lock().host.clone();
    let mut host = before.clone();
    host.forbidden.push(Forbidden {
        net: "192.0.2.1/32".parse().unwrap(),
        port: None,
        why: "a test says so".to_owned(),
    });
    bench.actor.ask(Ask::Host(Box::new(host)), &mut bench.confirmed);
    assert_eq!(Bench::refused(&bench.actor.applied()), ["shop"]);
    assert_eq!(bench.datagram(), "192.0.2.1");
    bench.restarts();
    bench.actor.ask(Ask::Host(Box::new(before)), &mut bench.confirmed);
    assert_eq!(bench.datagram(), "10.40.0.2", "it is back");
    bench.sends_items(held([]));
    assert_eq!(bench.datagram(), "192.0.2.1");
}

/// A table that does not say what was counted while this is so.
struct Deaf(Fake, Arc<std::sync::atomic::AtomicBool>);

impl agent::dataplane::Dataplane for Deaf {
    fn adopt(&mut self) -> Result<agent::dataplane::Adopted, DataplaneError> {
        self.0.adopt()
    }

    fn commit(&mut self, table: &Table) -> Result<agent::dataplane::Committed, DataplaneError> {
        self.0.commit(table)
    }

    fn counters(&mut self) -> Result<BTreeMap<rules::Name, Tally>, DataplaneError> {
        if self.1.load(std::sync::atomic::Ordering::Relaxed) {
            return Err(DataplaneError::Restless(1));
        }
        self.0.counters()
    }

    fn stragglers(&mut self) -> Result<BTreeMap<rules::Name, Vec<Straggler>>, DataplaneError> {
        self.0.stragglers()
    }

    fn forget(&mut self, which: &Forget) -> Result<(), DataplaneError> {
        self.0.forget(which)
    }

    fn remove(&mut self) -> Result<bool, DataplaneError> {
        self.0.remove()
    }

    fn is_intact(&mut self) -> Result<bool, DataplaneError> {
        self.0.is_intact()
    }
}

/// What was counted under the split before is none of the new one.
#[tokio::test(flavor = "multi_thread")]
async fn counters_that_cannot_be_read_when_the_split_changes() {
    let mut bench = Bench::new("deaf");
    bench.sends_datagrams(Split::TARGET, "10.40.0.2", 1);
    bench.datagram();
    assert_eq!(bench.measured(), [0, 1]);
    let deaf = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let [ours, rollback] =
        Kernel::TABLES.map(|table| Fake::new(Arc::clone(&bench.kernel), name(table)));
    bench.actor.kernel = Kernel::new(Deaf(ours, Arc::clone(&deaf)), rollback);
    bench.sends_datagrams(Split::LEGACY, "10.40.0.2", 2);
    assert_eq!(bench.measured(), [0, 0]);
    deaf.store(false, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(bench.measured(), [0, 0]);
    assert_eq!(bench.datagram(), "10.30.0.2");
    assert_eq!(bench.measured(), [1, 0]);
    bench.checks();
    bench.restarts();
    assert_eq!(bench.measured(), [1, 0]);
}

/// As after an older package was put in place of a newer one.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_cannot_be_read_takes_nothing_out_of_force() {
    let mut bench = Bench::new("unreadable");
    bench.sends(&[("shop", half())]);
    let table = bench.table("crossfade").unwrap();
    let lies_ready = std::fs::read(bench.actor.directory.join(files::ROLLBACK)).unwrap();
    let (shop, mut newer) = item("shop", "192.0.2.1", half(), 20);
    newer.body = bytes::Bytes::from_static(b"\xff");
    let host = bench.actor.world.lock().host.clone();
    let mut world = World::new(host, bench.actor.world.lock().marks.clone());
    world.take(&held([(shop, newer)]));
    *bench.actor.world.lock() = world;
    bench.restarts();
    bench.checks();
    assert_eq!(bench.table("crossfade"), Some(table));
    assert_eq!(Bench::refused(&bench.actor.applied()), ["shop"]);
    assert!(bench.actor.in_force.borrow().broken.is_some());
    assert_eq!(std::fs::read(bench.actor.directory.join(files::ROLLBACK)).unwrap(), lies_ready);
    // The controller says it in words that are understood.
    assert!(bench.sends(&[("shop", Split::LEGACY)]).refused.is_empty());
    assert!(bench.actor.state.broken.is_none());
}

/// Legacy is a program on this host.
#[tokio::test(flavor = "multi_thread")]
async fn what_only_a_program_here_can_close_is_told() {
    let mut bench = Bench::new("drained");
    let drained = |bench: &mut Bench| {
        let (done, mut drained) = oneshot::channel();
        let services = vec!["book/web".parse().unwrap()];
        bench.actor.ask(Ask::Drain { services, done }, &mut bench.confirmed);
        let Drained { closed, left } = drained.try_recv().unwrap();
        (closed.len(), left.len())
    };
    bench.sends(&[("book", half())]);
    assert_eq!(drained(&mut bench), (0, 0));
    bench.sends(&[("book", Split::TARGET)]);
    assert_eq!(drained(&mut bench), (1, 0), "legacy is elsewhere");
    let mut host = bench.actor.world.lock().host.clone();
    host.own.extend(["192.0.2.1", "10.30.0.2"].map(|own| own.parse::<IpAddr>().unwrap()));
    bench.actor.ask(Ask::Host(Box::new(host)), &mut bench.confirmed);
    assert_eq!(drained(&mut bench), (0, 1));
    bench.sends(&[("book", Split::LEGACY)]);
    assert_eq!(drained(&mut bench), (1, 0), "target has lost");
}

/// What break-glass takes first is counted in its own table.
#[tokio::test(flavor = "multi_thread")]
async fn what_break_glass_takes_is_measured_as_legacy() {
    let mut bench = Bench::new("measured");
    bench.sends_datagrams(Split::TARGET, "10.40.0.2", 1);
    bench.put(bench.rollback_of(&["shop/web"]));
    assert_eq!(bench.datagram(), "10.30.0.2");
    assert_eq!(bench.measured(), [1, 0]);
    // It ends, and its counters with it.
    bench.kernel(|kernel| kernel.delete(&name("crossfade_rollback")));
    assert_eq!(bench.measured(), [1, 0]);
}

#[test]
fn names_are_answered_as_break_glass_says() {
    let mut world = World::new(Host::new("10.50.0.1".parse().unwrap()), Marks::default());
    let items = [("book", "192.0.2.1"), ("shop", "192.0.2.2")]
        .map(|(plan, address)| item(plan, address, Split::TARGET, 1));
    world.take(&held(items));
    let force = Force {
        service: Some("shop/web".parse().unwrap()),
        since: plan::Timestamp::from_millis(1),
        by: "uid:0".to_owned(),
        reason: String::new(),
    };
    let splits = |force: &[Force]| {
        let mut glass = Glass::nothing();
        glass.force.extend_from_slice(force);
        let leaves = on_legacy(world.leaves(), &glass);
        leaves.iter().map(|leaf| leaf.serving.split()).collect::<Vec<_>>()
    };
    assert_eq!(splits(&[]), [Split::TARGET, Split::TARGET]);
    assert_eq!(splits(std::slice::from_ref(&force)), [Split::TARGET, Split::LEGACY]);
    assert_eq!(splits(&[Force { service: None, ..force }]), [Split::LEGACY, Split::LEGACY]);
}
