//! The host's rules in a real kernel: what we commit is what `nft` would have made of the same
//! table, nobody takes it away, and packets go where it says. In network namespaces of their own;
//! needs root, and says so where it is skipped.
#![expect(clippy::unwrap_used, reason = "a test that cannot set up its world has failed")]
#![expect(clippy::expect_used, reason = "the same, with words")]
#![expect(clippy::panic, reason = "the same")]
#![expect(clippy::indexing_slicing, reason = "the same")]

#[path = "support/netns.rs"]
mod netns;

#[path = "kernel/backends.rs"]
mod backends;
#[path = "kernel/flows.rs"]
mod flows;
#[path = "kernel/oracle.rs"]
mod oracle;
#[path = "kernel/owner.rs"]
mod owner;
#[path = "kernel/refused.rs"]
mod refused;
#[path = "kernel/sides.rs"]
mod sides;
#[path = "kernel/tables.rs"]
mod tables;
