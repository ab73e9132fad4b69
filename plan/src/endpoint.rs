//! Where a side is reached.

use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// One address that can serve a service, with a port where it differs from the service's own.
///
/// Written `10.0.1.11`, `10.0.1.11:9090`, `2001:db8::1` or `[2001:db8::1]:9090`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Endpoint {
    /// The address.
    pub address: IpAddr,
    /// The port, where it is not the one of the service's `ports`.
    pub port: Option<NonZeroU16>,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.address, self.port) {
            (address, None) => write!(f, "{address}"),
            (IpAddr::V4(v4), Some(port)) => write!(f, "{v4}:{port}"),
            (IpAddr::V6(v6), Some(port)) => write!(f, "[{v6}]:{port}"),
        }
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let error = || EndpointError(text.to_owned());
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self { address, port: None });
        }
        let (address, port) = text.rsplit_once(':').ok_or_else(error)?;
        let port = Some(port.parse().map_err(|_| error())?);
        let address = match address.strip_prefix('[').and_then(|a| a.strip_suffix(']')) {
            Some(v6) => IpAddr::V6(v6.parse().map_err(|_| error())?),
            None => IpAddr::V4(address.parse().map_err(|_| error())?),
        };
        Ok(Self { address, port })
    }
}

impl TryFrom<String> for Endpoint {
    type Error = EndpointError;

    fn try_from(text: String) -> Result<Self, EndpointError> {
        text.parse()
    }
}

impl From<Endpoint> for String {
    fn from(endpoint: Endpoint) -> Self {
        endpoint.to_string()
    }
}

impl schemars::JsonSchema for Endpoint {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Endpoint".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "description": "an address, or address:port, or [v6 address]:port"
        })
    }
}

/// The text is no endpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no endpoint; write an address, optionally with a port: `10.0.1.11:8080`")]
pub struct EndpointError(String);

/// One or more endpoints, sorted, none twice. Never empty.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Vec<Endpoint>", into = "Vec<Endpoint>")]
pub struct Endpoints(Arc<[Endpoint]>);

impl Endpoints {
    /// The endpoints of one side, sorted and without repetition; `None` where there is none.
    pub fn new(mut endpoints: Vec<Endpoint>) -> Option<Self> {
        endpoints.sort_unstable();
        endpoints.dedup();
        if endpoints.is_empty() { None } else { Some(Self(endpoints.into())) }
    }

    /// The endpoints in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Endpoint> {
        self.0.iter()
    }

    /// The endpoints in order.
    pub fn as_slice(&self) -> &[Endpoint] {
        &self.0
    }
}

impl<'a> IntoIterator for &'a Endpoints {
    type Item = &'a Endpoint;
    type IntoIter = std::slice::Iter<'a, Endpoint>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl TryFrom<Vec<Endpoint>> for Endpoints {
    type Error = NoEndpoint;

    fn try_from(endpoints: Vec<Endpoint>) -> Result<Self, NoEndpoint> {
        Self::new(endpoints).ok_or(NoEndpoint)
    }
}

impl From<Endpoints> for Vec<Endpoint> {
    fn from(endpoints: Endpoints) -> Self {
        endpoints.0.to_vec()
    }
}

/// A side without an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a side needs at least one endpoint")]
pub struct NoEndpoint;

/// The endpoints of a side that count now.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Pool {
    /// The endpoints that serve.
    pub serving: Endpoints,
    /// Every endpoint of the side fails: `serving` is the last good set, kept and told.
    pub degraded: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_print_as_they_parse() {
        for text in ["10.0.1.11", "10.0.1.11:9090", "2001:db8::1", "[2001:db8::1]:9090"] {
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), text);
        }
        for text in ["", "a", "10.0.1.11:0", "10.0.1.11:x", "10.0.1", "[10.0.1.11]:80", "::1]:80"] {
            assert_eq!(text.parse::<Endpoint>(), Err(EndpointError(text.into())));
        }
    }

    #[test]
    fn a_set_is_sorted_and_never_empty() {
        let [a, b] = ["10.0.0.1", "10.0.0.2"].map(|text| text.parse().unwrap());
        assert_eq!(Endpoints::new(vec![b, a, b]).unwrap().as_slice(), [a, b]);
        assert_eq!(Endpoints::new(vec![]), None);
    }
}
