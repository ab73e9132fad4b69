//! One table of kernel rules, as data.
//!
//! A [`Table`] says everything that stands in the kernel, in the few words of nftables that are
//! used. It is compiled from leaves, written as text for `nft -f`, encoded for netlink, and
//! walked by a fake kernel in tests: three readers of one value, so that they can be compared.

pub mod compile;
pub mod diff;
pub mod fake;
pub mod forwarded;
pub mod host;
mod keys;
mod local;
pub mod mark;
#[cfg(test)]
mod predict;
pub mod rollback;
#[cfg(test)]
pub(crate) mod sample;
pub mod table;
pub mod text;

pub use self::compile::{Compiled, Counted, Pieces, Reject, Told, compile, compile_after, judge};
pub use self::diff::{Change, diff};
pub use self::host::{Capture, Forbidden, Host, SocketMark};
pub use self::local::legacy_stays;
pub use self::mark::{Mark, Marks};
pub use self::rollback::rollback;
pub use self::table::{
    Action, Chain, Dispatch, Family, Hook, Key, Match, Name, Rule, Stragglers, Table, Transport,
};
pub use self::text::text;
