//! What the data of each record type is made of. One table reads text, checks wire form and
//! prints it, so that the three cannot disagree.

use crate::wire::Rtype;

/// One part of a record's data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Field {
    /// An IPv4 address.
    V4,
    /// An IPv6 address.
    V6,
    /// A name that may be compressed in answers (RFC 3597 section 4).
    Compressed,
    /// A name that must not be compressed.
    Name,
    /// An integer of 8 bits.
    U8,
    /// An integer of 16 bits.
    U16,
    /// An integer of 32 bits.
    U32,
    /// 32 bits of seconds, with units in text.
    Period,
    /// A point in time as RRSIG writes it: `YYYYMMDDHHmmSS` or seconds (RFC 4034 section 3.2).
    Time,
    /// A record type by its mnemonic.
    Type,
    /// A certificate type by mnemonic or number (RFC 4398 section 2.1).
    CertType,
    /// A DNSSEC algorithm by mnemonic or number (RFC 4034 appendix A.1).
    Algorithm,
    /// A character string of up to 255 octets.
    Text,
    /// A CAA tag: letters and digits with a length octet.
    Tag,
    /// One or more character strings, to the end.
    Texts,
    /// Text without a length, to the end, in one token.
    Rest,
    /// Base64 to the end, may be spread over tokens.
    Base64,
    /// Hexadecimal to the end, may be spread over tokens.
    Hex,
    /// Hexadecimal with a length octet, `-` when empty (RFC 5155 section 3.3).
    Salt,
    /// Base32hex with a length octet (RFC 5155 section 3.3).
    Base32,
    /// A list of record types as a bitmap, to the end (RFC 4034 section 4.1.2).
    Types,
    /// Service parameters, to the end (RFC 9460 section 2.1).
    Params,
    /// An EUI of 6 octets: `00-00-5e-00-53-2a` (RFC 7043).
    Eui48,
    /// An EUI of 8 octets.
    Eui64,
    /// A place on Earth, 16 octets (RFC 1876).
    Location,
    /// 64 bits in four groups of hexadecimal digits: `2001:db8:1:2` (RFC 6742).
    Locator64,
}

/// A type this server knows.
pub(crate) struct Known {
    pub(crate) rtype: Rtype,
    pub(crate) mnemonic: &'static str,
    pub(crate) fields: &'static [Field],
    /// How its data looks, for messages.
    pub(crate) usage: &'static str,
}

const fn known(
    number: u16,
    mnemonic: &'static str,
    fields: &'static [Field],
    usage: &'static str,
) -> Known {
    Known { rtype: Rtype(number), mnemonic, fields, usage }
}

use Field::{
    Algorithm, Base32, Base64, CertType, Compressed, Eui48, Eui64, Hex, Location, Locator64, Name,
    Params, Period, Rest, Salt, Tag, Text, Texts, Time, Type, Types, U8, U16, U32, V4, V6,
};

const KEY: &[Field] = &[U16, U8, Algorithm, Base64];
const KEY_USAGE: &str = "flags protocol algorithm base64";
const DIGEST: &[Field] = &[U16, Algorithm, U8, Hex];
const DIGEST_USAGE: &str = "key-tag algorithm digest-type hex";
const SIGNATURE: &[Field] = &[Type, Algorithm, U8, Period, Time, Time, U16, Name, Base64];
const SIGNATURE_USAGE: &str =
    "type algorithm labels ttl expiration inception key-tag signer base64";
const ASSOCIATION: &[Field] = &[U8, U8, U8, Hex];

