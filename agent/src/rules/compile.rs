//! Leaves to one table of kernel rules. Pure: the same leaves, host and marks give the same table.
//!
//! For each service, as chains (`shop/orders` stands for its name):
//!
//! | chain | who comes here | what it does |
//! |---|---|---|
//! | `in/shop/orders` | packets to the logical address | asks `clients`, then `split`; to a side |
//! | `own/shop/orders` | the host's own processes, likewise | asks `self`; to a side |
//! | `catch/shop/orders` | all others at this host's own addresses | asks `full`; on to target |
//! | `legacy/…`, `target/…` | whoever is on that side | mark, count, choose an endpoint |
//! | `clients/shop/orders` | | says yes to whom the host plane splits: first row that fits |
//! | `split/shop/orders` | | says yes to a bucket below the split |
//! | `self/shop/orders` | | says yes if the host itself, one client, is on target |
//! | `full/shop/orders` | | says yes at 100 % |
//!
//! `in` and `catch` first leave alone what the target's gateways send, and all three what is in the
//! middle of a connection that legacy has by being left alone. What [`mark::HELD`] marks is
//! break-glass's.
//!
//! To say yes is to set the side's bit of the flow's mark, which who asks has cleared; a chain that
//! says nothing says no. Whoever is on a side gets its whole mark there.
//!
//! A weight change touches `split/…`, `self/…` where it moves the host itself, and `full/…` where
//! it comes to, or leaves, 100 %. For this these three hold no verdict: a rule with one makes the
//! kernel walk all ways through all chains of the table before it takes the change (`validate` of
//! an expression, `nf_tables_validate`); loading, hashing, comparing and marking do not.

mod ask;
mod catch;
mod check;
mod limits;
mod own;
mod post;
mod rows;
mod side;
mod size;
mod split;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use plan::split::Side;
use plan::{ServiceId, Split};
use xds::own::HostTable;

pub(super) use self::ask::{gateways, stay};
pub use self::check::Reject;
pub use self::limits::{BYTES_MAX, ENDPOINTS_MAX, NETWORKS_MAX, RULES_MAX, STRAGGLERS_MAX};
pub(super) use self::post::post;
use self::rows::Rows;
pub(super) use self::side::side;
use crate::returns::NOT_YET;
use crate::rules::forwarded::forwarded;
use crate::rules::host::Host;
use crate::rules::keys::{Held, Keys};
use crate::rules::local::Local;
use crate::rules::mark::{self, Mark, Marks};
use crate::rules::table::{Action, Chain, Dispatch, Family, Hook, Key, Match, Name, Rule, Table};

/// The table's name.
pub const TABLE: &str = "crossfade";
/// Where the table stands among those that change destinations: before the usual -100.
pub const PRIORITY: i32 = -110;
/// Likewise for sources: before the usual 100.
pub const PRIORITY_POST: i32 = 90;

/// What stands beside the table; at most 128 bytes, as nft has it.
const COMMENT: &str = "crossfade: all to legacy: crossfade agent rollback";

/// A table and what is to be known about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compiled {
    /// What the kernel shall hold.
    pub table: Table,
    /// What the plan asks for and this host cannot do; none of it is an error.
    pub told: Vec<Told>,
    /// Where each service is counted.
    pub counted: BTreeMap<ServiceId, Counted>,
}

/// What the plan asks of a service and this host cannot do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// The service.
    pub service: ServiceId,
    /// What, and why.
    pub words: String,
    /// It is that flows do not keep their source.
    pub masquerades: bool,
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.service, self.words)
    }
}

/// Where flows of a service are counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counted {
    /// The counter of those sent to legacy, or left there.
    pub legacy: Name,
    /// The counter of those sent to target, stragglers among them.
    pub target: Name,
    /// The counter of stragglers; `None`: none can come here.
    pub caught: Option<Name>,
    /// The sets that note their networks.
    pub stragglers: Vec<Name>,
}

/// Compiles what the controller says of this host.
///
/// # Errors
/// Everything that is wrong, at once; the kernel should be left as it is.
pub fn compile(table: &HostTable, host: &Host, marks: &Marks) -> Result<Compiled, Vec<Reject>> {
    let locals = locals(table, host);
    let keys = Keys::of(&locals);
    check::all(host, marks, &locals, &keys)?;
    let mut build = Build::new(TABLE, COMMENT);
    build.base(host);
    let mut rows = Rows::default();
    for (local, held) in locals.iter().zip(keys.families(locals.len())) {
        if let Some(mark) = marks.of(&local.leaf.id) {
            build.service(&Compiling { local, mark, held }, &mut rows);
        }
    }
    build.dispatch(&keys, &locals);
    build.tell(&keys, &locals);
    let mut leaving = post(&locals, marks);
    if let Some((look, sources)) = post::proving(host) {
        leaving.insert(0, look);
        build.put(post::SOURCES, sources);
    }
    build.put("postrouting", hooked(Hook::Postrouting, PRIORITY_POST, leaving));
    let rules = build.table.chains.values().map(|chain| chain.rules.len()).sum();
    if rules > RULES_MAX {
        return Err(vec![Reject::Rules { rules }]);
    }
    let bytes = size::table(&build.table);
    if bytes > BYTES_MAX {
        return Err(vec![Reject::Bytes { bytes }]);
    }
    Ok(Compiled { table: build.table, told: build.told, counted: build.counted })
}

