//! The bytes of an answer for a plan name (RFC 1035 section 4, RFC 2308, RFC 6891).

use std::net::IpAddr;

use dns::wire::{HEADER, Query, Question, Rcode, Rtype, TCP_MAX, UDP_MAX, UDP_PLAIN};

use super::Transport;

/// QR, AA and RA: who asks is a stub resolver and takes the answer as that of its resolver.
const FLAGS: u16 = 0x8480;

/// TC (RFC 1035 section 4.1.1).
const TRUNCATED: u16 = 0x0200;

/// RD, which is echoed.
const RECURSION_DESIRED: u16 = 0x0100;

/// A pointer to the name of the question, which follows the header.
const OWNER: [u8; 2] = [0xc0, 0x0c];

/// Octets of an OPT record without options (RFC 6891 section 6.1.2).
const OPT: usize = 11;

/// What an answer is made of.
pub(super) struct Answer<'a> {
    pub(super) query: &'a Query<'a>,
    pub(super) question: &'a Question,
    pub(super) addresses: &'a [IpAddr],
    pub(super) ttl: u32,
    pub(super) random: u64,
}

/// Number of records in the answer, authority and additional sections.
#[derive(Default)]
struct Counts {
    answer: u16,
    authority: u16,
    additional: u16,
}

impl Answer<'_> {
    /// Replaces `out` by the whole message.
    pub(super) fn write(&self, transport: Transport, out: &mut Vec<u8>) {
        let limit = self.limit(transport);
        let mut counts = Counts::default();
        let mut flags = FLAGS | if self.query.recursion_desired { RECURSION_DESIRED } else { 0 };
        out.clear();
        out.extend_from_slice(&self.query.id.to_be_bytes());
        out.resize(HEADER, 0);
        let asked = self.query.bytes.get(HEADER..self.question.end).unwrap_or_default();
        out.extend_from_slice(asked);
        if self.query.refusal.is_none() {
            self.records(out, &mut counts);
        }
        let question = HEADER + asked.len();
        let opt = if self.query.edns.is_some() { OPT } else { 0 };
        if out.len() + opt > limit {
            out.truncate(question);
            counts = Counts::default();
            flags |= TRUNCATED;
        }
        let rcode = self.query.refusal.unwrap_or(Rcode::NOERROR);
        self.opt(rcode, out, &mut counts);
        flags |= rcode.0 & 0x0f;
        let head = [flags, 1, counts.answer, counts.authority, counts.additional];
        for (place, value) in
            out.iter_mut().skip(2).zip(head.into_iter().flat_map(u16::to_be_bytes))
        {
            *place = value;
        }
    }

    /// RFC 6891 section 6.2.3: a payload below 512 counts as 512.
    fn limit(&self, transport: Transport) -> usize {
        match (transport, &self.query.edns) {
            (Transport::Tcp, _) => TCP_MAX,
            (Transport::Udp, None) => UDP_PLAIN,
            (Transport::Udp, Some(edns)) => usize::from(edns.payload.clamp(512, UDP_MAX)),
        }
    }

    /// The addresses of the family that was asked for, a different one first each time; else the
    /// SOA that says there are none.
    fn records(&self, out: &mut Vec<u8>, counts: &mut Counts) {
        let wanted = |address: &&IpAddr| match address {
            IpAddr::V4(_) => matches!(self.question.rtype, Rtype::A | Rtype::ANY),
            IpAddr::V6(_) => matches!(self.question.rtype, Rtype::AAAA | Rtype::ANY),
        };
        let found: Vec<&IpAddr> = self.addresses.iter().filter(wanted).collect();
        let (before, from) = found.split_at_checked(self.turn(found.len())).unwrap_or_default();
        for address in from.iter().chain(before) {
            match address {
                IpAddr::V4(v4) => record(out, Rtype::A, self.ttl, &v4.octets()),
                IpAddr::V6(v6) => record(out, Rtype::AAAA, self.ttl, &v6.octets()),
            }
            counts.answer = counts.answer.saturating_add(1);
        }
        if found.is_empty() {
            record(out, Rtype::SOA, 0, &soa());
            counts.authority = 1;
        }
    }

    /// Which address comes first. The low half: the high one is the draw of the side.
    fn turn(&self, count: usize) -> usize {
        let count = u64::try_from(count).unwrap_or_default();
        let turn = (self.random & 0xffff_ffff).checked_rem(count).unwrap_or_default();
        usize::try_from(turn).unwrap_or_default()
    }

    /// RFC 6891 section 6.1.1: a query with OPT gets one, errors too.
    fn opt(&self, rcode: Rcode, out: &mut Vec<u8>, counts: &mut Counts) {
        let Some(edns) = &self.query.edns else { return };
        let high = u8::try_from(rcode.0 >> 4).unwrap_or_default();
        out.push(0);
        out.extend_from_slice(&Rtype::OPT.0.to_be_bytes());
        out.extend_from_slice(&UDP_MAX.to_be_bytes());
        out.extend_from_slice(&[high, 0, if edns.dnssec_ok { 0x80 } else { 0 }, 0, 0, 0]);
        counts.additional = 1;
    }
}

fn record(out: &mut Vec<u8>, rtype: Rtype, ttl: u32, data: &[u8]) {
    out.extend_from_slice(&OWNER);
    out.extend_from_slice(&rtype.0.to_be_bytes());
    out.extend_from_slice(&dns::wire::CLASS_IN.to_be_bytes());
    out.extend_from_slice(&ttl.to_be_bytes());
    out.extend_from_slice(&u16::try_from(data.len()).unwrap_or_default().to_be_bytes());
    out.extend_from_slice(data);
}

/// MNAME is the name itself, RNAME `hostmaster` under it; SERIAL 1, REFRESH an hour, RETRY and
/// EXPIRE as one would; MINIMUM 0.
fn soa() -> Vec<u8> {
    let mut data = OWNER.to_vec();
    data.extend_from_slice(b"\x0ahostmaster");
    data.extend_from_slice(&OWNER);
    for number in [1_u32, 3_600, 600, 86_400, 0] {
        data.extend_from_slice(&number.to_be_bytes());
    }
    data
}

/// SERVFAIL for a query: its id, its question where it can be read, nothing else.
pub(in crate::names) fn servfail(query: &Query<'_>, out: &mut Vec<u8>) {
    let asked = query.question.as_ref().and_then(|asked| query.bytes.get(HEADER..asked.end));
    let opcode = u16::from(query.opcode) << 11;
    let rd = if query.recursion_desired { RECURSION_DESIRED } else { 0 };
    let flags = 0x8080 | opcode | rd | Rcode::SERVFAIL.0;
    out.clear();
    for number in [query.id, flags, u16::from(asked.is_some()), 0, 0, 0] {
        out.extend_from_slice(&number.to_be_bytes());
    }
    out.extend_from_slice(asked.unwrap_or_default());
}
