//! One query in, one answer out (RFC 1034 section 4.3.2).
//!
//! What is refused and how:
//!
//! | query | answer |
//! |---|---|
//! | shorter than a header, or an answer itself | silence |
//! | opcode other than QUERY | NOTIMP |
//! | not exactly one question, unreadable, two OPTs, malformed client subnet | FORMERR |
//! | EDNS version above 0 | BADVERS |
//! | class other than IN, name in no zone, AXFR, IXFR | REFUSED |
//! | ANY | the HINFO record of RFC 8482 section 4.2, or the CNAME at the name |

mod chain;
mod explain;
pub(crate) mod lookup;
mod negative;
mod referral;
mod weighted;

use std::net::IpAddr;

use ipnet::IpNet;
use plan::split::Side;

use crate::catalog::Catalog;
use crate::wire::edns::{COOKIE_MAX, Cookie, OPT_FIXED, OPTION_COOKIE, OPTION_ECS};
use crate::wire::{Buffer, CLASS_IN, Ecs, Edns, HEADER, Query, Rcode, Rtype};
use crate::wire::{TCP_MAX, UDP_MAX, UDP_PLAIN, write::Full};
pub use chain::CHAIN_MAX;
pub use explain::{Answered, answer};
pub use weighted::{Choice, Client, ClientError};

/// What a query came with that its bytes do not say.
#[derive(Clone, Copy, Debug)]
pub struct Context {
    /// The address it came from.
    pub client: IpAddr,
    /// What it came over.
    pub transport: Transport,
    /// 64 uniform bits: the draw of services without affinity, and which address comes first.
    pub random: u64,
    /// The COOKIE option to answer with, when the query had one and the server uses cookies.
    pub cookie: Option<Cookie>,
}

/// What a query came over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Datagrams: answers are cut at what the client takes.
    Udp,
    /// A stream: answers are whole.
    Tcp,
}

/// What to do with the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Nothing is sent.
    Silent,
    /// The buffer's bytes are sent.
    Answer {
        /// Number of octets.
        len: usize,
        /// Which side this client was told, when DNS splits it.
        seen: Option<Seen>,
    },
}

/// Which side of which service a client was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The service's place in [`Catalog::names`]; only good with the same catalog.
    pub service: u32,
    /// The side.
    pub side: Side,
    /// The network that the client is told apart by.
    pub key: IpNet,
}

/// Answers one query from one catalog.
pub fn respond(catalog: &Catalog, query: &[u8], context: &Context, out: &mut Buffer) -> Reply {
    match Query::parse(query) {
        Some(query) => parsed(catalog, &query, context, out),
        None => Reply::Silent,
    }
}

/// The same for a query that was parsed before.
pub fn parsed(catalog: &Catalog, query: &Query<'_>, context: &Context, out: &mut Buffer) -> Reply {
    Answer::new(catalog, query, context, out, None).reply()
}

/// The section a record goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Section {
    Answer,
    Authority,
    Additional,
}

/// Why the answer is what it is; kept only when somebody wants to know.
#[derive(Clone, Debug)]
enum Step {
    Refused(&'static str),
    Zone(String),
    Name(String),
    Plan { service: String, choice: Choice },
    Plain(&'static str),
}

/// An answer in the making.
struct Answer<'a> {
    catalog: &'a Catalog,
    query: &'a Query<'a>,
    context: &'a Context,
    out: &'a mut Buffer,
    rcode: Rcode,
    authoritative: bool,
    truncated: bool,
    counts: [u16; 3],
    /// SCOPE PREFIX-LENGTH of the client subnet; 0 where the answer did not depend on it.
    scope: u8,
    seen: Option<Seen>,
    pending: referral::Pending<'a>,
    trail: Option<&'a mut Vec<Step>>,
}

impl<'a> Answer<'a> {
    fn new(
        catalog: &'a Catalog,
        query: &'a Query<'a>,
        context: &'a Context,
        out: &'a mut Buffer,
        trail: Option<&'a mut Vec<Step>>,
    ) -> Self {
        Self {
            catalog,
            query,
            context,
            out,
            rcode: Rcode::NOERROR,
            authoritative: false,
            truncated: false,
            counts: [0; 3],
            scope: 0,
            seen: None,
            pending: referral::Pending::default(),
            trail,
        }
    }

    fn reply(mut self) -> Reply {
        self.out.begin(self.limit());
        let opt = self.opt_len();
        self.out.reserve(opt);
        if self.head().is_err() {
            return Reply::Silent;
        }
        match (self.query.refusal, &self.query.question) {
            (Some(code), _) => self.refuse(code, "the query is malformed or not implemented"),
            (None, None) => self.refuse(Rcode::FORMERR, "the query has no question"),
            (None, Some(question)) if question.class != CLASS_IN => {
                self.refuse(Rcode::REFUSED, "only class IN is served");
            }
            (None, Some(question)) if matches!(question.rtype, Rtype::AXFR | Rtype::IXFR) => {
                self.refuse(Rcode::REFUSED, "zones are not transferred");
            }
            (None, Some(question)) => self.resolve(question),
        }
        self.out.release(opt);
        // What was reserved for OPT is there, so this cannot fail.
        let _ = self.opt();
        self.close();
        Reply::Answer { len: self.out.len(), seen: self.seen }
    }

