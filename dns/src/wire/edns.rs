//! EDNS (RFC 6891) and its client subnet option (RFC 7871).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Rcode;

/// Option code of the client subnet (RFC 7871 section 6).
pub const OPTION_ECS: u16 = 8;

/// Option code of the DNS cookie (RFC 7873 section 4).
pub const OPTION_COOKIE: u16 = 10;

/// Octets of an OPT record without options: root name, type, class, TTL and length.
pub const OPT_FIXED: usize = 11;

/// Longest COOKIE option: 8 octets of the client's and 32 of the server's (RFC 7873 section 4).
pub const COOKIE_MAX: usize = 40;

/// What the OPT record of a query says. Options that are not known here are ignored, as RFC 6891
/// section 6.1.2 asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edns {
    /// Version; only 0 exists.
    pub version: u8,
    /// Largest UDP payload the client takes; values below 512 count as 512.
    pub payload: u16,
    /// The DO bit, which is echoed.
    pub dnssec_ok: bool,
    /// The client subnet, when sent.
    pub ecs: Option<Ecs>,
    /// The COOKIE option's content, when sent and of a length that RFC 7873 allows.
    pub cookie: Option<Cookie>,
}

/// A COOKIE option's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cookie {
    bytes: [u8; COOKIE_MAX],
    len: u8,
}

impl Cookie {
    /// A client cookie of 8 octets, alone or followed by a server cookie of 8 to 32; None for
    /// any other length.
    #[must_use]
    pub fn new(content: &[u8]) -> Option<Self> {
        if content.len() != 8 && !(16..=COOKIE_MAX).contains(&content.len()) {
            return None;
        }
        let mut bytes = [0; COOKIE_MAX];
        bytes.get_mut(..content.len())?.copy_from_slice(content);
        Some(Self { bytes, len: u8::try_from(content.len()).ok()? })
    }

    /// The option's content.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }
}

/// A client subnet as a resolver sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ecs {
    /// Address family: 1 for IPv4, 2 for IPv6, 0 only with a SOURCE of 0.
    pub family: u16,
    /// SOURCE PREFIX-LENGTH in bits.
    pub source: u8,
    /// The address, zero beyond `source`.
    pub address: IpAddr,
}

impl Ecs {
    /// Octets of the option in an answer, its code and length included.
    #[must_use]
    pub fn wire_len(&self) -> usize {
        8 + usize::from(self.source.div_ceil(8))
    }

    /// The address octets that travel: as many as `source` covers.
    pub fn octets(&self, octets: &mut [u8; 16]) -> usize {
        match self.address {
            IpAddr::V4(v4) => {
                for (to, from) in octets.iter_mut().zip(v4.octets()) {
                    *to = from;
                }
            }
            IpAddr::V6(v6) => *octets = v6.octets(),
        }
        usize::from(self.source.div_ceil(8))
    }

    /// Reads the option's content, strictly.
    ///
    /// # Errors
    /// FORMERR when malformed (RFC 7871 section 7.1.1 and 7.2.1): SCOPE is not zero in a query,
    /// the family is unknown, SOURCE is longer than an address, the address has too many or too
    /// few octets, or it has bits set beyond SOURCE.
    pub fn parse(content: &[u8]) -> Result<Self, Rcode> {
        let [family_high, family_low, source, scope, sent @ ..] = content else {
            return Err(Rcode::FORMERR);
        };
        let family = u16::from_be_bytes([*family_high, *family_low]);
        let source = *source;
        let longest = match family {
            0 => 0,
            1 => 32,
            2 => 128,
            _ => return Err(Rcode::FORMERR),
        };
        if *scope != 0 || source > longest || sent.len() != usize::from(source.div_ceil(8)) {
            return Err(Rcode::FORMERR);
        }
        let spare = (8 - source % 8) % 8;
        if sent.last().is_some_and(|last| last & !(0xff << spare) != 0) {
            return Err(Rcode::FORMERR);
        }
        Ok(Self { family, source, address: address(family, sent) })
    }
}

fn address(family: u16, sent: &[u8]) -> IpAddr {
    if family == 2 {
        let mut octets = [0; 16];
        octets.iter_mut().zip(sent).for_each(|(to, from)| *to = *from);
        return IpAddr::V6(Ipv6Addr::from(octets));
    }
    let mut octets = [0; 4];
    octets.iter_mut().zip(sent).for_each(|(to, from)| *to = *from);
    IpAddr::V4(Ipv4Addr::from(octets))
}

