//! The expressions that rules are made of (`linux/netfilter/nf_tables.h`), as `nft` writes them.

use super::Messages;

/// `NFTA_LIST_ELEM`.
const ELEMENT: u16 = 1;
/// `NFTA_DATA_VALUE`.
const VALUE: u16 = 1;
/// `NFTA_DATA_VERDICT`.
const VERDICT: u16 = 2;
/// `NF_NAT_RANGE_PROTO_SPECIFIED`: a port is given too.
const WITH_PORT: u32 = 2;
/// Buckets: [`plan::bucket`] has as many.
const BUCKETS: u32 = 10_000;
/// `NFT_OBJECT_COUNTER`.
pub(in crate::dataplane) const COUNTER: u32 = 1;

/// A register (`enum nft_registers`): `NFT_REG_1` and `_2` are 16 bytes long, `NFT_REG32_…` 4.
#[derive(Clone, Copy, Debug)]
pub(super) enum Register {
    Verdict = 0,
    First = 1,
    Second = 2,
    /// Bytes 4 to 7 of the first.
    Word1 = 9,
    /// Bytes 8 to 11 of the first.
    Word2 = 10,
    /// Bytes 4 to 7 of the second.
    Word5 = 13,
}

/// `enum nft_meta_keys`.
#[derive(Clone, Copy, Debug)]
pub(super) enum Meta {
    Mark = 3,
    OutputName = 7,
    SocketUser = 10,
    Family = 15,
    Transport = 16,
}

/// `enum nft_ct_keys`.
#[derive(Clone, Copy, Debug)]
pub(super) enum Flow {
    Status = 2,
    Mark = 3,
}

/// `enum nft_cmp_ops`.
#[derive(Clone, Copy, Debug)]
pub(super) enum Compare {
    Equal = 0,
    Unequal = 1,
    Less = 2,
}

/// `enum nft_payload_bases`.
#[derive(Clone, Copy, Debug)]
pub(super) enum Header {
    Network = 1,
    Transport = 2,
}

/// A verdict (`NFT_…` and `NF_ACCEPT`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::dataplane) enum Verdict<'a> {
    Accept,
    Return,
    Jump(&'a str),
    Goto(&'a str),
}

/// The expressions of one rule, written into its list.
#[derive(Debug)]
pub(super) struct Expressions<'a> {
    to: &'a mut Messages,
}

impl<'a> Expressions<'a> {
    pub(super) const fn new(to: &'a mut Messages) -> Self {
        Self { to }
    }

    pub(super) fn meta(&mut self, key: Meta, into: Register) {
        self.expression("meta", |data| {
            data.number(2, key as u32);
            data.number(1, into as u32);
        });
    }

    pub(super) fn flow(&mut self, key: Flow) {
        self.expression("ct", |data| {
            data.number(2, key as u32);
            data.number(1, Register::First as u32);
        });
    }

    pub(super) fn set_flow_mark(&mut self) {
        self.expression("ct", |data| {
            data.number(2, Flow::Mark as u32);
            data.number(4, Register::First as u32);
        });
    }

    pub(super) fn payload(&mut self, header: Header, offset: u32, length: u32, into: Register) {
        self.expression("payload", |data| {
            data.number(1, into as u32);
            data.number(2, header as u32);
            data.number(3, offset);
            data.number(4, length);
        });
    }

    /// `first = (first & mask) ^ flip`.
    pub(super) fn bits(&mut self, mask: &[u8], flip: &[u8]) {
        self.expression("bitwise", |data| {
            data.number(1, Register::First as u32);
            data.number(2, Register::First as u32);
            data.number(6, 0);
            data.number(3, u32::try_from(mask.len()).unwrap_or_default());
            data.nest(4, |value| value.attribute(VALUE, mask));
            data.nest(5, |value| value.attribute(VALUE, flip));
        });
    }

    pub(super) fn compare(&mut self, how: Compare, with: &[u8]) {
        self.expression("cmp", |data| {
            data.number(1, Register::First as u32);
            data.number(2, how as u32);
            data.nest(3, |value| value.attribute(VALUE, with));
        });
    }

