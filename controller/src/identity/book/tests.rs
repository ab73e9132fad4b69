//! Every way to join and renew, by a table and at random.

mod kinds;
mod machines;
mod random;
mod revoked;

use std::time::Duration;

use self::machines::*;
use super::*;
use crate::identity::{
    AGENTS_MAX, OLDER_MAX, OVERLAP, SERVICES_MAX, TOKEN_LIFE, TOKEN_LIFE_MAX, TOKENS_MAX,
};

#[test]
fn a_token_is_good_once_for_its_machine_from_its_network() {
    struct Case {
        what: &'static str,
        secret: u64,
        name: &'static str,
        source: &'static str,
        minutes: u64,
        expect: Result<(), EnrolRefused>,
    }
    let right =
        Case { what: "", secret: 1, name: "vm-1", source: "10.0.0.7", minutes: 1, expect: Ok(()) };
    let used = Err(EnrolRefused::Used { at: minute(1) });
    let cases = [
        Case { what: "unknown", secret: 9, expect: Err(EnrolRefused::Unknown), ..right },
        Case { what: "another's name", name: "vm-2", expect: Err(EnrolRefused::Unknown), ..right },
        Case {
            what: "another network",
            source: "192.0.2.1",
            expect: Err(EnrolRefused::Source {
                source_address: address("192.0.2.1"),
                allowed: "10.0.0.0/24".parse().unwrap(),
            }),
            ..right
        },
        Case {
            what: "expired",
            minutes: 15,
            expect: Err(EnrolRefused::Expired { at: minute(15) }),
            ..right
        },
        Case { what: "right", source: "::ffff:10.0.0.7", ..right },
        Case { what: "used, another key", expect: used.clone(), minutes: 2, ..right },
        Case { what: "used, long ago", expect: used, minutes: 60 * 24, ..right },
        Case {
            what: "used, forgotten",
            minutes: 60 * 24 + 16,
            expect: Err(EnrolRefused::Unknown),
            ..right
        },
    ];
    let mut book = Book::default();
    let from = Some("10.0.0.0/24".parse().unwrap());
    book.create_token(Ask { from, ..ask("vm-1") }, number(1), minute(0)).unwrap();
    for (n, case) in (100..).zip(cases) {
        let before = book.clone();
        let enrolled = book.enrol(Enrolment {
            secret: number(case.secret),
            name: &name(case.name),
            kind: &Kind::Agent,
            source: address(case.source),
            key: number(n),
            serial: serial(n),
            now: minute(case.minutes),
        });
        assert_eq!(enrolled.clone().map(drop), case.expect, "{}", case.what);
        if enrolled.is_err() && case.minutes < 60 {
            assert_eq!(book, before, "{}: nothing is changed", case.what);
        }
    }
    assert_eq!(book.agent(&name("vm-1")).unwrap().from, address("10.0.0.7"));
}

#[test]
fn a_lost_first_answer_is_given_again_to_the_same_key_alone() {
    let mut book = Book::default();
    book.create_token(ask("vm-1"), number(1), minute(0)).unwrap();
    let first = enrol(&mut book, 1, 100, minute(1)).unwrap();
    let again = enrol(&mut book, 1, 100, minute(2)).unwrap();
    assert_eq!(again, Grant { again: true, ..first });
    let used = Err(EnrolRefused::Used { at: minute(1) });
    assert_eq!(enrol(&mut book, 1, 101, minute(2)), used, "another key");
    assert_eq!(enrol(&mut book, 1, 100, minute(15)), used, "the token's time is over");
}

