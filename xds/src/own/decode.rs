//! Messages to leaves: everything is checked, nothing is guessed.

mod plan_part;

use std::net::IpAddr;

use ipnet::IpNet;
use plan::snapshot::Zone;
use plan::spec::Ttl;
use plan::{Digest, PlanName, Token, ZoneName};
use prost::Message as _;
use proto::crossfade::v1 as wire;

use self::plan_part::of_plan;
use crate::own::{HostTable, ZoneTable, ZoneText};

/// The rules that this program knows: it refuses resources that require more.
pub const REQUIRES: u32 = 1;

/// The longest TTL, in seconds (RFC 2181 section 8).
const TTL_MAX: u32 = i32::MAX as u32;

/// Why a resource is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reject {
    /// The bytes are no message.
    #[error("it cannot be decoded: {0}")]
    Undecodable(#[from] prost::DecodeError),
    /// A newer controller says things that we would have to obey and do not know.
    #[error("it requires rules of version {asked}, and this program knows {REQUIRES}: upgrade it")]
    Requires {
        /// What is required.
        asked: u32,
    },
    /// Something that must be there is not.
    #[error("{0} is missing")]
    Missing(String),
    /// Something is there that cannot be.
    #[error("{place}: {why}")]
    Wrong {
        /// Where.
        place: String,
        /// What is wrong.
        why: String,
    },
}

impl Reject {
    /// Something is there that cannot be.
    pub fn wrong(place: impl Into<String>, why: impl ToString) -> Self {
        Self::Wrong { place: place.into(), why: why.to_string() }
    }

    /// The same, further out.
    fn within(self, outer: &str) -> Self {
        match self {
            Self::Missing(what) => Self::Missing(format!("{outer}: {what}")),
            Self::Wrong { place, why } => Self::Wrong { place: format!("{outer}: {place}"), why },
            other @ (Self::Undecodable(_) | Self::Requires { .. }) => other,
        }
    }
}

pub(super) fn zone_table(body: &[u8]) -> Result<ZoneTable, Reject> {
    let table = wire::ZoneTable::decode(body)?;
    requires(table.requires)?;
    let part = table.plan.ok_or_else(|| Reject::Missing("plan".to_owned()))?;
    let (plan, services) = of_plan(part)?;
    let mut zones = Vec::with_capacity(table.zones.len());
    for message in table.zones {
        let name = message.name.clone();
        let zone = plan_zone(message, &plan).map_err(|e| e.within(&format!("zone {name}")))?;
        zones.push(zone.into());
    }
    rising(&zones, "zones", |zone: &std::sync::Arc<Zone>| zone.name.clone())?;
    Ok(ZoneTable { plan, services, zones })
}

fn plan_zone(message: wire::PlanZone, plan: &PlanName) -> Result<Zone, Reject> {
    let text = if message.text.is_empty() { None } else { Some(digest(&message.text)?) };
    let ttl = Ttl { steady: ttl(message.ttl_steady)?, shifting: ttl(message.ttl_shifting)? };
    let name = parsed(&message.name, "name")?;
    Ok(Zone { name, plan: plan.clone(), since: token(message.since)?, text, ttl })
}

pub(super) fn zone(body: &[u8]) -> Result<ZoneText, Reject> {
    let message = wire::Zone::decode(body)?;
    requires(message.requires)?;
    let name: ZoneName = parsed(&message.name, "name")?;
    let digest = digest(&message.digest)?;
    if Digest::of(message.text.as_bytes()) != digest {
        return Err(Reject::wrong(format!("zone {name}"), "the digest is not that of the text"));
    }
    Ok(ZoneText { name, digest, text: message.text.into() })
}

pub(super) fn host_table(body: &[u8]) -> Result<HostTable, Reject> {
    let table = wire::HostTable::decode(body)?;
    requires(table.requires)?;
    let mut services = Vec::new();
    for part in table.plans {
        services.extend(of_plan(part)?.1);
    }
    rising(&services, "services", |leaf: &std::sync::Arc<plan::snapshot::Service>| {
        leaf.id.clone()
    })?;
    Ok(HostTable { services })
}

pub(super) const fn requires(asked: u32) -> Result<(), Reject> {
    if asked > REQUIRES { Err(Reject::Requires { asked }) } else { Ok(()) }
}

/// That each is greater than the one before.
fn rising<T, K: Ord>(list: &[T], what: &str, key: impl Fn(&T) -> K) -> Result<(), Reject> {
    if list.iter().zip(list.iter().skip(1)).all(|(a, b)| key(a) < key(b)) {
        Ok(())
    } else {
        Err(Reject::wrong(what, "not sorted, or one is there twice"))
    }
}

fn parsed<T: std::str::FromStr<Err: ToString>>(text: &str, place: &str) -> Result<T, Reject> {
    text.parse().map_err(|error: T::Err| Reject::wrong(place, error))
}

fn token(message: Option<wire::Token>) -> Result<Token, Reject> {
    let token = message.ok_or_else(|| Reject::Missing("since".to_owned()))?;
    Ok(Token { incarnation: token.incarnation, revision: token.revision })
}

fn ttl(seconds: u32) -> Result<u32, Reject> {
    if (1..=TTL_MAX).contains(&seconds) {
        Ok(seconds)
    } else {
        Err(Reject::wrong("ttl", format!("{seconds} is not from 1 to {TTL_MAX}")))
    }
}

fn digest(bytes: &[u8]) -> Result<Digest, Reject> {
    let bytes: [u8; 32] =
        bytes.try_into().map_err(|_| Reject::wrong("digest", "it is not 32 bytes"))?;
    Ok(Digest::from(bytes))
}

fn address(bytes: &[u8]) -> Result<IpAddr, Reject> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Ok(v4.into());
    }
    let v6 = <[u8; 16]>::try_from(bytes)
        .map_err(|_| Reject::wrong("address", "it is neither 4 nor 16 bytes"))?;
    Ok(v6.into())
}

fn network(message: &wire::Network) -> Result<IpNet, Reject> {
    let length = u8::try_from(message.length).unwrap_or(u8::MAX);
    IpNet::new(address(&message.address)?, length).map_err(|e| Reject::wrong("network", e))
}
