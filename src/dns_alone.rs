//! `crossfade dns`: an authoritative server over fixed zone files; no controller, no store.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::thread::available_parallelism;

use dns::Catalog;
use dns::server::Server;

use crate::cli::{Dns, page};
use crate::serve::stopped;
use crate::verbs::{Context, Exit, Failure, files};

/// Serves until told to stop.
pub(crate) async fn run(args: Dns, _: &Context) -> Result<Exit, Failure> {
    let zones = files::zones(&args.zones)?;
    let lines: Vec<String> = zones
        .iter()
        .map(|zone| {
            format!("zone {} serial {} with {} names\n", zone.origin(), zone.serial(), zone.names())
        })
        .collect();
    let catalog = Arc::new(Catalog::of_zones(zones));
    let server =
        Server::bind(&[args.listen], threads(args.dns_threads), catalog).map_err(|error| {
            Failure::Local { what: "the DNS server does not start", source: error.into() }
        })?;
    page::print(&lines.concat())?;
    for address in server.addresses() {
        page::print(&format!("dns {address} (UDP and TCP)\n"))?;
    }
    stopped().await?;
    server.shutdown().await;
    Ok(Exit::Done)
}

/// What was asked for, else one a core.
pub(crate) fn threads(asked: Option<u16>) -> NonZeroUsize {
    let asked = asked.and_then(|n| NonZeroUsize::new(usize::from(n)));
    asked.or_else(|| available_parallelism().ok()).unwrap_or(NonZeroUsize::MIN)
}
