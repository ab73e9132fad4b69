//! Break-glass: a second table that is called before ours and sends everyone to legacy.
//!
//! It is written out beforehand, for plain `nft -f`, so that it needs neither the agent nor a
//! network; deleting it gives ours its say again. Flows that were begun before go on as they are.
//!
//! Where legacy means leaving a packet alone, others may translate it: docker, or a redirection
//! written by hand. Binding it to where it goes would keep our table out, and theirs too. So this
//! table is called twice. Before ours it marks what it takes hold of as held, which ours leaves
//! alone; after ours, and before others, it does what legacy means.
//!
//! Whom ours leaves alone, exempt sources and the target's own gateways, this one does too.
//!
//! | chain | who comes here |
//! |---|---|
//! | `in/shop/orders` | packets to the logical address |
//! | `own/shop/orders` | the host's own processes, likewise |
//! | `stay/shop/orders` | packets to addresses of this host where ours might catch |
//! | `legacy/shop/orders` | of these, who is held and is sent to legacy |

use std::sync::Arc;

use plan::snapshot::Service;
use plan::split::Side;
use xds::own::HostTable;

use crate::rules::compile::{self, Build, Direction, PRIORITY_POST, hooked, named};
use crate::rules::host::Host;
use crate::rules::keys::{Held, Keys};
use crate::rules::local::Local;
use crate::rules::mark::{self, Mark, Marks};
use crate::rules::table::{Action, Chain, Family, Hook, Match, Rule, Table};

/// The table's name.
pub const TABLE: &str = "crossfade_rollback";
/// Where it stands: before ours,
pub const PRIORITY: i32 = -120;
/// and after, before the usual -100.
pub const PRIORITY_AFTER: i32 = -109;

/// A flow that the first call marked.
const HELD: Match = Match::FlowMark { mask: mark::MASK, value: mark::HELD };

/// What stands beside it; at most 128 bytes.
const COMMENT: &str = "crossfade: all to legacy; undo: nft delete table inet crossfade_rollback";

/// The table that sends all that [`compile::compile`]'s would take hold of to legacy. Every service
/// must have a mark; one that has none is left out.
pub fn rollback(table: &HostTable, host: &Host, marks: &Marks) -> Table {
    let locals = compile::locals(table, host);
    let keys = Keys::of(&locals);
    let mut build = Build::new(TABLE, COMMENT);
    base(&mut build, host);
    for local in &locals {
        if let Some(mark) = marks.of(&local.leaf.id) {
            service(&mut build, local, mark);
        }
    }
    for (key, held) in &keys.held {
        let (Held::Logical(at) | Held::Own(at)) = held;
        let Some(id) = locals.get(*at).map(|local| &local.leaf.id) else { continue };
        let Some(mark) = marks.of(id) else { continue };
        match held {
            Held::Logical(_) => {
                build.lead(Direction::In, *key, named("in", id));
                build.lead(Direction::Out, *key, named("own", id));
            }
            Held::Own(_) => {
                let name = named("stay", id);
                let Some(local) = locals.get(*at) else { continue };
                // One chain for keys of both families.
                let mut rules = compile::gateways(local, &[Family::V4, Family::V6]);
                rules.extend(twice(compile::stay(mark)));
                build.lead(Direction::In, *key, name.clone());
                build.table.chains.insert(name, Arc::new(Chain { hook: None, rules }));
            }
        }
    }
    build.all_maps();
    let post = compile::post(&locals, marks);
    build.put("postrouting", hooked(Hook::Postrouting, PRIORITY_POST, post));
    build.table
}

/// Whether [`rollback`] makes the same of two leaves, on the same host and with the same marks: who
/// is on which side, and whose clients are split, is nothing to it.
pub fn is_same(old: &Service, new: &Service) -> bool {
    std::ptr::eq(old, new)
        || (old.id == new.id
            && old.salt == new.salt
            && old.spec == new.spec
            && old.gateways == new.gateways
            && old.serving.legacy() == new.serving.legacy()
            && old.serving.target() == new.serving.target())
}

/// The chains that the kernel calls.
fn base(build: &mut Build, host: &Host) {
    let agent = Match::PacketMark { mask: host.own_mark.mask, value: host.own_mark.value };
    let agent = Rule { matches: vec![agent], actions: vec![Action::Return] };
    let exempt = compile::exempt(host);
    let arriving: Vec<Rule> = exempt.chain(compile::look_up(Direction::In)).collect();
    let sent: Vec<Rule> = [agent].into_iter().chain(compile::look_up(Direction::Out)).collect();
    for (prerouting, output, priority) in
        [("prerouting", "output", PRIORITY), ("after/prerouting", "after/output", PRIORITY_AFTER)]
    {
        build.put(prerouting, hooked(Hook::Prerouting, priority, arriving.clone()));
        build.put(output, hooked(Hook::Output, priority, sent.clone()));
    }
}

fn service(build: &mut Build, local: &Local<'_>, mark: Mark) {
    let id = &local.leaf.id;
    let mut put = |word, rules| {
        let chain = Arc::new(Chain { hook: None, rules });
        build.table.chains.insert(named(word, id), chain);
    };
    // Where the source is kept, the side leaves this bit as it is.
    let to_legacy = |masquerade| {
        let bit = Action::MarkFlow { mask: mark::MASQUERADE, value: masquerade };
        vec![bit, Action::Goto(named("legacy", id))]
    };
    for (word, masquerade) in [("in", 0), ("own", mark::MASQUERADE)] {
        let mut rules = twice(to_legacy(masquerade));
        if local.leaves_alone() {
            let matches = vec![HELD, Match::Midway];
            rules.insert(0, Rule { matches, actions: compile::stay(mark) });
        }
        if word == "in" {
            rules.splice(..0, compile::gateways(local, &[local.family]));
        }
        put(word, rules);
    }
    put("legacy", compile::side(local, mark, Side::Legacy, &[local.family]));
    build.table.counters.insert(named("legacy", id));
}

/// What is held already, by the first call, is done with; else it is held.
fn twice(then: Vec<Action>) -> Vec<Rule> {
    let hold = Action::MarkFlow { mask: mark::MASK, value: mark::HELD };
    vec![
        Rule { matches: vec![HELD], actions: then },
        Rule { matches: Vec::new(), actions: vec![hold, Action::Accept] },
    ]
}
