//! One netlink socket: requests out, answers in. The kernel answers while it is asked, so that
//! nothing is ever waited for in normal times; a limit holds in others.

use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, getsockname,
    recvmsg, sendto, setsockopt, sockopt,
};
use socket2::{Domain, SockRef};

use super::answer::{Answers, Attributes, Kind};
use super::encode::{DUMP, Messages, Verb};
use super::error::DataplaneError;

/// `NETLINK_NETFILTER`.
const NETFILTER: i32 = 12;
/// The longest wait for an answer: the largest table takes the kernel about two seconds.
const PATIENCE: Duration = Duration::from_secs(20);
/// A datagram of a listing is at most 32 KiB (`NLMSG_GOODSIZE`, `netlink_dump`); an error repeats
/// its request, of which we need the head.
const RECEIVE: usize = 64 << 10;
/// Errors of a large transaction that was refused wait here: the first that fit.
const RECEIVE_BUFFER: usize = 4 << 20;
/// `NETLINK_CAP_ACK`: an error repeats the head of its request alone (Linux 4.3).
const SHORT_ERRORS: libc::c_int = 10;
/// How often a listing that was overtaken by changes is begun again.
const LISTINGS_MAX: u32 = 8;

/// [`SHORT_ERRORS`], to be set.
#[derive(Clone, Copy, Debug)]
struct ShortErrors;

nix::setsockopt_impl!(ShortErrors, libc::SOL_NETLINK, SHORT_ERRORS, bool, sockopt::SetBool);

