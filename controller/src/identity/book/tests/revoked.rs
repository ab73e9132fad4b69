//! Which certificates are told of as taken back.

use std::collections::BTreeSet;

use super::*;
use crate::identity::book::revoked::Ended;
use crate::identity::{ENDED_MAX, OLDER_MAX, TAKEN_BACK_KEPT};

/// The numbers of those that are told of.
fn told(book: &Book, now: Timestamp) -> Vec<Serial> {
    book.taken_back(now).into_iter().map(|taken| taken.serial).collect()
}

fn serials(numbers: &[u64]) -> Vec<Serial> {
    let mut serials: Vec<Serial> = numbers.iter().map(|n| serial(*n)).collect();
    serials.sort_unstable();
    serials
}

/// `vm-1` joins again by a token that lets it.
fn join_again(book: &mut Book, secret: u64, key: u64, now: Timestamp) -> Result<(), EnrolRefused> {
    let ask = Ask { replace: true, ..ask("vm-1") };
    book.create_token(ask, number(secret), now).unwrap();
    enrol(book, secret, key, now).map(drop)
}

#[test]
fn all_certificates_of_a_revoked_machine_are_taken_back_until_they_end() {
    let hour = 60;
    let mut book = joined("vm-1");
    let mut held = first(&book);
    // Three renewals within a day: the first certificate is none of the last two.
    for (n, at) in [(101, 8), (102, 16), (103, 20)] {
        held = shown(&renew(&mut book, &held, n, minute(at * hour)).unwrap(), n);
    }
    assert_eq!((book.list(), told(&book, minute(21 * hour))), (None, vec![]), "renewed is fine");
    book.revoke(&held.name, "stolen", minute(21 * hour)).unwrap();
    let number = book.list().unwrap();
    assert_eq!(told(&book, minute(21 * hour)), serials(&[100, 101, 102, 103]));
    assert!(book.taken_back(minute(21 * hour)).iter().all(|it| it.at == minute(21 * hour)));
    book.revoke(&held.name, "again", minute(22 * hour)).unwrap();
    assert_eq!(book.list(), Some(number), "nothing new");
    let kept = TAKEN_BACK_KEPT.as_secs() / 60;
    let end = 24 * hour + kept;
    assert_eq!(told(&book, minute(end)), serials(&[100, 101, 102, 103]), "a clock may be behind");
    assert_eq!(told(&book, minute(end + 1)), serials(&[101, 102, 103]));
    assert_eq!(told(&book, minute(end + 20 * hour)), []);
    assert_eq!(Book::decode(&book.encode()).unwrap(), book);
}

#[test]
fn the_name_of_a_revoked_machine_is_anothers_and_its_certificates_stay_taken_back() {
    let mut book = joined("vm-1");
    let held = first(&book);
    renew(&mut book, &held, 101, minute(2)).unwrap();
    book.revoke(&held.name, "stolen", minute(3)).unwrap();
    let list = book.list().unwrap();
    join_again(&mut book, 2, 200, minute(4)).unwrap();
    assert_eq!(book.list(), Some(list), "the same are taken back");
    let now = minute(5);
    let all = book.taken_back(now);
    assert_eq!(told(&book, now), serials(&[100, 101]));
    assert!(all.iter().all(|taken| taken.at == minute(3)));
    // One that is not revoked is taken over.
    join_again(&mut book, 3, 300, minute(6)).unwrap();
    assert!(book.list().unwrap() > list);
    assert_eq!(told(&book, minute(6)), serials(&[100, 101, 200]));
    assert_eq!(Book::decode(&book.encode()).unwrap(), book);
    // What has ended is forgotten with the next change.
    let later = minute(3 * 24 * 60);
    book.create_token(ask("vm-2"), number(9), later).unwrap();
    assert!(book.ended.is_empty());
}

#[test]
fn a_frozen_machine_goes_on_until_an_operator_decides() {
    let mut book = joined("vm-1");
    let held = first(&book);
    book.freeze(&held.name, "two processes", minute(2));
    assert_eq!((book.list(), told(&book, minute(2))), (None, vec![]));
    let mut revoked = book.clone();
    revoked.revoke(&held.name, "stolen", minute(3)).unwrap();
    assert_eq!(told(&revoked, minute(3)), serials(&[100]));
    join_again(&mut book, 2, 200, minute(3)).unwrap();
    assert_eq!(told(&book, minute(3)), serials(&[100]), "neither copy has joined again");
}

#[test]
fn numbers_rise_whatever_the_clock_says() {
    let mut book = Book::default();
    let mut before = None;
    for at in [5, 5, 3, 9] {
        book.relist(minute(at));
        assert!(book.list() > before, "{at}");
        before = book.list();
    }
    assert_eq!(book.list(), u64::try_from(minute(9).millis()).ok());
}

#[test]
fn what_is_kept_of_certificates_is_bounded() {
    let mut book = joined("vm-1");
    let mut held = first(&book);
    let mut at = 2;
    let refused = loop {
        match renew(&mut book, &held, 100 + at, minute(at)) {
            Ok(grant) => held = shown(&grant, 100 + at),
            Err(refused) => break refused,
        }
        at += 1;
    };
    assert_eq!(refused, RenewRefused::TooOften);
    assert_eq!(book.agent(&held.name).unwrap().older.len(), OLDER_MAX);
    // As soon as the first has ended there is room, before the last has.
    let first_ends = minute(1).after(LIFE + TAKEN_BACK_KEPT);
    assert!(renew(&mut book, &held, 1_000, first_ends).is_ok());
    let mut book = joined("vm-1");
    let ended = Ended { serial: serial(1), expires: minute(10), at: minute(1) };
    book.ended = vec![ended; ENDED_MAX];
    let before = book.clone();
    assert_eq!(join_again(&mut book, 2, 200, minute(3)), Err(EnrolRefused::TooMany));
    assert_eq!((book.agents, book.list), (before.agents, None), "nothing is changed");
}

#[test]
fn a_book_of_before_is_read() {
    let mut book = joined("vm-1");
    let text = String::from_utf8(book.encode()).unwrap();
    assert!(["\"older\"", "\"ended\"", "\"list\""].iter().all(|new| !text.contains(new)), "{text}");
    join_again(&mut book, 2, 200, minute(2)).unwrap();
    for damage in ["", "40 1", "z 1 2"] {
        let text = format!(
            r#"{{"format":1,"tokens":{{}},"spent":[],"agents":{{}},"ended":["{damage}"]}}"#
        );
        assert!(matches!(Book::decode(text.as_bytes()), Err(CellError::Malformed(_))), "{damage}");
    }
}

#[test]
fn what_is_forgotten_in_a_restore_is_taken_back() {
    let mut book = joined("vm-1");
    book.forget_but(&["vm-1".parse().unwrap()].into(), minute(1));
    assert_eq!(told(&book, minute(1)), []);
    book.forget_but(&BTreeSet::new(), minute(1));
    assert_eq!(book.agents().count(), 0);
    assert_eq!(told(&book, minute(1)), serials(&[100]));
}
