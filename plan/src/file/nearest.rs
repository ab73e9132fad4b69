//! The name that somebody probably meant.

/// Among more names than this, the first so many are compared: a typo is answered at once.
const CANDIDATES_MAX: usize = 1_000;

/// The candidate that differs least from `word`; `None` where all differ by more than a third.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    let length = word.chars().count();
    let allowed = (length / 3).clamp(1, 8);
    let near = candidates.into_iter().take(CANDIDATES_MAX).filter_map(|candidate| {
        let other = candidate.to_lowercase();
        let fits = other.chars().count().abs_diff(length) <= allowed;
        let distance = fits.then(|| distance(&word, &other))?;
        (distance <= allowed).then_some((distance, candidate))
    });
    near.min_by_key(|(distance, _)| *distance).map(|(_, candidate)| candidate)
}

/// How many letters must be put in, taken out, changed or swapped with their neighbour (optimal
/// string alignment).
pub(crate) fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    let mut last = None;
    for (i, a) in from.chars().enumerate() {
        let mut next = Vec::with_capacity(row.len());
        next.push(i + 1);
        let mut left = i + 1;
        let mut last_b = None;
        for (j, (b, above)) in to.iter().zip(row.windows(2)).enumerate() {
            let [diagonal, up] = above else { continue };
            let mut best = (diagonal + usize::from(a != *b)).min(up + 1).min(left + 1);
            if last == Some(*b) && last_b == Some(a) {
                let swapped = j.checked_sub(1).and_then(|j| before.get(j));
                best = best.min(swapped.map_or(best, |cost| cost + 1));
            }
            next.push(best);
            left = best;
            last_b = Some(*b);
        }
        last = Some(a);
        before = std::mem::replace(&mut row, next);
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offers_what_was_meant() {
        let fields = ["name", "hosts", "ports", "legacy", "target", "after"];
        for (word, meant) in [
            ("hsots", Some("hosts")),
            ("host", Some("hosts")),
            ("Target", Some("target")),
            ("legcy", Some("legacy")),
            ("atfer", Some("after")),
            ("port", Some("ports")),
            ("replicas", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, fields), meant, "{word}");
        }
    }

    #[test]
    fn distances() {
        for (from, to, expected) in [
            ("", "", 0),
            ("", "ab", 2),
            ("ab", "ba", 1),
            ("kitten", "sitting", 3),
            ("ca", "abc", 3),
        ] {
            assert_eq!(distance(from, to), expected, "{from} {to}");
        }
    }
}
