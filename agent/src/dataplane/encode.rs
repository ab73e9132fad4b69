//! Netlink messages as bytes: a table and its changes in, messages out; no socket.
//!
//! What a rule becomes is what `nft` makes of the same text, expression by expression; a test reads
//! both back from the kernel and compares.

pub(super) mod element;
pub(super) mod expression;
pub(super) mod object;
pub(super) mod rule;

use super::answer::Attributes;

/// Messages of nftables (`linux/netfilter/nf_tables.h`, `enum nf_tables_msg_types`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    NewTable = 0,
    GetTable = 1,
    DelTable = 2,
    NewChain = 3,
    GetChain = 4,
    DelChain = 5,
    NewRule = 6,
    GetRule = 7,
    DelRule = 8,
    NewSet = 9,
    GetSet = 10,
    DelSet = 11,
    NewElements = 12,
    GetElements = 13,
    DelElements = 14,
    GetGeneration = 16,
    NewObject = 18,
    GetObject = 19,
    DelObject = 20,
}

/// `NFNL_SUBSYS_CTNETLINK`.
const FLOWS: u16 = 1;
/// `NFNL_SUBSYS_NFTABLES`.
const RULES: u16 = 10;
/// `NFPROTO_INET`.
const INET: u8 = 1;
/// `NFNL_MSG_BATCH_BEGIN`.
const BATCH_BEGIN: u16 = 0x10;
/// `NFNL_MSG_BATCH_END`.
const BATCH_END: u16 = 0x11;
/// `NLM_F_REQUEST`.
const REQUEST: u16 = 0x1;
/// `NLM_F_ACK`.
pub(super) const ACK: u16 = 0x4;
/// `NLM_F_DUMP`.
pub(super) const DUMP: u16 = 0x300;
/// `NLM_F_EXCL`.
pub(super) const ONLY_NEW: u16 = 0x200;
/// `NLM_F_CREATE`.
pub(super) const CREATE: u16 = 0x400;
/// `NLM_F_APPEND`.
pub(super) const APPEND: u16 = 0x800;
/// `NLA_F_NESTED`.
const NESTED: u16 = 0x8000;
/// Where a message's flags stand.
const FLAGS_AT: usize = 6;

/// Messages one after another.
#[derive(Debug)]
pub(super) struct Messages {
    bytes: Vec<u8>,
    /// The number of the next message.
    sequence: u32,
    /// Where the last message begins.
    last: usize,
    /// How many there are.
    count: u32,
}

impl Messages {
    /// None yet; the first will have the number `sequence`.
    pub(super) const fn new(sequence: u32) -> Self {
        Self { bytes: Vec::new(), sequence, last: 0, count: 0 }
    }

    /// The bytes so far.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many messages there are.
    pub(super) const fn count(&self) -> u32 {
        self.count
    }

    /// The number of the next message.
    pub(super) const fn next_sequence(&self) -> u32 {
        self.sequence
    }

    /// A message about rules.
    pub(super) fn rules(&mut self, verb: Verb, flags: u16, fill: impl FnOnce(&mut Self)) {
        self.message(RULES << 8 | verb as u16, flags, INET, 0, fill);
    }

    /// A message about flows: `IPCTNL_MSG_CT_…` number `verb`, of address family `family`.
    pub(super) fn flows(
        &mut self,
        verb: u16,
        flags: u16,
        family: u8,
        fill: impl FnOnce(&mut Self),
    ) {
        self.message(FLOWS << 8 | verb, flags, family, 0, fill);
    }

    /// Opens a transaction.
    pub(super) fn begin(&mut self) {
        self.message(BATCH_BEGIN, 0, 0, RULES, |_| ());
    }

    /// Closes a transaction, and has the kernel answer to the last message in it. The number of
    /// that message.
    pub(super) fn end(&mut self) -> u32 {
        let answered = self.sequence.wrapping_sub(1);
        if let Some(flags) = self.bytes.get_mut(self.last + FLAGS_AT) {
            *flags |= ACK.to_le_bytes()[0];
        }
        self.message(BATCH_END, 0, 0, RULES, |_| ());
        answered
    }

