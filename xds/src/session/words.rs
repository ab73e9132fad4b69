//! A client's words when it refuses: made fit to show, and read for the names of what it refused.

use std::ops::Range;

use crate::name::Name;

/// Words longer than this may name more than is looked at: then they count as naming nothing.
const READ_MAX: usize = 1 << 14;

/// At most so many bytes, without control characters and what they leave at the end.
pub(super) fn cut(words: &str, bytes: usize) -> String {
    let mut out = String::new();
    for c in words.chars() {
        let c = if c.is_control() { ' ' } else { c };
        if out.len().saturating_add(c.len_utf8()) > bytes {
            break;
        }
        out.push(c);
    }
    out.truncate(out.trim_end().len());
    out
}

/// Which of these names the words name; `a` is not named by `a-b`, nor by `a/b` where that is
/// another of the names.
pub(super) fn named<'a>(words: &str, names: impl Iterator<Item = &'a Name>) -> Vec<&'a Name> {
    if words.is_empty() || words.len() > READ_MAX {
        return Vec::new();
    }
    let mut found: Vec<(Range<usize>, &Name)> = names
        .flat_map(|name| places(words, name.as_str()).map(move |place| (place, name)))
        .collect();
    // The longest first at each place: what ends within one before it is a part of that.
    found.sort_by(|(a, _), (b, _)| a.start.cmp(&b.start).then(b.end.cmp(&a.end)));
    let mut end = 0;
    found.retain(|(place, _)| {
        let whole = place.end > end;
        end = end.max(place.end);
        whole
    });
    let mut named: Vec<&Name> = found.into_iter().map(|(_, name)| name).collect();
    named.sort_unstable();
    named.dedup();
    named
}

/// Where the words have this name, and not merely a part of a longer one.
fn places(words: &str, name: &str) -> impl Iterator<Item = Range<usize>> {
    let goes_on = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '/');
    words.match_indices(name).map(|(at, name)| at..at.saturating_add(name.len())).filter(
        move |place| {
            let before = words.get(..place.start).and_then(|text| text.chars().next_back());
            let mut after = words.get(place.end..).unwrap_or_default().chars();
            let next = after.next();
            // A full stop ends a sentence, or goes on with a longer name.
            let dotted = next == Some('.') && after.next().is_some_and(char::is_alphanumeric);
            let begins = !before.is_some_and(|c| goes_on(c) || c == '.');
            !place.is_empty() && begins && !next.is_some_and(goes_on) && !dotted
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_name_what_they_name() {
        struct Case {
            words: &'static str,
            names: &'static [&'static str],
            named: &'static [&'static str],
        }
        let cases = [
            Case { words: "", names: &["a"], named: &[] },
            Case { words: "Error adding cluster(s) a: bad", names: &["a", "b"], named: &["a"] },
            Case { words: "a-b: bad, shop.a bad", names: &["a", "a-b"], named: &["a-b"] },
            Case { words: "h:80 is bad", names: &["h", "h:80"], named: &["h:80"] },
            Case { words: "h:80 is bad, and h.", names: &["h", "h:80"], named: &["h", "h:80"] },
            Case {
                words: "p/a/legacy and p/b",
                names: &["p", "p/a/legacy"],
                named: &["p/a/legacy"],
            },
            Case { words: "'é a' \"b\"", names: &["a", "b"], named: &["a", "b"] },
        ];
        for case in cases {
            let names: Vec<Name> = case.names.iter().map(|name| Name::new(name)).collect();
            let found = named(case.words, names.iter());
            let mut found: Vec<&str> = found.into_iter().map(Name::as_str).collect();
            found.sort_unstable();
            assert_eq!(found, case.named, "{}", case.words);
        }
        let long = format!("a {}", "x".repeat(READ_MAX));
        assert!(named(&long, [Name::new("a")].iter()).is_empty());
    }

    #[test]
    fn words_are_cut_between_characters() {
        assert_eq!(cut("a\n\tb\u{7f}é", 100), "a  b é");
        assert_eq!(cut("aéé", 4), "aé");
        assert_eq!(cut("aéé", 5), "aéé");
    }
}
