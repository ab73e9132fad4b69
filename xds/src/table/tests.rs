use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

fn put(name: &str, body: &str) -> Edit {
    let type_url = TypeUrl::from(TypeUrl::CLUSTER);
    let version = Version::of(Token::START, body.as_bytes());
    let encoded = Encoded::new(&type_url, name.into(), version, body.as_bytes());
    let change =
        Change::Put { encoded: Arc::new(encoded), plans: Arc::new([]), needs: Arc::new([]) };
    Edit { scope: "s".into(), type_url, change }
}

fn remove(name: &str) -> Edit {
    let change = Change::Remove(name.into());
    Edit { scope: "s".into(), type_url: TypeUrl::CLUSTER.into(), change }
}

fn table(tables: &Tables) -> &Table {
    tables.table(&"s".into(), &TypeUrl::CLUSTER.into()).unwrap()
}

#[test]
fn putting_what_is_there_changes_nothing() {
    let one = Tables::empty().next(Token::START, Urgency::Ordinary, vec![put("a", "1")]);
    let two = one.next(Token::START.next(), Urgency::Ordinary, vec![put("a", "1")]);
    assert!(Arc::ptr_eq(
        one.table(&"s".into(), &TypeUrl::CLUSTER.into()).unwrap(),
        two.table(&"s".into(), &TypeUrl::CLUSTER.into()).unwrap()
    ));
    assert_eq!((two.generation(), two.urgent()), (Generation(2), Generation(0)));
    assert_eq!(two.token(), Token::START.next());
}

#[test]
fn an_old_token_does_not_take_the_statement_back() {
    let later = Token { incarnation: 1, revision: 9 };
    let one = Tables::empty().next(later, Urgency::Urgent, Vec::new());
    let two = one.next(Token::START, Urgency::Ordinary, Vec::new());
    assert_eq!((two.token(), two.urgent()), (later, Generation(1)));
}

#[test]
fn removed_names_are_forgotten_in_the_end_and_that_is_told() {
    let names: Vec<String> = (0..=Table::GONE_MAX).map(|n| n.to_string()).collect();
    let mut tables = Tables::empty();
    tables = tables.next(
        Token::START,
        Urgency::Ordinary,
        names.iter().map(|name| put(name, "x")).collect(),
    );
    let born = tables.generation();
    tables = tables.next(Token::START, Urgency::Ordinary, vec![remove("0")]);
    let rest = names.iter().skip(1).map(|name| remove(name)).collect();
    tables = tables.next(Token::START, Urgency::Ordinary, rest);
    // Within the newest batches nothing is forgotten.
    assert_eq!(table(&tables).changes(born).gone.len(), names.len());
    for n in 0..Table::RECENT_MAX {
        tables = tables.next(Token::START, Urgency::Ordinary, vec![put("y", &n.to_string())]);
    }
    let changes = table(&tables).changes(born);
    assert!(changes.forgotten);
    assert_eq!(changes.gone.len(), Table::GONE_MAX);
}

#[test]
fn a_withdrawn_table_is_not_there_and_comes_back_knowing_nothing() {
    let edit = |change| Edit { scope: "s".into(), type_url: TypeUrl::CLUSTER.into(), change };
    let next = |tables: &Tables, edits| tables.next(Token::START, Urgency::Ordinary, edits);
    let one = next(&Tables::empty(), vec![put("a", "1"), put("b", "1")]);
    let two = next(&one, vec![remove("a"), remove("b"), edit(Change::Withdraw)]);
    assert!(two.table(&"s".into(), &TypeUrl::CLUSTER.into()).is_none());
    let three = next(&two, vec![edit(Change::Declare), put("a", "1")]);
    // Who had looked before must be told of `b`, which nobody here has heard of.
    let changes = table(&three).changes(one.generation());
    assert_eq!((changes.changed.len(), changes.forgotten), (1, true));
    assert!(!table(&three).changes(two.generation()).forgotten);
    // Within one statement, what follows counts.
    let again = next(&one, vec![remove("a"), edit(Change::Withdraw), put("c", "1")]);
    assert_eq!(table(&again).iter().map(|it| it.name().as_str()).collect::<Vec<_>>(), ["c"]);
}

proptest! {
    /// Whoever applies the changes since any generation to what the table was has what it is.
    #[test]
    fn changes_lead_from_any_generation_to_the_newest(
        steps in prop::collection::vec(
            prop::collection::vec((0u8..12, prop::option::of(0u8..3)), 1..6),
            1..40,
        )
    ) {
        let mut tables = Tables::empty();
        let mut history: Vec<BTreeMap<String, Version>> = vec![BTreeMap::new()];
        for step in steps {
            let edits = step.iter().map(|(name, body)| match body {
                Some(body) => put(&name.to_string(), &body.to_string()),
                None => remove(&name.to_string()),
            });
            tables = tables.next(Token::START, Urgency::Ordinary, edits.collect());
            let now = table(&tables).iter();
            history.push(now.map(|r| (r.name().to_string(), r.version().clone())).collect());
        }
        let newest = history.last().unwrap().clone();
        for (at, state) in history.iter().enumerate() {
            let mut state = state.clone();
            let changes = table(&tables).changes(Generation(at as u64));
            let mut seen = BTreeSet::new();
            for resource in &changes.changed {
                prop_assert!(seen.insert(resource.name().to_string()));
                state.insert(resource.name().to_string(), resource.version().clone());
            }
            for gone in &changes.gone {
                prop_assert!(seen.insert(gone.name.to_string()));
                state.remove(gone.name.as_str());
            }
            prop_assert_eq!(&state, &newest);
        }
        // The hash knows names and versions, not history.
        let again = newest.keys().map(|name| {
            let resource = table(&tables).get(name).unwrap();
            Edit { scope: "s".into(), type_url: TypeUrl::CLUSTER.into(), change: Change::Put {
                encoded: Arc::clone(&resource.encoded), plans: Arc::new([]), needs: Arc::new([]) } }
        });
        let fresh = Tables::empty().next(Token::START, Urgency::Ordinary, again.collect());
        if !newest.is_empty() {
            prop_assert_eq!(table(&fresh).hash(), table(&tables).hash());
        }
        prop_assert_eq!(table(&tables).len(), newest.len());
    }
}
