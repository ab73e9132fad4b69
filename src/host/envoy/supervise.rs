//! Keeping an Envoy running, and telling the rules whether it is well.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use agent::envoy::{Health, Restarts};
use agent::rules::Capture;
use controller::clock::Clock;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};
use xds::render::Door;

use super::Shown;
use super::place::Place;
use super::process::{self, Running};
use super::ready::{self, Had, Refused};
use super::unit;
use crate::following;

/// Keeps one running, or looks whether its unit does.
#[derive(Debug)]
pub(super) struct Supervisor {
    place: Place,
    start: Start,
    /// One that an agent before this one started.
    found: Option<Running>,
    /// Whether it has taken all that it is fed.
    settled: Settled,
    clock: Clock,
}

/// How it is started.
#[derive(Debug)]
pub(super) enum Start {
    /// From here, this program.
    Here(PathBuf),
    /// From here, the program that an agent says each time.
    Told,
    /// By its unit.
    ByUnit,
}

/// Asks a relay part.
pub(super) struct Settled(pub(super) Box<dyn Fn() -> bool + Send + Sync>);

impl fmt::Debug for Settled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Settled").field(&self.0()).finish()
    }
}

impl Supervisor {
    /// Looks whether one runs.
    pub(super) fn new(place: Place, start: Start, settled: Settled) -> Self {
        let found = process::find(&place, Some(place.user())).map(Running::Found);
        Self { place, start, found, settled, clock: Clock::start() }
    }

    /// What the rules begin with: one that runs is taken to be well until it says otherwise, so
    /// that the agent's own restart moves nobody.
    pub(super) fn adopted(&self) -> Option<Capture> {
        self.found.as_ref().map(|_| self.takes())
    }

    /// Where the agent and Envoy meet.
    pub(super) fn directory(&self) -> &Path {
        self.place.directory()
    }

    /// Keeps it running.
    pub(super) async fn keep(mut self, shown: &watch::Sender<Shown>) {
        let (mut restarts, mut random) = (Restarts::default(), following::random());
        let mut had = None;
        loop {
            let is_taken = !self.have_port(&mut had, shown);
            if is_taken && self.found.is_none() {
                tokio::time::sleep(Restarts::FIRST).await;
                continue;
            }
            let (started, health) = match self.found.take() {
                Some(found) => {
                    tracing::info!(pid = found.process().pid, "Envoy runs already");
                    let is_well = shown.borrow().capture.is_some();
                    (Ok(found), if is_well { Health::WELL } else { Health::default() })
                }
                None => (self.start().await, Health::default()),
            };
            let well_for = match started {
                Ok(mut running) => {
                    let pid = running.process().pid;
                    shown.send_modify(|shown| shown.pid = Some(pid));
                    let well_for = self.attend(&mut running, health, shown).await;
                    tracing::debug!(pid, ?well_for, "Envoy was well for so long");
                    well_for
                }
                Err(error) => {
                    let why = format!("it cannot be started: {error}");
                    tracing::error!(%why, "there is no Envoy");
                    self.unwell(shown, why);
                    Duration::ZERO
                }
            };
            let pause = restarts.ended(well_for, random());
            let pause = if self.is_by_unit() { Health::EVERY } else { pause };
            tokio::time::sleep(pause).await;
            self.found = process::find(&self.place, Some(self.place.user())).map(Running::Found);
        }
    }

    const fn is_by_unit(&self) -> bool {
        matches!(self.start, Start::ByUnit)
    }

    /// Whoever starts it has its port, so that nobody gets it while it is away. `false`: somebody
    /// else takes connections there, and Envoy could not.
    fn have_port(&self, had: &mut Option<Had>, shown: &watch::Sender<Shown>) -> bool {
        if self.is_by_unit() || had.is_some() {
            return true;
        }
        match Had::of(self.place.user()) {
            Ok(port) => {
                *had = Some(port);
                true
            }
            Err(Refused { why, is_taken }) => {
                if self.unwell(shown, why.clone()) {
                    tracing::error!(%why, "Envoy has not the port of captured connections");
                }
                !is_taken
            }
        }
    }

