//! `crossfade answer`: the DNS answer to a name and the reason for it, from files or a controller.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};

use controller::api::names::Answer as Shown;
use dns::respond::{Client, answer};
use dns::wire::Name;
use dns::{Catalog, zone};

use super::{Context, Exit, Failure, files};
use crate::cli::{Answer, Output, page};
use crate::client::encode;

/// Who asks where nobody is named.
const SOMEONE: Client = Client::Address(IpAddr::V4(Ipv4Addr::LOCALHOST));

/// Answers.
pub(crate) async fn run(args: &Answer, context: &Context) -> Result<Exit, Failure> {
    let shown = match args.zones.as_slice() {
        [] => online(args, context).await?,
        _ => offline(args)?,
    };
    match context.output {
        Output::Json => page::json(&shown)?,
        Output::Text => page::print(&text(&shown))?,
    }
    Ok(Exit::Done)
}

fn offline(args: &Answer) -> Result<Shown, Failure> {
    let wrong = |error: dns::wire::NameError| Failure::Usage(format!("`{}`: {error}", args.name));
    let name = Name::from_text(&args.name).map_err(wrong)?;
    let rtype = zone::rtype(&args.rtype).ok_or_else(|| {
        Failure::Usage(format!(
            "`{}` is no record type; write A, AAAA, MX or TYPE65280",
            args.rtype
        ))
    })?;
    let catalog = Catalog::of_zones(files::zones(&args.zones)?);
    let client = args.client.map_or(SOMEONE, |client| client.0);
    let host =
        args.name.parse().map_err(|e: plan::name::NameError| Failure::Usage(e.to_string()))?;
    Ok(Shown::new(host, &args.rtype, client, answer(&catalog, &name, rtype, client)))
}

async fn online(args: &Answer, context: &Context) -> Result<Shown, Failure> {
    let mut path = format!("/v1/answer?name={}&type={}", encode(&args.name), encode(&args.rtype));
    if let Some(client) = &args.client {
        let _ = write!(path, "&client={}", encode(&client.to_string()));
    }
    Ok(context.client.get(&path).await?)
}

/// As `dig` prints it, with the reason after.
fn text(shown: &Shown) -> String {
    let mut text = format!(";; {}, flags: {}\n", shown.rcode, shown.flags.join(" "));
    let sections = [
        ("answer", &shown.answer),
        ("authority", &shown.authority),
        ("additional", &shown.additional),
    ];
    for (name, records) in sections {
        if !records.is_empty() {
            let _ = writeln!(text, ";; {name}\n{}", records.join("\n"));
        }
    }
    if let Some(scope) = shown.scope {
        let _ = writeln!(text, ";; client subnet scope /{scope}");
    }
    for reason in &shown.reason {
        let _ = writeln!(text, "; {reason}");
    }
    text
}
