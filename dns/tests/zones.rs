//! Zone texts that are wrong or odd: every problem, where it is and what would be right.

use std::net::IpAddr;

use dns::zone::{PROBLEMS_MAX, answers, load};
use dns::{Name, Problem, Source, Zone};

fn name(text: &str) -> Name {
    Name::from_text(text).unwrap()
}

fn parse(text: &str) -> Result<Zone, Vec<Problem>> {
    Zone::parse(&name("example"), &Source::new("z", text))
}

fn shown(problems: &[Problem]) -> String {
    problems.iter().map(|problem| format!("{problem}\n")).collect()
}

const HEAD: &str = "$TTL 1h\n@ SOA ns1 host 1 2h 15m 2w 5m\n@ NS ns1\nns1 A 192.0.2.1\n";

#[test]
fn all_problems_of_a_text_at_once() {
    let text = r#"$TTL 3000000000
@ 60 IN SOA ns1 host 1 2h 15m 2w 5m
@ 60 SOA ns1 host 2 2h 15m 2w 5m
@ 60 CH NS ns1
@ 60 NS ns1
ns1 60 A 192.0.2.256
a 60 A
b 60 MX mail
c 60 AAAA ::1 ::2
d 60 TXT "open
e 60 NOPE 1
f A 192.0.2.1
g 60 CNAME a
g 60 A 192.0.2.1
h 60 CNAME a
h 60 CNAME b
i 60 DNAME x.
i 60 DNAME y.
i 60 NS z.
below.i 60 A 192.0.2.1
other.test. 60 A 192.0.2.1
j..k 60 A 192.0.2.1
l 60 SOA ns1 host 2 2h 15m 2w 5m
m 60 A \# 3 010203
n 60 TYPE1 \# 5 01020304
o 60 SVCB 1 . port=53 port=54
$GENERATE 1-2 a$ A 192.0.2.$
$INCLUDE more
p 60 ( A 192.0.2.1
"#;
    let want = "\
z:1: the TTL 3000000000 is out of range; write 0 to 2147483647 seconds, or units: `1h30m`
z:3: the zone has a second SOA; the first is in line 2; remove one
z:4: the class CH is not served; only IN is
z:6: `192.0.2.256` is no IPv4 address; A takes address: `192.0.2.1`
z:7: the address is missing; A takes address: `192.0.2.1`
z:8: `mail` is no number of 0 to 65535; MX takes preference name: `10 mail`
z:9: `::2` is too much; AAAA takes address: `2001:db8::1`
z:10: a string is never closed; close it with `\"` on the same line
z:11: `NOPE` is no record type; write a type like `A`, or `TYPEnnn` (RFC 3597)
z:13: g.example. has a CNAME and A; a name with a CNAME has nothing else
z:16: h.example. has two CNAMEs; keep one
z:17: i.example. has a DNAME and is a zone cut; keep the DNAME or the NS records
z:18: i.example. has two DNAMEs; keep one
z:20: below.i.example. is below the DNAME at i.example.; remove it or the DNAME
z:21: other.test. is outside the zone example.; put it in its own zone, or end the name without a dot
z:22: `j..k` is no name: the name has an empty label; write an owner name
z:23: l.example. has an SOA but is not the apex; remove it, or make a zone of it
z:24: the octets are no data of A; A takes address: `192.0.2.1`
z:25: the length says 5 octets, the data has 4; make the two agree
z:26: `port` is given twice; SVCB takes priority name key=value ...: `1 . alpn=h2`
z:27: `$GENERATE` is no directive of this server; $ORIGIN, $TTL and $INCLUDE are known; write other records out
z:28: `$INCLUDE` is not possible here; send the zone with its inclusions written out
z:29: `(` is never closed; close it with `)`
";
    assert_eq!(shown(&parse(text).unwrap_err()), want);
}

#[test]
fn what_every_zone_needs() {
    let want = "\
z:1: the zone has no SOA at its apex; add `example. SOA ns1.example. hostmaster.example. 1 1h 10m 1d 1m`
z:1: the zone has no NS at its apex; add `example. NS ns1.example.`
";
    assert_eq!(shown(&parse("").unwrap_err()), want);
    let no_ttl = parse("ns1 A 192.0.2.1\n").unwrap_err();
    assert_eq!(no_ttl[0].problem, "the record has no TTL");
}

#[test]
fn oddities_are_warnings() {
    let text = format!("{HEAD}a 60 A 192.0.2.1\na 30 A 192.0.2.2\na 30 A 192.0.2.2\n@ NS lost\n");
    let zone = parse(&text).unwrap();
    let want = "\
z:6: the A records of a.example. have different TTLs; the least is served: 30
z:8: the name server lost.example. has no address in the zone; add an A or AAAA record
";
    assert_eq!(shown(zone.warnings()), want);
    let lines: Vec<_> = zone.lines().filter(|line| line.starts_with("a.")).collect();
    assert_eq!(lines, ["a.example. 30 IN A 192.0.2.1", "a.example. 30 IN A 192.0.2.2"]);
    let zone = parse("@ SOA ns1 host 1 2h 15m 2w 5m\n NS x.\n").unwrap();
    assert_eq!(zone.warnings().len(), 1);
    assert!(zone.warnings()[0].problem.contains("the minimum of the SOA is taken: 300"));
}

#[test]
fn problems_are_bounded() {
    let problems = parse(&"x NOPE\n".repeat(1000)).unwrap_err();
    assert_eq!(problems.len(), PROBLEMS_MAX);
}

/// Owner, TTL and class may be left out, in either order.
#[test]
fn the_ways_to_write_a_record() {
    let text = format!(
        "{HEAD}$ORIGIN deep.example.\na 5 IN A 192.0.2.1\nb IN 1m A 192.0.2.1\n  CLASS1 AAAA ::1\n\
         c A 192.0.2.1 ; note\n@ A 192.0.2.1\n$ORIGIN rel\nin IN A 192.0.2.1\n\
         \\100.x A 192.0.2.1\n$TTL 7\nlast.example. A 192.0.2.1\n"
    );
    let zone = parse(&text).unwrap();
    let lines: Vec<_> = zone.lines().skip(3).collect();
    let want = [
        "deep.example. 3600 IN A 192.0.2.1",
        "a.deep.example. 5 IN A 192.0.2.1",
        "b.deep.example. 60 IN A 192.0.2.1",
        "b.deep.example. 3600 IN AAAA ::1",
        "c.deep.example. 3600 IN A 192.0.2.1",
        "in.rel.deep.example. 3600 IN A 192.0.2.1",
        "d.x.rel.deep.example. 3600 IN A 192.0.2.1",
        "last.example. 7 IN A 192.0.2.1",
    ];
    assert_eq!(lines, want);
}

#[test]
fn files_are_read_with_what_they_include() {
    let folder = std::env::temp_dir().join(format!("crossfade-zones-{}", std::process::id()));
    std::fs::create_dir_all(folder.join("parts")).unwrap();
    std::fs::write(folder.join("main"), format!("{HEAD}$INCLUDE parts/hosts\n")).unwrap();
    std::fs::write(folder.join("parts/hosts"), "www A 192.0.2.7\n$INCLUDE more\n").unwrap();
    std::fs::write(folder.join("parts/more"), "mail A 192.0.2.999\n").unwrap();
    let source = load::read(&name("example"), &folder.join("main")).unwrap();
    let problems = Zone::parse(&name("example"), &source).unwrap_err();
    assert_eq!(problems.len(), 1);
    assert!(problems[0].file.ends_with("parts/more"), "{}", problems[0]);
    assert_eq!(problems[0].line, 1);
    std::fs::write(folder.join("parts/more"), b"\xff\n").unwrap();
    let problems = load::read(&name("example"), &folder.join("main")).unwrap_err();
    assert!(problems[0].problem.contains("not UTF-8 in line 1"), "{}", problems[0]);
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn what_the_text_itself_answers() {
    let text = format!(
        "{HEAD}a A 192.0.2.1\na AAAA ::1\nb CNAME a\n*.w A 192.0.2.2\nkid NS x.\nh.kid A 192.0.2.3\n\
         out CNAME elsewhere.test.\nl1 CNAME l2\nl2 CNAME l1\n"
    );
    let zone = parse(&text).unwrap();
    let ips = |texts: &[&str]| texts.iter().map(|t| t.parse().unwrap()).collect::<Vec<IpAddr>>();
    for (host, want) in [
        ("a.example", &["192.0.2.1", "::1"][..]),
        ("b.example", &["192.0.2.1", "::1"]),
        ("x.w.example", &["192.0.2.2"]),
        ("h.kid.example", &[]),
        ("none.example", &[]),
        ("out.example", &[]),
        ("l1.example", &[]),
        ("a.other", &[]),
    ] {
        assert_eq!(answers(&zone, &name(host)), ips(want), "{host}");
    }
    assert_eq!(zone.cname_at(&name("b.example")), Some(name("a.example")));
    assert_eq!(zone.cname_at(&name("a.example")), None);
    assert_eq!(zone.serial(), 1);
}
