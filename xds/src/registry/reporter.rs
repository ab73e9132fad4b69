//! The task that tells how far everybody is.

use std::sync::Arc;

use tokio::time::Instant;

use super::Standings;
use super::book::Book;
use super::hub::Hub;

/// Runs until it is dropped.
pub(crate) async fn run(hub: Arc<Hub>) {
    let mut book = Book::default();
    // When the newest of what is told next happened at the earliest.
    let mut due = Instant::now();
    // When kinds may be told of again.
    let mut kinds_due = due;
    loop {
        let stale = book.is_stale();
        let dues = [stale.then_some(due), book.kinds.is_stale().then_some(kinds_due)];
        let next = dues.into_iter().flatten().min();
        tokio::select! {
            () = hub.bell.notified() => {}
            () = tokio::time::sleep_until(next.unwrap_or(due)), if next.is_some() => {}
        }
        let events = hub.events();
        let published = hub.standings.borrow().generation != hub.look().generation();
        hub.with_recent(|tables, _| book.aim(tables));
        for event in events {
            book.apply(event);
        }
        let now = Instant::now();
        if book.kinds.is_stale() && kinds_due <= now {
            // A gateway of a new kind waits for what is rendered for it; where thousands come at
            // once they are told of together.
            hub.clients.send_replace(book.kinds.tell());
            kinds_due = now + Standings::pace(book.kinds.len());
        }
        if !book.is_stale() {
            continue;
        }
        if published && !stale {
            // Streams are given this long to look at what they were just woken for.
            due = due.max(now + Standings::pace(book.streams()));
        }
        if book.anybody_lags() && now < due {
            continue;
        }
        let standings = hub.with_recent(|tables, recent| {
            book.aim(tables);
            book.standings(recent)
        });
        hub.standings.send_replace(Arc::new(standings));
        due = now + Standings::pace(book.streams());
    }
}
