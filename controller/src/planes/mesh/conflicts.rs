//! What two services want and only one has, told in the log.

use xds::render::Conflict;

/// The most that are told at once; the rest by their number.
const TOLD_MAX: usize = 20;

/// Tells of conflicts that were not there before.
pub(super) fn tell(before: &[Conflict], now: &[Conflict]) {
    let news = news(before, now);
    for conflict in news.iter().take(TOLD_MAX) {
        tracing::warn!(%conflict, "two services want what only one can have");
    }
    let more = news.len().saturating_sub(TOLD_MAX);
    if more > 0 {
        tracing::warn!(more, "more services want what only one can have");
    }
}

/// Both are sorted.
fn news<'a>(before: &[Conflict], now: &'a [Conflict]) -> Vec<&'a Conflict> {
    now.iter().filter(|conflict| before.binary_search(conflict).is_err()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conflict_is_told_when_it_comes_and_when_it_comes_again() {
        let conflict = |port: u16| Conflict {
            service: "shop/queue".parse().unwrap(),
            with: "shop/mail".parse().unwrap(),
            what: format!("port {port} at gateways"),
        };
        let all: Vec<Conflict> = [25, 465, 587].map(conflict).into();
        struct Case {
            before: &'static [usize],
            now: &'static [usize],
            news: &'static [usize],
        }
        for Case { before, now, news: is } in [
            Case { before: &[], now: &[0, 2], news: &[0, 2] },
            Case { before: &[0, 2], now: &[0, 2], news: &[] },
            Case { before: &[0, 2], now: &[0, 1], news: &[1] },
            Case { before: &[0], now: &[], news: &[] },
        ] {
            let of = |at: &[usize]| at.iter().map(|at| all[*at].clone()).collect::<Vec<_>>();
            let (before, now, is) = (of(before), of(now), of(is));
            assert_eq!(news(&before, &now), is.iter().collect::<Vec<_>>());
        }
    }
}
