//! Domain names in wire form: owned and lower-cased, or on the stack with their label starts.

use std::fmt;

/// Longest name in wire form, root label included (RFC 1035 section 3.1).
pub const NAME_MAX: usize = 255;

/// Longest label (RFC 1035 section 3.1).
pub const LABEL_MAX: usize = 63;

/// Most labels a name of 255 octets can have, the root not counted.
pub const LABELS_MAX: usize = 127;

/// Why a text is not a domain name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// More than 255 octets.
    #[error("the name is longer than 255 octets")]
    TooLong,
    /// A label of more than 63 octets.
    #[error("the label `{0}` is longer than 63 octets")]
    LabelTooLong(String),
    /// Two dots in a row, a leading dot or an empty text.
    #[error("the name has an empty label")]
    EmptyLabel,
    /// A backslash that is not followed by a character or three digits up to 255.
    #[error("a backslash must be followed by one character or by three digits up to 255")]
    BadEscape,
    /// A relative name where none is possible.
    #[error("the name is relative and there is no origin")]
    NoOrigin,
}

/// An absolute name, owned, in wire form and lower case, so that equality is DNS equality
/// (RFC 4343).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Box<[u8]>);

impl Name {
    /// Reads presentation format; a missing last dot is taken as written.
    ///
    /// # Errors
    /// When the text is no domain name.
    pub fn from_text(text: &str) -> Result<Self, NameError> {
        let mut wire = Vec::with_capacity(text.len() + 2);
        push_text(&mut wire, text.as_bytes(), Some(&[0]))?;
        wire.make_ascii_lowercase();
        Ok(Self(wire.into()))
    }

    /// Takes a valid, uncompressed wire name; None when it is not.
    #[must_use]
    pub fn from_wire(wire: &[u8]) -> Option<Self> {
        NameBuf::from_wire(wire).map(|name| Self(name.bytes().into()))
    }

    /// The wire form, with the root label.
    #[must_use]
    pub fn as_wire(&self) -> &[u8] {
        &self.0
    }

    /// Whether `self` is `other` or lies below it.
    #[must_use]
    pub fn is_within(&self, other: &Self) -> bool {
        let name = NameBuf::from_name(self);
        (0..=name.labels()).any(|label| name.suffix(label) == other.as_wire())
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_text(f, &self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_text(f, &self.0)
    }
}

/// A lower-cased name on the stack, with the start of each label.
#[derive(Clone)]
pub struct NameBuf {
    bytes: [u8; NAME_MAX],
    len: u8,
    starts: [u8; LABELS_MAX],
    labels: u8,
}

impl NameBuf {
    /// Reads the uncompressed name at the start of `wire`; octets after its root label are left
    /// alone. None when it is cut short, too long or holds a compression pointer.
    #[must_use]
    pub fn from_wire(wire: &[u8]) -> Option<Self> {
        let mut name = Self::root();
        let mut at = 0usize;
        loop {
            let length = *wire.get(at)?;
            if length == 0 {
                break;
            }
            if usize::from(length) > LABEL_MAX {
                return None;
            }
            *name.starts.get_mut(usize::from(name.labels))? = u8::try_from(at).ok()?;
            name.labels += 1;
            at += 1 + usize::from(length);
        }
        let len = at + 1;
        let target = name.bytes.get_mut(..len)?;
        target.copy_from_slice(wire.get(..len)?);
        target.make_ascii_lowercase();
        name.len = u8::try_from(len).ok()?;
        Some(name)
    }

    /// The same name on the stack.
    #[must_use]
    pub fn from_name(name: &Name) -> Self {
        Self::from_wire(name.as_wire()).unwrap_or_else(Self::root)
    }

    /// The root.
    #[must_use]
    pub fn root() -> Self {
        Self { bytes: [0; NAME_MAX], len: 1, starts: [0; LABELS_MAX], labels: 0 }
    }

    /// The first `count` labels of `self` followed by `tail`; None when that is too long.
    #[must_use]
    pub fn graft(&self, count: usize, tail: &Self) -> Option<Self> {
        let head = self.bytes().get(..self.start(count))?;
        let len = head.len() + tail.bytes().len();
        let mut joined = [0; NAME_MAX];
        joined.get_mut(..head.len())?.copy_from_slice(head);
        joined.get_mut(head.len()..len)?.copy_from_slice(tail.bytes());
        Self::from_wire(&joined)
    }

    /// The lower-cased wire form, with the root label.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }

    /// Number of labels, the root not counted.
    #[must_use]
    pub fn labels(&self) -> usize {
        usize::from(self.labels)
    }

    /// Where label `index` starts, counted from the left; the root label's place when past the
    /// last.
    #[must_use]
    pub fn start(&self, index: usize) -> usize {
        if index >= self.labels() {
            return usize::from(self.len).saturating_sub(1);
        }
        self.starts.get(index).copied().map_or(0, usize::from)
    }

    /// Label `index` counted from the left, without its length octet.
    #[must_use]
    pub fn label(&self, index: usize) -> &[u8] {
        let end = self.start(index + 1);
        self.bytes.get(self.start(index) + 1..end).unwrap_or_default()
    }

