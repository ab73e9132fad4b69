//! What the kernel sends: messages one after another in a datagram, and attributes within.

use nix::errno::Errno;

/// `struct nlmsghdr`.
const HEADER: usize = 16;
/// `struct nlattr`.
const ATTRIBUTE: usize = 4;
/// `struct nfgenmsg`.
const FAMILY_HEADER: usize = 4;
/// `NLMSG_ERROR`.
const ERROR: u16 = 2;
/// `NLMSG_DONE`.
const DONE: u16 = 3;
/// The first type that belongs to a subsystem.
const FIRST_OWN: u16 = 16;
/// `NLM_F_DUMP_INTR`.
const INTERRUPTED: u16 = 0x10;
/// `NLA_TYPE_MASK`.
const TYPE: u16 = 0x3fff;

/// One message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answer<'a> {
    /// The number of the request.
    pub(super) sequence: u32,
    /// What it is.
    pub(super) kind: Kind<'a>,
    /// A listing was overtaken by a change.
    pub(super) interrupted: bool,
}

/// What a message says.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind<'a> {
    /// The request was done, or refused.
    Outcome(Result<(), Errno>),
    /// A listing ends.
    Done(Result<(), Errno>),
    /// An object.
    Object(Attributes<'a>),
    /// Anything else.
    Other,
}

/// The messages of one datagram; ends at the first that cannot be read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answers<'a>(pub(super) &'a [u8]);

/// Attributes one after another; ends at the first that cannot be read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attributes<'a>(&'a [u8]);

/// One attribute.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attribute<'a> {
    /// Its type.
    pub(crate) kind: u16,
    /// Its value.
    pub(crate) value: &'a [u8],
}

impl<'a> Iterator for Answers<'a> {
    type Item = Answer<'a>;

    fn next(&mut self) -> Option<Answer<'a>> {
        let length = usize::try_from(host32(self.0, 0)?).ok()?;
        let kind = host16(self.0, 4)?;
        let flags = host16(self.0, 6)?;
        let sequence = host32(self.0, 8)?;
        // An error repeats the request, which may not fit; its number does.
        let message = self.0.get(..length.max(HEADER)).unwrap_or(self.0);
        self.0 = self.0.get(length.max(HEADER).next_multiple_of(4)..).unwrap_or_default();
        let kind = match kind {
            ERROR => Kind::Outcome(outcome(host32(message, HEADER)?)),
            DONE => Kind::Done(outcome(host32(message, HEADER).unwrap_or_default())),
            FIRST_OWN.. => {
                Kind::Object(Attributes(message.get(HEADER + FAMILY_HEADER..).unwrap_or_default()))
            }
            _ => Kind::Other,
        };
        Some(Answer { sequence, kind, interrupted: flags & INTERRUPTED != 0 })
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Attribute<'a>;

    fn next(&mut self) -> Option<Attribute<'a>> {
        let length = usize::from(host16(self.0, 0)?);
        let kind = host16(self.0, 2)? & TYPE;
        let value = self.0.get(ATTRIBUTE..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Attribute { kind, value })
    }
}

impl<'a> Attributes<'a> {
    /// Those in `bytes`.
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The first attribute of a type.
    pub(crate) fn find(self, kind: u16) -> Option<Attribute<'a>> {
        let mut each = self;
        Iterator::find(&mut each, |attribute| attribute.kind == kind)
    }

    /// The text of the first attribute of a type.
    pub(crate) fn text(self, kind: u16) -> Option<&'a str> {
        self.find(kind)?.text()
    }

    /// The number of the first attribute of a type.
    pub(crate) fn number(self, kind: u16) -> Option<u32> {
        self.find(kind)?.number()
    }

    /// The long number of the first attribute of a type.
    pub(crate) fn long(self, kind: u16) -> Option<u64> {
        self.find(kind)?.long()
    }

    /// What the first attribute of a type holds.
    pub(crate) fn nest(self, kind: u16) -> Option<Self> {
        Some(self.find(kind)?.nest())
    }
}

impl<'a> Attribute<'a> {
    /// As a text that ends with a zero.
    pub(crate) fn text(self) -> Option<&'a str> {
        str::from_utf8(self.value.strip_suffix(&[0])?).ok()
    }

    /// As a number in network order.
    pub(crate) fn number(self) -> Option<u32> {
        Some(u32::from_be_bytes(self.value.try_into().ok()?))
    }

    /// As a long number in network order.
    pub(crate) fn long(self) -> Option<u64> {
        Some(u64::from_be_bytes(self.value.try_into().ok()?))
    }

    /// As attributes.
    pub(crate) const fn nest(self) -> Attributes<'a> {
        Attributes(self.value)
    }
}

fn outcome(word: u32) -> Result<(), Errno> {
    match i32::from_ne_bytes(word.to_ne_bytes()) {
        0 => Ok(()),
        code => Err(Errno::from_raw(code.saturating_neg())),
    }
}

fn host16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn host32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}
