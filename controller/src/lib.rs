//! The controller: the log, the core that commits to it, the planes, and the API.
//!
//! Everything outside enters through [`Handle`]. Inside, [`core`] decides and commits without doing
//! any input or output itself; [`pump`] connects it to the [`store`], the clock and the planes.
#![forbid(unsafe_code)]

pub mod api;
pub mod clock;
pub mod core;
pub mod handle;
pub mod identity;
pub mod planes;
pub mod pump;
pub mod store;
pub mod zones;

pub use crate::handle::Handle;