/// The services that this host has rules for, in the order of the table.
pub(super) fn locals<'a>(table: &'a HostTable, host: &'a Host) -> Vec<Local<'a>> {
    table.services.iter().filter_map(|leaf| Local::of(leaf, host)).collect()
}

/// One service while it is compiled.
struct Compiling<'a> {
    local: &'a Local<'a>,
    mark: Mark,
    /// The families of this host's own addresses where it may catch.
    held: BTreeSet<Family>,
}

/// A table that grows.
pub(super) struct Build {
    pub(super) table: Table,
    told: Vec<Told>,
    counted: BTreeMap<ServiceId, Counted>,
}

impl Build {
    pub(super) fn new(name: &str, comment: &str) -> Self {
        let table = Table {
            name: fixed(name),
            comment: Arc::from(comment),
            counters: BTreeSet::new(),
            stragglers: BTreeMap::new(),
            dispatch: BTreeMap::new(),
            chains: BTreeMap::new(),
        };
        Self { table, told: Vec::new(), counted: BTreeMap::new() }
    }

    pub(super) fn put(&mut self, name: &str, chain: Chain) {
        self.table.chains.insert(fixed(name), chain);
    }

    /// The chains that the kernel calls for destinations.
    fn base(&mut self, host: &Host) {
        let accept = |of| Rule { matches: vec![of], actions: vec![Action::Accept] };
        // Break-glass, which was asked before, has its say after us.
        let held = || accept(Match::FlowMark { mask: mark::MASK, value: mark::HELD });
        let rules = [held()].into_iter().chain(exempt(host)).chain(look_up(Direction::In));
        let rules = rules.collect();
        self.put("prerouting", hooked(Hook::Prerouting, PRIORITY, rules));
        let own = [held()].into_iter().chain(own::exempt(host));
        let rules = own.chain(look_up(Direction::Out)).collect();
        self.put("output", hooked(Hook::Output, PRIORITY, rules));
    }

    fn service(&mut self, service: &Compiling<'_>, rows: &mut Rows) {
        let local = service.local;
        let id = &local.leaf.id;
        let caught = local.is_here() || !service.held.is_empty();
        let mut put = |word, rules| {
            self.table.chains.insert(named(word, id), Chain { hook: None, rules });
        };
        let clients = rows.chain(local);
        put("in", split::arriving(local, service.mark, !clients.is_empty()));
        if !clients.is_empty() {
            put("clients", clients);
        }
        put("split", split::split(local));
        put("own", own::chain(local, service.mark));
        if let Some(decided) = own::decided(local) {
            put("self", decided);
        }
        put("legacy", side(local, service.mark, Side::Legacy, &[local.family]));
        let families = service.target_families();
        if !families.is_empty() {
            put("target", side(local, service.mark, Side::Target, &families));
        }
        if caught {
            let catch = catch::chain(service);
            if !catch.is_empty() {
                put("full", split::full(local));
            }
            put("catch", catch);
        }
        let stragglers = if caught { catch::sets(service) } else { Vec::new() };
        let counted = Counted {
            legacy: named("legacy", id),
            target: named("target", id),
            caught: caught.then(|| named("caught", id)),
            stragglers: stragglers.iter().map(|(name, _)| name.clone()).collect(),
        };
        let counters = [&counted.legacy, &counted.target].into_iter().chain(&counted.caught);
        self.table.counters.extend(counters.cloned());
        self.table.stragglers.extend(stragglers);
        self.counted.insert(id.clone(), counted);
    }

