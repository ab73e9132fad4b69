//! Tokens and machines.

use std::borrow::Cow;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use axum::Json as Answer;
use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, header};
use ipnet::IpNet;
use plan::{ServiceId, ServiceName, Timestamp};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use xds::join::{self, Kind, MachineName, MachineNameError};

use super::Api;
use super::body::Json;
use super::call::{Asked, Caller, Named, Nothing};
use super::names::Client;
use super::problem::{Code, Failure};
use super::request::Reason;
use crate::identity::view::{AgentView, TokenView};
use crate::identity::{Authority, NewToken, SERVICES_MAX, TOKEN_LIFE, TOKEN_LIFE_MAX};

/// A machine's name, as callers write it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub(crate) struct Machine(MachineName);

impl FromStr for Machine {
    type Err = MachineNameError;

    fn from_str(text: &str) -> Result<Self, MachineNameError> {
        text.parse().map(Self)
    }
}

impl JsonSchema for Machine {
    fn schema_name() -> Cow<'static, str> {
        "MachineName".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "maxLength": MachineName::MAX,
            "pattern": "^[a-z0-9](\\.?(-+\\.)*-*[a-z0-9])*$",
        })
    }
}

/// A whole number, however it is written: JSON Schema counts `5.0` among them (draft 2020-12,
/// section 6.1.1 of its validation).
fn whole<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u32>, D::Error> {
    let Some(number) = Option::<serde_json::Number>::deserialize(from)? else { return Ok(None) };
    let small = number.as_u64().and_then(|number| u32::try_from(number).ok());
    let written = number.as_f64().filter(|number| number.fract() == 0.0);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "saturates, and a number out of bounds is refused below"
    )]
    let saturated = written.filter(|number| *number >= 0.0).map(|number| number as u32);
    let seconds = small.or(saturated);
    seconds.map(Some).ok_or_else(|| D::Error::custom("write a whole number of seconds"))
}

/// The body that asks for a token.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct TokenAsked {
    /// What the machine will be called.
    name: Machine,
    /// The plans' gateway that the machine will be of; without it it is the agent of a VM. A
    /// gateway cannot be limited to services.
    #[serde(default)]
    gateway: Option<ServiceName>,
    /// How long the token is good, in seconds; 900 unless asked otherwise.
    #[serde(default, deserialize_with = "whole")]
    #[schemars(range(min = 1, max = TOKEN_LIFE_MAX.as_secs()))]
    for_seconds: Option<u32>,
    /// What the machine may see; without it everything that is for it.
    #[serde(default)]
    #[schemars(length(max = SERVICES_MAX))]
    services: Vec<ServiceId>,
    /// The network from which the token can be used: `10.0.0.0/24`; without it from anywhere.
    #[serde(default)]
    from: Option<Client>,
    /// Whether the machine may take the name of one that is there.
    #[serde(default)]
    replace: bool,
    /// Where the machine finds the controllers, `HOST:PORT` each; without it where this one
    /// listens.
    #[serde(default)]
    #[schemars(length(max = join::CONTROLLERS_MAX))]
    controllers: Vec<String>,
    /// Why, for the audit.
    #[serde(default)]
    reason: Option<Reason>,
}

/// A token that was made. It is shown this once.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TokenMade {
    /// What the machine will be called.
    pub name: String,
    /// What `crossfade agent join`, or a gateway's `crossfade relay join`, reads: a secret until it
    /// was used.
    pub token: String,
    /// From when on it is worth nothing.
    pub expires: Timestamp,
    /// The controllers' CA, by which the machine knows them.
    pub pin: String,
    /// Where the machine will look for the controllers.
    pub controllers: Vec<String>,
    /// What else is worth knowing.
    pub notes: Vec<String>,
}

/// The tokens that wait to be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Tokens {
    /// Sorted by name.
    pub tokens: Vec<TokenView>,
}

/// A token that can be used no more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TokenDeleted {
    /// For which machine it was.
    pub deleted: String,
}

/// The machines that have joined.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Agents {
    /// Sorted by name.
    pub agents: Vec<AgentView>,
}

/// A machine that is let in no more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Revoked {
    /// Which.
    pub revoked: String,
    /// The plans' gateway that it was of; without it: the agent of a VM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<ServiceName>,
    /// Whether anything changed.
    pub changed: bool,
}

