//! What every answering thread has, whatever its transport: access to the catalog, a buffer, its
//! table and its counters.

use std::net::IpAddr;
use std::sync::{Arc, MutexGuard};

use super::clock;
use super::meter::Meter;
use super::random::Random;
use super::swap::{Batch, Reader};
use crate::respond::{Context, Reply, Transport, respond};
use crate::seen::{Seen, Table};
use crate::wire::{Buffer, Rcode};

/// One thread's own things.
pub(super) struct Worker {
    pub(super) reader: Reader,
    pub(super) desk: Desk,
    pub(super) seen: Arc<Seen>,
}

/// Where a thread writes one answer at a time.
pub(super) struct Desk {
    buffer: Buffer,
    random: Random,
    pub(super) meter: Arc<Meter>,
}

/// A batch under way: one catalog, one moment, the thread's table at hand.
pub(super) struct Turn<'a> {
    batch: Batch<'a>,
    table: MutexGuard<'a, Table>,
    now: u64,
    desk: &'a mut Desk,
}

impl Worker {
    pub(super) fn new(reader: Reader, seen: Arc<Seen>, meter: Arc<Meter>) -> Self {
        Self { reader, desk: Desk { buffer: Buffer::new(), random: Random::new(), meter }, seen }
    }

    pub(super) fn meter(&self) -> &Meter {
        &self.desk.meter
    }

    /// Starts a batch. Everything in it was received before.
    pub(super) fn begin(&mut self) -> Turn<'_> {
        let Self { reader, desk, seen } = self;
        // The table first: waiting for its reader must not hold up a publisher.
        let table = seen.lock();
        Turn { batch: reader.enter(), table, now: clock::unix_seconds(), desk }
    }
}

impl Turn<'_> {
    /// The answer to a query, if it gets one.
    pub(super) fn answer(
        &mut self,
        query: &[u8],
        client: IpAddr,
        transport: Transport,
    ) -> Option<&[u8]> {
        let Desk { buffer, random, meter } = &mut *self.desk;
        match transport {
            Transport::Udp => meter.queries_udp.add(1),
            Transport::Tcp => meter.queries_tcp.add(1),
        }
        let published = self.batch.published();
        let context = Context { client, transport, random: random.next(), cookie: None };
        let Reply::Answer { seen, .. } = respond(&published.catalog, query, &context, buffer)
        else {
            meter.silent.add(1);
            return None;
        };
        if let Some(seen) = seen
            && let Some(place) = published.roster.place(seen.service)
        {
            self.table.note(&published.roster, place, seen.key, seen.side, self.now);
        }
        let answer = buffer.bytes();
        let (high, low) = (answer.get(2).copied(), answer.get(3).copied());
        meter.answer(Rcode(u16::from(low.unwrap_or_default() & 0x0f)));
        meter.truncated.add(u64::from(high.is_some_and(|high| high & 0x02 != 0)));
        Some(answer)
    }

    pub(super) fn meter(&self) -> &Meter {
        &self.desk.meter
    }
}
