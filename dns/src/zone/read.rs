//! Zone text to records: directives, omitted owners, TTLs and classes, relative names.

use super::draft::Draft;
use super::include::{Source, is_directive};
use super::problem::{Fault, Problem};
use super::rdata;
use super::schema;
use super::text::{Lexer, Token, period};
use super::{PROBLEMS_MAX, WARNINGS_MAX};
use crate::wire::{CLASS_IN, Name, NameBuf, Rtype};

/// Largest TTL (RFC 2181 section 8).
const TTL_MAX: u32 = 0x7fff_ffff;

const TTL_FIX: &str = "write 0 to 2147483647 seconds, or units: `1h30m`";

/// What is wrong with a text, and what is merely odd.
#[derive(Default)]
pub(crate) struct Findings {
    /// Each with its line in the whole text.
    errors: Vec<(u32, Problem)>,
    warnings: Vec<(u32, Problem)>,
}

impl Findings {
    pub(crate) fn error(&mut self, source: &Source, line: u32, fault: Fault) {
        if self.errors.len() < PROBLEMS_MAX {
            self.errors.push((line, source.problem(line, fault)));
        }
    }

    pub(crate) fn warn(&mut self, source: &Source, line: u32, fault: Fault) {
        if self.warnings.len() < WARNINGS_MAX {
            self.warnings.push((line, source.problem(line, fault)));
        }
    }

    /// An error whose place is known; `line` is where it belongs in the whole text.
    pub(crate) fn push(&mut self, line: u32, problem: Problem) {
        self.errors.push((line, problem));
    }

    pub(crate) fn is_full(&self) -> bool {
        self.errors.len() >= PROBLEMS_MAX
    }

    /// The errors, else the warnings, in the order of their places.
    pub(crate) fn close(self) -> Result<Vec<Problem>, Vec<Problem>> {
        let in_order = |mut found: Vec<(u32, Problem)>| {
            found.sort_by_key(|(line, _)| *line);
            found.into_iter().map(|(_, problem)| problem).take(PROBLEMS_MAX).collect()
        };
        if self.errors.is_empty() {
            Ok(in_order(self.warnings))
        } else {
            Err(in_order(self.errors))
        }
    }
}

/// Reads all entries of `source` into a draft.
pub(crate) fn read(origin: &Name, source: &Source, findings: &mut Findings) -> Draft {
    let mut reader = Reader {
        source,
        apex: NameBuf::from_name(origin),
        origin: origin.as_wire().to_vec(),
        owner: None,
        owner_failed: false,
        default_ttl: None,
        last_ttl: None,
        draft: Draft::new(),
        findings,
    };
    let mut lexer = Lexer::new(source.text());
    let mut tokens = Vec::new();
    while let Some((line, result)) = lexer.next(&mut tokens) {
        let result = result.and_then(|()| reader.entry(line.blank, line.number, &tokens));
        if let Err(fault) = result {
            reader.findings.error(source, line.number, fault);
            if reader.findings.is_full() {
                break;
            }
        }
    }
    reader.draft
}

struct Reader<'s> {
    source: &'s Source,
    apex: NameBuf,
    origin: Vec<u8>,
    owner: Option<NameBuf>,
    /// The last owner was no name and that was told: records that inherit it are skipped.
    owner_failed: bool,
    default_ttl: Option<u32>,
    last_ttl: Option<u32>,
    draft: Draft,
    findings: &'s mut Findings,
}

/// The parts of a record before its data.
struct Head<'t, 'w> {
    ttl: Option<u32>,
    rtype: Rtype,
    data: &'w [Token<'t>],
}

