//! From what waits to what is durable.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use plan::{Command, Decided, Digest, Done, Record, Refused, State};

use crate::core::flight::{Batch, Flight, Item, Outcome, Unsettled};
use crate::core::queue::{BATCH_MAX, Pending, What};
use crate::core::{AskError, BACK_OFF, BREAK_GLASS, Core, Output, Stop};
use crate::store::{AppendError, StoreError, Urgency};

/// How often the store may fail on a rollback before whoever asked is told.
const ROLLBACK_TRIES: u32 = 2;

/// How often a command is tried again whose record was not found after an unknown outcome.
const UNKNOWN_TRIES: u32 = 5;

/// How many reloads fail before whoever waits is told.
const RELOAD_TRIES: u32 = 3;

/// The shortest time between two looks at the pace that nothing else asked for.
const PACE_STEP: Duration = Duration::from_millis(10);

/// Decided, not yet handed to the store.
struct Draft {
    state: Arc<State>,
    items: Vec<Item>,
    records: Vec<Record>,
    /// Nothing more goes into this append: what is in it is large.
    full: bool,
}

impl Core {
    /// Starts the next append or reload, if nothing is in flight.
    pub(super) fn next(&mut self, out: &mut Vec<Output>) {
        if let Flight::Waiting { until, .. } = &self.flight
            && *until <= self.facts.uptime
            && let Flight::Waiting { unsettled, .. } =
                std::mem::replace(&mut self.flight, Flight::Idle)
        {
            self.reload(unsettled, out);
        }
        if !matches!(self.flight, Flight::Idle) || self.broken.is_some() {
            self.stop_if_done(out);
            return;
        }
        if self.moved > self.state.token() {
            self.reload(Unsettled::default(), out);
            return;
        }
        let draft = self.draft(out);
        if draft.records.is_empty() {
            self.stop_if_done(out);
            return;
        }
        let urgent = draft.items.iter().all(|item| item.pending.is_rollback());
        let urgency = if urgent { Urgency::Rollback } else { Urgency::Ordinary };
        self.flight = Flight::Appending(Batch { items: draft.items, after: draft.state });
        out.push(Output::Append(draft.records, urgency));
    }

    /// Decides what waits: rollbacks alone, else all kinds together.
    fn draft(&mut self, out: &mut Vec<Output>) -> Draft {
        let state = Arc::clone(&self.state);
        let mut draft = Draft { state, items: Vec::new(), records: Vec::new(), full: false };
        while draft.records.len() < BATCH_MAX
            && let Some(pending) = self.queue.pop_urgent()
        {
            self.decide(pending, &mut draft, out);
        }
        if !draft.records.is_empty() || self.stop != Stop::No {
            return draft;
        }
        while !draft.full
            && draft.records.len() < BATCH_MAX
            && let Some(pending) = self.queue.pop_ordinary()
        {
            self.decide(pending, &mut draft, out);
        }
        if let Some(seen) = self.observed.take_due(self.facts.uptime) {
            self.decide(Pending::new(What::Observed(seen)), &mut draft, out);
        }
        self.automate(&mut draft, out);
        draft
    }

    fn automate(&mut self, draft: &mut Draft, out: &mut Vec<Output>) {
        let due = self.pace.due(&self.state, &self.facts);
        let soonest = self.facts.uptime.saturating_add(PACE_STEP);
        self.pace_wake = due.wake.map(|wake| wake.max(soonest));
        if self.automation_from > self.facts.uptime {
            if !due.causes.is_empty() {
                self.pace_wake = Some(self.automation_from);
            }
            return;
        }
        for automation in due.causes {
            self.decide(Pending::new(What::Automation(automation)), draft, out);
        }
    }

    /// Decides one command on the draft's state.
    fn decide(&mut self, mut pending: Pending, draft: &mut Draft, out: &mut Vec<Output>) {
        let decided = self.rules(&pending, &draft.state);
        let outcome = match (decided, pending.stale(&self.state)) {
            (Ok(Decided::Commit(_)), Some(stale)) => Outcome::Answer(Err(stale)),
            (Ok(Decided::Commit(record)), None) => match draft.state.apply(&record) {
                Ok(after) => {
                    let digest = after.digest();
                    draft.state = Arc::new(after);
                    draft.records.push(record.as_ref().clone());
                    draft.full |= pending.is_large();
                    Outcome::Record(record, digest)
                }
                Err(broken) => {
                    self.give_back(pending, &AskError::Broken { detail: broken.to_string() }, out);
                    return;
                }
            },
            (Ok(Decided::Already(done)), _) => Outcome::Answer(Ok(done)),
            (Err(refused), _) => Outcome::Answer(Err(refused)),
        };
        pending.pin(&self.state);
        match outcome {
            Outcome::Answer(answer) if draft.records.is_empty() => {
                reply(&pending, answer.map_err(AskError::Refused), out);
            }
            outcome @ (Outcome::Record(..) | Outcome::Answer(_)) => {
                draft.items.push(Item { pending, outcome });
            }
        }
    }