/// A socket of `NETLINK_NETFILTER`.
#[derive(Debug)]
pub(super) struct Socket {
    fd: OwnedFd,
    port: u32,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Socket {
    /// Opens one in the network namespace of this thread.
    pub(super) fn open() -> Result<Self, DataplaneError> {
        let fd = nix::sys::socket::socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkNetFilter,
        )
        .map_err(DataplaneError::socket)?;
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, 0)).map_err(DataplaneError::socket)?;
        Self::from_fd(fd)
    }

    /// Goes on with one that was opened before, perhaps by another process.
    pub(super) fn from_fd(fd: OwnedFd) -> Result<Self, DataplaneError> {
        let port = {
            let socket = SockRef::from(&fd);
            let netfilter = socket.domain().is_ok_and(|it| it == Domain::from(libc_netlink()))
                && socket.protocol().is_ok_and(|it| it.map(i32::from) == Some(NETFILTER));
            if !netfilter {
                return Err(DataplaneError::NotASocketOfOurs);
            }
            socket.set_read_timeout(Some(PATIENCE)).map_err(DataplaneError::Socket)?;
            let address: NetlinkAddr =
                getsockname(fd.as_raw_fd()).map_err(DataplaneError::socket)?;
            address.pid()
        };
        // Without the right to go beyond the limits of the system these stay; small tables fit.
        if setsockopt(&fd, sockopt::SndBufForce, &DataplaneError::BYTES_MAX).is_err() {
            setsockopt(&fd, sockopt::SndBuf, &DataplaneError::BYTES_MAX).ok();
        }
        if setsockopt(&fd, sockopt::RcvBufForce, &RECEIVE_BUFFER).is_err() {
            setsockopt(&fd, sockopt::RcvBuf, &RECEIVE_BUFFER).ok();
        }
        // A kernel that cannot repeats requests whole: fewer errors fit.
        setsockopt(&fd, ShortErrors, &true).ok();
        let mut socket = Self { fd, port, sequence: 1, buffer: vec![0; RECEIVE] };
        socket.drain()?;
        Ok(socket)
    }

    /// The address of this socket, by which the kernel says who owns a table.
    pub(super) const fn port(&self) -> u32 {
        self.port
    }

    /// An empty pile of messages with numbers that were not used.
    pub(super) const fn messages(&self) -> Messages {
        Messages::new(self.sequence)
    }

    /// Sends messages that close with an answer to number `last`; the first refusal, with its
    /// number.
    pub(super) fn transact(
        &mut self,
        messages: &Messages,
        last: u32,
    ) -> Result<Result<(), (u32, Errno)>, DataplaneError> {
        let first = self.send(messages)?;
        let outcome = self.outcome(first, last);
        if !matches!(outcome, Ok(Ok(()))) {
            // Each message of it may have been answered.
            self.drain()?;
        }
        outcome
    }

    /// The answer to messages `first` to `last`. The kernel refuses in the order of messages, and
    /// what no longer fits into the buffer is lost: the first of it is there.
    fn outcome(
        &mut self,
        first: u32,
        last: u32,
    ) -> Result<Result<(), (u32, Errno)>, DataplaneError> {
        let mut flags = MsgFlags::empty();
        loop {
            let length = match self.receive(flags) {
                Err(DataplaneError::Socket(error)) if flags.is_empty() && is_overrun(&error) => {
                    flags = MsgFlags::MSG_DONTWAIT;
                    continue;
                }
                length => length?,
            };
            let bytes = self.buffer.get(..length).unwrap_or_default();
            for answer in Answers(bytes) {
                let ours = answer.sequence.wrapping_sub(first) <= last.wrapping_sub(first);
                match answer.kind {
                    Kind::Outcome(Err(errno)) if ours => {
                        return Ok(Err((answer.sequence, errno)));
                    }
                    Kind::Outcome(Ok(())) if answer.sequence == last => return Ok(Ok(())),
                    Kind::Outcome(_) | Kind::Done(_) | Kind::Object(_) | Kind::Other => (),
                }
            }
        }
    }

    /// Sends messages that are each answered; how each went.
    pub(super) fn ask_each(
        &mut self,
        messages: &Messages,
    ) -> Result<Vec<Result<(), Errno>>, DataplaneError> {
        let first = self.send(messages)?;
        let mut outcomes = Vec::new();
        while outcomes.len() < usize::try_from(messages.count()).unwrap_or(usize::MAX) {
            let length = self.receive(MsgFlags::empty())?;
            let bytes = self.buffer.get(..length).unwrap_or_default();
            outcomes.extend(Answers(bytes).filter_map(|answer| match answer.kind {
                Kind::Outcome(outcome)
                    if answer.sequence.wrapping_sub(first) < messages.count() =>
                {
                    Some(outcome)
                }
                Kind::Outcome(_) | Kind::Done(_) | Kind::Object(_) | Kind::Other => None,
            }));
        }
        Ok(outcomes)
    }

    /// Asks for one object of rules; `None`: there is no such.
    pub(super) fn object<T>(
        &mut self,
        verb: Verb,
        fill: impl FnOnce(&mut Messages),
        read: impl FnOnce(Attributes<'_>) -> Option<T>,
    ) -> Result<Option<T>, DataplaneError> {
        let mut messages = self.messages();
        messages.rules(verb, 0, fill);
        self.ask_one(&messages, read)
    }

    /// Sends one request for one object; `None`: there is no such.
    pub(super) fn ask_one<T>(
        &mut self,
        messages: &Messages,
        read: impl FnOnce(Attributes<'_>) -> Option<T>,
    ) -> Result<Option<T>, DataplaneError> {
        let number = self.send(messages)?;
        loop {
            let length = self.receive(MsgFlags::empty())?;
            let bytes = self.buffer.get(..length).unwrap_or_default();
            for answer in Answers(bytes).filter(|answer| answer.sequence == number) {
                match answer.kind {
                    Kind::Object(attributes) => {
                        let object =
                            read(attributes).ok_or(DataplaneError::Unreadable("an object"))?;
                        return Ok(Some(object));
                    }
                    Kind::Outcome(Err(Errno::ENOENT)) => return Ok(None),
                    Kind::Outcome(Err(errno)) => {
                        return Err(DataplaneError::refused("a question", errno));
                    }
                    Kind::Outcome(Ok(())) | Kind::Done(_) | Kind::Other => (),
                }
            }
        }
    }

    /// Lists objects of rules: what `read` makes of each that it wants.
    pub(super) fn list<T>(
        &mut self,
        verb: Verb,
        fill: impl Fn(&mut Messages),
        read: impl Fn(Attributes<'_>) -> Option<T>,
    ) -> Result<Vec<T>, DataplaneError> {
        for _ in 0..LISTINGS_MAX {
            let mut messages = self.messages();
            messages.rules(verb, DUMP, &fill);
            let mut found = Vec::new();
            let whole = self.dump(&messages, |attributes| found.extend(read(attributes)))?;
            if whole {
                return Ok(found);
            }
        }
        Err(DataplaneError::Restless(LISTINGS_MAX))
    }

    /// Sends one request for a listing and reads it to its end; whether nothing changed meanwhile.
    /// A thing that does not exist has an empty listing.
    pub(super) fn dump(
        &mut self,
        messages: &Messages,
        mut each: impl FnMut(Attributes<'_>),
    ) -> Result<bool, DataplaneError> {
        let number = self.send(messages)?;
        let mut whole = true;
        loop {
            let length = self.receive(MsgFlags::empty())?;
            let bytes = self.buffer.get(..length).unwrap_or_default();
            for answer in Answers(bytes).filter(|answer| answer.sequence == number) {
                whole &= !answer.interrupted;
                match answer.kind {
                    Kind::Object(attributes) => each(attributes),
                    Kind::Outcome(Err(Errno::ENOENT)) | Kind::Done(Err(Errno::ENOENT)) => {
                        return Ok(whole);
                    }
                    Kind::Outcome(Err(errno)) | Kind::Done(Err(errno)) => {
                        return Err(DataplaneError::refused("a listing", errno));
                    }
                    Kind::Done(Ok(())) => return Ok(whole),
                    Kind::Outcome(Ok(())) | Kind::Other => (),
                }
            }
        }
    }

    /// Throws away what is still unread, be it lost in part.
    fn drain(&mut self) -> Result<(), DataplaneError> {
        loop {
            match self.receive(MsgFlags::MSG_DONTWAIT) {
                Ok(_) => {}
                Err(DataplaneError::Silent(_)) => return Ok(()),
                Err(DataplaneError::Socket(error)) if is_overrun(&error) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The number of the first message sent.
    fn send(&mut self, messages: &Messages) -> Result<u32, DataplaneError> {
        let bytes = messages.bytes();
        if bytes.len() > DataplaneError::BYTES_MAX {
            return Err(DataplaneError::TooLarge(bytes.len()));
        }
        let first = self.sequence;
        self.sequence = messages.next_sequence();
        let to = NetlinkAddr::new(0, 0);
        loop {
            match sendto(self.fd.as_raw_fd(), bytes, &to, MsgFlags::empty()) {
                Ok(_) => return Ok(first),
                Err(Errno::EINTR) => (),
                Err(Errno::EMSGSIZE) => return Err(DataplaneError::TooLarge(bytes.len())),
                Err(errno) => return Err(DataplaneError::socket(errno)),
            }
        }
    }

    /// Reads one datagram of the kernel into the buffer; its length there.
    fn receive(&mut self, flags: MsgFlags) -> Result<usize, DataplaneError> {
        loop {
            let mut parts = [IoSliceMut::new(&mut self.buffer)];
            match recvmsg::<NetlinkAddr>(self.fd.as_raw_fd(), &mut parts, None, flags) {
                // Only the kernel, which has port 0, has anything to say here.
                Ok(message) if message.address.is_some_and(|from| from.pid() == 0) => {
                    return Ok(message.bytes);
                }
                Ok(_) | Err(Errno::EINTR) => (),
                Err(Errno::EAGAIN) => return Err(DataplaneError::Silent(PATIENCE.as_secs())),
                Err(errno) => return Err(DataplaneError::Socket(io::Error::from(errno))),
            }
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Whether answers did not fit into the receive buffer.
fn is_overrun(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::ENOBUFS as i32)
}

/// `AF_NETLINK`.
const fn libc_netlink() -> i32 {
    AddressFamily::Netlink as i32
}