/// Sorted by number.
pub(crate) const KNOWN: &[Known] = &[
    known(1, "A", &[V4], "address: `192.0.2.1`"),
    known(2, "NS", &[Compressed], "name"),
    known(3, "MD", &[Compressed], "name"),
    known(4, "MF", &[Compressed], "name"),
    known(5, "CNAME", &[Compressed], "name"),
    known(
        6,
        "SOA",
        &[Compressed, Compressed, U32, Period, Period, Period, Period],
        "primary mailbox serial refresh retry expire minimum",
    ),
    known(7, "MB", &[Compressed], "name"),
    known(8, "MG", &[Compressed], "name"),
    known(9, "MR", &[Compressed], "name"),
    known(12, "PTR", &[Compressed], "name"),
    known(13, "HINFO", &[Text, Text], "\"cpu\" \"os\""),
    known(14, "MINFO", &[Compressed, Compressed], "mailbox error-mailbox"),
    known(15, "MX", &[U16, Compressed], "preference name: `10 mail`"),
    known(16, "TXT", &[Texts], "\"text\" ..."),
    known(17, "RP", &[Name, Name], "mailbox text-name"),
    known(18, "AFSDB", &[U16, Name], "subtype name"),
    known(19, "X25", &[Text], "\"address\""),
    known(21, "RT", &[U16, Name], "preference name"),
    known(23, "NSAP-PTR", &[Name], "name"),
    known(24, "SIG", SIGNATURE, SIGNATURE_USAGE),
    known(25, "KEY", KEY, KEY_USAGE),
    known(26, "PX", &[U16, Name, Name], "preference name name"),
    known(27, "GPOS", &[Text, Text, Text], "longitude latitude altitude"),
    known(28, "AAAA", &[V6], "address: `2001:db8::1`"),
    known(
        29,
        "LOC",
        &[Location],
        "d m s N|S d m s E|W altitude-m size-m precision-m precision-m: \
                 `52 14 05 N 0 8 50.5 E 10m`",
    ),
    known(33, "SRV", &[U16, U16, U16, Name], "priority weight port name: `0 5 443 www`"),
    known(
        35,
        "NAPTR",
        &[U16, U16, Text, Text, Text, Name],
        "order preference \"flags\" \"service\" \"regexp\" name",
    ),
    known(36, "KX", &[U16, Name], "preference name"),
    known(37, "CERT", &[CertType, U16, Algorithm, Base64], "type key-tag algorithm base64"),
    known(39, "DNAME", &[Name], "name"),
    known(43, "DS", DIGEST, DIGEST_USAGE),
    known(44, "SSHFP", &[U8, U8, Hex], "algorithm type hex"),
    known(46, "RRSIG", SIGNATURE, SIGNATURE_USAGE),
    known(47, "NSEC", &[Name, Types], "next types"),
    known(48, "DNSKEY", KEY, KEY_USAGE),
    known(49, "DHCID", &[Base64], "base64"),
    known(
        50,
        "NSEC3",
        &[U8, U8, U16, Salt, Base32, Types],
        "hash flags iterations salt next types",
    ),
    known(51, "NSEC3PARAM", &[U8, U8, U16, Salt], "hash flags iterations salt"),
    known(52, "TLSA", ASSOCIATION, "usage selector matching hex"),
    known(53, "SMIMEA", ASSOCIATION, "usage selector matching hex"),
    known(56, "NINFO", &[Texts], "\"text\" ..."),
    known(57, "RKEY", KEY, KEY_USAGE),
    known(58, "TALINK", &[Name, Name], "previous-name next-name"),
    known(59, "CDS", DIGEST, DIGEST_USAGE),
    known(60, "CDNSKEY", KEY, KEY_USAGE),
    known(61, "OPENPGPKEY", &[Base64], "base64"),
    known(62, "CSYNC", &[U32, U16, Types], "serial flags types"),
    known(63, "ZONEMD", &[U32, U8, U8, Hex], "serial scheme hash hex"),
    known(64, "SVCB", &[U16, Name, Params], "priority name key=value ...: `1 . alpn=h2`"),
    known(65, "HTTPS", &[U16, Name, Params], "priority name key=value ...: `1 . alpn=h2`"),
    known(66, "DSYNC", &[Type, U8, U16, Name], "type scheme port target"),
    known(99, "SPF", &[Texts], "\"text\" ..."),
    known(104, "NID", &[U16, Locator64], "preference id"),
    known(105, "L32", &[U16, V4], "preference address"),
    known(106, "L64", &[U16, Locator64], "preference locator"),
    known(107, "LP", &[U16, Name], "preference name"),
    known(108, "EUI48", &[Eui48], "00-00-5e-00-53-2a"),
    known(109, "EUI64", &[Eui64], "00-00-5e-ef-10-00-00-2a"),
    known(256, "URI", &[U16, U16, Rest], "priority weight \"target\""),
    known(257, "CAA", &[U8, Tag, Rest], "flags tag \"value\": `0 issue \"ca.example\"`"),
    known(258, "AVC", &[Texts], "\"text\" ..."),
    known(261, "RESINFO", &[Texts], "\"key=value\" ..."),
    known(262, "WALLET", &[Texts], "\"text\" ..."),
    known(32768, "TA", DIGEST, DIGEST_USAGE),
    known(32769, "DLV", DIGEST, DIGEST_USAGE),
    known(65305, "ANAME", &[Name], "name"),
];

/// The type with this number.
pub(crate) fn by_number(rtype: Rtype) -> Option<&'static Known> {
    let at = KNOWN.binary_search_by_key(&rtype, |known| known.rtype).ok()?;
    KNOWN.get(at)
}

/// The fields of a type; a type that is not known has opaque data.
pub(crate) fn fields(rtype: Rtype) -> Option<&'static [Field]> {
    by_number(rtype).map(|known| known.fields)
}

/// The type that a mnemonic or `TYPEnnn` says (RFC 3597 section 5).
pub(crate) fn by_text(text: &str) -> Option<Rtype> {
    if let Some(known) = KNOWN.iter().find(|known| known.mnemonic.eq_ignore_ascii_case(text)) {
        return Some(known.rtype);
    }
    let number = text.get(4..)?;
    let generic = text.get(..4)?.eq_ignore_ascii_case("TYPE")
        && number.bytes().all(|octet| octet.is_ascii_digit());
    if generic { number.parse().ok().map(Rtype) } else { None }
}

/// The mnemonic of a type, or `TYPEnnn`.
pub(crate) fn name(rtype: Rtype) -> String {
    match (by_number(rtype), rtype) {
        (Some(known), _) => known.mnemonic.to_owned(),
        (None, Rtype::ANY) => "ANY".to_owned(),
        (None, Rtype::AXFR) => "AXFR".to_owned(),
        (None, Rtype::IXFR) => "IXFR".to_owned(),
        (None, Rtype(number)) => format!("TYPE{number}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_found_both_ways() {
        for pair in KNOWN.windows(2) {
            assert!(pair[0].rtype < pair[1].rtype, "{}", pair[1].mnemonic);
        }
        for known in KNOWN {
            assert_eq!(by_text(&known.mnemonic.to_lowercase()), Some(known.rtype));
            assert_eq!(by_text(&format!("TYPE{}", known.rtype.0)), Some(known.rtype));
            assert_eq!(name(known.rtype), known.mnemonic);
        }
        assert_eq!(by_text("TYPE65280"), Some(Rtype(65280)));
        assert_eq!(by_text("TYPE65536"), None);
        assert_eq!(by_text("TYPE+1"), None);
    }
}