    fn rules(&self, pending: &Pending, state: &State) -> Result<Decided, Refused> {
        match &pending.what {
            What::Ask(asked, _) if !asked.zone_answers.is_empty() => {
                let mut facts = self.facts.clone();
                facts.zone_answers.extend(asked.zone_answers.clone());
                state.decide(&pending.cause(), &facts)
            }
            What::Ask(..) | What::Automation(_) | What::Observed(_) => {
                state.decide(&pending.cause(), &self.facts)
            }
        }
    }

    /// The append is over.
    pub(super) fn appended(&mut self, result: Result<(), AppendError>, out: &mut Vec<Output>) {
        let Flight::Appending(batch) = std::mem::replace(&mut self.flight, Flight::Idle) else {
            return;
        };
        let reopen = match result {
            Ok(()) => {
                self.advance(batch.after, out);
                for item in &batch.items {
                    reply(&item.pending, item.outcome.answer(), out);
                }
                return;
            }
            Err(AppendError::Stale { .. }) => false,
            Err(AppendError::Unknown | AppendError::Failed(StoreError::ReloadFirst)) => true,
            Err(AppendError::Full) => {
                let error = |break_glass| AskError::Full { break_glass };
                return self.failed(batch.items, error, out);
            }
            Err(AppendError::Failed(failure)) => {
                let detail = words(&failure);
                let error = |break_glass| AskError::Store { detail: detail.clone(), break_glass };
                return self.failed(batch.items, error, out);
            }
        };
        self.reload(Unsettled { items: batch.items, reopen, failures: 0 }, out);
    }

