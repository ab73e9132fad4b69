//! The table in a real kernel.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;

use super::answer::Attributes;
use super::change::{self, How};
use super::decode::{self, TableFound};
use super::encode::{Messages, Verb, object, words};
use super::error::DataplaneError;
use super::held::{self, Held};
use super::socket::Socket;
use super::{Adopted, Committed, Dataplane, Forget, Ownership, SIGN, Straggler, Tally, flows};
use crate::rules::{Name, Table};

/// The longest comment: `nft` prints up to 128 bytes.
const COMMENT_MAX: usize = 120;

/// A table that is never made: see [`Netlink::sound`].
const PROBE: &str = "crossfade_probe";

/// What is kept, and how.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The name of the table, of family `inet`.
    pub table: Name,
    /// The best protection to ask for; a kernel that cannot gets the next lower one.
    pub ownership: Ownership,
    /// Go the ways that kernels before 6.2 and 6.11 need: unused chains are deleted in a second
    /// transaction, flows of one transport one by one. Without it they are tried first.
    pub old_kernel: bool,
}

/// A table in the kernel of the network namespace that the socket was opened in.
#[derive(Debug)]
pub struct Netlink {
    socket: Socket,
    settings: Settings,
    /// What the kernel holds; `None`: to be read first.
    held: Option<Held>,
    /// How it holds it.
    ownership: Ownership,
    /// What each ownership is called towards the kernel.
    flags: fn(Ownership) -> u32,
    /// Whether it was asked which of them it grants.
    sounded: bool,
    /// The number of the ruleset's generation that was found whole.
    whole_at: Option<u32>,
}

impl Netlink {
    /// Opens a socket in the network namespace of this thread.
    ///
    /// # Errors
    /// The kernel has no netlink for rules, or the process may not.
    pub fn open(settings: Settings) -> Result<Self, DataplaneError> {
        Ok(Self::with(Socket::open()?, settings))
    }

    /// Goes on with a socket that was kept over a restart, and so with the tables that it owns.
    ///
    /// # Errors
    /// It is another kind of file.
    pub fn from_fd(fd: OwnedFd, settings: Settings) -> Result<Self, DataplaneError> {
        Ok(Self::with(Socket::from_fd(fd)?, settings))
    }

    const fn with(socket: Socket, settings: Settings) -> Self {
        Self {
            socket,
            settings,
            held: None,
            ownership: Ownership::Open,
            flags: object::flags,
            sounded: false,
            whole_at: None,
        }
    }

    /// Whether a table has this name, and is another program's.
    pub(crate) fn is_others(table: Name) -> bool {
        let settings = Settings { table, ownership: Ownership::Open, old_kernel: false };
        let found = Self::open(settings).and_then(|mut netlink| netlink.find());
        matches!(found, Err(DataplaneError::Foreign { .. }))
    }

    /// The table as the kernel has it; an error if it is not ours.
    fn find(&mut self) -> Result<Option<TableFound>, DataplaneError> {
        let name = self.settings.table.as_str();
        let found = self.socket.object(Verb::GetTable, |to| to.text(1, name), decode::table)?;
        let Some(found) = found else { return Ok(None) };
        if !found.comment.as_deref().is_some_and(|comment| comment.contains(SIGN)) {
            return Err(DataplaneError::Foreign { table: name.to_owned(), comment: found.comment });
        }
        match found.owner {
            Some(port) if port != self.socket.port() => {
                Err(DataplaneError::Held { table: name.to_owned(), port })
            }
            _ => Ok(Some(found)),
        }
    }

    /// Takes over a table that lost its owner; by the comment it is known for ours.
    fn take_over(&mut self, comment: &str) -> Result<(), DataplaneError> {
        let mut messages = self.socket.messages();
        messages.begin();
        let flags = (self.flags)(Ownership::Persistent);
        object::table(&mut messages, &self.settings.table, comment, flags);
        self.send(messages)?.map_err(Refusal::into_error)
    }

    /// Reads what the kernel holds and takes it over.
    fn look(&mut self) -> Result<Adopted, DataplaneError> {
        self.held = None;
        self.whole_at = None;
        let Some(found) = self.find()? else {
            return Ok(Adopted::Absent);
        };
        self.ownership = match (found.owner, found.persists) {
            (Some(_), true) => Ownership::Persistent,
            (Some(_), false) => Ownership::Socket,
            (None, true) if self.settings.ownership == Ownership::Persistent => {
                self.take_over(found.comment.as_deref().unwrap_or_default())?;
                Ownership::Persistent
            }
            (None, _) => Ownership::Open,
        };
        self.held = Some(Held::read(&mut self.socket, &self.settings.table)?);
        Ok(Adopted::Ours(self.ownership))
    }

