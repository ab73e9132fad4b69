//! `crossfade token`: what machines join with.

use controller::api::machines::{TokenMade, Tokens};
use plan::{ServiceId, ServiceName};
use serde_json::{Value, json};
use xds::join::Kind;

use super::{Context, Exit, Failure};
use crate::cli::machines::{OneMachine, Token, TokenCreate, TokenVerb};
use crate::cli::{Output, page, tree};
use crate::client::encode;

/// Makes, lists or takes back.
pub(crate) async fn run(args: &Token, context: &Context) -> Result<Exit, Failure> {
    match &args.verb {
        TokenVerb::Create(args) => create(args, context).await,
        TokenVerb::List => list(context).await,
        TokenVerb::Delete(args) => delete(args, context).await,
    }
}

/// Standard output is the one line to paste; what is worth knowing goes beside it.
async fn create(args: &TokenCreate, context: &Context) -> Result<Exit, Failure> {
    let mut body = json!({
        "name": args.name,
        "forSeconds": args.life.0.as_secs(),
        "services": args.services,
        "replace": args.replace,
        "controllers": args.controllers,
    });
    if let Some(fields) = body.as_object_mut() {
        let from = args.from.map(|from| ("from", from.to_string()));
        let gateway = args.gateway.as_ref().map(|gateway| ("gateway", gateway.to_string()));
        let reason = args.reason.clone().map(|reason| ("reason", reason));
        let given = from.into_iter().chain(gateway).chain(reason);
        fields.extend(given.map(|(key, text)| (key.to_owned(), Value::String(text))));
    }
    let body = body.to_string().into_bytes();
    let post = hyper::Method::POST;
    let made: TokenMade =
        context.client.send(post, "/v1/tokens", &[], "application/json", body).await?;
    if context.output == Output::Json {
        page::json(&made)?;
        return Ok(Exit::Done);
    }
    let kind = args.gateway.clone().map_or(Kind::Agent, Kind::Gateway);
    let sudo = if kind.is_agent() { "sudo " } else { "" };
    page::print(&format!("printf %s {} | {sudo}{}\n", made.token, kind.join_command()))?;
    let (name, until) = (&made.name, tree::clock(made.expires));
    eprintln!("to be pasted on {name} until {until}; it works once, and is a secret until then");
    for note in &made.notes {
        eprintln!("{note}");
    }
    Ok(Exit::Done)
}

async fn list(context: &Context) -> Result<Exit, Failure> {
    let Tokens { tokens } = context.client.get("/v1/tokens").await?;
    if context.output == Output::Json {
        page::json(&tokens)?;
        return Ok(Exit::Done);
    }
    let mut table = page::Table::new(&["NAME", "KIND", "EXPIRES", "FROM", "SERVICES", "MADE BY"]);
    for token in &tokens {
        let expires = match token.expired {
            true => context.paint.bad("expired"),
            false => tree::clock(token.expires),
        };
        table.row(vec![
            token.name.clone(),
            kind(token.gateway.as_ref()),
            expires,
            token.from.clone().unwrap_or_else(|| "anywhere".to_owned()),
            match token.gateway {
                Some(_) => "-".to_owned(),
                None => services(&token.services),
            },
            token.by.clone(),
        ]);
    }
    page::print(&table.text())?;
    Ok(Exit::Done)
}

async fn delete(args: &OneMachine, context: &Context) -> Result<Exit, Failure> {
    let name = &args.name;
    let path = format!("/v1/tokens/{name}{}", why(args.reason.as_deref()));
    let answer: Value = context.client.delete(&path, &[]).await?;
    match context.output {
        Output::Json => page::json(&answer)?,
        Output::Text => page::print(&format!("the token for {name} is worth nothing now\n"))?,
    }
    Ok(Exit::Done)
}

/// What a machine is, for people.
pub(crate) fn kind(gateway: Option<&ServiceName>) -> String {
    gateway.cloned().map_or(Kind::Agent, Kind::Gateway).to_string()
}

/// What a machine may see, for people.
pub(crate) fn services(services: &[ServiceId]) -> String {
    match services {
        [] => "all".to_owned(),
        some => some.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
    }
}

/// The reason, where a call has no body to put it in.
pub(crate) fn why(reason: Option<&str>) -> String {
    reason.map_or_else(String::new, |reason| format!("?reason={}", encode(reason)))
}
