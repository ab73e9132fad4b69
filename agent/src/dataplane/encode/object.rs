//! A table and what has a name in it: chains, sets, maps, counters.

use super::expression::COUNTER;
use super::{CREATE, Messages, ONLY_NEW, Verb};
use crate::dataplane::Ownership;
use crate::rules::{Chain, Dispatch, Family, Hook, Name, Stragglers};

/// `NFT_TABLE_F_OWNER`.
pub(in crate::dataplane) const OWNER: u32 = 2;
/// `NFT_TABLE_F_PERSIST`.
pub(in crate::dataplane) const PERSIST: u32 = 4;
/// `NFT_SET_MAP`.
pub(in crate::dataplane) const MAP: u32 = 8;
/// `NFT_SET_TIMEOUT | NFT_SET_EVAL`.
const DYNAMIC: u32 = 0x30;
/// The data type of verdicts (`NFT_DATA_VERDICT`).
const VERDICTS: u32 = 0xffff_ff00;
/// `nft`'s numbers for what a key is, which only its listings read: six bits each.
const TYPE_V4: u32 = 7;
const TYPE_V6: u32 = 8;
const TYPE_PROTOCOL: u32 = 12;
const TYPE_PORT: u32 = 13;

/// What a kernel is asked for.
pub(in crate::dataplane) const fn flags(ownership: Ownership) -> u32 {
    match ownership {
        Ownership::Open => 0,
        Ownership::Socket => OWNER,
        Ownership::Persistent => OWNER | PERSIST,
    }
}

/// Makes the table, or has this socket own it.
pub(in crate::dataplane) fn table(to: &mut Messages, name: &Name, comment: &str, flags: u32) {
    to.rules(Verb::NewTable, CREATE, |message| {
        message.text(1, name.as_str());
        message.number(2, flags);
        // `nft`'s own way to keep a comment: type 0, length, text with its zero.
        let mut data = vec![0, u8::try_from(comment.len() + 1).unwrap_or(u8::MAX)];
        data.extend_from_slice(comment.as_bytes());
        data.push(0);
        message.attribute(6, &data);
    });
}

/// Makes an empty table, which must not be there.
pub(in crate::dataplane) fn new_table(to: &mut Messages, name: &str, flags: u32) {
    to.rules(Verb::NewTable, CREATE | ONLY_NEW, |message| {
        message.text(1, name);
        message.number(2, flags);
    });
}

/// Takes the table away with all that is in it.
pub(in crate::dataplane) fn drop_table(to: &mut Messages, name: &Name) {
    to.rules(Verb::DelTable, 0, |message| message.text(1, name.as_str()));
}

/// Makes a counter.
pub(in crate::dataplane) fn counter(to: &mut Messages, table: &Name, name: &Name) {
    to.rules(Verb::NewObject, CREATE, |message| {
        message.text(1, table.as_str());
        message.text(2, name.as_str());
        message.number(3, COUNTER);
        message.nest(4, |data| {
            data.attribute(1, &[0; 8]);
            data.attribute(2, &[0; 8]);
        });
    });
}

/// Takes a counter away.
pub(in crate::dataplane) fn drop_counter(to: &mut Messages, table: &Name, name: &Name) {
    to.rules(Verb::DelObject, 0, |message| {
        message.text(1, table.as_str());
        message.text(2, name.as_str());
        message.number(3, COUNTER);
    });
}

/// Makes a chain.
pub(in crate::dataplane) fn chain(to: &mut Messages, table: &Name, name: &Name, chain: &Chain) {
    to.rules(Verb::NewChain, CREATE, |message| {
        message.text(1, table.as_str());
        message.text(3, name.as_str());
        let Some((hook, priority)) = chain.hook else { return };
        message.text(7, "nat");
        message.number(5, 1);
        message.nest(4, |place| {
            place.number(1, number(hook));
            place.attribute(2, &priority.to_be_bytes());
        });
    });
}

/// Takes an empty chain away.
pub(in crate::dataplane) fn drop_chain(to: &mut Messages, table: &Name, name: &Name) {
    to.rules(Verb::DelChain, 0, |message| {
        message.text(1, table.as_str());
        message.text(3, name.as_str());
    });
}

/// Takes all rules out of a chain.
pub(in crate::dataplane) fn flush_chain(to: &mut Messages, table: &Name, name: &Name) {
    to.rules(Verb::DelRule, 0, |message| {
        message.text(1, table.as_str());
        message.text(2, name.as_str());
    });
}

/// Makes a verdict map; `id` tells sets of one transaction apart.
pub(in crate::dataplane) fn dispatch(
    to: &mut Messages,
    table: &Name,
    name: &Name,
    dispatch: &Dispatch,
    id: u32,
) {
    let (kind, length) = match dispatch.family {
        Family::V4 => (TYPE_V4, 12),
        Family::V6 => (TYPE_V6, 24),
    };
    to.rules(Verb::NewSet, CREATE, |message| {
        message.text(1, table.as_str());
        message.text(2, name.as_str());
        message.number(3, MAP);
        message.number(4, kind << 12 | TYPE_PROTOCOL << 6 | TYPE_PORT);
        message.number(5, length);
        message.number(6, VERDICTS);
        message.number(7, 0);
        message.number(10, id);
    });
}

/// Makes a set that rules fill.
pub(in crate::dataplane) fn stragglers(
    to: &mut Messages,
    table: &Name,
    name: &Name,
    stragglers: &Stragglers,
    id: u32,
) {
    let (kind, length) = match stragglers.family {
        Family::V4 => (TYPE_V4, 4),
        Family::V6 => (TYPE_V6, 16),
    };
    to.rules(Verb::NewSet, CREATE, |message| {
        message.text(1, table.as_str());
        message.text(2, name.as_str());
        message.number(3, DYNAMIC);
        message.number(4, kind);
        message.number(5, length);
        message.number(10, id);
        message.nest(9, |description| description.number(1, stragglers.size));
        let timeout = u64::from(stragglers.timeout_seconds) * 1_000;
        message.attribute(11, &timeout.to_be_bytes());
    });
}

/// Takes a set or map away.
pub(in crate::dataplane) fn drop_set(to: &mut Messages, table: &Name, name: &Name) {
    to.rules(Verb::DelSet, 0, |message| {
        message.text(1, table.as_str());
        message.text(2, name.as_str());
    });
}

/// `enum nf_inet_hooks`.
pub(in crate::dataplane) const fn number(hook: Hook) -> u32 {
    match hook {
        Hook::Prerouting => 0,
        Hook::Output => 3,
        Hook::Postrouting => 4,
    }
}
