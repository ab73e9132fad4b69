//! The one task that changes this host: what the controller says, what the host's own operator
//! does, and what others do to the rules.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use agent::names::{Answers, Stub};
use agent::rules::{self, Compiled, Counted, Transport};
use bytes::Bytes;
use controller::clock::Clock;
use plan::snapshot::Service;
use plan::{Digest, PlanName, ServiceId, Side, Split, Token};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior};
use xds::follow::{Again, Applied, Held, Item, Link, Refusal, Sink};
use xds::own::HostTable;
use xds::{Name, TypeUrl};

use crate::glass::{self, Act, Force, Glass};
use crate::host::files;
use crate::host::kernel::Kernel;
use crate::host::shown::{self, Baselines, Shown};
use crate::host::world::World;
use crate::verbs::chain;

/// How often the file of break-glass is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(40);
/// How often the kernel is asked whether it holds what it should, and whether break-glass is there.
const CHECK_EVERY: Duration = Duration::from_millis(200);
/// How often flows are counted, and the host's addresses looked at.
const COUNT_EVERY: Duration = Duration::from_secs(1);
/// How long after the kernel refused it is asked again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Who did what nobody told us of: the table of break-glass came or went.
const BY_RULES: &str = "nft";
/// What dissolved break-glass is written down as.
const BY_CONTROLLER: &str = "controller";

/// What is asked of the actor.
pub(super) enum Ask {
    /// Put this in force.
    Apply { held: Arc<Held>, named: Vec<Name>, done: oneshot::Sender<Applied> },
    /// Is it in force now?
    Applied { done: oneshot::Sender<Applied> },
    /// Close the TCP flows of these services on the side that lost.
    Drain { services: Vec<ServiceId>, done: oneshot::Sender<Vec<ServiceId>> },
    /// Other addresses are this host's, or Envoy came or went.
    Host(Box<rules::Host>),
}

/// The pump's way to the actor. Tables are judged here, beside those of other plans.
pub(super) struct Following {
    pub(super) asks: mpsc::Sender<Ask>,
    pub(super) world: Shared,
}

/// What is held, for those who judge and for the one who changes it.
#[derive(Clone, Debug)]
pub(super) struct Shared(Arc<Mutex<World>>);

impl Shared {
    pub(super) fn new(world: World) -> Self {
        Self(Arc::new(Mutex::new(world)))
    }

