//! What nobody would notice otherwise: connections without streams, clients that do not read.

use std::sync::Arc;
use std::time::Duration;

use super::counts::Bad;
use super::shared::Shared;

/// The longest time between two looks. One costs a look at each stream.
const EVERY: Duration = Duration::from_secs(1);

/// Looks until dropped.
pub(super) async fn run(shared: Arc<Shared>) {
    let limits = shared.limits;
    let every = (limits.stalled.min(limits.idle).min(limits.stranger) / 4)
        .clamp(Duration::from_millis(10), EVERY);
    let mut ticks = tokio::time::interval(every);
    loop {
        ticks.tick().await;
        sweep(&shared);
    }
}

fn sweep(shared: &Shared) {
    let now = shared.clock.uptime();
    if let Some(since) = now.checked_sub(shared.limits.stalled) {
        for slot in shared.hub.stalled(since) {
            shared.counters.stalled.add(1);
            shared.bad(Bad::Stalled, slot.peer, &"a client does not read; its connection is cut");
            // The stream's task waits for room below it and cannot be told; the connection can.
            shared.cut_line(slot.line);
        }
    }
    shared.forget_shares();
    if let Some(since) = now.checked_sub(EVERY) {
        shared.grow_old(since);
    }
    if let Some(since) = now.checked_sub(shared.limits.stranger) {
        for line in shared.strangers(since) {
            let what = "a connection is nobody's, or over the share of its machine; it is cut";
            shared.bad(Bad::Stranger, line.peer, &what);
            line.cut();
        }
    }
    if let Some(since) = now.checked_sub(shared.limits.idle) {
        for line in shared.idle_lines(since) {
            shared.bad(Bad::Idle, line.peer, &"a connection has no stream; it is cut");
            line.cut();
        }
    }
}