#[test]
fn a_token_is_made_within_its_limits() {
    let live = TokenRefused::Live { name: name("vm-1") };
    let service = |n: usize| format!("shop/s{n}").parse().unwrap();
    let services = |count: usize| (0..count).map(service).collect::<Vec<_>>();
    let day = TOKEN_LIFE_MAX + Duration::from_secs(1);
    let cases = [
        ("a new name", ask("vm-2"), Ok(false)),
        ("the same again", ask("vm-2"), Ok(true)),
        ("a live machine's name", ask("vm-1"), Err(live)),
        ("a live machine's name on purpose", Ask { replace: true, ..ask("vm-1") }, Ok(false)),
        ("too long", Ask { life: day, ..ask("vm-2") }, Err(TokenRefused::Life)),
        ("no time", Ask { life: Duration::ZERO, ..ask("vm-2") }, Err(TokenRefused::Life)),
        ("a day", Ask { life: TOKEN_LIFE_MAX, ..ask("vm-3") }, Ok(false)),
        ("all services", Ask { services: services(SERVICES_MAX), ..ask("vm-4") }, Ok(false)),
        (
            "too many services",
            Ask { services: services(SERVICES_MAX + 1), ..ask("vm-4") },
            Err(TokenRefused::Services),
        ),
    ];
    let mut book = joined("vm-1");
    for (n, (what, ask, expect)) in (200..).zip(cases) {
        assert_eq!(book.create_token(ask, number(n), minute(3)), expect, "{what}");
    }
}

#[test]
fn tokens_that_wait_are_bounded() {
    let mut book = Book::default();
    for n in 0..TOKENS_MAX {
        let ask = ask(&format!("vm-{n}"));
        book.create_token(ask, number(n as u64), minute(0)).unwrap();
    }
    assert_eq!(book.create_token(ask("more"), number(5_000), minute(1)), Err(TokenRefused::Full));
    assert_eq!(book.create_token(ask("more"), number(5_000), minute(16)), Ok(false));
    assert!(book.tokens().count() <= TOKENS_MAX);
    for n in 0..5_000 {
        book.create_token(ask("again"), number(6_000 + n), minute(17)).unwrap();
    }
    assert!(book.encode().len() < 1 << 20, "what was spent is bounded");
}

#[test]
fn machines_are_bounded_and_fit_into_a_cell() {
    let mut book = Book::default();
    let services = vec!["shop/orders".parse().unwrap()];
    book.create_token(Ask { services, ..ask("vm-1") }, number(1), minute(0)).unwrap();
    enrol(&mut book, 1, 100, minute(1)).unwrap();
    let first = first(&book);
    renew(&mut book, &first, 101, minute(2)).unwrap();
    let like = book.agent(&first.name).unwrap().clone();
    for n in 1..AGENTS_MAX {
        let mut like = like.clone();
        // About as many are between the renewal and the end of the first.
        let older = Older { serial: serial(n as u64), expires: minute(3) };
        like.older.extend((n % 10 == 0).then_some(older));
        book.agents.insert(name(&format!("{n:0>20}.legacy")), like);
    }
    let bytes = book.encode().len();
    assert!(bytes <= crate::store::CELL_BYTES_MAX, "{bytes}");
    book.create_token(ask("vm-2"), number(2), minute(2)).unwrap();
    let (secret, key, now) = (number(2), number(3), minute(3));
    let (source, serial) = (address("10.0.0.9"), serial(3));
    let two = name("vm-2");
    let kind = &Kind::Agent;
    let more = Enrolment { secret, name: &two, kind, source, key, serial, now };
    assert_eq!(book.enrol(more), Err(EnrolRefused::Full));
    book.agents.remove("vm-1");
    assert!(book.enrol(more).is_ok());
}

#[test]
fn a_withdrawn_token_says_so() {
    let mut book = Book::default();
    book.create_token(ask("vm-1"), number(1), minute(0)).unwrap();
    assert!(book.delete_token(&name("vm-1"), minute(1)));
    assert!(!book.delete_token(&name("vm-1"), minute(1)));
    let withdrawn = Err(EnrolRefused::Withdrawn { at: minute(1) });
    assert_eq!(enrol(&mut book, 1, 100, minute(2)), withdrawn);
}

#[test]
fn a_name_is_taken_over_on_purpose_alone() {
    let mut book = Book::default();
    // Both are made while nobody has the name.
    book.create_token(ask("vm-1"), number(1), minute(0)).unwrap();
    let shown = shown(&enrol(&mut book, 1, 100, minute(1)).unwrap(), 100);
    book.create_token(Ask { replace: true, ..ask("vm-1") }, number(2), minute(2)).unwrap();
    assert_eq!(enrol(&mut book, 2, 100, minute(3)), Err(EnrolRefused::OldKey));
    let at = enrol(&mut book, 2, 200, minute(3)).map(|_| minute(3)).unwrap();
    let replaced = NotAdmitted::Replaced { name: name("vm-1"), at };
    assert_eq!(book.admit(&shown, minute(4)).map(drop), Err(replaced.clone()));
    // The old machine harms the new one in no way.
    assert_eq!(renew(&mut book, &shown, 101, minute(4)), Err(replaced.into()));
    assert!(book.agent(&name("vm-1")).unwrap().end.is_none());
}

