//! A record's data from text to wire form, and its parts in wire form.

use std::net::{Ipv4Addr, Ipv6Addr};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::location;
use super::problem::Fault;
use super::schema::{self, Field};
use super::svcb;
use super::text::{Token, seconds};
use crate::wire::Rtype;
use crate::wire::name::{NameBuf, push_text, unescape};

/// Reads the data of a record; `origin` completes relative names. Gives the wire form.
pub(crate) fn read(rtype: Rtype, tokens: &[Token<'_>], origin: &[u8]) -> Result<Vec<u8>, Fault> {
    let mut wire = Vec::with_capacity(16);
    if let [first, rest @ ..] = tokens
        && !first.quoted
        && first.raw == b"\\#"
    {
        return generic(rtype, rest);
    }
    let Some(known) = schema::by_number(rtype) else {
        let problem = format!("the data of {} has no text form", schema::name(rtype));
        return Err(Fault::new(problem, "write it as `\\# length hex` (RFC 3597)"));
    };
    let usage = || format!("{} takes {}", known.mnemonic, known.usage);
    let mut words = Words { rest: tokens, origin };
    for field in known.fields {
        push(&mut wire, *field, &mut words).map_err(|problem| Fault::new(problem, usage()))?;
    }
    if let Some(extra) = words.rest.first() {
        return Err(Fault::new(format!("`{}` is too much", extra.shown()), usage()));
    }
    if wire.len() > usize::from(u16::MAX) {
        return Err(Fault::new("the data is longer than 65535 octets", usage()));
    }
    Ok(wire)
}

/// The `\# length hex` form (RFC 3597 section 5), checked against the type where it is known.
fn generic(rtype: Rtype, tokens: &[Token<'_>]) -> Result<Vec<u8>, Fault> {
    let fix = "write `\\# length hex`: `\\# 4 C0000201`";
    let [length, digits @ ..] = tokens else {
        return Err(Fault::new("the length after `\\#` is missing", fix));
    };
    let Some(length) = number(length.raw, u64::from(u16::MAX)) else {
        return Err(Fault::new(format!("`{}` is no length", length.shown()), fix));
    };
    let text: Vec<u8> = digits.iter().flat_map(|token| token.raw).copied().collect();
    let Some(wire) = unhex(&text) else {
        return Err(Fault::new("the data is not pairs of hexadecimal digits", fix));
    };
    if u64::try_from(wire.len()) != Ok(length) {
        let problem = format!("the length says {length} octets, the data has {}", wire.len());
        return Err(Fault::new(problem, "make the two agree"));
    }
    if let Some(known) = schema::by_number(rtype)
        && !is_valid(known.fields, &wire)
    {
        let problem = format!("the octets are no data of {}", known.mnemonic);
        return Err(Fault::new(problem, format!("{} takes {}", known.mnemonic, known.usage)));
    }
    Ok(wire)
}

struct Words<'w, 't> {
    rest: &'w [Token<'t>],
    origin: &'w [u8],
}

impl<'t> Words<'_, 't> {
    fn next(&mut self, what: &str) -> Result<Token<'t>, String> {
        let (first, rest) = self.rest.split_first().ok_or_else(|| format!("{what} is missing"))?;
        self.rest = rest;
        Ok(*first)
    }

    /// The remaining tokens, joined.
    fn join(&mut self, what: &str) -> Result<Vec<u8>, String> {
        if self.rest.is_empty() {
            return Err(format!("{what} is missing"));
        }
        let joined = self.rest.iter().flat_map(|token| token.raw).copied().collect();
        self.rest = &[];
        Ok(joined)
    }
}

fn not(token: Token<'_>, what: &str) -> String {
    format!("`{}` is no {what}", token.shown())
}

