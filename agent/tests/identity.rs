//! Identities over real TLS: joining, renewing, and what goes wrong with it.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "what fails in a helper fails the test"
)]

#[path = "identity/authority.rs"]
mod authority;
#[path = "identity/disk.rs"]
mod disk;
#[path = "identity/join.rs"]
mod join;
#[path = "identity/keep.rs"]
mod keep;
#[path = "identity/revoked.rs"]
mod revoked;
#[path = "identity/show.rs"]
mod show;
#[path = "identity/world.rs"]
mod world;
