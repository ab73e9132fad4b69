//! Short words for the tests.

use super::*;
use crate::identity::TOKEN_LIFE;

/// Some 32 bytes: a key, a secret.
pub(super) fn number(n: u64) -> Digest {
    Digest::of(&n.to_be_bytes())
}

pub(super) fn serial(n: u64) -> Serial {
    let mut random = [0; 16];
    random[8..].copy_from_slice(&n.to_be_bytes());
    Serial::new(random)
}

pub(super) fn name(text: &str) -> MachineName {
    text.parse().unwrap()
}

pub(super) fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub(super) fn minute(n: u64) -> Timestamp {
    Timestamp::from_millis(1_700_000_000_000).after(Duration::from_secs(60 * n))
}

pub(super) fn ask(name: &str) -> Ask {
    Ask {
        name: name.parse().unwrap(),
        kind: Kind::Agent,
        life: TOKEN_LIFE,
        services: Vec::new(),
        from: None,
        replace: false,
        by: "uid:0 (root)".to_owned(),
    }
}

/// `vm-1` uses the token with this secret; its key and serial have one number.
pub(super) fn enrol(
    book: &mut Book,
    secret: u64,
    key: u64,
    now: Timestamp,
) -> Result<Grant, EnrolRefused> {
    book.enrol(Enrolment {
        secret: number(secret),
        name: &name("vm-1"),
        kind: &Kind::Agent,
        source: address("10.0.0.7"),
        key: number(key),
        serial: serial(key),
        now,
    })
}

pub(super) fn renew(
    book: &mut Book,
    shown: &Shown,
    key: u64,
    now: Timestamp,
) -> Result<Grant, RenewRefused> {
    let (key, serial) = (number(key), serial(key));
    book.renew(Renewal { shown, source: address("10.0.0.8"), key, serial, now })
}

/// The certificate of a grant, with this key.
pub(super) fn shown(grant: &Grant, key: u64) -> Shown {
    let issued = grant.not_before.after(SKEW_MAX);
    assert_eq!(grant.not_after, issued.after(LIFE));
    Shown {
        kind: grant.kind.clone(),
        name: grant.name.clone(),
        held: Held { serial: grant.serial, key: number(key), issued },
    }
}

/// A book with one machine, which joined after a minute with key 100.
pub(super) fn joined(machine: &str) -> Book {
    let mut book = Book::default();
    book.create_token(ask(machine), number(1), minute(0)).unwrap();
    enrol(&mut book, 1, 100, minute(1)).unwrap();
    book
}

/// Its certificate.
pub(super) fn first(book: &Book) -> Shown {
    let name = name("vm-1");
    let agent = book.agent(&name).unwrap();
    Shown { kind: agent.kind.clone(), held: agent.current, name }
}
