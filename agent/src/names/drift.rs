//! When the way by which the host asks the stub no longer works: wait, then choose another, but not
//! for ever.
//!
//! | the way that was chosen | what is done |
//! |---|---|
//! | works | it is kept |
//! | is [`How::Hosts`], and a better one works | that one, after [`STEADY`] |
//! | does not work: its program is set up otherwise | another, after [`SETTLED`] |
//! | does not work: its program is away | another, after [`BACK`] |
//! | does not work, and neither does another | it is kept |
//!
//! Pure: time comes as an argument.

use std::collections::VecDeque;
use std::time::Duration;

use super::integrate::{How, Lapsed};

/// How long a way must not have worked where its program is set up otherwise: who changes a setting
/// may write a file twice.
pub const SETTLED: Duration = Duration::from_secs(2);

/// The same where its program is away: a package upgrade stops it until its files are unpacked, and
/// a way that it comes back to needs no change.
pub const BACK: Duration = Duration::from_mins(1);

/// How long a better way than `/etc/hosts` must work before it is taken: nothing is lost meanwhile
/// but weights.
pub const STEADY: Duration = Duration::from_secs(15);

/// Changes within [`WITHIN`] after which the way is kept, whatever it is: each writes files and has
/// a resolver read them again, and who changes its settings that often is a loop. Half of them may
/// be for the better, so that there is always one left for the worse.
pub const TURNS_MAX: usize = 6;

/// The time in which so many changes are a loop: an operator who tries settings makes fewer.
pub const WITHIN: Duration = Duration::from_mins(10);

/// Remembers since when the way does not work, and when it was changed.
#[derive(Debug, Default)]
pub struct Drift {
    lapsed: Option<Duration>,
    better: Option<Duration>,
    turns: VecDeque<Duration>,
}

/// What to do about the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// It stays.
    Keep,
    /// It is looked at again after this time.
    Wait(Duration),
    /// The other way is taken from now on.
    Turn,
    /// It does not work, but was changed too often; it is looked at again after this time.
    Limited(Duration),
}

impl Drift {
    /// Judges at `now`, a time since any fixed moment: the way `how`, what is wrong with it, and
    /// what the table chooses in its place.
    pub fn judge(
        &mut self,
        now: Duration,
        how: How,
        lapsed: Option<&Lapsed>,
        other: Option<How>,
    ) -> Act {
        while self.turns.front().is_some_and(|turn| *turn + WITHIN <= now) {
            self.turns.pop_front();
        }
        let Some(lapsed) = lapsed else {
            self.lapsed = None;
            if how != How::Hosts || other.is_none_or(|other| other >= How::Hosts) {
                self.better = None;
                return Act::Keep;
            }
            let since = *self.better.get_or_insert(now);
            if self.turns.len() >= TURNS_MAX / 2 {
                return Act::Keep;
            }
            return self.after(STEADY, since, now);
        };
        self.better = None;
        let since = *self.lapsed.get_or_insert(now);
        if other.is_none_or(|other| other == how) {
            return Act::Keep;
        }
        if let (TURNS_MAX.., Some(first)) = (self.turns.len(), self.turns.front()) {
            return Act::Limited((*first + WITHIN).saturating_sub(now));
        }
        self.after(if lapsed.is_away { BACK } else { SETTLED }, since, now)
    }

    /// How long the way has not worked, as of the last judgement.
    #[must_use]
    pub fn lapsed_for(&self, now: Duration) -> Option<Duration> {
        self.lapsed.map(|since| now.saturating_sub(since))
    }

