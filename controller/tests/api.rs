//! The API over real sockets, in front of a real controller whose log is in memory.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail loudly"
)]

#[path = "api/calls.rs"]
mod calls;
#[path = "api/document.rs"]
mod document;
#[path = "api/limits.rs"]
mod limits;
#[path = "api/machines.rs"]
mod machines;
#[path = "api/watch.rs"]
mod watch;
#[path = "api/world.rs"]
mod world;
