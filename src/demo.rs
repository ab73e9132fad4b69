//! `crossfade demo`: the whole product on loopback, without root.

mod crowd;
mod envoy;
mod story;
mod world;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use controller::identity::TrustDomain;
use hickory_proto::rr::Name;
use hyper::Method;
use serde_json::Value;

use self::crowd::{CLIENTS, Crowd};
use self::envoy::Proxy;
use self::story::Outcome;
use self::world::{PROXY, World};
use crate::cli::args::ServerUrl;
use crate::cli::{Demo, Output, page};
use crate::client::Client;
use crate::config::{Config, XdsProof};
use crate::serve::{self, Serving};
use crate::verbs::{Context, Exit, Failure};

/// Longer than the shifting TTL is short: each round sees what changed since the last.
const BETWEEN_ROUNDS: Duration = Duration::from_secs(1);

/// Runs the story; `--keep` leaves everything running.
pub(crate) async fn run(args: Demo, context: &Context) -> Result<Exit, Failure> {
    let failed = |source: std::io::Error| Failure::Local {
        what: "the demo's backends do not start",
        source: source.into(),
    };
    let proxy = if args.mesh { envoy::find(args.envoy) } else { None };
    if args.mesh && proxy.is_none() && context.output == Output::Text {
        page::print(envoy::HOW_TO_INSTALL)?;
    }
    let world = World::start().await.map_err(failed)?;
    let data = Scratch::new()?;
    let serving = serve::start(&config(&data.path)).await?;
    let client = Client::new(Some(ServerUrl::Unix { path: serving.socket.clone() }));
    let yaml = world.plan(proxy.is_some()).into_bytes();
    let apply = client.send::<Value>(Method::PUT, "/v1/plans/demo", &[], "application/yaml", yaml);
    apply.await?;
    if context.output == Output::Text {
        page::print(&introduction(&world, &serving, proxy.is_some()))?;
    }
    let started =
        proxy.as_deref().map(|envoy| Proxy::start(envoy, &data.path, serving.xds, world.port));
    let running = started.transpose()?;
    if let Some(running) = &running {
        running.listens().await?;
    }
    let name = Name::from_ascii("orders.shop.example.").map_err(|error| Failure::Local {
        what: "the demo's name is none",
        source: Box::new(error),
    })?;
    let mut crowd = Crowd::new(name, serving.dns, world.port, running.is_some());
    let outcome = story::tell(&client, &mut crowd, context).await?;
    match context.output {
        Output::Json => page::json(&outcome)?,
        Output::Text => page::print(&moral(&outcome, context))?,
    }
    if args.keep {
        page::print(&invitation(&serving))?;
        let visits = tokio::spawn(go_on(crowd));
        let stopped = serving.until_stopped().await;
        visits.abort();
        stopped?;
    } else {
        serving.stop().await?;
    }
    let well = outcome.moved_back_while_rising == 0 && outcome.failed == 0;
    if well { Ok(Exit::Done) } else { Err(Failure::Failed("the demo did not go well".to_owned())) }
}

/// The clients go on visiting, so that a shift by hand is measured too.
async fn go_on(mut crowd: Crowd) {
    loop {
        crowd.round().await;
        tokio::time::sleep(BETWEEN_ROUNDS).await;
    }
}

fn config(data: &std::path::Path) -> Config {
    let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    Config {
        data: data.to_owned(),
        api: any_port,
        api_hosts: Vec::new(),
        dns: any_port,
        dns_threads: 2,
        xds: any_port,
        xds_proof: XdsProof::Loopback,
        advertise: Vec::new(),
        trust_domain: TrustDomain::default(),
        metrics: None,
        log_format: None,
        log: "warn".to_owned(),
        plans: Vec::new(),
        given: None,
    }
}

fn introduction(world: &World, serving: &Serving, proxy: bool) -> String {
    let list = |side: &[std::net::IpAddr]| {
        side.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    };
    format!(
        "One plan moves orders.shop.example from three VMs to three pods, all on loopback.\n\
         legacy   {} port {port}\ntarget   {} port {port}\n\
         dns      {}\n{}clients  {CLIENTS}, each with an address and a cache of its own\n\n",
        list(&world.legacy),
        list(&world.target),
        serving.dns,
        if proxy {
            format!("envoy    {PROXY} port {}, before every second client\n", world.port)
        } else {
            String::new()
        },
        port = world.port,
    )
}

fn moral(outcome: &Outcome, context: &Context) -> String {
    let paint = context.paint;
    let word = |bad: usize| if bad == 0 { paint.good("none") } else { paint.bad(&bad.to_string()) };
    format!(
        "\nclients that moved back while the split rose: {}\nvisits that failed: {}\n\
         rollback: every receiver had it after {} ms; the last client was back after {} ms \
         (its cached answer had a TTL of 1 s)\n",
        word(outcome.moved_back_while_rising),
        word(outcome.failed),
        outcome.rollback_acked_millis,
        outcome.rollback_clients_millis,
    )
}

fn invitation(serving: &Serving) -> String {
    let port = serving.dns.port();
    format!(
        "\nEverything keeps running until Ctrl-C, and the clients go on visiting. In another \
         terminal:\n\n\
         \x20 export CROSSFADE_SERVER=unix:{}\n\
         \x20 crossfade status demo --watch\n\
         \x20 crossfade resume demo --if-revision $(crossfade status demo -o json | \
         sed -n 's/^  \"revision\": \\([0-9]*\\),*/\\1/p')\n\
         \x20 crossfade shift orders 25%\n\
         \x20 crossfade explain orders --client 192.0.2.7\n\
         \x20 dig @127.0.0.1 -p {port} orders.shop.example +subnet=192.0.2.0/24\n\
         \x20 curl http://{}/v1/plans/demo/status\n\
         \x20 crossfade rollback orders\n",
        serving.socket.display(),
        serving.api
    )
}

/// A directory that goes with the demo.
struct Scratch {
    path: PathBuf,
}

impl Scratch {
    fn new() -> Result<Self, Failure> {
        let path = std::env::temp_dir().join(format!("crossfade-demo-{}", std::process::id()));
        let failed = |source| Failure::File { what: "make", path: path.clone(), source };
        std::fs::create_dir(&path).map_err(failed)?;
        Ok(Self { path })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Best effort: it lies in the system's directory for such things.
        let _ = std::fs::remove_dir_all(&self.path);
    }
}