/// Appends one field's wire form.
fn push(wire: &mut Vec<u8>, field: Field, words: &mut Words<'_, '_>) -> Result<(), String> {
    match field {
        Field::V4 => {
            let address: Ipv4Addr = parsed(words.next("the address")?, "IPv4 address")?;
            wire.extend_from_slice(&address.octets());
        }
        Field::V6 => {
            let address: Ipv6Addr = parsed(words.next("the address")?, "IPv6 address")?;
            wire.extend_from_slice(&address.octets());
        }
        Field::Compressed | Field::Name => {
            let token = words.next("a name")?;
            push_name(wire, token, words.origin)?;
        }
        Field::U8 => push_number(wire, 1, words)?,
        Field::U16 => push_number(wire, 2, words)?,
        Field::U32 => push_number(wire, 4, words)?,
        Field::Period => {
            let token = words.next("a period of time")?;
            let seconds = seconds(token.raw).and_then(|seconds| u32::try_from(seconds).ok());
            let seconds = seconds.ok_or_else(|| not(token, "period of time"))?;
            wire.extend_from_slice(&seconds.to_be_bytes());
        }
        Field::Time => {
            let token = words.next("a time")?;
            let seconds = time(token.raw).ok_or_else(|| not(token, "time"))?;
            wire.extend_from_slice(&seconds.to_be_bytes());
        }
        Field::Type | Field::CertType | Field::Algorithm => push_mnemonic(wire, field, words)?,
        Field::Text => push_string(wire, words.next("a string")?)?,
        Field::Texts => push_strings(wire, words)?,
        Field::Tag => push_tag(wire, words)?,
        Field::Rest => push_unescaped(wire, words.next("the value")?.raw)?,
        Field::Base64 => push_base64(wire, words)?,
        Field::Hex => push_hex(wire, words)?,
        Field::Salt => {
            let token = words.next("the salt")?;
            let salt = if token.raw == b"-" { Some(Vec::new()) } else { unhex(token.raw) };
            push_counted(wire, &salt.ok_or_else(|| not(token, "salt in hexadecimal digits"))?)?;
        }
        Field::Base32 => {
            let token = words.next("the hashed name")?;
            let hash = unbase32(token.raw).ok_or_else(|| not(token, "base32hex text"))?;
            push_counted(wire, &hash)?;
        }
        Field::Types => {
            let types: Result<Vec<_>, _> = words.rest.iter().map(|token| type_of(*token)).collect();
            words.rest = &[];
            push_types(wire, types?);
        }
        Field::Params => {
            wire.extend(svcb::read(words.rest)?);
            words.rest = &[];
        }
        Field::Eui48 => push_groups(wire, words.next("the identifier")?, b'-', 6)?,
        Field::Eui64 => push_groups(wire, words.next("the identifier")?, b'-', 8)?,
        Field::Locator64 => push_locator(wire, words.next("the identifier")?)?,
        Field::Location => {
            wire.extend(location::read(words.rest)?);
            words.rest = &[];
        }
    }
    Ok(())
}

fn push_strings(wire: &mut Vec<u8>, words: &mut Words<'_, '_>) -> Result<(), String> {
    push_string(wire, words.next("a string")?)?;
    while let Ok(token) = words.next("") {
        push_string(wire, token)?;
    }
    Ok(())
}

fn push_tag(wire: &mut Vec<u8>, words: &mut Words<'_, '_>) -> Result<(), String> {
    let token = words.next("the tag")?;
    if token.raw.is_empty() || !token.raw.iter().all(u8::is_ascii_alphanumeric) {
        return Err(not(token, "tag of letters and digits"));
    }
    push_string(wire, token)
}

fn push_base64(wire: &mut Vec<u8>, words: &mut Words<'_, '_>) -> Result<(), String> {
    let text = words.join("the base64 data")?;
    let octets = STANDARD.decode(&text);
    wire.extend(octets.map_err(|_| "the data is not base64".to_owned())?);
    Ok(())
}

