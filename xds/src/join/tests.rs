//! Tickets are read as they were written, and every slip is told.

use proptest::prelude::*;

use super::read::is_controller;
use super::*;

fn ticket(controllers: &[&str]) -> Ticket {
    Ticket {
        controllers: controllers.iter().map(|&text| text.to_owned()).collect(),
        pin: Pin([7; 32]),
        name: "vm-1".parse().unwrap(),
        kind: Kind::Agent,
        secret: Secret::new([9; 32]),
    }
}

#[test]
fn a_ticket_is_read_as_it_was_written() {
    let longest = "a".repeat(CONTROLLER_BYTES_MAX - 6) + ":65535";
    for controllers in
        [vec!["10.0.0.1:7410"], vec!["[2001:db8::1]:7410", "c.example:1"], vec![&longest; 8]]
    {
        let mut ticket = ticket(&controllers);
        ticket.name = "n".repeat(MachineName::MAX).parse().unwrap();
        let longest = Kind::Gateway("g".repeat(GATEWAY_BYTES_MAX).parse().unwrap());
        for kind in [Kind::Agent, longest] {
            ticket.kind = kind;
            let text = ticket.to_string();
            assert!(text.starts_with(PREFIX) && text.len() <= TICKET_BYTES_MAX, "{}", text.len());
            assert_eq!(text.parse::<Ticket>().as_ref(), Ok(&ticket));
            assert_eq!(format!(" {text}\n").parse::<Ticket>().as_ref(), Ok(&ticket));
        }
    }
}

#[test]
fn the_text_of_a_ticket_never_changes() {
    let text = "cfj1_BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJ\
                CQkJCQkJCQR2bS0xAQ0xMC4wLjAuMTo3NDEwG7RMzA";
    let mut ticket = ticket(&["10.0.0.1:7410"]);
    assert_eq!(ticket.to_string(), text);
    ticket.kind = Kind::Gateway("edge".parse().unwrap());
    let text = "cfj1_BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJ\
                CQkJCQkJCQR2bS0xAQ0xMC4wLjAuMTo3NDEwBGVkZ2UYR49o";
    assert_eq!(ticket.to_string(), text);
}

#[test]
fn each_kind_of_wrong_text_is_told_apart() {
    let right = ticket(&["10.0.0.1:7410"]).to_string();
    let mistyped = right.replacen("BwcH", "BwcI", 1);
    let rewritten = |change: fn(&mut Ticket)| {
        let mut ticket = ticket(&["10.0.0.1:7410"]);
        change(&mut ticket);
        ticket.to_string()
    };
    let cases = [
        ("empty", String::new(), TicketError::Foreign),
        ("another program's", "eyJhbGciOi".to_owned(), TicketError::Foreign),
        ("a word", "cfjam_x".to_owned(), TicketError::Foreign),
        ("a later version", right.replacen("cfj1", "cfj2", 1), TicketError::Version),
        ("only the beginning", PREFIX.to_owned(), TicketError::Altered),
        ("cut", right[..right.len() - 1].to_owned(), TicketError::Altered),
        ("cut by whole bytes", right[..right.len() - 4].to_owned(), TicketError::Altered),
        ("mistyped", mistyped, TicketError::Altered),
        ("other letters", right.to_uppercase().replacen("CFJ", "cfj", 1), TicketError::Altered),
        ("broken over lines", right.replacen("Bwc", "Bw\nc", 1), TicketError::Altered),
        ("too long", format!("{PREFIX}{}", "A".repeat(TICKET_BYTES_MAX)), TicketError::Altered),
        ("no controller", rewritten(|t| t.controllers.clear()), TicketError::Malformed),
        (
            "nine controllers",
            rewritten(|t| t.controllers = vec!["a:1".to_owned(); 9]),
            TicketError::Malformed,
        ),
        (
            "no port",
            rewritten(|t| t.controllers = vec!["10.0.0.1".to_owned()]),
            TicketError::Malformed,
        ),
    ];
    for (what, text, expect) in cases {
        assert_eq!(text.parse::<Ticket>(), Err(expect), "{what}");
    }
}

#[test]
fn controllers_are_hosts_with_ports() {
    for (text, fine) in [
        ("10.0.0.1:7410", true),
        ("controller.example:7410", true),
        ("[::1]:7410", true),
        ("::1:7410", false),
        ("[::1]", false),
        ("a:0", false),
        ("a:+1", false),
        ("a:70000", false),
        (":1", false),
        ("a b:1", false),
        ("http://a:1", false),
    ] {
        assert_eq!(is_controller(text), fine, "{text}");
    }
}

#[test]
fn names_are_plain() {
    for (text, fine) in [
        ("vm-1", true),
        ("orders.legacy", true),
        ("7", true),
        ("", false),
        ("-a", false),
        ("a.", false),
        ("a..b", false),
        ("A", false),
        ("a/b", false),
        ("a_b", false),
        ("é", false),
    ] {
        assert_eq!(text.parse::<MachineName>().is_ok(), fine, "{text}");
    }
    assert!("a".repeat(64).parse::<MachineName>().is_err());
    let name: MachineName = "vm-1".parse().unwrap();
    for (node, covered) in
        [("vm-1", true), ("vm-1/envoy", true), ("vm-10", false), ("vm-1.x", false), ("vm", false)]
    {
        assert_eq!(name.covers(node), covered, "{node}");
    }
}

#[test]
fn pins_are_written_with_their_kind() {
    let pin = Pin::of(b"key");
    assert_eq!(pin.to_string().parse(), Ok(pin));
    assert_eq!("2c70".parse::<Pin>(), Err(PinError));
    assert_eq!(format!("sha256:{}", "g".repeat(64)).parse::<Pin>(), Err(PinError));
}

#[test]
fn a_secret_is_not_printed_by_accident() {
    let text = format!("{:?}", ticket(&["10.0.0.1:7410"]));
    assert!(text.contains("secret: Secret,") || text.contains("secret: Secret }"), "{text}");
    assert!(!text.contains("9, 9"), "{text}");
}

proptest! {
    #[test]
    fn no_text_breaks_the_reader(text in "(cfj1_)?[A-Za-z0-9_-]{0,200}") {
        prop_assert!(text.parse::<Ticket>().is_err());
    }

    #[test]
    fn no_body_breaks_the_reader(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        // What is read is what was written.
        if let Some(ticket) = read::ticket(&body) {
            prop_assert_eq!(read::body(&ticket), body);
        }
    }
}
