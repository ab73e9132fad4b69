//! The one task that changes this host: what the controller says, what the host's own operator
//! does, and what others do to the rules.

mod apart;
mod ask;
mod flows;
mod glass;
mod known;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use agent::dataplane::{Forget, Ownership};
use agent::names::Stub;
use agent::rules::{self, Compiled, Counted, Told};
use controller::clock::Clock;
use plan::snapshot::Service;
use plan::{Digest, PlanName, ServiceId, Token};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior};
use xds::follow::{Again, Applied, Link, Refusal};
use xds::{Name, TypeUrl};

pub(in crate::host) use self::ask::{Ask, Drained, Following, Shared};
use self::flows::has_datagrams;
pub(in crate::host) use self::glass::on_legacy;
pub(crate) use self::glass::turned;
pub(in crate::host) use self::known::Flows;
use self::known::Known;
use crate::disk;
use crate::glass::{Glass, LOOK_EVERY, Stamp};
use crate::host::files;
use crate::host::kernel::{self, Kernel};
use crate::host::report::{self, InForce};
use crate::host::watchdog::Watchdog;
use crate::host::world::GlassOf;
use crate::verbs::chain;

/// How often the kernel is asked whether it holds what it should, and whether break-glass is there.
const CHECK_EVERY: Duration = Duration::from_millis(200);
/// How often flows are counted.
const COUNT_EVERY: Duration = Duration::from_secs(1);
/// How long after the kernel refused it is asked again.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// The same where it refused some plans: a module that one needs may have been loaded meanwhile.
const RETRY_APART_AFTER: Duration = Duration::from_secs(60);

/// See the module.
pub(super) struct Actor {
    pub(super) world: Shared,
    pub(super) kernel: Kernel,
    pub(super) directory: PathBuf,
    pub(super) stub: Option<Arc<Stub>>,
    pub(super) clock: Clock,
    pub(super) again: watch::Sender<Again>,
    pub(super) links: watch::Receiver<Option<Link>>,
    pub(super) in_force: watch::Sender<InForce>,
    /// Told that this process is well, by nobody else: one whose actor hangs is started anew.
    pub(super) watchdog: Watchdog,
    pub(super) state: State,
}

/// What is in force.
#[derive(Default)]
pub(super) struct State {
    glass: Glass,
    /// What is in the kernel, by the services' leaves.
    leaves: Vec<Arc<Service>>,
    counted: BTreeMap<ServiceId, Arc<Counted>>,
    /// What counters stood at, if they were read just now.
    read: Option<kernel::Counted>,
    told: Vec<String>,
    /// What is done otherwise than the plan asks, of that.
    otherwise: Vec<Told>,
    /// Why the kernel does not hold what it should.
    broken: Option<String>,
    /// Plans that cannot be in force here, and why.
    impossible: BTreeMap<PlanName, String>,
    /// What is refused is another than the controller was told.
    untold: bool,
    /// No plan could be told that the kernel refuses; it is not looked for again before something
    /// else is held.
    inseparable: bool,
    ownership: Option<Ownership>,
    retry: Option<Instant>,
    known: Known,
    /// What of it is not written down.
    unkept: bool,
    /// What is to be decided anew.
    due: Forget,
    /// Of the rules of break-glass, as they are on disk.
    written: Option<Digest>,
    /// What they were made of.
    written_of: Option<GlassOf>,
}

impl Actor {
    /// Puts in force what was held when the agent last ran, break-glass too.
    pub(super) fn begin(&mut self) {
        self.state.known = Known::kept(&self.directory);
        self.begin_glass();
        self.settle();
        self.show();
    }