fn push_hex(wire: &mut Vec<u8>, words: &mut Words<'_, '_>) -> Result<(), String> {
    let text = words.join("the hexadecimal data")?;
    wire.extend(unhex(&text).ok_or("the data is not pairs of hexadecimal digits")?);
    Ok(())
}

fn parsed<T: std::str::FromStr>(token: Token<'_>, what: &str) -> Result<T, String> {
    let text = std::str::from_utf8(token.raw).ok();
    text.and_then(|text| text.parse().ok()).ok_or_else(|| not(token, what))
}

pub(crate) fn push_name(wire: &mut Vec<u8>, token: Token<'_>, origin: &[u8]) -> Result<(), String> {
    if token.raw == b"@" && !token.quoted {
        wire.extend_from_slice(origin);
        return Ok(());
    }
    let at = wire.len();
    push_text(wire, token.raw, Some(origin)).map_err(|error| {
        wire.truncate(at);
        format!("`{}` is no name: {error}", token.shown())
    })
}

fn push_number(wire: &mut Vec<u8>, octets: usize, words: &mut Words<'_, '_>) -> Result<(), String> {
    let token = words.next("a number")?;
    let most = u64::MAX >> (64 - 8 * octets);
    let value = number(token.raw, most);
    let value = value.ok_or_else(|| not(token, &format!("number of 0 to {most}")))?;
    wire.extend(value.to_be_bytes().iter().skip(8 - octets));
    Ok(())
}

fn number(text: &[u8], most: u64) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let value = std::str::from_utf8(text).ok()?.parse().ok()?;
    if value <= most { Some(value) } else { None }
}

/// DNSSEC algorithms (RFC 8624 section 3.1) and certificate types (RFC 4398 section 2.1).
const ALGORITHMS: &[(&str, u16)] = &[
    ("RSAMD5", 1),
    ("DH", 2),
    ("DSA", 3),
    ("RSASHA1", 5),
    ("DSA-NSEC3-SHA1", 6),
    ("RSASHA1-NSEC3-SHA1", 7),
    ("RSASHA256", 8),
    ("RSASHA512", 10),
    ("ECC-GOST", 12),
    ("ECDSAP256SHA256", 13),
    ("ECDSAP384SHA384", 14),
    ("ED25519", 15),
    ("ED448", 16),
    ("INDIRECT", 252),
    ("PRIVATEDNS", 253),
    ("PRIVATEOID", 254),
];
const CERT_TYPES: &[(&str, u16)] = &[
    ("PKIX", 1),
    ("SPKI", 2),
    ("PGP", 3),
    ("IPKIX", 4),
    ("ISPKI", 5),
    ("IPGP", 6),
    ("ACPKIX", 7),
    ("IACPKIX", 8),
    ("URI", 253),
    ("OID", 254),
];

fn push_mnemonic(
    wire: &mut Vec<u8>,
    field: Field,
    words: &mut Words<'_, '_>,
) -> Result<(), String> {
    let token = words.next("a mnemonic")?;
    if field == Field::Type {
        wire.extend_from_slice(&type_of(token)?.0.to_be_bytes());
        return Ok(());
    }
    let table = if field == Field::Algorithm { ALGORITHMS } else { CERT_TYPES };
    let shown = token.shown();
    let named = table.iter().find(|(name, _)| name.eq_ignore_ascii_case(&shown));
    let value = named.map(|(_, value)| u64::from(*value));
    let most = if field == Field::Algorithm { 255 } else { 65_535 };
    let value = value.or_else(|| number(token.raw, most));
    let value = value.ok_or_else(|| not(token, "mnemonic or number"))?.to_be_bytes();
    wire.extend(value.iter().skip(if field == Field::Algorithm { 7 } else { 6 }));
    Ok(())
}

fn type_of(token: Token<'_>) -> Result<Rtype, String> {
    schema::by_text(&token.shown()).ok_or_else(|| not(token, "record type"))
}

