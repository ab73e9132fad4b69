//! What must hold for any bytes and for any record: no panic, no answer beyond its limit, answers
//! that another implementation reads, data that reads back the same.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at what it does not expect"
)]

use std::net::{IpAddr, Ipv4Addr};

use dns::{Buffer, Catalog, Context, Name, Reply, Source, Transport, Zone, respond};
use hickory_proto::op::Message;
use hickory_proto::rr::RecordType;
use proptest::prelude::*;

const RECORDS: &str = r#"
$TTL 1h
@ SOA ns1 hostmaster 7 2h 15m 2w 5m
@ NS ns1
ns1 A 192.0.2.1
ns1 AAAA 2001:db8::1
mx MX 10 Mail.Example.
mx MX 20 mail.other.test.
cname CNAME mx
dname DNAME other.test.
ptr PTR host.other.test.
txt TXT "one \"quoted\" \\ back" two \000\255
hinfo HINFO "cpu" "an os"
srv SRV 1 2 3 mail
naptr NAPTR 100 50 "s" "z3950+I2L+I2C" "" _z3950._tcp.gatech.edu.
caa CAA 128 issue "ca.example; policy=ev"
tlsa TLSA 3 1 1 00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff
smimea SMIMEA 3 1 1 aabb
sshfp SSHFP 4 2 00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff
key OPENPGPKEY AQIDBAUG
cert CERT PKIX 1 RSASHA256 AQIDBA==
csync CSYNC 66 3 A NS AAAA
svcb SVCB 1 svc.other.test. mandatory=port,alpn alpn="h2,h3-19" port=8443 (
 ipv4hint=192.0.2.1,192.0.2.2 ipv6hint=2001:db8::1 ech=AQID key667="hello\210qoo" )
https HTTPS 0 pool.other.test.
ds DS 60485 5 1 2BB183AF5F22588179A53B0A98631FAD1A292118
dnskey DNSKEY 256 3 RSASHA1 AQPSKmynfzW4
rrsig RRSIG A 5 3 86400 20030322173103 20030220173103 2642 example. oJB1W6WN
nsec NSEC host A MX RRSIG NSEC TYPE1234
nsec3 NSEC3 1 1 12 aabbccdd 2t7b4g4vsa5smi47k61mv5bv1a22bojr A RRSIG
param NSEC3PARAM 1 0 12 -
rp RP admin.other.test. txt
afsdb AFSDB 1 db.other.test.
uri URI 10 1 "https://www.example/path"
eui48 EUI48 00-00-5e-00-53-2a
eui64 EUI64 00-00-5e-ef-10-00-00-2a
nid NID 10 0014:4fff:ff20:ee64
l32 L32 10 10.1.2.0
l64 L64 10 2001:0DB8:1140:1000
lp LP 10 l64-subnet1
dhcid DHCID AAIBY2/AuCccgoJbsaxcQc9TUapptP69lOjxfNuVAA2kjEA=
zonemd ZONEMD 2018031500 1 1 00112233445566778899aabbccddeeff00112233445566778899aabb
unknown TYPE65280 \# 4 DEADBEEF
deep.er.names A 192.0.2.9
"#;

fn zone(text: &str) -> Zone {
    let origin = Name::from_text("example").unwrap();
    Zone::parse(&origin, &Source::new("test", text))
        .unwrap_or_else(|problems| panic!("{problems:#?}"))
}

fn context(transport: Transport) -> Context {
    Context { client: IpAddr::V4(Ipv4Addr::LOCALHOST), transport, random: 0, cookie: None }
}

fn query(name: &Name, rtype: u16, opt: Option<u16>) -> Vec<u8> {
    let mut query = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(opt.is_some())];
    query.extend_from_slice(name.as_wire());
    query.extend_from_slice(&rtype.to_be_bytes());
    query.extend_from_slice(&[0, 1]);
    if let Some(size) = opt {
        query.extend_from_slice(&[0, 0, 41]);
        query.extend_from_slice(&size.to_be_bytes());
        query.extend_from_slice(&[0; 6]);
    }
    query
}

#[test]
fn printed_records_read_back_the_same() {
    let first: Vec<_> = zone(RECORDS).lines().collect();
    let written = RECORDS.lines().filter(|line| !line.is_empty() && !line.starts_with(['$', ' ']));
    assert_eq!(first.len(), written.count());
    let second: Vec<_> = zone(&first.join("\n")).lines().collect();
    assert_eq!(first, second);
    let svcb = first.iter().find(|line| line.starts_with("svcb.")).unwrap();
    let want = "svcb.example. 3600 IN SVCB 1 svc.other.test. mandatory=alpn,port alpn=h2,h3-19 \
                port=8443 ipv4hint=192.0.2.1,192.0.2.2 ech=AQID ipv6hint=2001:db8::1 \
                key667=\"hello\\210qoo\"";
    assert_eq!(svcb, want);
}

#[test]
fn known_types_in_generic_form_equal_their_text() {
    for (text, generic) in [
        ("A 192.0.2.1", "TYPE1 \\# 4 C0000201"),
        ("MX 10 a.b.", "MX \\# 7 000A 0161 0162 00"),
        ("TXT abc", "CLASS1 TYPE16 ( \\# 4 03\n 616263 )"),
        ("SVCB 1 . port=53", "TYPE64 \\# 9 0001 00 0003 0002 0035"),
    ] {
        let of = |data: &str| {
            let head = "@ 60 SOA . . 1 1 1 1 1\n@ 60 NS .\n";
            zone(&format!("{head}x 60 {data}\n")).lines().collect::<Vec<_>>()
        };
        assert_eq!(of(text), of(generic), "{text}");
    }
}

