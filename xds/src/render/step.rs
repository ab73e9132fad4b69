//! From what was rendered to what is to be.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use plan::snapshot::{Motion, Service};
use plan::{PlanName, ServiceId, Snapshot, Token};

use crate::name::{Scope, TypeUrl};
use crate::render::claims::Claims;
use crate::render::door::{CATCH, Door, GATEWAY, GRPC, MESH, Role, Roles, TYPES};
use crate::render::drain;
use crate::render::gateway::{Edge, Ports, client_address};
use crate::render::item::{Item, differences};
use crate::render::listener::{self, PASSTHROUGH};
use crate::render::mtls::Entry;
use crate::render::{Rendered, Wanted, service};
use crate::table::{Change, Edit};

/// One service as it was and as it is to be.
struct Pair {
    old: Option<Arc<Service>>,
    new: Option<Arc<Service>>,
}

pub(super) fn step(wanted: &Wanted<'_>, before: &Rendered) -> (Rendered, Vec<Edit>) {
    let (leaves, withheld) = effective(wanted.snapshot, before);
    let mut next = Rendered {
        closed: Arc::new(closed(wanted.snapshot, &leaves)),
        leaves,
        withheld: Arc::new(withheld),
        shape: wanted.snapshot.shape,
        ..before.clone()
    };
    if *before.drained != *wanted.drained {
        next.drained = Arc::new(wanted.drained.clone());
    }
    if *before.doors != *wanted.doors {
        next.doors = Arc::new(wanted.doors.clone());
    }
    next.trust_domain = wanted.trust_domain.cloned();
    let mut edits = Vec::new();
    let mut pairs = changed(before, &next);
    let new_door = before.doors != next.doors || before.trust_domain != next.trust_domain;
    if new_door {
        next.roles = Arc::new(Roles::of(&next.doors, next.trust_domain.as_ref()));
    }
    let opened = before.closed != next.closed;
    let reshaped = || before.shape != next.shape || pairs.values().any(Pair::is_reshaped);
    if new_door || opened || reshaped() {
        next.claims = Arc::new(Claims::of(&next.leaves));
        if let Some(mut others) = next.roles.changed(&before.roles) {
            others.extend(next.claims.changed(&before.claims));
            also(&mut pairs, others, before, &next);
        } else {
            let all = before.leaves.iter().chain(next.leaves.iter());
            also(&mut pairs, all.map(|leaf| leaf.id.clone()).collect(), before, &next);
        }
        declare(before, &next, &mut edits);
        services(before, &next, &pairs, &mut edits);
        reshape(before, &mut next, &mut edits);
        withdraw(before, &next, &mut edits);
    } else {
        services(before, &next, &pairs, &mut edits);
        reweigh(&mut next, &pairs, &mut edits);
    }
    (next, edits)
}

impl Pair {
    fn is_reshaped(&self) -> bool {
        match (&self.old, &self.new) {
            (Some(old), Some(new)) => old.parts.shape != new.parts.shape,
            _ => true,
        }
    }
}

/// The leaves that are rendered, and the plans whose own are not: those restored from a backup keep
/// what was rendered of them before, if anything was.
fn effective(snapshot: &Snapshot, before: &Rendered) -> (Arc<[Arc<Service>]>, BTreeSet<PlanName>) {
    let waits = |leaf: &Arc<Service>| leaf.motion == Motion::Restored;
    if !snapshot.services.iter().any(waits) {
        return (Arc::clone(&snapshot.services), BTreeSet::new());
    }
    let leaves = snapshot.services.iter().filter_map(|leaf| match waits(leaf) {
        true => find(&before.leaves, &leaf.id).cloned(),
        false => Some(Arc::clone(leaf)),
    });
    let waiting = snapshot.services.iter().filter(|leaf| waits(leaf));
    (leaves.collect(), waiting.map(|leaf| leaf.id.plan.clone()).collect())
}

fn find<'a>(leaves: &'a [Arc<Service>], id: &ServiceId) -> Option<&'a Arc<Service>> {
    let at = leaves.binary_search_by(|leaf| leaf.id.cmp(id)).ok()?;
    leaves.get(at)
}

