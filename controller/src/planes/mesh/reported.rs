//! What receivers of our own report, put together.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use plan::measure::{Names, Note, Stragglers};
use plan::{Count, Counts, Nack, PlanName, Plane, ServiceId, Sink, SinkId, Snapshot, Split};

use xds::Client;

use crate::clock::Clock;
use crate::planes::reports::{Behind, MACHINE_PARTS_MAX, OVERRIDES_MAX, Report, Said};

/// The most receivers whose last report is kept.
const NODES_MAX: usize = 10_000;
/// The most services, sinks and overrides that are kept, of all reports: some 300 MB.
const PARTS_MAX: usize = 1_000_000;

/// The most changes of break-glass of one machine that the log has in [`LINES_TIME`]: all that a
/// report may have, and some.
const LINES_MAX: usize = OVERRIDES_MAX + 64;
const LINES_TIME: Duration = Duration::from_secs(60);

/// The last report of each receiver that is connected.
#[derive(Debug, Default)]
pub(super) struct Reported {
    nodes: HashMap<Arc<str>, Report>,
    parts: usize,
    machines: HashMap<Arc<str>, Machine>,
}

/// What is kept of a machine, and what was told of it a moment ago. Who was not proved to be one is
/// one of its own.
#[derive(Debug, Default)]
struct Machine {
    nodes: usize,
    parts: usize,
    /// Lines in the log, and since when they are counted.
    lines: (Duration, usize),
    /// The log has that not all is kept of it.
    told: bool,
}

impl Reported {
    /// Takes up a report in place of the one before. What is newly in force is logged.
    pub(super) fn take(&mut self, said: Said, now: Duration) {
        let (id, name) = (Arc::clone(&said.client.id), machine_of(&said.client));
        let Some(report) = said.report else { return self.forget(&id, &name) };
        if self.machines.len() >= 2 * NODES_MAX {
            // Those that are gone are kept for what was told of them alone.
            self.machines.retain(|_, machine| machine.nodes > 0 || machine.is_counted(now));
        }
        let machine = self.machines.entry(name).or_default();
        let before = self.nodes.get(&id);
        machine.tell(&id, before, &report, now);
        let was = before.map_or(0, Report::parts);
        let replaced = |sum: usize| sum.saturating_sub(was).saturating_add(report.parts());
        let (all, own) = (replaced(self.parts), replaced(machine.parts));
        let is_new = before.is_none();
        if is_new && self.nodes.len() >= NODES_MAX || all > PARTS_MAX || own > MACHINE_PARTS_MAX {
            machine.tell_once(&id, "there is no room for its report; an older one may be kept");
            return;
        }
        self.parts = all;
        machine.parts = own;
        machine.nodes += usize::from(is_new);
        self.nodes.insert(id, report);
    }

    /// Its stream has ended.
    fn forget(&mut self, id: &str, name: &str) {
        let Some(gone) = self.nodes.remove(id) else { return };
        self.parts = self.parts.saturating_sub(gone.parts());
        if let Some(machine) = self.machines.get_mut(name) {
            machine.parts = machine.parts.saturating_sub(gone.parts());
            machine.nodes = machine.nodes.saturating_sub(1);
        }
    }

    /// The clients of relays, as sinks that the plans expect which their relay has.
    pub(super) fn behind<'a>(
        &'a self,
        clock: Clock,
        plans_of: impl Fn(&str) -> Option<BTreeSet<PlanName>> + 'a,
    ) -> impl Iterator<Item = Sink> + 'a {
        self.nodes.iter().flat_map(move |(relay, report)| {
            let plans = plans_of(relay).unwrap_or_default();
            report.sinks.iter().map(move |behind| sink(relay, behind, plans.clone(), clock))
        })
    }

    /// What they counted in a plane, under the splits that this snapshot has.
    ///
    /// Client keys that were seen at several receivers count at each: keys cannot be told apart
    /// from here.
    pub(super) fn counts(&self, plane: Plane, snapshot: &Snapshot) -> Counts {
        let mut services: BTreeMap<ServiceId, Count> = BTreeMap::new();
        for report in self.nodes.values() {
            for (_, id, since, count) in report.counts.iter().filter(|(p, ..)| *p == plane) {
                let now = snapshot.service(id).map(|leaf| leaf.since);
                if now != Some(*since) {
                    continue;
                }
                let sum = services.entry(id.clone()).or_default();
                *sum = sum.plus(count);
            }
        }
        let names = self.nodes.values().filter(|_| plane == Plane::Host).map(|report| report.names);
        Counts {
            services: Arc::new(services),
            stragglers: self.stragglers(plane, snapshot),
            names: names.fold(Names::default(), Names::plus),
            notes: self.notes(plane),
        }
    }
}

