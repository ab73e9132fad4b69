use dns::wire::Query;
use hickory_proto::op::Message;
use hickory_proto::rr::RData;
use plan::fixture;
use plan::split::Split;
use proptest::prelude::*;

use super::*;

/// Beside the demo plan: a service of both families without a logical address, one with a logical
/// address of IPv6, one that draws, and one of many addresses.
fn services(bp: u16) -> Vec<Arc<Service>> {
    let many: Vec<String> = (0..100).map(|last| format!("10.7.0.{last}")).collect();
    let many = many.join(", ");
    let shop = fixture::SHOP.split("  gates:\n").next().unwrap().replace(", gates: [sign-off]", "");
    let text = shop.replace(
        "  steps:\n",
        &format!(
            "    - name: api
      hosts: [api.corp.example, old-api.corp.example]
      ports: [{{ name: http, port: 8080, protocol: http }}]
      legacy: {{ endpoints: [10.0.3.11, 10.0.3.12, \"2001:db8::11\"] }}
      target: {{ endpoints: [10.9.3.21] }}
    - name: six
      hosts: [six.corp.example]
      address: \"2001:db8::6\"
      ports: [{{ name: http, port: 8080, protocol: http }}]
      legacy: {{ endpoints: [\"2001:db8::61\"] }}
      target: {{ endpoints: [\"2001:db8::62\"] }}
    - name: drawn
      hosts: [drawn.corp.example]
      affinity: none
      ports: [{{ name: http, port: 8080, protocol: http }}]
      legacy: {{ endpoints: [10.0.5.11] }}
      target: {{ endpoints: [10.9.5.21] }}
    - name: many
      hosts: [many.corp.example]
      ports: [{{ name: http, port: 8080, protocol: http }}]
      legacy: {{ endpoints: [{many}] }}
      target: {{ endpoints: [10.9.6.21] }}
  steps:
"
        ),
    );
    fixture::snapshot(&text, Split::from_bp(bp).unwrap()).services.to_vec()
}

fn host() -> IpAddr {
    "10.0.1.11".parse().unwrap()
}

/// A query with RD, EDNS when `payload` is not 0.
fn query(name: &str, rtype: u16, class: u16, payload: u16) -> Vec<u8> {
    let mut bytes = vec![0xab, 0xcd, 1, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(payload > 0)];
    bytes.extend_from_slice(Name::from_text(name).unwrap().as_wire());
    bytes.extend_from_slice(&rtype.to_be_bytes());
    bytes.extend_from_slice(&class.to_be_bytes());
    if payload > 0 {
        bytes.extend_from_slice(&[0, 0, 41]);
        bytes.extend_from_slice(&payload.to_be_bytes());
        bytes.extend_from_slice(&[0, 0, 0x80, 0, 0, 0]);
    }
    bytes
}

fn answer(answers: &Answers, query: &[u8], over: Transport, random: u64) -> Option<Vec<u8>> {
    let mut out = b"left over".to_vec();
    answers.respond(&Query::parse(query)?, over, random, &mut out).then_some(out)
}

/// The addresses, their TTL, and the TTL and MINIMUM of the SOA.
fn read(bytes: &[u8]) -> (Vec<String>, Option<u32>, Option<(u32, u32)>) {
    let message = Message::from_vec(bytes).unwrap();
    let addresses = message.answers.iter().map(|record| record.data.to_string());
    let soa = message.authorities.iter().find_map(|record| {
        let RData::SOA(soa) = &record.data else { return None };
        Some((record.ttl, soa.minimum))
    });
    (addresses.collect(), message.answers.first().map(|record| record.ttl), soa)
}

#[test]
fn what_is_told() {
    struct Case {
        bp: u16,
        name: &'static str,
        rtype: u16,
        want: &'static [&'static str],
    }
    let case = |bp, name, rtype, want| Case { bp, name, rtype, want };
    let cases = [
        // The logical address, whatever the split.
        case(0, "orders.corp.example", 1, &["10.0.1.10"]),
        case(5_000, "orders.corp.example", 1, &["10.0.1.10"]),
        case(10_000, "ORDERS.corp.Example", 1, &["10.0.1.10"]),
        case(5_000, "orders.corp.example", 28, &[]),
        case(5_000, "six.corp.example", 28, &["2001:db8::6"]),
        case(5_000, "six.corp.example", 1, &[]),
        // A side.
        case(0, "api.corp.example", 1, &["10.0.3.11", "10.0.3.12"]),
        case(0, "old-api.corp.example", 28, &["2001:db8::11"]),
        case(10_000, "api.corp.example", 1, &["10.9.3.21"]),
        case(10_000, "api.corp.example", 28, &[]),
        // HTTPS, SVCB, MX, SOA, TXT: empty. ANY: what there is.
        case(0, "orders.corp.example", 65, &[]),
        case(0, "orders.corp.example", 64, &[]),
        case(0, "orders.corp.example", 15, &[]),
        case(0, "orders.corp.example", 6, &[]),
        case(0, "api.corp.example", 255, &["10.0.3.11", "10.0.3.12", "2001:db8::11"]),
    ];
    for Case { bp, name, rtype, want } in cases {
        let answers = Answers::of(host(), &services(bp));
        let bytes = answer(&answers, &query(name, rtype, 1, 0), Transport::Udp, 0).unwrap();
        let (addresses, _, soa) = read(&bytes);
        assert_eq!(addresses, want, "{name} {rtype} at {bp}");
        assert_eq!(soa, want.is_empty().then_some((0, 0)), "{name} {rtype} at {bp}");
        let message = Message::from_vec(&bytes).unwrap();
        let head = &message.metadata;
        assert_eq!(head.id, 0xabcd);
        assert!(head.authoritative && head.recursion_available && head.recursion_desired);
        assert!(!head.truncation);
    }
}

#[test]
fn what_is_relayed() {
    struct Case {
        name: &'static str,
        class: u16,
        flags: u8,
    }
    let answers = Answers::of(host(), &services(0));
    for Case { name, class, flags } in [
        Case { name: "www.example.org", class: 1, flags: 1 },
        Case { name: ".", class: 1, flags: 1 },
        // Above, below and beside a plan name.
        Case { name: "corp.example", class: 1, flags: 1 },
        Case { name: "x.orders.corp.example", class: 1, flags: 1 },
        Case { name: "order.corp.example", class: 1, flags: 1 },
        Case { name: "orders.corp.example.org", class: 1, flags: 1 },
        // CH, NOTIFY, UPDATE.
        Case { name: "orders.corp.example", class: 3, flags: 1 },
        Case { name: "orders.corp.example", class: 1, flags: 0x21 },
        Case { name: "orders.corp.example", class: 1, flags: 0x29 },
    ] {
        let mut query = query(name, 1, class, 0);
        query[2] = flags;
        assert_eq!(answer(&answers, &query, Transport::Udp, 0), None, "{name} {class} {flags}");
    }
    assert!(answer(&answers, &query("orders.corp.example", 1, 1, 0), Transport::Udp, 0).is_some());
}

#[test]
fn the_side_is_that_of_the_dns_plane() {
    let at = services(3_000);
    let catalog = {
        let zone = dns::Zone::own(&Name::from_text("corp.example").unwrap());
        let token = plan::Token::START;
        dns::Catalog::of_zones(vec![zone]).with_names(token, &at)
    };
    let mut sides = BTreeSet::new();
    for last in 0..=255 {
        let host: IpAddr = format!("10.44.0.{last}").parse().unwrap();
        let asked = query("api.corp.example", 1, 1, 0);
        let ours = answer(&Answers::of(host, &at), &asked, Transport::Udp, 0).unwrap();
        let context =
            dns::Context { client: host, transport: Transport::Udp, random: 0, cookie: None };
        let mut theirs = dns::Buffer::new();
        dns::respond(&catalog, &asked, &context, &mut theirs);
        assert_eq!(read(&ours).0, read(theirs.bytes()).0, "{host}");
        sides.insert(read(&ours).0);
    }
    assert_eq!(sides.len(), 2, "both sides are told: {sides:?}");
}

#[test]
fn without_affinity_each_answer_is_drawn() {
    let answers = Answers::of(host(), &services(2_500));
    let asked = query("drawn.corp.example", 1, 1, 0);
    let target = (0..1_000_u64).filter(|step| {
        let random = step << 54 | step;
        read(&answer(&answers, &asked, Transport::Udp, random).unwrap()).0 == ["10.9.5.21"]
    });
    // A step is 1/1024 of the range.
    assert_eq!(target.count(), 256);
}

#[test]
fn ttl_is_short_while_it_moves() {
    let mut leaf = (*services(0)[0]).clone();
    leaf.ttls = [300].into();
    for (motion, ttl, want) in [
        (Motion::Steady, 300, 300),
        (Motion::Steady, 0, 0),
        (Motion::Moving, 300, 5),
        (Motion::RolledBack, 300, 5),
        (Motion::Restored, 300, 5),
        (Motion::Moving, 2, 2),
    ] {
        leaf.motion = motion;
        leaf.ttls = [ttl].into();
        let answers = Answers::of(host(), &[Arc::new(leaf.clone())]);
        let name = leaf.spec.hosts[0].as_str();
        let bytes = answer(&answers, &query(name, 1, 1, 0), Transport::Udp, 0).unwrap();
        assert_eq!(read(&bytes).1, Some(want), "{motion:?} {ttl}");
    }
}

#[test]
fn long_answers_are_cut_over_udp_only() {
    let answers = Answers::of(host(), &services(0));
    for (over, payload, whole) in [
        (Transport::Udp, 0, false),
        (Transport::Udp, 4_096, false),
        (Transport::Tcp, 0, true),
        (Transport::Tcp, 1_232, true),
    ] {
        let asked = query("many.corp.example", 1, 1, payload);
        let bytes = answer(&answers, &asked, over, 7).unwrap();
        let message = Message::from_vec(&bytes).unwrap();
        assert_eq!(message.metadata.truncation, !whole, "{over:?} {payload}");
        assert_eq!(message.answers.len(), if whole { 100 } else { 0 });
        assert_eq!(message.edns.is_some(), payload > 0);
    }
    let first = |random| {
        let asked = query("many.corp.example", 1, 1, 0);
        read(&answer(&answers, &asked, Transport::Tcp, random).unwrap()).0[0].clone()
    };
    assert_ne!(first(1), first(2), "another address comes first");
}

#[test]
fn malformed_queries_for_plan_names_are_refused_here() {
    let answers = Answers::of(host(), &services(0));
    // Octets after the last record; an unknown EDNS version.
    let mut trailing = query("orders.corp.example", 1, 1, 0);
    trailing.push(0);
    let mut version = query("orders.corp.example", 1, 1, 1_232);
    let at = version.len() - 5;
    version[at] = 1;
    for (query, low, high) in [(trailing, 1, None), (version, 0, Some(1))] {
        let bytes = answer(&answers, &query, Transport::Udp, 0).unwrap();
        assert_eq!(bytes[3] & 0x0f, low);
        let message = Message::from_vec(&bytes).unwrap();
        assert_eq!(message.edns.map(|edns| edns.rcode_high()), high);
        assert!(message.answers.is_empty() && message.authorities.is_empty());
    }
}

#[test]
fn counters_go_on_over_changes() {
    let answers = Answers::of(host(), &services(0));
    let ask = |answers: &Answers, name| {
        answer(answers, &query(name, 1, 1, 0), Transport::Udp, 0).unwrap();
    };
    ask(&answers, "orders.corp.example");
    ask(&answers, "api.corp.example");
    let next = answers.next(&services(10_000));
    ask(&next, "api.corp.example");
    ask(&next, "old-api.corp.example");
    let told = next.told();
    let of = |id: &str| told.iter().find(|told| told.service.to_string() == id).unwrap().clone();
    assert_eq!((of("shop/orders").logical, of("shop/orders").legacy), (1, 0));
    assert_eq!((of("shop/api").logical, of("shop/api").legacy, of("shop/api").target), (0, 1, 2));
}

#[test]
fn entries_of_a_hosts_file() {
    let entries = Answers::of(host(), &services(10_000)).entries();
    let of = |name: &str| entries.iter().find(|(it, _)| it == name).unwrap().1.clone();
    assert_eq!(of("orders.corp.example"), ["10.0.1.10".parse::<IpAddr>().unwrap()]);
    assert_eq!(of("api.corp.example"), ["10.9.3.21".parse::<IpAddr>().unwrap()]);
    assert!(entries.is_sorted());
}

proptest! {
    #[test]
    fn no_bytes_are_too_odd(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        random in any::<u64>(),
        at in prop::collection::vec((0usize..60, any::<u8>()), 0..4),
    ) {
        let answers = Answers::of(host(), &services(5_000));
        answer(&answers, &bytes, Transport::Udp, random);
        let mut near = query("api.corp.example", 1, 1, 1_232);
        for (at, octet) in at {
            if let Some(place) = near.get_mut(at) {
                *place = octet;
            }
        }
        if let Some(bytes) = answer(&answers, &near, Transport::Udp, random) {
            prop_assert!(Message::from_vec(&bytes).is_ok(), "{:?}", bytes);
            prop_assert_eq!(&bytes[..2], &near[..2]);
        }
    }
}
