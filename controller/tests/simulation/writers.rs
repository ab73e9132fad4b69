//! Two hundred who write at once through the real pump and a real store, and one who rolls back.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use controller::Handle;
use controller::clock::Clock;
use controller::core::AskError;
use controller::pump::Pump;
use controller::store::{ROWS_MAX, Sqlite, Store};

use crate::recording::Recording;
use plan::spec::Plan;
use plan::{Actor, Ask, Command, Done, Key, PlanName, Record, Scope, Split, Token};

const WRITERS: usize = 200;
const ASKS_EACH: usize = 5;
const ROLLBACKS: usize = 20;

fn ask(command: Command, key: &str, if_revision: Option<u64>) -> Ask {
    let key = Some(Key::try_from(key.to_owned()).unwrap());
    Ask { command, if_revision, key, actor: Actor::new("writer"), reason: None }
}

/// The demo plan under another name, with names of its own.
fn named(name: &str) -> Plan {
    let mut plan = plan::fixture::plan();
    plan.name = name.parse().unwrap();
    plan.zones[0].name = format!("{name}.example").parse().unwrap();
    plan.gates.clear();
    plan.steps.iter_mut().for_each(|step| step.gates.clear());
    for service in &mut plan.services {
        let service = Arc::make_mut(service);
        service.hosts = vec![format!("{}.{name}.example", service.name).parse().unwrap()];
    }
    plan
}

fn shift(plan: &PlanName, percent: usize) -> Command {
    Command::Shift {
        plan: plan.clone(),
        service: None,
        split: Split::from_bp(u16::try_from(percent * 100).unwrap()).unwrap(),
        overrides: BTreeSet::new(),
    }
}

async fn write(
    handle: Handle,
    plan: PlanName,
    writer: usize,
) -> Vec<(Key, Result<Done, AskError>)> {
    let mut answers = Vec::new();
    for number in 0..ASKS_EACH {
        let command = shift(&plan, (writer * 7 + number * 31) % 101);
        let ask = ask(command, &format!("w{writer}-{number}"), None);
        let key = ask.key.clone().unwrap();
        answers.push((key, handle.ask(ask).await));
    }
    answers
}

/// Rolls one plan back again and again; how many appends each time were begun after it was asked
/// for and before its own. One more may have been under way.
async fn roll_back(handle: Handle, store: Arc<Recording>, plan: PlanName) -> Vec<usize> {
    let mut overtook = Vec::new();
    for number in 0..ROLLBACKS {
        let moved = handle.ask(ask(shift(&plan, 50), &format!("up-{number}"), None)).await.unwrap();
        assert!(moved.changed);
        let before = store.begun().len();
        let command = Command::Rollback(Scope::Plan(plan.clone()));
        let done = handle.ask(ask(command, &format!("back-{number}"), None)).await.unwrap();
        let own = store.begun().iter().position(|append| append.contains(&done.token)).unwrap();
        overtook.push(own - before);
        assert!(done.changed);
        assert!(handle.state().token() >= done.token);
        let resume = Command::Resume(plan.clone());
        let revision = Some(done.token.revision);
        handle.ask(ask(resume, &format!("on-{number}"), revision)).await.unwrap();
    }
    overtook
}

/// A directory that goes when the test ends.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("crossfade-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

async fn keys_in(store: &dyn Store) -> BTreeMap<Key, usize> {
    let mut keys = BTreeMap::new();
    let mut after = Token::START;
    loop {
        let rows = store.rows(after, ROWS_MAX).await.unwrap();
        let Some(last) = rows.last() else { return keys };
        after = last.token;
        for row in rows {
            let record = Record::decode(&row.bytes).unwrap();
            let used = record.key.map(|used| used.key);
            used.into_iter().for_each(|key| *keys.entry(key).or_default() += 1);
        }
    }
}

// One thread, so that nothing comes between counting the appends and handing the rollback in.
#[tokio::test(flavor = "current_thread")]
async fn a_rollback_waits_for_one_append_of_others_at_most() {
    let directory = Directory::new("writers");
    let store = Arc::new(Recording::new(Sqlite::open(&directory.0).unwrap()));
    let log: Arc<dyn Store> = Arc::<Recording>::clone(&store);
    let (handle, pump) = Pump::open(log, Clock::start()).await.unwrap();
    let running = pump.run();
    let (busy, other): (PlanName, PlanName) = ("busy".parse().unwrap(), "other".parse().unwrap());
    for name in ["busy", "other"] {
        let command = Command::Apply(Arc::new(named(name)));
        handle.ask(ask(command, &format!("apply-{name}"), None)).await.unwrap();
    }
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| tokio::spawn(write(handle.clone(), busy.clone(), writer)))
        .collect();
    let rolling = roll_back(handle.clone(), Arc::clone(&store), other);
    let overtook = tokio::spawn(rolling).await.unwrap();
    assert_eq!(overtook, [0; ROLLBACKS]);
    let mut answered = Vec::new();
    for writer in writers {
        answered.extend(writer.await.unwrap());
    }
    assert_eq!(answered.len(), WRITERS * ASKS_EACH);
    let keys = keys_in(store.as_ref()).await;
    for (key, answer) in answered {
        let done = answer.unwrap();
        assert_eq!(keys.get(&key).copied().unwrap_or(0), usize::from(done.changed), "{key:?}");
    }
    let numbers = handle.numbers();
    assert!(numbers.appends < numbers.records, "waiting commands share appends");
    handle.audit_verify().await.unwrap();
    running.stop().await;
    let late = handle.ask(ask(shift(&busy, 1), "late", None)).await;
    assert_eq!(late, Err(AskError::Stopped));
}
