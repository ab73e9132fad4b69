//! Who is connected and how far everybody is.
//!
//! Streams say what changed about them, in constant time and without a lock that others hold for
//! long; one task ([`reporter`]) adds that up per node and tells it as [`Standings`].

mod book;
pub(crate) mod hub;
mod kinds;
mod recent;
pub(crate) mod reporter;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use plan::{PlanName, Token};
use tokio::sync::watch;

use crate::client::Client;
use crate::registry::hub::Hub;
use crate::session::{Opened, Progress};
use crate::table::{Generation, Tables};

/// How far all sinks are, as of one statement of the tables.
///
/// Never ahead of the streams: what a sink has not looked at yet counts as owed, so whoever finds
/// `through` at its token and no sink owing its plan knows that everybody has it.
#[derive(Clone, Debug)]
pub struct Standings {
    /// The token of the tables that this speaks of.
    pub through: Token,
    /// Their number.
    pub generation: Generation,
    /// Who is connected, by node id, each once.
    pub sinks: Arc<[Arc<SinkState>]>,
    /// Who was connected and is not now, by node id; the newest [`Standings::AWAY_MAX`].
    pub away: Arc<[Arc<SinkState>]>,
}

/// A node, over all its streams. Unchanged: the same `Arc` as before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkState {
    /// Who it is, as its newest stream said.
    pub client: Arc<Client>,
    /// Where its newest stream comes from.
    pub peer: SocketAddr,
    /// The server's uptime when it came.
    pub since: Duration,
    /// The server's uptime when its last stream ended; `None` while it is connected.
    pub left: Option<Duration>,
    /// How many streams it has now.
    pub streams: usize,
    /// How far it is: the least of its streams. `owes` has every plan that changed after what
    /// they have seen.
    pub progress: Progress,
}

impl Standings {
    /// The most that is remembered of who left: as many as may be connected. Expected sinks are
    /// the business of whoever reads this.
    pub const AWAY_MAX: usize = 10_000;

    /// The least time between two tellings while somebody of few lags. Short against what people
    /// and gates wait for.
    pub const PACE: Duration = Duration::from_millis(20);

    /// The least time between two tellings while somebody of so many streams lags: making one and
    /// taking it up costs a few microseconds a sink, which must stay a small part of the time in
    /// which their acks come. When nobody lags any more that is told at once, however many there
    /// are.
    pub fn pace(streams: usize) -> Duration {
        /// Of one stream.
        const SHARE: Duration = Duration::from_micros(50);
        let streams = u32::try_from(streams).unwrap_or(u32::MAX);
        Self::PACE.max(SHARE.saturating_mul(streams))
    }

    /// Nobody, as of nothing.
    pub(crate) fn empty() -> Self {
        Self {
            through: Token::NEVER,
            generation: Generation::default(),
            sinks: Arc::new([]),
            away: Arc::new([]),
        }
    }

    /// A connected sink, by its node id.
    pub fn sink(&self, id: &str) -> Option<&Arc<SinkState>> {
        let at = self.sinks.binary_search_by(|sink| (*sink.client.id).cmp(id)).ok()?;
        self.sinks.get(at)
    }
}

impl SinkState {
    /// The plans that it has not acked whole.
    pub fn owes(&self) -> &BTreeSet<PlanName> {
        &self.progress.owes
    }
}

/// One stream, for people.
#[derive(Clone, Debug)]
pub struct SessionView {
    /// Who it is.
    pub client: Arc<Client>,
    /// Where it comes from.
    pub peer: SocketAddr,
    /// What it opened.
    pub opened: Opened,
    /// The server's uptime when it came.
    pub since: Duration,
    /// How far it is.
    pub progress: Progress,
}

/// Who is connected.
#[derive(Clone, Debug)]
pub struct Registry {
    hub: Arc<Hub>,
}

impl Registry {
    pub(crate) const fn new(hub: Arc<Hub>) -> Self {
        Self { hub }
    }

    /// How far everybody is. Told anew at once when nobody lags, and at most every
    /// [`Standings::pace`] while somebody does.
    pub fn standings(&self) -> watch::Receiver<Arc<Standings>> {
        self.hub.standings.subscribe()
    }

    /// Connected clients, one for each kind, those of the oldest kinds first. Of a kind is who sees
    /// the same tables ([`crate::View`]) and was proved to be the same machine: two machines that
    /// say the same may see different tables, and which of them do is told of each. Changes when
    /// one comes that nobody was like, and when the oldest of a kind leaves; told at most every
    /// [`Standings::pace`] of so many kinds.
    pub fn clients(&self) -> watch::Receiver<Arc<[Arc<Client>]>> {
        self.hub.clients.subscribe()
    }

    /// All streams that have said who they are. O(streams): for people, not for loops.
    pub fn sessions(&self) -> Vec<SessionView> {
        self.hub.sessions()
    }
}

/// Where new tables are handed in.
#[derive(Clone, Debug)]
pub struct Publisher {
    hub: Arc<Hub>,
}

impl Publisher {
    pub(crate) const fn new(hub: Arc<Hub>) -> Self {
        Self { hub }
    }

    /// Shows these tables to all streams and wakes them. Made from [`Publisher::tables`] by
    /// [`Tables::next`]; an older statement than what is shown is not taken.
    ///
    /// Does not wait: streams that are woken and have not run yet see the newest tables when they
    /// do, so an urgent statement overtakes whatever was shown before it.
    pub fn publish(&self, tables: Arc<Tables>) {
        self.hub.publish(tables);
    }

    /// What is shown now.
    pub fn tables(&self) -> Arc<Tables> {
        self.hub.tables()
    }
}
