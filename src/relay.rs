//! `crossfade relay`: follows a controller for the proxies beside it, keeps what they need on disk,
//! and serves it again on loopback, with the controller or without.

mod loads;
mod names;
mod report;
mod tables;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use plan::Token;
use tokio::sync::{Notify, oneshot, watch};
use xds::follow::{self, Again, Applied, Follower, Held, Item, Link, Sink};
use xds::render::{self, Door};
use xds::server::{Clock, Limits, Server, standard_routes};
use xds::session::{Close, Rules};
use xds::{Client, Name, Publisher, Registry, Standings, TypeUrl, View, Viewer};

use self::tables::Served;
use crate::cli::{Relay, page};
use crate::following;
use crate::serve::{log, stopped};
use crate::verbs::{Context, Exit, Failure};

/// Its directory beside the controller's.
const DIRECTORY: &str = "relay";

/// How long the controller's ack waits for those of the proxies: theirs are reported besides, and
/// one that does not answer must not hold up the next change.
const ACKS_MAX: Duration = Duration::from_millis(250);

/// Serves until told to stop.
pub(crate) async fn run(args: Relay, _: &Context) -> Result<Exit, Failure> {
    let _log = log::begin(&args.following.log, args.following.log_format)?;
    let dial = following::dial(&args.controller, &args.following)?;
    let name = match &args.following.node {
        Some(name) => name.clone(),
        None => format!("{}-relay", following::node_name(None)?),
    };
    let says = says(&args);
    let said: Vec<(&str, &str)> = says.iter().map(|(key, value)| (*key, value.as_str())).collect();
    let node = follow::node(&name, env!("CARGO_PKG_VERSION"), &said);
    let asked = following::directory(args.following.data.as_ref(), DIRECTORY)?;
    let place = following::take(asked)?;
    let settings = follow::Settings {
        node: node.clone(),
        types: render::TYPES.map(TypeUrl::from).to_vec(),
        dial,
        directory: place.directory.clone(),
    };
    let (follower, damaged) = Follower::open(settings)
        .map_err(|error| Failure::Local { what: "nothing can be kept", source: error.into() })?;
    for damage in damaged {
        tracing::error!(path = %damage.path.display(), why = damage.why, "a slot is damaged");
    }
    let clock = Clock::start();
    let server = bind(&args, &says, clock)?;
    let mut served = Served::nothing();
    follower.held().for_each(|held| served.take(held));
    server.publisher().publish(served.tables());
    for address in server.addresses() {
        page::print(&format!("xds {address}\n"))?;
    }
    page::print(&format!("data {}\n", place.directory.display()))?;
    tell_start(&follower);
    let (registry, noticed) = (server.registry(), Notify::new());
    let links = watch::channel::<Option<Link>>(None).0;
    let (_asker, again) = watch::channel(Again::default());
    let sink = Relaying { served, publisher: server.publisher(), registry: registry.clone() };
    let say = report::say(registry.standings(), clock);
    let is_ours = |cluster: &str| render::side_of(cluster).is_some();
    let (load_service, loads) = xds::lrs::service(is_ours, clock);
    let loads = loads::hand_on(node.clone(), loads, links.subscribe());
    let reports = following::report(node, links.subscribe(), &noticed, say);
    let changes = report::notice(registry.standings(), &noticed);
    let pump = follower.run(sink, links, again, following::random());
    let (stop, ended) = oneshot::channel::<()>();
    let (mut routes, health) = standard_routes().await.map_err(|error| Failure::Local {
        what: "the server does not start",
        source: error.into(),
    })?;
    xds::server::serving(&health, &load_service).await;
    routes.add_service(load_service);
    let serving = tokio::spawn(server.serve(routes.routes(), async { drop(ended.await) }));
    tokio::select! {
        stopped = stopped() => stopped?,
        () = pump => {}
        () = reports => {}
        () = changes => {}
        () = loads => {}
    }
    // The server may have ended already; then there is nobody to tell.
    let _ = stop.send(());
    if let Err(error) = serving.await {
        tracing::error!(%error, "the server ended early");
    }
    drop(place);
    Ok(Exit::Done)
}

