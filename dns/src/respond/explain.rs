//! The answer that a client gets, as text, and why: what `crossfade answer` prints.

use plan::split::Side;

use super::weighted::Client;
use super::{Answer, Choice, Context, Reply, Step, Transport};
use crate::catalog::Catalog;
use crate::wire::parse::Record;
use crate::wire::{Buffer, HEADER, Name, NameBuf, Query, Rcode, Rtype};
use crate::zone::{rdata, schema, show};

/// The answer to one question, as a server would send it over TCP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answered {
    /// The response code.
    pub rcode: Rcode,
    /// The flags that are set, as `dig` prints them.
    pub flags: Vec<&'static str>,
    /// The answer section, a record a line.
    pub answer: Vec<String>,
    /// The authority section.
    pub authority: Vec<String>,
    /// The additional section without OPT.
    pub additional: Vec<String>,
    /// SCOPE PREFIX-LENGTH of the client subnet, when one was sent.
    pub scope: Option<u8>,
    /// Which zone, which rule, which side, in the order they were found.
    pub reason: Vec<String>,
}

/// Asks `catalog` for a name and type on behalf of a client.
#[must_use]
pub fn answer(catalog: &Catalog, name: &Name, rtype: Rtype, client: Client) -> Answered {
    let query = query(name, rtype, client);
    let mut out = Buffer::new();
    let mut trail = Vec::new();
    let context =
        Context { client: client.source(), transport: Transport::Tcp, random: 0, cookie: None };
    let mut answered = Answered {
        rcode: Rcode::SERVFAIL,
        flags: Vec::new(),
        answer: Vec::new(),
        authority: Vec::new(),
        additional: Vec::new(),
        scope: None,
        reason: Vec::new(),
    };
    let Some(parsed) = Query::parse(&query) else { return answered };
    let reply = Answer::new(catalog, &parsed, &context, &mut out, Some(&mut trail)).reply();
    if let Reply::Answer { .. } = reply {
        decode(out.bytes(), &mut answered);
    }
    answered.reason = trail.iter().map(reason).collect();
    answered
}

