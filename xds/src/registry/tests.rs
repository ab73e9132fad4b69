//! The book, with streams that have no sockets.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use plan::{PlanName, Token};
use proto::envoy::config::core::v3::Node;

use super::Standings;
use super::book::Book;
use super::hub::{Hub, Slot};
use crate::client::{Client, Identity, View};
use crate::join::Kind;
use crate::name::TypeUrl;
use crate::session::{Opened, Progress, Variant};
use crate::table::{Change, Edit, Encoded, Generation, Urgency};
use crate::version::Version;

/// A hub whose events are booked when asked for.
struct World {
    hub: Hub,
    book: Book,
}

fn plan(name: &str) -> PlanName {
    name.parse().unwrap()
}

fn token(revision: u64) -> Token {
    Token { incarnation: 1, revision }
}

impl World {
    fn new() -> Self {
        Self { hub: Hub::new(), book: Book::default() }
    }

    /// Changes one resource of this plan.
    fn publish(&self, revision: u64, owner: &str) {
        let type_url = TypeUrl::from("t");
        let version = Version::of(token(revision), &revision.to_le_bytes());
        let encoded = Encoded::new(&type_url, owner.into(), version, b"");
        let plans = Arc::new([plan(owner)]);
        let change = Change::Put { encoded: Arc::new(encoded), plans, needs: Arc::new([]) };
        self.edit(revision, change);
    }

    /// Removes the resource of this plan.
    fn remove(&self, revision: u64, owner: &str) {
        self.edit(revision, Change::Remove(owner.into()));
    }

    fn edit(&self, revision: u64, change: Change) {
        let edit = Edit { scope: "s".into(), type_url: "t".into(), change };
        let next = self.hub.tables().next(token(revision), Urgency::Ordinary, vec![edit]);
        self.hub.publish(Arc::new(next));
    }

    fn join(&self, id: &str, progress: &Progress) -> Arc<Slot> {
        self.come(id, None, ("s", progress))
    }

    /// A machine of this name, or nobody who is known, and the scope that it sees.
    fn come(
        &self,
        id: &str,
        machine: Option<&str>,
        (scope, progress): (&str, &Progress),
    ) -> Arc<Slot> {
        let peer = SocketAddr::from(([127, 0, 0, 1], 1));
        let opened = Opened { variant: Variant::Delta, only: None };
        let slot = self.hub.enter((peer, 0), opened, Duration::ZERO, 100).unwrap();
        let node = Node { id: id.to_owned(), ..Node::default() };
        let identity = |name: &str| Identity { kind: Kind::Agent, name: name.parse().unwrap() };
        let identity = machine.map(|name| Arc::new(identity(name)));
        let client = Client { identity, ..Client::read(&node).unwrap() };
        self.hub.join(&slot, (Arc::new(client), View::all(scope)), progress);
        slot
    }

    /// Who is told of, one of each kind; `None`: nothing is to be told.
    fn told(&mut self) -> Option<Vec<String>> {
        for event in self.hub.events() {
            self.book.apply(event);
        }
        let stale = self.book.kinds.is_stale();
        let ids = |clients: &[Arc<Client>]| clients.iter().map(|it| it.id.to_string()).collect();
        stale.then(|| ids(&self.book.kinds.tell()))
    }

    fn standings(&mut self) -> Standings {
        self.hub.with_recent(|tables, _| self.book.aim(tables));
        for event in self.hub.events() {
            self.book.apply(event);
        }
        self.hub.with_recent(|_, recent| self.book.standings(recent))
    }

    fn owes(&mut self, id: &str) -> Vec<String> {
        let standings = self.standings();
        standings.sink(id).unwrap().owes().iter().map(PlanName::to_string).collect()
    }
}

fn at(generation: u64, owes: &[&str]) -> Progress {
    Progress {
        seen: Generation(generation),
        acked: token(generation),
        owes: Arc::new(owes.iter().map(|name| plan(name)).collect()),
        ..Progress::default()
    }
}

#[test]
fn machines_that_say_the_same_are_each_told_of() {
    let mut world = World::new();
    let begin = Progress::default();
    let a = world.come("vm-a", Some("vm-a"), ("host/vm-a", &begin));
    let _b = world.come("vm-b", Some("vm-b"), ("host/vm-b", &begin));
    let _c = world.come("vm-c", Some("vm-c"), ("hosts", &begin));
    let _d = world.come("vm-d", Some("vm-d"), ("hosts", &begin));
    assert_eq!(world.told().unwrap(), ["vm-a", "vm-b", "vm-c", "vm-d"]);
    world.hub.leave(&a, Duration::ZERO);
    assert_eq!(world.told().unwrap(), ["vm-b", "vm-c", "vm-d"]);
    // It sees what it saw, and something else.
    let _again = world.come("vm-b", Some("vm-b"), ("host/vm-b", &begin));
    assert_eq!(world.told(), None);
    let _other = world.come("vm-b/envoy", Some("vm-b"), ("sidecar", &begin));
    assert_eq!(world.told().unwrap(), ["vm-b", "vm-c", "vm-d", "vm-b/envoy"]);
}

