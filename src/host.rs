//! `crossfade agent run`: a legacy VM keeps its addresses and names while what is behind them
//! moves.
//!
//! | part | does |
//! |---|---|
//! | [`world`] | tables of plans to the leaves of this host, and to rules |
//! | [`actor`] | the one task that changes the host's rules |
//! | [`survey`] | what addresses the host has, and what no rule may touch |
//! | [`clocks`] | whether it is a clock why no controller is reached |
//! | [`controllers`] | where the controllers are, as it was last found |
//! | [`kernel`] | our table, and that of break-glass |
//! | [`names`] | the stub DNS server, and bringing the host to ask it |
//! | [`changes`] | settings and files of the host, changed by its journal |
//! | [`report`] | what is in force and was counted, for the controller and for `status` |
//! | [`control`] | the socket on which the command line asks |
//! | [`envoy`] | the Envoy beside the agent |
//! | [`returns`] | whether servers answer by way of this host |
//! | [`trial`] | a join that nobody confirms undoes itself |
//! | [`leave`], [`farewell`] | taking everything out, and telling the controller |
//! | [`descriptors`] | sockets that outlive a restart |
//! | [`watchdog`] | the service manager hears that the actor is at work |
//! | [`files`] | what is kept beside tables and identity |

pub(crate) mod actor;
pub(crate) mod changes;
mod clocks;
pub(crate) mod control;
mod controllers;
pub(crate) mod descriptors;
pub(crate) mod envoy;
mod farewell;
pub(crate) mod files;
#[cfg(test)]
mod fixture;
pub(crate) mod kernel;
pub(crate) mod leave;
pub(crate) mod names;
mod report;
mod returns;
pub(crate) mod survey;
pub(crate) mod trial;
mod watchdog;
pub(crate) mod world;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use agent::rules::Host;
use controller::clock::Clock;
use plan::Token;
use proto::crossfade::v1::ReportRequest;
use proto::envoy::config::core::v3::Node;
use sd_notify::NotifyState;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use xds::TypeUrl;
use xds::follow::{self, Again, Follower, Link};
use xds::join::Kind;

use self::actor::{Actor, Following, Shared, State};
use self::controllers::Controllers;
use self::descriptors::Descriptors;
use self::envoy::Beside;
use self::farewell::Farewell;
use self::files::{Names, Settings};
use self::kernel::Kernel;
use self::report::InForce;
use self::returns::Proved;
use self::trial::Lost;
use self::watchdog::Watchdog;
use self::world::World;
use crate::cli::agent::Run;
use crate::cli::page;
use crate::following;
use crate::glass;
use crate::identity::Standing;
use crate::serve::{log, stopped};
use crate::verbs::agent::not_joined;
use crate::verbs::{Context, Exit, Failure, chain};

/// Asks of the actor that may wait: the pump's, the operator's and changes of the host.
const ASKS_MAX: usize = 16;
/// How long the actor may take to end: what it is at takes a second at most, for thousands of
/// services.
const END_WITHIN: Duration = Duration::from_secs(3);
/// How long a change of the host may take to end, before that is not waited for.
const LET_GO_WITHIN: Duration = Duration::from_millis(500);

/// Runs until told to stop, and leaves everything in force.
pub(crate) async fn run(args: Run, _: &Context) -> Result<Exit, Failure> {
    let _log = log::begin(&args.log, args.log_format)?;
    let directory = files::directory(args.here.data.as_ref())?;
    files::may_be_asked(&directory)?;
    let place = following::take(directory)?;
    let directory = &place.directory;
    let settings = chosen(&args, directory)?;
    trial::begin(directory, &settings);
    let mut descriptors = Descriptors::take();
    if trial::is_over(directory, &settings) {
        ready();
        let kernel = Kernel::taking(descriptors.rules()).map_err(|error| chain(&error));
        return trial::undo(directory, &settings, kernel, trial::begun()).await;
    }
    let standing = standing(directory, &settings)?;
    let node = follow::node(&settings.name, env!("CARGO_PKG_VERSION"), &[("role", "agent")]);
    let (follower, damaged) = Follower::open(follow::Settings {
        node: node.clone(),
        types: vec![TypeUrl::HOST_TABLE.into()],
        extra: Vec::new(),
        dial: standing.dial(&settings.controllers)?,
        directory: directory.clone(),
    })
    .map_err(local("nothing can be kept"))?;
    for damage in damaged {
        tracing::error!(path = %damage.path.display(), why = damage.why, "a slot is damaged");
    }
    let beside = Beside::begin(directory, &settings, &standing);
    let controllers = watch::channel(Controllers::kept(directory, Some(&settings))).0;
    let host = survey::host(directory, Some(&settings), &controllers.borrow());
    let mut world = held(directory, host, &follower);
    world.host.capture = beside.capture();
    tell_start(&world);
    // As break-glass has them from the first packet.
    let leaves = actor::on_legacy(world.leaves(), &glass::read_or_nothing(directory));
    let kernel = Kernel::taking(descriptors.rules()).map_err(local("rules cannot be kept"))?;
    let names = names::start(directory, &settings, &leaves, descriptors.names());
    let world = Shared::new(world);
    let parts = Parts { world, kernel, directory, settings: &settings, controllers, beside };
    match Box::pin(parts.run(follower, node, names, standing)).await? {
        Ended::Told => Ok(Exit::Done),
        Ended::Lost(lost, kernel) => trial::undo(directory, &settings, Ok(kernel), lost).await,
    }
}