/// The services whose leaf or drain changed. Both lists are sorted by id.
fn changed(before: &Rendered, next: &Rendered) -> BTreeMap<ServiceId, Pair> {
    let mut pairs = BTreeMap::new();
    let (mut olds, mut news) = (before.leaves.iter().peekable(), next.leaves.iter().peekable());
    loop {
        let (old, new) = match (olds.peek(), news.peek()) {
            (None, None) => break,
            (Some(old), Some(new)) if Arc::ptr_eq(old, new) => {
                olds.next();
                news.next();
                continue;
            }
            (Some(old), Some(new)) if old.id == new.id => (olds.next(), news.next()),
            (Some(old), Some(new)) if old.id < new.id => (olds.next(), None),
            (Some(_), None) => (olds.next(), None),
            (Some(_) | None, Some(_)) => (None, news.next()),
        };
        let Some(id) = new.or(old).map(|leaf| leaf.id.clone()) else { break };
        pairs.insert(id, Pair { old: old.cloned(), new: new.cloned() });
    }
    if !Arc::ptr_eq(&before.drained, &next.drained) {
        let flipped = before.drained.symmetric_difference(&next.drained);
        also(&mut pairs, flipped.cloned().collect(), before, next);
    }
    pairs
}

/// With these services, whose leaves need not have changed.
fn also(
    pairs: &mut BTreeMap<ServiceId, Pair>,
    ids: BTreeSet<ServiceId>,
    before: &Rendered,
    next: &Rendered,
) {
    for id in ids {
        pairs.entry(id).or_insert_with_key(|id| Pair {
            old: find(&before.leaves, id).cloned(),
            new: find(&next.leaves, id).cloned(),
        });
    }
}

/// What belongs to single services.
fn services(
    before: &Rendered,
    next: &Rendered,
    pairs: &BTreeMap<ServiceId, Pair>,
    edits: &mut Vec<Edit>,
) {
    let (was, is) = (&before.roles, &next.roles);
    let items = |leaf: &Option<Arc<Service>>, rendered: &Rendered, roles: &Roles| {
        leaf.as_ref().map_or_else(Vec::new, |leaf| {
            let drained = rendered.drained.contains(&leaf.id);
            service::items(leaf, drained, roles, &rendered.claims)
        })
    };
    for pair in pairs.values() {
        let (old, new) = (items(&pair.old, before, was), items(&pair.new, next, is));
        differences(old, new, edits);
    }
}

/// What services share, made anew.
fn reshape(before: &Rendered, next: &mut Rendered, edits: &mut Vec<Edit>) {
    let doors = || next.doors.iter().filter(|door| door.is_rendered());
    let edges: BTreeSet<Edge> = doors().filter_map(|door| Edge::of(door.role)).collect();
    let ports: BTreeMap<Edge, Ports> =
        edges.into_iter().map(|edge| (edge, Ports::of(edge, &next.leaves, &next.closed))).collect();
    let mut conflicts = next.claims.conflicts.clone();
    conflicts.extend(ports.values().flat_map(|ports| ports.conflicts.iter().cloned()));
    let mut shared = Vec::new();
    for door in doors() {
        if let Some(ports) = Edge::of(door.role).and_then(|edge| ports.get(&edge)) {
            let gateway = door.gateway.as_ref();
            let client = client_address(gateway, &next.leaves, &mut conflicts);
            let entry = Entry::of(door, next.trust_domain.as_deref(), &next.leaves);
            shared.extend(ports.listeners(door, client, &entry, next.shape));
        }
    }
    shared.extend(sidecars(&next.doors));
    shared.extend(drains(&next.doors, &next.leaves));
    conflicts.sort();
    conflicts.dedup();
    next.edges = Arc::new(ports);
    next.shared = Arc::new(shared);
    next.conflicts = conflicts.into();
    differences(everything_shared(before), everything_shared(next), edits);
}

fn everything_shared(rendered: &Rendered) -> Vec<Item> {
    let routes = rendered.edges.iter().flat_map(|(edge, ports)| {
        ports.numbers().filter_map(|number| ports.routes(*edge, number, rendered.shape))
    });
    rendered.shared.iter().cloned().chain(routes).collect()
}

/// What sidecars have whatever the services are: where captured connections arrive, and where those
/// go that are for nobody here. It changes with the program alone.
fn sidecars(doors: &BTreeSet<Door>) -> Vec<Item> {
    let scopes: BTreeMap<Scope, &Door> = doors
        .iter()
        .filter(|door| door.role == Role::Sidecar)
        .map(|door| (door.listeners(), door))
        .collect();
    let capture = |(scope, door): (&Scope, &&Door)| {
        let listener = listener::capture("capture", door.captures());
        Item::new(scope, "capture".into(), Token::START, &listener)
    };
    let onwards = |scope: &Scope| {
        let cluster = listener::passthrough();
        Item::new(scope, PASSTHROUGH.into(), Token::START, &cluster)
    };
    let sides: BTreeSet<Scope> = scopes.values().map(|door| door.sides()).collect();
    sides.iter().map(onwards).chain(scopes.iter().map(capture)).collect()
}