fn push_string(wire: &mut Vec<u8>, token: Token<'_>) -> Result<(), String> {
    let mut octets = Vec::with_capacity(token.raw.len());
    push_unescaped(&mut octets, token.raw)?;
    push_counted(wire, &octets)
}

fn push_counted(wire: &mut Vec<u8>, octets: &[u8]) -> Result<(), String> {
    let length = u8::try_from(octets.len())
        .map_err(|_| "a string is longer than 255 octets; split it".to_owned())?;
    wire.push(length);
    wire.extend_from_slice(octets);
    Ok(())
}

pub(crate) fn push_unescaped(wire: &mut Vec<u8>, raw: &[u8]) -> Result<(), String> {
    let mut rest = raw;
    while let Some((&first, after)) = rest.split_first() {
        let (octet, after) = match first {
            b'\\' => unescape(after).ok_or("a backslash takes one character or three digits")?,
            plain => (plain, after),
        };
        wire.push(octet);
        rest = after;
    }
    Ok(())
}

fn push_types(wire: &mut Vec<u8>, mut types: Vec<Rtype>) {
    types.sort_unstable();
    for window in types.chunk_by(|a, b| a.0 >> 8 == b.0 >> 8) {
        let mut bits = [0u8; 32];
        let mut used = 0u8;
        for Rtype(number) in window {
            let [_, low] = number.to_be_bytes();
            if let Some(octet) = bits.get_mut(usize::from(low / 8)) {
                *octet |= 0x80 >> (low % 8);
            }
            used = used.max(low / 8 + 1);
        }
        let Some(Rtype(first)) = window.first() else { continue };
        let [high, _] = first.to_be_bytes();
        wire.extend_from_slice(&[high, used]);
        wire.extend(bits.iter().take(usize::from(used)));
    }
}

fn push_groups(
    wire: &mut Vec<u8>,
    token: Token<'_>,
    between: u8,
    count: usize,
) -> Result<(), String> {
    let groups: Vec<_> = token.raw.split(|octet| *octet == between).map(unhex).collect();
    let octets: Option<Vec<Vec<u8>>> = groups.into_iter().collect();
    match octets {
        Some(octets) if octets.len() == count && octets.iter().all(|octet| octet.len() == 1) => {
            wire.extend(octets.into_iter().flatten());
            Ok(())
        }
        _ => Err(not(token, "identifier")),
    }
}

fn push_locator(wire: &mut Vec<u8>, token: Token<'_>) -> Result<(), String> {
    let text = token.shown();
    let groups: Vec<_> = text.split(':').map(|group| u16::from_str_radix(group, 16)).collect();
    if groups.len() != 4 || text.contains('+') {
        return Err(not(token, "four groups of hexadecimal digits"));
    }
    for group in groups {
        let group = group.map_err(|_| not(token, "four groups of hexadecimal digits"))?;
        wire.extend_from_slice(&group.to_be_bytes());
    }
    Ok(())
}

/// Seconds since 1970 from digits: 14 of them are a date (RFC 4034 section 3.2).
fn time(text: &[u8]) -> Option<u32> {
    let value = number(text, u64::MAX)?;
    if text.len() != 14 {
        return u32::try_from(value).ok();
    }
    let part = |divisor: u64, modulus: u64| value / divisor % modulus;
    let (year, month, day) =
        (part(10_000_000_000, 10_000), part(100_000_000, 100), part(1_000_000, 100));
    let (hour, minute, second) = (part(10_000, 100), part(100, 100), part(1, 100));
    let fits = (1970..=2105).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second < 61;
    if !fits {
        return None;
    }
    // Days of the civil calendar, counted from March so that the leap day comes last.
    let (from_march, year) = if month > 2 { (month - 3, year) } else { (month + 9, year - 1) };
    let days =
        365 * year + year / 4 - year / 100 + year / 400 + (153 * from_march + 2) / 5 + day - 1;
    let days = days.checked_sub(719_468)?;
    u32::try_from(((days * 24 + hour) * 60 + minute) * 60 + second).ok()
}

