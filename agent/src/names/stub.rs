//! The stub: a DNS server on loopback that answers plan names and relays the rest.
//!
//! One thread of its own with its own small runtime, so that nothing else the agent does can hold
//! up a query. A query over UDP gets an upstream socket of its own: its port is drawn by the
//! kernel, and it is closed with the query, so that a forged answer must guess both port and id.
//! The id stays the client's: both directions pass byte for byte.
//!
//! | limit | what is beyond it |
//! |---|---|
//! | [`QUERY_MAX`] octets of a query over UDP | dropped |
//! | [`RELAYED_MAX`] relayed queries at a time | the one that waits longest is answered SERVFAIL |
//! | [`STREAMS_MAX`] TCP connections | the one that has been silent longest is closed |
//! | [`PIPELINE_MAX`] unanswered queries of one connection | are read later |

mod draw;
mod frames;
mod incoming;
mod meter;
mod probe;
mod race;
mod relay;
mod sockets;
mod stream;
mod suspects;
mod world;

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

use arc_swap::ArcSwap;
use tokio::sync::watch;
use tokio::task::LocalSet;

use self::meter::Meter;
pub use self::meter::{Dropped, Totals};
pub use self::sockets::{BindError, Sockets};
use self::world::World;
use super::{Answers, Upstreams};

/// Longest query over UDP that is relayed. What real clients send stays below 512 octets; four
/// times the room that signed updates take bounds the memory of all that are under way to 2 MiB.
pub const QUERY_MAX: usize = 4_096;

/// Most queries that are being relayed over UDP. With two sockets each at the worst it stays within
/// 1 024 open files, and it is 100 queries per second while no upstream answers for 5 s.
pub const RELAYED_MAX: usize = 448;

/// Most TCP connections of clients at a time, each with one of ours: truncated answers are rare.
pub const STREAMS_MAX: usize = 48;

/// Most unanswered queries of one TCP connection that are kept to be asked again elsewhere.
pub const PIPELINE_MAX: usize = 32;

/// A stub, which serves from when it has sockets. Dropping it stops it; its sockets live on where
/// they were handed to.
#[derive(Debug)]
pub struct Stub {
    answers: Arc<ArcSwap<Answers>>,
    published: watch::Sender<()>,
    meter: Arc<Meter>,
    looping: Arc<ArcSwap<Vec<SocketAddr>>>,
    mark: Option<u32>,
    serving: OnceLock<Serving>,
}

/// What a stub has since it serves.
#[derive(Debug)]
struct Serving {
    upstreams: watch::Sender<Arc<Upstreams>>,
    sockets: Sockets,
    stop: watch::Sender<()>,
    thread: Option<JoinHandle<()>>,
}