    /// Whoever panicked while holding it left it whole: it is changed by assignments.
    pub(super) fn lock(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Following {
    async fn ask(&self, ask: impl FnOnce(oneshot::Sender<Applied>) -> Ask) -> Applied {
        let (done, applied) = oneshot::channel();
        // The actor goes only with the process.
        let _ = self.asks.send(ask(done)).await;
        match applied.await {
            Ok(applied) => applied,
            Err(_) => std::future::pending().await,
        }
    }
}

impl Sink for Following {
    fn check(
        &mut self,
        _: &TypeUrl,
        name: &str,
        body: &Bytes,
        held: Option<&Item>,
    ) -> Result<(), String> {
        self.world.lock().check(name, body, held)
    }

    async fn apply(&mut self, held: &Arc<Held>, named: &[Name]) -> Applied {
        let (held, named) = (Arc::clone(held), named.to_vec());
        self.ask(|done| Ask::Apply { held, named, done }).await
    }

    async fn applied(&mut self, _: &TypeUrl) -> Applied {
        self.ask(|done| Ask::Applied { done }).await
    }
}

/// See the module.
pub(super) struct Actor {
    pub(super) world: Shared,
    pub(super) kernel: Kernel,
    pub(super) directory: PathBuf,
    pub(super) stub: Option<Arc<Stub>>,
    pub(super) clock: Clock,
    pub(super) again: watch::Sender<Again>,
    pub(super) links: watch::Receiver<Option<Link>>,
    pub(super) shown: watch::Sender<Shown>,
    pub(super) state: State,
}

/// What is in force.
#[derive(Default)]
pub(super) struct State {
    glass: Vec<Force>,
    /// What is in the kernel, by the services' leaves.
    leaves: Vec<Arc<Service>>,
    counted: BTreeMap<ServiceId, Counted>,
    told: Vec<String>,
    /// Why the kernel does not hold what it should.
    broken: Option<String>,
    ownership: Option<agent::dataplane::Ownership>,
    retry: Option<Instant>,
    baselines: Baselines,
    drains: BTreeMap<ServiceId, (Instant, Side)>,
    /// Of the rules of break-glass, as they are on disk.
    written: Option<Digest>,
}

impl Actor {
    /// Puts in force what was held when the agent last ran, break-glass too.
    pub(super) fn begin(&mut self) {
        self.enforce();
        self.state.glass = self.read_glass().force;
        if !self.state.glass.is_empty() {
            tracing::warn!("break-glass is in force");
            self.force();
        }
        self.show();
    }

    /// Runs until nobody asks.
    pub(super) async fn run(mut self, mut asks: mpsc::Receiver<Ask>, noticed: &Notify) {
        let [mut look, mut check, mut count] =
            [LOOK_EVERY, CHECK_EVERY, COUNT_EVERY].map(|every| {
                let mut interval = tokio::time::interval(every);
                interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
                interval
            });
        let mut seen = self.stamp();
        // Plans that the controller has said on this connection.
        let mut confirmed: BTreeSet<PlanName> = BTreeSet::new();
        loop {
            let broken = self.state.broken.is_some();
            tokio::select! {
                biased;
                Ok(()) = self.links.changed() => {
                    self.links.borrow_and_update();
                    confirmed.clear();
                }
                ask = asks.recv() => match ask {
                    Some(ask) => self.ask(ask, &mut confirmed),
                    None => return,
                },
                _ = look.tick() => {
                    let stamp = self.stamp();
                    if stamp != seen {
                        seen = stamp;
                        self.glass_changed(noticed);
                    }
                }
                _ = check.tick() => {
                    tokio::task::block_in_place(|| self.check());
                    seen = self.stamp_after(seen, noticed);
                }
                _ = count.tick() => tokio::task::block_in_place(|| self.show()),
            }
            if broken != self.state.broken.is_some() {
                // The controller hears what is refused now, or is no longer.
                self.ask_again(noticed);
            }
        }
    }

    fn ask(&mut self, ask: Ask, confirmed: &mut BTreeSet<PlanName>) {
        match ask {
            Ask::Apply { held, named, done } => {
                self.world.lock().take(&held);
                tokio::task::block_in_place(|| self.enforce());
                confirmed.extend(named.iter().filter_map(|name| name.as_str().parse().ok()));
                self.dissolve(confirmed);
                // The pump waits for it, or has gone.
                let _ = done.send(self.applied());
                self.show();
            }
            Ask::Applied { done } => {
                let _ = done.send(self.applied());
            }
            Ask::Drain { services, done } => {
                let drained = services.into_iter().filter(|id| self.drain(id)).collect();
                let _ = done.send(drained);
            }
            Ask::Host(host) => {
                self.world.lock().host = *host;
                tokio::task::block_in_place(|| self.enforce());
            }
        }
    }

    /// Makes rules, names and the file of break-glass say what is held. What is on disk comes
    /// first, so that a restart finds it.
    fn enforce(&mut self) {
        if self.holds_nothing() && self.kernel.is_standing() {
            // What stands in the kernel may be all that is left of what was held.
            return;
        }
        let (compiled, marks) = {
            let mut world = self.world.lock();
            let before = world.marks.clone();
            let compiled = world.compile();
            (compiled, (world.marks != before).then(|| world.marks.clone()))
        };
        if let Some(marks) = marks
            && let Err(error) = files::put_marks(&self.directory, &marks)
        {
            tracing::error!(why = %chain(&error), "marks of services cannot be kept");
        }
        self.write_rollback();
        let leaves = self.world.lock().leaves();
        let committed = compiled.and_then(|compiled| {
            let ownership = self.kernel.commit(&compiled.table).map_err(|e| chain(&e))?;
            Ok((compiled, ownership))
        });
        match committed {
            Ok((compiled, ownership)) => {
                self.state.ownership = Some(ownership);
                if self.state.broken.take().is_some() {
                    tracing::info!("the kernel holds what it should again");
                }
                self.state.retry = None;
                let impossible: Vec<String> = {
                    let world = self.world.lock();
                    let refused = world.refused().iter();
                    refused
                        .map(|(plan, why)| format!("{plan} is not in force here: {why}"))
                        .collect()
                };
                let compiled = Compiled {
                    told: impossible.into_iter().chain(compiled.told).collect(),
                    ..compiled
                };
                for told in compiled.told.iter().filter(|told| !self.state.told.contains(*told)) {
                    tracing::warn!("{told}");
                }
                self.state.told = compiled.told;
                self.state.counted = compiled.counted;
                self.moved(&leaves);
            }
            Err(why) => {
                if self.state.broken.as_ref() != Some(&why) {
                    tracing::error!(%why, "the kernel does not hold what it should");
                }
                self.state.broken = Some(why);
                self.state.retry = Some(Instant::now() + RETRY_AFTER);
            }
        }
        if let Some(stub) = &self.stub {
            let answers: Answers = stub.answers().next(&leaves);
            stub.publish(Arc::new(answers));
        }
        if !self.state.glass.is_empty() {
            self.force();
        }
    }

    fn holds_nothing(&self) -> bool {
        self.world.lock().through == Token::NEVER
    }

    /// Takes up that splits are others now: datagrams of the side that lost go the new way at once,
    /// and connections are closed when the plan says.
    fn moved(&mut self, leaves: &[Arc<Service>]) {
        let counts = self.kernel.counted().unwrap_or_default();
        let marks = self.world.lock().marks.clone();
        for leaf in leaves {
            let at = self.state.leaves.binary_search_by(|old| old.id.cmp(&leaf.id));
            let old = at.ok().and_then(|at| self.state.leaves.get(at)).cloned();
            if old.as_ref().is_none_or(|old| old.since != leaf.since) {
                self.state.baselines.begin(leaf, self.state.counted.get(&leaf.id), &counts);
            }
            let (Some(old), Some(mark)) = (old, marks.of(&leaf.id)) else { continue };
            let (was, is) = (old.serving.split(), leaf.serving.split());
            if was == is {
                continue;
            }
            let lost = if is < was { Side::Target } else { Side::Legacy };
            self.kernel.flush(mark, lost, Some(Transport::Udp));
            self.state.drains.remove(&leaf.id);
            let exact = is == Split::LEGACY || is == Split::TARGET;
            if let Some(after) = leaf.drain.filter(|_| exact) {
                self.state.drains.insert(leaf.id.clone(), (Instant::now() + after, lost));
            }
        }
        self.state.leaves = leaves.to_vec();
    }

    /// Closes what is left on the side that lost; `false`: no such service, or it is on both.
    fn drain(&mut self, id: &ServiceId) -> bool {
        let leaf = self.state.leaves.iter().find(|leaf| leaf.id == *id);
        let lost = match leaf.map(|leaf| leaf.serving.split()) {
            Some(Split::LEGACY) => Side::Target,
            Some(Split::TARGET) => Side::Legacy,
            Some(_) | None => return false,
        };
        let Some(mark) = self.world.lock().marks.of(id) else { return false };
        self.kernel.flush(mark, lost, None);
        true
    }

    /// Looks whether the kernel holds what it should; drains what is due.
    fn check(&mut self) {
        if self.holds_nothing() {
            return;
        }
        let now = Instant::now();
        let due = self.state.retry.map_or_else(|| !self.kernel.is_intact(), |at| at <= now);
        if due {
            if self.state.broken.is_none() {
                tracing::warn!("others changed our rules; they are put back");
            }
            self.enforce();
        }
        let drained: Vec<ServiceId> = self
            .state
            .drains
            .iter()
            .filter(|(_, (at, _))| *at <= now)
            .map(|(id, _)| id.clone())
            .collect();
        for id in drained {
            let Some((_, lost)) = self.state.drains.remove(&id) else { continue };
            let mark = self.world.lock().marks.of(&id);
            if let Some(mark) = mark {
                self.kernel.flush(mark, lost, None);
            }
        }
    }

    /// What is refused: all of it while the kernel does not hold it, and plans that break-glass
    /// keeps on legacy.
    fn applied(&self) -> Applied {
        let world = self.world.lock();
        let refusal =
            |plan: &PlanName, why: String| Refusal { name: Some(Name::new(plan.as_str())), why };
        if let Some(why) = &self.state.broken {
            let refused = world.plans().map(|plan| refusal(plan, why.clone())).collect();
            return Applied { refused, waits: None };
        }
        let impossible = world.refused().iter().map(|(plan, why)| refusal(plan, why.clone()));
        let forced = |id: &ServiceId| self.state.glass.iter().any(|force| force.covers(id));
        let refused = world.above_legacy(forced).into_iter().map(|plan| {
            let why = "break-glass is in force on this host; roll back at the controller, or undo \
                       it here: crossfade agent rollback --undo";
            refusal(&plan, why.to_owned())
        });
        Applied { refused: refused.chain(impossible).collect(), waits: None }
    }

    /// The rules of break-glass for all that is held, for plain `nft -f`.
    fn write_rollback(&mut self) {
        let text = {
            let world = self.world.lock();
            rules::text(&rules::rollback(&world.merged(None), &world.host, &world.marks))
        };
        let digest = Digest::of(text.as_bytes());
        let path = self.directory.join(files::ROLLBACK);
        if self.state.written.is_none() {
            // Left by the agent before this one; disks may be slow.
            self.state.written = std::fs::read(&path).ok().map(|found| Digest::of(&found));
        }
        if self.state.written == Some(digest) {
            return;
        }
        match files::write(&path, text.as_bytes(), 0o644) {
            Ok(()) => self.state.written = Some(digest),
            Err(error) => {
                tracing::error!(%error, path = %path.display(), "break-glass cannot be prepared");
            }
        }
    }

    fn show(&mut self) {
        let counted = self.kernel.counted().unwrap_or_default();
        let shown = {
            let state = &self.state;
            let services = state.leaves.iter().map(|leaf| {
                let names = state.counted.get(&leaf.id);
                shown::service(leaf, names, &counted, &state.baselines)
            });
            Shown {
                services: services.collect(),
                through: self.world.lock().through,
                force: state.glass.clone(),
                told: state.told.clone(),
                broken: state.broken.clone(),
                ownership: state.ownership,
                names: self.stub.as_ref().map(|stub| shown::names(stub)),
            }
        };
        self.shown.send_replace(shown);
    }
}

/// Break-glass.
impl Actor {
    fn read_glass(&self) -> Glass {
        crate::replica::read_glass(&self.directory)
    }

    /// What changes when the file does.
    fn stamp(&self) -> Option<(u64, std::time::SystemTime)> {
        let found = std::fs::metadata(self.directory.join(glass::FILE)).ok()?;
        Some((found.len(), found.modified().ok()?))
    }

    /// Puts the rules of break-glass in force, for the services that it names.
    fn force(&mut self) {
        let table = {
            let world = self.world.lock();
            let merged = world.merged(None);
            let forced =
                |leaf: &Arc<Service>| self.state.glass.iter().any(|force| force.covers(&leaf.id));
            let services = merged.services.iter().filter(|leaf| forced(leaf)).cloned().collect();
            let some = HostTable { services, ..merged };
            rules::rollback(&some, &world.host, &world.marks)
        };
        if let Err(error) = self.kernel.break_glass(&table) {
            tracing::error!(why = %chain(&error), "break-glass is not in force");
        }
    }

    /// Takes up what an operator wrote down; the operator's command has changed the rules already.
    fn glass_changed(&mut self, noticed: &Notify) {
        let glass = self.read_glass();
        if glass.force == self.state.glass {
            return;
        }
        for force in &glass.force {
            let service =
                force.service.as_ref().map_or_else(|| "*".to_owned(), ToString::to_string);
            tracing::warn!(%service, since = %force.since, by = %force.by, "break-glass in force");
        }
        self.state.glass = glass.force;
        if self.state.glass.is_empty() {
            // Whoever ended it has taken its rules out: the operator may put them back meanwhile.
            tracing::warn!("break-glass is over");
        } else {
            self.force();
        }
        self.ask_again(noticed);
    }

    /// The controller says what it wants of these plans once more, and hears what is done here.
    fn ask_again(&mut self, noticed: &Notify) {
        let names: Vec<(TypeUrl, Name)> = {
            let world = self.world.lock();
            let plans = world.plans();
            plans.map(|plan| (TypeUrl::HOST_TABLE.into(), Name::new(plan.as_str()))).collect()
        };
        self.again.send_modify(|again| *again = Again { round: again.round + 1, names });
        self.show();
        noticed.notify_one();
    }

    /// Writes down what was done to the table of break-glass by other means than ours, and takes it
    /// up. The stamp of the file as it is now.
    fn stamp_after(
        &mut self,
        seen: Option<(u64, std::time::SystemTime)>,
        noticed: &Notify,
    ) -> Option<(u64, std::time::SystemTime)> {
        if self.stamp() != seen {
            // The operator's command is at work; it is taken up first.
            return seen;
        }
        let Ok(broken) = self.kernel.is_glass_broken() else { return seen };
        let act = match (broken, self.state.glass.is_empty()) {
            (true, true) => Act::Rollback,
            (false, false) => Act::Undo,
            _ => return seen,
        };
        let why = "the table of break-glass came or went by other means than crossfade";
        let now = self.clock.now();
        match glass::append(&self.directory, act, None, BY_RULES, why, now) {
            Ok(glass) => {
                tracing::warn!(?act, "break-glass was changed in the kernel");
                self.state.glass = glass.force;
                self.ask_again(noticed);
            }
            Err(error) => tracing::error!(why = %chain(&error), "break-glass is not written down"),
        }
        self.stamp()
    }

    /// Ends break-glass where the controller itself says legacy by now.
    fn dissolve(&mut self, confirmed: &BTreeSet<PlanName>) {
        if self.state.glass.is_empty() {
            return;
        }
        let done: Vec<Option<ServiceId>> = {
            let world = self.world.lock();
            let is_done = |force: &&Force| {
                let covered = |plan: &&PlanName| match &force.service {
                    Some(id) => id.plan == **plan,
                    None => true,
                };
                let mut plans = world.plans().filter(covered).peekable();
                plans.peek().is_some()
                    && plans.all(|plan| confirmed.contains(plan))
                    && world.above_legacy(|id| force.covers(id)).is_empty()
            };
            self.state.glass.iter().filter(is_done).map(|force| force.service.clone()).collect()
        };
        for service in done {
            let now = self.clock.now();
            let why = "the controller's split is 0";
            let directory = &self.directory;
            let act = Act::Dissolved;
            let appended = glass::append(directory, act, service.as_ref(), BY_CONTROLLER, why, now);
            match appended {
                // The file has changed, so it is taken up as any other act is.
                Ok(glass) if glass.force.is_empty() => {
                    if let Err(error) = self.kernel.end_glass() {
                        tracing::error!(why = %chain(&error), "break-glass has not ended");
                    }
                }
                Ok(_) => {}
                // It stays in force, and is tried again with the next table.
                Err(error) => tracing::error!(why = %chain(&error), "break-glass cannot be ended"),
            }
        }
    }
}
