//! Acks and nacks.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use plan::{PlanName, Token};
use proto::google::rpc::Status;

use crate::name::Name;
use crate::session::due::{Denied, Due, Item, Push};
use crate::session::watch::Watch;
use crate::session::{Refused, Variant, words};
use crate::table::Resource;

/// What a client says of a response.
#[derive(Clone, Copy, Debug)]
pub(super) struct Verdict<'a> {
    pub(super) variant: Variant,
    pub(super) nonce: u64,
    /// Set: it refuses.
    pub(super) error: Option<&'a Status>,
    /// The most kept of its words, in bytes.
    pub(super) words: usize,
    pub(super) now: Duration,
}

/// What the client has taken.
#[derive(Debug, Default)]
pub(super) struct Taken {
    /// Plans of it.
    pub(super) plans: Vec<Arc<[PlanName]>>,
    /// What it had nothing of before.
    pub(super) new: Vec<Name>,
}

impl Watch {
    /// Pairs a verdict with its response. A nonce that is not awaited means nothing: it is stale, a
    /// repetition, or made up.
    pub(super) fn settle(&mut self, verdict: Verdict<'_>) -> Taken {
        let mut taken = Taken::default();
        let Some(at) = self.out.iter().position(|push| push.nonce == verdict.nonce) else {
            return taken;
        };
        if verdict.variant == Variant::Sotw {
            // Whoever answers a response has read those before it.
            for push in self.out.drain(..at).collect::<Vec<_>>() {
                self.take(push, &BTreeSet::new(), &mut taken);
            }
        }
        let at = self.out.iter().position(|push| push.nonce == verdict.nonce);
        let Some(push) = at.map(|at| self.out.remove(at)) else { return taken };
        match verdict.error {
            None => self.take(push, &BTreeSet::new(), &mut taken),
            Some(error) => self.refuse(push, error, verdict, &mut taken),
        }
        taken
    }

    /// The client has what is not among the names.
    fn take(&mut self, push: Push, but: &BTreeSet<Name>, taken: &mut Taken) {
        for item in push.items.iter().filter(|item| item.sent.is_some()) {
            if item.moot || but.contains(&item.name) {
                continue;
            }
            let later = self.out.iter_mut().filter(|later| later.nonce > push.nonce);
            for later in later.filter_map(|later| later.item_mut(&item.name)) {
                later.due.held = true;
            }
            if let Some(due) = self.due.get_mut(&item.name) {
                due.held = true;
            }
            if !item.due.held {
                taken.new.push(item.name.clone());
            }
            taken.plans.push(Arc::clone(&item.due.plans));
        }
        if let Some(world) = push.world {
            let old = |name: &Name| self.world.of(name).cloned();
            let base = world.into_iter().filter_map(|resource| {
                if but.contains(resource.name()) { old(resource.name()) } else { Some(resource) }
            });
            let base = base.filter(|resource| self.covers(resource.name())).collect();
            self.world.set(base);
        }
    }

    fn refuse(&mut self, mut push: Push, error: &Status, verdict: Verdict<'_>, taken: &mut Taken) {
        // State of the world: what is merely repeated may also be named.
        let all = push.world.iter().flatten().map(|resource| resource.name());
        let names = push.items.iter().map(|item| &item.name).chain(all);
        let mut named: BTreeSet<Name> =
            words::named(&error.message, names).into_iter().cloned().collect();
        let by_name = !named.is_empty();
        if !by_name {
            if verdict.variant == Variant::Delta && !push.alone && spans_plans(&push.items) {
                self.send_again(push.items, push.nonce, true);
                return;
            }
            let news = |resource: &Arc<Resource>| {
                let had = self.world.of(resource.name());
                had.is_none_or(|had| !Arc::ptr_eq(had, resource))
            };
            if push.items.iter().any(|item| item.sent.is_some())
                || push.world.iter().flatten().any(news)
            {
                // Hardly anybody refuses to let go: what is gone is sent by itself.
                let gone = push.items.extract_if(.., |item| item.sent.is_none()).collect();
                self.send_again(gone, push.nonce, false);
            }
            named = push.items.iter().map(|item| item.name.clone()).collect();
        }
        let (refused, rest): (Vec<Item>, Vec<Item>) =
            push.items.into_iter().partition(|item| named.contains(&item.name));
        // Nothing of a response that was refused as a whole became the client's world.
        let world = push.world.filter(|_| by_name);
        let nonce = push.nonce;
        self.take(Push { items: rest, world, ..push }, &named, taken);
        let words = match words::cut(&error.message, verdict.words) {
            words if words.trim().is_empty() => {
                format!("refused without words, code {}", error.code)
            }
            words => words,
        };
        let wanted = || refused.iter().filter(|item| !item.moot);
        let refusal = Arc::new(Refused {
            type_url: self.type_url.clone(),
            token: wanted().filter_map(|item| item.sent).max().unwrap_or(Token::NEVER),
            plans: wanted().flat_map(|item| item.due.plans.iter().cloned()).collect(),
            detail: words,
            at: verdict.now,
        });
        for mut item in refused.into_iter().filter(|item| !item.moot) {
            if let Some(since) = item.sent {
                // Even if it seemed to have it.
                item.due.through = item.due.through.min(before(since));
            }
            if self.is_superseded(&item, nonce) {
                continue;
            }
            let refused = Arc::clone(&refusal);
            self.denied.insert(item.name, Denied { due: item.due, refused });
        }
    }

    /// Whether something newer of this name is due or sent: that decides now.
    fn is_superseded(&mut self, item: &Item, nonce: u64) -> bool {
        let mut superseded = false;
        let mut outlive = |due: &mut Due| {
            due.through = due.through.min(item.due.through);
            due.generation = due.generation.min(item.due.generation);
            superseded = true;
        };
        let later = self.out.iter_mut().filter(|later| later.nonce > nonce);
        for later in later.filter_map(|later| later.item_mut(&item.name)) {
            outlive(&mut later.due);
        }
        if let Some(due) = self.due.get_mut(&item.name) {
            outlive(due);
        }
        superseded
    }

    /// The client does not say what it refuses: these are sent once more, `alone` each plan by
    /// itself.
    fn send_again(&mut self, items: Vec<Item>, nonce: u64, alone: bool) {
        for mut item in items.into_iter().filter(|item| !item.moot) {
            if self.is_superseded(&item, nonce) {
                continue;
            }
            item.due.alone = alone;
            self.urgent |= item.due.urgent;
            self.due.insert(item.name, item.due);
        }
    }
}

/// The newest token before this one that is sure to have been.
const fn before(token: Token) -> Token {
    match token.revision.checked_sub(1) {
        Some(revision) => Token { revision, ..token },
        None => Token::NEVER,
    }
}

fn spans_plans(items: &[Item]) -> bool {
    items
        .split_first()
        .is_some_and(|(first, rest)| rest.iter().any(|item| item.due.plans != first.due.plans))
}
