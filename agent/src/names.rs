//! Names on the VM: plan names from memory, everything else as if nobody stood between.
//!
//! | concern | where |
//! |---|---|
//! | what a plan name is answered with | [`Answers`] |
//! | sockets, relaying, limits, counters | [`Stub`] |
//! | whom foreign names are asked of | [`upstream`] |
//! | how this host is brought to ask the stub, and back | [`integrate`] |
//! | when that no longer works | [`drift`] |
//! | others who write `/etc/resolv.conf` too | [`trample`] |
//!
//! The stub stands where the host's own resolver pointed. A foreign message passes byte for byte,
//! so whatever worked before (EDNS, DNSSEC, odd types, truncation, zone transfers) works after.

pub mod answers;
pub mod drift;
pub mod integrate;
pub mod stub;
pub mod trample;
pub mod upstream;

pub use answers::Answers;
pub use stub::{Sockets, Stub, Totals};
pub use upstream::Upstreams;