impl Reader<'_> {
    fn entry(&mut self, blank: bool, line: u32, tokens: &[Token<'_>]) -> Result<(), Fault> {
        let [first, rest @ ..] = tokens else { return Ok(()) };
        if !blank && !first.quoted && first.raw.starts_with(b"$") {
            return self.directive(tokens, rest);
        }
        if blank {
            return self.record(line, tokens);
        }
        let mut wire = Vec::with_capacity(64);
        let read = rdata::push_name(&mut wire, *first, &self.origin);
        self.owner = read.is_ok().then(|| NameBuf::from_wire(&wire)).flatten();
        self.owner_failed = self.owner.is_none();
        if self.owner_failed {
            let problem = read.err().unwrap_or_else(|| format!("`{}` is too long", first.shown()));
            return Err(Fault::new(problem, "write an owner name"));
        }
        self.record(line, rest)
    }

    fn directive(&mut self, tokens: &[Token<'_>], rest: &[Token<'_>]) -> Result<(), Fault> {
        if is_directive(tokens, b"$ORIGIN") {
            let [name] = rest else {
                return Err(Fault::new("`$ORIGIN` takes one name", "`$ORIGIN sub.example.`"));
            };
            let mut wire = Vec::new();
            rdata::push_name(&mut wire, *name, &self.origin)
                .map_err(|problem| Fault::new(problem, "`$ORIGIN sub.example.`"))?;
            self.origin = wire;
            return Ok(());
        }
        if is_directive(tokens, b"$TTL") {
            let [ttl] = rest else { return Err(Fault::new("`$TTL` takes one value", TTL_FIX)) };
            let shown = ttl.shown();
            let seconds = period(ttl.raw)
                .ok_or_else(|| Fault::new(format!("`{shown}` is no TTL"), TTL_FIX))?;
            self.default_ttl = Some(in_range(seconds, &shown)?);
            return Ok(());
        }
        if is_directive(tokens, b"$INCLUDE") {
            let fix = "send the zone with its inclusions written out";
            return Err(Fault::new("`$INCLUDE` is not possible here", fix));
        }
        let shown = tokens.first().map(Token::shown).unwrap_or_default();
        let fix = "$ORIGIN, $TTL and $INCLUDE are known; write other records out";
        Err(Fault::new(format!("`{shown}` is no directive of this server"), fix))
    }

    fn record(&mut self, line: u32, tokens: &[Token<'_>]) -> Result<(), Fault> {
        if self.owner_failed {
            return Ok(());
        }
        if tokens.is_empty() {
            return Err(Fault::new("the record has no type", "write owner, type and data"));
        }
        let head = head(tokens)?;
        if matches!(head.rtype.0, 0 | 41 | 128..=255 | 65_535) {
            let problem = format!("{} cannot be in a zone", schema::name(head.rtype));
            return Err(Fault::new(problem, "remove the record"));
        }
        let Some(owner) = self.owner.clone() else {
            return Err(Fault::new("the first record has no owner", "write one, or `@`"));
        };
        let depth = owner.labels().checked_sub(self.apex.labels());
        let Some(depth) = depth.filter(|depth| owner.suffix(*depth) == self.apex.bytes()) else {
            let problem = format!("{owner} is outside the zone {}", self.apex);
            return Err(Fault::new(
                problem,
                "put it in its own zone, or end the name without a dot",
            ));
        };
        let data = rdata::read(head.rtype, head.data, &self.origin)?;
        let ttl = match head.ttl.or(self.default_ttl).or(self.last_ttl) {
            Some(ttl) => ttl,
            None => self.assumed_ttl(head.rtype, line, &data)?,
        };
        self.last_ttl = Some(ttl);
        let added = self.draft.add(&owner, depth, head.rtype, ttl, &data, line);
        added.map_err(|_| Fault::new("the zone is too large", "split it into zones"))
    }

    /// RFC 1035 has no default; the SOA's MINIMUM was one before RFC 2308 section 4.
    fn assumed_ttl(&mut self, rtype: Rtype, line: u32, data: &[u8]) -> Result<u32, Fault> {
        let minimum = data.last_chunk::<4>().map(|octets| u32::from_be_bytes(*octets));
        let Some(minimum) = minimum.filter(|_| rtype == Rtype::SOA) else {
            return Err(Fault::new("the record has no TTL", "write `$TTL 3600` before it"));
        };
        let problem = format!("no TTL is given; the minimum of the SOA is taken: {minimum}");
        self.findings.warn(self.source, line, Fault::new(problem, "write `$TTL` first"));
        Ok(minimum.min(TTL_MAX))
    }
}

fn head<'t, 'w>(tokens: &'w [Token<'t>]) -> Result<Head<'t, 'w>, Fault> {
    let mut ttl = None;
    let mut class = None;
    let mut rest = tokens;
    while let Some((token, after)) = rest.split_first() {
        let shown = token.shown();
        if let (None, Some(seconds)) = (ttl, period(token.raw)) {
            ttl = Some(in_range(seconds, &shown)?);
        } else if let (None, Some(number)) = (class, class_of(&shown)) {
            class = Some(number);
            if number != CLASS_IN {
                let problem = format!("the class {shown} is not served");
                return Err(Fault::new(problem, "only IN is"));
            }
        } else if let Some(rtype) = schema::by_text(&shown).filter(|_| !token.quoted) {
            return Ok(Head { ttl, rtype, data: after });
        } else {
            let problem = format!("`{shown}` is no record type");
            return Err(Fault::new(problem, "write a type like `A`, or `TYPEnnn` (RFC 3597)"));
        }
        rest = after;
    }
    Err(Fault::new("the record has no type", "write owner, type and data"))
}

fn class_of(text: &str) -> Option<u16> {
    let classes = [("IN", CLASS_IN), ("CS", 2), ("CH", 3), ("HS", 4)];
    if let Some((_, number)) = classes.iter().find(|(name, _)| name.eq_ignore_ascii_case(text)) {
        return Some(*number);
    }
    let digits =
        text.get(5..).filter(|digits| digits.bytes().all(|octet| octet.is_ascii_digit()))?;
    if text.get(..5)?.eq_ignore_ascii_case("CLASS") { digits.parse().ok() } else { None }
}

fn in_range(seconds: u32, shown: &str) -> Result<u32, Fault> {
    if seconds <= TTL_MAX {
        Ok(seconds)
    } else {
        Err(Fault::new(format!("the TTL {shown} is out of range"), TTL_FIX))
    }
}
