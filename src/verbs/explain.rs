//! `crossfade explain`: which side a client gets in each plane, and why.

use std::fmt::Write as _;

use plan::view::Explain as Explained;
use plan::view::explain::{ClientView, KernelView, Place, SideView};

use super::{Context, Exit, Failure, subject};
use crate::cli::paint::Paint;
use crate::cli::{Explain, Output, page, tree};
use crate::client::encode;

/// Asks and prints.
pub(crate) async fn run(args: &Explain, context: &Context) -> Result<Exit, Failure> {
    let id = subject::service(&args.service, context).await?;
    let mut path = format!("/v1/plans/{}/explain?service={}", id.plan, id.service);
    if let Some(client) = &args.client {
        let _ = write!(path, "&client={}", encode(&client.to_string()));
    }
    let explained: Explained = context.client.get(&path).await?;
    match context.output {
        Output::Json => page::json(&explained)?,
        Output::Text => page::print(&text(&explained, context.paint))?,
    }
    Ok(Exit::Done)
}

fn text(explained: &Explained, paint: Paint) -> String {
    let mut text = String::new();
    let split = tree::percent(explained.split_bp);
    let _ = writeln!(text, "{}  split {split}", paint.bold(&explained.service.to_string()));
    for (host, ttl) in explained.hosts.iter().zip(&explained.ttls) {
        let _ = writeln!(text, "  {host}  TTL {ttl} s");
    }
    for (name, side) in [("legacy", &explained.legacy), ("target", &explained.target)] {
        let _ = writeln!(text, "  {name}  {}", side_text(side, paint));
    }
    for gateway in &explained.gateways {
        let _ = writeln!(
            text,
            "  gateway {}  finds the client's address: {}",
            gateway.name, gateway.client_address
        );
        if !gateway.mtls.is_empty() {
            let at = gateway.mtls.join(", ");
            let _ = writeln!(text, "    proxies of VMs reach it with mTLS at {at}");
        }
    }
    if let Some(drain) = &explained.drain {
        let _ = writeln!(text, "  drain   {drain} after exactly 0% or 100%");
    }
    match &explained.client {
        Some(client) => push_client(&mut text, client, paint),
        None => push_rows(&mut text, explained),
    }
    text
}

fn side_text(side: &SideView, paint: Paint) -> String {
    let endpoints: Vec<String> = side.endpoints.iter().map(ToString::to_string).collect();
    let mut text = endpoints.join(", ");
    if !side.serving {
        text = paint.dim(&format!("{text} (idle)"));
    }
    if side.degraded {
        let _ = write!(text, " {}", paint.bad("(every endpoint fails; last good set kept)"));
    }
    text
}

fn push_rows(text: &mut String, explained: &Explained) {
    for row in &explained.rows {
        let whom = match row.networks.as_slice() {
            [] => "everyone else".to_owned(),
            networks => networks.join(", "),
        };
        let _ = writeln!(text, "  {whom} is split by {}", row.plane);
    }
    let _ = writeln!(text, "  add --client IP[/LEN] to see one client");
}

fn push_client(text: &mut String, client: &ClientView, paint: Paint) {
    let side = client.side.map_or_else(|| "drawn each time".to_owned(), |side| side.to_string());
    let _ = writeln!(text, "  client {}: {}", client.client, paint.bold(&side));
    let _ = writeln!(text, "    {}", client.why);
    if let Some(resolver) = &client.resolver {
        let _ = writeln!(text, "    counts as the resolver {resolver}");
    }
    let sees: Vec<String> = client.sees.iter().map(ToString::to_string).collect();
    let _ = writeln!(text, "    sees {} ({})", sees.join(", "), client.seen_why);
    if let Some(kernel) = &client.kernel {
        let _ = writeln!(text, "    VM    {}", kernel_text(kernel));
    }
    for (plane, place) in client.planes.iter() {
        let _ = writeln!(text, "    {plane:<5} {}", place_text(place));
    }
}

/// What the kernel of a VM does with this client's connections.
fn kernel_text(kernel: &KernelView) -> String {
    let mut words = Vec::new();
    match (&kernel.egress, kernel.side, kernel.endpoint) {
        (Some(network), ..) => words.push(format!("left alone: in egress {network}")),
        (None, Some(side), Some(endpoint)) => words.push(format!("to {side} {endpoint}")),
        (None, Some(side), None) => words.push(format!("to {side}")),
        (None, None, _) => {}
    }
    if let Some(endpoint) = kernel.straggler {
        words.push(format!("a straggler at the VM's own address is sent on to {endpoint}"));
    }
    if !kernel.note.is_empty() {
        words.push(kernel.note.clone());
    }
    words.join("; ")
}

fn place_text(place: &Place) -> String {
    let mut words = Vec::new();
    if let Some(key) = &place.key {
        words.push(format!("key {key}"));
    } else if let Some(by) = &place.keyed_by {
        words.push(format!("key: {by}"));
    }
    if let Some(bucket) = place.bucket {
        words.push(format!("bucket {bucket}"));
    }
    if let Some(above) = place.moves_above_bp {
        words.push(format!("on target at splits above {}", tree::percent(above)));
    }
    if !place.note.is_empty() {
        words.push(place.note.clone());
    }
    words.join(", ")
}