    async fn start(&self) -> io::Result<Running> {
        match &self.start {
            Start::Here(program) => Running::start(&self.place, program),
            Start::Told => Running::start(&self.place, &unit::told()?.program),
            Start::ByUnit => Ok(self.by_unit().await),
        }
    }

    /// Waits until its unit has started it.
    async fn by_unit(&self) -> Running {
        loop {
            if let Some(found) = process::find(&self.place, Some(self.place.user())) {
                return Running::Found(found);
            }
            tokio::time::sleep(Health::EVERY).await;
        }
    }

    /// Until it has ended; how long it was well in the end.
    async fn attend(
        &self,
        running: &mut Running,
        health: Health,
        shown: &watch::Sender<Shown>,
    ) -> Duration {
        let mut well_since = None;
        let ended = tokio::select! {
            ended = running.ended() => Some(ended),
            () = self.ask(health, shown, &mut well_since) => None,
        };
        if shown.borrow().capture.is_some() {
            tracing::warn!("Envoy is gone; this host's own calls go without it");
        }
        let is_gone = ended.is_some();
        let ended = ended.unwrap_or_else(|| "it did not become well".to_owned());
        shown.send_modify(|shown| {
            (shown.pid, shown.last_end) = (None, Some((self.clock.now(), ended.clone())));
        });
        self.unwell(shown, format!("it ended: {ended}"));
        if is_gone {
            tracing::warn!(%ended, "Envoy ended");
        } else {
            tracing::error!("Envoy does not become well; it is started anew");
            running.end().await;
        }
        well_since.map_or(Duration::ZERO, |since: Instant| since.elapsed())
    }

    /// Until it was unwell for too long.
    async fn ask(
        &self,
        mut health: Health,
        shown: &watch::Sender<Shown>,
        well_since: &mut Option<Instant>,
    ) {
        let (admin, user) = (self.place.admin(), self.place.user());
        let mut unwell_since = Instant::now();
        *well_since = health.is_well().then(Instant::now);
        let mut tick = tokio::time::interval(Health::EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            // One that has the first listener and not yet the others would pass connections on
            // unsplit. Later it may be behind, or without an agent, and is no worse for that.
            let begins = health.is_well() || (self.settled.0)();
            let behind = || (!begins).then(|| "it has not taken all that it is sent".to_owned());
            let why = ready::why_not(&admin, user).await.or_else(behind);
            let changed = health.heard(why.is_none());
            match why {
                // What it says now, as long as it counts for nothing.
                Some(why) if !health.is_well() => {
                    self.unwell(shown, why);
                }
                _ if changed => {
                    tracing::info!("Envoy is well; it takes this host's own calls");
                    self.well(shown);
                }
                _ => {}
            }
            if changed {
                *well_since = health.is_well().then(Instant::now);
                unwell_since = Instant::now();
            }
            let too_long = unwell_since.elapsed() > Health::UNWELL_MAX;
            if !health.is_well() && too_long && !self.is_by_unit() {
                return;
            }
        }
    }

    fn well(&self, shown: &watch::Sender<Shown>) {
        shown.send_modify(|shown| {
            (shown.capture, shown.why_not) = (Some(self.takes()), None);
            shown.since = Some(self.clock.now());
        });
    }

    /// It takes nothing; whether that is new. Nobody is told again of what is so already.
    fn unwell(&self, shown: &watch::Sender<Shown>, why: String) -> bool {
        shown.send_if_modified(|shown| {
            let changed = shown.capture.is_some() || shown.why_not.as_ref() != Some(&why);
            if shown.capture.take().is_some() {
                tracing::warn!(%why, "Envoy is not well; this host's own calls go without it");
                shown.since = None;
            }
            shown.why_not = Some(why);
            changed
        })
    }

    fn takes(&self) -> Capture {
        Capture { port: Door::CAPTURE.port(), user: self.place.user() }
    }
}
