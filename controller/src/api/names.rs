//! The DNS answer that a client gets, and why.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use axum::Json as Reply;
use axum::extract::State;
use dns::Name;
use ipnet::IpNet;
use plan::HostName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Api;
use super::call::Asked;
use super::problem::{Code, Failure};

/// A client by its address, or by the network that its resolver tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Client(dns::respond::Client);

impl TryFrom<String> for Client {
    type Error = dns::respond::ClientError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse().map(Self)
    }
}

impl From<Client> for IpNet {
    fn from(client: Client) -> Self {
        match client.0 {
            dns::respond::Client::Address(address) => address.into(),
            dns::respond::Client::Network(net) => net,
        }
    }
}

impl JsonSchema for Client {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Client".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let octet = "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])";
        let v4 = format!("^({octet}\\.){{3}}{octet}(/(3[0-2]|[12]?[0-9]))?$");
        schemars::json_schema!({
            "anyOf": [
                { "type": "string", "pattern": v4 },
                { "type": "string", "format": "ipv6" },
            ],
            "description": "an address, or a network as address/length",
        })
    }
}

/// What is asked.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Question {
    name: HostName,
    #[serde(rename = "type")]
    rtype: Option<String>,
    client: Option<Client>,
}

/// The DNS answer that a client gets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    /// The name asked for.
    pub name: HostName,
    /// The type asked for.
    #[serde(rename = "type")]
    pub rtype: String,
    /// Who asks: an address, or a network that a resolver tells.
    pub client: String,
    /// The response code: `NOERROR`, `NXDOMAIN`.
    pub rcode: String,
    /// The flags that are set.
    pub flags: Vec<String>,
    /// The answer section, a record a line.
    pub answer: Vec<String>,
    /// The authority section.
    pub authority: Vec<String>,
    /// The additional section.
    pub additional: Vec<String>,
    /// For how long a prefix the answer holds, where a network was told.
    pub scope: Option<u8>,
    /// Which zone, which rule, which side, in the order they were found.
    pub reason: Vec<String>,
}

/// `GET /v1/answer`
pub(crate) async fn answer(
    State(api): State<Arc<Api>>,
    Asked(question): Asked<Question>,
) -> Result<Reply<Answer>, Failure> {
    let malformed = |text: String| Failure::new(Code::BadRequest, format!("in the query: {text}"));
    let name = Name::from_text(question.name.as_str())
        .map_err(|error| malformed(format!("name: {error}")))?;
    let told = question.rtype.unwrap_or_else(|| "A".to_owned());
    let Some(rtype) = dns::zone::rtype(&told) else {
        return Err(malformed(format!("type: `{told}` is no record type; write `A` or `TYPE65`")));
    };
    let client = question
        .client
        .map_or(dns::respond::Client::Address(IpAddr::V4(Ipv4Addr::LOCALHOST)), |client| client.0);
    let catalog = Arc::clone(&api.handle.shared.catalog.borrow());
    let given = dns::respond::answer(&catalog, &name, rtype, client);
    Ok(Reply(Answer::new(question.name, &told, client, given)))
}

impl Answer {
    /// What was asked, and what the DNS crate says to it.
    #[must_use]
    pub fn new(
        name: HostName,
        rtype: &str,
        client: dns::respond::Client,
        given: dns::respond::Answered,
    ) -> Self {
        Self {
            name,
            rtype: rtype.to_ascii_uppercase(),
            client: match client {
                dns::respond::Client::Address(address) => address.to_string(),
                dns::respond::Client::Network(net) => net.to_string(),
            },
            rcode: given.rcode.name().to_owned(),
            flags: given.flags.into_iter().map(str::to_owned).collect(),
            answer: given.answer,
            authority: given.authority,
            additional: given.additional,
            scope: given.scope,
            reason: given.reason,
        }
    }
}