    /// `first = jhash(second) mod 10000`.
    pub(super) fn hash(&mut self, length: u32, seed: u32) {
        self.expression("hash", |data| {
            data.number(1, Register::Second as u32);
            data.number(2, Register::First as u32);
            data.number(3, length);
            data.number(4, BUCKETS);
            data.number(5, seed);
            data.number(6, 0);
            data.number(7, 0);
        });
    }

    /// `first = random mod 10000`.
    pub(super) fn draw(&mut self) {
        self.expression("numgen", |data| {
            data.number(1, Register::First as u32);
            data.number(2, BUCKETS);
            data.number(3, 1);
            data.number(4, 0);
        });
    }

    /// A number of the host's order becomes one of network order, that `<` may compare bytes.
    pub(super) fn network_order(&mut self) {
        self.expression("byteorder", |data| {
            data.number(1, Register::First as u32);
            data.number(2, Register::First as u32);
            data.number(3, 1);
            data.number(4, 4);
            data.number(5, 4);
        });
    }

    pub(super) fn load(&mut self, into: Register, value: &[u8]) {
        self.expression("immediate", |data| {
            data.number(1, into as u32);
            data.nest(2, |nest| nest.attribute(VALUE, value));
        });
    }

    pub(super) fn verdict(&mut self, verdict: Verdict<'_>) {
        self.expression("immediate", |data| {
            data.number(1, Register::Verdict as u32);
            data.nest(2, |nest| write_verdict(nest, verdict));
        });
    }

    pub(super) fn count(&mut self, counter: &str) {
        self.expression("objref", |data| {
            data.number(1, COUNTER);
            data.text(2, counter);
        });
    }

    /// The first register's content is put into a set, with a counter.
    pub(super) fn note(&mut self, set: &str) {
        self.expression("dynset", |data| {
            data.number(4, Register::First as u32);
            data.number(3, 1);
            data.text(1, set);
            data.nest(7, |nest| {
                nest.text(1, "counter");
                nest.nest(2, |_| ());
            });
        });
    }

    pub(super) fn verdict_of(&mut self, map: &str) {
        self.expression("lookup", |data| {
            data.number(2, Register::First as u32);
            data.number(3, Register::Verdict as u32);
            data.text(1, map);
        });
    }

    /// Destination NAT to the first register's address and, if asked, the second's port.
    pub(super) fn translate(&mut self, family: u8, with_port: bool) {
        self.expression("nat", |data| {
            data.number(1, 1);
            data.number(2, u32::from(family));
            data.number(3, Register::First as u32);
            if with_port {
                data.number(5, Register::Second as u32);
                data.number(7, WITH_PORT);
            }
        });
    }

    /// Source NAT to the first register's address.
    pub(super) fn leave_as(&mut self, family: u8) {
        self.expression("nat", |data| {
            data.number(1, 0);
            data.number(2, u32::from(family));
            data.number(3, Register::First as u32);
        });
    }

    /// To this host, at the first register's port.
    pub(super) fn redirect(&mut self) {
        self.expression("redir", |data| {
            data.number(1, Register::First as u32);
            data.number(3, WITH_PORT);
        });
    }

    pub(super) fn masquerade(&mut self) {
        self.expression("masq", |_| ());
    }

    fn expression(&mut self, name: &str, fill: impl FnOnce(&mut Messages)) {
        self.to.nest(ELEMENT, |element| {
            element.text(1, name);
            element.nest(2, fill);
        });
    }
}

/// A verdict, within a data attribute.
pub(in crate::dataplane) fn write_verdict(to: &mut Messages, verdict: Verdict<'_>) {
    let (code, chain): (i32, _) = match verdict {
        Verdict::Accept => (1, None),
        Verdict::Return => (-5, None),
        Verdict::Jump(chain) => (-3, Some(chain)),
        Verdict::Goto(chain) => (-4, Some(chain)),
    };
    to.nest(VERDICT, |nest| {
        nest.attribute(1, &code.to_be_bytes());
        if let Some(chain) = chain {
            nest.text(2, chain);
        }
    });
}
