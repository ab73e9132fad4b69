//! `crossfade relay`: follows a controller for the proxies beside it, keeps what they need on disk,
//! and serves it again on loopback, with the controller or without.

mod loads;
mod names;
pub(crate) mod part;
mod report;
mod tables;

use self::part::{Part, Settings};
use crate::cli::{Relay, page};
use crate::following;
use crate::serve::{log, stopped};
use crate::verbs::{Context, Exit, Failure};

/// Its directory beside the controller's.
const DIRECTORY: &str = "relay";

/// Serves until told to stop.
pub(crate) async fn run(args: Relay, _: &Context) -> Result<Exit, Failure> {
    let _log = log::begin(&args.following.log, args.following.log_format)?;
    let dial = following::dial(&args.controller, &args.following)?;
    let name = match &args.following.node {
        Some(name) => name.clone(),
        None => format!("{}-relay", following::node_name(None)?),
    };
    let asked = following::directory(args.following.data.as_ref(), DIRECTORY)?;
    let place = following::take(asked)?;
    if !args.listen.ip().is_loopback() {
        return Err(Failure::Usage(format!(
            "--listen {}: a relay serves the proxies of its own host, on loopback alone; listen on \
             127.0.0.1, or let the others follow a controller with certificates",
            args.listen
        )));
    }
    let part = Part::open(Settings {
        name,
        says: says(&args),
        dial,
        directory: place.directory.clone(),
        listen: vec![args.listen],
        local: None,
    })?;
    for address in part.addresses() {
        page::print(&format!("xds {address}\n"))?;
    }
    page::print(&format!("data {}\n", place.directory.display()))?;
    part.tell_start();
    Box::pin(part.run(stopped())).await?;
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
