//! A query, read once from bytes.

use super::{Edns, HEADER, NameBuf, Rcode, Rtype};

/// A query as far as it could be read.
#[derive(Clone)]
pub struct Query<'q> {
    /// The whole message.
    pub bytes: &'q [u8],
    /// Transaction id.
    pub id: u16,
    /// Opcode, 0 for a plain query.
    pub opcode: u8,
    /// The RD bit, which is echoed.
    pub recursion_desired: bool,
    /// The only question, when there is exactly one and it can be read.
    pub question: Option<Question>,
    /// The OPT record, when there is one and it can be read.
    pub edns: Option<Edns>,
    /// Why this must not be answered from data; the code to answer instead.
    pub refusal: Option<Rcode>,
}

/// A question.
#[derive(Clone)]
pub struct Question {
    /// The name, lower-cased; the message keeps the case.
    pub name: NameBuf,
    /// The type asked for.
    pub rtype: Rtype,
    /// The class asked for.
    pub class: u16,
    /// Where the question ends in the message.
    pub end: usize,
}

impl<'q> Query<'q> {
    /// Reads a message. None means silence: it is too short to answer, or it is an answer itself
    /// (answering answers would let two servers talk for ever).
    #[must_use]
    pub fn parse(bytes: &'q [u8]) -> Option<Self> {
        let [id_high, id_low, flags, _, counts @ ..] = bytes.first_chunk::<HEADER>()?;
        if flags & 0x80 != 0 {
            return None;
        }
        let mut query = Self {
            bytes,
            id: u16::from_be_bytes([*id_high, *id_low]),
            opcode: (flags >> 3) & 0x0f,
            recursion_desired: flags & 1 != 0,
            question: None,
            edns: None,
            refusal: None,
        };
        query.refusal = query.read(*counts).err();
        Some(query)
    }

    fn read(&mut self, counts: [u8; 8]) -> Result<(), Rcode> {
        let [q1, q2, a1, a2, n1, n2, r1, r2] = counts;
        let questions = u16::from_be_bytes([q1, q2]);
        let before =
            u32::from(u16::from_be_bytes([a1, a2])) + u32::from(u16::from_be_bytes([n1, n2]));
        let additional = u32::from(u16::from_be_bytes([r1, r2]));
        // RFC 9619: a query has exactly one question. An unknown opcode may have any shape.
        if questions == 1 {
            self.question = Some(question(self.bytes).ok_or_else(|| self.malformed())?);
        }
        let mut at = self.question.as_ref().map_or(HEADER, |question| question.end);
        if questions > 1 {
            return Err(self.malformed());
        }
        for index in 0..before + additional {
            let record = Record::read(self.bytes, at).ok_or_else(|| self.malformed())?;
            at = record.end;
            if record.rtype != Rtype::OPT {
                continue;
            }
            // RFC 6891 section 6.1.1: at most one OPT, in the additional section, owned by the
            // root.
            if index < before || self.edns.is_some() || !record.root {
                self.edns = None;
                return Err(self.malformed());
            }
            let edns = Edns::parse(record.class, record.ttl, record.data);
            self.edns = Some(match edns {
                Ok(edns) => edns,
                Err(code) => {
                    self.edns = Edns::parse(record.class, record.ttl, &[]).ok();
                    return Err(code);
                }
            });
        }
        if at != self.bytes.len() {
            return Err(self.malformed());
        }
        match self.edns {
            _ if self.opcode != 0 => Err(Rcode::NOTIMP),
            _ if self.question.is_none() => Err(Rcode::FORMERR),
            Some(edns) if edns.version != 0 => Err(Rcode::BADVERS),
            _ => Ok(()),
        }
    }

    /// FORMERR, or NOTIMP for opcodes whose messages may have a form of their own.
    fn malformed(&self) -> Rcode {
        if self.opcode == 0 { Rcode::FORMERR } else { Rcode::NOTIMP }
    }
}

fn question(bytes: &[u8]) -> Option<Question> {
    // Nothing precedes the question that a pointer could point at, so its name is whole.
    let name = NameBuf::from_wire(bytes.get(HEADER..)?)?;
    let at = HEADER + name.bytes().len();
    let (rtype, rest) = bytes.get(at..)?.split_first_chunk::<2>()?;
    let class = rest.first_chunk::<2>()?;
    Some(Question {
        name,
        rtype: Rtype(u16::from_be_bytes(*rtype)),
        class: u16::from_be_bytes(*class),
        end: at + 4,
    })
}

/// A record of any section, its owner skipped.
pub(crate) struct Record<'m> {
    pub(crate) root: bool,
    pub(crate) rtype: Rtype,
    pub(crate) class: u16,
    pub(crate) ttl: u32,
    pub(crate) data: &'m [u8],
    pub(crate) end: usize,
}

impl<'m> Record<'m> {
    pub(crate) fn read(bytes: &'m [u8], at: usize) -> Option<Self> {
        let fixed = skip_name(bytes, at)?;
        let (head, rest) = bytes.get(fixed..)?.split_first_chunk::<10>()?;
        let [t1, t2, c1, c2, l1, l2, l3, l4, d1, d2] = *head;
        let length = usize::from(u16::from_be_bytes([d1, d2]));
        Some(Self {
            root: fixed == at + 1,
            rtype: Rtype(u16::from_be_bytes([t1, t2])),
            class: u16::from_be_bytes([c1, c2]),
            ttl: u32::from_be_bytes([l1, l2, l3, l4]),
            data: rest.get(..length)?,
            end: fixed + 10 + length,
        })
    }
}

/// Where the name at `at` ends; a compression pointer ends it and is not followed.
fn skip_name(bytes: &[u8], mut at: usize) -> Option<usize> {
    let begin = at;
    loop {
        let length = *bytes.get(at)?;
        match length {
            0 => return Some(at + 1),
            1..=63 => at += 1 + usize::from(length),
            192..=255 => {
                bytes.get(at + 1)?;
                return Some(at + 2);
            }
            _ => return None,
        }
        if at - begin >= super::name::NAME_MAX {
            return None;
        }
    }
}
