//! A model of a client, and what must hold whatever happens between it and a stream.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use plan::Token;
use proptest::prelude::*;
use proto::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest};
use proto::google::rpc::Status;
use xds::session::{Limits, Next, Request, Variant};
use xds::{Edit, Scope, Tables, Urgency, Version};

use crate::world::{self, Read, World};

/// The types of the model; clusters and listeners are always wanted all.
const TYPES: [&str; 4] = ["cds", "eds", "lds", "rds"];
const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];
const PLANS: [&str; 3] = ["p", "q", "r"];

/// What happens.
#[derive(Clone, Debug)]
enum Op {
    /// Tables change: type, name, put or remove, plan, clusters needed (bits).
    Edit { edits: Vec<(usize, usize, bool, usize, u8)>, urgent: bool },
    /// The server reads a request.
    Up,
    /// The server writes a response.
    Down,
    /// The client reads a response.
    Read,
    /// The client asks for a name of endpoints or routes.
    Subscribe { routes: bool, name: usize },
    /// The client gives it back.
    Unsubscribe { routes: bool, name: usize },
    /// The client sends its last request again.
    Duplicate,
    /// The connection is cut; the next server may be so many statements behind.
    Cut { behind: usize },
    /// From now on the client refuses a name, or does so no more.
    Poison { of: usize, name: usize, on: bool },
    /// Everything on its way arrives.
    Settle,
}

fn ops(urgent: bool) -> impl Strategy<Value = Vec<Op>> {
    let edit = (0..4_usize, 0..5_usize, prop::bool::weighted(0.75), 0..3_usize, 0_u8..32);
    let name = || (any::<bool>(), 0..5_usize);
    let op = prop_oneof![
        4 => (prop::collection::vec(edit, 1..5), any::<bool>())
            .prop_map(move |(edits, hurry)| Op::Edit { edits, urgent: urgent && hurry }),
        6 => Just(Op::Up),
        6 => Just(Op::Down),
        6 => Just(Op::Read),
        2 => name().prop_map(|(routes, name)| Op::Subscribe { routes, name }),
        2 => name().prop_map(|(routes, name)| Op::Unsubscribe { routes, name }),
        1 => Just(Op::Duplicate),
        1 => (0..4_usize).prop_map(|behind| Op::Cut { behind }),
        1 => (0..4_usize, 0..5_usize, any::<bool>())
            .prop_map(|(of, name, on)| Op::Poison { of, name, on }),
        2 => Just(Op::Settle),
    ];
    prop::collection::vec(op, 1..80)
}

/// What the client keeps of one type, over all its connections.
#[derive(Default)]
struct Cache {
    wildcard: bool,
    names: BTreeSet<&'static str>,
    held: BTreeMap<String, String>,
    /// What it gave back and let go of, which the server cannot know at once.
    let_go: BTreeSet<&'static str>,
    /// SotW: of the last response that was taken.
    version: String,
    /// Since then it took a part of one that it refused: what it has has no version.
    mixed: bool,
    /// Of the last response on this connection.
    nonce: String,
}

impl Cache {
    fn covers(&self, name: &str) -> bool {
        self.wildcard || self.names.contains(name)
    }
}

struct Model {
    world: World,
    /// Every statement that was ever made.
    history: Vec<Tables>,
    needs: BTreeMap<String, u8>,
    edits: usize,
    caches: BTreeMap<&'static str, Cache>,
    poison: BTreeSet<(&'static str, &'static str)>,
    /// The client names what it refuses.
    names_it: bool,
    nacked: bool,
    hurried: bool,
    up: VecDeque<(Option<&'static str>, Request)>,
    last: Option<Request>,
    down: VecDeque<(Read, Tables)>,
    /// Responses that the server has sent and whose verdict it has not read.
    outstanding: BTreeMap<&'static str, usize>,
}

impl Model {
    fn new(variant: Variant, star: bool, names_it: bool) -> Self {
        let caches = TYPES.map(|short| {
            let wildcard = matches!(short, "cds" | "lds") || (short == "eds" && star);
            (short, Cache { wildcard, ..Cache::default() })
        });
        let mut model = Self {
            world: World::new(variant, None, Limits::default()),
            history: Vec::new(),
            needs: BTreeMap::new(),
            edits: 0,
            caches: caches.into(),
            poison: BTreeSet::new(),
            names_it,
            nacked: false,
            hurried: false,
            up: VecDeque::new(),
            last: None,
            down: VecDeque::new(),
            outstanding: BTreeMap::new(),
        };
        let declared = TYPES.iter().map(|short| world::declare(world::type_url(short)));
        model.publish(Urgency::Ordinary, declared.collect());
        model.connect(0);
        model
    }