    /// Closes a transaction and sends it.
    fn send(&mut self, mut messages: Messages) -> Result<Result<(), Refusal>, DataplaneError> {
        let last = messages.end();
        let outcome = self.socket.transact(&messages, last)?;
        Ok(outcome.map_err(|(number, errno)| Refusal { about: messages.name(number), errno }))
    }

    /// Finds out which ownership the kernel grants before a large table is sent: of that it would
    /// repeat every message. Nothing is made, as the transaction makes one table twice.
    fn sound(&mut self) -> Result<(), DataplaneError> {
        while !self.sounded && self.settings.ownership > Ownership::Open {
            let mut messages = self.socket.messages();
            messages.begin();
            let first = messages.next_sequence();
            for _ in 0..2 {
                object::new_table(&mut messages, PROBE, (self.flags)(self.settings.ownership));
            }
            let last = messages.end();
            match self.socket.transact(&messages, last)? {
                Err((number, Errno::EINVAL | Errno::EOPNOTSUPP)) if number == first => {
                    self.settle_for_less();
                }
                // Granted; or there is one of this name, or no right: the table itself will tell.
                Ok(()) | Err(_) => self.sounded = true,
            }
        }
        Ok(())
    }

    /// The kernel does not know a flag.
    const fn settle_for_less(&mut self) {
        self.settings.ownership = match self.settings.ownership {
            Ownership::Persistent => Ownership::Socket,
            Ownership::Socket | Ownership::Open => Ownership::Open,
        };
    }

    /// Brings `table` from what is held now, by the best ownership that the kernel grants.
    fn bring(&mut self, table: &Table) -> Result<Result<u32, Refusal>, DataplaneError> {
        loop {
            if self.is_better() {
                self.sound()?;
            }
            let better = self.is_better();
            let asked = if better { self.settings.ownership } else { self.ownership };
            let steps = self.held.as_ref().map(|held| change::steps(held, table));
            let mut how = match steps {
                None => How::First,
                Some(_) if better => How::Anew,
                Some(None) => How::Anew,
                Some(Some(changes)) if self.settings.old_kernel => How::StepsWithoutDrops(changes),
                Some(Some(changes)) => How::Steps(changes),
            };
            change::check(table, &how)?;
            let mut outcome = self.transact(table, &how, asked)?;
            // A chain that lost its last user in this very transaction (before Linux 6.2).
            let busy = outcome.as_ref().is_err_and(|refusal| refusal.errno == Errno::EBUSY);
            if let (true, How::Steps(changes)) = (busy, &how) {
                how = How::StepsWithoutDrops(changes.clone());
                outcome = self.transact(table, &how, asked)?;
            }
            match outcome {
                Ok(count) => {
                    self.ownership = asked;
                    self.keep(table, &how);
                    return Ok(Ok(count));
                }
                Err(refusal) if better && asked > Ownership::Open && refusal.is_about_flags() => {
                    self.settle_for_less();
                }
                Err(refusal) => return Ok(Err(refusal)),
            }
        }
    }

    /// Whether more can be asked for than is held.
    fn is_better(&self) -> bool {
        self.held.is_none() || self.settings.ownership > self.ownership
    }

    /// Remembers what the kernel holds now.
    fn keep(&mut self, table: &Table, how: &How) {
        match (&mut self.held, how) {
            (Some(held), How::Steps(changes) | How::StepsWithoutDrops(changes)) => {
                held.follow(table, changes);
            }
            _ => self.held = Some(Held::written(table)),
        }
    }

    /// One transaction, or two where chains are dropped after; how many messages.
    fn transact(
        &mut self,
        table: &Table,
        how: &How,
        ownership: Ownership,
    ) -> Result<Result<u32, Refusal>, DataplaneError> {
        let mut messages = self.socket.messages();
        messages.begin();
        change::write(&mut messages, table, how, (self.flags)(ownership));
        let count = messages.count() - 1;
        if count == 0 {
            return Ok(Ok(0));
        }
        if let Err(refusal) = self.send(messages)? {
            return Ok(Err(refusal));
        }
        let How::StepsWithoutDrops(changes) = how else { return Ok(Ok(count)) };
        let mut messages = self.socket.messages();
        messages.begin();
        change::write_drops(&mut messages, table, changes);
        let dropped = messages.count() - 1;
        if dropped == 0 {
            return Ok(Ok(count));
        }
        Ok(self.send(messages)?.map(|()| count + dropped))
    }

    /// The number of the ruleset's generation: any change of any table makes it another.
    fn generation(&mut self) -> Result<u32, DataplaneError> {
        let read = |it: Attributes<'_>| it.number(1);
        self.socket
            .object(Verb::GetGeneration, |_| (), read)?
            .ok_or(DataplaneError::Unreadable("a generation"))
    }
}

