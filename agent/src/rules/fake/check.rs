//! What the kernel refuses.

use std::collections::BTreeSet;

use crate::rules::table::{Action, Chain, Family, Hook, Match, Name, Rule, Table};

/// `NFT_JUMP_STACK_SIZE`: the most chains that one packet may be in.
const DEPTH_MAX: usize = 16;

/// Why a table is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// A rule names what is not there.
    #[error("`{chain}` names `{name}`, which is not in the table")]
    Missing {
        /// Where.
        chain: Name,
        /// What.
        name: Name,
    },
    /// Chains lead to each other in a circle, or too deep.
    #[error("`{chain}` is reached through more than {DEPTH_MAX} chains")]
    Depth {
        /// Where.
        chain: Name,
    },
    /// An action that cannot be done where a packet is then.
    #[error("`{chain}` is reached at {hook:?}, where {action:?} cannot be done")]
    Hook {
        /// Where.
        chain: Name,
        /// When.
        hook: Hook,
        /// What.
        action: Action,
    },
    /// The source address is looked for where another family has something else.
    #[error("`{chain}` hashes {family} sources and is reached by what may be none")]
    Family {
        /// Where.
        chain: Name,
        /// Of which family.
        family: Family,
    },
    /// A number out of its range.
    #[error("`{chain}` compares or sets a number out of its range")]
    Range {
        /// Where.
        chain: Name,
    },
}

pub(super) fn table(table: &Table) -> Result<(), Refused> {
    for (name, chain) in &table.chains {
        ranges(name, chain)?;
        names(table, name, chain)?;
    }
    let mut seen = BTreeSet::new();
    for (name, chain) in &table.chains {
        if let Some((hook, _)) = chain.hook {
            reach(table, Place { hook, family: None }, name, 1, &mut seen)?;
        }
    }
    Ok(())
}

fn ranges(name: &Name, chain: &Chain) -> Result<(), Refused> {
    let bound = |bound: &u16| (1..10_000).contains(bound);
    let fine = |of: &Match| match of {
        Match::SourceBucketBelow { bound: at, .. } | Match::DrawBelow { bound: at } => bound(at),
        Match::PacketMark { mask, value } | Match::FlowMark { mask, value } => value & !mask == 0,
        Match::Family(_)
        | Match::Transport(_)
        | Match::Source(_)
        | Match::Destination(_)
        | Match::SocketUser(_)
        | Match::Midway
        | Match::Translated
        | Match::LeavesHost => true,
    };
    let sets = |action: &Action| {
        let Action::MarkFlow { mask, value } = action else { return true };
        value & !mask == 0
    };
    let mut rules = chain.rules.iter();
    if rules.all(|rule| rule.matches.iter().all(fine) && rule.actions.iter().all(sets)) {
        return Ok(());
    }
    Err(Refused::Range { chain: name.clone() })
}

fn names(table: &Table, name: &Name, chain: &Chain) -> Result<(), Refused> {
    for action in chain.rules.iter().flat_map(|rule| &rule.actions) {
        let missing = match action {
            Action::Count(name) if !table.counters.contains(name) => name,
            Action::Note(name) if !table.stragglers.contains_key(name) => name,
            Action::Dispatch(name) if !table.dispatch.contains_key(name) => name,
            Action::Goto(_)
            | Action::Jump(_)
            | Action::Dispatch(_)
            | Action::Count(_)
            | Action::Note(_)
            | Action::MarkFlow { .. }
            | Action::Translate(_)
            | Action::Redirect(_)
            | Action::Masquerade
            | Action::LeaveAs(_)
            | Action::Return
            | Action::Accept => match next(table, action).find(|to| !table.chains.contains_key(to))
            {
                Some(to) => to,
                None => continue,
            },
        };
        return Err(Refused::Missing { chain: name.clone(), name: missing.clone() });
    }
    Ok(())
}

/// The chains that an action can lead to.
fn next<'a>(table: &'a Table, action: &'a Action) -> impl Iterator<Item = &'a Name> {
    let (one, map) = match action {
        Action::Goto(to) | Action::Jump(to) => (Some(to), None),
        Action::Dispatch(map) => (None, table.dispatch.get(map)),
        Action::MarkFlow { .. }
        | Action::Count(_)
        | Action::Note(_)
        | Action::Translate(_)
        | Action::Redirect(_)
        | Action::Masquerade
        | Action::LeaveAs(_)
        | Action::Return
        | Action::Accept => (None, None),
    };
    one.into_iter().chain(map.into_iter().flat_map(|map| map.chains.values()))
}

/// Where packets are, and of which family they are known to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    hook: Hook,
    family: Option<Family>,
}

/// Follows every way from a base chain. A chain is looked at again only where it is deeper, or
/// where something else is known.
fn reach(
    table: &Table,
    place: Place,
    name: &Name,
    depth: usize,
    seen: &mut BTreeSet<(Place, Name, usize)>,
) -> Result<(), Refused> {
    if depth > DEPTH_MAX {
        return Err(Refused::Depth { chain: name.clone() });
    }
    if !seen.insert((place, name.clone(), depth)) {
        return Ok(());
    }
    let rules = table.chains.get(name).map_or(&[][..], |chain| &chain.rules);
    for rule in rules {
        let family = families(place, name, rule)?;
        for action in &rule.actions {
            fits(place.hook, name, action)?;
            let family = if let Action::Dispatch(map) = action {
                table.dispatch.get(map).map(|map| map.family)
            } else {
                family
            };
            for to in next(table, action) {
                reach(table, Place { family, ..place }, to, depth + 1, seen)?;
            }
        }
    }
    Ok(())
}

/// What is known of packets behind a rule's matches.
fn families(place: Place, chain: &Name, rule: &Rule) -> Result<Option<Family>, Refused> {
    let mut known = place.family;
    for of in &rule.matches {
        match *of {
            Match::Family(family) => known = Some(family),
            Match::Source(net) => known = Some(Family::of(net.addr())),
            Match::Destination(address) => known = Some(Family::of(address)),
            Match::SourceBucketBelow { family, .. } if known != Some(family) => {
                return Err(Refused::Family { chain: chain.clone(), family });
            }
            Match::SourceBucketBelow { .. }
            | Match::Transport(_)
            | Match::DrawBelow { .. }
            | Match::SocketUser(_)
            | Match::PacketMark { .. }
            | Match::FlowMark { .. }
            | Match::Midway
            | Match::Translated
            | Match::LeavesHost => {}
        }
    }
    Ok(known)
}

fn fits(hook: Hook, chain: &Name, action: &Action) -> Result<(), Refused> {
    let changes = matches!(action, Action::Translate(_) | Action::Redirect(_));
    let masquerades = matches!(action, Action::Masquerade | Action::LeaveAs(_));
    let fine = if hook == Hook::Postrouting { !changes } else { !masquerades };
    if fine {
        return Ok(());
    }
    Err(Refused::Hook { chain: chain.clone(), hook, action: action.clone() })
}
