//! What a stream costs that is in step.
#![expect(clippy::expect_used, reason = "a test that cannot set up has failed")]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use proto::envoy::config::core::v3::Node;
use proto::envoy::service::discovery::v3::DeltaDiscoveryRequest;
use xds::session::{Limits, Next, Opened, Request, Rules, Session, Variant};
use xds::{
    Change, Client, Close, Edit, Encoded, Name, Scope, Tables, TypeUrl, Urgency, Version, View,
    Viewer,
};

/// Of each of 50 services: two clusters, two endpoint sets, a route.
const SERVICES: usize = 50;
/// So many that the allocator's own rounding does not matter.
const STREAMS: usize = 1_000;
/// What one may cost, in bytes; `Name`s and resources are the tables'.
const BYTES_MAX: usize = 4_096;

#[derive(Debug)]
struct All;

impl Viewer for All {
    fn view(&self, _: &Client) -> Result<View, Close> {
        Ok(View::all("s"))
    }
}

fn names(short: &str) -> Vec<String> {
    let sides: &[&str] = if short == "routes" { &["all"] } else { &["legacy", "target"] };
    let name = |service, side| format!("plan/service-{service}/80/{side}");
    (0..SERVICES).flat_map(|service| sides.iter().map(move |side| name(service, side))).collect()
}

fn put(type_url: &str, name: &str) -> Edit {
    let type_url = TypeUrl::new(type_url);
    let token = plan::Token::START.next();
    let version = Version::of(token, name.as_bytes());
    let encoded = Encoded::new(&type_url, Name::new(name), version, name.as_bytes());
    let plans = Arc::new(["plan".parse().expect("a plan's name")]);
    let change = Change::Put { encoded: Arc::new(encoded), plans, needs: Arc::new([]) };
    Edit { scope: Scope::new("s"), type_url, change }
}

/// Resident memory of this process, in bytes (proc(5), `statm`: pages).
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok());
    pages.expect("a number of pages") * 4_096
}

fn request(type_url: &str, names: Vec<String>, nonce: &str) -> Request {
    Request::Delta(Box::new(DeltaDiscoveryRequest {
        node: Some(Node { id: "node".to_owned(), ..Node::default() }),
        type_url: type_url.to_owned(),
        resource_names_subscribe: names,
        response_nonce: nonce.to_owned(),
        ..DeltaDiscoveryRequest::default()
    }))
}

fn open(rules: &Arc<Rules>, tables: &Tables) -> Session {
    let opened = Opened { variant: Variant::Delta, only: None };
    let mut session = Session::new(opened, Arc::clone(rules));
    let wanted = [
        (TypeUrl::CLUSTER, names("clusters")),
        (TypeUrl::ENDPOINTS, names("endpoints")),
        (TypeUrl::LISTENER, Vec::new()),
        (TypeUrl::ROUTES, names("routes")),
    ];
    for (type_url, names) in wanted {
        session.request(request(type_url, names, ""), tables, Duration::ZERO).expect("open");
        while let Next::Send(response) = session.poll(tables, Duration::ZERO) {
            let ack = request(response.type_url.as_str(), Vec::new(), &response.nonce);
            session.request(ack, tables, Duration::ZERO).expect("an ack");
        }
    }
    assert!(session.progress().owes.is_empty());
    assert_eq!(session.progress().acked, tables.token());
    session
}

#[test]
fn a_stream_in_step_costs_little() {
    let clusters = names("clusters").into_iter().map(|name| put(TypeUrl::CLUSTER, &name));
    let endpoints = names("endpoints").into_iter().map(|name| put(TypeUrl::ENDPOINTS, &name));
    let routes = names("routes").into_iter().map(|name| put(TypeUrl::ROUTES, &name));
    let edits = clusters.chain(endpoints).chain(routes).chain([put(TypeUrl::LISTENER, "all")]);
    let tables =
        Tables::empty().next(plan::Token::START.next(), Urgency::Ordinary, edits.collect());
    let types = [TypeUrl::CLUSTER, TypeUrl::ENDPOINTS, TypeUrl::LISTENER, TypeUrl::ROUTES];
    let types: BTreeSet<TypeUrl> = types.iter().map(|url| TypeUrl::new(url)).collect();
    let rules = Arc::new(Rules { viewer: Arc::new(All), types, limits: Limits::default() });
    // The allocator's arenas grow before it counts.
    let mut streams: Vec<Session> = Vec::with_capacity(STREAMS + 100);
    streams.extend((0..100).map(|_| open(&rules, &tables)));
    let before = resident();
    streams.extend((0..STREAMS).map(|_| open(&rules, &tables)));
    let each = resident().saturating_sub(before) / STREAMS;
    println!("{each} bytes a stream, {} of them the session itself", size_of::<Session>());
    assert!(each > size_of::<Session>() / 2, "nothing was measured");
    assert!(each <= BYTES_MAX, "{each} bytes");
}
