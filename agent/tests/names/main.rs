//! The stub with real sockets: a real upstream where one is installed, a small one of our own
//! where the test must say what comes back.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test stops at what it does not expect"
)]

mod bad;
mod knot;
mod life;
mod plan_names;
mod relay;
mod streams;
mod world;
