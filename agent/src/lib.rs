//! The host plane: a legacy VM keeps its addresses and names while what is behind them moves.
//!
//! An agent on the VM renders what the controller says of this host ([`xds::own::HostTable`]) into
//! one table of kernel rules and the answers of a stub DNS server, and leaves the host as it was.
//! It never decides a split.

pub mod dataplane;
pub mod doctor;
pub mod envoy;
pub mod identity;
pub mod journal;
pub mod names;
pub mod returns;
pub mod rules;