    /// Nothing was written. Rollbacks are tried once more.
    fn failed(
        &mut self,
        items: Vec<Item>,
        error: impl Fn(Option<&'static str>) -> AskError,
        out: &mut Vec<Output>,
    ) {
        for mut item in items.into_iter().rev() {
            item.pending.failures += 1;
            let again = match &item.outcome {
                Outcome::Record(..) => {
                    item.pending.is_rollback() && item.pending.failures < ROLLBACK_TRIES
                }
                // Decided on records that are not there: decide again.
                Outcome::Answer(_) => true,
            };
            if again && matches!(item.pending.what, What::Ask(..)) && self.stop == Stop::No {
                self.queue.push_front(item.pending);
                continue;
            }
            let glass = item.pending.is_rollback().then_some(BREAK_GLASS);
            self.give_back(item.pending, &error(glass), out);
        }
    }

    /// Tells whoever asked; keeps observations for later and automation still for a while.
    pub(super) fn give_back(&mut self, pending: Pending, error: &AskError, out: &mut Vec<Output>) {
        let later = self.facts.uptime.saturating_add(BACK_OFF);
        match pending.what {
            What::Ask(_, to) => out.push(Output::Reply(to, Err(error.clone()))),
            What::Observed(seen) => self.observed.put_back(seen, later),
            What::Automation(_) => self.automation_from = later,
        }
    }

    fn reload(&mut self, unsettled: Unsettled, out: &mut Vec<Output>) {
        let reopen = unsettled.reopen;
        out.push(Output::Reload { after: self.state.token(), reopen });
        // Said once: if nothing new is found there now, the next append shows it.
        self.moved = self.state.token();
        self.flight = Flight::Reloading(unsettled);
    }

    /// The reload is over.
    pub(super) fn reloaded(
        &mut self,
        result: Result<Vec<Record>, StoreError>,
        out: &mut Vec<Output>,
    ) {
        let Flight::Reloading(unsettled) = std::mem::replace(&mut self.flight, Flight::Idle) else {
            return;
        };
        match result {
            Ok(records) => self.settle(unsettled, &records, out),
            Err(failure) => self.unreadable(unsettled, &failure, out),
        }
    }

    /// Folds what was read, then settles what waited for it.
    fn settle(&mut self, unsettled: Unsettled, records: &[Record], out: &mut Vec<Output>) {
        let mut state = Arc::clone(&self.state);
        let mut found: BTreeMap<Digest, &Record> = BTreeMap::new();
        for record in records {
            match state.apply(record) {
                Ok(after) => state = Arc::new(after),
                Err(broken) => {
                    self.halt(unsettled.items, &broken.to_string(), out);
                    return;
                }
            }
            found.insert(state.digest(), record);
        }
        if !records.is_empty() {
            self.advance(state, out);
        }
        let head = self.state.token();
        for pending in self.queue.take(|pending| pending.found_in(&found).is_some()) {
            if let Some(record) = pending.found_in(&found) {
                reply(&pending, Ok(Done::of(record)), out);
            }
        }
        // Those whose place is taken by another record cannot come any more.
        self.queue.iter_mut().for_each(|pending| pending.attempts.retain(|(at, _)| *at > head));
        for mut item in unsettled.items.into_iter().rev() {
            item.pending.attempts.extend(item.attempt());
            if let Some(record) = item.pending.found_in(&found) {
                reply(&item.pending, Ok(Done::of(record)), out);
                continue;
            }
            item.pending.attempts.retain(|(at, _)| *at > head);
            self.again(item.pending, out);
        }
    }

    /// Its record is not in the log: back to where it was taken from, by its kind.
    fn again(&mut self, mut pending: Pending, out: &mut Vec<Output>) {
        match &pending.what {
            // Decided on a base that is gone. If it is still due, the pace says so anew.
            What::Automation(_) => {}
            What::Observed(seen) => {
                let now = self.facts.uptime;
                self.observed.put_back(seen.clone(), now);
            }
            What::Ask(_, to) => {
                pending.failures += u32::from(!pending.attempts.is_empty());
                if self.stop != Stop::No && !pending.is_rollback() {
                    out.push(Output::Reply(*to, Err(AskError::Stopped)));
                } else if pending.failures > UNKNOWN_TRIES {
                    let detail = "the store cannot say what became of it".to_owned();
                    let break_glass = pending.is_rollback().then_some(BREAK_GLASS);
                    out.push(Output::Reply(*to, Err(AskError::Unknown { detail, break_glass })));
                } else {
                    self.queue.push_front(pending);
                }
            }
        }
    }

    /// The log cannot be read now. From the third time on, whoever waits is told.
    fn unreadable(&mut self, mut unsettled: Unsettled, why: &StoreError, out: &mut Vec<Output>) {
        unsettled.failures = unsettled.failures.saturating_add(1);
        if unsettled.failures >= RELOAD_TRIES || self.stop != Stop::No {
            let detail = words(why);
            for item in std::mem::take(&mut unsettled.items) {
                let break_glass = item.pending.is_rollback().then_some(BREAK_GLASS);
                let error = AskError::Unknown { detail: detail.clone(), break_glass };
                self.give_back(item.pending, &error, out);
            }
            for pending in self.queue.take(|_| true) {
                let break_glass = pending.is_rollback().then_some(BREAK_GLASS);
                let detail = detail.clone();
                let error = if pending.attempts.is_empty() {
                    AskError::Store { detail, break_glass }
                } else {
                    AskError::Unknown { detail, break_glass }
                };
                self.give_back(pending, &error, out);
            }
        }
        let until = self.facts.uptime.saturating_add(unsettled.wait());
        self.flight = Flight::Waiting { unsettled, until };
    }

    /// The log is not the one that was read so far: nothing is committed any more.
    fn halt(&mut self, items: Vec<Item>, detail: &str, out: &mut Vec<Output>) {
        self.broken = Some(detail.to_owned());
        let waiting = items.into_iter().map(|item| item.pending);
        for pending in waiting.chain(self.queue.take(|_| true)) {
            self.give_back(pending, &AskError::Broken { detail: detail.to_owned() }, out);
        }
    }

    /// Another state is durable.
    fn advance(&mut self, state: Arc<State>, out: &mut Vec<Output>) {
        if self.state.plans().any(|(plan, _)| state.plan(plan).is_none()) {
            self.sinks.wanted.prune(|plan| state.plan(plan).is_some());
        }
        self.state = state;
        self.facts.ledger.committed(self.state.snapshot());
        out.push(Output::Publish(Arc::clone(&self.state)));
    }

    fn stop_if_done(&mut self, out: &mut Vec<Output>) {
        let settled = match &self.flight {
            Flight::Idle | Flight::Waiting { .. } => true,
            Flight::Appending(_) | Flight::Reloading(_) => false,
        };
        if self.stop == Stop::Wanted && settled {
            for pending in self.queue.take(|_| true) {
                self.give_back(pending, &AskError::Stopped, out);
            }
            self.stop = Stop::Done;
            out.push(Output::Stopped);
        }
    }
}

impl Outcome {
    fn answer(&self) -> Result<Done, AskError> {
        match self {
            Self::Record(record, _) => Ok(Done::of(record)),
            Self::Answer(answer) => answer.clone().map_err(AskError::Refused),
        }
    }
}

impl Pending {
    /// Whether its record may be megabytes: nothing is put behind such a record in one append.
    fn is_large(&self) -> bool {
        let What::Ask(asked, _) = &self.what else { return false };
        matches!(asked.ask.command, Command::Apply(_) | Command::Reload(_))
    }

    /// The record in the log that an attempt of it became.
    fn found_in<'a>(&self, found: &BTreeMap<Digest, &'a Record>) -> Option<&'a Record> {
        self.attempts.iter().find_map(|(_, digest)| found.get(digest).copied())
    }
}

fn reply(pending: &Pending, answer: Result<Done, AskError>, out: &mut Vec<Output>) {
    if let What::Ask(_, to) = &pending.what {
        out.push(Output::Reply(*to, answer));
    }
}

/// An error with all its causes, in one line.
fn words(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
