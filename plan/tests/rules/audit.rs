//! `audit verify`: an edited, dropped or reordered record is found, and where.

use std::borrow::Cow;

use plan::record::{AuditError, AuditProblem, verify};
use plan::{Record, Token};

use crate::run::at_step;

fn rows(log: &[Record]) -> Vec<(Token, Vec<u8>)> {
    log.iter().map(|record| (record.token, record.encode())).collect()
}

fn check(rows: &[(Token, Vec<u8>)]) -> Result<plan::record::Verified, AuditError> {
    verify(rows.iter().map(|(token, bytes)| (*token, Cow::Borrowed(bytes.as_slice()))))
}

#[test]
fn the_first_bad_record_is_named() {
    let world = at_step(2);
    let (head, digest) = (world.state.token(), world.state.digest());
    let honest = rows(&world.log);
    let verified = check(&honest).unwrap().against(head, digest).unwrap();
    assert_eq!(verified.records, world.state.token().revision);

    let mut edited = world.log.clone();
    edited[1].at = edited[1].at.after(std::time::Duration::from_secs(1));
    let error = check(&rows(&edited)).unwrap_err();
    assert_eq!((error.token, error.what), (world.log[2].token, AuditProblem::Parent));

    let mut dropped = honest.clone();
    dropped.remove(1);
    let error = check(&dropped).unwrap_err();
    assert_eq!(error.token, world.log[2].token);
    assert!(matches!(error.what, AuditProblem::Order(_)));

    let mut swapped = honest.clone();
    swapped.swap(1, 2);
    assert_eq!(check(&swapped).unwrap_err().token, world.log[2].token);

    let mut spaced = honest.clone();
    spaced[1].1.push(b' ');
    assert_eq!(check(&spaced).unwrap_err().what, AuditProblem::Bytes);

    let mut renumbered = honest.clone();
    renumbered[1].0 = Token { incarnation: 1, revision: 99 };
    assert!(matches!(check(&renumbered).unwrap_err().what, AuditProblem::Number(_)));

    let mut cut = honest;
    cut.pop();
    let error = check(&cut).unwrap().against(head, digest).unwrap_err();
    assert!(matches!(error.what, AuditProblem::Head { .. }));
}