    fn publish(&mut self, urgency: Urgency, edits: Vec<Edit>) {
        self.catch_up();
        self.world.publish(urgency, edits);
        self.history.push(self.world.tables.clone());
    }

    /// A server that was behind has all that was ever said.
    fn catch_up(&mut self) {
        if let Some(newest) = self.history.last() {
            self.world.tables = newest.clone();
        }
    }

    fn connect(&mut self, behind: usize) {
        self.world.reopen(None);
        // No two streams begin at the same moment.
        self.world.now += Duration::from_nanos(1);
        self.up.clear();
        self.down.clear();
        self.outstanding.clear();
        // What a client of state of the world keeps of a response that it refused has no version.
        let behind = if self.world.variant == Variant::Sotw && self.nacked { 0 } else { behind };
        let at = self.history.len().saturating_sub(1 + behind);
        self.world.tables = self.history[at].clone();
        for short in TYPES {
            let cache = self.caches.get_mut(short).unwrap();
            cache.nonce.clear();
            let explicit = cache.names.iter().map(|name| (*name).to_owned());
            let star = (cache.wildcard && (short == "eds" || !cache.names.is_empty()))
                .then(|| "*".to_owned());
            let names: Vec<String> = explicit.chain(star).collect();
            let held = cache.held.clone();
            // A version that it had of a name which it gave back and wants again says that it has
            // it: a client that does not take that back cannot be helped by any server.
            let lacks = cache.let_go.iter().any(|name| cache.covers(name));
            let known = !lacks && !cache.mixed;
            let version = if known { cache.version.clone() } else { String::new() };
            let request = self.asked(short, names, Vec::new(), held, version, None);
            self.up.push_back((None, request));
        }
    }

    fn asked(
        &self,
        short: &str,
        subscribe: Vec<String>,
        unsubscribe: Vec<String>,
        held: BTreeMap<String, String>,
        version: String,
        error: Option<String>,
    ) -> Request {
        let node = Some(world::node("model"));
        let type_url = world::type_url(short).as_str().to_owned();
        let response_nonce = self.caches[short].nonce.clone();
        let error_detail = error.map(|message| Status { code: 3, message });
        match self.world.variant {
            Variant::Delta => Request::Delta(Box::new(DeltaDiscoveryRequest {
                node,
                type_url,
                resource_names_subscribe: subscribe,
                resource_names_unsubscribe: unsubscribe,
                initial_resource_versions: held,
                response_nonce,
                error_detail,
            })),
            Variant::Sotw => Request::Sotw(Box::new(DiscoveryRequest {
                version_info: version,
                node,
                type_url,
                resource_names: subscribe,
                response_nonce,
                error_detail,
            })),
        }
    }

    /// SotW repeats all names.
    fn all_names(&self, short: &str) -> Vec<String> {
        let cache = &self.caches[short];
        let star = (cache.wildcard && short == "eds").then_some("*");
        cache.names.iter().copied().chain(star).map(str::to_owned).collect()
    }

    fn say(&mut self, verdict: Option<&'static str>, request: Request) {
        self.last = Some(request.clone());
        self.up.push_back((verdict, request));
    }

    fn change(&mut self, short: &'static str, name: &'static str, on: bool) {
        let cache = self.caches.get_mut(short).unwrap();
        let news = if on { cache.names.insert(name) } else { cache.names.remove(name) };
        if !news {
            return;
        }
        let told = self.world.variant == Variant::Delta || !cache.wildcard;
        if !on && told {
            // Delta: what is given back under the star is told anew.
            cache.held.remove(name);
            cache.let_go.insert(name);
        }
        let version = cache.version.clone();
        let request = match self.world.variant {
            Variant::Delta => {
                let (subscribe, unsubscribe) =
                    if on { (vec![name], vec![]) } else { (vec![], vec![name]) };
                let owned = |names: Vec<&str>| names.into_iter().map(str::to_owned).collect();
                self.asked(
                    short,
                    owned(subscribe),
                    owned(unsubscribe),
                    BTreeMap::new(),
                    version,
                    None,
                )
            }
            Variant::Sotw => {
                let names = self.all_names(short);
                self.asked(short, names, Vec::new(), BTreeMap::new(), version, None)
            }
        };
        self.say(None, request);
    }

    fn up(&mut self) -> bool {
        let Some((verdict, request)) = self.up.pop_front() else { return false };
        self.world.request(request).unwrap();
        if let Some(short) = verdict {
            *self.outstanding.get_mut(short).unwrap() -= 1;
        }
        true
    }

