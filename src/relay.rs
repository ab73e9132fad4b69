//! `crossfade relay`: follows a controller for the proxies beside it, keeps what they need on disk,
//! and serves it again on this host alone, with the controller or without.
//!
//! Where it has joined, it is a gateway to the controller, and its proxies show its certificate.

mod joined;
mod loads;
mod names;
pub(crate) mod part;
mod report;
mod revoked;
mod socket;
mod tables;

use std::os::unix::net::UnixListener;
use std::path::Path;

use xds::join::Kind;
use xds::render::SDS;

use self::joined::Joined;
use self::part::{Part, Settings};
use crate::cli::follow::{At, RelayVerb};
use crate::cli::{Relay, page};
use crate::following;
use crate::identity::Standing;
use crate::serve::{log, stopped};
use crate::verbs::{Context, Exit, Failure};

/// Its directory beside the controller's.
const DIRECTORY: &str = "relay";

/// Where proxies of a relay that has joined find it, in its directory.
const SOCKET: &str = "xds.sock";

/// Where others find it, unless asked otherwise.
const LISTEN: At = At::Loopback(std::net::SocketAddr::new(
    std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST),
    7411,
));

/// Joins, or serves until told to stop.
pub(crate) async fn run(args: Relay, _: &Context) -> Result<Exit, Failure> {
    match &args.verb {
        Some(RelayVerb::Join(join)) => joined::join(join).await,
        None => serve(&args).await,
    }
}

async fn serve(args: &Relay) -> Result<Exit, Failure> {
    let _log = log::begin(&args.following.log, args.following.log_format)?;
    let asked = following::directory(args.following.data.as_ref(), DIRECTORY)?;
    let place = following::take(asked)?;
    let directory = &place.directory;
    let relay = match Joined::read(directory)? {
        Some(joined) => as_gateway(args, directory, &joined)?,
        None => as_nobody(args, directory)?,
    };
    let Relaying { part, standing, at } = relay;
    for address in part.addresses() {
        page::print(&format!("xds {address}\n"))?;
    }
    if let At::Socket(path) = &at {
        page::print(&format!("xds unix:{}\n", path.display()))?;
    }
    page::print(&format!("data {}\n", directory.display()))?;
    part.tell_start();
    tokio::select! {
        ran = Box::pin(part.run(stopped())) => ran?,
        () = standing.keep() => {}
    }
    drop(place);
    Ok(Exit::Done)
}

/// What runs.
struct Relaying {
    part: Part,
    standing: Standing,
    at: At,
}

/// A relay that has not joined: to the controller whoever its files say, or nobody.
fn as_nobody(args: &Relay, directory: &Path) -> Result<Relaying, Failure> {
    if args.controller.is_empty() {
        return Err(Failure::Usage(
            "say whom to follow: --controller HOST:PORT; or join as a gateway: at the controller \
             run `crossfade token create NAME --gateway GATEWAY`, and paste here what it prints"
                .to_owned(),
        ));
    }
    let name = match &args.following.node {
        Some(name) => name.clone(),
        None => format!("{}-relay", following::node_name(None)?),
    };
    let dial = following::dial(&args.controller, &args.following)?;
    let gateway = args.gateway.as_ref().map(|name| name.as_str().to_owned());
    let role = args.role.as_deref().unwrap_or("sidecar");
    let says = says(args, role, gateway);
    let at = args.listen.clone().unwrap_or(LISTEN);
    let (listen, local) = open(&at)?;
    let directory = directory.to_owned();
    let settings = Settings { name, says, dial, directory, listen, local, identity: None };
    Ok(Relaying { part: Part::open(settings)?, standing: Standing::Nobody, at })
}

/// A relay that has joined.
fn as_gateway(args: &Relay, directory: &Path, joined: &Joined) -> Result<Relaying, Failure> {
    let usage = |text: String| Err(Failure::Usage(text));
    let given = &args.controller;
    let controllers = if given.is_empty() { joined.controllers.clone() } else { given.clone() };
    let (standing, newest) = Standing::of(directory, &controllers, |kind| !kind.is_agent())?;
    let (kind, called) = (newest.borrow().kind.clone(), newest.borrow().name.clone());
    let is = Kind::gateway(&kind).map(|name| name.as_str().to_owned());
    let role = args.role.as_deref().unwrap_or("catch");
    if !matches!(role, "catch" | "gateway") {
        return usage(format!("this relay has joined as {kind}: --role is catch or gateway"));
    }
    if let Some(given) = args.gateway.as_ref().filter(|given| Some(given.as_str()) != is.as_deref())
    {
        return usage(format!("this relay has joined as {kind}, not {given}; leave --gateway out"));
    }
    if args.following.tls_ca.is_some() {
        return usage(format!("this relay has joined as {kind}; leave --tls-ca and its like out"));
    }
    let name = args.following.node.clone().unwrap_or_else(|| called.to_string());
    if !called.covers(&name) {
        return usage(format!("this relay has joined as `{called}`; --node is that or below it"));
    }
    let at = args.listen.clone().unwrap_or_else(|| At::Socket(directory.join(SOCKET)));
    if let At::Loopback(address) = at {
        return usage(format!(
            "--listen {address}: whoever reaches a relay that has joined gets its key, so it \
             serves on a file with rights alone: --listen unix:FILE, or leave it out"
        ));
    }
    let mut says = says(args, role, is);
    // Its proxies find there what they show.
    says.push(("identity", SDS.to_owned()));
    let (listen, local) = open(&at)?;
    let (dial, directory) = (standing.dial(&controllers)?, directory.to_owned());
    let identity = Some(newest);
    let settings = Settings { name, says, dial, directory, listen, local, identity };
    Ok(Relaying { part: Part::open(settings)?, standing, at })
}

/// What the relay's node says under `crossfade.`: whose door it comes by.
fn says(args: &Relay, role: &str, gateway: Option<String>) -> Vec<(&'static str, String)> {
    let mut says = vec![("role", "relay".to_owned()), ("serves", role.to_owned())];
    says.extend(args.bind.map(|bind| ("bind", bind.to_string())));
    says.extend(args.capture.map(|capture| ("capture", capture.to_string())));
    says.extend(gateway.map(|name| ("gateway", name)));
    says
}

fn open(at: &At) -> Result<(Vec<std::net::SocketAddr>, Option<UnixListener>), Failure> {
    match at {
        At::Loopback(address) => Ok((vec![*address], None)),
        At::Socket(path) => {
            let failed = |source| Failure::File { what: "listen on", path: path.clone(), source };
            Ok((Vec::new(), Some(socket::listen(path).map_err(failed)?)))
        }
    }
}
