//! Five cron fields: when the clock on the wall shows them.

use std::fmt;
use std::str::FromStr;

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

/// Minute, hour, day of the month, month and weekday, as crontab(5) writes them.
///
/// Each field is `*` or a list of numbers and ranges, with a step: `0`, `1-5`, `*/15`, `1,15`,
/// `10-20/2`. Months and weekdays have names (`JAN`, `FRI`); Sunday is 0 and 7. Where both the day
/// and the weekday are restricted, a date fits that fits either.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cron {
    text: Box<str>,
    minutes: u64,
    hours: u32,
    days: u32,
    months: u16,
    weekdays: u8,
    either: bool,
}

/// The longest text: beyond every honest use of lists.
const TEXT_MAX: usize = 256;

const MONTHS: [&str; 12] =
    ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
const WEEKDAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];

/// What a field may hold.
struct Domain {
    name: &'static str,
    least: u8,
    most: u8,
    names: &'static [&'static str],
}

const DOMAINS: [Domain; 5] = [
    Domain { name: "minute", least: 0, most: 59, names: &[] },
    Domain { name: "hour", least: 0, most: 23, names: &[] },
    Domain { name: "day", least: 1, most: 31, names: &[] },
    Domain { name: "month", least: 1, most: 12, names: &MONTHS },
    Domain { name: "weekday", least: 0, most: 7, names: &WEEKDAYS },
];

/// What is wrong with a cron text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CronError {
    /// Not five fields.
    #[error("`{text}` has {count} fields; write five: minute, hour, day, month, weekday")]
    Fields {
        /// The whole text, cut.
        text: String,
        /// How many fields it has.
        count: usize,
    },
    /// A field that is not written as crontab(5) says, or out of range.
    #[error("`{part}` is no {name}; write `*`, or {least} to {most}, a list, a range or a step")]
    Part {
        /// What stands there, cut.
        part: String,
        /// Which field.
        name: &'static str,
        /// The least number.
        least: u8,
        /// The greatest number.
        most: u8,
    },
    /// A date that no month has: 30 February.
    #[error("`{0}` never comes; no such month has that day")]
    Never(String),
}

fn cut(text: &str) -> String {
    text.chars().take(64).collect()
}

impl FromStr for Cron {
    type Err = CronError;

    fn from_str(text: &str) -> Result<Self, CronError> {
        let fields: Vec<&str> = text.split_ascii_whitespace().take(TEXT_MAX).collect();
        let [minute, hour, day, month, weekday] = fields.as_slice() else {
            return Err(CronError::Fields { text: cut(text), count: fields.len() });
        };
        if text.len() > TEXT_MAX {
            return Err(CronError::Fields { text: cut(text), count: fields.len() });
        }
        let [minutes, hours, days, months, weekdays] = DOMAINS;
        let any = |field: &str| field.starts_with('*');
        #[expect(
            clippy::cast_possible_truncation,
            reason = "a set has no bit above its domain's most"
        )]
        let cron = Self {
            minutes: minutes.set(minute)?,
            hours: hours.set(hour)? as u32,
            days: days.set(day)? as u32,
            months: months.set(month)? as u16,
            // 7 is Sunday too.
            weekdays: {
                let set = weekdays.set(weekday)?;
                ((set | set >> 7) & 0x7f) as u8
            },
            either: !any(day) && !any(weekday),
            text: fields.join(" ").into(),
        };
        if cron.comes() { Ok(cron) } else { Err(CronError::Never(cut(text))) }
    }
}

impl TryFrom<String> for Cron {
    type Error = CronError;

    fn try_from(text: String) -> Result<Self, CronError> {
        text.parse()
    }
}

impl From<Cron> for String {
    fn from(cron: Cron) -> Self {
        cron.text.into()
    }
}

impl Domain {
    /// The numbers of a field as bits.
    fn set(&self, field: &str) -> Result<u64, CronError> {
        field.split(',').try_fold(0, |set, part| Ok(set | self.part(part)?))
    }

    fn part(&self, part: &str) -> Result<u64, CronError> {
        self.bits(part).ok_or_else(|| CronError::Part {
            part: cut(part),
            name: self.name,
            least: self.least,
            most: self.most,
        })
    }

