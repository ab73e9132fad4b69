//! What machines say while they are connected, looked at for copies.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use plan::Timestamp;
use xds::join::MachineName;

use super::{Authority, ChangeError, Inner, lock};
use crate::identity::book::NotAdmitted;
use crate::identity::copies::Who;

/// Numbers streams, in the order in which they began.
static STREAMS: AtomicU64 = AtomicU64::new(0);

/// A machine that is refused here from now on, and that the store is to say so of.
#[derive(Clone, Debug)]
pub(super) struct Freezing {
    /// Which of that name: one that joins later is another.
    joined: Timestamp,
    at: Timestamp,
    why: String,
}

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

    /// Lets the machine and its copy in no more: here at once, elsewhere and after a restart when
    /// the store has it.
    fn freeze(&self, name: &MachineName, why: String) {
        tracing::error!(%name, %why, "a machine's key is in two places");
        let known = self.inner.known();
        let Some(joined) = known.book.agent(name).map(|agent| agent.joined) else { return };
        let freezing = Freezing { joined, at: self.inner.clock.now(), why };
        lock(&self.inner.freezing).insert(name.clone(), freezing);
        self.inner.revoked.send_modify(|count| *count = count.wrapping_add(1));
        let authority = self.clone();
        tokio::spawn(async move {
            if let Err(error) = authority.inner.freeze_all().await {
                tracing::error!(%error, "it is refused here, and kept as frozen later");
            }
        });
    }
}

impl Inner {
    /// Why this machine is not let in, if it is to be frozen and is not yet in the store.
    pub(super) fn freezing(&self, name: &MachineName) -> Option<NotAdmitted> {
        let Freezing { joined, at, why } = lock(&self.freezing).get(name).cloned()?;
        let known = self.known();
        let agent = known.book.agent(name).filter(|agent| agent.joined == joined);
        agent.map(|_| NotAdmitted::Frozen { name: name.clone(), at, why })
    }

    /// Has the store say of all that are to be frozen that they are.
    pub(super) async fn freeze_all(&self) -> Result<(), ChangeError> {
        let waiting = lock(&self.freezing).clone();
        if waiting.is_empty() {
            return Ok(());
        }
        self.change(|book, _| {
            for (name, Freezing { joined, at, why }) in &waiting {
                if book.agent(name).is_some_and(|agent| agent.joined == *joined) {
                    book.freeze(name, why, *at);
                }
            }
        })
        .await?;
        // What the book says now is newer than any that was found before.
        let is_done = |name: &MachineName, of: &Freezing| {
            waiting.get(name).is_some_and(|done| done.joined == of.joined)
        };
        lock(&self.freezing).retain(|name, freezing| !is_done(name, freezing));
        Ok(())
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
            self.authority.freeze(name, why);
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use plan::Digest;
    use xds::join::Kind;

    use super::*;
    use crate::clock::Clock;
    use crate::identity::book::{Ask, Enrolment};
    use crate::identity::{Serial, Settings, TOKEN_LIFE};
    use crate::store::Memory;

    fn ask(name: &MachineName) -> Ask {
        let (kind, life) = (Kind::Agent, TOKEN_LIFE);
        let (services, by) = (Vec::new(), String::new());
        Ask { name: name.clone(), kind, life, services, from: None, replace: true, by }
    }

    async fn join(authority: &Authority, name: &MachineName, number: u8) {
        let secret = Digest::of(&[number]);
        let (key, serial) = (Digest::of(&[number, number]), Serial::new([number; 16]));
        let source = [10, 0, 0, 1].into();
        let joined = authority.inner.change(|book, now| {
            book.create_token(ask(name), secret, now).unwrap();
            let kind = &Kind::Agent;
            book.enrol(Enrolment { secret, name, kind, source, key, serial, now }).unwrap();
        });
        joined.await.unwrap();
    }

    #[tokio::test]
    async fn a_copy_found_while_the_store_fails_is_refused_at_once_and_frozen_later() {
        let store = Arc::new(Memory::new());
        let opened = Authority::open(store.clone(), Clock::start(), Settings::default());
        let authority = opened.await.unwrap();
        let inner = &authority.inner;
        let (name, other): (MachineName, MachineName) =
            ("vm-1".parse().unwrap(), "vm-2".parse().unwrap());
        join(&authority, &name, 1).await;
        join(&authority, &other, 2).await;
        let is_frozen = |authority: &Authority| {
            let known = authority.inner.known();
            known.book.agent(&name).is_some_and(|agent| agent.end.is_some())
        };
        let mut revoked = inner.revoked.subscribe();
        store.fill();
        authority.freeze(&name, "two processes".to_owned());
        assert!(revoked.has_changed().unwrap(), "connections are looked at again");
        revoked.mark_unchanged();
        assert!(inner.freezing(&name).is_some() && inner.freezing(&other).is_none());
        assert!(inner.freeze_all().await.is_err());
        assert!(!is_frozen(&authority) && inner.freezing(&name).is_some());

        store.drain();
        inner.freeze_all().await.unwrap();
        assert!(is_frozen(&authority) && inner.freezing(&name).is_none());

        // One that joins meanwhile is another.
        store.fill();
        authority.freeze(&name, "two processes".to_owned());
        store.drain();
        join(&authority, &name, 3).await;
        assert!(inner.freezing(&name).is_none());
        inner.freeze_all().await.unwrap();
        assert!(!is_frozen(&authority) && lock(&inner.freezing).is_empty());
    }
}
