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
mod piece;
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

use plan::snapshot::Service;
use plan::split::Side;
use plan::{ServiceId, Split};
use xds::own::HostTable;

pub(super) use self::ask::{gateways, stay};
pub use self::check::Reject;
pub use self::limits::{BYTES_MAX, ENDPOINTS_MAX, NETWORKS_MAX, RULES_MAX, STRAGGLERS_MAX};
pub use self::piece::Pieces;
use self::piece::WORDS;
pub(super) use self::post::post;
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
    pub counted: BTreeMap<ServiceId, Arc<Counted>>,
    /// For the next table.
    pub pieces: Pieces,
    /// How many bytes it takes as messages to the kernel, or a few less.
    bytes: usize,
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

impl Counted {
    /// Its counters.
    fn counters(&self) -> impl Iterator<Item = &Name> {
        [&self.legacy, &self.target].into_iter().chain(&self.caught)
    }
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
    compile_after(&Pieces::default(), table, host, marks)
}

/// The same, with what services added to an earlier table where nothing about them changed: their
/// leaves are the same by pointer, and so is the host, and their mark.
///
/// # Errors
/// As [`compile`].
pub fn compile_after(
    before: &Pieces,
    table: &HostTable,
    host: &Host,
    marks: &Marks,
) -> Result<Compiled, Vec<Reject>> {
    let Frame { mut build, pieces, shared, bytes } = frame(before, table, host, marks)?;
    build.fill(&pieces);
    let told = pieces.iter().flat_map(|piece| &piece.told).cloned().chain(shared).collect();
    let counted = pieces.iter().map(|piece| (piece.leaf.id.clone(), Arc::clone(&piece.counted)));
    Ok(Compiled { table: build.table, told, counted: counted.collect(), pieces, bytes })
}

/// Whether [`compile_after`] would compile it; what services would add to the table.
///
/// # Errors
/// As [`compile`].
pub fn judge(
    before: &Pieces,
    table: &HostTable,
    host: &Host,
    marks: &Marks,
) -> Result<Pieces, Vec<Reject>> {
    frame(before, table, host, marks).map(|frame| frame.pieces)
}

/// A table without what services add, and that.
struct Frame {
    build: Build,
    pieces: Pieces,
    shared: Vec<Told>,
    bytes: usize,
}

/// Everything that can be wrong is found here.
fn frame(
    before: &Pieces,
    table: &HostTable,
    host: &Host,
    marks: &Marks,
) -> Result<Frame, Vec<Reject>> {
    let (leaves, locals): (Vec<_>, Vec<_>) = each(table, host).unzip();
    let keys = Keys::of(&locals);
    check::all(host, marks, &locals, &keys)?;
    let services = leaves.into_iter().zip(&locals).zip(keys.families(locals.len()));
    let services = services.filter_map(|((leaf, local), held)| {
        // None is left out: who has no mark was refused.
        Some(Compiling { leaf, local, mark: marks.of(&leaf.id)?, held })
    });
    let pieces = before.next(host, services);
    let mut build = Build::new(TABLE, COMMENT);
    build.base(host);
    build.dispatch(&keys, &pieces);
    let mut leaving = post(&locals, marks);
    if let Some((look, sources)) = post::proving(host) {
        leaving.insert(0, look);
        build.put(post::SOURCES, sources);
    }
    build.put("postrouting", hooked(Hook::Postrouting, PRIORITY_POST, leaving));
    let bytes = size(&build.table, &pieces)?;
    let shared = shared(&keys, &locals).collect();
    Ok(Frame { build, pieces, shared, bytes })
}

/// How many bytes it takes as messages: what is common to all services, and they.
fn size(table: &Table, pieces: &Pieces) -> Result<usize, Vec<Reject>> {
    let rules = table.chains.values().map(|chain| chain.rules.len()).sum::<usize>()
        + pieces.iter().map(|piece| piece.rules).sum::<usize>();
    if rules > RULES_MAX {
        return Err(vec![Reject::Rules { rules }]);
    }
    let bytes = size::frame(table)
        + size::chains(&table.chains)
        + pieces.iter().map(|piece| piece.bytes).sum::<usize>();
    if bytes > BYTES_MAX {
        return Err(vec![Reject::Bytes { bytes }]);
    }
    Ok(bytes)
}

/// The services that this host has rules for, in the order of the table.
pub(super) fn locals<'a>(table: &'a HostTable, host: &'a Host) -> Vec<Local<'a>> {
    each(table, host).map(|(_, local)| local).collect()
}

