//! The planes: each takes snapshots and says how far its receivers are.

use std::sync::Arc;

use plan::{Counts, Snapshot, Standing};
use tokio::sync::watch;

pub mod dns;
pub mod mesh;
pub mod reports;

/// What a plane is connected by.
#[derive(Debug)]
pub struct PlanePort {
    /// The newest durable snapshot. Some may be skipped; none ever goes back.
    pub snapshots: watch::Receiver<Arc<Snapshot>>,
    /// What the plane says of itself. Nothing is believed before it says something.
    pub standing: watch::Sender<Standing>,
    /// What it counted.
    pub counts: watch::Sender<Counts>,
}
