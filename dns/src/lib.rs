//! An authoritative DNS server's heart: zone text and plan names in, answers out.
//!
//! | concern | standards | where |
//! |---|---|---|
//! | messages, names, compression | RFC 1035, RFC 4343, RFC 9619 | [`wire`] |
//! | EDNS, client subnet, payload size | RFC 6891, RFC 7871, RFC 9715 | [`wire::edns`] |
//! | zone files | RFC 1035, RFC 2308, RFC 3597, RFC 9460 | [`zone`] |
//! | lookup, wildcards, cuts, aliases | RFC 1034, RFC 4592, RFC 6672, RFC 9471 | [`respond()`] |
//! | negative answers, codes after aliases, ANY | RFC 2308, RFC 6604, RFC 8482 | [`respond()`] |
//!
//! A [`Catalog`] is immutable. [`respond()`] reads one and writes one answer into a [`Buffer`]; it
//! does no I/O, reads no clock and allocates nothing. Threads, sockets and limits are on top of it.

#![warn(missing_docs)]

pub mod catalog;
mod guard;
pub mod names;
pub mod respond;
pub mod seen;
pub mod server;
pub mod wire;
pub mod zone;

pub use catalog::{Catalog, CatalogError, Zones};
pub use names::Names;
pub use respond::{Context, Reply, Seen, Transport, respond};
pub use server::{BindError, Publisher, Server, Totals};
pub use wire::{Buffer, Name};
pub use zone::{Problem, Source, Zone};
