use std::collections::BTreeSet;

use proptest::prelude::*;
use proto::envoy::service::discovery::v3::Resource;
use proto::google::protobuf::Any;

use super::*;

const TYPE: &str = TypeUrl::ZONE_TABLE;

fn token(incarnation: u32, revision: u64) -> Token {
    Token { incarnation, revision }
}

fn version(since: Token, body: &str) -> Version {
    Version::of(since, body.as_bytes())
}

fn resource(name: &str, since: Token, body: &str) -> Resource {
    Resource {
        name: name.to_owned(),
        version: version(since, body).to_string(),
        resource: Some(Any { type_url: TYPE.to_owned(), value: body.to_owned().into() }),
        ..Resource::default()
    }
}

fn response(at: &str, resources: Vec<Resource>, removed: &[&str]) -> DeltaDiscoveryResponse {
    DeltaDiscoveryResponse {
        system_version_info: at.to_owned(),
        type_url: TYPE.to_owned(),
        resources,
        removed_resources: removed.iter().map(|name| (*name).to_owned()).collect(),
        ..DeltaDiscoveryResponse::default()
    }
}

fn held(through: Token, items: &[(&str, Token, &str)]) -> Held {
    let item = |(name, since, body): &(&str, Token, &str)| {
        let item = Item { version: version(*since, body), body: (*body).to_owned().into() };
        (Name::new(name), item)
    };
    Held { type_url: TYPE.into(), through, resources: items.iter().map(item).collect() }
}

fn judge_all(held: &Held, response: DeltaDiscoveryResponse) -> Judged {
    judge(held, response, &mut |_, body, _| match body.as_ref() {
        b"bad" => Err("it is bad".to_owned()),
        _ => Ok(()),
    })
}

/// `name since body` of all that is held.
fn shown(held: &Held) -> BTreeSet<String> {
    let items = held.resources.iter();
    let line = |(name, item): (&Name, &Item)| {
        let since =
            item.version.since().map_or_else(|| item.version.to_string(), |s| s.to_string());
        format!("{name} {since} {}", String::from_utf8_lossy(&item.body))
    };
    items.map(line).collect()
}

/// A response to what holds `a` of 1.5 and `b` of 1.9, taken of tables at 1.10.
struct Case {
    name: &'static str,
    response: DeltaDiscoveryResponse,
    held: &'static [&'static str],
    refused: &'static [&'static str],
}

/// What is held before each case, and after those that are refused.
const SAME: &[&str] = &["a 1.5 A", "b 1.9 B"];

/// Newer, older and behind.
fn ordered() -> Vec<Case> {
    let t = |revision| token(1, revision);
    vec![
        Case {
            name: "newer",
            response: response("1.12", vec![resource("a", t(12), "A2")], &[]),
            held: &["a 1.12 A2", "b 1.9 B"],
            refused: &[],
        },
        Case {
            name: "a server behind is refused as a whole",
            response: response("1.9", vec![resource("c", t(8), "C")], &["a"]),
            held: SAME,
            refused: &["*"],
        },
        Case {
            name: "older, of a server that should know better",
            response: response(
                "1.12",
                vec![resource("b", t(8), "B0"), resource("c", t(11), "C")],
                &[],
            ),
            held: &["a 1.5 A", "b 1.9 B", "c 1.11 C"],
            refused: &["b"],
        },
        Case {
            name: "of the same record in another rendering",
            response: response("1.12", vec![resource("b", t(9), "B+")], &[]),
            held: &["a 1.5 A", "b 1.9 B+"],
            refused: &[],
        },
        Case {
            name: "older after a restore",
            response: response("2.10", vec![resource("b", t(3), "B0")], &["a"]),
            held: &["b 1.3 B0"],
            refused: &[],
        },
        Case {
            name: "removed",
            response: response("1.12", vec![], &["a", "never there"]),
            held: &["b 1.9 B"],
            refused: &[],
        },
    ]
}

