//! The nearest names, for whoever mistyped one.

use std::borrow::Borrow;

/// The most names that are offered.
const OFFERED_MAX: usize = 3;

/// The names that differ from `word` by at most a third of its letters, but by one at least; the
/// nearest first.
pub(super) fn near<'a, N: Borrow<str> + Clone + 'a>(
    word: &str,
    names: impl Iterator<Item = &'a N>,
) -> Vec<N> {
    let allowed = (word.len() / 3).max(1);
    let fits = |name: &'a N| {
        let text: &str = name.borrow();
        let distance = if text.len().abs_diff(word.len()) > allowed {
            None
        } else {
            Some(distance(word, text))
        };
        distance.filter(|distance| *distance <= allowed).map(|distance| (distance, name))
    };
    let mut found: Vec<_> = names.filter_map(fits).collect();
    found.sort_by_key(|(distance, _)| *distance);
    found.into_iter().take(OFFERED_MAX).map(|(_, name)| name.clone()).collect()
}

/// How many bytes must be put in, taken out or changed (Levenshtein). Names are ASCII.
fn distance(from: &str, to: &str) -> usize {
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.bytes().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (slot, b) in row.iter_mut().skip(1).zip(to.bytes()) {
            let up = *slot;
            let best = (diagonal + usize::from(a != b)).min(up + 1).min(left + 1);
            (diagonal, left, *slot) = (up, best, best);
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (from, to, expected) in
            [("", "", 0), ("", "ab", 2), ("kitten", "sitting", 3), ("abc", "", 3), ("a", "a", 0)]
        {
            assert_eq!(distance(from, to), expected, "{from} {to}");
        }
    }

    #[test]
    fn offers_the_nearest_first() {
        let names = ["orders", "order", "payments", "borders"].map(String::from);
        for (word, expected) in [
            ("ordres", vec!["orders", "order"]),
            ("orders", vec!["orders", "order", "borders"]),
            ("paiments", vec!["payments"]),
            ("x", vec![]),
        ] {
            assert_eq!(near(word, names.iter()), expected, "{word}");
        }
    }
}
