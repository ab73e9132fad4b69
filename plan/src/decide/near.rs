//! The nearest names, for whoever mistyped one.

use std::borrow::Borrow;

use crate::file::distance;

/// The most names that are offered.
const OFFERED_MAX: usize = 3;

/// The names that differ from `word` by at most a third of its letters, or by one; the nearest
/// first.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offers_the_nearest_first() {
        let names = ["orders", "order", "payments", "borders"].map(String::from);
        for (word, expected) in [
            ("ordres", vec!["orders", "order", "borders"]),
            ("orders", vec!["orders", "order", "borders"]),
            ("oders", vec!["orders"]),
            ("paiments", vec!["payments"]),
            ("x", vec![]),
        ] {
            assert_eq!(near(word, names.iter()), expected, "{word}");
        }
    }
}
