//! Agents and gateways never pass for each other.

use super::*;

fn edge(name: &str) -> Kind {
    Kind::Gateway(name.parse().unwrap())
}

fn gateway_ask(name: &str) -> Ask {
    Ask { kind: edge("edge"), ..ask(name) }
}

/// Uses the token with this secret as this.
fn enrol_as(
    book: &mut Book,
    (secret, called, kind): (u64, &str, &Kind),
    key: u64,
    now: Timestamp,
) -> Result<Grant, EnrolRefused> {
    book.enrol(Enrolment {
        secret: number(secret),
        name: &name(called),
        kind,
        source: address("10.0.0.7"),
        key: number(key),
        serial: serial(key),
        now,
    })
}

/// A book with a gateway `vm-1` of `edge`, which joined after a minute with key 100.
fn gateway_joined() -> Book {
    let mut book = Book::default();
    book.create_token(gateway_ask("vm-1"), number(1), minute(0)).unwrap();
    enrol_as(&mut book, (1, "vm-1", &edge("edge")), 100, minute(1)).unwrap();
    book
}

#[test]
fn a_token_is_good_for_what_it_was_made_for() {
    for (what, made, used, fine) in [
        ("an agent's", Kind::Agent, Kind::Agent, true),
        ("a gateway's", edge("edge"), edge("edge"), true),
        ("an agent's by a gateway", Kind::Agent, edge("edge"), false),
        ("a gateway's by an agent", edge("edge"), Kind::Agent, false),
        ("another gateway's", edge("edge"), edge("inner"), false),
    ] {
        let mut book = Book::default();
        let ask = Ask { kind: made.clone(), ..ask("vm-1") };
        book.create_token(ask, number(1), minute(0)).unwrap();
        let before = book.clone();
        let enrolled = enrol_as(&mut book, (1, "vm-1", &used), 100, minute(1));
        if fine {
            assert_eq!(enrolled.unwrap().kind, made, "{what}");
            assert_eq!(book.agent(&name("vm-1")).unwrap().kind, made, "{what}");
            let again = enrol_as(&mut book, (1, "vm-1", &used), 100, minute(2)).unwrap();
            assert_eq!((again.kind, again.again), (made.clone(), true), "{what}");
            let other = if used.is_agent() { edge("edge") } else { Kind::Agent };
            let other = enrol_as(&mut book, (1, "vm-1", &other), 100, minute(2));
            assert_eq!(other, Err(EnrolRefused::Used { at: minute(1) }), "{what}, by another");
        } else {
            assert_eq!(enrolled, Err(EnrolRefused::Unknown), "{what}");
            assert_eq!(book, before, "{what}: it is as good as before");
        }
    }
}

#[test]
fn a_name_belongs_to_one_kind_until_it_is_gone() {
    let taken = |is: Kind, wanted: Kind| Err(TokenRefused::Kind { name: name("vm-1"), is, wanted });
    for (what, book, ask, expect) in [
        (
            "an agent's by a gateway",
            joined("vm-1"),
            gateway_ask("vm-1"),
            taken(Kind::Agent, edge("edge")),
        ),
        (
            "a gateway's by an agent",
            gateway_joined(),
            ask("vm-1"),
            taken(edge("edge"), Kind::Agent),
        ),
        (
            "another gateway's",
            gateway_joined(),
            Ask { kind: edge("inner"), ..ask("vm-1") },
            taken(edge("edge"), edge("inner")),
        ),
    ] {
        for replace in [false, true] {
            let ask = Ask { replace, ..ask.clone() };
            let made = book.clone().create_token(ask, number(2), minute(3));
            assert_eq!(made, expect, "{what}, {replace}");
        }
        // Nothing of a machine that was revoked is let in any more.
        let mut book = book;
        let last = first(&book);
        book.revoke(&name("vm-1"), "moved", minute(4)).unwrap();
        let kind = ask.kind.clone();
        assert_eq!(book.create_token(ask, number(2), minute(5)), Ok(false), "{what}");
        let now = enrol_as(&mut book, (2, "vm-1", &kind), 200, minute(6)).unwrap();
        assert!(book.admit(&shown(&now, 200), minute(7)).is_ok(), "{what}");
        let was = book.admit(&last, minute(7));
        assert!(matches!(was, Err(NotAdmitted::Replaced { .. })), "{what}: {was:?}");
    }
}

#[test]
fn a_token_made_before_its_name_was_taken_by_another_kind_is_refused() {
    for replace in [false, true] {
        let mut book = joined("vm-1");
        let mut other = Book::default();
        other.create_token(Ask { replace, ..gateway_ask("vm-1") }, number(7), minute(1)).unwrap();
        book.tokens = other.tokens;
        let refused = EnrolRefused::Kind { name: name("vm-1"), is: Kind::Agent };
        let enrolled = enrol_as(&mut book, (7, "vm-1", &edge("edge")), 300, minute(2));
        assert_eq!(enrolled, Err(refused), "{replace}");
    }
}

