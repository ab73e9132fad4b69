//! Hears when others change rules.

use std::os::fd::{AsFd, BorrowedFd};

use super::error::DataplaneError;
use super::socket::Socket;

/// The multicast group `NFNLGRP_NFTABLES`, as a bit.
const RULES: u32 = 1 << 6;

/// A socket that is readable when any program, also this one, has changed any rule of this network
/// namespace. It tells that something was changed and not what: then
/// [`super::Dataplane::is_intact`] is to be asked.
#[derive(Debug)]
pub struct Watch(Socket);

impl Watch {
    /// Begins to listen.
    ///
    /// # Errors
    /// The kernel has no netlink for rules, or the process may not.
    pub fn open() -> Result<Self, DataplaneError> {
        Socket::open(RULES).map(Self)
    }

    /// Reads all that was said, without waiting. Whether somebody else than the socket with address
    /// `but` ([`super::Netlink::port`]) changed something, or more was said than could be kept.
    ///
    /// # Errors
    /// The socket failed.
    pub fn heard(&mut self, but: u32) -> Result<bool, DataplaneError> {
        self.0.heard_from_others(but)
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
