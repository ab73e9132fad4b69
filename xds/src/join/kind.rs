//! What a machine is certified as.

use std::fmt;

use plan::ServiceName;
use serde::{Deserialize, Serialize};

use super::MachineName;

/// What a machine is certified as. It stands in its token, in its certificate and in the
/// controller's list, and never changes with a renewal.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// The agent of a VM, with the proxy beside it.
    #[default]
    Agent,
    /// A relay beside a proxy at the target's edge: the plans' gateway of this name.
    Gateway(ServiceName),
}

impl Kind {
    /// Whether it is the agent of a VM.
    pub fn is_agent(&self) -> bool {
        *self == Self::Agent
    }

    /// The gateway that it is of; `None`: it is of a VM.
    pub const fn gateway(&self) -> Option<&ServiceName> {
        match self {
            Self::Agent => None,
            Self::Gateway(gateway) => Some(gateway),
        }
    }

    /// The path of the SPIFFE ID of a machine of this name and kind: `agent/NAME`, or
    /// `gateway/GATEWAY/NAME`.
    pub fn path(&self, name: &MachineName) -> String {
        match self {
            Self::Agent => format!("agent/{name}"),
            Self::Gateway(gateway) => format!("gateway/{gateway}/{name}"),
        }
    }

    /// The machine of which this is the path of the SPIFFE ID.
    pub fn of_path(path: &str) -> Option<(Self, MachineName)> {
        let (role, rest) = path.split_once('/')?;
        match role {
            "agent" => Some((Self::Agent, rest.parse().ok()?)),
            "gateway" => {
                let (gateway, name) = rest.split_once('/')?;
                Some((Self::Gateway(gateway.parse().ok()?), name.parse().ok()?))
            }
            _ => None,
        }
    }

    /// What makes a token for such a machine.
    pub fn token_command(&self, name: &str) -> String {
        match self {
            Self::Agent => format!("crossfade token create {name}"),
            Self::Gateway(gateway) => format!("crossfade token create {name} --gateway {gateway}"),
        }
    }

    /// What reads such a token.
    pub const fn join_command(&self) -> &'static str {
        match self {
            Self::Agent => "crossfade agent join",
            Self::Gateway(_) => "crossfade relay join",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Agent => f.write_str("agent"),
            Self::Gateway(gateway) => write!(f, "gateway {gateway}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edge() -> Kind {
        Kind::Gateway("edge".parse().unwrap())
    }

    #[test]
    fn a_path_says_what_a_machine_is() {
        let name: MachineName = "a-1.corp".parse().unwrap();
        for (kind, path) in [(Kind::Agent, "agent/a-1.corp"), (edge(), "gateway/edge/a-1.corp")] {
            assert_eq!(kind.path(&name), path);
            assert_eq!(Kind::of_path(path), Some((kind, name.clone())));
        }
        for path in [
            "",
            "agent",
            "agent/",
            "agent/..",
            "agent/gateway/edge/a",
            "agent/a/b",
            "gateway",
            "gateway/a",
            "gateway//a",
            "gateway/edge/",
            "gateway/../a",
            "gateway/edge/a/b",
            "gateway/Edge/a",
            "dns/a",
            "controller",
        ] {
            assert_eq!(Kind::of_path(path), None, "{path}");
        }
    }

    #[test]
    fn a_kind_is_kept_as_it_was() {
        for (kind, text) in [(Kind::Agent, r#""agent""#), (edge(), r#"{"gateway":"edge"}"#)] {
            assert_eq!(serde_json::to_string(&kind).unwrap(), text);
            assert_eq!(serde_json::from_str::<Kind>(text).unwrap(), kind);
        }
        assert!(serde_json::from_str::<Kind>(r#"{"gateway":"../x"}"#).is_err());
    }
}