impl Edns {
    /// Reads an OPT record from its class, TTL and data.
    ///
    /// # Errors
    /// FORMERR for options that overrun the data, two subnets, or a malformed subnet or cookie.
    pub fn parse(class: u16, ttl: u32, data: &[u8]) -> Result<Self, Rcode> {
        let [_, version, flags, _] = ttl.to_be_bytes();
        let mut edns = Self {
            version,
            payload: class.max(512),
            dnssec_ok: flags & 0x80 != 0,
            ecs: None,
            cookie: None,
        };
        // Options of another version have no known format.
        if version != 0 {
            return Ok(edns);
        }
        let mut rest = data;
        while !rest.is_empty() {
            let Some((code, content, after)) = option(rest) else { return Err(Rcode::FORMERR) };
            match code {
                OPTION_ECS if edns.ecs.is_some() => return Err(Rcode::FORMERR),
                OPTION_ECS => edns.ecs = Some(Ecs::parse(content)?),
                // RFC 7873 section 5.2.2: a wrong length is FORMERR; a second one is ignored.
                OPTION_COOKIE if edns.cookie.is_none() => {
                    edns.cookie = Some(Cookie::new(content).ok_or(Rcode::FORMERR)?);
                }
                _ => {}
            }
            rest = after;
        }
        Ok(edns)
    }
}

fn option(rest: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let (code, rest) = rest.split_first_chunk::<2>()?;
    let (length, rest) = rest.split_first_chunk::<2>()?;
    let (content, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
    Some((u16::from_be_bytes(*code), content, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subnets() {
        struct Case {
            content: &'static [u8],
            want: Option<(&'static str, u8)>,
        }
        for case in [
            Case { content: &[0, 1, 24, 0, 192, 0, 2], want: Some(("192.0.2.0", 24)) },
            Case { content: &[0, 1, 0, 0], want: Some(("0.0.0.0", 0)) },
            Case { content: &[0, 0, 0, 0], want: Some(("0.0.0.0", 0)) },
            Case { content: &[0, 2, 0, 0], want: Some(("::", 0)) },
            Case { content: &[0, 2, 20, 0, 0x20, 1, 0x10], want: Some(("2001:1000::", 20)) },
            Case { content: &[0, 1, 32, 0, 1, 2, 3, 4], want: Some(("1.2.3.4", 32)) },
            // SCOPE set in a query.
            Case { content: &[0, 1, 24, 24, 192, 0, 2], want: None },
            // One octet too many, one too few.
            Case { content: &[0, 1, 24, 0, 192, 0, 2, 0], want: None },
            Case { content: &[0, 1, 24, 0, 192, 0], want: None },
            // Bits beyond SOURCE.
            Case { content: &[0, 2, 20, 0, 0x20, 1, 0x11], want: None },
            Case { content: &[0, 1, 33, 0, 1, 2, 3, 4, 0], want: None },
            Case { content: &[0, 3, 0, 0], want: None },
            Case { content: &[0, 0, 1, 0, 0], want: None },
            Case { content: &[0, 1, 24], want: None },
        ] {
            let got =
                Ecs::parse(case.content).ok().map(|ecs| (ecs.address.to_string(), ecs.source));
            let want = case.want.map(|(address, source)| (address.to_owned(), source));
            assert_eq!(got, want, "{:?}", case.content);
        }
    }

    #[test]
    fn options() {
        let edns =
            Edns::parse(4096, 0x8000, &[0, 99, 0, 1, 7, 0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8]);
        let edns = edns.unwrap();
        assert!(edns.dnssec_ok);
        assert_eq!(edns.payload, 4096);
        assert_eq!(edns.cookie.unwrap().bytes(), [1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(Edns::parse(100, 0, &[]).unwrap().payload, 512);
        assert_eq!(Edns::parse(512, 0x0001_0000, &[1]).unwrap().version, 1);
        for data in [&[0, 8][..], &[0, 99, 0, 2, 1], &[0, 10, 0, 1, 1]] {
            assert_eq!(Edns::parse(512, 0, data), Err(Rcode::FORMERR), "{data:?}");
        }
        let subnet = [0, 8, 0, 4, 0, 1, 0, 0];
        let twice = [subnet, subnet].concat();
        assert_eq!(Edns::parse(512, 0, &twice), Err(Rcode::FORMERR));
    }
}
