//! Histories of one name at random: a machine, a copy of it, lost answers, new tokens.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

/// Who has a certificate.
#[derive(Clone, Debug, Default)]
struct Holder {
    shown: Option<Shown>,
    /// The new key of a renewal whose answer did not come.
    pending: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    /// The machine, or its copy, renews; its answer may be lost.
    Renew { copy: bool, lost: bool },
    /// The machine is copied, disk and all.
    Copy,
    /// It joins anew; its answer may be lost, then it tries once more with the same key.
    Join { lost: bool },
    /// Time goes by.
    Wait { minutes: u64 },
    /// The controller restarts.
    Restart,
}

fn step(copies: bool) -> impl Strategy<Value = Step> {
    let renew = (any::<bool>(), any::<bool>())
        .prop_map(move |(copy, lost)| Step::Renew { copy: copy && copies, lost });
    let copy = Just(if copies { Step::Copy } else { Step::Restart });
    prop_oneof![
        6 => renew,
        1 => copy,
        1 => any::<bool>().prop_map(|lost| Step::Join { lost }),
        3 => prop_oneof![Just(1), Just(11), 0u64..800].prop_map(|minutes| Step::Wait { minutes }),
        1 => Just(Step::Restart),
    ]
}

struct World {
    book: Book,
    now: u64,
    next: u64,
    machine: Holder,
    copy: Holder,
    /// All certificates that were ever granted, with the numbers of their keys.
    granted: Vec<(Shown, u64)>,
}

impl World {
    fn new() -> Self {
        let mut world = Self {
            book: Book::default(),
            now: 0,
            next: 1,
            machine: Holder::default(),
            copy: Holder::default(),
            granted: Vec::new(),
        };
        world.join(false);
        world
    }

    fn fresh(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn join(&mut self, lost: bool) {
        let (secret, key) = (self.fresh(), self.fresh());
        let ask = Ask { replace: true, ..ask("vm-1") };
        self.book.create_token(ask, number(secret), minute(self.now)).unwrap();
        let mut grant = enrol(&mut self.book, secret, key, minute(self.now)).unwrap();
        if lost {
            let again = enrol(&mut self.book, secret, key, minute(self.now)).unwrap();
            assert_eq!(again, Grant { again: true, ..grant });
            grant = again;
        }
        self.machine = Holder { shown: Some(self.note(&grant, key)), pending: None };
    }

    fn note(&mut self, grant: &Grant, key: u64) -> Shown {
        let shown = shown(grant, key);
        self.granted.push((shown.clone(), key));
        shown
    }

    fn renew(&mut self, copy: bool, lost: bool) -> Option<Result<(), RenewRefused>> {
        let holder = if copy { self.copy.clone() } else { self.machine.clone() };
        let shown = holder.shown?;
        let key = holder.pending.unwrap_or_else(|| self.fresh());
        let outcome = renew(&mut self.book, &shown, key, minute(self.now));
        let after = match &outcome {
            Ok(grant) => {
                let new = self.note(grant, key);
                let kept = Holder { shown: Some(shown), pending: Some(key) };
                if lost { kept } else { Holder { shown: Some(new), pending: None } }
            }
            Err(_) => Holder { shown: Some(shown), pending: Some(key) },
        };
        *(if copy { &mut self.copy } else { &mut self.machine }) = after;
        Some(outcome.map(drop))
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Renew { copy, lost } => drop(self.renew(copy, lost)),
            Step::Copy => self.copy = self.machine.clone(),
            Step::Join { lost } => self.join(lost),
            Step::Wait { minutes } => self.now += minutes,
            Step::Restart => {
                let read = Book::decode(&self.book.encode()).unwrap();
                assert_eq!(read, self.book);
                self.book = read;
            }
        }
    }

    /// The keys with which somebody would be let in now.
    fn let_in(&self) -> BTreeSet<u64> {
        let now = minute(self.now);
        let granted = self.granted.iter();
        let in_now = granted.filter(|(shown, _)| self.book.admit(shown, now).is_ok());
        in_now.map(|(_, key)| *key).collect()
    }

