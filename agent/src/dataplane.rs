//! Puts one table of rules into a kernel and keeps it there.
//!
//! [`Dataplane`] is what the agent needs of a kernel; [`Netlink`] speaks to a real one over one
//! netlink socket that stays open, because the socket is what owns the table. Rules and weights
//! change in transactions: a packet sees the rules of before or of after.

mod answer;
mod change;
mod decode;
mod encode;
mod error;
mod fake;
mod flows;
mod held;
mod netlink;
mod socket;

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use plan::split::Side;

use crate::rules::{Key, Mark, Name, Table};

pub(crate) use self::answer::Attributes;
pub use self::error::DataplaneError;
pub use self::fake::Fake;
pub use self::flows::Tracked;
pub use self::netlink::{Netlink, Settings};

/// How many bytes a table is where none stands.
#[cfg(test)]
pub(crate) fn bytes(table: &Table) -> usize {
    let mut messages = encode::Messages::new(0);
    messages.begin();
    change::write(&mut messages, table, &change::How::First, 0);
    messages.end();
    messages.bytes().len()
}

/// What a table's comment must contain, so that a later process knows the table for ours.
pub const SIGN: &str = "crossfade";

/// A kernel that holds one table of ours. Calls block for the kernel's answer: about a millisecond
/// for a weight, some hundred for thousands of services.
pub trait Dataplane: Send {
    /// Looks what stands in the kernel and takes over what is ours; changes no rule. Must be
    /// called once before anything else.
    ///
    /// # Errors
    /// Another program's table has our name, or another living process owns ours; no rights; the
    /// kernel cannot do it. The host is as it was.
    fn adopt(&mut self) -> Result<Adopted, DataplaneError>;

    /// Makes the kernel hold `table`, in one transaction: all of it or nothing. The same table
    /// again costs nothing. What is not known of the kernel's state is written anew; counters and
    /// noted networks are kept as long as their names and shapes stay.
    ///
    /// # Errors
    /// The kernel refused; it holds what it held before.
    fn commit(&mut self, table: &Table) -> Result<Committed, DataplaneError>;

    /// What the named counters stand at, since they were made.
    ///
    /// # Errors
    /// The kernel did not answer.
    fn counters(&mut self) -> Result<BTreeMap<Name, Tally>, DataplaneError>;

    /// The networks noted in each set of stragglers of the committed table.
    ///
    /// # Errors
    /// The kernel did not answer.
    fn stragglers(&mut self) -> Result<BTreeMap<Name, Vec<Straggler>>, DataplaneError>;

    /// Forgets flows, however many services they are of: the kernel's table is not walked for each.
    /// Marks that say target go with translation, which no other program's flow of that mark has;
    /// those that say legacy with destinations that the committed table has for the service.
    /// The next packet of such a flow is decided anew; one of TCP is reset by the new side.
    ///
    /// # Errors
    /// The kernel refused; some flows may be forgotten already.
    fn forget(&mut self, which: &Forget) -> Result<(), DataplaneError>;

    /// Takes the table out of the kernel; nothing of ours stays. `false`: there was none.
    ///
    /// # Errors
    /// The kernel refused, or the table is not ours.
    fn remove(&mut self) -> Result<bool, DataplaneError>;

    /// Whether the kernel holds what was committed last. If not, the next [`Self::commit`] writes
    /// it anew.
    ///
    /// # Errors
    /// The kernel did not answer.
    fn is_intact(&mut self) -> Result<bool, DataplaneError>;
}

/// What was found in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Adopted {
    /// No table of this name.
    Absent,
    /// A table of ours stands and works.
    Ours(Ownership),
}

/// What a commit did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Messages within the transaction; 0: nothing was to be changed.
    pub messages: u32,
    /// How the table is held now.
    pub ownership: Ownership,
}

/// How a table is protected from other programs. Later is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ownership {
    /// Not: `nft flush ruleset` takes it away, to be seen by [`Dataplane::is_intact`].
    Open,
    /// It lives as long as the socket does (Linux 5.12).
    Socket,
    /// Nobody else can change it while the socket lives, and it stays after that (Linux 6.9).
    Persistent,
}

/// Packets and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// In a NAT chain: flows.
    pub packets: u64,
    /// Of those packets.
    pub bytes: u64,
}

/// A network that was noted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Straggler {
    /// Which.
    pub network: IpNet,
    /// What came from there since it was noted.
    pub tally: Tally,
    /// Milliseconds until it is forgotten if nothing more comes.
    pub expires_ms: u64,
}

/// Flows to be forgotten: of datagrams, and where it is said of connections.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forget {
    /// Those that were led to a side of a service.
    pub marked: BTreeSet<(Mark, Side)>,
    /// Those that are older than our rules, by where they are sent to: they have no mark of ours,
    /// or that of target without going there.
    pub older: BTreeSet<Key>,
    /// Connections too.
    pub connections: bool,
    /// Of the marked ones only those whose destination was changed: what is left alone on legacy
    /// stays.
    pub translated: bool,
}

impl Forget {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.marked.is_empty() && self.older.is_empty()
    }
}
