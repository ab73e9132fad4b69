//! The journal over trees that stand for a host, with a process that dies at every step.

mod again;
mod faults;
mod helped;
mod keep;
mod killed;
mod settings;
mod text;
pub(super) mod tree;
