//! The trust domain, and the names in certificates.

use std::fmt;
use std::str::FromStr;

use xds::join::{Kind, MachineName, server_name};

/// What every SPIFFE ID of ours begins with, and the name below which controllers are found. A DNS
/// name in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustDomain(Box<str>);

/// The text is no trust domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a trust domain is a DNS name in lower case, at most 128 characters, like `corp.example`")]
pub struct TrustDomainError;

impl TrustDomain {
    /// The longest one: `controller.` before it is still a DNS name, and an ID below 2 048 bytes.
    const MAX: usize = 128;

    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The DNS name of every controller.
    pub fn controller_name(&self) -> String {
        server_name(&self.0)
    }

    /// The SPIFFE ID of every controller.
    pub fn controller_id(&self) -> String {
        format!("spiffe://{}/controller", self.0)
    }

    /// The SPIFFE ID of this machine.
    pub fn machine_id(&self, kind: &Kind, name: &MachineName) -> String {
        format!("spiffe://{}/{}", self.0, kind.path(name))
    }

    /// The machine of which this is the SPIFFE ID.
    pub fn machine(&self, id: &str) -> Option<(Kind, MachineName)> {
        let path = id.strip_prefix("spiffe://")?.strip_prefix(&*self.0)?;
        Kind::of_path(path.strip_prefix('/')?)
    }
}

impl Default for TrustDomain {
    fn default() -> Self {
        Self("crossfade.internal".into())
    }
}

impl FromStr for TrustDomain {
    type Err = TrustDomainError;

    fn from_str(text: &str) -> Result<Self, TrustDomainError> {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let is_label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|b| plain(b) || b == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        let fine = text.len() <= Self::MAX && text.split('.').all(is_label);
        if fine { Ok(Self(text.into())) } else { Err(TrustDomainError) }
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trust_domains_are_dns_names() {
        for (text, fine) in [
            ("crossfade.internal", true),
            ("a", true),
            ("", false),
            ("a..b", false),
            ("A", false),
            ("-a", false),
            ("a/b", false),
            ("a_b", false),
        ] {
            assert_eq!(text.parse::<TrustDomain>().is_ok(), fine, "{text}");
        }
        assert!(TrustDomain::default().as_str().parse::<TrustDomain>().is_ok());
    }

    #[test]
    fn an_id_is_of_a_machine_of_this_trust_domain() {
        let domain: TrustDomain = "corp.example".parse().unwrap();
        let name: MachineName = "vm-1".parse().unwrap();
        for kind in [Kind::Agent, Kind::Gateway("edge".parse().unwrap())] {
            let id = domain.machine_id(&kind, &name);
            assert_eq!(domain.machine(&id), Some((kind, name.clone())), "{id}");
        }
        for id in [
            "spiffe://corp.example/agent/",
            "spiffe://corp.example/agent/vm-1/x",
            "spiffe://corp.example/agent/..",
            "spiffe://corp.example/gateway/vm-1",
            "spiffe://corp.examplegateway/edge/vm-1",
            "spiffe://corp.example/dns/vm-1",
            "spiffe://corp.example/controller",
            "spiffe://corp.example.evil/agent/vm-1",
            "spiffe://other/agent/vm-1",
            "https://corp.example/agent/vm-1",
        ] {
            assert_eq!(domain.machine(id), None, "{id}");
        }
    }
}