impl Machine {
    /// What of break-glass is new in this report, or not in it any more.
    fn tell(&mut self, id: &str, before: Option<&Report>, report: &Report, now: Duration) {
        if report.left_out > 0 {
            self.tell_once(id, "there is too much break-glass, or too many proxies, in its report");
        }
        let nothing = BTreeSet::new();
        let before = before.map_or(&nothing, |before| &before.overrides);
        for found in report.overrides.difference(before) {
            if self.has_line(id, now) {
                tracing::warn!(sink = %id, what = %found, "break-glass is in force");
            }
        }
        for ended in before.difference(&report.overrides) {
            if self.has_line(id, now) {
                tracing::info!(sink = %id, what = %ended, "break-glass has ended");
            }
        }
    }

    /// Whether the log takes one more line of it.
    fn has_line(&mut self, id: &str, now: Duration) -> bool {
        if !self.is_counted(now) {
            self.lines = (now, 0);
        }
        let (_, lines) = &mut self.lines;
        *lines += 1;
        if *lines == LINES_MAX + 1 {
            let what = "break-glass changes so fast that the log has no more of it for a minute";
            tracing::warn!(sink = %id, what);
        }
        *lines <= LINES_MAX
    }

    fn is_counted(&self, now: Duration) -> bool {
        let (since, lines) = self.lines;
        lines > 0 && now.saturating_sub(since) < LINES_TIME
    }

    fn tell_once(&mut self, id: &str, why: &str) {
        if !std::mem::replace(&mut self.told, true) {
            tracing::warn!(sink = %id, why, "not all that a receiver reports is taken");
        }
    }
}

/// What a machine is called; a client that was not proved to be one goes by its node id.
fn machine_of(client: &Client) -> Arc<str> {
    client.identity.as_ref().map_or_else(|| Arc::clone(&client.id), |it| it.name.as_str().into())
}

impl Reported {
    /// Who still reaches legacy VMs of services that are at exactly 100 %: agents see that.
    fn stragglers(
        &self,
        plane: Plane,
        snapshot: &Snapshot,
    ) -> Arc<BTreeMap<ServiceId, Stragglers>> {
        let mut sums: BTreeMap<ServiceId, Stragglers> = BTreeMap::new();
        let reports = self.nodes.values().filter(|_| plane == Plane::Host);
        for (id, seen) in reports.flat_map(|report| &report.stragglers) {
            let split = snapshot.service(id).map(|leaf| leaf.serving.split());
            if split != Some(Split::TARGET) {
                continue;
            }
            let sum = sums.entry(id.clone()).or_default();
            *sum = sum.plus(seen);
        }
        Arc::new(sums)
    }

    /// What agents do otherwise than the plan asks.
    fn notes(&self, plane: Plane) -> Arc<BTreeMap<ServiceId, BTreeSet<Note>>> {
        let mut notes: BTreeMap<ServiceId, BTreeSet<Note>> = BTreeMap::new();
        for (sink, report) in self.nodes.iter().filter(|_| plane == Plane::Host) {
            for (id, words) in &report.notes {
                let note = Note { sink: Arc::clone(sink), words: Arc::clone(words) };
                note.list(notes.entry(id.clone()).or_default());
            }
        }
        Arc::new(notes)
    }
}

