//! Why a command was not done.

use plan::Refused;

/// The way back when the store cannot write at all.
pub const BREAK_GLASS: &str =
    "with the in-process DNS alone: free space in the data directory, then roll back again";

/// The way on where the disk is full, for all but a rollback, which has a reserve of its own.
const FULL: &str = "free some, then ask again; a rollback still works";

/// Why a command was not done.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum AskError {
    /// The rules refuse it. Nothing was written.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// Too many commands wait already. Nothing was written. Never said to a rollback.
    #[error("{waiting} commands are waiting already; try again in a moment")]
    Busy {
        /// How many.
        waiting: usize,
    },
    /// The disk is full. Nothing was written.
    #[error("no space is left in the data directory{}", tail(Some(break_glass.unwrap_or(FULL))))]
    Full {
        /// For a rollback: what to do instead.
        break_glass: Option<&'static str>,
    },
    /// The store fails. Nothing was written.
    #[error("the log cannot be written: {detail}{}", tail(*.break_glass))]
    Store {
        /// The store's own words.
        detail: String,
        /// For a rollback: what to do instead.
        break_glass: Option<&'static str>,
    },
    /// It may have been written or not, and the log cannot be read to find out.
    #[error(
        "it is not known whether this was done, and the log cannot be read to find out: {detail}; \
         ask again with the same idempotency key, or look at the history{}",
        tail(*.break_glass)
    )]
    Unknown {
        /// The store's own words.
        detail: String,
        /// For a rollback: what to do instead.
        break_glass: Option<&'static str>,
    },
    /// The log does not follow from what this controller has read. It commits nothing any more.
    #[error("the log is broken: {detail}; answers go on, nothing is committed until a restart")]
    Broken {
        /// What is wrong.
        detail: String,
    },
    /// The controller stops.
    #[error("the controller is stopping")]
    Stopped,
}

fn tail(break_glass: Option<&'static str>) -> String {
    break_glass.map_or_else(String::new, |words| format!("; {words}"))
}