/// Why a stub does not run.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A socket cannot be copied.
    #[error(transparent)]
    Copy(#[from] BindError),
    /// The thread or its runtime cannot be had.
    #[error("the thread of the stub does not start")]
    Thread(#[source] io::Error),
    /// An upstream is the stub itself.
    #[error("upstream {0} is the stub's own address")]
    OwnAddress(SocketAddr),
    /// It serves already.
    #[error("the stub serves already")]
    Twice,
}

impl Stub {
    /// One that has no sockets yet: nobody can ask it until it [begins](Self::begin). `mark` is
    /// SO_MARK of its upstream sockets, by which the host's rules leave them alone; without the
    /// right to set it, they go unmarked.
    #[must_use]
    pub fn waiting(answers: Arc<Answers>, mark: Option<u32>) -> Self {
        Self {
            answers: Arc::new(ArcSwap::new(answers)),
            published: watch::channel(()).0,
            meter: Arc::default(),
            looping: Arc::default(),
            mark,
            serving: OnceLock::new(),
        }
    }

    /// Serves from now on, once: on sockets bound here, or on those that the service manager kept
    /// over a restart with the queries that came meanwhile.
    ///
    /// # Errors
    /// When a socket cannot be copied, the thread cannot be had, an upstream is one of these
    /// sockets, or it serves already.
    pub fn begin(&self, sockets: Sockets, upstreams: Upstreams) -> Result<(), StartError> {
        refuse_own(&upstreams, &sockets)?;
        let running = sockets.try_clone()?;
        let (upstreams, asked) = watch::channel(Arc::new(upstreams));
        let (stop, stopped) = watch::channel(());
        let world = world::Shared {
            answers: self.answers.clone(),
            meter: self.meter.clone(),
            looping: self.looping.clone(),
            asked,
            mark: self.mark,
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()
            .map_err(StartError::Thread)?;
        let run = move || {
            let local = LocalSet::new();
            let served = local.run_until(serve(world, running, stopped));
            runtime.block_on(served);
        };
        let thread = std::thread::Builder::new().name("names".to_owned()).spawn(run);
        let thread = Some(thread.map_err(StartError::Thread)?);
        let serving = Serving { upstreams, sockets, stop, thread };
        self.serving.set(serving).map_err(|_| StartError::Twice)
    }

    /// Whether it has sockets.
    #[must_use]
    pub fn is_serving(&self) -> bool {
        self.serving.get().is_some()
    }

    /// Where it listens, ports resolved; nowhere until it serves.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.sockets().map(Sockets::addresses).unwrap_or_default()
    }

    /// The sockets, to be handed to the service manager so that queries queue over a restart.
    #[must_use]
    pub fn sockets(&self) -> Option<&Sockets> {
        self.serving.get().map(|serving| &serving.sockets)
    }

    /// Answers from `answers`, from the next query on.
    pub fn publish(&self, answers: Arc<Answers>) {
        self.answers.store(answers);
        self.published.send_replace(());
    }

    /// Changes whenever it answers from other answers.
    #[must_use]
    pub fn published(&self) -> watch::Receiver<()> {
        self.published.subscribe()
    }

    /// What it answers from.
    #[must_use]
    pub fn answers(&self) -> Arc<Answers> {
        self.answers.load_full()
    }

    /// Asks others from the next query on.
    ///
    /// # Errors
    /// When one of them is the stub itself; those before go on being asked.
    pub fn ask(&self, upstreams: Upstreams) -> Result<(), StartError> {
        let Some(serving) = self.serving.get() else { return Ok(()) };
        refuse_own(&upstreams, &serving.sockets)?;
        serving.upstreams.send_replace(Arc::new(upstreams));
        Ok(())
    }

    /// Whom it asks; `None`: nobody until it serves.
    #[must_use]
    pub fn upstreams(&self) -> Option<Arc<Upstreams>> {
        self.serving.get().map(|serving| serving.upstreams.borrow().clone())
    }

    /// Which of those ask it themselves, and are left out while they do.
    #[must_use]
    pub fn looping(&self) -> Arc<Vec<SocketAddr>> {
        self.looping.load_full()
    }

    /// What it did since it started.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.meter.totals(self.answers.load().told())
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.stop.send_replace(());
        if let Some(thread) = self.thread.take() {
            // It panicked; there is nothing left to stop.
            let _ = thread.join();
        }
    }
}

fn refuse_own(upstreams: &Upstreams, sockets: &Sockets) -> Result<(), StartError> {
    let own = sockets.addresses();
    let ours = upstreams.servers().iter().find(|server| own.contains(server));
    ours.map_or(Ok(()), |server| Err(StartError::OwnAddress(*server)))
}

/// Serves every socket until told to stop.
async fn serve(shared: world::Shared, sockets: Sockets, mut stopped: watch::Receiver<()>) {
    let world = Rc::new(World::new(shared));
    let (datagrams, listeners) = match sockets.into_tokio() {
        Ok(sockets) => sockets,
        Err(error) => return tracing::error!(%error, "the stub's sockets do not serve"),
    };
    for socket in datagrams {
        tokio::task::spawn_local(relay::serve(world.clone(), Rc::new(socket)));
    }
    for listener in listeners {
        tokio::task::spawn_local(stream::serve(world.clone(), listener));
    }
    tokio::task::spawn_local(probe::watch(world));
    // The sender going away is a stop too.
    let _ = stopped.changed().await;
}
