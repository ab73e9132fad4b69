//! Which bits of flows' marks the rules of others write and read.

use std::ops::BitOr;

use crate::dataplane::Attributes;

/// `NFT_CT_MARK`.
const MARK: u32 = 3;
/// The modes of iptables' `CONNMARK` (`XT_CONNMARK_SET`, `_SAVE`, `_RESTORE`).
const SET: u8 = 0;
const SAVE: u8 = 1;
const RESTORE: u8 = 2;

/// Bits of a mark.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Bits {
    pub(super) written: u32,
    pub(super) read: u32,
}

impl BitOr for Bits {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self { written: self.written | other.written, read: self.read | other.read }
    }
}

/// What is in the register, as far as it matters.
#[derive(Clone, Copy, Debug, Default)]
enum Held {
    /// Something else.
    #[default]
    Other,
    /// The mark.
    Mark,
    /// The mark with these bits kept and these flipped.
    Changed { kept: u32, flipped: u32 },
}

/// Those of one rule, of the expressions that it is made of (`NFTA_RULE_EXPRESSIONS`). What is not
/// understood counts as all bits.
pub(super) fn of(expressions: &[u8]) -> Bits {
    let mut bits = Bits::default();
    let mut held = Held::default();
    for expression in Attributes::new(expressions) {
        let expression = expression.nest();
        let (Some(name), Some(data)) = (expression.text(1), expression.nest(2)) else { continue };
        let was = std::mem::take(&mut held);
        let mut read = |mask| bits.read |= mask;
        match name {
            "ct" if data.number(2) != Some(MARK) => {}
            "ct" if data.number(4).is_some() => bits.written |= written(was),
            "ct" => held = Held::Mark,
            "bitwise" => match was {
                Held::Mark => held = changed(data),
                Held::Changed { kept, .. } => read(kept),
                Held::Other => {}
            },
            "match" if data.text(1) == Some("connmark") => {
                read(data.find(3).and_then(|info| word(info.value, 1)).unwrap_or(u32::MAX));
            }
            "target" if data.text(1) == Some("CONNMARK") => {
                let info = data.find(3).map(|info| info.value).unwrap_or_default();
                bits = bits | target(info);
            }
            _ => match was {
                Held::Mark => read(u32::MAX),
                Held::Changed { kept, .. } => read(kept),
                Held::Other => {}
            },
        }
    }
    bits
}

/// `mark = (mark & kept) ^ flipped`.
fn changed(data: Attributes<'_>) -> Held {
    let value = |kind| data.nest(kind)?.find(1).and_then(|value| word(value.value, 0));
    match (value(4), value(5)) {
        (Some(kept), Some(flipped)) => Held::Changed { kept, flipped },
        _ => Held::Changed { kept: u32::MAX, flipped: u32::MAX },
    }
}

/// The bits that are others after what was held is written.
const fn written(held: Held) -> u32 {
    match held {
        Held::Changed { kept, flipped } => !kept | flipped,
        Held::Mark => 0,
        Held::Other => u32::MAX,
    }
}

/// `struct xt_connmark_tginfo1`: mark, mask of the flow's, mask of the packet's, mode.
fn target(info: &[u8]) -> Bits {
    let all = Bits { written: u32::MAX, read: u32::MAX };
    let (Some(value), Some(flow), Some(packet), Some(mode)) =
        (word(info, 0), word(info, 1), word(info, 2), info.get(12))
    else {
        return all;
    };
    match *mode {
        SET => Bits { written: flow | value, read: 0 },
        SAVE => Bits { written: flow | packet, read: 0 },
        RESTORE => Bits { written: 0, read: flow },
        _ => all,
    }
}

/// A number of the host's order.
fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at * 4..at * 4 + 4)?.try_into().ok()?))
}