/// `POST /v1/tokens`
pub(crate) async fn create_token(
    State(api): State<Arc<Api>>,
    Asked(Nothing {}): Asked<Nothing>,
    caller: Caller,
    Json(asked): Json<TokenAsked>,
) -> Result<([(HeaderName, HeaderValue); 1], Answer<TokenMade>), Failure> {
    let authority = authority(&api)?;
    let TokenAsked { name: Machine(name), gateway, services, from, replace, controllers, .. } =
        asked;
    for service in &services {
        api.handle.state().known(&service.plan)?.known(&service.service)?;
    }
    let controllers = if controllers.is_empty() { here(&api)? } else { controllers };
    let life = asked.for_seconds.map_or(TOKEN_LIFE, |s| Duration::from_secs(s.into()));
    let from = from.map(IpNet::from);
    let kind = gateway.map_or(Kind::Agent, Kind::Gateway);
    let unknown = kind.gateway().filter(|name| !is_planned(&api, name)).cloned();
    let is_limited = !services.is_empty();
    let called = name.clone();
    let new = NewToken { name: called, kind, life, services, from, replace, controllers };
    let created = authority.create_token(new, caller.actor(), &words(asked.reason)).await?;
    let mut notes = Vec::new();
    if let Some(gateway) = unknown {
        notes.push(format!("no plan has a gateway `{gateway}`"));
    }
    if is_limited {
        notes.push(format!(
            "`{name}` gets the rules and names of these services; an Envoy on it gets nothing \
             (`agent join --envoy` needs a token without --services)"
        ));
    }
    if created.instead {
        notes.push(format!("the token that waited for `{name}` is worth nothing now"));
    }
    let controllers = created.ticket.controllers.clone();
    if controllers.iter().all(|text| is_loopback(text)) {
        notes.push(
            "every controller in it is on loopback, which only this host reaches; give others with \
             --controller HOST:PORT"
                .to_owned(),
        );
    }
    let made = TokenMade {
        name: name.to_string(),
        token: created.ticket.to_string(),
        expires: created.expires,
        pin: created.ticket.pin.to_string(),
        controllers,
        notes,
    };
    Ok(([(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))], Answer(made)))
}

/// Whether a plan has this gateway.
fn is_planned(api: &Api, gateway: &ServiceName) -> bool {
    let state = api.handle.state();
    state.plans().any(|(_, plan)| plan.spec.gateways.iter().any(|it| it.name == *gateway))
}

/// `GET /v1/tokens`
pub(crate) async fn tokens(
    State(api): State<Arc<Api>>,
    Asked(Nothing {}): Asked<Nothing>,
) -> Result<Answer<Tokens>, Failure> {
    let tokens = authority(&api)?.tokens().await?;
    Ok(Answer(Tokens { tokens }))
}

/// Why a call without a body is made.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Why {
    reason: Option<Reason>,
}

/// `DELETE /v1/tokens/{name}`
pub(crate) async fn delete_token(
    State(api): State<Arc<Api>>,
    Named(Machine(name)): Named<Machine>,
    Asked(why): Asked<Why>,
    caller: Caller,
) -> Result<Answer<TokenDeleted>, Failure> {
    authority(&api)?.delete_token(&name, caller.actor(), &words(why.reason)).await?;
    Ok(Answer(TokenDeleted { deleted: name.to_string() }))
}

/// `GET /v1/agents`
pub(crate) async fn agents(
    State(api): State<Arc<Api>>,
    Asked(Nothing {}): Asked<Nothing>,
) -> Result<Answer<Agents>, Failure> {
    Ok(Answer(Agents { agents: authority(&api)?.agents() }))
}

/// `DELETE /v1/agents/{name}`
pub(crate) async fn revoke(
    State(api): State<Arc<Api>>,
    Named(Machine(name)): Named<Machine>,
    Asked(why): Asked<Why>,
    caller: Caller,
) -> Result<Answer<Revoked>, Failure> {
    let (kind, changed) =
        authority(&api)?.revoke(&name, caller.actor(), &words(why.reason)).await?;
    let gateway = kind.gateway().cloned();
    Ok(Answer(Revoked { revoked: name.to_string(), gateway, changed }))
}

fn authority(api: &Api) -> Result<&Authority, Failure> {
    let missing = || {
        Failure::new(Code::NotFound, "this controller gives no machine an identity")
            .because("no-identities", None)
    };
    api.settings.identity.as_ref().ok_or_else(missing)
}

fn words(reason: Option<Reason>) -> String {
    reason.map_or_else(String::new, String::from)
}

/// Where machines find this controller.
fn here(api: &Api) -> Result<Vec<String>, Failure> {
    let told = &api.settings.controllers;
    let bound = if told.is_empty() { api.handle.info().bound.xds } else { told.clone() };
    let is_known = |text: &String| {
        text.parse::<std::net::SocketAddr>().map_or(true, |address| !address.ip().is_unspecified())
    };
    let known: Vec<String> = bound.into_iter().filter(is_known).collect();
    if known.is_empty() {
        let words = "say where the machine finds the controllers: it listens on all addresses, or \
                     on none; give --controller HOST:PORT (`controllers`)";
        return Err(Failure::new(Code::BadBody, words));
    }
    Ok(known.into_iter().take(join::CONTROLLERS_MAX).collect())
}

fn is_loopback(controller: &str) -> bool {
    match controller.parse::<std::net::SocketAddr>() {
        Ok(address) => address.ip().to_canonical().is_loopback(),
        Err(_) => controller.starts_with("localhost:"),
    }
}
