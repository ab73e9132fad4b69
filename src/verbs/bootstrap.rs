//! `crossfade bootstrap`: what a client must know before it can ask, ready to be used.

use std::net::SocketAddr;
use std::path::Path;

use controller::handle::Info;
use xds::Client;
use xds::bootstrap::{self, Controller, Options, Tls};
use xds::render::Role;

use super::{Context, Exit, Failure};
use crate::cli::bootstrap::{Bootstrap, Kind};
use crate::cli::page;

/// Prints the bootstrap and nothing else.
pub(crate) async fn run(args: Bootstrap, context: &Context) -> Result<Exit, Failure> {
    let kind = args.kind;
    let options = options(args, context).await?;
    page::json(&match kind {
        Kind::Envoy => bootstrap::envoy(&options),
        Kind::Grpc => bootstrap::grpc(&options),
    })?;
    Ok(Exit::Done)
}

async fn options(args: Bootstrap, context: &Context) -> Result<Options, Failure> {
    let role = role(&args)?;
    let tls = match (&args.tls_ca, &args.tls_cert, &args.tls_key) {
        (Some(authority), Some(certificate), Some(key)) => Some(Tls {
            authority: text(authority)?,
            certificate: text(certificate)?,
            key: text(key)?,
        }),
        _ => None,
    };
    let node = match args.node {
        Some(node) => named(node)?,
        None => format!("{}-{}", hostname()?, role.as_str()),
    };
    let controllers = match args.controllers {
        none if none.is_empty() => ask(context).await?,
        named => named,
    };
    let Bootstrap { gateway, bind, capture, identity, admin_port, .. } = args;
    let (identified, admin) = (identity, admin_port);
    Ok(Options { node, role, gateway, bind, capture, identified, controllers, tls, admin })
}

/// The role; flags that mean nothing to it are mistakes.
fn role(args: &Bootstrap) -> Result<Role, Failure> {
    let role = match (args.kind, args.role.map(Role::from)) {
        (Kind::Envoy, role) => role.unwrap_or(Role::Sidecar),
        (Kind::Grpc, role) => role.unwrap_or(Role::Grpc),
    };
    let usage = |text: String| Err(Failure::Usage(text));
    match (args.kind, role) {
        (Kind::Envoy, Role::Grpc) => {
            return usage(
                "an Envoy is a gateway, sidecar or catch; for a library: crossfade \
                          bootstrap grpc"
                    .to_owned(),
            );
        }
        (Kind::Grpc, Role::Gateway | Role::Sidecar | Role::Catch) => {
            return usage(format!("a gRPC library is no {}; leave --role out", role.as_str()));
        }
        (Kind::Envoy, _) | (Kind::Grpc, Role::Grpc) => {}
    }
    let binds = matches!(role, Role::Gateway | Role::Catch);
    for (flag, given, fits) in [
        ("--bind", args.bind.is_some(), binds),
        ("--gateway", args.gateway.is_some(), binds),
        ("--capture", args.capture.is_some(), role == Role::Sidecar),
        ("--identity", args.identity, matches!(role, Role::Sidecar | Role::Catch)),
    ] {
        if given && !fits {
            return usage(format!("{flag} means nothing to a {}", role.as_str()));
        }
    }
    Ok(role)
}

/// Where the controller that this command speaks to serves xDS.
async fn ask(context: &Context) -> Result<Vec<Controller>, Failure> {
    let info: Info = context.client.get("/v1/info").await?;
    let addresses: Vec<SocketAddr> =
        info.bound.xds.iter().filter_map(|address| address.parse().ok()).collect();
    let anywhere = addresses.iter().find(|address| address.ip().is_unspecified());
    if let Some(anywhere) = anywhere {
        return Err(Failure::Usage(format!(
            "the controller listens on every address ({anywhere}); name the one that the client \
             reaches it by: --controller HOST:{}",
            anywhere.port()
        )));
    }
    if addresses.is_empty() {
        let fix = "the controller serves no xDS; name one that does: --controller HOST:PORT";
        return Err(Failure::Usage(fix.to_owned()));
    }
    Ok(addresses.into_iter().map(Controller::from).collect())
}

/// A name that a controller takes.
fn named(node: String) -> Result<String, Failure> {
    let fits = !node.is_empty() && node.len() <= Client::ID_MAX;
    if fits && !node.chars().any(char::is_control) {
        return Ok(node);
    }
    Err(Failure::Usage(format!(
        "--node is what the client is called: 1 to {} bytes without control characters",
        Client::ID_MAX
    )))
}

fn hostname() -> Result<String, Failure> {
    let name = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    name.filter(|name| !name.is_empty())
        .ok_or_else(|| Failure::Usage("this host has no name; give --node NAME".to_owned()))
}

fn text(path: &Path) -> Result<String, Failure> {
    let text = path.to_str().map(str::to_owned);
    text.ok_or_else(|| Failure::Usage(format!("the path {} is no UTF-8", path.display())))
}