#[test]
fn a_token_made_before_its_name_was_taken_is_refused() {
    let mut book = joined("vm-1");
    let mut other = Book::default();
    other.create_token(ask("vm-1"), number(7), minute(1)).unwrap();
    book.tokens = other.tokens;
    let refused = EnrolRefused::Live { name: name("vm-1") };
    assert_eq!(enrol(&mut book, 7, 300, minute(2)), Err(refused));
    book.revoke(&name("vm-1"), "sold", minute(2)).unwrap();
    assert_eq!(book.tokens().count(), 0, "a revoked machine does not come back by its token");
}

#[test]
fn certificates_are_renewed_within_their_time() {
    let end = 24 * 60 + 1;
    let grace = end + 7 * 24 * 60;
    let late = RenewRefused::TooLate { name: name("vm-1"), at: minute(end) };
    for (what, at, expect) in [
        ("at once", 1, Ok(())),
        ("at half its life", 12 * 60, Ok(())),
        ("after its end", end + 1, Ok(())),
        ("after a week", grace - 1, Ok(())),
        ("too late", grace, Err(late)),
    ] {
        let mut book = joined("vm-1");
        let first = first(&book);
        assert_eq!(renew(&mut book, &first, 101, minute(at)).map(drop), expect, "{what}");
    }
}

#[test]
fn a_renewed_certificate_is_let_in_for_a_while() {
    let mut book = joined("vm-1");
    let first = first(&book);
    let second = shown(&renew(&mut book, &first, 101, minute(60)).unwrap(), 101);
    let overlap = OVERLAP.as_secs() / 60;
    let renewed = NotAdmitted::Renewed { name: name("vm-1"), at: minute(60) };
    let expired = NotAdmitted::Expired { name: name("vm-1"), at: minute(25 * 60) };
    for (what, shown, at, expect) in [
        ("the new one", &second, 60, Ok(())),
        ("the old one", &first, 60, Ok(())),
        ("the old one for a while", &first, 60 + overlap - 1, Ok(())),
        ("the old one later", &first, 60 + overlap, Err(renewed)),
        ("the new one at its end", &second, 25 * 60, Err(expired)),
    ] {
        assert_eq!(book.admit(shown, minute(at)).map(drop), expect, "{what}");
    }
}

