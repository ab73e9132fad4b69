//! The stores against real files, real locks and real full disks.
#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test may fail loudly"
)]

#[path = "store/common.rs"]
mod common;
#[path = "store/conforms.rs"]
mod conforms;
#[path = "store/copies.rs"]
mod copies;
#[path = "store/damage.rs"]
mod damage;
#[path = "store/directory.rs"]
mod directory;
#[path = "store/faults.rs"]
mod faults;
#[path = "store/space.rs"]
mod space;
#[path = "store/sync.rs"]
mod sync;