/// What has no order, and what is no resource.
fn unusual() -> Vec<Case> {
    let t = |revision| token(1, revision);
    vec![
        Case {
            name: "removed by who knows what",
            response: response("", vec![], &["a"]),
            held: SAME,
            refused: &["a"],
        },
        Case {
            name: "unordered in place of ordered",
            response: response(
                "",
                vec![Resource { version: "7".to_owned(), ..resource("a", t(99), "x") }],
                &[],
            ),
            held: SAME,
            refused: &["a"],
        },
        Case {
            name: "the good rest is taken",
            response: response(
                "1.12",
                vec![resource("a", t(11), "bad"), resource("b", t(12), "B2")],
                &[],
            ),
            held: &["a 1.5 A", "b 1.12 B2"],
            refused: &["a"],
        },
        Case {
            name: "another type",
            response: response(
                "1.12",
                vec![Resource {
                    resource: Some(Any { type_url: TypeUrl::ZONE.to_owned(), ..Any::default() }),
                    ..resource("c", t(12), "C")
                }],
                &[],
            ),
            held: SAME,
            refused: &["c"],
        },
        Case {
            name: "a heartbeat",
            response: response(
                "1.12",
                vec![Resource { resource: None, ..resource("a", t(12), "") }],
                &[],
            ),
            held: SAME,
            refused: &[],
        },
    ]
}

#[test]
fn responses_are_compared_with_what_is_held() {
    let t = |revision| token(1, revision);
    let before = held(t(10), &[("a", t(5), "A"), ("b", t(9), "B")]);
    for Case { name, response, held: expected, refused } in ordered().into_iter().chain(unusual()) {
        let judged = judge_all(&before, response);
        let after = judged.held.unwrap_or_else(|| before.clone());
        let expected: BTreeSet<String> = expected.iter().map(|line| (*line).to_owned()).collect();
        assert_eq!(shown(&after), expected, "{name}");
        let names: Vec<&str> =
            judged.refused.iter().map(|r| r.name.as_ref().map_or("*", Name::as_str)).collect();
        assert_eq!(names, refused, "{name}");
        assert!(after.through >= before.through, "{name}");
    }
}

#[test]
fn requests_say_what_is_held_and_what_is_wanted_again() {
    let t = |revision| token(1, revision);
    let held = Arc::new(held(t(10), &[("a", t(5), "A"), ("b", t(9), "B")]));
    let again = Again { round: 1, names: vec![(TYPE.into(), "b".into())] };
    let node = super::super::node("n", "0", &[("role", "dns")]);
    let requests = open(&node, [&held, &held].into_iter(), &again);
    assert_eq!(requests[0].node.as_ref().map(|node| node.id.as_str()), Some("n"));
    assert!(requests[1].node.is_none());
    let versions = &requests[0].initial_resource_versions;
    assert_eq!(versions["a"], version(t(5), "A").to_string());
    // Another content of the same record: so the server sends it, and would say that it has gone.
    let b = Version::parse(&versions["b"]);
    assert_eq!(b.since(), Some(t(9)));
    assert_ne!(b, version(t(9), "B"));
    assert_eq!(requests[0].resource_names_subscribe, ["*"]);
}

#[test]
fn a_nack_names_what_was_refused() {
    let answered = Answered { type_url: TYPE.into(), nonce: "7".to_owned() };
    assert_eq!(answer(&answered, &[]).error_detail, None);
    let why = "x".repeat(2 * WORDS_MAX);
    let refused =
        [Refusal { name: Some("shop".into()), why: "no".to_owned() }, Refusal { name: None, why }];
    let nack = answer(&answered, &refused);
    let status = nack.error_detail.unwrap();
    assert!(status.message.starts_with("shop: no; xxx") && status.message.len() <= WORDS_MAX);
    assert_eq!((nack.response_nonce.as_str(), status.code), ("7", INVALID));
}

/// What a log of edits renders at each revision: name to (since, body).
#[derive(Clone, Debug)]
struct History(Vec<BTreeMap<u8, (u64, u8)>>);