pub(crate) fn unhex(text: &[u8]) -> Option<Vec<u8>> {
    let digit = |octet: u8| char::from(octet).to_digit(16).and_then(|d| u8::try_from(d).ok());
    let mut pairs = text.chunks_exact(2);
    let octets = pairs.by_ref().map(|pair| match pair {
        [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    });
    let octets = octets.collect::<Option<Vec<u8>>>()?;
    if pairs.remainder().is_empty() { Some(octets) } else { None }
}

/// Base32hex without padding (RFC 4648 section 7).
fn unbase32(text: &[u8]) -> Option<Vec<u8>> {
    let mut octets = Vec::new();
    let (mut bits, mut count) = (0u32, 0u32);
    for octet in text {
        let value = char::from(*octet).to_digit(32)?;
        bits = (bits << 5 | value) & 0xfff;
        count += 5;
        if count >= 8 {
            count -= 8;
            octets.push(u8::try_from(bits >> count & 0xff).ok()?);
        }
    }
    if octets.is_empty() { None } else { Some(octets) }
}

/// Whether `wire` has just these fields.
pub(crate) fn is_valid(fields: &[Field], wire: &[u8]) -> bool {
    let mut rest = wire;
    for field in fields {
        let Some((_, after)) = split(*field, rest) else { return false };
        rest = after;
    }
    rest.is_empty()
}

/// Cuts a field off wire data; None when the octets do not hold one.
pub(crate) fn split(field: Field, wire: &[u8]) -> Option<(&[u8], &[u8])> {
    let length = match field {
        Field::U8 | Field::Algorithm => 1,
        Field::U16 | Field::Type | Field::CertType => 2,
        Field::V4 | Field::U32 | Field::Period | Field::Time => 4,
        Field::Eui48 => 6,
        Field::Eui64 | Field::Locator64 => 8,
        Field::V6 => 16,
        Field::Location => location::is_valid(wire).then_some(16)?,
        Field::Compressed | Field::Name => NameBuf::from_wire(wire)?.bytes().len(),
        Field::Text | Field::Salt => 1 + usize::from(*wire.first()?),
        Field::Tag | Field::Base32 => 1 + usize::from(*wire.first().filter(|n| **n > 0)?),
        Field::Rest => wire.len(),
        Field::Base64 | Field::Hex if wire.is_empty() => return None,
        Field::Base64 | Field::Hex => wire.len(),
        Field::Texts => {
            let mut rest = wire.get(1 + usize::from(*wire.first()?)..)?;
            while let Some(length) = rest.first() {
                rest = rest.get(1 + usize::from(*length)..)?;
            }
            wire.len()
        }
        Field::Types => {
            let mut rest = wire;
            while let Some(([_, length], after)) = rest.split_first_chunk::<2>() {
                let fits = (1..=32).contains(length);
                rest = after.get(usize::from(*length)..).filter(|_| fits)?;
            }
            if rest.is_empty() { wire.len() } else { return None }
        }
        Field::Params => svcb::is_valid(wire).then_some(wire.len())?,
    };
    wire.split_at_checked(length)
}

/// The data with its names in lower case, for comparing (RFC 4034 section 6.2).
pub(crate) fn canonical(rtype: Rtype, wire: &[u8]) -> Vec<u8> {
    let mut canonical = Vec::with_capacity(wire.len());
    let mut rest = wire;
    for field in schema::fields(rtype).unwrap_or_default() {
        let Some((part, after)) = split(*field, rest) else { break };
        let begin = canonical.len();
        canonical.extend_from_slice(part);
        if matches!(field, Field::Compressed | Field::Name) {
            canonical.get_mut(begin..).unwrap_or_default().make_ascii_lowercase();
        }
        rest = after;
    }
    canonical.extend_from_slice(rest);
    canonical
}
