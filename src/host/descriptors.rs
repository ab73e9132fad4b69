//! Sockets that the service manager keeps while the agent restarts: queries queue in them, and the
//! table of rules has an owner.
#![expect(
    unsafe_code,
    reason = "descriptors that the service manager hands over are numbers; each is taken once, \
              before anything else opens files"
)]

use std::os::fd::{AsFd as _, FromRawFd as _, OwnedFd};

use agent::dataplane::Netlink;
use agent::names::Stub;
use sd_notify::NotifyState;

/// What the descriptors are called by the service manager.
const RULES: &str = "rules";
const NAMES: &str = "names";

/// What was kept.
#[derive(Debug, Default)]
pub(crate) struct Descriptors {
    rules: Option<OwnedFd>,
    names: Vec<OwnedFd>,
}

impl Descriptors {
    /// Takes what the service manager kept for this process; to be called once, at the start.
    pub(crate) fn take() -> Self {
        let mut descriptors = Self::default();
        let kept = match sd_notify::listen_fds_with_names() {
            Ok(kept) => kept,
            Err(error) => {
                tracing::debug!(%error, "no descriptors were handed over");
                return descriptors;
            }
        };
        for (fd, name) in kept {
            // SAFETY: the service manager passes these numbers as open descriptors that are this
            // process's alone (sd_listen_fds(3)), they are listed once, and nothing else here
            // takes them.
            let fd = unsafe { OwnedFd::from_raw_fd(fd) };
            match name.as_str() {
                RULES => descriptors.rules = Some(fd),
                NAMES => descriptors.names.push(fd),
                other => tracing::debug!(name = other, "a descriptor of no use was handed over"),
            }
        }
        descriptors
    }

    /// The socket that owns the table of rules.
    pub(crate) const fn rules(&mut self) -> Option<OwnedFd> {
        self.rules.take()
    }

    /// The sockets of the stub DNS server.
    pub(crate) fn names(&mut self) -> Vec<OwnedFd> {
        std::mem::take(&mut self.names)
    }
}

/// Has the service manager keep the socket that owns the table.
pub(crate) fn keep_rules(owner: &Netlink) {
    keep(RULES, &[owner.as_fd()]);
}

/// Has the service manager keep the sockets of the stub.
pub(crate) fn keep_names(stub: &Stub) {
    let Some(sockets) = stub.sockets() else { return };
    match sockets.fds() {
        Ok(fds) => {
            let fds: Vec<_> = fds.iter().map(|fd| fd.as_fd()).collect();
            keep(NAMES, &fds);
        }
        Err(error) => tracing::warn!(%error, "queries will not queue over a restart"),
    }
}

/// Has the service manager close all of them: there is nothing to go on with.
pub(crate) fn forget() {
    for name in [RULES, NAMES] {
        let forgotten = sd_notify::notify(&[NotifyState::FdStoreRemove, NotifyState::FdName(name)]);
        if let Err(error) = forgotten {
            tracing::warn!(name, %error, "the service manager keeps sockets of no use");
        }
    }
}

fn keep(name: &str, fds: &[std::os::fd::BorrowedFd<'_>]) {
    // What was kept under this name before is the same socket, or of no use any more.
    let removed = sd_notify::notify(&[NotifyState::FdStoreRemove, NotifyState::FdName(name)]);
    let kept = removed.and_then(|()| {
        sd_notify::notify_with_fds(&[NotifyState::FdStore, NotifyState::FdName(name)], fds)
    });
    if let Err(error) = kept {
        tracing::warn!(name, %error, "the service manager does not keep sockets");
    }
}
