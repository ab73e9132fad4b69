//! Which side a client gets in each plane, and why.

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Planes;
use crate::endpoint::Endpoint;
use crate::name::{HostName, ServiceId};
use crate::spec::Plane;
use crate::split::Side;
use crate::token::Token;

/// Who serves a service, and whom.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Explain {
    /// The service.
    pub service: ServiceId,
    /// The snapshot that this was read from.
    pub token: Token,
    /// The share of clients on target.
    pub split_bp: u16,
    /// Its host names.
    pub hosts: Vec<HostName>,
    /// The TTL of each of `hosts` now, in seconds.
    pub ttls: Vec<u32>,
    /// Its logical address.
    pub address: Option<IpAddr>,
    /// What makes two requests come from one client.
    pub affinity: String,
    /// What seasons the buckets.
    pub salt: String,
    /// Prefix lengths of DNS client keys.
    pub client_key: KeyLengths,
    /// The VMs.
    pub legacy: SideView,
    /// The cluster.
    pub target: SideView,
    /// Which plane splits whom, in order; the last row is everyone else.
    pub rows: Vec<RowView>,
    /// The client that was asked for.
    pub client: Option<ClientView>,
}

/// Prefix lengths of DNS client keys, in bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KeyLengths {
    /// For IPv4.
    pub v4: u8,
    /// For IPv6.
    pub v6: u8,
}

/// One side of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SideView {
    /// The endpoints that count; empty where none is known.
    pub endpoints: Vec<Endpoint>,
    /// Whether any client gets this side.
    pub serving: bool,
    /// Every endpoint fails; `endpoints` is the last good set.
    pub degraded: bool,
}

/// Clients that one plane splits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RowView {
    /// Where they are; empty for everyone else.
    pub networks: Vec<String>,
    /// Who splits them.
    pub plane: Plane,
}

/// What one client gets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClientView {
    /// The client as asked for.
    pub client: String,
    /// The plane that splits it.
    pub plane: Plane,
    /// The row that says so, an index of [`Explain::rows`].
    pub row: u32,
    /// Why, in words.
    pub why: String,
    /// The resolver group that it belongs to.
    pub resolver: Option<String>,
    /// The side it gets now; `null` where every answer, request or connection is drawn anew.
    pub side: Option<Side>,
    /// The addresses that it sees in DNS.
    pub sees: Vec<IpAddr>,
    /// Why it sees those, in words.
    pub seen_why: String,
    /// Where it stands in each plane.
    pub planes: Planes<Place>,
}

/// Where a client stands in a plane.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Place {
    /// Whether this plane splits this client.
    pub splits: bool,
    /// What its bucket is made of: a network in dns, an address elsewhere.
    pub key: Option<String>,
    /// Its bucket, 0 to 9 999; `null` where every answer, request or connection is drawn anew, or
    /// where the key is not the address.
    pub bucket: Option<u16>,
    /// The side that the bucket gets at the present split.
    pub side: Option<Side>,
    /// It is on target at every split above this one.
    pub moves_above_bp: Option<u16>,
    /// What else there is to know, in words.
    pub note: String,
}
