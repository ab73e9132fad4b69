//! The buffers of a batch: where queries arrive and where answers wait to leave together.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::RawFd;

use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, MsgFlags, MultiHeaders, SockaddrStorage, sendmmsg};

use super::local::Local;
use super::{BATCH, QUERY_MAX};
use crate::server::meter::Meter;
use crate::wire::UDP_MAX;

/// Room for the longest answer over UDP.
const ANSWER_MAX: usize = UDP_MAX as usize;

/// Where queries arrive.
pub(super) struct Inbox(Box<[[u8; QUERY_MAX]; BATCH]>);

impl Inbox {
    pub(super) fn new() -> Self {
        Self(Box::new([[0; QUERY_MAX]; BATCH]))
    }

    pub(super) fn rooms(&mut self) -> [[IoSliceMut<'_>; 1]; BATCH] {
        self.0.each_mut().map(|room| [IoSliceMut::new(room)])
    }
}

/// Answers that leave together.
pub(super) struct Outbox {
    answers: Box<[[u8; ANSWER_MAX]; BATCH]>,
    lengths: [usize; BATCH],
    to: [Option<SockaddrStorage>; BATCH],
    from: [Local; BATCH],
    count: usize,
    headers: MultiHeaders<SockaddrStorage>,
}

impl Outbox {
    /// With `room` for the control message that names the source, if answers need one.
    pub(super) fn new(room: Option<Vec<u8>>) -> Self {
        Self {
            answers: Box::new([[0; ANSWER_MAX]; BATCH]),
            lengths: [0; BATCH],
            to: [None; BATCH],
            from: [Local::Bound; BATCH],
            count: 0,
            headers: MultiHeaders::preallocate(BATCH, room),
        }
    }

    pub(super) fn clear(&mut self) {
        self.count = 0;
    }

    /// Takes an answer to be sent. Answers longer than UDP allows are not made; such a one, or one
    /// beyond a batch, would be left out.
    pub(super) fn push(&mut self, answer: &[u8], to: SockaddrStorage, from: Local) {
        let at = self.count;
        let place = self.answers.get_mut(at).and_then(|place| place.get_mut(..answer.len()));
        let (Some(place), Some(length)) = (place, self.lengths.get_mut(at)) else { return };
        place.copy_from_slice(answer);
        *length = answer.len();
        self.to.iter_mut().skip(at).take(1).for_each(|slot| *slot = Some(to));
        self.from.iter_mut().skip(at).take(1).for_each(|slot| *slot = from);
        self.count += 1;
    }

    /// Sends all answers. One that cannot be sent costs the others nothing; when the kernel has no
    /// room the rest is given up, as the network does with datagrams, and the clients ask again.
    pub(super) fn send(&mut self, socket: RawFd, meter: &Meter) {
        let mut at = 0;
        // An error of an earlier datagram may be reported in place of sending: once per answer.
        let mut retries = BATCH;
        while at < self.count {
            match self.send_run(socket, at) {
                Ok(sent) => at += sent.max(1),
                Err(Errno::EINTR | Errno::ECONNREFUSED) if retries > 0 => retries -= 1,
                Err(Errno::EAGAIN | Errno::ENOBUFS | Errno::ENOMEM) => {
                    meter.unsent.add((self.count - at) as u64);
                    return;
                }
                Err(_) => {
                    meter.unsent.add(1);
                    at += 1;
                }
            }
        }
    }

    /// Sends answers from place `at` on that have the same source: a call takes one set of control
    /// messages for all. Gives how many went out, or why the first did not.
    fn send_run(&mut self, socket: RawFd, at: usize) -> Result<usize, Errno> {
        let from = self.from.get(at).copied().unwrap_or(Local::Bound);
        let waiting = self.from.get(at..self.count).unwrap_or_default();
        let run = waiting.iter().take_while(|local| **local == from).count();
        let rooms = self.answers.each_ref();
        let mut slices = [[IoSlice::new(&[])]; BATCH];
        let pieces = rooms.iter().zip(self.lengths).skip(at).take(run);
        for (slice, (room, length)) in slices.iter_mut().zip(pieces) {
            *slice = [IoSlice::new(room.get(..length).unwrap_or_default())];
        }
        let slices = slices.get(..run).unwrap_or_default();
        let to = self.to.get(at..at + run).unwrap_or_default();
        let flags = MsgFlags::MSG_DONTWAIT;
        let (v4, v6);
        let headers = &mut self.headers;
        let sent = match from {
            Local::Bound => sendmmsg(socket, headers, slices, to, [], flags)?,
            Local::V4(address) => {
                v4 = Local::v4(address);
                sendmmsg(socket, headers, slices, to, [ControlMessage::Ipv4PacketInfo(&v4)], flags)?
            }
            Local::V6(address, interface) => {
                v6 = Local::v6(address, interface);
                sendmmsg(socket, headers, slices, to, [ControlMessage::Ipv6PacketInfo(&v6)], flags)?
            }
        };
        Ok(sent.count())
    }
}
