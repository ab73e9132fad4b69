//! Time zones of the bundled IANA data: the host's own data is never asked.

use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;

use jiff::civil::DateTime;
use jiff::tz::{self, AmbiguousOffset, TimeZoneDatabase};
use serde::{Deserialize, Serialize};

/// A time zone with its name in the IANA data: `Asia/Shanghai`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TimeZone {
    name: Box<str>,
    rules: tz::TimeZone,
}

/// The data knows no such zone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` is no known time zone; {fix}")]
pub struct TimeZoneError {
    name: String,
    fix: String,
}

fn data() -> &'static TimeZoneDatabase {
    static DATA: OnceLock<TimeZoneDatabase> = OnceLock::new();
    DATA.get_or_init(TimeZoneDatabase::bundled)
}

impl TimeZone {
    /// The rules of its clock.
    pub(super) const fn rules(&self) -> &tz::TimeZone {
        &self.rules
    }
}

impl FromStr for TimeZone {
    type Err = TimeZoneError;

    fn from_str(text: &str) -> Result<Self, TimeZoneError> {
        if let Ok(rules) = data().get(text) {
            // The data's own spelling, whatever the case of the text.
            let name = rules.iana_name().unwrap_or(text).into();
            return Ok(Self { name, rules });
        }
        let names: Vec<_> = data().available().collect();
        let meant = crate::file::nearest(text, names.iter().map(|name| name.as_str()));
        let fix = meant.map_or_else(
            || "write an IANA name such as `Europe/Berlin` or `UTC`".to_owned(),
            |meant| format!("did you mean `{meant}`?"),
        );
        Err(TimeZoneError { name: text.chars().take(64).collect(), fix })
    }
}

impl TryFrom<String> for TimeZone {
    type Error = TimeZoneError;

    fn try_from(text: String) -> Result<Self, TimeZoneError> {
        text.parse()
    }
}

impl From<TimeZone> for String {
    fn from(zone: TimeZone) -> Self {
        zone.name.into()
    }
}

impl fmt::Display for TimeZone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// The last moment, at or before `now`, at which the clock shows `shown`. A time that the clock
/// skips counts as shown at the moment of the skip; a time that it shows twice has two moments.
pub(super) fn moment(
    rules: &tz::TimeZone,
    shown: DateTime,
    now: jiff::Timestamp,
) -> Option<jiff::Timestamp> {
    let at = |offset: tz::Offset| offset.to_timestamp(shown).ok().filter(|moment| *moment <= now);
    match rules.to_ambiguous_timestamp(shown).offset() {
        AmbiguousOffset::Unambiguous { offset } => at(offset),
        AmbiguousOffset::Fold { before, after } => at(after).or_else(|| at(before)),
        AmbiguousOffset::Gap { after, .. } => {
            // Read by the later offset, a skipped time lies before the skip: the next change of the
            // clock is the skip itself.
            let before = after.to_timestamp(shown).ok()?;
            let skip = rules.following(before).next()?.timestamp();
            (skip <= now).then_some(skip)
        }
    }
}