#[test]
fn a_lost_answer_is_given_again_and_a_copied_key_freezes() {
    struct Case(&'static str, fn(&mut Book, &Shown) -> Result<Grant, RenewRefused>, bool);
    for Case(what, act, freezes) in [
        Case("the same new key", |book, first| renew(book, first, 101, minute(61)), false),
        Case("another new key", |book, first| renew(book, first, 102, minute(61)), true),
        Case("its own key", |book, first| renew(book, first, 100, minute(61)), true),
        Case(
            "the one before the last, with the last's key",
            |book, first| {
                let held = book.agent(&first.name).unwrap().current;
                let second = Shown { held, ..first.clone() };
                renew(book, &second, 102, minute(120)).unwrap();
                renew(book, first, 101, minute(121))
            },
            true,
        ),
    ] {
        let mut book = joined("vm-1");
        let first = first(&book);
        renew(&mut book, &first, 101, minute(60)).unwrap();
        let before = book.clone();
        let outcome = act(&mut book, &first);
        assert_eq!(book.agent(&first.name).unwrap().end.is_some(), freezes, "{what}: {outcome:?}");
        if freezes {
            assert!(matches!(outcome, Err(RenewRefused::Cloned { .. })), "{what}");
            assert!(book.refuses_more_than(&before), "{what}");
            let admitted = book.admit(&first, minute(62));
            assert!(matches!(admitted, Err(NotAdmitted::Frozen { .. })), "{what}");
        } else {
            assert!(outcome.unwrap().again, "{what}");
            assert_eq!(book, before);
        }
    }
}

#[test]
fn a_new_key_is_new() {
    let mut book = joined("vm-1");
    let first = first(&book);
    assert_eq!(renew(&mut book, &first, 100, minute(60)), Err(RenewRefused::OldKey));
    let second = shown(&renew(&mut book, &first, 101, minute(60)).unwrap(), 101);
    assert_eq!(renew(&mut book, &second, 100, minute(61)), Err(RenewRefused::OldKey));
    assert!(book.agent(&first.name).unwrap().end.is_none());
}

#[test]
fn a_machine_that_renews_without_end_is_slowed_down() {
    let mut book = joined("vm-1");
    let mut held = first(&book);
    let mut count = 0;
    let refused = loop {
        match renew(&mut book, &held, 1_000 + count, minute(60)) {
            Ok(grant) => held = shown(&grant, 1_000 + count),
            Err(refused) => break refused,
        }
        count += 1;
    };
    assert_eq!((refused, count), (RenewRefused::TooOften, 1 + OLDER_MAX as u64));
}

#[test]
fn a_restored_book_takes_up_what_was_renewed_meanwhile() {
    let mut book = joined("vm-1");
    let first = first(&book);
    let backup = book.clone();
    let second = shown(&renew(&mut book, &first, 101, minute(60)).unwrap(), 101);
    let mut book = backup;
    assert!(book.admit(&second, minute(61)).is_ok());
    renew(&mut book, &second, 102, minute(61)).unwrap();
    let copy = renew(&mut book, &first, 103, minute(62));
    assert!(matches!(copy, Err(RenewRefused::Cloned { .. })), "{copy:?}");
}

#[test]
fn who_was_revoked_stays_out_until_he_joins_again() {
    let mut book = joined("vm-1");
    let first = first(&book);
    let before = book.clone();
    assert_eq!(book.revoke(&first.name, "stolen", minute(5)), Ok((Kind::Agent, true)));
    assert_eq!(book.revoke(&first.name, "again", minute(6)), Ok((Kind::Agent, false)));
    assert!(book.refuses_more_than(&before));
    let revoked = NotAdmitted::Revoked { name: first.name.clone(), at: minute(5) };
    assert_eq!(book.admit(&first, minute(7)).map(drop), Err(revoked.clone()));
    assert_eq!(renew(&mut book, &first, 101, minute(7)), Err(revoked.into()));
    assert_eq!(book.revoke(&name("vm-9"), "", minute(7)), Err(UnknownAgent(name("vm-9"))));
    assert_eq!(book.create_token(ask("vm-1"), number(2), minute(8)), Ok(false));
    let again = shown(&enrol(&mut book, 2, 200, minute(9)).unwrap(), 200);
    assert!(book.admit(&again, minute(9)).is_ok());
}

#[test]
fn machines_long_gone_are_forgotten() {
    let mut book = joined("vm-1");
    let day = 24 * 60;
    book.create_token(ask("vm-2"), number(2), minute(38 * day)).unwrap();
    assert_eq!(book.agents().count(), 1);
    book.create_token(ask("vm-2"), number(3), minute(39 * day)).unwrap();
    assert_eq!(book.agents().count(), 0);
}

#[test]
fn what_is_kept_is_read_again_and_has_no_secret() {
    let mut book = joined("vm-1");
    let services = vec!["shop/orders".parse().unwrap()];
    let from = Some("10.0.0.0/24".parse().unwrap());
    let full = Ask { services, from, replace: true, life: TOKEN_LIFE, ..ask("vm-2") };
    book.create_token(full, number(2), minute(0)).unwrap();
    let first = first(&book);
    renew(&mut book, &first, 101, minute(60)).unwrap();
    renew(&mut book, &first, 102, minute(61)).unwrap_err();
    assert_eq!(Book::decode(&book.encode()).unwrap(), book);
    let later = String::from_utf8(book.encode()).unwrap().replace("\"format\":1", "\"format\":3");
    assert!(matches!(Book::decode(later.as_bytes()), Err(CellError::Later(3))));
    assert!(matches!(Book::decode(b"{}"), Err(CellError::Malformed(_))));
}
