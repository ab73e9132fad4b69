//! The heart of Crossfade: the plan file, the rules of the cutover and the snapshot that every
//! plane renders from.
//!
//! Pure: time, randomness and observations are arguments. Nothing here opens a file or a socket,
//! reads a clock or starts a thread.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod bucket;
pub mod choice;
pub mod client;
pub mod command;
pub mod decide;
pub mod endpoint;
pub mod file;
#[cfg(any(test, feature = "fixture"))]
pub mod fixture;
pub mod gate;
pub mod ledger;
pub mod measure;
pub mod name;
pub mod pace;
pub mod policy;
pub mod record;
pub mod snapshot;
pub mod spec;
pub mod split;
pub mod state;
pub mod time;
pub mod token;
pub mod view;

pub use crate::bucket::Bucket;
pub use crate::command::{
    Actor, Ask, Automation, Cause, Command, Key, Observation, Override, Scope,
};
pub use crate::decide::{Decided, Done, Facts, Refused, RefusedKind};
pub use crate::file::{Problem, check, check_bytes, nearest};
pub use crate::ledger::{Ledger, Nack, Sink, SinkId, Source, Standing};
pub use crate::measure::{Count, Counts, Measured};
pub use crate::name::{GateName, HostName, PlanName, ServiceId, ServiceName, ZoneName};
pub use crate::record::{CauseSummary, Put, Record};
pub use crate::snapshot::{Motion, Serving, Snapshot};
pub use crate::spec::{Plan, Plane};
pub use crate::split::{Side, Split};
pub use crate::state::{Broken, Mode, PlanState, Run, Stage, State};
pub use crate::time::Timestamp;
pub use crate::token::{Digest, Token};