#[test]
fn a_kind_is_told_of_by_one_who_is_there() {
    let mut world = World::new();
    let begin = Progress::default();
    let a = world.join("a", &begin);
    let b = world.join("b", &begin);
    assert_eq!(world.told().unwrap(), ["a"]);
    let c = world.join("c", &begin);
    assert_eq!(world.told(), None);
    world.hub.leave(&b, Duration::ZERO);
    assert_eq!(world.told(), None);
    world.hub.leave(&a, Duration::ZERO);
    assert_eq!(world.told().unwrap(), ["c"]);
    world.hub.leave(&c, Duration::ZERO);
    assert_eq!(world.told().unwrap(), [""; 0]);
    assert_eq!(world.book.kinds.len(), 0);
}

#[test]
fn what_a_stream_has_not_seen_is_owed() {
    let mut world = World::new();
    world.publish(1, "shop");
    let slot = world.join("n", &at(1, &[]));
    assert_eq!(world.owes("n"), [""; 0]);
    assert!(!world.book.anybody_lags());
    world.publish(2, "shop");
    world.publish(3, "mail");
    assert_eq!(world.owes("n"), ["mail", "shop"]);
    assert!(world.book.anybody_lags());
    world.hub.moved(&slot, &at(2, &[]));
    assert_eq!(world.owes("n"), ["mail"]);
    // It has seen all, and what it subscribes to is on its way.
    world.hub.moved(&slot, &at(3, &["shop"]));
    assert_eq!(world.owes("n"), ["shop"]);
    assert!(world.book.anybody_lags());
    world.hub.moved(&slot, &at(3, &[]));
    assert_eq!(world.owes("n"), [""; 0]);
    assert!(!world.book.anybody_lags());
}

#[test]
fn a_sink_is_as_far_as_its_slowest_stream() {
    let mut world = World::new();
    world.publish(1, "shop");
    world.publish(2, "mail");
    let one = world.join("n", &at(2, &[]));
    let two = world.join("n", &at(1, &["shop"]));
    let sink = Arc::clone(world.standings().sink("n").unwrap());
    assert_eq!((sink.streams, sink.progress.acked), (2, token(1)));
    assert_eq!(world.owes("n"), ["mail", "shop"]);
    world.hub.leave(&two, Duration::from_secs(1));
    assert_eq!(world.owes("n"), [""; 0]);
    world.hub.leave(&one, Duration::from_secs(2));
    let standings = world.standings();
    assert!(standings.sinks.is_empty() && !world.book.anybody_lags());
    assert_eq!(standings.away[0].left, Some(Duration::from_secs(2)));
}

#[test]
fn unchanged_sinks_are_the_same_as_before() {
    let mut world = World::new();
    world.publish(1, "shop");
    let _one = world.join("a", &at(1, &[]));
    let two = world.join("b", &at(1, &["shop"]));
    let before = world.standings();
    world.hub.moved(&two, &at(1, &[]));
    world.hub.moved(&two, &at(1, &[]));
    let after = world.standings();
    assert!(Arc::ptr_eq(&before.sinks[0], &after.sinks[0]));
    assert!(!Arc::ptr_eq(&before.sinks[1], &after.sinks[1]));
}

#[test]
fn who_lags_further_than_is_remembered_owes_everything() {
    let world = World::new();
    for n in 1..=2_000 {
        world.publish(n, if n == 1 { "old" } else { "new" });
    }
    let names = |seen| -> Vec<String> {
        let since = world.hub.with_recent(|_, recent| recent.since(Generation(seen)));
        since.iter().map(PlanName::to_string).collect()
    };
    assert_eq!(names(2_000), [""; 0]);
    assert_eq!(names(1_999), ["new"]);
    assert_eq!(names(1_990), ["new"]);
    assert_eq!(names(0), ["new", "old"]);
}

#[test]
fn plans_that_are_no_more_are_forgotten() {
    let world = World::new();
    world.publish(1, "stays");
    let statements = 6_000;
    for n in (2..statements).step_by(2) {
        let owner = format!("p{n}");
        world.publish(n, &owner);
        world.remove(n + 1, &owner);
    }
    let all = world.hub.with_recent(|_, recent| recent.since(Generation(0)));
    assert!(all.contains(&plan("stays")) && all.contains(&plan("p5998")));
    assert!(!all.contains(&plan("p2")));
    // Those of the newest statements, twice, and some.
    assert!(all.len() < 2_500, "{}", all.len());
}
