//! Serves resources of one's own, here clusters, and tells who has them.
//!
//! ```text
//! cargo run -p xds --example serve -- 127.0.0.1:18000
//! ```
//!
//! Every line typed is the name of a cluster and how many milliseconds connecting to it may take:
//! `orders 250`. It is added, or changed for every client that is connected. `orders -` removes it.
//! Any Delta or state-of-the-world client can follow, by the aggregated or the cluster service.
#![expect(clippy::print_stdout, reason = "a program whose answers are lines")]

use std::collections::BTreeMap;
use std::error::Error;
use std::net::SocketAddr;

use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::google::protobuf::Duration;
use prost::Message as _;
use xds::server::{Clock, Limits, Server, Settings, standard_routes};
use xds::{Resources, Standings, TypeUrl};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let listen = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:18000".to_owned());
    let (edits, edited) = tokio::sync::mpsc::channel(1);
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            if edits.blocking_send(line).is_err() {
                break;
            }
        }
    });
    run(listen.parse()?, edited, |line| println!("{line}")).await
}

/// Serves until there are no more edits.
pub(crate) async fn run(
    listen: SocketAddr,
    mut edits: tokio::sync::mpsc::Receiver<String>,
    mut print: impl FnMut(String),
) -> Result<(), Box<dyn Error>> {
    let clusters = TypeUrl::new(TypeUrl::CLUSTER);
    let server = Server::bind(Settings {
        listen: vec![listen],
        tls: None,
        doorman: None,
        rules: Resources::rules([clusters.clone()]),
        limits: Limits::default(),
        clock: Clock::start(),
    })?;
    for address in server.addresses() {
        print(format!("xds {address}"));
    }
    let resources = Resources::new(server.publisher());
    // An empty set is an answer too; a type that was never given is waited for.
    resources.replace(&clusters, "0", BTreeMap::new());
    let mut standings = server.registry().standings();
    let (routes, _health) = standard_routes().await?;
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = tokio::spawn(server.serve(routes.routes(), async {
        let _ = stopped.await;
    }));
    let mut count = 0_u64;
    loop {
        tokio::select! {
            edit = edits.recv() => {
                let Some(edit) = edit else { break };
                count += 1;
                match apply(&resources, &clusters, &edit, count) {
                    Some(mark) => print(format!("served as {mark}")),
                    None => print(format!("`{edit}` is not NAME MILLISECONDS or NAME -")),
                }
            }
            Ok(()) = standings.changed() => {
                let now = standings.borrow_and_update().clone();
                told(&now).for_each(&mut print);
            }
        }
    }
    drop(stop);
    serving.await?;
    Ok(())
}

fn apply(
    resources: &Resources,
    clusters: &TypeUrl,
    edit: &str,
    count: u64,
) -> Option<impl std::fmt::Display> {
    let (name, millis) = edit.split_once(' ')?;
    let version = count.to_string();
    if millis == "-" {
        return Some(resources.change(clusters, &version, BTreeMap::new(), &[name]));
    }
    let millis: i32 = millis.parse().ok()?;
    let cluster = Cluster {
        name: name.to_owned(),
        connect_timeout: Some(Duration {
            seconds: i64::from(millis / 1_000),
            nanos: millis % 1_000 * 1_000_000,
        }),
        ..Cluster::default()
    };
    let put = BTreeMap::from([(name.to_owned(), (version.clone(), cluster.encode_to_vec()))]);
    Some(resources.change(clusters, &version, put, &[]))
}

fn told(standings: &Standings) -> impl Iterator<Item = String> {
    standings.sinks.iter().map(|sink| {
        let refused = sink.progress.refused.as_ref();
        let refused = refused.map_or_else(String::new, |it| format!(", refused: {}", it.detail));
        format!("{} has {}{refused}", sink.client.id, sink.progress.acked)
    })
}