    fn refuse(&mut self, code: Rcode, why: &'static str) {
        self.rcode = code;
        self.note(|| Step::Refused(why));
    }

    fn note(&mut self, step: impl FnOnce() -> Step) {
        if let Some(trail) = &mut self.trail {
            trail.push(step());
        }
    }

    /// RFC 6891 section 6.2.3: below 512 counts as 512; RFC 9715 section 3: no fragments.
    fn limit(&self) -> usize {
        match (self.context.transport, &self.query.edns) {
            (Transport::Tcp, _) => TCP_MAX,
            (Transport::Udp, None) => UDP_PLAIN,
            (Transport::Udp, Some(edns)) => usize::from(edns.payload.clamp(512, UDP_MAX)),
        }
    }

    /// The header and the question as it was asked, its case kept.
    fn head(&mut self) -> Result<(), Full> {
        self.out.header(self.query.id, 0)?;
        if let Some(question) = &self.query.question {
            let asked = self.query.bytes.get(HEADER..question.end).unwrap_or_default();
            self.out.put(asked)?;
            self.out.learn(HEADER, question.name.bytes());
        }
        Ok(())
    }

    fn edns(&self) -> Option<&Edns> {
        self.query.edns.as_ref()
    }

    fn ecs(&self) -> Option<&Ecs> {
        self.edns().and_then(|edns| edns.ecs.as_ref())
    }

    fn opt_len(&self) -> usize {
        let Some(edns) = self.edns() else { return 0 };
        let cookie = self.context.cookie.filter(|_| edns.cookie.is_some());
        let cookie = cookie.map_or(0, |cookie| 4 + cookie.bytes().len());
        OPT_FIXED + edns.ecs.map_or(0, |ecs| ecs.wire_len()) + cookie
    }

    /// RFC 6891 section 6.1.1: a query with OPT gets one, errors too.
    fn opt(&mut self) -> Result<(), Full> {
        let Some(edns) = self.edns().copied() else { return Ok(()) };
        let options = u16::try_from(self.opt_len() - OPT_FIXED).unwrap_or_default();
        self.out.put(&[0])?;
        self.out.put_u16(Rtype::OPT.0)?;
        self.out.put_u16(UDP_MAX)?;
        let high = u8::try_from(self.rcode.0 >> 4).unwrap_or_default();
        self.out.put(&[high, 0, if edns.dnssec_ok { 0x80 } else { 0 }, 0])?;
        self.out.put_u16(options)?;
        if let Some(ecs) = edns.ecs {
            let mut octets = [0; 16];
            let used = ecs.octets(&mut octets);
            self.out.put_u16(OPTION_ECS)?;
            self.out.put_u16(u16::try_from(4 + used).unwrap_or_default())?;
            self.out.put_u16(ecs.family)?;
            self.out.put(&[ecs.source, self.scope])?;
            self.out.put(octets.get(..used).unwrap_or_default())?;
        }
        if let (Some(_), Some(cookie)) = (edns.cookie, &self.context.cookie) {
            debug_assert!(cookie.bytes().len() <= COOKIE_MAX);
            self.out.put_u16(OPTION_COOKIE)?;
            self.out.put_u16(u16::try_from(cookie.bytes().len()).unwrap_or_default())?;
            self.out.put(cookie.bytes())?;
        }
        let [_, _, additional] = &mut self.counts;
        *additional += 1;
        Ok(())
    }

    /// Sets what is known only at the end: flags and counts.
    fn close(&mut self) {
        let bit = |set: bool, mask: u16| if set { mask } else { 0 };
        let flags = 0x8000
            | u16::from(self.query.opcode) << 11
            | bit(self.authoritative, 0x0400)
            | bit(self.truncated, 0x0200)
            | bit(self.query.recursion_desired, 0x0100)
            | self.rcode.0 & 0x0f;
        self.out.patch_u16(2, flags);
        self.out.patch_u16(4, u16::from(self.query.question.is_some()));
        for (at, count) in [6, 8, 10].into_iter().zip(self.counts) {
            self.out.patch_u16(at, count);
        }
    }

    fn count(&mut self, section: Section, records: u16) {
        let [answer, authority, additional] = &mut self.counts;
        let count = match section {
            Section::Answer => answer,
            Section::Authority => authority,
            Section::Additional => additional,
        };
        *count = count.saturating_add(records);
    }
}