    /// The name from label `index` on, in wire form.
    #[must_use]
    pub fn suffix(&self, index: usize) -> &[u8] {
        self.bytes().get(self.start(index)..).unwrap_or_default()
    }
}

impl fmt::Display for NameBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_text(f, self.bytes())
    }
}

/// Appends the name that `text` says, in wire form with its case kept. A name without a last dot
/// is followed by `origin`, which is in wire form.
///
/// # Errors
/// When the text is no domain name; `wire` then holds a part of it.
pub fn push_text(wire: &mut Vec<u8>, text: &[u8], origin: Option<&[u8]>) -> Result<(), NameError> {
    if text == b"." {
        wire.push(0);
        return Ok(());
    }
    let begin = wire.len();
    let mut rest = text;
    let mut label = Vec::with_capacity(LABEL_MAX);
    loop {
        let Some((&first, after)) = rest.split_first() else {
            push_label(wire, &mut label)?;
            wire.extend_from_slice(origin.ok_or(NameError::NoOrigin)?);
            break;
        };
        rest = after;
        match first {
            b'.' => {
                push_label(wire, &mut label)?;
                if rest.is_empty() {
                    wire.push(0);
                    break;
                }
            }
            b'\\' => {
                let (octet, after) = unescape(rest).ok_or(NameError::BadEscape)?;
                label.push(octet);
                rest = after;
            }
            plain => label.push(plain),
        }
    }
    if wire.len() - begin > NAME_MAX { Err(NameError::TooLong) } else { Ok(()) }
}

fn push_label(wire: &mut Vec<u8>, label: &mut Vec<u8>) -> Result<(), NameError> {
    let length = match u8::try_from(label.len()) {
        Ok(0) => return Err(NameError::EmptyLabel),
        Ok(length) if usize::from(length) <= LABEL_MAX => length,
        _ => return Err(NameError::LabelTooLong(String::from_utf8_lossy(label).into_owned())),
    };
    wire.push(length);
    wire.append(label);
    Ok(())
}

/// The octet that an escape stands for, given what follows its backslash, and what follows it.
#[must_use]
pub fn unescape(rest: &[u8]) -> Option<(u8, &[u8])> {
    let (&first, after) = rest.split_first()?;
    if !first.is_ascii_digit() {
        return Some((first, after));
    }
    let (digits, after) = rest.split_at_checked(3)?;
    let number = std::str::from_utf8(digits).ok()?;
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some((number.parse().ok()?, after))
}

/// Writes a wire name in presentation format with its last dot.
///
/// # Errors
/// When `f` fails.
pub fn write_text(f: &mut impl fmt::Write, wire: &[u8]) -> fmt::Result {
    let mut rest = wire;
    if matches!(rest.first(), None | Some(0)) {
        return f.write_char('.');
    }
    while let Some((&length, after)) = rest.split_first() {
        let Some((label, after)) = after.split_at_checked(usize::from(length)) else { break };
        if label.is_empty() {
            break;
        }
        for &octet in label {
            match octet {
                b'.' | b'\\' | b'"' | b'(' | b')' | b';' | b'@' | b'$' => {
                    write!(f, "\\{}", char::from(octet))?;
                }
                b'!'..=b'~' => f.write_char(char::from(octet))?,
                _ => write!(f, "\\{octet:03}")?,
            }
        }
        f.write_char('.')?;
        rest = after;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_back() {
        for (text, shown) in [
            (".", "."),
            ("Example.COM", "example.com."),
            ("a\\.b.example.", "a\\.b.example."),
            ("\\000\\255.x", "\\000\\255.x."),
            ("*.x", "*.x."),
        ] {
            assert_eq!(Name::from_text(text).unwrap().to_string(), shown, "{text}");
        }
    }

    #[test]
    fn what_is_no_name() {
        let long = vec!["a".repeat(63); 4].join(".");
        for (text, error) in [
            ("", NameError::EmptyLabel),
            ("a..b", NameError::EmptyLabel),
            (".a", NameError::EmptyLabel),
            ("a\\25", NameError::BadEscape),
            ("a\\256", NameError::BadEscape),
            (long.as_str(), NameError::TooLong),
        ] {
            assert_eq!(Name::from_text(text), Err(error), "{text}");
        }
        let longest = format!("{}.{}", vec!["a".repeat(63); 3].join("."), "b".repeat(61));
        assert_eq!(Name::from_text(&longest).unwrap().as_wire().len(), NAME_MAX);
    }

    #[test]
    fn graft_replaces_the_tail() {
        let name = NameBuf::from_name(&Name::from_text("a.b.c.example").unwrap());
        let tail = NameBuf::from_name(&Name::from_text("other.test").unwrap());
        assert_eq!(name.graft(2, &tail).unwrap().to_string(), "a.b.other.test.");
        let long = Name::from_text(&vec!["a".repeat(63); 3].join(".")).unwrap();
        let long = NameBuf::from_name(&long);
        assert!(long.graft(3, &long).is_none());
        assert_eq!(name.label(0), b"a");
        assert_eq!(name.label(3), b"example");
        assert_eq!(name.suffix(4), [0]);
    }
}
