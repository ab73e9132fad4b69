//! What machines say while they are connected, looked at for copies.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use xds::join::MachineName;

use super::{Authority, lock};
use crate::identity::copies::Who;

/// Numbers streams, in the order in which they began.
static STREAMS: AtomicU64 = AtomicU64::new(0);

/// A machine's stream of reports. It ends with this.
#[derive(Debug)]
pub(crate) struct Watched {
    authority: Authority,
    number: u64,
    from: IpAddr,
    who: Option<Who>,
    is_frozen: bool,
}

impl Authority {
    /// A stream from there began.
    pub(crate) fn watch(&self, from: IpAddr) -> Watched {
        let number = STREAMS.fetch_add(1, Ordering::Relaxed);
        Watched { authority: self.clone(), number, from, who: None, is_frozen: false }
    }

    /// Lets the machine and its copy in no more.
    async fn freeze(self, name: MachineName, why: String) {
        tracing::error!(%name, %why, "a machine's key is in two places");
        let frozen = self.inner.change(|book, now| book.freeze(&name, &why, now)).await;
        if let Err(error) = frozen {
            tracing::error!(%name, %error, "it is not frozen");
        }
    }
}

impl Watched {
    /// The machine of this name said something, in this role and by this node id.
    pub(crate) fn heard(&mut self, name: &MachineName, role: &str, id: &str) {
        let who = || Who { name: name.clone(), role: role.to_owned(), id: id.to_owned() };
        let who = self.who.get_or_insert_with(who);
        let inner = &self.authority.inner;
        let found = lock(&inner.copies).heard(who, self.number, self.from, inner.clock.uptime());
        if let Some([one, other]) = found.filter(|_| !self.is_frozen) {
            self.is_frozen = true;
            let [one, other] = [one.to_canonical(), other.to_canonical()];
            let why = format!("two processes report as it at once, from {one} and from {other}");
            tokio::spawn(self.authority.clone().freeze(name.clone(), why));
        }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if let Some(who) = &self.who {
            lock(&self.authority.inner.copies).ended(who, self.number);
        }
    }
}