fn sink(relay: &str, behind: &Behind, plans: BTreeSet<PlanName>, clock: Clock) -> Sink {
    let ago = |length: Duration| {
        let millis = i64::try_from(length.as_millis()).unwrap_or(i64::MAX);
        plan::Timestamp::from_millis(clock.now().millis().saturating_sub(millis))
    };
    Sink {
        id: SinkId::new(&format!("{relay}/{}", behind.id)),
        plane: Plane::Mesh,
        kind: behind.agent.to_ascii_lowercase(),
        version: behind.version.clone(),
        plans: Some(plans),
        since: Some(ago(behind.connected)),
        left: None,
        acked: behind.acked,
        owes: behind.owes.clone(),
        nack: behind.nack.as_ref().map(|(token, plans, detail, age)| Nack {
            token: *token,
            plans: plans.clone(),
            detail: detail.clone(),
            at: ago(*age),
        }),
    }
}

#[cfg(test)]
mod tests {
    use plan::{ServiceId, Token};
    use xds::client::Identity;
    use xds::join::Kind;

    use super::*;
    use crate::planes::reports::InForce;

    const AT: Duration = Duration::from_secs(100);

    fn client(machine: Option<&str>, id: &str) -> Arc<Client> {
        let identity =
            |name: &str| Arc::new(Identity { kind: Kind::Agent, name: name.parse().unwrap() });
        Arc::new(Client {
            id: id.into(),
            cluster: "".into(),
            says: BTreeMap::new(),
            agent: "".into(),
            version: None,
            identity: machine.map(identity),
        })
    }

    fn counts(parts: usize) -> Report {
        let id: ServiceId = "shop/orders".parse().unwrap();
        let one = (Plane::Host, id, Token::START, Count::default());
        Report { counts: vec![one; parts], ..Report::default() }
    }

    #[test]
    fn one_machine_takes_nobody_elses_room() {
        let mut reported = Reported::default();
        let mut say = |machine: &str, id: &str, report: Option<Report>| {
            reported.take(Said { client: client(Some(machine), id), report }, AT);
            (reported.nodes.len(), reported.parts)
        };
        let half = MACHINE_PARTS_MAX / 2;
        for n in 0..100 {
            say("vm-1", &format!("vm-1/{n}"), Some(counts(half)));
        }
        assert_eq!(say("vm-1", "vm-1/99", Some(counts(half))), (2, 2 * half));
        assert_eq!(say("vm-2", "vm-2", Some(counts(half))), (3, 3 * half));
        assert_eq!(say("vm-1", "vm-1/0", Some(counts(1))), (3, 2 * half + 1));
        assert_eq!(say("vm-1", "vm-1/0", None), (2, 2 * half));
        assert_eq!(say("vm-1", "vm-1/99", Some(counts(half))), (3, 3 * half), "there is room");
        for id in ["vm-1/0", "vm-1/1", "vm-1/99", "vm-2"] {
            say(id.split('/').next().unwrap(), id, None);
        }
        assert_eq!((reported.nodes.len(), reported.parts), (0, 0));
        assert!(reported.machines.values().all(|it| (it.nodes, it.parts) == (0, 0)));
    }

    #[test]
    fn the_log_has_only_so_many_lines_of_a_machine() {
        let mut machine = Machine::default();
        let lines = |machine: &mut Machine, at| {
            (0..10_000).filter(|_| machine.has_line("vm-1", at)).count()
        };
        assert_eq!(lines(&mut machine, AT), LINES_MAX);
        assert_eq!(lines(&mut machine, AT + LINES_TIME / 2), 0);
        assert_eq!(lines(&mut machine, AT + LINES_TIME), LINES_MAX);
    }

    /// Each report has other break-glass than the one before, as often as that can be said.
    #[test]
    fn break_glass_that_changes_all_the_time_holds_nobody_up() {
        let mut reported = Reported::default();
        let overrides = |from: usize| (from..from + OVERRIDES_MAX).map(InForce::number).collect();
        for n in 0..1_000 {
            let report = Report { overrides: overrides(n * OVERRIDES_MAX), ..Report::default() };
            reported.take(Said { client: client(None, "a"), report: Some(report) }, AT);
        }
        assert_eq!(reported.nodes.len(), 1);
        let machine = &reported.machines["a"];
        assert!(machine.lines.1 > LINES_MAX && machine.parts == OVERRIDES_MAX);
    }
}
