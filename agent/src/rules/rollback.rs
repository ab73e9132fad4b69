//! Break-glass: a second table that is called before ours and sends everyone to legacy.
//!
//! It is written out beforehand, for plain `nft -f`, so that it needs neither the agent nor a
//! network; deleting it gives ours its say again. Flows that were begun before go on as they are.

use std::net::{IpAddr, SocketAddr};

use plan::split::Side;
use xds::own::HostTable;

use crate::rules::compile::{self, Build, Direction, PRIORITY_POST, Stay, fixed, hooked, named};
use crate::rules::host::Host;
use crate::rules::keys::{Held, Keys};
use crate::rules::local::Local;
use crate::rules::mark::{self, Marks};
use crate::rules::table::{Action, Chain, Hook, Match, Rule, Table};

/// The table's name.
pub const TABLE: &str = "crossfade_rollback";
/// Where it stands: before ours.
pub const PRIORITY: i32 = -120;

/// What stands beside it; at most 128 bytes.
const COMMENT: &str = "crossfade: all to legacy; undo: nft delete table inet crossfade_rollback";

/// The table that sends all that [`compile::compile`]'s would take hold of to legacy. Where legacy
/// means leaving a packet alone, it is bound to where it goes: the kernel asks no later table then.
/// Every service must have a mark; one that has none is left out.
pub fn rollback(table: &HostTable, host: &Host, marks: &Marks) -> Table {
    let locals = compile::locals(table, host);
    let keys = Keys::of(&locals);
    let mut build = Build::new(TABLE, COMMENT);
    build.put("prerouting", hooked(Hook::Prerouting, PRIORITY, look_up(Direction::In)));
    let agent = Match::PacketMark { mask: host.own_mark.mask, value: host.own_mark.value };
    let mut output = vec![Rule { matches: vec![agent], actions: vec![Action::Return] }];
    output.extend(look_up(Direction::Out));
    build.put("output", hooked(Hook::Output, PRIORITY, output));
    for local in &locals {
        service(&mut build, local, marks);
    }
    for (key, held) in &keys.held {
        match held {
            Held::Logical(at) => {
                let Some(local) = locals.get(*at) else { continue };
                let id = &local.leaf.id;
                if marks.of(id).is_none() {
                    continue;
                }
                build.lead(Direction::In, *key, named("legacy", id));
                let own = if local.keeps_source(Side::Legacy) { "own" } else { "legacy" };
                build.lead(Direction::Out, *key, named(own, id));
            }
            Held::Own(_) => {
                let name = stay(key.address);
                let to = Action::Translate(SocketAddr::new(key.address, 0));
                let rules = vec![Rule { matches: Vec::new(), actions: vec![to] }];
                build.put(&name, Chain { hook: None, rules });
                build.lead(Direction::In, *key, fixed(&name));
            }
        }
    }
    build.all_maps();
    let post = compile::post(&locals, marks);
    build.put("postrouting", hooked(Hook::Postrouting, PRIORITY_POST, post));
    build.table
}

fn look_up(direction: Direction) -> Vec<Rule> {
    compile::look_up(direction).collect()
}

fn service(build: &mut Build, local: &Local<'_>, marks: &Marks) {
    let id = &local.leaf.id;
    let Some(mark) = marks.of(id) else { return };
    let mut put = |word, rules| {
        build.table.chains.insert(named(word, id), Chain { hook: None, rules });
    };
    put("legacy", compile::side(local, mark, Side::Legacy, &[local.family], Stay::Bind));
    if local.keeps_source(Side::Legacy) {
        let bit = Action::MarkFlow { mask: mark::MASQUERADE, value: mark::MASQUERADE };
        let goto = Action::Goto(named("legacy", id));
        put("own", vec![Rule { matches: Vec::new(), actions: vec![bit, goto] }]);
    }
    build.table.counters.insert(named("legacy", id));
}

/// The chain that binds packets to this address; names have no colons.
fn stay(address: IpAddr) -> String {
    format!("stay/{}", address.to_string().replace(':', "-"))
}
