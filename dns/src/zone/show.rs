//! A record's data from wire form to text that reads back the same.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::location;
use super::rdata;
use super::schema::{self, Field};
use super::svcb;
use crate::wire::Rtype;
use crate::wire::name::write_text;

/// The data in presentation format; the generic form where the type is not known or the octets are
/// not what the type says.
pub(crate) fn data(rtype: Rtype, wire: &[u8]) -> String {
    let fields = schema::fields(rtype).filter(|fields| rdata::is_valid(fields, wire));
    let Some(fields) = fields else { return generic(wire) };
    let mut out = String::new();
    let mut rest = wire;
    for field in fields {
        let Some((part, after)) = rdata::split(*field, rest) else { break };
        if !out.is_empty() && !matches!(field, Field::Params | Field::Types) {
            out.push(' ');
        }
        push(&mut out, *field, part);
        rest = after;
    }
    out
}

fn generic(wire: &[u8]) -> String {
    if wire.is_empty() { "\\# 0".to_owned() } else { format!("\\# {} {}", wire.len(), hex(wire)) }
}

fn push(out: &mut String, field: Field, part: &[u8]) {
    let integer = || part.iter().fold(0u64, |value, octet| value << 8 | u64::from(*octet));
    let counted = part.get(1..).unwrap_or_default();
    match field {
        Field::V4 => {
            let octets = part.first_chunk::<4>().copied().unwrap_or_default();
            out.push_str(&Ipv4Addr::from(octets).to_string());
        }
        Field::V6 => {
            let octets = part.first_chunk::<16>().copied().unwrap_or_default();
            out.push_str(&Ipv6Addr::from(octets).to_string());
        }
        Field::Compressed | Field::Name => {
            let _ = write_text(out, part);
        }
        Field::U8
        | Field::U16
        | Field::U32
        | Field::Period
        | Field::Time
        | Field::CertType
        | Field::Algorithm => out.push_str(&integer().to_string()),
        Field::Type => {
            let number = u16::try_from(integer()).unwrap_or_default();
            out.push_str(&schema::name(Rtype(number)));
        }
        Field::Text => string(out, counted),
        Field::Tag => out.push_str(&String::from_utf8_lossy(counted)),
        Field::Texts => texts(out, part),
        Field::Rest => string(out, part),
        Field::Base64 => out.push_str(&STANDARD.encode(part)),
        Field::Hex => out.push_str(&hex(part)),
        Field::Salt if counted.is_empty() => out.push('-'),
        Field::Salt => out.push_str(&hex(counted)),
        Field::Base32 => out.push_str(&base32(counted)),
        Field::Types => types(out, part),
        Field::Params => svcb::show(out, part),
        Field::Eui48 | Field::Eui64 => {
            let groups: Vec<_> = part.iter().map(|octet| format!("{octet:02x}")).collect();
            out.push_str(&groups.join("-"));
        }
        Field::Location => location::show(out, part),
        Field::Locator64 => {
            let groups: Vec<_> = part.chunks(2).map(hex).collect();
            out.push_str(&groups.join(":"));
        }
    }
}

fn texts(out: &mut String, part: &[u8]) {
    let mut rest = part;
    let mut first = true;
    while let Some((length, after)) = rest.split_first() {
        let (text, after) = after.split_at_checked(usize::from(*length)).unwrap_or_default();
        if !first {
            out.push(' ');
        }
        first = false;
        string(out, text);
        rest = after;
    }
}

fn types(out: &mut String, part: &[u8]) {
    let mut rest = part;
    while let Some(([window, length], after)) = rest.split_first_chunk::<2>() {
        let (bits, after) = after.split_at_checked(usize::from(*length)).unwrap_or_default();
        for (octet, bits) in (0u8..).zip(bits) {
            for bit in (0u8..8).filter(|bit| bits & (0x80 >> bit) != 0) {
                let number = u16::from_be_bytes([*window, octet * 8 + bit]);
                out.push(' ');
                out.push_str(&schema::name(Rtype(number)));
            }
        }
        rest = after;
    }
}

/// Writes a quoted string.
pub(crate) fn string(out: &mut String, octets: &[u8]) {
    out.push('"');
    for &octet in octets {
        match octet {
            b'"' | b'\\' => {
                out.push('\\');
                out.push(char::from(octet));
            }
            b' '..=b'~' => out.push(char::from(octet)),
            _ => {
                let _ = write!(out, "\\{octet:03}");
            }
        }
    }
    out.push('"');
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

fn base32(octets: &[u8]) -> String {
    const DIGITS: &[u8; 32] = b"0123456789abcdefghijklmnopqrstuv";
    let mut out = String::new();
    for block in octets.chunks(5) {
        let mut padded = [0u8; 8];
        padded.iter_mut().skip(3).zip(block).for_each(|(to, from)| *to = *from);
        let bits = u64::from_be_bytes(padded);
        let digits = (block.len() * 8).div_ceil(5);
        for index in 0..digits {
            let value = bits >> (35 - 5 * index) & 31;
            let digit = usize::try_from(value).ok().and_then(|value| DIGITS.get(value));
            out.push(digit.copied().map_or('0', char::from));
        }
    }
    out
}
