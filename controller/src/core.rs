//! The core: decides, commits and publishes, without any input or output of its own.
//!
//! One append is in flight at a time. What waits is decided on the state that the append before it
//! made, several commands to one append. A rollback is next, whatever waits: it stands behind one
//! append of others at most. Nothing is published and nobody is answered before the append is
//! durable.
//!
//! | flight | input | then |
//! |---|---|---|
//! | idle | a command, an observation, a wake | decide; `Append`, or an answer |
//! | appending | `Appended(Ok)` | `Publish`, answers, next |
//! | appending | `Appended(Stale)` | `Reload` |
//! | appending | `Appended(Unknown)` | `Reload` with the medium opened anew |
//! | appending | `Appended(Full, Failed)` | rollbacks once more; the rest is told |
//! | reloading | `Reloaded(Ok)` | fold what came, `Publish`, settle what waited |
//! | reloading | `Reloaded(Err)` | wait and reload; from the third time on all are told |
//!
//! What waited for a reload is settled by its digest: found in the log, it is done. Where it is not
//! there, a rollback or a pause is decided again, automation is dropped, and the rest is decided
//! again unless its plan moved.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use plan::pace::Pace;
use plan::{
    Ask, Counts, Done, Facts, HostName, Observation, Plane, Record, SinkId, Source, Standing,
    State, Timestamp, Token,
};

use crate::core::expected::Expected;
use crate::core::flight::Flight;
use crate::core::observed::Observed;
use crate::core::queue::{ORDINARY_MAX, Pending, Queue, URGENT_MAX, What};
use crate::store::{AppendError, StoreError, Urgency};

pub use crate::core::error::{AskError, BREAK_GLASS};

mod commit;
mod error;
pub mod expected;
mod flight;
mod observed;
pub mod queue;

/// How long automation and observations wait after the store failed on them.
const BACK_OFF: Duration = Duration::from_secs(1);

/// Whom to answer: the number that came with the ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplyTo(pub u64);

/// What somebody asks, with what has to be known to decide it.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The command.
    pub ask: Ask,
    /// What zone texts that come with it hold at the plans' host names.
    pub zone_answers: BTreeMap<HostName, Vec<IpAddr>>,
}

impl From<Ask> for Asked {
    fn from(ask: Ask) -> Self {
        Self { ask, zone_answers: BTreeMap::new() }
    }
}

/// What happens to the core.
#[derive(Debug)]
pub enum Input {
    /// Somebody asks.
    Ask(Box<Asked>, ReplyTo),
    /// Something was seen.
    Observed(Observation),
    /// What somebody says of a plane.
    Standing(Plane, Source, Standing),
    /// What somebody counted in a plane.
    Counted(Plane, Source, Counts),
    /// What zone texts hold at the plans' host names.
    ZoneAnswers(BTreeMap<HostName, Vec<IpAddr>>),
    /// An operator says that this sink is gone for good.
    Forget(SinkId, ReplyTo),
    /// The list of [`Output::Keep`] is durable, or not.
    Kept(bool),
    /// How the last [`Output::Append`] went.
    Appended(Result<(), AppendError>),
    /// All records after the token of the last [`Output::Reload`].
    Reloaded(Result<Vec<Record>, StoreError>),
    /// The log goes up to here: somebody else may have appended.
    Moved(Token),
    /// The moment of the last [`Output::Wake`] has come.
    Wake,
    /// Finish what is in flight and what must not wait, then stop.
    Stop,
}

/// What the core wants done, in this order.
#[derive(Debug)]
pub enum Output {
    /// Append these records. One at a time; answered by [`Input::Appended`].
    Append(Vec<Record>, Urgency),
    /// Read all records after this token. Answered by [`Input::Reloaded`].
    Reload {
        /// The newest record that is known.
        after: Token,
        /// Open the medium anew first: an outcome is unknown.
        reopen: bool,
    },
    /// This is durable: show it and serve it.
    Publish(Arc<State>),
    /// Answer an ask.
    Reply(ReplyTo, Result<Done, AskError>),
    /// Keep this list of expected sinks. One at a time; answered by [`Input::Kept`].
    Keep(Vec<u8>),
    /// The sink is forgotten, durably; or why not.
    Forgotten(ReplyTo, Result<(), ForgetError>),
    /// Send [`Input::Wake`] at this uptime, and forget any wake before.
    Wake(Duration),
    /// All is done that had to be done.
    Stopped,
}

/// A sink was not forgotten.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ForgetError {
    /// There is no such sink.
    #[error("there is no sink `{0}`")]
    Missing(SinkId),
    /// It is connected: it would be expected again at once.
    #[error("sink `{0}` is connected; stop it first")]
    Connected(SinkId),
    /// The list of sinks cannot be written.
    #[error("the list of sinks cannot be written now; try again in a moment")]
    Store,
    /// The controller stops.
    #[error("the controller is stopping")]
    Stopped,
}

