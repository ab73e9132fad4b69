//! Zone texts that are wrong or odd: every problem, where it is and what would be right.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at what it does not expect"
)]

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
    let text = include_str!("zones/wrong.zone");
    let want = include_str!("zones/wrong.txt");
    assert_eq!(shown(&parse(text).unwrap_err()), want);
}

#[test]
fn what_every_zone_needs() {
    let soa = "example. SOA ns1.example. hostmaster.example. 1 1h 10m 1d 1m";
    let want = format!(
        "z:1: the zone has no SOA at its apex; add `{soa}`\n\
         z:1: the zone has no NS at its apex; add `example. NS ns1.example.`\n"
    );
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
        "{HEAD}a A 192.0.2.1\na AAAA ::1\nb CNAME a\n*.w A 192.0.2.2\nkid NS x.\n\
         h.kid A 192.0.2.3\nout CNAME elsewhere.test.\nl1 CNAME l2\nl2 CNAME l1\n"
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
