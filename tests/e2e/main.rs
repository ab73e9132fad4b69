//! The product end to end: the real binary, real sockets, real peers. `scripts/test` installs
//! those.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot get what it needs has failed"
)]
#![expect(clippy::disallowed_methods, reason = "tests bound their waiting by the real clock")]

mod bad_input;
mod command_line;
mod crash;
mod demo;
mod docs;
mod ending;
mod following;
mod gateway;
mod harness;
mod host;
mod main_job;
mod mesh;
mod packaging;
mod peers;