    /// Those that would be told of as taken back, of those that have not ended.
    fn taken_back(&self) -> BTreeSet<u64> {
        let now = minute(self.now);
        let told = self.book.taken_back(now);
        let told = |shown: &Shown| told.iter().any(|taken| taken.serial == shown.held.serial);
        let good = self.granted.iter().filter(|(shown, _)| now < shown.held.expires());
        good.filter(|(shown, _)| told(shown)).map(|(_, key)| *key).collect()
    }

    /// The keys of certificates that have not ended.
    fn good(&self) -> BTreeSet<u64> {
        let good = self.granted.iter().filter(|(it, _)| minute(self.now) < it.held.expires());
        good.map(|(_, key)| *key).collect()
    }

    fn newest(&self) -> Timestamp {
        self.book.agent(&name("vm-1")).map_or_else(|| minute(0), |agent| agent.current.issued)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn two_keys_are_never_let_in_for_longer_than_a_renewal_takes(
        steps in proptest::collection::vec(step(true), 0..40),
    ) {
        let mut world = World::new();
        for step in steps {
            world.take(step);
            let keys = world.let_in();
            let settled = minute(world.now) >= world.newest().after(OVERLAP);
            prop_assert!(keys.len() <= if settled { 1 } else { 2 }, "{step:?}: {keys:?}");
        }
    }

    #[test]
    fn what_is_taken_back_is_everything_of_who_is_out_and_nothing_of_who_is_in(
        steps in proptest::collection::vec(step(true), 0..40),
    ) {
        let mut world = World::new();
        for step in steps {
            let before = (world.book.list(), world.taken_back());
            world.take(step);
            let told = world.taken_back();
            prop_assert!(told.is_disjoint(&world.let_in()), "{step:?}: {told:?}");
            let joined = world.book.agent(&name("vm-1")).unwrap().joined;
            let out = |(shown, _): &&(Shown, u64)| shown.held.issued < joined;
            let out = world.granted.iter().filter(out).map(|(_, key)| *key);
            let good = world.good();
            let out: BTreeSet<u64> = out.filter(|key| good.contains(key)).collect();
            prop_assert_eq!(&told, &out, "{:?}", step);
            if !told.is_subset(&before.1) {
                prop_assert!(world.book.list() > before.0, "{step:?}");
            }
        }
        world.book.revoke(&name("vm-1"), "", minute(world.now)).unwrap();
        prop_assert_eq!(world.taken_back(), world.good());
    }

    #[test]
    fn a_machine_and_its_copy_that_both_renew_are_frozen(
        steps in proptest::collection::vec(step(false), 0..20),
        (lost, first_lost) in any::<(bool, bool)>(),
        copy_first in any::<bool>(),
    ) {
        let mut world = World::new();
        for step in steps {
            world.take(step);
        }
        // Where an answer is awaited, both would ask for the same one.
        world.join(false);
        world.copy = world.machine.clone();
        world.now += 60;
        prop_assert_eq!(world.renew(copy_first, first_lost), Some(Ok(())));
        world.now += 60;
        let second = world.renew(!copy_first, lost);
        prop_assert!(matches!(second, Some(Err(RenewRefused::Cloned { .. }))), "{second:?}");
        prop_assert!(world.let_in().is_empty());
    }

    #[test]
    fn a_machine_alone_is_never_frozen_and_always_has_a_certificate(
        steps in proptest::collection::vec(step(false), 0..60),
    ) {
        let mut world = World::new();
        for step in steps {
            let before = world.machine.clone();
            world.take(step);
            prop_assert!(world.book.agent(&name("vm-1")).unwrap().end.is_none());
            if let (Step::Renew { .. }, Some(held)) = (step, before.shown)
                && minute(world.now) < held.held.expires().after(GRACE)
            {
                // It has what it asked for, or will be given it again.
                let after = &world.machine;
                let renewed = after.shown.as_ref() != Some(&held) || after.pending.is_some();
                prop_assert!(renewed, "{step:?}");
                let outcome = world.renew(false, false);
                prop_assert!(
                    matches!(outcome, Some(Ok(()) | Err(RenewRefused::TooOften))),
                    "{outcome:?}",
                );
            }
        }
    }
}
