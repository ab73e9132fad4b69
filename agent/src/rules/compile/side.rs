//! `legacy/…` and `target/…`: mark, count, and choose an endpoint.

use plan::choice;
use plan::split::Side;

use super::{named, seed};
use crate::rules::local::{Lane, Local, Way};
use crate::rules::mark::{self, Mark};
use crate::rules::table::{Action, Family, Match, Rule};

/// The rules of one side, for packets of these families.
pub(in crate::rules) fn side(
    local: &Local<'_>,
    mark: Mark,
    side: Side,
    families: &[Family],
) -> Vec<Rule> {
    let word = match side {
        Side::Legacy => "legacy",
        Side::Target => "target",
    };
    let set = if local.keeps_source(side) {
        // The bit is set before where the host's own processes send, and for stragglers.
        let mask = mark::MASK & !mark::MASQUERADE;
        Action::MarkFlow { mask, value: mark.value(side, false) }
    } else {
        Action::MarkFlow { mask: mark::MASK, value: mark.value(side, true) }
    };
    let first = Rule {
        matches: Vec::new(),
        actions: vec![set, Action::Count(named(word, &local.leaf.id))],
    };
    let mut rules = vec![first];
    for family in families {
        endpoints(local, side, *family, families.len() > 1, &mut rules);
    }
    rules
}

fn endpoints(local: &Local<'_>, side: Side, family: Family, mixed: bool, rules: &mut Vec<Rule>) {
    let endpoints = local.endpoints(side, family);
    if endpoints.is_empty() {
        let matches = mixed.then_some(Match::Family(family)).into_iter().collect();
        rules.push(Rule { matches, actions: end(Way::Stay) });
    }
    for (at, endpoint) in endpoints.iter().enumerate() {
        let chosen = chosen(local, family, at, endpoints.len());
        for Lane { transport, way } in local.lanes(side, *endpoint) {
            // The draw stands last: it is made only for packets that the rest fits.
            let named = mixed.then_some(Match::Family(family));
            let matches = [named, transport.map(Match::Transport), chosen];
            rules
                .push(Rule { matches: matches.into_iter().flatten().collect(), actions: end(way) });
        }
    }
}

/// What is left alone may be translated by others, as docker does: with which address it leaves is
/// theirs to say too.
fn end(way: Way) -> Vec<Action> {
    match way {
        Way::To(to) => vec![Action::Translate(to)],
        Way::Stay => {
            vec![Action::MarkFlow { mask: mark::MASQUERADE, value: 0 }, Action::Accept]
        }
    }
}

/// What must hold for a client of endpoint `at` of `of`, the ones before it not having taken it.
fn chosen(local: &Local<'_>, family: Family, at: usize, of: usize) -> Option<Match> {
    if local.draws() {
        return choice::draw_bound(at, of).map(|bound| Match::DrawBelow { bound });
    }
    let seed = seed(choice::salt(local.leaf.salt));
    choice::bound(at, of).map(|bound| Match::SourceBucketBelow { family, seed, bound })
}