/// What the relay's node says under `crossfade.`: whose door it comes by.
fn says(args: &Relay) -> Vec<(&'static str, String)> {
    let mut says = vec![("role", "relay".to_owned()), ("serves", args.role.clone())];
    says.extend(args.bind.map(|bind| ("bind", bind.to_string())));
    says.extend(args.capture.map(|capture| ("capture", capture.to_string())));
    says.extend(args.gateway.iter().map(|name| ("gateway", name.as_str().to_owned())));
    says
}

fn bind(args: &Relay, says: &[(&'static str, String)], clock: Clock) -> Result<Server, Failure> {
    if !args.listen.ip().is_loopback() {
        return Err(Failure::Usage(format!(
            "--listen {}: a relay serves the proxies of its own host, on loopback alone; listen on \
             127.0.0.1, or let the others follow a controller with certificates",
            args.listen
        )));
    }
    let served = says.iter().filter(|(key, _)| *key != "role").map(|(key, value)| {
        let key = if *key == "serves" { "role" } else { key };
        (key.to_owned(), value.clone())
    });
    let client = Client {
        id: "".into(),
        cluster: "".into(),
        says: served.collect(),
        agent: "".into(),
        version: None,
        identity: None,
    };
    let door = render::door(&client).map_err(|close| Failure::Usage(close.message))?;
    let rules = Rules {
        viewer: Arc::new(OneDoor { door }),
        types: render::TYPES.map(TypeUrl::from).into(),
        limits: xds::session::Limits::default(),
    };
    let settings = xds::server::Settings {
        listen: vec![args.listen],
        tls: None,
        doorman: None,
        rules: Arc::new(rules),
        limits: Limits::default(),
        clock,
    };
    Server::bind(settings).map_err(|error| Failure::Local {
        what: "the xDS server does not start",
        source: error.into(),
    })
}

fn tell_start(follower: &Follower) {
    let through = follower.held().map(|held| held.newest()).max().unwrap_or(Token::NEVER);
    let resources: usize = follower.held().map(|held| held.resources.len()).sum();
    if through == Token::NEVER {
        tracing::warn!("nothing is held yet; proxies wait until a controller is reached");
    } else {
        tracing::warn!(%through, resources, stale = true, "serving what was held");
    }
}

/// Everybody sees what the relay follows, which is what one door shows.
#[derive(Debug)]
struct OneDoor {
    door: Door,
}

impl Viewer for OneDoor {
    fn view(&self, client: &Client) -> Result<View, Close> {
        let door = render::door(client)?;
        if door == self.door {
            return Ok(View::all(tables::SCOPE));
        }
        Err(Close::invalid(format!(
            "this relay serves {}; give the client the same crossfade.role, bind, gateway and \
             capture as the relay, or run another relay",
            self.door.role.as_str()
        )))
    }
}

/// Puts in force what is followed.
struct Relaying {
    served: Served,
    publisher: Publisher,
    registry: Registry,
}

impl Sink for Relaying {
    fn check(
        &mut self,
        _: &TypeUrl,
        name: &str,
        _: &Bytes,
        _: Option<&Item>,
    ) -> Result<(), String> {
        if name.is_empty() { Err("it has no name".to_owned()) } else { Ok(()) }
    }

    async fn apply(&mut self, held: &Arc<Held>, _: &[Name]) -> Applied {
        self.served.take(held);
        let tables = self.served.tables();
        let generation = tables.generation();
        self.publisher.publish(tables);
        let mut standings = self.registry.standings();
        let arrived = |now: &Arc<Standings>| {
            let settled = |sink: &Arc<xds::SinkState>| {
                sink.owes().is_empty() || sink.progress.refused.is_some()
            };
            now.generation >= generation && now.sinks.iter().all(settled)
        };
        // Whoever is later is told of in reports.
        let _ = tokio::time::timeout(ACKS_MAX, standings.wait_for(arrived)).await;
        Applied::default()
    }

    async fn applied(&mut self, _: &TypeUrl) -> Applied {
        Applied::default()
    }
}
