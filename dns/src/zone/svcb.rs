//! Service parameters of SVCB and HTTPS (RFC 9460).

use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::rdata::push_unescaped;
use super::show;
use super::text::Token;

/// Keys with a name of their own (RFC 9460 section 14.3.2, RFC 9461, RFC 9540).
const KEYS: &[&str] = &[
    "mandatory",
    "alpn",
    "no-default-alpn",
    "port",
    "ipv4hint",
    "ech",
    "ipv6hint",
    "dohpath",
    "ohttp",
];
pub(crate) const MANDATORY: u16 = 0;
const ALPN: u16 = 1;
const NO_DEFAULT_ALPN: u16 = 2;
const PORT: u16 = 3;
pub(crate) const IPV4HINT: u16 = 4;
const ECH: u16 = 5;
pub(crate) const IPV6HINT: u16 = 6;
const OHTTP: u16 = 8;

/// Reads `key=value` tokens into wire form.
pub(crate) fn read(tokens: &[Token<'_>]) -> Result<Vec<u8>, String> {
    let mut params: Vec<(u16, Vec<u8>)> = Vec::with_capacity(tokens.len());
    for token in tokens {
        let mut parts = token.raw.splitn(2, |octet| *octet == b'=');
        let key_text = String::from_utf8_lossy(parts.next().unwrap_or_default()).into_owned();
        let key = key_of(&key_text).ok_or_else(|| format!("`{key_text}` is no parameter key"))?;
        if params.iter().any(|(known, _)| *known == key) {
            return Err(format!("`{key_text}` is given twice"));
        }
        let mut text = Vec::new();
        if let Some(raw) = parts.next() {
            let inside = raw.strip_prefix(b"\"").and_then(|raw| raw.strip_suffix(b"\""));
            push_unescaped(&mut text, inside.unwrap_or(raw))?;
        }
        let value = value(key, &text).ok_or_else(|| {
            format!("`{}` is no value of `{key_text}`", String::from_utf8_lossy(&text))
        })?;
        params.push((key, value));
    }
    params.sort_unstable_by_key(|(key, _)| *key);
    let mut wire = Vec::new();
    for (key, value) in &params {
        let length = u16::try_from(value.len()).map_err(|_| "a value is too long".to_owned())?;
        wire.extend_from_slice(&key.to_be_bytes());
        wire.extend_from_slice(&length.to_be_bytes());
        wire.extend_from_slice(value);
    }
    if is_consistent(&wire) {
        Ok(wire)
    } else {
        Err("`mandatory` names a key that is missing, or `no-default-alpn` is without `alpn`"
            .to_owned())
    }
}

fn key_of(text: &str) -> Option<u16> {
    if let Some(at) = KEYS.iter().position(|key| *key == text) {
        return u16::try_from(at).ok();
    }
    let digits = text.strip_prefix("key")?;
    let plain =
        digits.bytes().all(|d| d.is_ascii_digit()) && (digits == "0" || !digits.starts_with('0'));
    // 65535 is reserved as the invalid key.
    if plain { digits.parse().ok().filter(|key| *key != u16::MAX) } else { None }
}

fn value(key: u16, text: &[u8]) -> Option<Vec<u8>> {
    let list = || std::str::from_utf8(text).ok().map(|text| text.split(','));
    match key {
        MANDATORY => {
            let mut keys = list()?.map(key_of).collect::<Option<Vec<u16>>>()?;
            keys.sort_unstable();
            let octets: Vec<u8> = keys.iter().flat_map(|key| key.to_be_bytes()).collect();
            is_value(MANDATORY, &octets).then_some(octets)
        }
        ALPN => alpn(text),
        NO_DEFAULT_ALPN | OHTTP => text.is_empty().then(Vec::new),
        PORT => {
            let digits = text.iter().all(u8::is_ascii_digit);
            let port: u16 = std::str::from_utf8(text).ok().filter(|_| digits)?.parse().ok()?;
            Some(port.to_be_bytes().to_vec())
        }
        IPV4HINT => {
            let hints = list()?.map(|text| text.parse().ok().map(|a: Ipv4Addr| a.octets()));
            hints.collect::<Option<Vec<_>>>().map(|hints| hints.concat())
        }
        IPV6HINT => {
            let hints = list()?.map(|text| text.parse().ok().map(|a: Ipv6Addr| a.octets()));
            hints.collect::<Option<Vec<_>>>().map(|hints| hints.concat())
        }
        ECH => STANDARD.decode(text).ok().filter(|octets| !octets.is_empty()),
        _ => Some(text.to_vec()),
    }
}

/// A list with its own escapes: `\,` and `\\` (RFC 9460 appendix A.1).
fn alpn(text: &[u8]) -> Option<Vec<u8>> {
    let mut ids = vec![Vec::new()];
    let mut rest = text.iter();
    while let Some(octet) = rest.next() {
        match octet {
            b',' => ids.push(Vec::new()),
            b'\\' => ids.last_mut()?.push(*rest.next()?),
            plain => ids.last_mut()?.push(*plain),
        }
    }
    let mut wire = Vec::new();
    for id in ids {
        wire.push(u8::try_from(id.len()).ok().filter(|length| *length > 0)?);
        wire.extend(id);
    }
    Some(wire)
}

/// The parameters of wire data, each key with its value.
pub(crate) struct Params<'p>(pub(crate) &'p [u8]);

