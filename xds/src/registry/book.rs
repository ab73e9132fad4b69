//! Streams, added up per node. Plain state: one task owns it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use plan::Token;

use super::hub::{Event, Slot};
use super::kinds::Kinds;
use super::recent::Recent;
use super::{SinkState, Standings};
use crate::session::Progress;
use crate::table::{Generation, Tables};

/// Everybody, as of the events that were applied.
#[derive(Default)]
pub(super) struct Book {
    sinks: BTreeMap<Arc<str>, Sink>,
    touched: BTreeSet<Arc<str>>,
    away: BTreeMap<Arc<str>, Arc<SinkState>>,
    /// Who left, oldest first; some have come back since.
    left: VecDeque<(Arc<str>, Duration)>,
    pub(super) kinds: Kinds,
    /// What is published.
    target: (Generation, Token),
    streams: usize,
    /// Streams that have everything of `target`.
    current: usize,
    built: Option<Built>,
}

struct Sink {
    since: Duration,
    /// By key, so the last one is the newest.
    streams: BTreeMap<u64, Member>,
    state: Option<Arc<SinkState>>,
}

struct Member {
    slot: Arc<Slot>,
    progress: Progress,
    /// It has everything of this statement.
    current_at: Option<Generation>,
}

/// What was told last.
struct Built {
    generation: Generation,
    away: Arc<[Arc<SinkState>]>,
    away_changed: bool,
}

impl Book {
    /// Other tables are published: nobody has them until he says so.
    pub(super) fn aim(&mut self, tables: &Tables) {
        let target = (tables.generation(), tables.token());
        if target != self.target {
            self.target = target;
            self.current = 0;
        }
    }

    /// How many streams there are.
    pub(super) const fn streams(&self) -> usize {
        self.streams
    }

    /// Whether some stream lags behind what is published.
    pub(super) const fn anybody_lags(&self) -> bool {
        self.current < self.streams
    }

    /// Whether there is something to tell.
    pub(super) fn is_stale(&self) -> bool {
        let built = self.built.as_ref();
        !self.touched.is_empty()
            || built.is_none_or(|built| built.away_changed || built.generation != self.target.0)
    }

    pub(super) fn apply(&mut self, event: Event) {
        match event {
            Event::Joined(slot) => self.join(slot),
            Event::Moved(slot) => self.update(&slot),
            Event::Left(slot, now) => self.leave(&slot, now),
        }
    }

    fn join(&mut self, slot: Arc<Slot>) {
        let Some(client) = slot.client().cloned() else { return };
        let id = &client.id;
        if self.away.remove(id).is_some() {
            self.away_changed();
        }
        let sink = self.sinks.entry(Arc::clone(id)).or_insert_with(|| Sink {
            since: slot.since,
            streams: BTreeMap::new(),
            state: None,
        });
        let elsewhere = sink.streams.values().next().filter(|other| other.slot.line != slot.line);
        if let (Some(other), 1) = (elsewhere, sink.streams.len()) {
            let (node, peer, other) = (&**id, slot.peer, other.slot.peer);
            tracing::info!(node, %peer, %other, "a node id on two connections counts as one sink");
        }
        self.kinds.join(&slot);
        let member =
            Member { slot: Arc::clone(&slot), progress: Progress::default(), current_at: None };
        sink.streams.insert(slot.key, member);
        self.streams += 1;
        self.update(&slot);
    }

    fn update(&mut self, slot: &Arc<Slot>) {
        let Some(client) = slot.client() else { return };
        let Some(sink) = self.sinks.get_mut(&client.id) else { return };
        let Some(member) = sink.streams.get_mut(&slot.key) else { return };
        member.progress = slot.look();
        let (generation, through) = self.target;
        let progress = &member.progress;
        let was = member.current_at == Some(generation);
        let is =
            progress.seen >= generation && progress.owes.is_empty() && progress.acked >= through;
        member.current_at = is.then_some(generation);
        self.current = self.current + usize::from(is) - usize::from(was);
        if !self.touched.contains(&client.id) {
            self.touched.insert(Arc::clone(&client.id));
        }
    }