    /// Runs until nobody asks.
    pub(super) async fn run(&mut self, mut asks: mpsc::Receiver<Ask>, noticed: &Notify) {
        let [mut look, mut check, mut count] =
            [LOOK_EVERY, CHECK_EVERY, COUNT_EVERY].map(|every| {
                let mut interval = tokio::time::interval(every);
                interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
                interval
            });
        let mut seen = Stamp::of(&self.directory);
        // Plans that the controller has said on this connection.
        let mut confirmed: BTreeSet<PlanName> = BTreeSet::new();
        loop {
            tokio::select! {
                biased;
                Ok(()) = self.links.changed() => {
                    self.links.borrow_and_update();
                    confirmed.clear();
                }
                ask = asks.recv() => match ask {
                    Some(ask) => tokio::task::block_in_place(|| self.ask(ask, &mut confirmed)),
                    None => return,
                },
                _ = look.tick() => {
                    let stamp = Stamp::of(&self.directory);
                    if stamp != seen {
                        seen = stamp;
                        tokio::task::block_in_place(|| self.glass_changed(noticed));
                    }
                }
                _ = check.tick() => {
                    tokio::task::block_in_place(|| {
                        self.check();
                        self.check_glass(noticed);
                    });
                    self.watchdog.tell();
                }
                _ = count.tick() => tokio::task::block_in_place(|| {
                    self.state.read = None;
                    self.show();
                }),
            }
            if std::mem::take(&mut self.state.untold) {
                // The controller hears what is refused now, or is no longer.
                self.ask_again(noticed);
            }
        }
    }

    fn ask(&mut self, ask: Ask, confirmed: &mut BTreeSet<PlanName>) {
        match ask {
            Ask::Apply { held, named, done } => {
                self.world.lock().take(&held);
                self.state.inseparable = false;
                self.enforce();
                confirmed.extend(named.iter().filter_map(|name| name.as_str().parse().ok()));
                self.dissolve(confirmed);
                // The pump waits for it, or has gone.
                let _ = done.send(self.applied());
                self.settle();
                self.show();
            }
            Ask::Applied { done } => {
                let _ = done.send(self.applied());
            }
            Ask::Drain { services, done } => {
                let _ = done.send(self.drain_all(services));
            }
            Ask::Host(host) => {
                self.world.lock().host = *host;
                self.state.inseparable = false;
                self.enforce();
                self.settle();
            }
        }
    }

    /// Makes rules, names and the file of break-glass say what is held. What is on disk comes
    /// first, so that a restart finds it.
    fn enforce(&mut self) {
        // Whoever deleted the table of break-glass has ended it: it is not put back before that
        // is taken up.
        if self.bring() && !self.state.glass.force.is_empty() && self.is_glass_standing() {
            self.force();
        }
    }