impl<'p> Iterator for Params<'p> {
    type Item = (u16, &'p [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (key, rest) = self.0.split_first_chunk::<2>()?;
        let (length, rest) = rest.split_first_chunk::<2>()?;
        let (value, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        self.0 = rest;
        Some((u16::from_be_bytes(*key), value))
    }
}

/// Whether `wire` is parameters in strictly rising order with valid values.
pub(crate) fn is_valid(wire: &[u8]) -> bool {
    let mut before = None;
    let mut params = Params(wire);
    for (key, value) in params.by_ref() {
        if before.is_some_and(|before| before >= key) || !is_value(key, value) {
            return false;
        }
        before = Some(key);
    }
    params.0.is_empty() && is_consistent(wire)
}

fn is_consistent(wire: &[u8]) -> bool {
    let has = |wanted: u16| Params(wire).any(|(key, _)| key == wanted);
    let mandatory = Params(wire).find(|(key, _)| *key == MANDATORY).map(|(_, value)| value);
    let listed = mandatory.unwrap_or_default().chunks_exact(2);
    let mut listed = listed.filter_map(|pair| pair.first_chunk::<2>());
    listed.all(|key| has(u16::from_be_bytes(*key))) && (!has(NO_DEFAULT_ALPN) || has(ALPN))
}

fn is_value(key: u16, value: &[u8]) -> bool {
    match key {
        MANDATORY => {
            let keys: Vec<_> = value.chunks(2).collect();
            let rising = keys.windows(2).all(|pair| pair.first() < pair.last());
            !value.is_empty()
                && value.len().is_multiple_of(2)
                && rising
                && !keys.contains(&&[0, 0][..])
        }
        ALPN => {
            let mut rest = value;
            while let Some((length, after)) = rest.split_first() {
                let Some(after) = after.get(usize::from(*length)..).filter(|_| *length > 0) else {
                    return false;
                };
                rest = after;
            }
            !value.is_empty()
        }
        NO_DEFAULT_ALPN | OHTTP => value.is_empty(),
        PORT => value.len() == 2,
        IPV4HINT => !value.is_empty() && value.len().is_multiple_of(4),
        IPV6HINT => !value.is_empty() && value.len().is_multiple_of(16),
        ECH => !value.is_empty(),
        _ => key != u16::MAX,
    }
}

/// Writes parameters in presentation format, each after a space.
pub(crate) fn show(out: &mut String, wire: &[u8]) {
    for (key, value) in Params(wire) {
        match KEYS.get(usize::from(key)) {
            Some(name) => out.push_str(&format!(" {name}")),
            None => out.push_str(&format!(" key{key}")),
        }
        if value.is_empty() {
            continue;
        }
        out.push('=');
        match key {
            MANDATORY => {
                let keys = value.chunks_exact(2).filter_map(|pair| pair.first_chunk::<2>());
                let names = keys.map(|key| {
                    let key = u16::from_be_bytes(*key);
                    KEYS.get(usize::from(key))
                        .map_or_else(|| format!("key{key}"), |k| (*k).to_owned())
                });
                out.push_str(&names.collect::<Vec<_>>().join(","));
            }
            ALPN => show_alpn(out, value),
            PORT => {
                let port = value.first_chunk::<2>().map_or(0, |port| u16::from_be_bytes(*port));
                out.push_str(&port.to_string());
            }
            IPV4HINT | IPV6HINT => out.push_str(&hints(value, key).join(",")),
            ECH => out.push_str(&STANDARD.encode(value)),
            _ => show::string(out, value),
        }
    }
}

fn show_alpn(out: &mut String, value: &[u8]) {
    let mut list = Vec::new();
    let mut rest = value;
    while let Some((length, after)) = rest.split_first() {
        let (id, after) = after.split_at_checked(usize::from(*length)).unwrap_or_default();
        if !list.is_empty() {
            list.push(b',');
        }
        for octet in id {
            if matches!(octet, b',' | b'\\') {
                list.push(b'\\');
            }
            list.push(*octet);
        }
        rest = after;
    }
    let plain = list.iter().all(|octet| octet.is_ascii_alphanumeric() || b",./-_".contains(octet));
    if plain {
        let _ = write!(out, "{}", String::from_utf8_lossy(&list));
    } else {
        show::string(out, &list);
    }
}

fn hints(value: &[u8], key: u16) -> Vec<String> {
    if key == IPV4HINT {
        let hints = value.chunks_exact(4).filter_map(|hint| hint.first_chunk::<4>());
        hints.map(|hint| Ipv4Addr::from(*hint).to_string()).collect()
    } else {
        let hints = value.chunks_exact(16).filter_map(|hint| hint.first_chunk::<16>());
        hints.map(|hint| Ipv6Addr::from(*hint).to_string()).collect()
    }
}
