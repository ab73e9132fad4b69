//! Lengths of time as a plan file writes them: `30s`, `10m`, `1h30m`, `2d`.

use std::time::Duration;

/// The units, longest first, in milliseconds.
const UNITS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// The text is no length of time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// A bare number.
    #[error("`{0}` has no unit; write `{0}s`, `{0}m` or `{0}h`")]
    NoUnit(String),
    /// Anything else.
    #[error(
        "`{0}` is no duration; write whole numbers with d, h, m, s or ms, longest first: `1h30m`"
    )]
    Malformed(String),
    /// More than can be counted.
    #[error("`{0}` is too long; write 366d at most")]
    TooLong(String),
}

/// A length of time from its text: whole numbers with units, longest unit first, each once.
///
/// # Errors
/// The text is not written so, or is beyond all use.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    let malformed = || DurationError::Malformed(text.chars().take(64).collect());
    let mut rest = text;
    let mut units = UNITS.iter();
    let mut total: u64 = 0;
    while !rest.is_empty() || text.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, tail) = rest.split_at_checked(digits).ok_or_else(malformed)?;
        if number.is_empty() {
            return Err(malformed());
        }
        if tail.is_empty() {
            return Err(if number == text {
                DurationError::NoUnit(text.chars().take(64).collect())
            } else {
                malformed()
            });
        }
        let letters = tail.len() - tail.trim_start_matches(|c: char| c.is_ascii_lowercase()).len();
        let (unit, tail) = tail.split_at_checked(letters).ok_or_else(malformed)?;
        let (_, millis) = units.find(|(name, _)| *name == unit).ok_or_else(malformed)?;
        let too_long = || DurationError::TooLong(text.chars().take(64).collect());
        let number: u64 = number.parse().map_err(|_| too_long())?;
        let part = number.checked_mul(*millis).ok_or_else(too_long)?;
        total = total.checked_add(part).ok_or_else(too_long)?;
        rest = tail;
    }
    Ok(Duration::from_millis(total))
}

/// The shortest text that [`parse`] reads as this length; below a millisecond is dropped.
pub fn text(duration: Duration) -> String {
    let mut rest = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let mut text = String::new();
    for (unit, millis) in UNITS {
        let number = rest / millis;
        rest %= millis;
        if number > 0 {
            text.push_str(&format!("{number}{unit}"));
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations() {
        for (text, millis) in [
            ("10m", Some(600_000)),
            ("62h", Some(223_200_000)),
            ("1h30m", Some(5_400_000)),
            ("90s", Some(90_000)),
            ("0s", Some(0)),
            ("250ms", Some(250)),
            ("1d12h", Some(129_600_000)),
            ("30m1h", None),
            ("1h1h", None),
            ("1.5h", None),
            ("h", None),
            ("1h30", None),
            ("-1s", None),
            ("1 h", None),
            ("1w", None),
            ("", None),
            ("30", None),
            ("1H", None),
            ("99999999999999999999s", None),
            ("9999999999999999999d", None),
            ("1µ", None),
        ] {
            assert_eq!(parse(text).ok(), millis.map(Duration::from_millis), "{text}");
        }
        assert_eq!(parse("30"), Err(DurationError::NoUnit("30".into())));
    }

    proptest! {
        #[test]
        fn every_duration_prints_as_it_parses(millis in 0..=u64::MAX / 2) {
            let duration = Duration::from_millis(millis);
            prop_assert_eq!(parse(&text(duration)), Ok(duration));
        }
    }
}
