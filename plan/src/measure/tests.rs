use super::*;

fn count(legacy: u64, target: u64) -> Count {
    let keys = legacy + target;
    Count {
        legacy,
        target,
        events: keys,
        keys,
        largest: 1,
        squares: keys.into(),
        ..Count::default()
    }
}

#[test]
fn intervals() {
    struct Case {
        hits: u64,
        samples: u64,
        bounds: (u16, u16),
    }
    // Worked out apart from this code, to 40 digits, then rounded outwards.
    for Case { hits, samples, bounds } in [
        Case { hits: 0, samples: 10, bounds: (0, 2776) },
        Case { hits: 10, samples: 10, bounds: (7224, 10_000) },
        Case { hits: 1, samples: 10, bounds: (178, 4042) },
        Case { hits: 5, samples: 10, bounds: (2365, 7635) },
        Case { hits: 100, samples: 1000, bounds: (829, 1202) },
        Case { hits: 0, samples: 1, bounds: (0, 7935) },
    ] {
        let share = count(samples - hits, hits).share(Basis::Answers, Split::LEGACY).unwrap();
        assert_eq!((share.low_bp, share.high_bp), bounds, "{hits} of {samples}");
        assert!(share.low_bp <= share.bp && share.bp <= share.high_bp);
    }
}

#[test]
fn nothing_counted_is_no_share() {
    assert_eq!(Count::default().share(Basis::Answers, Split::TARGET), None);
}

#[test]
fn no_more_keys_count_than_were_seen() {
    let torn = Count { keys: 3, events: 100, squares: 100, ..count(2, 1) };
    assert_eq!(torn.effective_keys(), 3);
}

#[test]
fn counts_at_the_edge_of_their_type_stay_in_range() {
    let most = Count {
        legacy: u64::MAX,
        target: u64::MAX,
        events: u64::MAX,
        keys: u64::MAX,
        largest: u64::MAX,
        squares: u128::MAX,
        ..Count::default()
    };
    let share = most.share(Basis::Requests, Split::from_bp(5000).unwrap()).unwrap();
    assert!(share.low_bp <= share.high_bp && share.high_bp <= Split::WHOLE);
    assert_eq!(share.largest_key_bp, Split::WHOLE);
}

/// The resolver mixes of the published table: one key at 30 % among many tiny ones, and so on.
#[test]
fn few_busy_keys_make_coarse_shares() {
    struct Case {
        sizes: Vec<u64>,
        effective: u64,
        largest_bp: u16,
        /// At 1 %, 10 % and 50 %.
        deviations: [u16; 3],
    }
    let heads = |heads: &[u64], rest: u64| {
        let total: u64 = heads.iter().sum();
        let mut sizes = heads.to_vec();
        sizes.extend((0..(rest - total)).map(|_| 1));
        sizes
    };
    for Case { sizes, effective, largest_bp, deviations } in [
        Case { sizes: vec![1; 1000], effective: 1000, largest_bp: 10, deviations: [31, 94, 158] },
        Case {
            sizes: heads(&[30_000], 100_000),
            effective: 11,
            largest_bp: 3000,
            deviations: [298, 900, 1500],
        },
        Case {
            sizes: heads(&[12_000, 10_000, 8_000, 5_000], 100_000),
            effective: 30,
            largest_bp: 1200,
            deviations: [181, 547, 912],
        },
        Case { sizes: vec![7], effective: 1, largest_bp: 10_000, deviations: [994, 3000, 5000] },
    ] {
        let keys = u64::try_from(sizes.len()).unwrap();
        let count = Count {
            legacy: keys,
            target: 0,
            events: sizes.iter().sum(),
            keys,
            largest: sizes.iter().copied().max().unwrap(),
            squares: sizes.iter().map(|size| u128::from(*size) * u128::from(*size)).sum(),
            ..Count::default()
        };
        assert_eq!(count.effective_keys(), effective, "{keys} keys");
        let at = |bp| count.deviation(Split::from_bp(bp).unwrap());
        assert_eq!([at(100), at(1000), at(5000)], deviations, "{keys} keys");
        let share = count.share(Basis::Answers, Split::LEGACY).unwrap();
        assert_eq!(share.largest_key_bp, largest_bp);
        assert_eq!((at(0), at(10_000)), (0, 0), "everyone on one side has no spread");
    }
}

#[test]
fn requests_are_told_by_side() {
    let traffic = Traffic {
        legacy: Load { errors: 3, in_progress: 2 },
        target: Load { errors: 1, in_progress: 4 },
        seconds: 10,
    };
    let share = Count { traffic: Some(traffic), ..count(750, 250) }
        .share(Basis::Requests, Split::LEGACY)
        .unwrap();
    let value = serde_json::to_value(&share).unwrap();
    assert_eq!(
        (&value["legacy"], &value["target"], &value["intervalSeconds"]),
        (
            &serde_json::json!({ "requests": 750, "errors": 3, "inProgress": 2 }),
            &serde_json::json!({ "requests": 250, "errors": 1, "inProgress": 4 }),
            &serde_json::json!(10),
        )
    );
    assert_eq!(serde_json::from_value::<Share>(value).unwrap(), share);
    let answers = count(750, 250).share(Basis::Answers, Split::LEGACY).unwrap();
    let fields = serde_json::to_value(&answers).unwrap();
    assert!(fields.get("legacy").is_none() && fields.get("intervalSeconds").is_none());
}
