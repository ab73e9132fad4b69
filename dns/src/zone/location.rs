//! LOC records: a place on Earth (RFC 1876).
//!
//! Wire form, version 0: three octets of size and precisions, each a digit and a power of ten of
//! centimetres; latitude and longitude in thousandths of a second of arc from 2^31; altitude in
//! centimetres from 100 000 m below the reference.

use std::fmt::Write as _;

use super::text::Token;

/// The equator and the prime meridian.
const MIDDLE: u32 = 1 << 31;

/// Reference altitude in centimetres.
const DEPTH: i64 = 10_000_000;

/// Thousandths of a second in a degree.
const DEGREE: u32 = 3_600_000;

/// Size and precisions where the text has none, in centimetres (RFC 1876 section 3).
const DEFAULTS: [i64; 3] = [100, 1_000_000, 1_000];

/// Reads `d [m [s]] N|S d [m [s]] E|W altitude [size [horizontal [vertical]]]`.
pub(super) fn read(tokens: &[Token<'_>]) -> Result<[u8; 16], String> {
    let words: Vec<String> = tokens.iter().map(Token::shown).collect();
    let mut rest = words.as_slice();
    let latitude = angle(&mut rest, 90, "N", "S").ok_or("the latitude is none")?;
    let longitude = angle(&mut rest, 180, "E", "W").ok_or("the longitude is none")?;
    let (altitude, lengths) = rest.split_first().ok_or("the altitude is missing")?;
    let altitude = centimetres(altitude).and_then(|value| u32::try_from(value + DEPTH).ok());
    let altitude = altitude.ok_or("the altitude is none")?;
    if lengths.len() > DEFAULTS.len() {
        return Err("there are more than three lengths after the altitude".to_owned());
    }
    let mut wire = [0; 16];
    let given = lengths.iter().map(Some).chain(std::iter::repeat(None));
    for ((slot, default), given) in wire.iter_mut().skip(1).zip(DEFAULTS).zip(given) {
        let length = given.map_or(Some(default), |text| centimetres(text));
        *slot = length.and_then(power).ok_or("a length is none of 0 to 90000000m")?;
    }
    let numbers = [latitude, longitude, altitude].map(u32::to_be_bytes).concat();
    wire.iter_mut().skip(4).zip(numbers).for_each(|(slot, octet)| *slot = octet);
    Ok(wire)
}

/// Degrees, minutes, seconds and a direction.
fn angle(words: &mut &[String], most: u32, plus: &str, minus: &str) -> Option<u32> {
    let end = words
        .iter()
        .take(4)
        .position(|word| word.eq_ignore_ascii_case(plus) || word.eq_ignore_ascii_case(minus))?;
    let (parts, rest) = words.split_at_checked(end)?;
    let (direction, rest) = rest.split_first()?;
    *words = rest;
    let degrees = u32::try_from(thousandths(parts.first()?, 0)?).ok()?;
    let minutes = parts.get(1).map_or(Some(0), |text| thousandths(text, 0))?;
    let seconds = parts.get(2).map_or(Some(0), |text| thousandths(text, 3))?;
    let (minutes, seconds) = (u32::try_from(minutes).ok()?, u32::try_from(seconds).ok()?);
    if degrees > most || minutes > 59 || seconds > 59_999 {
        return None;
    }
    let value = degrees * DEGREE + minutes * 60_000 + seconds;
    if value > most * DEGREE {
        return None;
    }
    let is_plus = direction.eq_ignore_ascii_case(plus);
    Some(if is_plus { MIDDLE + value } else { MIDDLE - value })
}

/// Metres with up to two decimals and perhaps an `m`.
fn centimetres(text: &str) -> Option<i64> {
    let text = text.strip_suffix(['m', 'M']).unwrap_or(text);
    let (sign, digits) = text.strip_prefix('-').map_or((1, text), |digits| (-1, digits));
    thousandths(digits, 2).map(|value| sign * value)
}

/// A decimal number as an integer of units of 10^-`decimals`.
fn thousandths(text: &str, decimals: usize) -> Option<i64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|octet| octet.is_ascii_digit());
    let fits = !whole.is_empty() && whole.len() <= 10 && part.len() <= decimals;
    if !fits || !digits(whole) || !digits(part) {
        return None;
    }
    format!("{whole}{part:0<decimals$}").parse().ok()
}