fn query(name: &Name, rtype: Rtype, client: Client) -> Vec<u8> {
    let mut query = vec![0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    query.extend_from_slice(name.as_wire());
    query.extend_from_slice(&rtype.0.to_be_bytes());
    query.extend_from_slice(&[0, 1]);
    if let Client::Network(net) = client {
        let family = if net.network().is_ipv4() { 1 } else { 2 };
        let source = net.prefix_len();
        let used = usize::from(source.div_ceil(8));
        let address = match net.network() {
            std::net::IpAddr::V4(v4) => v4.octets().to_vec(),
            std::net::IpAddr::V6(v6) => v6.octets().to_vec(),
        };
        let length = u8::try_from(4 + used).unwrap_or_default();
        query.extend_from_slice(&[0, 0, 41, 16, 0, 0, 0, 0, 0, 0, length + 4]);
        query.extend_from_slice(&[0, 8, 0, length, 0, family, source, 0]);
        query.extend(address.iter().take(used));
        if let Some(additional) = query.get_mut(11) {
            *additional = 1;
        }
    }
    query
}

fn reason(step: &Step) -> String {
    match step {
        Step::Refused(why) => format!("refused: {why}"),
        Step::Zone(origin) => format!("in zone {origin}"),
        Step::Name(text) => text.clone(),
        Step::Plain(text) => (*text).to_owned(),
        Step::Plan { service, choice } => format!("a name of {service}: {}", why(choice)),
    }
}

fn why(choice: &Choice) -> String {
    let split = choice.split;
    match (choice.side, choice.bucket) {
        (None, _) => {
            let plane = choice.client.plane;
            format!("clients of {} are split by {plane}, so the logical address", choice.client.key)
        }
        (Some(Side::Legacy), None) => "everyone is on legacy".to_owned(),
        (Some(Side::Target), None) => "everyone is on target".to_owned(),
        (Some(side), Some(bucket)) => {
            let (number, key) = (bucket.number(), choice.client.key);
            let below = if side == Side::Target { "below" } else { "not below" };
            let places = split.bp();
            format!("{key} has bucket {number}, {below} the split of {places} ({split}), so {side}")
        }
    }
}

/// Reads an answer of our own back.
fn decode(bytes: &[u8], answered: &mut Answered) {
    let Some(header) = bytes.first_chunk::<HEADER>() else { return };
    let [_, _, high, low, _, _, a1, a2, n1, n2, r1, r2] = *header;
    answered.rcode = Rcode(u16::from(low & 0x0f));
    for (mask, flag) in [(0x80, "qr"), (0x04, "aa"), (0x02, "tc"), (0x01, "rd")] {
        if high & mask != 0 {
            answered.flags.push(flag);
        }
    }
    let question = bytes.get(HEADER..).and_then(NameBuf::from_wire);
    let mut at = HEADER + question.map_or(0, |name| name.bytes().len() + 4);
    let counts = [[a1, a2], [n1, n2], [r1, r2]].map(u16::from_be_bytes);
    for (section, count) in counts.into_iter().enumerate() {
        for _ in 0..count {
            let Some(record) = Record::read(bytes, at) else { return };
            if record.rtype == Rtype::OPT {
                let high = u16::try_from(record.ttl >> 24).unwrap_or_default();
                answered.rcode.0 |= high << 4;
                answered.scope = record.data.get(7).copied();
            } else {
                let line = line(bytes, at, &record);
                match section {
                    0 => answered.answer.push(line),
                    1 => answered.authority.push(line),
                    _ => answered.additional.push(line),
                }
            }
            at = record.end;
        }
    }
}

fn line(bytes: &[u8], at: usize, record: &Record<'_>) -> String {
    let owner = expand(bytes, at).map_or_else(String::new, |(name, _)| name);
    let begin = record.end - record.data.len();
    let data = whole_data(bytes, begin, record).unwrap_or_else(|| record.data.to_vec());
    let shown = show::data(record.rtype, &data);
    format!("{} {} IN {} {shown}", shown_name(&owner), record.ttl, schema::name(record.rtype))
}

fn shown_name(owner: &str) -> &str {
    if owner.is_empty() { "." } else { owner }
}

/// The data with its names written out.
fn whole_data(bytes: &[u8], begin: usize, record: &Record<'_>) -> Option<Vec<u8>> {
    let fields = schema::fields(record.rtype)?;
    if !fields.contains(&schema::Field::Compressed) {
        return None;
    }
    let mut whole = Vec::new();
    let mut at = begin;
    for field in fields {
        if *field == schema::Field::Compressed {
            let (wire, end) = expand_wire(bytes, at)?;
            whole.extend(wire);
            at = end;
        } else {
            let (part, _) = rdata::split(*field, bytes.get(at..)?)?;
            whole.extend_from_slice(part);
            at += part.len();
        }
    }
    Some(whole)
}

fn expand(bytes: &[u8], at: usize) -> Option<(String, usize)> {
    let (wire, end) = expand_wire(bytes, at)?;
    let mut text = String::new();
    crate::wire::name::write_text(&mut text, &wire).ok()?;
    Some((text, end))
}

/// A name with its pointers followed, its case kept, and where it ends in the message.
fn expand_wire(bytes: &[u8], begin: usize) -> Option<(Vec<u8>, usize)> {
    let mut wire = Vec::new();
    let mut at = begin;
    let mut end = None;
    loop {
        let length = *bytes.get(at)?;
        if length >= 0xc0 {
            end = end.or(Some(at + 2));
            let next = usize::from(u16::from_be_bytes([length & 0x3f, *bytes.get(at + 1)?]));
            if next >= at {
                return None;
            }
            at = next;
            continue;
        }
        let size = 1 + usize::from(length);
        wire.extend_from_slice(bytes.get(at..at + size)?);
        at += size;
        if length == 0 {
            return Some((wire, end.unwrap_or(at)));
        }
        if wire.len() > crate::wire::name::NAME_MAX {
            return None;
        }
    }
}