    fn poll_down(&mut self) -> bool {
        let Some(read) = self.world.poll() else { return false };
        let outstanding = self.outstanding.entry(read.short).or_default();
        *outstanding += 1;
        assert!(self.hurried || *outstanding == 1, "two pushes are outstanding");
        self.down.push_back((read, self.world.tables.clone()));
        true
    }

    fn read(&mut self) -> bool {
        let Some((read, tables)) = self.down.pop_front() else { return false };
        let short = read.short;
        let cache = &self.caches[short];
        let news: Vec<&(String, String)> = read
            .resources
            .iter()
            .filter(|(name, version)| cache.covers(name) && cache.held.get(name) != Some(version))
            .collect();
        for (name, version) in &news {
            self.check_order(short, name, version, &tables);
        }
        let cache = &self.caches[short];
        let poisoned = |name: &str| self.poison.iter().any(|poison| *poison == (short, name));
        let refused: BTreeSet<&str> =
            news.iter().map(|(name, _)| name.as_str()).filter(|name| poisoned(name)).collect();
        let error = (!refused.is_empty()).then(|| match self.names_it {
            true => refused.iter().copied().collect::<Vec<_>>().join(", "),
            false => "something is bad".to_owned(),
        });
        let mut held = cache.held.clone();
        if error.is_none() || self.names_it {
            let whole = self.world.variant == Variant::Sotw && matches!(short, "cds" | "lds");
            if whole {
                let there: BTreeSet<&str> =
                    read.resources.iter().map(|(name, _)| name.as_str()).collect();
                held.retain(|name, _| there.contains(name.as_str()));
            }
            for (name, version) in news {
                if !refused.contains(name.as_str()) {
                    held.insert(name.clone(), version.clone());
                }
            }
            for name in &read.removed {
                held.remove(name);
            }
        }
        let cache = self.caches.get_mut(short).unwrap();
        cache.let_go.retain(|name| !held.contains_key(*name));
        cache.held = held;
        cache.nonce.clone_from(&read.nonce);
        cache.mixed = error.is_some();
        if error.is_none() {
            cache.version.clone_from(&read.version);
        }
        self.nacked |= error.is_some();
        let version = cache.version.clone();
        let names = match self.world.variant {
            Variant::Delta => Vec::new(),
            Variant::Sotw => self.all_names(short),
        };
        let request = self.asked(short, names, Vec::new(), BTreeMap::new(), version, error);
        self.say(Some(short), request);
        true
    }

    /// Nothing older than what the client has, and no route before its clusters.
    fn check_order(&self, short: &str, name: &str, version: &str, tables: &Tables) {
        let since = |text: &str| Version::parse(text).since().unwrap();
        if let Some(held) = self.caches[short].held.get(name) {
            assert!(since(held) < since(version), "{short} {name}: {version} after {held}");
        }
        for kind in ["cds", "eds"] {
            let table = tables.table(&Scope::new(world::SCOPE), &world::type_url(kind)).unwrap();
            let cache = &self.caches[kind];
            for (at, cluster) in NAMES.iter().enumerate() {
                let needed = self.needs[version] >> at & 1 == 1 && table.get(cluster).is_some();
                // Of endpoints by name there may be a request on its way.
                if needed && cache.wildcard && !cache.let_go.contains(cluster) {
                    assert!(
                        cache.held.contains_key(*cluster),
                        "{short} {name} before {kind} {cluster}"
                    );
                }
            }
        }
    }

    fn edit(&mut self, edits: &[(usize, usize, bool, usize, u8)], urgent: bool) {
        self.catch_up();
        self.hurried |= urgent;
        let mut made = Vec::new();
        for (of, name, on, plan, needs) in edits {
            let (short, name) = (TYPES[*of], NAMES[*name]);
            let type_url = world::type_url(short);
            if !on {
                made.push(world::remove(type_url, name));
                continue;
            }
            self.edits += 1;
            let text = format!("{short} {name} {}", self.edits);
            let version = Version::of(self.world.next_token(), text.as_bytes());
            let needs = if matches!(short, "lds" | "rds") { *needs } else { 0 };
            self.needs.insert(version.to_string(), needs);
            let clusters: Vec<&str> =
                (0..5).filter(|at| needs >> at & 1 == 1).map(|at| NAMES[at]).collect();
            made.push(world::put(type_url, name, version, &[PLANS[*plan]], &clusters));
        }
        let urgency = if urgent { Urgency::Urgent } else { Urgency::Ordinary };
        self.publish(urgency, made);
    }

