//! Clients that never stop asking.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::netns;
use super::peers::{client, side};
use super::world::until;

/// How many clients take turns.
const CLIENTS: u16 = 200;

/// Between two of them: tests share two processors.
const PACE: Duration = Duration::from_millis(1);

/// What happened to them.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// Connections that failed, with the reason.
    pub(crate) failed: Vec<String>,
    /// Clients that were on another side than before.
    pub(crate) moved: Vec<String>,
}

/// Clients at work.
pub(crate) struct Load {
    ends: Arc<AtomicBool>,
    asked: Arc<AtomicU64>,
    thread: JoinHandle<Told>,
}

impl Load {
    /// Starts them, where clients are.
    pub(crate) fn start(world: &netns::World, to: &str) -> Self {
        let to: SocketAddr = to.parse().unwrap();
        let (ends, asked) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let (end, count) = (Arc::clone(&ends), Arc::clone(&asked));
        let work = move || ask(to, &end, &count);
        // A thread stays where the one that made it is.
        let thread = world.client.enter(|| std::thread::spawn(work));
        Self { ends, asked, thread }
    }

    /// How many asked so far.
    pub(crate) fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }

    /// Waits until each client has asked once more.
    #[track_caller]
    pub(crate) fn round(&self) {
        let before = self.asked();
        until("everybody has asked", || (self.asked() > before + u64::from(CLIENTS)).then_some(()));
    }

    /// Ends them.
    pub(crate) fn stop(self) -> Told {
        self.ends.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

fn ask(to: SocketAddr, ends: &AtomicBool, asked: &AtomicU64) -> Told {
    let mut told = Told::default();
    let mut seen = vec![None; usize::from(CLIENTS)];
    for number in (0..CLIENTS).cycle() {
        if ends.load(Ordering::Relaxed) {
            return told;
        }
        let from = client(number + 1);
        match side(from, to) {
            Ok(now) => {
                let before = seen[usize::from(number)].replace(now);
                if before.is_some_and(|before| before != now) {
                    told.moved.push(format!("{from} to {now}"));
                }
            }
            Err(error) => told.failed.push(format!("{from}: {error}")),
        }
        asked.fetch_add(1, Ordering::Relaxed);
        std::thread::park_timeout(PACE);
    }
    told
}
