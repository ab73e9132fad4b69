//! What one service adds to a table, and how it is taken again into the next.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use plan::snapshot::Service;
use plan::split::Side;

use super::rows::Rows;
use super::{
    Compiling, Counted, Told, catch, masqueraded, named, own, side, size, split, unreached,
};
use crate::rules::host::Host;
use crate::rules::mark::Mark;
use crate::rules::table::{Chain, Family, Name, Rule, Stragglers};

/// What chains of a service are called, sorted: those of all services are, word by word, in the
/// order of a table.
pub(super) const WORDS: [&str; 9] =
    ["catch", "clients", "full", "in", "legacy", "own", "self", "split", "target"];

/// What each service added to a table. The next table shares what stays the same, so that a weight
/// among a thousand is compiled, and compared with what the kernel holds, by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pieces {
    /// For which host; `None`: there are none.
    host: Option<Arc<Host>>,
    /// In the order of their leaves.
    all: Arc<[Arc<Piece>]>,
}

/// What a service adds.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// What it was made of, beside the host.
    pub(super) leaf: Arc<Service>,
    mark: Mark,
    held: BTreeSet<Family>,
    /// Names of chains that maps lead to.
    pub(super) arriving: Name,
    pub(super) own: Name,
    pub(super) catch: Name,
    /// By [`WORDS`].
    pub(super) chains: [Option<(Name, Arc<Chain>)>; WORDS.len()],
    pub(super) stragglers: Vec<(Name, Stragglers)>,
    pub(super) counted: Arc<Counted>,
    pub(super) told: Vec<Told>,
    /// How many rules its chains have.
    pub(super) rules: usize,
    /// How many bytes it takes as messages to the kernel.
    pub(super) bytes: usize,
}

impl Pieces {
    /// Those of these services: taken from here where nothing about one changed, and else sharing
    /// with the one here what came out the same.
    pub(super) fn next<'a>(
        &self,
        host: &Host,
        services: impl Iterator<Item = Compiling<'a>>,
    ) -> Self {
        let same = self.host.as_ref().filter(|before| ***before == *host);
        let mut before = self.all.iter().peekable();
        let mut rows = Rows::default();
        let piece = |service: Compiling<'a>| {
            let id = &service.leaf.id;
            while before.next_if(|piece| piece.leaf.id < *id).is_some() {}
            match before.next_if(|piece| piece.leaf.id == *id) {
                Some(piece) if same.is_some() && piece.is_of(&service) => Arc::clone(piece),
                Some(piece) => Arc::new(Piece::of(&service, &mut rows).sharing(piece)),
                None => Arc::new(Piece::of(&service, &mut rows)),
            }
        };
        let all = services.map(piece).collect();
        Self { host: Some(same.map_or_else(|| Arc::new(host.clone()), Arc::clone)), all }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Piece> {
        self.all.iter().map(AsRef::as_ref)
    }

    /// That of the service at this place.
    pub(super) fn get(&self, at: usize) -> Option<&Piece> {
        self.all.get(at).map(AsRef::as_ref)
    }
}

impl Piece {
    fn is_of(&self, service: &Compiling<'_>) -> bool {
        Arc::ptr_eq(&self.leaf, service.leaf)
            && self.mark == service.mark
            && self.held == service.held
    }

    /// The same with the names and chains of `before`, a piece of the same service, where they are
    /// equal.
    fn sharing(mut self, before: &Self) -> Self {
        for (chain, old) in self.chains.iter_mut().zip(&before.chains) {
            if chain == old {
                chain.clone_from(old);
            }
        }
        if self.counted == before.counted {
            self.counted = Arc::clone(&before.counted);
        }
        let [arriving, own, catch] =
            [&before.arriving, &before.own, &before.catch].map(Name::clone);
        Self { arriving, own, catch, ..self }
    }

    fn of(service: &Compiling<'_>, rows: &mut Rows) -> Self {
        let local = service.local;
        let id = &local.leaf.id;
        let caught = local.is_here() || !service.held.is_empty();
        let chains = chains(service, rows, caught);
        let stragglers = if caught { catch::sets(service) } else { Vec::new() };
        let counted = Counted {
            legacy: named("legacy", id),
            target: named("target", id),
            caught: caught.then(|| named("caught", id)),
            stragglers: stragglers.iter().map(|(name, _)| name.clone()).collect(),
        };
        let names = counted.counters().chain(&counted.stragglers);
        Self {
            leaf: Arc::clone(service.leaf),
            mark: service.mark,
            held: service.held.clone(),
            arriving: named("in", id),
            own: named("own", id),
            catch: named("catch", id),
            rules: chains.iter().flatten().map(|(_, chain)| chain.rules.len()).sum(),
            bytes: size::named(names)
                + size::chains(chains.iter().flatten().map(|(name, of)| (name, of))),
            told: unreached(local).chain(masqueraded(local)).collect(),
            chains,
            stragglers,
            counted: Arc::new(counted),
        }
    }
}

/// What is kept for long holds no room for more: that is half of it.
fn fit(rules: &mut Vec<Rule>) {
    for rule in rules.iter_mut() {
        rule.matches.shrink_to_fit();
        rule.actions.shrink_to_fit();
    }
    rules.shrink_to_fit();
}

fn chains(
    service: &Compiling<'_>,
    rows: &mut Rows,
    caught: bool,
) -> [Option<(Name, Arc<Chain>)>; WORDS.len()] {
    let local = service.local;
    let mut found = BTreeMap::new();
    let mut put = |word, mut rules: Vec<Rule>| {
        fit(&mut rules);
        found.insert(word, (named(word, &local.leaf.id), Arc::new(Chain { hook: None, rules })));
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
    WORDS.map(|word| found.remove(word))
}