    fn after(&mut self, patience: Duration, since: Duration, now: Duration) -> Act {
        let waited = now.saturating_sub(since);
        if waited < patience {
            return Act::Wait(patience.saturating_sub(waited));
        }
        (self.lapsed, self.better) = (None, None);
        self.turns.push_back(now);
        Act::Turn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn lapsed(how: How, is_away: bool) -> Lapsed {
        Lapsed { how, is_away, why: "it is otherwise".to_owned() }
    }

    #[test]
    fn a_way_that_no_longer_fits_gives_way_after_a_while() {
        struct Case {
            name: &'static str,
            is_away: bool,
            other: Option<How>,
            turns_after: Option<u64>,
        }
        let other = Some(How::Hosts);
        for Case { name, is_away, other, turns_after } in [
            Case { name: "set up otherwise", is_away: false, other, turns_after: Some(2) },
            Case { name: "away", is_away: true, other, turns_after: Some(60) },
            Case { name: "no other", is_away: false, other: None, turns_after: None },
            Case {
                name: "works again as the table is asked",
                is_away: false,
                other: Some(How::DropIn),
                turns_after: None,
            },
        ] {
            let mut drift = Drift::default();
            let lapsed = lapsed(How::DropIn, is_away);
            let mut judge = |second| drift.judge(at(second), How::DropIn, Some(&lapsed), other);
            let found = (10..200).find(|second| judge(*second) == Act::Turn);
            assert_eq!(found.map(|second| second - 10), turns_after, "{name}");
        }
    }

    #[test]
    fn a_resolver_that_restarts_is_waited_for_each_time() {
        let mut drift = Drift::default();
        let away = lapsed(How::DropIn, true);
        for second in 0..1_000 {
            // A minute short of a second away, then back for a second.
            let lapsed = (second % 60 != 0).then_some(&away);
            let act = drift.judge(at(second), How::DropIn, lapsed, Some(How::Hosts));
            assert!(act != Act::Turn, "{second}");
        }
        assert_eq!(drift.lapsed_for(at(999)), Some(at(38)));
    }

    #[test]
    fn only_hosts_gives_way_to_a_better_one_and_once_that_is_steady() {
        let mut drift = Drift::default();
        for (second, how, better, act) in [
            (0, How::DropIn, Some(How::Delegate), Act::Keep),
            (0, How::Hosts, Some(How::Hosts), Act::Keep),
            (0, How::Hosts, None, Act::Keep),
            (1, How::Hosts, Some(How::DropIn), Act::Wait(STEADY)),
            (10, How::Hosts, None, Act::Keep),
            (11, How::Hosts, Some(How::DropIn), Act::Wait(STEADY)),
            (25, How::Hosts, Some(How::DropIn), Act::Wait(at(1))),
            (26, How::Hosts, Some(How::DropIn), Act::Turn),
        ] {
            assert_eq!(drift.judge(at(second), how, None, better), act, "{second}");
        }
    }

    /// A resolver whose settings change every 20 s, looked at each second.
    #[test]
    fn who_changes_it_again_and_again_ends_where_names_are_answered() {
        let mut drift = Drift::default();
        let (mut how, mut turns, mut unanswered) = (How::DropIn, Vec::new(), 0);
        for second in 0..1_800 {
            let is_plain = (second / 20) % 2 == 0;
            let is_lapsed = how == How::DropIn && !is_plain;
            let lapsed = is_lapsed.then(|| lapsed(how, false));
            let other = if is_plain { How::DropIn } else { How::Hosts };
            if drift.judge(at(second), how, lapsed.as_ref(), Some(other)) == Act::Turn {
                (how, turns) = (other, [turns, vec![second]].concat());
            }
            unanswered += u64::from(is_lapsed);
        }
        for first in &turns {
            let within = turns.iter().filter(|turn| (*first..*first + 600).contains(*turn));
            assert!(within.count() <= TURNS_MAX, "{turns:?}");
        }
        assert!(turns.len() >= 6, "{turns:?}");
        assert!(unanswered <= turns.len() as u64 * 3, "{unanswered} s, {turns:?}");
    }

    #[test]
    fn ways_that_fail_in_turn_are_changed_so_often_and_no_more() {
        let mut drift = Drift::default();
        let (mut how, mut other) = (How::NetworkManager, How::ResolvConf);
        let mut turns = Vec::new();
        for second in 0..=600 {
            let lapsed = lapsed(how, false);
            match drift.judge(at(second), how, Some(&lapsed), Some(other)) {
                Act::Turn => {
                    std::mem::swap(&mut how, &mut other);
                    turns.push(second);
                }
                Act::Limited(left) => assert_eq!(left, at(602 - second), "{turns:?}"),
                Act::Keep | Act::Wait(_) => {}
            }
        }
        assert_eq!(turns.len(), TURNS_MAX, "{turns:?}");
        let lapsed = lapsed(how, false);
        assert_eq!(drift.judge(at(602), how, Some(&lapsed), Some(other)), Act::Turn);
    }
}
