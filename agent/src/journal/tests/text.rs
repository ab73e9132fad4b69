//! The file itself: what is no journal is refused by name, and no bytes upset its reader.

use std::fs;

use proptest::prelude::*;

use super::super::entry::{self, Action, HEAD, Record, What};
use super::super::{Damage, Journal, OpenError};
use super::tree::{Scratch, path};

fn records() -> Vec<Vec<u8>> {
    let begin = |step| Record { step, what: What::Begin(Action::Directory { path: path("/a/b") }) };
    [begin(1), begin(2), Record { step: 1, what: What::Undone }]
        .iter()
        .map(|record| entry::encode(record).unwrap())
        .collect()
}

#[test]
fn what_is_no_journal_is_refused_with_its_path() {
    let [one, two, undone] = records().try_into().unwrap();
    let mut changed = one.clone();
    changed[30] ^= 1;
    let cases: [(&str, Vec<Vec<u8>>, Damage); 5] = [
        ("another file", vec![b"nameserver 192.0.2.53\n".to_vec()], Damage::Foreign),
        ("a later version", vec![b"crossfade journal 2\n".to_vec()], Damage::Foreign),
        ("a line changed", vec![HEAD.to_vec(), changed, two.clone()], Damage::Line { line: 2 }),
        ("never began", vec![HEAD.to_vec(), undone], Damage::Order { line: 2 }),
        ("not in order", vec![HEAD.to_vec(), two, one], Damage::Order { line: 3 }),
    ];
    for (name, parts, damage) in cases {
        let scratch = Scratch::new();
        fs::create_dir_all(scratch.state()).unwrap();
        let file = scratch.state().join("journal");
        fs::write(&file, parts.concat()).unwrap();
        let error = Journal::open(&scratch.state()).unwrap_err();
        assert!(error.to_string().contains(file.to_str().unwrap()), "{name}: {error}");
        let OpenError::Damaged { damage: found, .. } = error else { panic!("{name}: {error}") };
        assert_eq!(found, damage, "{name}");
        assert_eq!(fs::read(&file).unwrap(), parts.concat(), "{name}: it is left as it is");
    }
}

proptest! {
    #[test]
    fn any_beginning_of_a_journal_is_one(cut in 0..400_usize) {
        let whole = [HEAD.to_vec(), records().concat()].concat();
        let part = &whole[..cut.min(whole.len())];
        let read = entry::decode(part).unwrap();
        prop_assert!(read.whole <= part.len());
        prop_assert_eq!(entry::decode(&part[..read.whole]).unwrap(), read);
    }

    #[test]
    fn no_bytes_upset_the_reader(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = entry::decode(&[HEAD, &bytes].concat());
        let _ = entry::decode(&bytes);
    }
}