    fn bits(&self, part: &str) -> Option<u64> {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, number(step).filter(|step| *step > 0)?),
            None => (part, 1),
        };
        let (first, last) = match range.split_once('-') {
            _ if range == "*" => (self.least, self.most),
            Some((first, last)) => (self.value(first)?, self.value(last)?),
            // `5/10` has no meaning in crontab(5).
            None if part != range => return None,
            None => (self.value(range)?, self.value(range)?),
        };
        let numbers = (first..=last).step_by(usize::from(step));
        (first <= last).then(|| numbers.fold(0, |set, number| set | 1 << number))
    }

    fn value(&self, text: &str) -> Option<u8> {
        let named = self.names.iter().position(|name| name.eq_ignore_ascii_case(text));
        let value = match named {
            Some(at) => u8::try_from(at).ok()?.checked_add(self.least)?,
            None => number(text)?,
        };
        (self.least..=self.most).contains(&value).then_some(value)
    }
}

/// One or two digits.
fn number(text: &str) -> Option<u8> {
    let fine = (1..=2).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    fine.then(|| text.parse().ok())?
}

impl Cron {
    /// Whether the date is one of those.
    pub(super) fn fits(&self, date: Date) -> bool {
        let month = self.months >> date.month() & 1 == 1;
        let day = self.days >> date.day() & 1 == 1;
        let weekday = self.weekdays >> date.weekday().to_sunday_zero_offset() & 1 == 1;
        month && if self.either { day || weekday } else { day && weekday }
    }

    /// The minutes of such a date at which it comes, counted from midnight, latest first.
    pub(super) fn minutes(&self) -> impl Iterator<Item = u16> {
        let hours = (0..24).rev().filter(|hour| self.hours >> hour & 1 == 1);
        hours.flat_map(|hour| {
            let minutes = (0..60).rev().filter(|minute| self.minutes >> minute & 1 == 1);
            minutes.map(move |minute| hour * 60 + minute)
        })
    }

    /// Whether any date fits: a day that some month of the set has, or a weekday.
    fn comes(&self) -> bool {
        const LENGTHS: [u8; 12] = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
        let first_day = self.days.trailing_zeros();
        let longest = (1_u8..).zip(LENGTHS).filter(|(month, _)| self.months >> month & 1 == 1);
        self.either || longest.map(|(_, days)| u32::from(days)).max() >= Some(first_day)
    }
}

impl fmt::Display for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cron({})", self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts() {
        for (text, fine) in [
            ("0 18 * * FRI", true),
            ("*/15 0-6 1,15 JAN-mar 1-5", true),
            ("0 0 * * 7", true),
            ("10-20/2 * * * *", true),
            ("0 0 29 2 *", true),
            ("0 0 30 2 *", false),
            ("0 0 31 4,6,9,11 *", false),
            ("0 0 30 2 MON", true),
            ("0 18 * *", false),
            ("0 0 18 * * FRI", false),
            ("60 * * * *", false),
            ("* 24 * * *", false),
            ("* * 0 * *", false),
            ("* * 32 * *", false),
            ("* * * 13 *", false),
            ("* * * * 8", false),
            ("5-1 * * * *", false),
            ("*/0 * * * *", false),
            ("5/10 * * * *", false),
            ("a * * * *", false),
            ("1,,2 * * * *", false),
            ("-1 * * * *", false),
            ("@daily", false),
            ("", false),
        ] {
            assert_eq!(text.parse::<Cron>().is_ok(), fine, "{text}");
        }
    }

    #[test]
    fn dates() {
        let date = |day| Date::new(2026, 11, day).unwrap();
        for (text, days) in [
            ("0 0 * * FRI", vec![6, 13, 20, 27]),
            ("0 0 * * 0", vec![1, 8, 15, 22, 29]),
            ("0 0 * * SUN", vec![1, 8, 15, 22, 29]),
            ("0 0 * * 7", vec![1, 8, 15, 22, 29]),
            ("0 0 13 * FRI", vec![6, 13, 20, 27]),
            ("0 0 1 * FRI", vec![1, 6, 13, 20, 27]),
            ("0 0 13 * *", vec![13]),
            ("0 0 */10 * *", vec![1, 11, 21]),
            ("0 0 * 12 *", vec![]),
        ] {
            let cron: Cron = text.parse().unwrap();
            let fits: Vec<i8> = (1..=30).filter(|day| cron.fits(date(*day))).collect();
            assert_eq!(fits, days, "{text}");
        }
    }

    #[test]
    fn minutes_come_latest_first() {
        let cron: Cron = "5,35 1,13 * * *".parse().unwrap();
        let expected = [13 * 60 + 35, 13 * 60 + 5, 60 + 35, 60 + 5];
        assert_eq!(cron.minutes().collect::<Vec<_>>(), expected);
    }
}