    /// Everything on its way arrives; then `owes` is exact.
    fn settle(&mut self) {
        self.catch_up();
        while self.up() || self.poll_down() || self.read() {}
        // It has asked for all that it asks for.
        self.world.now += Duration::from_secs(1);
        for _ in 0..10_000 {
            while self.up() || self.poll_down() || self.read() {}
            let now = self.world.now;
            match self.world.session.poll(&self.world.tables, now) {
                Next::Wait(None) => {
                    self.check_owed();
                    return;
                }
                // A gate that waits for what the client refuses ends by itself, or never.
                Next::Wait(Some(at)) if self.poison.is_empty() => self.world.now = at,
                Next::Wait(Some(_)) => return,
                Next::Send(_) => panic!("it was silent"),
            }
        }
        panic!("it never ends");
    }

    fn check_owed(&self) {
        let progress = self.world.session.progress();
        let missing = self.missing();
        assert_eq!(progress.seen, self.world.tables.generation());
        if !self.names_it && progress.refused.is_some() && missing.is_empty() {
            // What it refused without a name may be what it had from before.
            return;
        }
        // Whose part a name had rendered that was gone when this stream began is not known.
        let unknown = missing.iter().all(|what| what.contains('-'));
        assert!(progress.owes.is_empty() == missing.is_empty() || unknown, "{missing:?}");
        let acked = progress.acked == self.world.tables.token();
        assert_eq!(acked, missing.is_empty(), "{missing:?} {:?}", progress.owes);
    }

    /// What the client does not have as the tables have it.
    fn missing(&self) -> Vec<String> {
        let mut missing = Vec::new();
        for short in TYPES {
            let cache = &self.caches[short];
            let tables = &self.world.tables;
            let table = tables.table(&Scope::new(world::SCOPE), &world::type_url(short)).unwrap();
            for resource in table.iter() {
                let name = resource.name().as_str();
                let version = resource.version().to_string();
                if cache.covers(name) && cache.held.get(name) != Some(&version) {
                    missing.push(format!("{short} +{name}"));
                }
            }
            let lingers = self.world.variant == Variant::Sotw && matches!(short, "eds" | "rds");
            let gone = cache.held.keys().filter(|name| table.get(name).is_none() && !lingers);
            missing.extend(gone.map(|name| format!("{short} -{name}")));
        }
        missing
    }

    fn apply(&mut self, op: &Op) {
        match op {
            Op::Edit { edits, urgent } => self.edit(edits, *urgent),
            Op::Up => {
                self.up();
            }
            Op::Down => {
                self.poll_down();
            }
            Op::Read => {
                self.read();
            }
            Op::Subscribe { routes, name } => {
                self.change(if *routes { "rds" } else { "eds" }, NAMES[*name], true);
            }
            Op::Unsubscribe { routes, name } => {
                self.change(if *routes { "rds" } else { "eds" }, NAMES[*name], false);
            }
            Op::Duplicate => {
                if let Some(last) = self.last.take().filter(|_| !self.up.is_empty()) {
                    self.up.push_back((None, last));
                }
            }
            Op::Cut { behind } => self.connect(*behind),
            Op::Poison { of, name, on: true } => {
                self.poison.insert((TYPES[*of], NAMES[*name]));
            }
            Op::Poison { of, name, on: false } => {
                self.poison.remove(&(TYPES[*of], NAMES[*name]));
            }
            Op::Settle => self.settle(),
        }
    }

    /// Whatever was refused changes, and the client refuses nothing more: it has everything.
    fn finish(&mut self) {
        self.settle();
        self.poison.clear();
        let again: Vec<(usize, usize, bool, usize, u8)> = (0..4)
            .flat_map(|of| (0..5).map(move |name| (of, name, true, 0, 0)))
            .filter(|(of, name, ..)| {
                let type_url = world::type_url(TYPES[*of]);
                let table = self.world.tables.table(&Scope::new(world::SCOPE), &type_url);
                table.unwrap().get(NAMES[*name]).is_some()
            })
            .collect();
        self.edit(&again, false);
        self.settle();
        assert_eq!(self.missing(), Vec::<String>::new());
        assert!(self.world.session.progress().owes.is_empty());
        assert!(self.world.session.progress().acked > Token::NEVER);
        assert!(self.world.now < Duration::from_secs(10_000));
    }
}

fn play(variant: Variant, star: bool, names_it: bool, ops: &[Op]) {
    let mut model = Model::new(variant, star, names_it);
    for op in ops {
        model.apply(op);
    }
    model.finish();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn incremental_clients_end_with_all_there_is(
        star: bool, names_it: bool, ops in any::<bool>().prop_flat_map(ops)
    ) {
        play(Variant::Delta, star, names_it, &ops);
    }

    #[test]
    fn state_of_the_world_clients_end_with_all_there_is(
        star: bool, names_it: bool, ops in any::<bool>().prop_flat_map(ops)
    ) {
        play(Variant::Sotw, star, names_it, &ops);
    }
}