/// The one writer of the log.
#[derive(Debug)]
pub struct Core {
    state: Arc<State>,
    facts: Facts,
    pace: Pace,
    queue: Queue,
    observed: Observed,
    flight: Flight,
    sinks: Sinks,
    /// What was counted, by who said so.
    counts: BTreeMap<(Plane, Source), Counts>,
    /// The newest token that is said to be in the log; beyond the state's, reload first.
    moved: Token,
    /// The uptime before which automation keeps still: the store failed on it.
    automation_from: Duration,
    /// When the pace wants to be asked again.
    pace_wake: Option<Duration>,
    /// The wake that was asked for last.
    wake: Option<Duration>,
    stop: Stop,
    broken: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    No,
    Wanted,
    Done,
}

/// Expected sinks and what the planes say.
#[derive(Debug, Default)]
struct Sinks {
    /// As planes say it.
    standings: BTreeMap<(Plane, Source), Standing>,
    /// The list as it should be.
    wanted: Expected,
    /// The list as the store has it.
    kept: Expected,
    /// The list that is being written.
    writing: Option<Expected>,
    /// When to write again after a failure.
    retry: Option<Duration>,
    /// Who waits until a sink is forgotten durably.
    forgetting: Vec<ReplyTo>,
}

impl Core {
    /// A core at `state`, with the list of sinks that are expected from earlier.
    pub fn new(state: Arc<State>, expected: Expected) -> Self {
        let sinks = Sinks { wanted: expected.clone(), kept: expected, ..Sinks::default() };
        let mut core = Self {
            state,
            facts: Facts::default(),
            pace: Pace::default(),
            queue: Queue::default(),
            observed: Observed::default(),
            flight: Flight::Idle,
            sinks,
            counts: BTreeMap::new(),
            moved: Token::NEVER,
            automation_from: Duration::ZERO,
            pace_wake: None,
            wake: None,
            stop: Stop::No,
            broken: None,
        };
        core.facts.ledger.committed(core.state.snapshot());
        for plane in Plane::ALL {
            if core.sinks.kept.has(plane) {
                let nothing = Standing { through: Token::NEVER, sinks: Arc::new([]) };
                let source = Expected::source(plane);
                core.sinks.standings.insert((plane, source), nothing);
                core.settle_ledger(plane, source);
            }
        }
        core
    }

    /// The newest durable state.
    pub const fn state(&self) -> &Arc<State> {
        &self.state
    }

    /// What is known beside the state.
    pub const fn facts(&self) -> &Facts {
        &self.facts
    }

    /// How far the bakes are.
    pub const fn pace(&self) -> &Pace {
        &self.pace
    }

    /// How many commands wait.
    pub fn waiting(&self) -> usize {
        self.queue.ordinary_len() + self.queue.urgent_len()
    }

    /// Whether another rollback may be handed in. Where not, it waits outside.
    pub fn has_urgent_room(&self) -> bool {
        self.queue.urgent_len() < URGENT_MAX
    }

    /// Why nothing is committed any more, if so.
    pub fn broken(&self) -> Option<&str> {
        self.broken.as_deref()
    }

    /// Takes one input at this wall time and uptime. What to do, in order.
    pub fn handle(&mut self, input: Input, now: Timestamp, uptime: Duration) -> Vec<Output> {
        self.facts.now = now;
        self.facts.uptime = self.facts.uptime.max(uptime);
        let mut out = Vec::new();
        match input {
            Input::Ask(ask, reply) => self.asked(ask, reply, &mut out),
            Input::Observed(observation) => self.observe(observation),
            Input::Standing(plane, source, standing) => {
                self.sinks.standings.insert((plane, source), standing);
                self.settle_ledger(plane, source);
            }
            Input::Counted(plane, source, counts) => self.counted(plane, source, counts),
            Input::ZoneAnswers(answers) => self.facts.zone_answers = answers,
            Input::Forget(sink, reply) => self.forget(&sink, reply, &mut out),
            Input::Kept(done) => self.kept(done, &mut out),
            Input::Appended(result) => self.appended(result, &mut out),
            Input::Reloaded(result) => self.reloaded(result, &mut out),
            Input::Moved(token) => self.moved = self.moved.max(token),
            Input::Wake => self.wake = None,
            Input::Stop => self.stopping(&mut out),
        }
        self.next(&mut out);
        self.keep_sinks(&mut out);
        self.ask_for_wake(&mut out);
        out
    }