    fn message(
        &mut self,
        kind: u16,
        flags: u16,
        family: u8,
        resource: u16,
        fill: impl FnOnce(&mut Self),
    ) {
        self.last = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&(flags | REQUEST).to_ne_bytes());
        self.bytes.extend_from_slice(&self.sequence.to_ne_bytes());
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&[family, 0]);
        self.bytes.extend_from_slice(&resource.to_be_bytes());
        let start = self.last;
        fill(self);
        let length = u32::try_from(self.bytes.len() - start).unwrap_or(u32::MAX);
        self.write_at(start, &length.to_ne_bytes());
        self.sequence = self.sequence.wrapping_add(1);
        self.count += 1;
    }

    /// An attribute (`struct nlattr`): length, type, value, padding to four bytes.
    pub(super) fn attribute(&mut self, kind: u16, value: &[u8]) {
        self.open(kind, |messages| messages.bytes.extend_from_slice(value));
    }

    /// A number in network order.
    pub(super) fn number(&mut self, kind: u16, value: u32) {
        self.attribute(kind, &value.to_be_bytes());
    }

    /// A text with its closing zero.
    pub(super) fn text(&mut self, kind: u16, value: &str) {
        self.open(kind, |messages| {
            messages.bytes.extend_from_slice(value.as_bytes());
            messages.bytes.push(0);
        });
    }

    /// An attribute that holds others.
    pub(super) fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        self.open(kind | NESTED, fill);
    }

    /// An attribute that holds others, which are bytes already.
    pub(super) fn nested(&mut self, kind: u16, value: &[u8]) {
        self.attribute(kind | NESTED, value);
    }

    /// Which message had a number: its verb, and the part of a table that it was about.
    pub(super) fn name(&self, number: u32) -> Option<(u16, String)> {
        let mut rest = self.bytes.as_slice();
        loop {
            let length = u32::from_ne_bytes(rest.get(..4)?.try_into().ok()?);
            let message = rest.get(..usize::try_from(length).ok()?)?;
            rest = rest.get(message.len()..)?;
            if message.get(8..12)? != number.to_ne_bytes() {
                continue;
            }
            let kind = u16::from_ne_bytes(message.get(4..6)?.try_into().ok()?);
            if kind >> 8 != RULES {
                return None;
            }
            let attributes = Attributes::new(message.get(20..)?);
            let part = attributes.text(2).or_else(|| attributes.text(3)).unwrap_or_default();
            return Some((kind & 0xff, part.to_owned()));
        }
    }

    fn open(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 2]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        fill(self);
        // Names are short and lists are cut (`element::PER_MESSAGE`): it always fits.
        let length = u16::try_from(self.bytes.len() - start).unwrap_or(u16::MAX);
        self.write_at(start, &length.to_ne_bytes());
        while !self.bytes.len().is_multiple_of(4) {
            self.bytes.push(0);
        }
    }

    fn write_at(&mut self, at: usize, value: &[u8]) {
        if let Some(place) = self.bytes.get_mut(at..at + value.len()) {
            place.copy_from_slice(value);
        }
    }
}

/// What a message of nftables would have done.
pub(super) fn words(verb: u16) -> &'static str {
    const WORDS: [(Verb, &str); 11] = [
        (Verb::NewTable, "to make the table"),
        (Verb::DelTable, "to take away the table"),
        (Verb::NewChain, "to make chain"),
        (Verb::DelChain, "to take away chain"),
        (Verb::NewRule, "a rule of chain"),
        (Verb::DelRule, "to empty chain"),
        (Verb::NewSet, "to make set"),
        (Verb::DelSet, "to take away set"),
        (Verb::NewElements, "elements of map"),
        (Verb::DelElements, "to take elements out of map"),
        (Verb::NewObject, "to make counter"),
    ];
    WORDS.iter().find(|(of, _)| *of as u16 == verb).map_or("a change of", |(_, words)| words)
}