/// Why an agent ends.
enum Ended {
    /// It was told to: everything stays in force.
    Told,
    /// Its join was on trial, and was lost; with the socket that owns the table.
    Lost(Lost, Kernel),
}

fn local<E: std::error::Error + Send + Sync + 'static>(
    what: &'static str,
) -> impl Fn(E) -> Failure {
    move |error| Failure::Local { what, source: error.into() }
}

/// What join chose; else what was typed, which goes for loopback alone.
fn chosen(args: &Run, directory: &Path) -> Result<Settings, Failure> {
    if args.controller.is_empty() {
        return files::settings(directory)?.ok_or_else(|| not_joined(directory));
    }
    if files::settings(directory)?.is_some() {
        return Err(Failure::Usage(
            "this VM has joined, and follows what it joined; leave --controller out, or give \
             another --data"
                .to_owned(),
        ));
    }
    Ok(Settings {
        name: following::node_name(args.node.as_ref())?,
        controllers: args.controller.clone(),
        joined: false,
        address: args.address.unwrap_or_else(|| IpAddr::from([127, 0, 0, 1])),
        names: args.names.map_or(Names::Off, Names::At),
        exempt: Vec::new(),
        envoy: None,
    })
}

/// Who this VM is to a controller.
fn standing(directory: &Path, settings: &Settings) -> Result<Standing, Failure> {
    match settings.joined {
        true => Ok(Standing::of(directory, &settings.controllers, Kind::is_agent)?.0),
        false => Ok(Standing::Nobody),
    }
}

/// What was held when it last ran.
fn held(directory: &Path, host: Host, follower: &Follower) -> World {
    let mut world = World::new(host, files::marks(directory));
    follower.held().for_each(|held| world.take(held));
    world
}

fn tell_start(world: &World) {
    if world.through == Token::NEVER {
        tracing::warn!("nothing is held yet; this host is left as it is until a controller says");
    } else {
        let (through, services) = (world.through, world.leaves().len());
        tracing::warn!(%through, services, stale = true, "keeping in force what was held");
    }
}

/// What runs.
struct Parts<'a> {
    world: Shared,
    kernel: Kernel,
    directory: &'a Path,
    settings: &'a Settings,
    controllers: watch::Sender<Controllers>,
    beside: Beside,
}

impl Parts<'_> {
    async fn run(
        self,
        follower: Follower,
        node: Node,
        names: Option<names::Serving>,
        standing: Standing,
    ) -> Result<Ended, Failure> {
        let Self { world, kernel, directory, settings, controllers, beside } = self;
        let (asks, asked) = mpsc::channel(ASKS_MAX);
        let links = watch::channel::<Option<Link>>(None).0;
        let again = watch::channel(Again::default()).0;
        let in_force = watch::channel(InForce::default()).0;
        let (pumped, noticed) = (again.subscribe(), Arc::new(Notify::new()));
        let (seen, farewell) = (in_force.subscribe(), Farewell::by(Arc::clone(&noticed)));
        let stub = names.as_ref().map(|serving| Arc::clone(&serving.stub));
        let (why, clocks) = clocks::watched(&standing, &settings.controllers, follower.away());
        let mut lost = trial::watched(directory, settings, &links, farewell.clone());
        let mut actor = Actor {
            world: world.clone(),
            kernel,
            directory: directory.to_owned(),
            stub: stub.clone(),
            clock: Clock::start(),
            again,
            links: links.subscribe(),
            in_force,
            watchdog: Watchdog::of_manager(),
            state: State::default(),
        };
        tokio::task::block_in_place(|| actor.begin());
        let control = control::Control {
            settings: settings.clone(),
            in_force: seen.clone(),
            links: links.subscribe(),
            why,
            health: standing.health(),
            stub,
            notes: names.as_ref().map(names::Serving::notes),
            asks: asks.clone(),
            envoy: beside.status(),
            farewell: farewell.clone(),
        };
        let serving = control::serve(directory, control);
        begun(directory, settings)?;
        let mut acting = Acting::begin(actor, asked, Arc::clone(&noticed));
        let mut hosting = tokio::spawn(hosting(directory.to_owned(), settings.clone(), names));
        let reports = reported(node, links.subscribe(), &noticed, seen, farewell);
        let (reached, (proving, proved)) = (links.subscribe(), watch::channel(Proved::default()));
        let stopped = told_to_stop(asks.clone(), world.clone());
        let news = survey::News::of(&beside, proved, &controllers);
        let survey = survey::go_on(directory, settings, world.clone(), asks.clone(), news);
        let returns = returns::go_on(world.clone(), proving);
        let pump = follower.run(Following { asks, world }, links, pumped, following::random());
        let lost = tokio::select! {
            lost = joined(&mut lost) => Some(lost?),
            stopped = stopped => stopped.map(|()| None)?,
            ended = joined(&mut acting.task) => return ended.map(|_| Ended::Told),
            ended = joined(&mut hosting) => ended.map(|()| None)?,
            () = pump => None,
            () = reports => None,
            () = survey => None,
            () = controllers::go_on(directory, &controllers, reached) => None,
            () = returns => None,
            () = clocks => None,
            () = serving => None,
            () = beside.go_on() => None,
            () = standing.keep() => None,
        };
        ended(lost, acting, hosting).await
    }
}