/// A length as a digit and a power of ten, rounded down.
fn power(length: i64) -> Option<u8> {
    let mut digit = u64::try_from(length).ok()?;
    let mut exponent = 0u8;
    while digit > 9 {
        digit /= 10;
        exponent += 1;
    }
    if exponent > 9 { None } else { u8::try_from(digit).ok().map(|digit| digit << 4 | exponent) }
}

/// Whether `wire` starts with a location of version 0.
pub(super) fn is_valid(wire: &[u8]) -> bool {
    let Some([version, lengths @ .., _, _, _, _, _, _, _, _, _, _, _, _]) =
        wire.first_chunk::<16>()
    else {
        return false;
    };
    *version == 0 && lengths.iter().all(|length| length >> 4 <= 9 && length & 0x0f <= 9)
}

/// Writes all parts.
pub(super) fn show(out: &mut String, wire: &[u8]) {
    let number = |at: usize| {
        let octets = wire.get(at..).and_then(|octets| octets.first_chunk::<4>());
        octets.map_or(0, |octets| u32::from_be_bytes(*octets))
    };
    show_angle(out, number(4), 'N', 'S');
    show_angle(out, number(8), 'E', 'W');
    show_metres(out, i64::from(number(12)) - DEPTH);
    for length in wire.iter().skip(1).take(3) {
        out.push(' ');
        show_metres(out, i64::from(length >> 4) * 10i64.pow(u32::from(length & 0x0f)));
    }
}

fn show_angle(out: &mut String, value: u32, plus: char, minus: char) {
    let from_middle = value.abs_diff(MIDDLE);
    let (degrees, minutes) = (from_middle / DEGREE, from_middle / 60_000 % 60);
    let (seconds, rest) = (from_middle / 1000 % 60, from_middle % 1000);
    let direction = if value >= MIDDLE { plus } else { minus };
    let _ = write!(out, "{degrees} {minutes} {seconds}.{rest:03} {direction} ");
}

fn show_metres(out: &mut String, centimetres: i64) {
    let sign = if centimetres < 0 { "-" } else { "" };
    let (metres, rest) = (centimetres.abs() / 100, centimetres.abs() % 100);
    let _ = write!(out, "{sign}{metres}.{rest:02}m");
}

#[cfg(test)]
mod tests {
    use crate::wire::Rtype;
    use crate::zone::{rdata, show};

    fn shown(text: &str) -> Result<String, String> {
        let mut tokens = Vec::new();
        crate::zone::text::Lexer::new(text).next(&mut tokens).unwrap().1.unwrap();
        let wire = rdata::read(Rtype(29), &tokens, &[0]).map_err(|fault| fault.problem)?;
        Ok(show::data(Rtype(29), &wire))
    }

    #[test]
    fn places() {
        for (text, want) in [
            // RFC 1876 section 4.
            (
                "42 21 54 N 71 06 18 W -24m 30m",
                "42 21 54.000 N 71 6 18.000 W -24.00m 30.00m 10000.00m 10.00m",
            ),
            (
                "52 14 05 N 00 08 50.5 E 10m 1m 10m 2m",
                "52 14 5.000 N 0 8 50.500 E 10.00m 1.00m 10.00m 2.00m",
            ),
            ("90 s 180 w 0", "90 0 0.000 S 180 0 0.000 W 0.00m 1.00m 10000.00m 10.00m"),
        ] {
            assert_eq!(shown(text).as_deref(), Ok(want));
            assert_eq!(shown(want).as_deref(), Ok(want));
        }
        for text in [
            "1",
            "91 N 0 E 0",
            "90 0 0.001 N 0 E 0",
            "1 60 N 0 E 0",
            "1 N 0 N 0",
            "1 N 1 E",
            "1 N 1 E 1mm",
            "1 N 1 E -100001",
            "1 N 1 E 1 1 1 1 1",
            "1 N 1 E 1 -1",
            "1 N 1 E 1 90000001000",
            "1.5 N 1 E 1",
        ] {
            assert!(shown(text).is_err(), "{text}");
        }
    }
}