    fn dispatch(&mut self, keys: &Keys, locals: &[Local<'_>]) {
        for (key, held) in &keys.held {
            let (word, at) = match held {
                Held::Logical(at) => ("in", at),
                Held::Own(at) => ("catch", at),
            };
            let Some(local) = locals.get(*at) else { continue };
            self.lead(Direction::In, *key, named(word, &local.leaf.id));
            if matches!(held, Held::Logical(_)) {
                self.lead(Direction::Out, *key, named("own", &local.leaf.id));
            }
        }
        self.all_maps();
    }

    /// Leads packets of this direction and destination to a chain.
    pub(super) fn lead(&mut self, direction: Direction, key: Key, chain: Name) {
        let family = Family::of(key.address);
        let map = self.table.dispatch.entry(fixed(direction.map(family)));
        let map = map.or_insert_with(|| Dispatch { family, chains: BTreeMap::new() });
        map.chains.insert(key, chain);
    }

    /// Every map stands from the beginning, so that a first service of a family adds no map.
    pub(super) fn all_maps(&mut self) {
        for direction in [Direction::In, Direction::Out] {
            for family in [Family::V4, Family::V6] {
                let map = self.table.dispatch.entry(fixed(direction.map(family)));
                map.or_insert_with(|| Dispatch { family, chains: BTreeMap::new() });
            }
        }
    }

    fn tell(&mut self, keys: &Keys, locals: &[Local<'_>]) {
        for local in locals {
            let family = local.family;
            let mut tell = |words: String| {
                let service = local.leaf.id.clone();
                self.told.push(Told { service, words, masquerades: false });
            };
            if !local.has_target(family) && local.leaf.serving.split() > Split::LEGACY {
                tell(format!(
                    "its target has no {family} address, which its logical address {} needs: \
                     host clients stay on legacy",
                    local.logical
                ));
            }
            if local.endpoints(Side::Legacy, family).is_empty() {
                tell(format!(
                    "its legacy side has no {family} address: its host clients are left to \
                     {} itself",
                    local.logical
                ));
            }
        }
        for local in locals.iter().filter(|local| local.leaf.spec.preserve_source) {
            self.told.extend(masqueraded(local));
        }
        for (key, at) in &keys.shared {
            if let Some(local) = locals.get(*at) {
                let service = local.leaf.id.clone();
                let words =
                    format!("stragglers at {key} are not caught: other services are there too");
                self.told.push(Told { service, words, masquerades: false });
            }
        }
    }
}

impl Compiling<'_> {
    /// The families in which packets come to the target chain.
    fn target_families(&self) -> Vec<Family> {
        let local = self.local;
        let all = self.held.iter().copied().chain([local.family]).collect::<BTreeSet<_>>();
        all.into_iter().filter(|family| local.has_target(*family)).collect()
    }

    /// The families of this host's addresses where it may catch.
    fn catch_families(&self) -> BTreeSet<Family> {
        let logical = self.local.is_here().then_some(self.local.family);
        self.held.iter().copied().chain(logical).collect()
    }
}

/// Where the plan asks that flows keep their source and they do not.
fn masqueraded<'a>(local: &'a Local<'_>) -> impl Iterator<Item = Told> + 'a {
    let id = &local.leaf.id;
    let sides = forwarded(local.leaf, local.host).into_iter().map(|to| to.side);
    sides.filter(|side| !local.keeps_source(*side)).map(move |side| {
        let why = local.host.unproved.get(&(id.clone(), side));
        let why = why.map_or(NOT_YET, String::as_str);
        let words = format!(
            "preserveSource is not kept towards {side}, whose servers see this host: {why}"
        );
        Told { service: id.clone(), words, masquerades: true }
    })
}

/// Which way packets go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    /// They arrive.
    In,
    /// This host's processes send them.
    Out,
}

impl Direction {
    const fn map(self, family: Family) -> &'static str {
        match (self, family) {
            (Self::In, Family::V4) => "in4",
            (Self::In, Family::V6) => "in6",
            (Self::Out, Family::V4) => "out4",
            (Self::Out, Family::V6) => "out6",
        }
    }
}

/// Sources that are left alone whatever the plan says.
pub(super) fn exempt(host: &Host) -> impl Iterator<Item = Rule> {
    let accept = |net: &ipnet::IpNet| Rule {
        matches: vec![Match::Source(net.trunc())],
        actions: vec![Action::Accept],
    };
    host.exempt.iter().map(accept)
}

/// The rules that find a packet's service.
pub(super) fn look_up(direction: Direction) -> impl Iterator<Item = Rule> {
    let rule = move |family| Rule {
        matches: Vec::new(),
        actions: vec![Action::Dispatch(fixed(direction.map(family)))],
    };
    [Family::V4, Family::V6].into_iter().map(rule)
}

pub(super) const fn hooked(hook: Hook, priority: i32, rules: Vec<Rule>) -> Chain {
    Chain { hook: Some((hook, priority)), rules }
}

/// Whether a client's bucket, or a draw, is below `bound`. The seed is the low half of `salt`.
fn below(local: &Local<'_>, salt: u64, bound: u16) -> Match {
    if local.draws() {
        return Match::DrawBelow { bound };
    }
    Match::SourceBucketBelow { family: local.family, seed: seed(salt), bound }
}

#[expect(clippy::cast_possible_truncation, reason = "the seed is the low half by definition")]
const fn seed(salt: u64) -> u32 {
    salt as u32
}

/// A name of a service's part.
pub(super) fn named(word: &str, id: &ServiceId) -> Name {
    let (plan, service) = (id.plan.as_str(), id.service.as_str());
    let mut text = String::with_capacity(word.len() + plan.len() + service.len() + 2);
    for part in [word, "/", plan, "/", service] {
        text.push_str(part);
    }
    fixed(&text)
}

/// Whose a part of a table is, by its name, as `legacy/shop/orders`; `None`: no service's.
pub fn whose(part: &str) -> Option<ServiceId> {
    let mut words = part.split('/').skip(1);
    format!("{}/{}", words.next()?, words.next()?).parse().ok()
}

#[expect(clippy::expect_used, reason = "a word of ours and labels of 63 bytes at most")]
pub(super) fn fixed(text: &str) -> Name {
    Name::new(text).expect("a word of ours and labels of 63 bytes at most")
}
