//! Names that are known to be well formed.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// What is wrong with a name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no {kind}: {rule}")]
pub struct NameError {
    text: String,
    kind: &'static str,
    rule: &'static str,
}

const LABEL_RULE: &str =
    "1 to 63 of a-z, 0-9 and `-`, beginning and ending with a letter or a digit";
const HOST_RULE: &str = "labels of 1 to 63 letters, digits, `-` or `_`, 253 characters at most";
const GATE_RULE: &str = LABEL_RULE;

/// [`is_label`] as a regular expression.
const LABEL_PATTERN: &str = "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$";
/// [`is_host`] as a regular expression, but for its bound on the whole; upper case and a final dot
/// are taken too.
const HOST_PATTERN: &str = r"^[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\.?$";

/// RFC 1123 section 2.1 and RFC 1035 section 2.3.4, lower case only.
fn is_label(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'))
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// A DNS name in text, lower case, no final dot (RFC 1035 section 2.3.4).
fn is_host(text: &str) -> bool {
    let fine = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_'))
    };
    text.len() <= 253 && text.split('.').all(fine)
}

/// One name type: text behind an `Arc`, checked when made.
macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $rule:expr, $pattern:expr, $parse:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// The text of the name.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                let parse: fn(&str) -> Option<String> = $parse;
                match parse(text) {
                    Some(name) => Ok(Self(name.into())),
                    None => Err(NameError { text: text.to_owned(), kind: $kind, rule: $rule }),
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;

            fn try_from(text: String) -> Result<Self, NameError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0.as_ref().to_owned()
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({
                    "type": "string",
                    "minLength": 1,
                    "pattern": $pattern,
                    "description": $rule
                })
            }
        }
    };
}

fn label(text: &str) -> Option<String> {
    is_label(text).then(|| text.to_owned())
}

fn host(text: &str) -> Option<String> {
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    is_host(&name).then_some(name)
}

name! {
    /// The name of a plan: one label.
    PlanName, "plan name", LABEL_RULE, LABEL_PATTERN, label
}
name! {
    /// The name of a service inside its plan: one label.
    ServiceName, "service name", LABEL_RULE, LABEL_PATTERN, label
}
name! {
    /// The name of a gate inside its plan: one label.
    GateName, "gate name", GATE_RULE, LABEL_PATTERN, label
}
name! {
    /// A host name: absolute, lower case, kept without its final dot.
    HostName, "host name", HOST_RULE, HOST_PATTERN, host
}
name! {
    /// The origin of a zone: absolute, lower case, kept without its final dot.
    ZoneName, "zone name", HOST_RULE, HOST_PATTERN, host
}

impl HostName {
    /// Whether this name is the zone's origin or below it.
    pub fn is_in(&self, zone: &ZoneName) -> bool {
        let (host, zone) = (self.as_str(), zone.as_str());
        match host.strip_suffix(zone) {
            Some(rest) => rest.is_empty() || rest.ends_with('.'),
            None => false,
        }
    }
}

/// A service by its full name: `plan/service`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServiceId {
    /// The plan it moves in.
    pub plan: PlanName,
    /// Its name there.
    pub service: ServiceName,
}

impl ServiceId {
    /// The least that an id of a service of this plan can be.
    pub(crate) fn least(plan: &PlanName) -> Self {
        // No label is less than this one.
        Self { plan: plan.clone(), service: ServiceName("0".into()) }
    }
}

impl fmt::Display for ServiceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.plan, self.service)
    }
}

impl FromStr for ServiceId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let Some((plan, service)) = text.split_once('/') else {
            return Err(NameError {
                text: text.to_owned(),
                kind: "service",
                rule: "write it plan/service",
            });
        };
        Ok(Self { plan: plan.parse()?, service: service.parse()? })
    }
}

impl TryFrom<String> for ServiceId {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<ServiceId> for String {
    fn from(id: ServiceId) -> Self {
        id.to_string()
    }
}

impl schemars::JsonSchema for ServiceId {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ServiceId".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "pattern": "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?/[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$",
            "description": "plan/service"
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for (text, fine) in [
            ("shop", true),
            ("a-1", true),
            ("", false),
            ("-a", false),
            ("A", false),
            ("a.b", false),
        ] {
            assert_eq!(text.parse::<PlanName>().is_ok(), fine, "{text}");
        }
        for (text, host) in [
            ("Orders.Corp.Example.", Some("orders.corp.example")),
            ("_sip.corp.example", Some("_sip.corp.example")),
            ("*.corp.example", None),
            ("a..b", None),
            (".", None),
            ("", None),
        ] {
            assert_eq!(
                text.parse::<HostName>().ok().as_ref().map(HostName::as_str),
                host,
                "{text}"
            );
        }
    }

    #[test]
    fn a_host_is_in_its_zone_by_whole_labels() {
        let zone: ZoneName = "corp.example.".parse().unwrap();
        for (host, inside) in [
            ("corp.example", true),
            ("a.b.corp.example", true),
            ("acorp.example", false),
            ("example", false),
        ] {
            assert_eq!(host.parse::<HostName>().unwrap().is_in(&zone), inside, "{host}");
        }
    }
}