    /// The same but for break-glass; `false`: nothing is done.
    fn bring(&mut self) -> bool {
        if self.holds_nothing() && self.kernel.is_standing() {
            // What stands in the kernel may be all that is left of what was held.
            return false;
        }
        if let Some(why) = self.unreadable()
            && self.state.ownership.is_none()
            && self.kernel.is_standing()
        {
            // So may what an agent before this one put there, of a plan that cannot be read.
            self.is_broken(why);
            return false;
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
        match compiled.and_then(|compiled| self.commit(compiled)) {
            Ok((compiled, ownership)) => {
                // Without plans that the kernel refused.
                self.write_rollback();
                let leaves = self.world.lock().leaves();
                self.in_force(&compiled, ownership, &leaves);
            }
            Err(why) => self.is_broken(why),
        }
        self.publish();
        true
    }

    /// The kernel does not hold what it should; it is asked again.
    fn is_broken(&mut self, why: String) {
        if self.state.broken.as_ref() != Some(&why) {
            tracing::error!(%why, "the kernel does not hold what it should");
        }
        self.state.untold |= self.state.broken.is_none();
        self.state.broken = Some(why);
        self.state.retry = Some(Instant::now() + RETRY_AFTER);
    }

    /// Why tables that are held cannot be read; `None`: all of them can.
    pub(super) fn unreadable(&self) -> Option<String> {
        let world = self.world.lock();
        let (plan, why) = world.unreadable().first_key_value()?;
        Some(format!("{plan}: {why}; what stood in the kernel stays"))
    }

    /// Has names answered by what is held, and by break-glass.
    fn publish(&self) {
        if let Some(stub) = &self.stub {
            let leaves = on_legacy(self.world.lock().leaves(), &self.state.glass);
            stub.publish(Arc::new(stub.answers().next(&leaves)));
        }
    }

    /// Takes up that the kernel holds this.
    fn in_force(&mut self, compiled: &Compiled, ownership: Ownership, leaves: &[Arc<Service>]) {
        let state = &mut self.state;
        state.ownership = Some(ownership);
        if state.broken.take().is_some() {
            tracing::info!("the kernel holds what it should again");
            state.untold = true;
        }
        let impossible: BTreeMap<PlanName, String> = {
            let world = self.world.lock();
            let both = [world.refused(), world.unreadable()];
            both.into_iter().flatten().map(|(plan, why)| (plan.clone(), why.clone())).collect()
        };
        let told =
            impossible.iter().map(|(plan, why)| format!("{plan} is not in force here: {why}"));
        let told: Vec<String> = told.chain(compiled.told.iter().map(Told::to_string)).collect();
        for new in told.iter().filter(|new| !state.told.contains(*new)) {
            tracing::warn!("{new}");
        }
        state.untold |= state.impossible != impossible;
        state.impossible = impossible;
        state.told = told;
        state.otherwise.clone_from(&compiled.told);
        self.moved(compiled, leaves);
    }

    fn holds_nothing(&self) -> bool {
        self.world.lock().through == Token::NEVER
    }

    /// Looks whether the kernel holds what it should; drains what is due.
    fn check(&mut self) {
        if self.holds_nothing() {
            return;
        }
        let is_due = self.state.retry.is_some_and(|at| at <= Instant::now());
        let is_changed = self.state.broken.is_none() && !self.kernel.is_intact();
        if is_changed {
            tracing::warn!("others changed our rules; they are put back");
        }
        if is_due || is_changed {
            self.enforce();
        }
        self.drain_due();
        self.settle();
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
        let impossible = self.state.impossible.iter().map(|(plan, why)| refusal(plan, why.clone()));
        let refused = world.above_legacy(|id| self.state.glass.covers(id)).into_iter().map(|plan| {
            let why = "break-glass is in force on this host; roll back at the controller, or undo \
                       it here: crossfade agent rollback --undo";
            refusal(&plan, why.to_owned())
        });
        Applied { refused: refused.chain(impossible).collect(), waits: None }
    }

    /// The rules of break-glass for all that is held, for plain `nft -f`.
    fn write_rollback(&mut self) {
        if self.unreadable().is_some() {
            // What lies there is about more.
            return;
        }
        let (text, of) = {
            let world = self.world.lock();
            if self.state.written_of.as_ref().is_some_and(|of| world.has_glass_of(of)) {
                return;
            }
            (rules::text(&world.rollback(|_| true)), world.glass_of())
        };
        let digest = Digest::of(text.as_bytes());
        let path = self.directory.join(files::ROLLBACK);
        if self.state.written.is_none() {
            // Left by the agent before this one; disks may be slow.
            self.state.written = disk::bytes(&path).ok().map(|found| Digest::of(&found));
        }
        if self.state.written == Some(digest) {
            self.state.written_of = Some(of);
            return;
        }
        match disk::write(&path, text.as_bytes(), 0o644) {
            Ok(()) => {
                self.state.written = Some(digest);
                self.state.written_of = Some(of);
            }
            Err(error) => {
                tracing::error!(%error, path = %path.display(), "break-glass cannot be prepared");
            }
        }
    }

    fn show(&mut self) {
        let just = self.state.read.take();
        let counted = just.or_else(|| {
            let counted = self.kernel.counted().ok()?;
            self.state.unkept |= self.state.known.see(&self.state.counted, &counted);
            Some(counted)
        });
        let counted = counted.unwrap_or_default();
        let in_force = {
            let state = &self.state;
            let services = state.leaves.iter().map(|leaf| {
                let names = state.counted.get(&leaf.id).map(AsRef::as_ref);
                report::service(leaf, names, &counted, state.known.flows(&leaf.id))
            });
            InForce {
                services: services.collect(),
                through: self.world.lock().through,
                force: state.glass.force.clone(),
                told: state.told.clone(),
                otherwise: state.otherwise.clone(),
                broken: state.broken.clone(),
                ownership: state.ownership,
                names: self.stub.as_ref().map(|stub| report::names(stub)),
            }
        };
        self.in_force.send_replace(in_force);
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
}
