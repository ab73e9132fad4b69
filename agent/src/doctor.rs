//! What of this host matters before an agent joins: found, judged, with what is chosen and why.
//!
//! [`find()`] reads the machine into [`Findings`]; [`judge()`] is a function from those and
//! [`Wishes`] to rows. Nothing is changed here: what the rows chose to change is
//! [`chosen_changes`], for the journal to make.

mod find;
mod findings;
mod judge;
mod marks;
mod netfilter;
mod parse;
mod ports;
mod text;

#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

pub use self::find::{FindSettings, find, management_addresses, ssh_ports, ssh_sessions};
pub use self::findings::{
    Clock, EnvoyFound, Findings, ForeignMarks, ForeignNat, Forwarding, Netfilter, Reach, Release,
    Space, SshSession, TableSeen, Wishes,
};
pub use self::judge::{chosen_changes, judge, worst};
pub use self::text::table;

/// What is looked at. The order is that of the rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Check {
    /// Whether the kernel's rules may be changed.
    Privileges,
    /// The release of the kernel.
    Kernel,
    /// Whether a table can be owned and outlive its owner.
    TableFlags,
    /// Whether nf_tables answers.
    NfTables,
    /// Whether flows are tracked, and whether there is room.
    Conntrack,
    /// Whether the name of our table is free.
    TableName,
    /// Whether the break-glass table stands.
    BreakGlass,
    /// Forwarding of IPv4.
    ForwardingV4,
    /// Forwarding of IPv6.
    ForwardingV6,
    /// Reverse path filters.
    ReversePath,
    /// Whether servers answer by way of this host, where flows are to keep their source.
    ReturnPath,
    /// Whether others drop what is forwarded: docker and its like.
    ForwardPolicy,
    /// firewalld.
    Firewalld,
    /// Address translation by others, of addresses of ours.
    OtherNat,
    /// Bits of flows' marks that others use too.
    FlowMarks,
    /// Who manages this host's resolver.
    Resolver,
    /// Whether `/etc` can be written.
    Etc,
    /// The address of the stub DNS server.
    StubPort,
    /// The Envoy binary.
    Envoy,
    /// Where captured connections arrive.
    EnvoyPort,
    /// Whether the clock is kept.
    Clock,
    /// The state directory and its disk.
    State,
    /// Whether a controller answers.
    Controller,
    /// The addresses by which this host is managed.
    Management,
    /// Sessions of administrators.
    Ssh,
    /// Packets of the way to the target.
    Mtu,
}

/// How a row ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// As it should be.
    Good,
    /// Worth knowing; nothing is to be done.
    Note,
    /// It works, and something does not; `mend` says how it would.
    Warn,
    /// Joining is refused.
    Fail,
}

/// One row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    /// What was looked at.
    pub check: Check,
    /// How it ends.
    pub verdict: Verdict,
    /// What was found.
    pub found: String,
    /// What the agent does about it.
    pub chosen: String,
    /// For what reason.
    pub why: String,
    /// The command that mends it, where there is one to give.
    pub mend: Option<String>,
}
