use std::time::Duration;

use proptest::prelude::*;

use super::*;

fn freeze(cron: &str, lasts: &str, tz: &str) -> Freeze {
    Freeze {
        cron: cron.parse().unwrap(),
        lasts: crate::file::duration::parse(lasts).unwrap(),
        tz: tz.parse().unwrap(),
    }
}

fn policy(freezes: &[(&str, &str, &str)]) -> Policy {
    let freeze = freezes.iter().map(|(cron, lasts, tz)| freeze(cron, lasts, tz)).collect();
    Policy { freeze, ..Policy::default() }
}

fn ends(policy: &Policy, now: &str) -> Option<String> {
    policy.frozen(now.parse().unwrap()).map(|(_, ends)| ends.to_string())
}

/// A freeze, and for moments when it ends or that it does not hold.
struct Case {
    freeze: (&'static str, &'static str, &'static str),
    moments: &'static [(&'static str, Option<&'static str>)],
}

const CASES: &[Case] = &[
    // A weekend in a zone without daylight saving: Friday 18:00 is 10:00 UTC.
    Case {
        freeze: ("0 18 * * FRI", "62h", "Asia/Shanghai"),
        moments: &[
            ("2026-11-20T09:59:59.999Z", None),
            ("2026-11-20T10:00:00Z", Some("2026-11-23T00:00:00Z")),
            ("2026-11-22T12:00:00Z", Some("2026-11-23T00:00:00Z")),
            ("2026-11-22T23:59:59.999Z", Some("2026-11-23T00:00:00Z")),
            ("2026-11-23T00:00:00Z", None),
        ],
    },
    // Spring: New York skips 2:00 to 3:00 on 2026-03-08. The window lasts 62 hours that pass, so it
    // ends an hour later on the wall, Monday 9:00 EDT.
    Case {
        freeze: ("0 18 * * FRI", "62h", "America/New_York"),
        moments: &[
            ("2026-03-06T22:59:59Z", None),
            ("2026-03-06T23:00:00Z", Some("2026-03-09T13:00:00Z")),
            ("2026-03-09T12:59:59Z", Some("2026-03-09T13:00:00Z")),
            ("2026-03-09T13:00:00Z", None),
            // A week later it begins an hour earlier by UTC.
            ("2026-03-13T22:00:00Z", Some("2026-03-16T12:00:00Z")),
        ],
    },
    // A time that is skipped begins at the skip, 7:00 UTC; the day after at its own time.
    Case {
        freeze: ("30 2 * * *", "1h", "America/New_York"),
        moments: &[
            ("2026-03-07T07:29:59Z", None),
            ("2026-03-07T07:30:00Z", Some("2026-03-07T08:30:00Z")),
            ("2026-03-08T06:59:59Z", None),
            ("2026-03-08T07:00:00Z", Some("2026-03-08T08:00:00Z")),
            ("2026-03-08T08:00:00Z", None),
            ("2026-03-09T06:30:00Z", Some("2026-03-09T07:30:00Z")),
        ],
    },
    // Autumn: 1:00 to 2:00 comes twice on 2026-11-01, so does a window that begins in it.
    Case {
        freeze: ("30 1 * * *", "20m", "America/New_York"),
        moments: &[
            ("2026-11-01T05:29:59Z", None),
            ("2026-11-01T05:30:00Z", Some("2026-11-01T05:50:00Z")),
            ("2026-11-01T05:50:00Z", None),
            ("2026-11-01T06:30:00Z", Some("2026-11-01T06:50:00Z")),
            ("2026-11-01T06:50:00Z", None),
        ],
    },
    // In the repeated hour an earlier minute is shown after a later one.
    Case {
        freeze: ("15,45 1 * * *", "20m", "America/New_York"),
        moments: &[
            ("2026-11-01T05:45:00Z", Some("2026-11-01T06:05:00Z")),
            ("2026-11-01T06:14:59Z", None),
            ("2026-11-01T06:20:00Z", Some("2026-11-01T06:35:00Z")),
            ("2026-11-01T06:50:00Z", Some("2026-11-01T07:05:00Z")),
        ],
    },
    // The two are joined where the first lasts into the second.
    Case {
        freeze: ("30 1 * * *", "2h", "America/New_York"),
        moments: &[("2026-11-01T05:30:00Z", Some("2026-11-01T08:30:00Z"))],
    },
    // Europe changes at 1:00 UTC: Berlin skips 2:00 on 2026-03-29 and repeats it on 2026-10-25.
    Case {
        freeze: ("0 22 * * SAT", "8h", "Europe/Berlin"),
        moments: &[
            ("2026-03-28T20:59:59Z", None),
            ("2026-03-28T21:00:00Z", Some("2026-03-29T05:00:00Z")),
            ("2026-10-24T20:00:00Z", Some("2026-10-25T04:00:00Z")),
            ("2026-10-25T04:00:00Z", None),
        ],
    },
    // A zone whose clock changes at midnight: on 2026-09-06 Santiago has no 0:00 to 1:00.
    Case {
        freeze: ("0 0 * * *", "30m", "America/Santiago"),
        moments: &[
            ("2026-09-06T03:59:59Z", None),
            ("2026-09-06T04:00:00Z", Some("2026-09-06T04:30:00Z")),
            ("2026-09-07T03:00:00Z", Some("2026-09-07T03:30:00Z")),
        ],
    },
    // An offset of half an hour that changes by half an hour: Lord Howe, 2026-04-05.
    Case {
        freeze: ("45 1 * * SUN", "10m", "Australia/Lord_Howe"),
        moments: &[
            ("2026-04-04T14:45:00Z", Some("2026-04-04T14:55:00Z")),
            ("2026-04-04T15:15:00Z", Some("2026-04-04T15:25:00Z")),
            ("2026-04-04T15:25:00Z", None),
        ],
    },
    // Once a year, seen near the end of a window of weeks.
    Case {
        freeze: ("0 0 15 12 *", "24d", "UTC"),
        moments: &[
            ("2026-12-14T23:59:59Z", None),
            ("2027-01-07T23:59:59Z", Some("2027-01-08T00:00:00Z")),
            ("2027-01-08T00:00:00Z", None),
        ],
    },
    // Windows that meet are one.
    Case {
        freeze: ("0 0,6,12 * * *", "6h", "UTC"),
        moments: &[
            ("2026-05-01T03:00:00Z", Some("2026-05-01T18:00:00Z")),
            ("2026-05-01T18:00:00Z", None),
        ],
    },
    // The leap day, and the longest window from it.
    Case {
        freeze: ("0 0 29 2 *", "366d", "UTC"),
        moments: &[
            ("2028-02-28T23:59:59Z", None),
            ("2028-02-29T00:00:00Z", Some("2029-03-01T00:00:00Z")),
            ("2029-02-28T23:59:59Z", Some("2029-03-01T00:00:00Z")),
            ("2029-03-01T00:00:00Z", None),
        ],
    },
];

#[test]
fn freezes_hold_across_changes_of_the_clock() {
    for case in CASES {
        let policy = policy(&[case.freeze]);
        for (now, expected) in case.moments {
            assert_eq!(ends(&policy, now).as_deref(), *expected, "{:?} at {now}", case.freeze);
        }
    }
}

#[test]
fn windows_of_several_freezes_are_joined() {
    let policy = policy(&[
        ("0 18 * * FRI", "62h", "UTC"),
        ("0 6 * * MON", "4h", "UTC"),
        ("0 10 * * MON", "1h", "UTC"),
    ]);
    let (freeze, ends) = policy.frozen("2026-11-21T00:00:00Z".parse().unwrap()).unwrap();
    assert_eq!(freeze.to_string(), "0 18 * * FRI for 2d14h in UTC");
    assert_eq!(ends.to_string(), "2026-11-23T11:00:00Z");
    assert_eq!(policy.frozen("2026-11-23T11:00:00Z".parse().unwrap()), None);
}

#[test]
fn a_freeze_without_end_is_told_with_a_bound() {
    let policy = policy(&[("* * * * *", "1m", "UTC")]);
    let now: Timestamp = "2026-11-21T00:00:30Z".parse().unwrap();
    let (_, ends) = policy.frozen(now).unwrap();
    let joined = u64::try_from(Policy::JOINED_MAX).unwrap();
    assert_eq!(ends.since(now), Duration::from_secs(30 + 60 * joined));
}

#[test]
fn the_ends_of_time_are_no_trouble() {
    let policy = policy(&[("* * * * *", "366d", "America/New_York")]);
    for millis in [i64::MIN, 0, i64::MAX] {
        let now = Timestamp::from_millis(millis);
        assert_eq!(policy.frozen(now).is_some(), now.after(Duration::from_secs(1)) > now);
    }
}

#[test]
fn a_freeze_is_stored_as_text() {
    let freeze = freeze("0 18  * * fri", "62h", "asia/shanghai");
    let stored = serde_json::to_string(&freeze).unwrap();
    assert!(
        stored.contains("\"0 18 * * fri\"") && stored.contains("\"Asia/Shanghai\""),
        "{stored}"
    );
    assert_eq!(serde_json::from_str::<Freeze>(&stored).unwrap(), freeze);
    let wrong = stored.replace("Asia", "Asien");
    assert!(serde_json::from_str::<Freeze>(&wrong).is_err());
}

/// The rule read out loud: minute by minute over all moments that a window could have begun at.
fn frozen_by_definition(freeze: &Freeze, now: jiff::Timestamp) -> bool {
    let zone = freeze.tz.rules();
    let minutes = i64::try_from(freeze.lasts.as_secs() / 60).unwrap();
    let minute = now.as_second().div_euclid(60);
    (minute - minutes + 1..=minute).any(|minute| {
        let at = |minute: i64| jiff::Timestamp::from_second(minute * 60).unwrap();
        let (before, shown) = (zone.to_datetime(at(minute - 1)), zone.to_datetime(at(minute)));
        let comes = |shown: DateTime| {
            let of_day = u16::from(shown.hour().unsigned_abs()) * 60
                + u16::from(shown.minute().unsigned_abs());
            freeze.cron.fits(shown.date()) && freeze.cron.minutes().any(|m| m == of_day)
        };
        let skipped = std::iter::successors(Some(before + 1.minute()), |at| Some(*at + 1.minute()))
            .take_while(|at| *at < shown);
        comes(shown) || skipped.into_iter().any(comes)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Around the changes of the clock, `frozen` says what the rule says.
    #[test]
    fn frozen_follows_its_rule(
        change in prop::sample::select(vec![
            ("America/New_York", "2026-03-08T07:00:00Z"),
            ("America/New_York", "2026-11-01T06:00:00Z"),
            ("Europe/Berlin", "2026-10-25T01:00:00Z"),
            ("America/Santiago", "2026-09-06T04:00:00Z"),
            ("America/Santiago", "2026-04-05T03:00:00Z"),
            ("Australia/Lord_Howe", "2026-04-04T15:00:00Z"),
            ("Asia/Kathmandu", "2026-04-04T15:00:00Z"),
        ]),
        minute in 0..60_u8,
        other in 0..60_u8,
        hours in prop::sample::select(vec!["*", "0", "1", "2", "0-3", "23", "*/2", "1,23"]),
        days in prop::sample::select(vec!["* * *", "* * SUN", "* * SAT", "1,5,6,8,25 * *"]),
        lasts in 1..300_u64,
        offset in -2_000..2_000_i64,
    ) {
        let (tz, at) = change;
        let cron = format!("{minute},{other} {hours} {days}");
        let freeze = freeze(&cron, &format!("{lasts}m"), tz);
        let at: jiff::Timestamp = at.parse().unwrap();
        let now = at + jiff::SignedDuration::from_mins(offset);
        let policy = Policy { freeze: vec![freeze.clone()], ..Policy::default() };
        let frozen = policy.frozen(Timestamp::from_millis(now.as_millisecond()));
        let by_rule = frozen_by_definition(&freeze, now);
        prop_assert_eq!(frozen.is_some(), by_rule, "{} at {}", freeze, now);
        if let Some((_, ends)) = frozen {
            let ends = jiff::Timestamp::from_millisecond(ends.millis()).unwrap();
            // Windows that always meet have no end among those that are joined; these may.
            let period = match hours {
                "*" => Some(60),
                "*/2" => Some(120),
                _ => None,
            };
            let apart = u64::from(minute.abs_diff(other));
            let longest = |period: u64| apart.max(period - apart);
            let endless = days == "* * *" && period.is_some_and(|period| lasts >= longest(period));
            let still = frozen_by_definition(&freeze, ends);
            prop_assert!(endless || !still, "{} ends {}", freeze, ends);
            prop_assert!(frozen_by_definition(&freeze, ends - jiff::SignedDuration::from_mins(1)));
        }
    }
}
