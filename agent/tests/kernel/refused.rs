//! What must not be done, and leaves the host as it was.

use agent::dataplane::{Adopted, Dataplane as _, DataplaneError, Ownership};
use agent::rules::{Action, Chain, Hook, Table};

use crate::netns::{Space, allowed};
use crate::owner::without_rights;
use crate::tables::{SHAPE, empty, every_word, name, open, regular, rule, service};

/// What is wrong, the table, and whether it is told as what it is.
struct Case(&'static str, Table, fn(&DataplaneError) -> bool);

#[test]
fn a_table_of_others_is_left_alone() {
    if !allowed("a_table_of_others_is_left_alone") {
        return;
    }
    for comment in ["", "comment \"somebody else's\";"] {
        let space = Space::new("vm");
        let foreign = format!("table inet crossfade {{ {comment}\nchain orders {{ accept; }}\n}}");
        assert!(space.nft_file(&foreign).status.success());
        let before = space.run("nft", &["-a", "list", "ruleset"]);
        let mut netlink = space.enter(|| open(Ownership::Persistent));
        for error in [
            netlink.adopt().unwrap_err(),
            netlink.commit(&service(SHAPE)).unwrap_err(),
            netlink.remove().unwrap_err(),
        ] {
            assert!(matches!(error, DataplaneError::Foreign { .. }), "{error}");
        }
        assert_eq!(space.run("nft", &["-a", "list", "ruleset"]), before);
    }
}

#[test]
fn what_the_kernel_refuses_changes_nothing() {
    if !allowed("what_the_kernel_refuses_changes_nothing") {
        return;
    }
    let space = Space::new("vm");
    let mut netlink = space.enter(|| open(Ownership::Persistent));
    assert_eq!(netlink.adopt().unwrap(), Adopted::Absent);
    let bad = |spoil: &dyn Fn(&mut Table)| {
        let mut table = every_word();
        spoil(&mut table);
        table
    };
    let here = |table: &mut Table, action| {
        table.chains.insert(name("orders"), regular(vec![rule(vec![], vec![action])]).into());
    };
    let cases: [Case; 6] = [
        Case(
            "a loop of chains",
            bad(&|table| here(table, Action::Goto(name("orders")))),
            |error| matches!(error, DataplaneError::Refused { .. }),
        ),
        Case(
            "masquerade of what arrives",
            bad(&|table| here(table, Action::Masquerade)),
            |error| matches!(error, DataplaneError::Refused { .. }),
        ),
        Case(
            "a chain that is not there",
            bad(&|table| here(table, Action::Goto(name("nowhere")))),
            |error| matches!(error, DataplaneError::Dangling(_)),
        ),
        Case(
            "a map that leads nowhere",
            bad(&|table| drop(table.chains.remove(&name("orders")))),
            |error| matches!(error, DataplaneError::Dangling(_)),
        ),
        Case("without our sign", bad(&|table| table.comment = "mine".into()), |error| {
            matches!(error, DataplaneError::Unsigned)
        }),
        Case("another name", bad(&|table| table.name = name("other")), |error| {
            matches!(error, DataplaneError::WrongTable(_))
        }),
    ];
    for first in [None, Some(service(SHAPE)), Some(empty())] {
        if let Some(table) = &first {
            netlink.commit(table).unwrap();
        }
        let before = space.run("nft", &["-a", "list", "ruleset"]);
        for Case(what, table, is) in &cases {
            let error = netlink.commit(table).unwrap_err();
            assert!(is(&error), "{what}: {error:?}");
            assert_eq!(space.run("nft", &["-a", "list", "ruleset"]), before, "{what}");
        }
    }
}

/// More messages than the kernel can keep answers for.
const MANY: usize = 30_000;

/// The kernel answers each message of a large table with an error. The first is the reason.
#[test]
fn of_a_large_table_the_first_reason_is_told_and_the_kernel_is_heard_after_it() {
    if !allowed("of_a_large_table_the_first_reason_is_told_and_the_kernel_is_heard_after_it") {
        return;
    }
    let space = Space::new("vm");
    let mut large = service(SHAPE);
    // No flow can be translated before it is tracked: without the chain no rule of it is taken.
    let rules = vec![rule(vec![], vec![Action::Accept]); MANY];
    large
        .chains
        .insert(name("early"), Chain { hook: Some((Hook::Prerouting, -300)), rules }.into());
    for first in [None, Some(service(SHAPE))] {
        let mut netlink = space.enter(|| open(Ownership::Persistent));
        if let Some(table) = &first {
            netlink.commit(table).unwrap();
        }
        let before = space.run("nft", &["-a", "list", "ruleset"]);
        let error = netlink.commit(&large).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the kernel refused to make chain `early`: EOPNOTSUPP: \
             Operation not supported on transport endpoint"
        );
        let DataplaneError::Refused { part, .. } = error else { panic!("{error}") };
        assert_eq!(part.as_deref(), Some("early"));
        // What was left unread would be taken for the answer to this.
        assert_eq!(netlink.adopt().unwrap() == Adopted::Absent, first.is_none());
        assert_eq!(space.run("nft", &["-a", "list", "ruleset"]), before);
        netlink.commit(&service(SHAPE)).unwrap();
        assert!(netlink.remove().unwrap());
    }
}

#[test]
fn without_rights_it_is_said_and_nothing_is_done() {
    if !allowed("without_rights_it_is_said_and_nothing_is_done") {
        return;
    }
    let space = Space::new("vm");
    let output = without_rights(&space).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("held: Err(NotAllowed)"), "{text}");
    assert_eq!(space.run("nft", &["list", "ruleset"]), "");
}
