//! The share of clients on the target side.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The share of clients on the target side, in basis points: 0 to 10 000.
///
/// 0 and 10 000 are exact: no client, every client.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(try_from = "u16", into = "u16")]
pub struct Split(u16);

impl Split {
    /// Basis points in a whole.
    pub const WHOLE: u16 = 10_000;
    /// Everyone on the legacy side.
    pub const LEGACY: Self = Self(0);
    /// Everyone on the target side.
    pub const TARGET: Self = Self(Self::WHOLE);

    /// A split of `bp` basis points; `None` over 10 000.
    pub const fn from_bp(bp: u16) -> Option<Self> {
        if bp <= Self::WHOLE { Some(Self(bp)) } else { None }
    }

    /// Basis points: 0 to 10 000.
    pub const fn bp(self) -> u16 {
        self.0
    }

    /// The distance to another split, in basis points.
    pub const fn distance(self, other: Self) -> u16 {
        self.0.abs_diff(other.0)
    }
}

impl TryFrom<u16> for Split {
    type Error = SplitError;

    fn try_from(bp: u16) -> Result<Self, SplitError> {
        Self::from_bp(bp).ok_or(SplitError::Over)
    }
}

impl From<Split> for u16 {
    fn from(split: Split) -> Self {
        split.0
    }
}

impl fmt::Display for Split {
    /// `25%`, `0.01%`, `12.5%`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, rest) = (self.0 / 100, self.0 % 100);
        match (rest, rest % 10) {
            (0, _) => write!(f, "{whole}%"),
            (_, 0) => write!(f, "{whole}.{}%", rest / 10),
            _ => write!(f, "{whole}.{rest:02}%"),
        }
    }
}

/// What is wrong with a percentage.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SplitError {
    /// A number without its sign: `25`.
    #[error("`{0}` has no `%`; write `{0}%`")]
    Bare(String),
    /// More than everything.
    #[error("a split is at most 100%")]
    Over,
    /// Less than nothing.
    #[error("a split is at least 0%")]
    Negative,
    /// Finer than a basis point.
    #[error("`{0}` is finer than 0.01%; use at most two decimals")]
    TooFine(String),
    /// Not a number at all.
    #[error("`{0}` is not a percentage; write it like `25%` or `0.01%`")]
    NotANumber(String),
}

impl FromStr for Split {
    type Err = SplitError;

    fn from_str(text: &str) -> Result<Self, SplitError> {
        let text = text.trim();
        let (number, signed) = match text.strip_suffix('%') {
            Some(number) => (number.trim_end(), true),
            None => (text, false),
        };
        let bp = basis_points(number, text)?;
        if !signed {
            return Err(SplitError::Bare(number.to_owned()));
        }
        bp
    }
}

/// The inner result tells a well-formed number that is out of range from one that is no number.
fn basis_points(number: &str, text: &str) -> Result<Result<Split, SplitError>, SplitError> {
    let (negative, digits) = match number.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, number),
    };
    let (whole, decimals) = digits.split_once('.').unwrap_or((digits, "0"));
    let numeric = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    if !numeric(whole) || !numeric(decimals) {
        return Err(SplitError::NotANumber(text.to_owned()));
    }
    if negative {
        return Ok(Err(SplitError::Negative));
    }
    if decimals.len() > 2 {
        return Ok(Err(SplitError::TooFine(text.to_owned())));
    }
    let Ok(whole) = whole.parse::<u16>() else { return Ok(Err(SplitError::Over)) };
    let hundredths: u16 = format!("{decimals:0<2}").parse().unwrap_or(0);
    let bp = u32::from(whole) * 100 + u32::from(hundredths);
    Ok(u16::try_from(bp).ok().and_then(Split::from_bp).ok_or(SplitError::Over))
}

/// Which set of endpoints a client gets.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// Where the clients come from: the VMs.
    Legacy,
    /// Where the clients go: the cluster.
    Target,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Legacy => "legacy",
            Self::Target => "target",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages() {
        let over = || Err(SplitError::Over);
        for (text, expected) in [
            ("25%", Ok(2500)),
            ("0%", Ok(0)),
            ("0.01%", Ok(1)),
            ("12.5 %", Ok(1250)),
            ("100%", Ok(10_000)),
            ("100.00%", Ok(10_000)),
            ("100.01%", over()),
            ("655.36%", over()),
            ("99999999999%", over()),
            ("25", Err(SplitError::Bare("25".into()))),
            ("0", Err(SplitError::Bare("0".into()))),
            ("-1%", Err(SplitError::Negative)),
            ("0.001%", Err(SplitError::TooFine("0.001%".into()))),
            ("a quarter", Err(SplitError::NotANumber("a quarter".into()))),
            ("%", Err(SplitError::NotANumber("%".into()))),
            (".5%", Err(SplitError::NotANumber(".5%".into()))),
        ] {
            assert_eq!(text.parse::<Split>().map(Split::bp), expected, "{text}");
        }
    }

    #[test]
    fn every_split_prints_as_it_parses() {
        for bp in 0..=Split::WHOLE {
            let split = Split(bp);
            assert_eq!(split.to_string().parse(), Ok(split));
        }
    }
}