fn each<'a>(
    table: &'a HostTable,
    host: &'a Host,
) -> impl Iterator<Item = (&'a Arc<Service>, Local<'a>)> {
    table.services.iter().filter_map(|leaf| Some((leaf, Local::of(leaf, host)?)))
}

/// One service while it is compiled.
struct Compiling<'a> {
    leaf: &'a Arc<Service>,
    local: &'a Local<'a>,
    mark: Mark,
    /// The families of this host's own addresses where it may catch.
    held: BTreeSet<Family>,
}

/// A table that grows.
pub(super) struct Build {
    pub(super) table: Table,
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
        Self { table }
    }

    pub(super) fn put(&mut self, name: &str, chain: Chain) {
        self.table.chains.insert(fixed(name), Arc::new(chain));
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

    /// Puts what services add, in the order of the maps: sorted as it comes, it is quickly in.
    fn fill(&mut self, pieces: &Pieces) {
        let counted = |of: fn(&Counted) -> Option<&Name>| {
            pieces.iter().filter_map(move |piece| of(&piece.counted)).cloned()
        };
        let caught = counted(|of| of.caught.as_ref());
        let [legacy, target] = [counted(|of| Some(&of.legacy)), counted(|of| Some(&of.target))];
        self.table.counters = caught.chain(legacy).chain(target).collect();
        let stragglers = pieces.iter().flat_map(|piece| &piece.stragglers);
        self.table.stragglers = stragglers.cloned().collect();
        let all = |word: usize| {
            pieces.iter().filter_map(move |piece| piece.chains.get(word)?.as_ref()).cloned()
        };
        let base = std::mem::take(&mut self.table.chains);
        self.table.chains = base.into_iter().chain((0..WORDS.len()).flat_map(all)).collect();
    }

    fn dispatch(&mut self, keys: &Keys, pieces: &Pieces) {
        let held = |family: Family| {
            let its = keys.held.iter().filter(move |(key, _)| Family::of(key.address) == family);
            its.filter_map(|(key, held)| {
                let (Held::Logical(at) | Held::Own(at)) = held;
                Some((*key, matches!(held, Held::Logical(_)), pieces.get(*at)?))
            })
        };
        for family in [Family::V4, Family::V6] {
            let arriving = held(family).map(|(key, is_logical, piece)| {
                (key, if is_logical { &piece.arriving } else { &piece.catch }.clone())
            });
            let own = held(family).filter(|(_, is_logical, _)| *is_logical);
            let own = own.map(|(key, _, piece)| (key, piece.own.clone()));
            self.map(Direction::In, family, arriving.collect());
            self.map(Direction::Out, family, own.collect());
        }
    }

    fn map(&mut self, direction: Direction, family: Family, chains: BTreeMap<Key, Name>) {
        self.table.dispatch.insert(fixed(direction.map(family)), Dispatch { family, chains });
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

/// Clients whom a side cannot serve.
fn unreached<'a>(local: &'a Local<'_>) -> impl Iterator<Item = Told> + 'a {
    let family = local.family;
    let target = !local.has_target(family) && local.leaf.serving.split() > Split::LEGACY;
    let target = target.then(|| {
        format!(
            "its target has no {family} address, which its logical address {} needs: host clients \
             stay on legacy",
            local.logical
        )
    });
    let legacy = local.endpoints(Side::Legacy, family).is_empty().then(|| {
        format!(
            "its legacy side has no {family} address: its host clients are left to {} itself",
            local.logical
        )
    });
    let told = |words| Told { service: local.leaf.id.clone(), words, masquerades: false };
    target.into_iter().chain(legacy).map(told)
}

/// Addresses where nobody catches.
fn shared<'a>(keys: &'a Keys, locals: &'a [Local<'_>]) -> impl Iterator<Item = Told> + 'a {
    keys.shared.iter().filter_map(|(key, at)| {
        let service = locals.get(*at)?.leaf.id.clone();
        let words = format!("stragglers at {key} are not caught: other services are there too");
        Some(Told { service, words, masquerades: false })
    })
}

/// Where the plan asks that flows keep their source and they do not.
fn masqueraded<'a>(local: &'a Local<'_>) -> impl Iterator<Item = Told> + 'a {
    let id = &local.leaf.id;
    let asked = local.leaf.spec.preserve_source;
    let sides = asked.then(|| forwarded(local.leaf, local.host)).into_iter().flatten();
    let sides = sides.map(|to| to.side);
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