impl Dataplane for Netlink {
    fn adopt(&mut self) -> Result<Adopted, DataplaneError> {
        self.look()
    }

    fn commit(&mut self, table: &Table) -> Result<Committed, DataplaneError> {
        if table.name != self.settings.table {
            return Err(DataplaneError::WrongTable(table.name.to_string()));
        }
        if !table.comment.contains(SIGN) || table.comment.len() > COMMENT_MAX {
            return Err(DataplaneError::Unsigned);
        }
        let guessed = self.held.is_some();
        if !guessed {
            self.look()?;
        }
        // Whatever fails from here on, what is held must be read again.
        let outcome = match self.bring(table) {
            // Others may have changed what we thought to know: once more, from what is there.
            Ok(Err(_)) if guessed => {
                self.look()?;
                self.bring(table)
            }
            outcome => outcome,
        };
        self.whole_at = None;
        match outcome {
            Ok(Ok(messages)) => Ok(Committed { messages, ownership: self.ownership }),
            Ok(Err(refusal)) => {
                self.held = None;
                Err(refusal.into_error())
            }
            Err(error) => {
                self.held = None;
                Err(error)
            }
        }
    }

    fn counters(&mut self) -> Result<BTreeMap<Name, Tally>, DataplaneError> {
        let found = held::counters(&mut self.socket, &self.settings.table)?;
        let named = found.into_iter().filter_map(|it| Some((Name::new(&it.name).ok()?, it.tally)));
        Ok(named.collect())
    }

    fn stragglers(&mut self) -> Result<BTreeMap<Name, Vec<Straggler>>, DataplaneError> {
        let Some(held) = self.held.as_ref().filter(|held| held.written) else {
            return Ok(BTreeMap::new());
        };
        let sets = held.table.stragglers.clone();
        let mut all = BTreeMap::new();
        for (name, set) in sets {
            let found = held::elements(&mut self.socket, &self.settings.table, name.as_str())?;
            let networks = found.into_iter().filter_map(|element| {
                Some(Straggler {
                    network: decode::network(&element.key, set.prefix)?,
                    tally: element.tally,
                    expires_ms: element.expires_ms,
                })
            });
            all.insert(name, networks.collect());
        }
        Ok(all)
    }

    fn forget(&mut self, which: &Forget) -> Result<(), DataplaneError> {
        let keys = self.held.as_ref().filter(|held| held.written);
        let keys = keys.map(|held| flows::keys(&held.table));
        flows::forget(&mut self.socket, which, keys.as_ref(), self.settings.old_kernel)
    }

    fn remove(&mut self) -> Result<bool, DataplaneError> {
        self.whole_at = None;
        self.held = None;
        if self.find()?.is_none() {
            return Ok(false);
        }
        let mut messages = self.socket.messages();
        messages.begin();
        object::drop_table(&mut messages, &self.settings.table);
        self.send(messages)?.map_err(Refusal::into_error)?;
        self.ownership = Ownership::Open;
        Ok(true)
    }

    fn is_intact(&mut self) -> Result<bool, DataplaneError> {
        let before = self.generation()?;
        if self.whole_at == Some(before) {
            return Ok(true);
        }
        let Some(held) = self.held.as_ref().filter(|held| held.written) else {
            return Ok(false);
        };
        let table = held.table.clone();
        let there = match self.find() {
            Ok(Some(found)) => found.owner.is_some() == (self.ownership != Ownership::Open),
            Ok(None) => false,
            Err(DataplaneError::Foreign { .. } | DataplaneError::Held { .. }) => false,
            Err(error) => return Err(error),
        };
        // Nobody else can change what a socket owns.
        let whole = there
            && (self.ownership != Ownership::Open || held::matches(&mut self.socket, &table)?);
        if whole {
            self.whole_at = (self.generation()? == before).then_some(before);
        } else {
            self.held = None;
        }
        Ok(whole)
    }
}

impl AsFd for Netlink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The kernel's no to a transaction.
#[derive(Clone, Debug)]
struct Refusal {
    /// The message's verb, and what it was about.
    about: Option<(u16, String)>,
    errno: Errno,
}

impl Refusal {
    /// Whether the table itself was refused, for what is asked of it.
    fn is_about_flags(&self) -> bool {
        self.about.as_ref().is_some_and(|(verb, _)| *verb == Verb::NewTable as u16)
            && matches!(self.errno, Errno::EINVAL | Errno::EOPNOTSUPP)
    }

    fn into_error(self) -> DataplaneError {
        let Some((verb, part)) = self.about else {
            return DataplaneError::refused("the transaction", self.errno);
        };
        let what = format!("{} `{part}`", words(verb));
        DataplaneError::refused_part(what, Some(part), self.errno)
    }
}
