//! One stream, told as a conversation (`session/*.txt`), and against a model of a client.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot read its script has failed"
)]

#[path = "session/model.rs"]
mod model;
#[path = "session/script.rs"]
mod script;
#[path = "session/world.rs"]
mod world;

#[test]
fn incremental() {
    script::run(include_str!("session/delta.txt"));
}

#[test]
fn state_of_the_world() {
    script::run(include_str!("session/sotw.txt"));
}

#[test]
fn order() {
    script::run(include_str!("session/order.txt"));
}

#[test]
fn refusals() {
    script::run(include_str!("session/refusals.txt"));
}

#[test]
fn bad_input() {
    script::run(include_str!("session/limits.txt"));
}