    fn leave(&mut self, slot: &Arc<Slot>, now: Duration) {
        let Some(client) = slot.client() else { return };
        let Some(sink) = self.sinks.get_mut(&client.id) else { return };
        let Some(member) = sink.streams.remove(&slot.key) else { return };
        self.streams -= 1;
        self.current -= usize::from(member.current_at == Some(self.target.0));
        self.touched.insert(Arc::clone(&client.id));
        self.kinds.leave(slot);
        if sink.streams.is_empty() {
            let since = sink.since;
            self.sinks.remove(&client.id);
            self.gone(SinkState {
                client: Arc::clone(client),
                peer: slot.peer,
                since,
                left: Some(now),
                streams: 0,
                progress: slot.progress(),
            });
        }
    }

    fn gone(&mut self, state: SinkState) {
        let id = Arc::clone(&state.client.id);
        self.left.push_back((Arc::clone(&id), state.left.unwrap_or_default()));
        self.away.insert(id, Arc::new(state));
        // Entries of who came back are dropped here too, so the list stays as short.
        while self.left.len() > Standings::AWAY_MAX
            && let Some((oldest, at)) = self.left.pop_front()
        {
            if self.away.get(&oldest).is_some_and(|state| state.left == Some(at)) {
                self.away.remove(&oldest);
            }
        }
        self.away_changed();
    }

    fn away_changed(&mut self) {
        if let Some(built) = &mut self.built {
            built.away_changed = true;
        }
    }

    /// How far everybody is: O(sinks) pointers, and O(touched) states where nothing was published.
    pub(super) fn standings(&mut self, recent: &Recent) -> Standings {
        let (generation, through) = self.target;
        let published = self.built.as_ref().is_none_or(|built| built.generation != generation);
        let mut owed = Owed { recent, newest: generation, known: BTreeMap::new() };
        if published {
            for sink in self.sinks.values_mut() {
                sink.add_up(&mut owed);
            }
        } else {
            for id in &self.touched {
                if let Some(sink) = self.sinks.get_mut(id) {
                    sink.add_up(&mut owed);
                }
            }
        }
        self.touched.clear();
        let sinks: Arc<[_]> = self.sinks.values().filter_map(|sink| sink.state.clone()).collect();
        let away = match self.built.take() {
            Some(built) if !built.away_changed => built.away,
            _ => self.away.values().cloned().collect(),
        };
        self.built = Some(Built { generation, away: Arc::clone(&away), away_changed: false });
        Standings { through, generation, sinks, away }
    }
}

impl Sink {
    fn add_up(&mut self, owed: &mut Owed<'_>) {
        let Some((_, newest)) = self.streams.last_key_value() else { return };
        let Some(client) = newest.slot.client() else { return };
        let progress = self.streams.values().map(|member| owed.whole(&member.progress));
        let Some(progress) = progress.reduce(merged) else { return };
        let state = SinkState {
            client: Arc::clone(client),
            peer: newest.slot.peer,
            since: self.since,
            left: None,
            streams: self.streams.len(),
            progress,
        };
        if self.state.as_deref() != Some(&state) {
            self.state = Some(Arc::new(state));
        }
    }
}

/// What streams owe that have not looked at the newest tables.
struct Owed<'a> {
    recent: &'a Recent,
    newest: Generation,
    known: BTreeMap<Generation, Arc<BTreeSet<plan::PlanName>>>,
}

impl Owed<'_> {
    fn whole(&mut self, progress: &Progress) -> Progress {
        let mut whole = progress.clone();
        if progress.seen >= self.newest {
            return whole;
        }
        let seen = progress.seen;
        let unseen = self.known.entry(seen).or_insert_with(|| self.recent.since(seen));
        whole.owes = union(&whole.owes, unseen);
        whole
    }
}

/// The least of two.
fn merged(a: Progress, b: Progress) -> Progress {
    let refused = match (a.refused, b.refused) {
        (Some(a), Some(b)) => Some(if a.at >= b.at { a } else { b }),
        (a, b) => a.or(b),
    };
    Progress {
        seen: a.seen.min(b.seen),
        acked: a.acked.min(b.acked),
        owes: union(&a.owes, &b.owes),
        plans: union(&a.plans, &b.plans),
        refused,
    }
}

fn union<T: Ord + Clone>(a: &Arc<BTreeSet<T>>, b: &Arc<BTreeSet<T>>) -> Arc<BTreeSet<T>> {
    if b.is_subset(a) {
        return Arc::clone(a);
    }
    if a.is_empty() {
        return Arc::clone(b);
    }
    Arc::new(a.union(b).cloned().collect())
}