/// What answers the checks that close connections, where there are any.
fn drains(doors: &BTreeSet<Door>, leaves: &[Arc<Service>]) -> Vec<Item> {
    let checked: BTreeSet<&ServiceId> =
        leaves.iter().filter(|leaf| drain::needs_listener(leaf)).map(|leaf| &leaf.id).collect();
    let sees_any = |door: &&Door| match &door.limit {
        Some(limit) => limit.services().iter().any(|id| checked.contains(id)),
        None => !checked.is_empty(),
    };
    let envoys = doors.iter().filter(|door| door.role != Role::Grpc && door.is_rendered());
    let envoys = envoys.filter(sees_any);
    let scopes: BTreeSet<Scope> = envoys.map(Door::listeners).collect();
    let one =
        |scope: &Scope| Item::new(scope, "drain".into(), Token::START, &drain::listener("drain"));
    scopes.iter().map(one).collect()
}

/// New weights in what services share.
fn reweigh(next: &mut Rendered, pairs: &BTreeMap<ServiceId, Pair>, edits: &mut Vec<Edit>) {
    let leaves: Vec<&Arc<Service>> = pairs.values().filter_map(|pair| pair.new.as_ref()).collect();
    if leaves.is_empty() || next.edges.is_empty() {
        return;
    }
    for (edge, ports) in Arc::make_mut(&mut next.edges) {
        for number in ports.update(*edge, &leaves) {
            edits.extend(ports.routes(*edge, number, next.shape).map(Item::put));
        }
    }
}

/// A table that is there and empty says that there is nothing; one that is not there makes clients
/// wait. Each table that somebody newly sees is declared. While leaves are not rendered, what is
/// not in a table is not gone.
fn declare(before: &Rendered, next: &Rendered, edits: &mut Vec<Edit>) {
    let known = tables(&before.doors);
    let (was, is) = (before.is_partial(), next.is_partial());
    for table in tables(&next.doors) {
        let is_new = !known.contains(&table);
        let (scope, type_url) = table;
        let mut say = |change| {
            edits.push(Edit { scope: scope.clone(), type_url: type_url.clone(), change });
        };
        if is_new {
            say(Change::Declare);
        }
        if is != was || (is && is_new) {
            say(Change::Partial(is));
        }
    }
}

/// A table that nobody sees any more is not there: were it left empty, whoever comes back by the
/// same door would be told that there is nothing before it is rendered again.
fn withdraw(before: &Rendered, next: &Rendered, edits: &mut Vec<Edit>) {
    let seen = tables(&next.doors);
    let unseen = tables(&before.doors).into_iter().filter(|table| !seen.contains(table));
    edits.extend(unseen.map(|(scope, type_url)| Edit {
        scope,
        type_url,
        change: Change::Withdraw,
    }));
}

/// The ports of leaves that are not rendered at all: what others share with them there is not
/// rendered either, as it would take theirs away.
fn closed(snapshot: &Snapshot, leaves: &[Arc<Service>]) -> BTreeSet<u16> {
    if leaves.len() == snapshot.services.len() {
        return BTreeSet::new();
    }
    let missing = snapshot.services.iter().filter(|leaf| find(leaves, &leaf.id).is_none());
    missing.flat_map(|leaf| leaf.spec.ports.iter().map(|port| port.port.get())).collect()
}

fn tables(doors: &BTreeSet<Door>) -> BTreeSet<(Scope, TypeUrl)> {
    let mut tables = BTreeSet::new();
    let mut see = |scope: Scope, type_url: &str| tables.insert((scope, type_url.into()));
    for door in doors.iter().filter(|door| door.is_rendered()) {
        see(door.listeners(), TypeUrl::LISTENER);
        if door.limit.is_some() {
            let rest = TYPES.into_iter().filter(|type_url| *type_url != TypeUrl::LISTENER);
            for type_url in rest {
                see(door.sides(), type_url);
            }
            continue;
        }
        see(door.sides(), TypeUrl::ENDPOINTS);
        match door.role {
            Role::Gateway => {
                see(MESH.into(), TypeUrl::CLUSTER);
                see(MESH.into(), TypeUrl::EXTENSION);
                see(GATEWAY.into(), TypeUrl::ROUTES);
            }
            Role::Sidecar => {
                see(door.sides(), TypeUrl::CLUSTER);
                see(MESH.into(), TypeUrl::EXTENSION);
                see(MESH.into(), TypeUrl::ROUTES);
            }
            Role::Catch => {
                see(MESH.into(), TypeUrl::CLUSTER);
                see(CATCH.into(), TypeUrl::EXTENSION);
                see(CATCH.into(), TypeUrl::ROUTES);
            }
            Role::Grpc => {
                see(GRPC.into(), TypeUrl::CLUSTER);
                see(GRPC.into(), TypeUrl::ROUTES);
                see(MESH.into(), TypeUrl::EXTENSION);
            }
        }
    }
    tables
}
