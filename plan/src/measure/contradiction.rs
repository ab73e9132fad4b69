//! Whether traffic did what the plan says, as far as that can be told.

use super::{Count, wilson};
use crate::spec::Affinity;
use crate::split::Split;

/// Requests went where the plan does not send them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contradiction {
    /// What the plan says.
    pub intended: Split,
    /// The lower end of the measured share's 95 % interval, in basis points.
    pub low_bp: u16,
    /// The upper end.
    pub high_bp: u16,
    /// How many requests say so.
    pub samples: u64,
}

/// At exactly 0 or 100 %, fewer requests than this on the wrong side prove nothing: a proxy may
/// have retried, or reported a moment late.
const WRONG_MIN: u64 = 10;
/// And so does a share of them that may be smaller than this, in basis points.
const WRONG_BP: u16 = 10;
/// Where each request is drawn anew, fewer requests than this prove nothing.
const SAMPLES_MIN: u64 = 1_000;
/// And the interval must miss the split by more than this, in basis points: weights of proxies and
/// reports that cover slightly different times are not that exact.
const MARGIN_BP: u16 = 100;

/// How requests contradict the split; `None` where they do not, or where nobody can tell.
///
/// Exactly 0 and 100 % can be told: nobody may be on the other side. Between, only where each
/// request is drawn anew: with affinity whole clients are on one side, and equal clients alone make
/// the share vary by a point (2 000 of them at 25 %), however many requests are counted.
///
/// For requests that were issued after every proxy had applied the split.
pub fn contradiction(count: &Count, intended: Split, affinity: &Affinity) -> Option<Contradiction> {
    // Reports may claim absurd numbers: halved, their sum fits, and the share stays what it is.
    let fits = count.legacy.checked_add(count.target).is_some();
    let (legacy, target) =
        if fits { (count.legacy, count.target) } else { (count.legacy / 2, count.target / 2) };
    let samples = legacy.saturating_add(target);
    if samples == 0 {
        return None;
    }
    let (low_bp, high_bp) = wilson(target, samples);
    let contradicts = if intended == Split::LEGACY {
        target >= WRONG_MIN && low_bp >= WRONG_BP
    } else if intended == Split::TARGET {
        legacy >= WRONG_MIN && Split::WHOLE.saturating_sub(high_bp) >= WRONG_BP
    } else {
        let above = low_bp > intended.bp().saturating_add(MARGIN_BP);
        let below = high_bp.saturating_add(MARGIN_BP) < intended.bp();
        *affinity == Affinity::None && samples >= SAMPLES_MIN && (above || below)
    };
    contradicts.then_some(Contradiction { intended, low_bp, high_bp, samples })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_exact_or_drawn_anew_can_be_contradicted() {
        struct Case {
            intended: u16,
            affinity: Affinity,
            legacy: u64,
            target: u64,
            contradicts: bool,
        }
        let case = |intended, legacy, target, contradicts| Case {
            intended,
            affinity: Affinity::ClientIp,
            legacy,
            target,
            contradicts,
        };
        let drawn = |intended, legacy, target, contradicts| Case {
            affinity: Affinity::None,
            ..case(intended, legacy, target, contradicts)
        };
        for (at, case) in [
            case(0, 0, 0, false),
            case(0, 1_000, 0, false),
            case(0, 0, 9, false),
            case(0, 0, 10, true),
            case(0, 1_000, 10, true),
            // One in ten thousand may be a retry.
            case(0, 1_000_000, 100, false),
            case(0, 1_000_000, 2_000, true),
            case(10_000, 0, 1_000, false),
            case(10_000, 9, 1_000, false),
            case(10_000, 10, 1_000, true),
            case(10_000, 2_000, 1_000_000, true),
            case(10_000, 100, 1_000_000, false),
            // Whole clients are on one side.
            case(2_500, 1_000_000, 0, false),
            Case {
                affinity: Affinity::Header("x-user".into()),
                ..case(2_500, 1_000_000, 0, false)
            },
            Case { affinity: Affinity::Cookie("s".into()), ..case(2_500, 0, 1_000_000, false) },
            // Drawn anew: beyond the margin, with enough of them.
            drawn(2_500, 999, 0, false),
            drawn(2_500, 1_000, 0, true),
            drawn(2_500, 0, 1_000, true),
            drawn(2_500, 750_000, 250_000, false),
            drawn(2_500, 742_000, 258_000, false),
            drawn(2_500, 738_000, 262_000, true),
            drawn(2_500, 762_000, 238_000, true),
            drawn(9_950, 10_000, 990_000, false),
            drawn(50, 1_000_000, 0, false),
            drawn(0, 0, 10, true),
        ]
        .into_iter()
        .enumerate()
        {
            let count = Count { legacy: case.legacy, target: case.target, ..Count::default() };
            let intended = Split::from_bp(case.intended).unwrap();
            let found = contradiction(&count, intended, &case.affinity);
            assert_eq!(found.is_some(), case.contradicts, "case {at}: {found:?}");
        }
    }

    #[test]
    fn counts_at_the_edge_of_their_type_are_half_and_half() {
        let most = Count { legacy: u64::MAX, target: u64::MAX, ..Count::default() };
        for (bp, contradicts) in [(0, true), (5_000, false), (7_000, true), (10_000, true)] {
            let intended = Split::from_bp(bp).unwrap();
            let found = contradiction(&most, intended, &Affinity::None);
            assert_eq!(found.is_some(), contradicts, "{bp}: {found:?}");
        }
    }
}
