//! Two processes that report as one machine at once: its key was copied, disk and all.
//!
//! A machine has one process for each role and node id, and that has one stream of reports. When it
//! connects anew, what it had said before on the old connection may still arrive, late, and in
//! pieces where the network is bad; it may even arrive so late that the old stream begins here
//! after the new one. But then one of the two soon says nothing more. So only where both go on in
//! turns, for seconds, and seconds after the newer one began, there is another process.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use xds::join::MachineName;

/// How long the newer stream is there before it counts, and how long both go on from then. Reports
/// come every second.
pub(super) const APART: Duration = Duration::from_secs(5);

/// How many times the older one says something after the newer one did: what a connection that was
/// given up still brings comes in fewer pieces.
const TURNS: u32 = 5;

/// The streams that machines report on: no more than the server has.
#[derive(Debug, Default)]
pub(super) struct Copies {
    streams: BTreeMap<Who, BTreeMap<u64, Stream>>,
    /// Counts what was said.
    said: u64,
}

/// A machine, and what its process is there for and calls itself: whoever runs another relay below
/// the machine's name has not copied it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Who {
    pub(super) name: MachineName,
    pub(super) role: String,
    pub(super) id: String,
}

#[derive(Debug)]
struct Stream {
    from: IpAddr,
    /// When it first said something.
    began: Duration,
    /// Which of all that was said it said last.
    last: u64,
    /// When it first said something after a newer one that had been there for long enough, and how
    /// many times it did.
    turns: Option<(Duration, u32)>,
}

impl Copies {
    /// Something was said on this stream; newer ones have higher numbers. From where the machine
    /// and its copy talk, if there is one.
    pub(super) fn heard(
        &mut self,
        who: &Who,
        number: u64,
        from: IpAddr,
        now: Duration,
    ) -> Option<[IpAddr; 2]> {
        self.said = self.said.wrapping_add(1);
        if !self.streams.contains_key(who) {
            self.streams.insert(who.clone(), BTreeMap::new());
        }
        let streams = self.streams.get_mut(who)?;
        let long_ago = |then: Duration| now.saturating_sub(then) >= APART;
        let newer = streams.range(number.saturating_add(1)..).map(|(_, one)| one);
        let newer = newer.filter(|one| long_ago(one.began)).max_by_key(|one| one.last);
        let newer = newer.map(|one| (one.from, one.last));
        let new = || Stream { from, began: now, last: 0, turns: None };
        let stream = streams.entry(number).or_insert_with(new);
        let before = std::mem::replace(&mut stream.last, self.said);
        let (newer, _) = newer.filter(|(_, last)| *last > before)?;
        let (first, turns) = stream.turns.unwrap_or((now, 0));
        let turns = turns.saturating_add(1);
        stream.turns = Some((first, turns));
        (turns >= TURNS && long_ago(first)).then_some([stream.from, newer])
    }

    /// It says nothing more.
    pub(super) fn ended(&mut self, who: &Who, number: u64) {
        let Some(streams) = self.streams.get_mut(who) else { return };
        streams.remove(&number);
        // Whatever it was, those before it are alone again.
        streams.range_mut(..number).for_each(|(_, older)| older.turns = None);
        if streams.is_empty() {
            self.streams.remove(who);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    enum Event {
        Says(&'static str, u64),
        Ends(&'static str, u64),
    }
    use Event::{Ends, Says};

    /// Seconds, what happens then, and whether a copy is found.
    struct Case(&'static str, Vec<(u64, Event, bool)>);

    fn who(role: &str) -> Who {
        let id = format!("vm-1/{role}");
        Who { name: "vm-1".parse().unwrap(), role: role.to_owned(), id }
    }

    fn every_second(streams: &[u64], seconds: std::ops::Range<u64>) -> Vec<(u64, Event, bool)> {
        let says = |second| streams.iter().map(move |one| (second, Says("agent", *one), false));
        seconds.flat_map(says).collect()
    }

    #[test]
    fn only_one_that_goes_on_beside_a_newer_one_is_a_copy() {
        let mut copied = every_second(&[1, 2], 0..10);
        copied.push((10, Says("agent", 1), true));
        copied.push((11, Says("agent", 2), false));
        copied.push((11, Says("agent", 1), true));
        let mut leaves = every_second(&[1, 2], 0..9);
        leaves.push((9, Ends("agent", 2), false));
        leaves.extend(every_second(&[1], 10..30));
        leaves.extend(every_second(&[1, 3], 30..35));
        let cases = [
            Case("one alone", every_second(&[1], 0..60)),
            Case("one after the other", {
                let mut events = every_second(&[1], 0..20);
                events.extend(every_second(&[2], 20..60));
                events
            }),
            Case(
                "late words of the old connection, all at once",
                vec![
                    (0, Says("agent", 1), false),
                    (10, Says("agent", 2), false),
                    (70, Says("agent", 1), false),
                    (70, Says("agent", 1), false),
                    (71, Ends("agent", 1), false),
                    (90, Says("agent", 2), false),
                ],
            ),
            Case("an old connection whose words come in pieces", {
                let mut events = every_second(&[2], 10..60);
                events.extend([0, 16, 22, 29, 39].map(|second| (second, Says("agent", 1), false)));
                events.sort_by_key(|(second, ..)| *second);
                events
            }),
            Case("an old connection that arrives after the new one, and hangs", {
                let mut events = every_second(&[1], 0..60);
                events.push((10, Says("agent", 2), false));
                events.sort_by_key(|(second, ..)| *second);
                events
            }),
            Case("two roles of one machine", {
                let says =
                    |second| [(second, Says("agent", 1), false), (second, Says("relay", 2), false)];
                (0..60).flat_map(says).collect()
            }),
            Case("a copy", copied),
            Case("a copy that went in time", leaves),
        ];
        for Case(what, events) in cases {
            let mut copies = Copies::default();
            for (second, event, found) in events {
                let (now, from) = (Duration::from_secs(second), [10, 0, 0, 1].into());
                match event {
                    Says(role, number) => {
                        let heard = copies.heard(&who(role), number, from, now);
                        assert_eq!(heard.is_some(), found, "{what} at {second} s");
                    }
                    Ends(role, number) => copies.ended(&who(role), number),
                }
            }
        }
        let mut copies = Copies::default();
        copies.heard(&who("agent"), 1, [10, 0, 0, 1].into(), APART);
        copies.ended(&who("agent"), 1);
        assert!(copies.streams.is_empty());
    }
}
