//! The rules, a table for each verb.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "a test that cannot go on fails"
)]

#[path = "../world/world.rs"]
mod world;

mod audit;
mod automation;
mod edit;
mod ending;
mod fold;
mod observed;
mod refusals;
mod run;
mod shift;
mod table;