    fn asked(&mut self, ask: Box<Asked>, reply: ReplyTo, out: &mut Vec<Output>) {
        if self.stop != Stop::No {
            out.push(Output::Reply(reply, Err(AskError::Stopped)));
            return;
        }
        if let Some(detail) = self.broken.clone() {
            out.push(Output::Reply(reply, Err(AskError::Broken { detail })));
            return;
        }
        let pending = Pending::new(What::Ask(ask, reply));
        let waiting = self.queue.ordinary_len();
        if !pending.is_rollback() && waiting >= ORDINARY_MAX {
            out.push(Output::Reply(reply, Err(AskError::Busy { waiting })));
            return;
        }
        self.queue.push(pending);
    }

    /// Observations of services that no plan has are dropped, so that they cannot pile up.
    fn observe(&mut self, observation: Observation) {
        let Observation::Health { service, .. } = &observation;
        if self.state.snapshot().service(service).is_some() {
            self.observed.add(observation, self.facts.uptime);
        }
    }

    fn stopping(&mut self, out: &mut Vec<Output>) {
        if self.stop != Stop::No {
            return;
        }
        self.stop = Stop::Wanted;
        for pending in self.queue.take(|pending| !pending.is_rollback()) {
            if let What::Ask(_, reply) = pending.what {
                out.push(Output::Reply(reply, Err(AskError::Stopped)));
            }
        }
        for reply in std::mem::take(&mut self.sinks.forgetting) {
            out.push(Output::Forgotten(reply, Err(ForgetError::Stopped)));
        }
    }

    /// Asks for the earliest moment at which anything is due, if it is another one than before.
    fn ask_for_wake(&mut self, out: &mut Vec<Output>) {
        let idle = matches!(self.flight, Flight::Idle) && self.stop == Stop::No;
        let due = [
            if idle { self.observed.due() } else { None },
            if idle { self.pace_wake } else { None },
            self.flight.due(),
            self.sinks.retry,
        ];
        let earliest = due.into_iter().flatten().min();
        if earliest != self.wake {
            self.wake = earliest;
            out.extend(earliest.map(Output::Wake));
        }
    }

    /// Puts a standing, completed by what is expected, into the ledger.
    fn settle_ledger(&mut self, plane: Plane, source: Source) {
        let Some(standing) = self.sinks.standings.get(&(plane, source)) else { return };
        self.sinks.wanted.note(standing);
        let complete = if source == Expected::source(plane) {
            self.sinks.kept.complete(&self.sinks.wanted, plane, standing)
        } else {
            standing.clone()
        };
        self.facts.ledger.set_from(plane, source, complete);
    }

    /// Adds up what all that speak for a plane counted.
    fn counted(&mut self, plane: Plane, source: Source, counts: Counts) {
        self.counts.insert((plane, source), counts);
        let of_plane = self.counts.iter().filter(|((p, _), _)| *p == plane);
        let sum = of_plane.map(|(_, counts)| counts).fold(Counts::default(), Counts::plus);
        self.facts.measured.planes.insert(plane, sum);
    }

    fn forget(&mut self, sink: &SinkId, reply: ReplyTo, out: &mut Vec<Output>) {
        let known =
            |standing: &Standing| standing.sinks.iter().any(|s| s.id == *sink && s.since.is_some());
        let answer = if self.sinks.standings.values().any(known) {
            Err(ForgetError::Connected(sink.clone()))
        } else if self.stop != Stop::No {
            Err(ForgetError::Stopped)
        } else if !self.sinks.wanted.remove(sink) {
            Err(ForgetError::Missing(sink.clone()))
        } else {
            self.sinks.forgetting.push(reply);
            return;
        };
        out.push(Output::Forgotten(reply, answer));
    }

    /// Writes the list of expected sinks where it changed.
    fn keep_sinks(&mut self, out: &mut Vec<Output>) {
        let wait = self.sinks.retry.is_some_and(|retry| retry > self.facts.uptime);
        if self.sinks.writing.is_some() || wait || self.stop == Stop::Done {
            return;
        }
        self.sinks.retry = None;
        if self.sinks.wanted != self.sinks.kept {
            out.push(Output::Keep(self.sinks.wanted.encode()));
            self.sinks.writing = Some(self.sinks.wanted.clone());
        }
    }

    fn kept(&mut self, done: bool, out: &mut Vec<Output>) {
        let Some(written) = self.sinks.writing.take() else { return };
        if done {
            self.sinks.kept = written;
            for plane in Plane::ALL {
                self.settle_ledger(plane, Expected::source(plane));
            }
        } else {
            self.sinks.retry = Some(self.facts.uptime.saturating_add(BACK_OFF));
        }
        let settled = self.sinks.wanted == self.sinks.kept;
        if settled || !done {
            let answer = if done { Ok(()) } else { Err(ForgetError::Store) };
            for reply in std::mem::take(&mut self.sinks.forgetting) {
                out.push(Output::Forgotten(reply, answer.clone()));
            }
        }
    }
}