/// Every record is asked for and read by hickory-proto: our writer, compression and rdata.
#[test]
fn another_implementation_reads_every_answer() {
    let zone = zone(RECORDS);
    let lines: Vec<_> = zone.lines().collect();
    let catalog = Catalog::of_zones(vec![zone]);
    let mut out = Buffer::new();
    for line in &lines {
        let mut words = line.splitn(5, ' ');
        let (owner, rtype) = (words.next().unwrap(), words.nth(2).unwrap());
        let name = Name::from_text(owner).unwrap();
        let number = dns::zone::rtype(rtype).unwrap();
        let query = query(&name, number.0, Some(4096));
        let reply = respond(&catalog, &query, &context(Transport::Tcp), &mut out);
        assert!(matches!(reply, Reply::Answer { len, .. } if len == out.bytes().len()));
        let message = Message::from_vec(out.bytes()).unwrap_or_else(|e| panic!("{line}: {e}"));
        assert!(!message.answers.is_empty(), "{line}");
        for record in &message.answers {
            assert_eq!(record.record_type(), RecordType::from(number.0), "{line}");
            assert_eq!(record.name.to_string(), owner, "{line}");
        }
        // Where both have a text form without choices, the texts agree.
        if matches!(rtype, "A" | "AAAA" | "MX" | "NS" | "CNAME" | "PTR" | "SOA" | "SRV" | "TLSA") {
            let ours = words.next().unwrap().to_lowercase();
            let theirs =
                message.answers.iter().map(|record| record.data.to_string().to_lowercase());
            assert!(theirs.into_iter().any(|data| data == ours), "{line}: {message}");
        }
    }
}

/// Limit - 1, limit and limit + 1 octets of a record set over UDP.
#[test]
fn record_sets_are_whole_or_cut() {
    let head = "@ 60 SOA . . 1 1 1 1 1\n@ 60 NS .\n";
    // Header 12, question 15, owner to length 12, string lengths: 512 is reached with these.
    let fixed = 12 + 15 + 12 + 2;
    for (size, whole) in [(511, true), (512, true), (513, false)] {
        let text = size - fixed;
        let (a, b) = ("a".repeat(text / 2), "b".repeat(text - text / 2));
        let zone = zone(&format!("{head}t 60 TXT {a} {b}\n"));
        let catalog = Catalog::of_zones(vec![zone]);
        let mut out = Buffer::new();
        let name = Name::from_text("t.example").unwrap();
        let query = query(&name, 16, None);
        respond(&catalog, &query, &context(Transport::Udp), &mut out);
        let message = Message::from_vec(out.bytes()).unwrap();
        assert_eq!(message.metadata.truncation, !whole, "{size}");
        assert_eq!(message.answers.len(), usize::from(whole), "{size}");
        assert_eq!(out.bytes().len(), if whole { size } else { 27 }, "{size}");
        respond(&catalog, &query, &context(Transport::Tcp), &mut out);
        assert_eq!(out.bytes().len(), size);
    }
}

fn limit(query: &[u8]) -> usize {
    dns::wire::Query::parse(query)
        .and_then(|query| query.edns)
        .map_or(512, |edns| usize::from(edns.payload.clamp(512, 1232)))
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(2000)
    })]

    #[test]
    fn any_bytes_get_a_bounded_answer(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        check(&bytes)?;
    }

    #[test]
    fn mutated_queries_get_a_bounded_answer(
        record in any::<proptest::sample::Index>(),
        rtype in prop_oneof![any::<u16>(), 0u16..70, Just(255)],
        size in prop_oneof![Just(None), any::<u16>().prop_map(Some)],
        changes in proptest::collection::vec((0usize..64, any::<u8>()), 0..4),
        cut in 0usize..8,
    ) {
        let lines: Vec<_> = zone(RECORDS).lines().collect();
        let owner = record.get(&lines).split(' ').next().unwrap().to_owned();
        let mut bytes = query(&Name::from_text(&format!("x.{owner}")).unwrap(), rtype, size);
        for (at, value) in changes {
            let at = at % bytes.len();
            bytes[at] = value;
        }
        bytes.truncate(bytes.len() - cut);
        check(&bytes)?;
    }

    #[test]
    fn any_zone_text_is_read_or_told(text in "[ a-zA-Z0-9@$.()\";\\\\#\n\t*-]{0,300}") {
        let origin = Name::from_text("example").unwrap();
        if let Err(problems) = Zone::parse(&origin, &Source::new("x", text)) {
            prop_assert!(!problems.is_empty() && problems.len() <= dns::zone::PROBLEMS_MAX);
        }
    }
}

fn check(bytes: &[u8]) -> Result<(), TestCaseError> {
    thread_local! {
        static CATALOG: Catalog = Catalog::of_zones(vec![zone(RECORDS)]);
    }
    CATALOG.with(|catalog| {
        let mut out = Buffer::new();
        let reply = respond(catalog, bytes, &context(Transport::Udp), &mut out);
        let Reply::Answer { len, .. } = reply else { return Ok(()) };
        prop_assert_eq!(len, out.bytes().len());
        prop_assert!(len <= limit(bytes), "{} octets", len);
        prop_assert!(len >= 12 && out.bytes()[..2] == bytes[..2] && out.bytes()[2] & 0x80 != 0);
        if let Err(error) = Message::from_vec(out.bytes()) {
            // A question that their reader refuses is echoed as it came.
            prop_assert!(Message::from_vec(bytes).is_err(), "{}", error);
        }
        Ok(())
    })
}
