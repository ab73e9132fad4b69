//! The rules, a table for each verb.

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