/// Ends who changes rules, and who changes the host where the trial was lost.
async fn ended(
    lost: Option<Lost>,
    acting: Acting,
    hosting: JoinHandle<()>,
) -> Result<Ended, Failure> {
    let kernel = acting.end().await?;
    match lost {
        Some(lost) => Ok(Ended::Lost(lost, let_go(kernel, hosting).await)),
        None => Ok(Ended::Told),
    }
}

/// The actor at work, as a task of its own: nobody who waits holds it up.
struct Acting {
    task: JoinHandle<Actor>,
    end: oneshot::Sender<()>,
}

impl Acting {
    fn begin(mut actor: Actor, asked: mpsc::Receiver<actor::Ask>, noticed: Arc<Notify>) -> Self {
        let (end, ended) = oneshot::channel();
        let task = tokio::spawn(async move {
            tokio::select! {
                biased;
                _ = ended => {}
                () = actor.run(asked, &noticed) => {}
            }
            actor
        });
        Self { task, end }
    }

    /// Ends it, and gives the socket that owns the table. One that hangs ends with the process, and
    /// what it left undone is done by the next.
    async fn end(mut self) -> Result<Kernel, Failure> {
        // It may have ended by itself.
        let _ = self.end.send(());
        match tokio::time::timeout(END_WITHIN, joined(&mut self.task)).await {
            Ok(actor) => Ok(actor?.kernel),
            Err(_) => Err(Failure::Failed("the rules are not let go: the kernel hangs".to_owned())),
        }
    }
}

/// What a task of its own gives.
async fn joined<T>(task: &mut JoinHandle<T>) -> Result<T, Failure> {
    task.await.map_err(local("a part of the agent ended"))
}

/// Changes the host: forwarding, and whom it asks for names. As a task of its own: the helper that
/// does it may take its time.
async fn hosting(directory: PathBuf, settings: Settings, names: Option<names::Serving>) {
    forward(&directory, &settings).await;
    names::go_on(names, &directory, &settings).await;
}

/// Ends that, so that what is put back stays so. Where it waits for the helper, the rules go at
/// once.
async fn let_go(mut kernel: Kernel, mut hosting: JoinHandle<()>) -> Kernel {
    hosting.abort();
    if tokio::time::timeout(LET_GO_WITHIN, &mut hosting).await.is_err() {
        tokio::task::block_in_place(|| kernel.remove());
        // It was told to end, and has a limit of its own.
        let _ = hosting.await;
    }
    kernel
}

/// Tells the controller what is in force here, now and then and when that is noticed.
async fn reported(
    node: Node,
    links: watch::Receiver<Option<Link>>,
    noticed: &Notify,
    seen: watch::Receiver<InForce>,
    farewell: Farewell,
) {
    let say = async move || ReportRequest {
        leaving: farewell.is_due(),
        ..report::of(&seen.borrow().clone())
    };
    following::report(node, links, noticed, say).await;
}

/// Says that it runs.
fn begun(directory: &Path, settings: &Settings) -> Result<(), Failure> {
    page::print(&format!("agent {}\ndata {}\n", settings.name, directory.display()))?;
    ready();
    Ok(())
}

/// Waits until it is told to stop; own calls go without Envoy from then on.
async fn told_to_stop(asks: mpsc::Sender<actor::Ask>, world: Shared) -> Result<(), Failure> {
    stopped().await?;
    envoy::release(&asks, &world).await;
    Ok(())
}

/// Brings the host to forward.
async fn forward(directory: &Path, settings: &Settings) {
    if !settings.joined {
        return;
    }
    let changes = changes::forward(directory).await;
    for done in changes.done {
        tracing::info!(what = %done, "changed on this host; leaving puts it back");
    }
    for failed in changes.failed {
        tracing::error!(why = %failed, "not changed on this host");
    }
}

/// Tells the service manager, where there is one.
fn ready() {
    if let Err(error) = sd_notify::notify(&[NotifyState::Ready]) {
        tracing::warn!(%error, "the service manager was not told");
    }
}