#[test]
fn a_certificate_of_another_kind_is_none_of_this_machine() {
    for (what, book, pretends) in [
        ("an agent as a gateway", joined("vm-1"), edge("edge")),
        ("a gateway as an agent", gateway_joined(), Kind::Agent),
        ("a gateway as another", gateway_joined(), edge("inner")),
    ] {
        let mut book = book;
        let real = first(&book);
        let shown = Shown { kind: pretends.clone(), ..real.clone() };
        let refused = NotAdmitted::Kind { name: name("vm-1"), is: real.kind, shown: pretends };
        assert_eq!(book.admit(&shown, minute(2)).map(drop), Err(refused.clone()), "{what}");
        let before = book.clone();
        assert_eq!(renew(&mut book, &shown, 101, minute(2)), Err(refused.into()), "{what}");
        assert_eq!(book, before, "{what}: the machine goes on");
    }
}

#[test]
fn a_gateway_renews_is_frozen_and_revoked_as_an_agent_is() {
    let day = 24 * 60;
    let mut book = gateway_joined();
    let one = first(&book);
    let renewed = renew(&mut book, &one, 101, minute(6 * day)).unwrap();
    assert_eq!(renewed.kind, edge("edge"), "after a week away");
    assert_eq!(book.agent(&name("vm-1")).unwrap().kind, edge("edge"));
    let two = shown(&renewed, 101);
    assert!(book.admit(&two, minute(6 * day)).is_ok());
    let lost = renew(&mut book, &one, 101, minute(6 * day)).unwrap();
    assert_eq!((lost.again, lost.kind), (true, edge("edge")));
    let copied = renew(&mut book, &one, 102, minute(6 * day));
    assert!(matches!(copied, Err(RenewRefused::Cloned { .. })), "{copied:?}");
    let frozen = book.admit(&two, minute(6 * day));
    assert!(matches!(frozen, Err(NotAdmitted::Frozen { .. })), "{frozen:?}");
    let mut book = gateway_joined();
    let before = book.clone();
    book.revoke(&name("vm-1"), "sold", minute(2)).unwrap();
    assert!(book.refuses_more_than(&before));
    let revoked = book.admit(&one, minute(3));
    assert!(matches!(revoked, Err(NotAdmitted::Revoked { .. })), "{revoked:?}");
}

#[test]
fn a_gateway_is_limited_to_no_services() {
    let services = vec!["shop/orders".parse().unwrap()];
    let mut book = Book::default();
    let ask = Ask { services, ..gateway_ask("edge-1") };
    assert_eq!(book.create_token(ask, number(1), minute(0)), Err(TokenRefused::Unlimited));
    assert_eq!(book, Book::default());
}

#[test]
fn what_was_kept_before_there_were_gateways_is_of_agents() {
    let key = "11".repeat(32);
    let serial = "4b".repeat(16);
    let kept = format!(
        r#"{{"format":1,"tokens":{{"vm-2":{{"secret":"{key}","created":"2023-11-14T22:13:20Z",
        "expires":"2023-11-14T22:28:20Z","replace":false,"by":"uid:0 (root)"}}}},"spent":[],
        "agents":{{"vm-1":{{"joined":"2023-11-14T22:14:20Z","from":"10.0.0.7",
        "current":"{serial} {key} 1700000060000"}}}}}}"#
    );
    let book = Book::decode(kept.as_bytes()).unwrap();
    assert_eq!(book.agent(&name("vm-1")).unwrap().kind, Kind::Agent);
    assert!(book.tokens().all(|(_, token)| token.kind == Kind::Agent));
    assert_eq!(book.tokens().count(), 1);
}

#[test]
fn a_program_that_knows_agents_alone_reads_no_gateway_as_one() {
    let format = |book: &Book| {
        let text = String::from_utf8(book.encode()).unwrap();
        assert_eq!(Book::decode(text.as_bytes()).unwrap(), *book);
        text.split_once(',').unwrap().0.to_owned()
    };
    assert_eq!(format(&joined("vm-1")), r#"{"format":1"#);
    assert!(!String::from_utf8(joined("vm-1").encode()).unwrap().contains("kind"));
    assert_eq!(format(&gateway_joined()), r#"{"format":2"#);
    let mut waits = joined("vm-1");
    waits.create_token(gateway_ask("edge-1"), number(2), minute(2)).unwrap();
    assert_eq!(format(&waits), r#"{"format":2"#);
}
