//! What a restore makes of the machines' list.

use std::collections::BTreeSet;

use plan::Timestamp;
use xds::join::MachineName;

use super::book::Book;
use crate::store::CELL_BYTES_MAX;

pub(crate) use super::authority::{BOOK, CA};

/// The CA and the list of machines, as a database has them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cells {
    pub(crate) ca: Option<Vec<u8>>,
    pub(crate) book: Option<Vec<u8>>,
}

/// What became of the machines of a backup.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machines {
    /// Tokens that waited, and are worth nothing now.
    pub withdrawn: usize,
    /// Machines that are let in as they were when the backup was made, while nobody knows which of
    /// them were revoked or frozen since.
    pub unsure: Vec<MachineName>,
}

/// The list of machines to come up with, and what is to be told. `kept`: what the directory had;
/// `None` where that is not known. A list that cannot be read stays as it is: nobody is let in by
/// it.
pub(crate) fn machines(
    backup: &Cells,
    kept: Option<&Cells>,
    now: Timestamp,
) -> (Option<Vec<u8>>, Machines) {
    let Some(Ok(mut book)) = backup.book.as_deref().map(Book::decode) else {
        return (None, Machines::default());
    };
    // Machines of another CA are none of these.
    let kept = kept.filter(|kept| kept.ca == backup.ca);
    let newer = kept.and_then(|kept| Book::decode(kept.book.as_deref()?).ok());
    let names: BTreeSet<MachineName> = book.agents().map(|(name, _)| name.clone()).collect();
    let unsure = match &newer {
        Some(newer) => {
            book.take_over(newer);
            Vec::new()
        }
        None => book.live(now),
    };
    let withdrawn = book.withdraw_all(now);
    if newer.is_some() {
        // Whoever follows may have the list of either.
        book.relist(now);
    }
    // Else whoever follows keeps a list that is newer than the backup's, which may tell of more,
    // until another certificate is taken back.
    let mut bytes = book.encode();
    if bytes.len() > CELL_BYTES_MAX {
        // Who is forgotten is not let in.
        book.forget_but(&names, now);
        bytes = book.encode();
    }
    (Some(bytes), Machines { withdrawn, unsure })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use plan::Digest;
    use xds::join::Kind;

    use super::*;
    use crate::identity::book::{Ask, EnrolRefused, Enrolment, Held, NotAdmitted, Shown};
    use crate::identity::{Serial, TOKEN_LIFE};

    fn at(minute: i64) -> Timestamp {
        Timestamp::from_millis(1_700_000_000_000 + minute * 60_000)
    }

    fn name(text: &str) -> MachineName {
        text.parse().unwrap()
    }

    fn token(book: &mut Book, called: &str, number: u8, now: Timestamp) {
        let (kind, life, by) = (Kind::Agent, TOKEN_LIFE, String::new());
        let ask =
            Ask { name: name(called), kind, life, services: vec![], from: None, replace: true, by };
        book.create_token(ask, Digest::of(&[number]), now).unwrap();
    }

    fn enrol(
        book: &mut Book,
        called: &str,
        number: u8,
        now: Timestamp,
    ) -> Result<(), EnrolRefused> {
        let (key, serial) = (Digest::of(&[number, number]), Serial::new([number; 16]));
        let (secret, source) = (Digest::of(&[number]), [10, 0, 0, 1].into());
        let (name, kind) = (&name(called), &Kind::Agent);
        book.enrol(Enrolment { secret, name, kind, source, key, serial, now }).map(drop)
    }

    fn admit(book: &Book, called: &str, number: u8, joined: Timestamp) -> Result<(), NotAdmitted> {
        let (key, serial) = (Digest::of(&[number, number]), Serial::new([number; 16]));
        let held = Held { serial, key, issued: joined };
        let shown = Shown { kind: Kind::Agent, name: name(called), held };
        book.admit(&shown, at(20)).map(drop)
    }

    fn cells(ca: &[u8], book: &Book) -> Cells {
        Cells { ca: Some(ca.to_vec()), book: Some(book.encode()) }
    }

    /// Six machines, two tokens, and what became of them after the backup.
    fn before_and_after() -> (Book, Book) {
        let mut book = Book::default();
        for (number, called) in (1..).zip(["stays", "revoked", "frozen", "replaced"]) {
            token(&mut book, called, number, at(0));
            enrol(&mut book, called, number, at(0)).unwrap();
        }
        token(&mut book, "used", 5, at(0));
        token(&mut book, "waits", 6, at(0));
        let backup = book.clone();
        book.revoke(&name("revoked"), "sold", at(5)).unwrap();
        book.freeze(&name("frozen"), "two processes", at(5));
        token(&mut book, "replaced", 7, at(5));
        enrol(&mut book, "replaced", 7, at(5)).unwrap();
        enrol(&mut book, "used", 5, at(5)).unwrap();
        (backup, book)
    }

    #[test]
    fn who_was_ended_since_stays_ended_and_tokens_are_worth_nothing() {
        let (backup, newer) = before_and_after();
        let (bytes, told) = machines(&cells(b"ca", &backup), Some(&cells(b"ca", &newer)), at(10));
        assert_eq!(told, Machines { withdrawn: 1, unsure: Vec::new() });
        let mut book = Book::decode(&bytes.unwrap()).unwrap();
        assert_eq!(admit(&book, "stays", 1, at(0)), Ok(()));
        assert!(matches!(admit(&book, "revoked", 2, at(0)), Err(NotAdmitted::Revoked { .. })));
        assert!(matches!(admit(&book, "frozen", 3, at(0)), Err(NotAdmitted::Frozen { .. })));
        assert!(matches!(admit(&book, "replaced", 4, at(0)), Err(NotAdmitted::Replaced { .. })));
        assert_eq!(admit(&book, "replaced", 7, at(5)), Ok(()));
        assert_eq!(admit(&book, "used", 5, at(5)), Ok(()), "it joined since");
        let taken_back: Vec<Serial> =
            book.taken_back(at(10)).into_iter().map(|taken| taken.serial).collect();
        assert_eq!(taken_back, [2, 4].map(|number| Serial::new([number; 16])));
        assert!(book.list() > newer.list(), "whoever has that one takes this one");
        let waits = enrol(&mut book, "waits", 6, at(11)).unwrap_err();
        assert!(matches!(waits, EnrolRefused::Withdrawn { .. }), "{waits}");
        // A copy of the disk that had the token cannot use it once more.
        let mut copy = Book::decode(&book.encode()).unwrap();
        copy.revoke(&name("used"), "", at(12)).unwrap();
        let used = enrol(&mut copy, "used", 5, at(12)).unwrap_err();
        assert!(matches!(used, EnrolRefused::Used { .. }), "{used}");
        // The other way round: the backup is the newer one.
        let (bytes, _) = machines(&cells(b"ca", &newer), Some(&cells(b"ca", &backup)), at(10));
        let again = Book::decode(&bytes.unwrap()).unwrap();
        assert!(again.agents().eq(book.agents()));
    }

    #[test]
    fn where_nobody_knows_the_machines_are_named() {
        let (backup, newer) = before_and_after();
        let all = ["frozen", "replaced", "revoked", "stays"].map(name).to_vec();
        let other = cells(b"another", &newer);
        let spoilt = Cells { ca: Some(b"ca".to_vec()), book: Some(b"no book".to_vec()) };
        for kept in [None, Some(&other), Some(&spoilt), Some(&Cells::default())] {
            let (bytes, told) = machines(&cells(b"ca", &backup), kept, at(10));
            assert_eq!(told, Machines { withdrawn: 2, unsure: all.clone() }, "{kept:?}");
            let book = Book::decode(&bytes.unwrap()).unwrap();
            assert_eq!(book.tokens().count(), 0);
            assert_eq!((book.taken_back(at(10)), backup.list()), (Vec::new(), None));
            // What followers have of the newer list stays until there is a newer one yet.
            assert_eq!(book.list(), backup.list(), "{kept:?}");
            let mut revoked = book.clone();
            revoked.revoke(&name("stays"), "sold", at(11)).unwrap();
            assert!(revoked.list() > newer.list(), "{kept:?}");
        }
        let later = at(0).after(Duration::from_secs(60 * 24 * 3_600));
        let (_, told) = machines(&cells(b"ca", &backup), None, later);
        assert_eq!(told, Machines::default(), "no certificate is good any more");
        assert_eq!(machines(&Cells::default(), None, at(0)), (None, Machines::default()));
        let spoilt = machines(&spoilt, None, at(0));
        assert_eq!(spoilt, (None, Machines::default()));
    }
}
