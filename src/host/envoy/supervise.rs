//! Keeping an Envoy running, and telling the rules whether it is well.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use agent::envoy::{Health, Restarts};
use agent::rules::Capture;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};
use xds::render::Door;

use super::place::Place;
use super::process::{self, Running};
use super::ready;
use crate::following;

/// Keeps one running.
#[derive(Debug)]
pub(super) struct Supervisor {
    place: Place,
    program: PathBuf,
    /// One that an agent before this one started.
    found: Option<Running>,
    /// Whether it has taken all that it is fed.
    settled: Settled,
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
    pub(super) fn new(place: Place, program: PathBuf, settled: Settled) -> Self {
        let found = process::find(&place).map(Running::Found);
        Self { place, program, found, settled }
    }

    /// What the rules begin with: one that runs is taken to be well until it says otherwise, so
    /// that the agent's own restart moves nobody.
    pub(super) fn adopted(&self) -> Option<Capture> {
        self.found.as_ref().map(|_| self.takes())
    }

    /// Keeps it running.
    pub(super) async fn keep(mut self, capture: &watch::Sender<Option<Capture>>) {
        let (mut restarts, mut random) = (Restarts::default(), following::random());
        loop {
            let (started, health) = match self.found.take() {
                Some(found) => {
                    tracing::info!(pid = found.process().pid, "Envoy runs already");
                    let health =
                        if capture.borrow().is_some() { Health::WELL } else { Health::default() };
                    (Ok(found), health)
                }
                None => (Running::start(&self.place, &self.program), Health::default()),
            };
            let well_for = match started {
                Ok(mut running) => {
                    let pid = running.process().pid;
                    let well_for = self.attend(&mut running, health, capture).await;
                    tracing::debug!(pid, ?well_for, "Envoy was well for so long");
                    well_for
                }
                Err(error) => {
                    let program = self.program.display();
                    tracing::error!(%program, %error, "Envoy cannot be started");
                    Duration::ZERO
                }
            };
            tokio::time::sleep(restarts.ended(well_for, random())).await;
            self.found = process::find(&self.place).map(Running::Found);
        }
    }

    /// Until it has ended; how long it was well in the end.
    async fn attend(
        &self,
        running: &mut Running,
        health: Health,
        capture: &watch::Sender<Option<Capture>>,
    ) -> Duration {
        let mut well_since = None;
        let ended = tokio::select! {
            ended = running.ended() => Some(ended),
            () = self.ask(health, capture, &mut well_since) => None,
        };
        if capture.send_replace(None).is_some() {
            tracing::warn!("Envoy is gone; this host's own calls go without it");
        }
        match ended {
            Some(ended) => tracing::warn!(%ended, "Envoy ended"),
            None => {
                tracing::error!("Envoy does not become well; it is started anew");
                running.end().await;
            }
        }
        well_since.map_or(Duration::ZERO, |since: Instant| since.elapsed())
    }

    /// Until it was unwell for too long.
    async fn ask(
        &self,
        mut health: Health,
        capture: &watch::Sender<Option<Capture>>,
        well_since: &mut Option<Instant>,
    ) {
        let admin = self.place.admin();
        let mut unwell_since = Instant::now();
        *well_since = health.is_well().then(Instant::now);
        let mut tick = tokio::time::interval(Health::EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            let ready = ready::is_ready(&admin).await;
            // One that has the first listener and not yet the others would pass connections on
            // unsplit. Later it may be behind, or without an agent, and is no worse for that.
            let begins = health.is_well() || (self.settled.0)();
            if health.heard(ready && begins) {
                let is_well = health.is_well();
                *well_since = is_well.then(Instant::now);
                unwell_since = Instant::now();
                capture.send_replace(is_well.then(|| self.takes()));
                if is_well {
                    tracing::info!("Envoy is well; it takes this host's own calls");
                } else {
                    tracing::warn!("Envoy is not well; this host's own calls go without it");
                }
            }
            if !health.is_well() && unwell_since.elapsed() > Health::UNWELL_MAX {
                return;
            }
        }
    }

    fn takes(&self) -> Capture {
        Capture { port: Door::CAPTURE.port(), user: self.place.user() }
    }
}