fn history() -> impl Strategy<Value = History> {
    let edit = (0u8..4, prop::option::of(any::<u8>()));
    prop::collection::vec(prop::collection::vec(edit, 1..3), 2..16).prop_map(|edits| {
        let mut states = vec![BTreeMap::new()];
        for (at, edits) in edits.into_iter().enumerate() {
            let mut state = states.last().cloned().unwrap_or_default();
            for (name, body) in edits {
                match body {
                    Some(body) => drop(state.insert(name, (at as u64 + 1, body))),
                    None => drop(state.remove(&name)),
                }
            }
            states.push(state);
        }
        History(states)
    })
}

/// What a server at this revision that ignores versions would say: all of it, and every name that
/// is not there as removed. `parts` cuts it into chunks, of which some are lost.
fn speech(history: &History, at: usize, parts: &[bool]) -> Vec<DeltaDiscoveryResponse> {
    let at = at % history.0.len();
    let state = &history.0[at];
    let says = |name: u8| {
        let text = name.to_string();
        let revision = token(1, at as u64).to_string();
        match state.get(&name) {
            Some((since, body)) => {
                let body = body.to_string();
                response(&revision, vec![resource(&text, token(1, *since), &body)], &[])
            }
            None => response(&revision, vec![], &[&text]),
        }
    };
    let kept = (0u8..4).zip(parts.iter().cycle()).filter(|(_, kept)| **kept);
    kept.map(|(name, _)| says(name)).collect()
}

proptest! {
    /// Servers come and go at any revision, forward and back, ignore versions, lose and repeat
    /// responses and send them late: nothing ever goes back, nothing removed comes back old, and an
    /// honest server at the newest revision then makes it whole.
    #[test]
    fn nothing_ever_goes_back(
        history in history(),
        script in prop::collection::vec(
            (any::<usize>(), prop::collection::vec(any::<bool>(), 4)), 1..30
        ),
        late in prop::collection::vec((any::<usize>(), any::<usize>()), 0..10),
    ) {
        let mut responses: Vec<_> =
            script.iter().flat_map(|(at, parts)| speech(&history, *at, parts)).collect();
        for (from, to) in late {
            if !responses.is_empty() {
                let (from, to) = (from % responses.len(), to % responses.len());
                responses.insert(to, responses[from].clone());
            }
        }
        let mut held = Held::nothing(TYPE.into());
        let mut newest: BTreeMap<Name, Token> = BTreeMap::new();
        for response in responses {
            let server: Token = response.system_version_info.parse().unwrap();
            let removed = response.removed_resources.clone();
            let judged = judge_all(&held, response);
            let next = judged.held.unwrap_or_else(|| held.clone());
            prop_assert!(next.through >= held.through);
            for (name, item) in &next.resources {
                let since = item.version.since().unwrap();
                let least = newest.entry(name.clone()).or_insert(Token::NEVER);
                prop_assert!(since >= *least, "{name} went back from {least} to {since}");
                *least = since;
            }
            for name in removed.iter().map(|name| Name::new(name)) {
                if held.resources.contains_key(&name) && !next.resources.contains_key(&name) {
                    // What is put after this is of a later record.
                    newest.insert(name, server.next());
                }
            }
            held = next;
        }
        for response in speech(&history, history.0.len() - 1, &[true]) {
            held = judge_all(&held, response).held.unwrap_or(held);
        }
        let line = |(name, (since, body)): (&u8, &(u64, u8))| format!("{name} 1.{since} {body}");
        let expected: BTreeSet<String> = history.0.last().unwrap().iter().map(line).collect();
        prop_assert_eq!(shown(&held), expected);
    }

    /// What is in a slot is what was held.
    #[test]
    fn what_is_held_survives_the_disk(history in history(), through in any::<(u32, u64)>()) {
        let mut held = Held::nothing(TYPE.into());
        for response in speech(&history, history.0.len() - 1, &[true]) {
            held = judge_all(&held, response).held.unwrap_or(held);
        }
        held.through = token(through.0, through.1);
        let again = Held::decode(&TYPE.into(), held.encode().into()).unwrap();
        prop_assert_eq!(shown(&again), shown(&held));
        prop_assert_eq!(again.through, held.through);
        prop_assert!(Held::decode(&TypeUrl::ZONE.into(), held.encode().into()).is_none());
    }
}
