//! The server over real sockets.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "what fails in a helper fails the test"
)]

#[path = "server/bad.rs"]
mod bad;
#[path = "server/crowd.rs"]
mod crowd;
#[path = "server/discovery.rs"]
mod discovery;
#[path = "server/example.rs"]
mod example;
#[path = "server/identity.rs"]
mod identity;
#[path = "server/loads.rs"]
mod loads;
#[path = "server/older.rs"]
mod older;
#[path = "server/paths.rs"]
mod paths;
#[path = "server/registry.rs"]
mod registry;
#[path = "server/shares.rs"]
mod shares;
#[path = "server/strangers.rs"]
mod strangers;
#[path = "server/tls.rs"]
mod tls;
#[path = "server/world.rs"]
mod world;
