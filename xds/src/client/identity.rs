//! Who a client was proved to be, and what it may therefore call itself.

use super::Client;
use crate::join::{Kind, MachineName};
use crate::session::{Close, Code};

/// What a client is that says no role.
const UNSAID: &str = "sidecar";

/// Who a client was proved to be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    /// What it is certified as.
    pub kind: Kind,
    /// What it is called. Nothing else has this name.
    pub name: MachineName,
}

impl Identity {
    /// Whether it may call itself so: by its name, or `NAME/…`.
    fn owns(&self, id: &str) -> bool {
        self.name.covers(id)
    }

    /// Whether it may be what it says it is.
    ///
    /// # Errors
    /// It goes by another's name, or says a role that it has not.
    pub(super) fn bind(&self, client: &Client) -> Result<(), Close> {
        let name = &self.name;
        if !self.owns(&client.id) {
            return Err(denied(format!(
                "the certificate is of `{name}` and node.id says another name; node.id must be \
                 `{name}` or begin with `{name}/`"
            )));
        }
        let role = client.says("role").unwrap_or(UNSAID);
        match &self.kind {
            Kind::Agent => self.bind_agent(client, role),
            Kind::Gateway(gateway) => self.bind_gateway(client, role, gateway.as_str()),
        }
    }

    /// What runs on a VM: the agent, what it relays to the VM's proxy, and that proxy.
    fn bind_agent(&self, client: &Client, role: &str) -> Result<(), Close> {
        self.among(role, &["agent", "relay", UNSAID])?;
        // One agent for each name: two would be two machines with one key.
        if role == "agent" && *client.id != *self.name.as_str() {
            return Err(denied(format!(
                "the certificate of `{name}` is of a VM, whose one agent is called `{name}`; \
                 node.id must be that, not `{}`",
                client.id,
                name = self.name
            )));
        }
        match client.says("serves").filter(|serves| role == "relay" && *serves != UNSAID) {
            None => Ok(()),
            Some(serves) => Err(denied(format!(
                "the certificate of `{}` is of an agent, whose relay serves sidecars alone; leave \
                 out crossfade.serves `{serves}`",
                self.name
            ))),
        }
    }

    /// What runs at the target's edge: the relay, and the proxies behind it.
    fn bind_gateway(&self, client: &Client, role: &str, gateway: &str) -> Result<(), Close> {
        self.among(role, &["relay", "catch", "gateway"])?;
        let serves = client.says("serves").unwrap_or(UNSAID);
        if role == "relay" && !matches!(serves, "catch" | "gateway") {
            return Err(denied(format!(
                "the certificate of `{}` is of a gateway, whose relay serves a catch or gateway, \
                 not a {serves}: crossfade relay --role catch",
                self.name
            )));
        }
        let said = client.says("gateway").unwrap_or_default();
        if said != gateway {
            return Err(denied(format!(
                "the certificate of `{}` is of the gateway `{gateway}`; crossfade.gateway must be \
                 that, not `{said}`",
                self.name
            )));
        }
        Ok(())
    }

    fn among(&self, role: &str, may: &[&str]) -> Result<(), Close> {
        if may.contains(&role) {
            return Ok(());
        }
        let Self { kind, name } = self;
        Err(denied(format!(
            "the certificate of `{name}` is of kind `{kind}`, which may not say crossfade.role \
             `{role}`; say `{}`",
            may.join("`, `")
        )))
    }
}

fn denied(message: String) -> Close {
    Close { code: Code::PermissionDenied, message }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_ones_own_or_below_it() {
        for (name, id, owns) in [
            ("vm-1", "vm-1", true),
            ("vm-1", "vm-1/envoy", true),
            ("vm-1", "vm-10", false),
            ("vm-1", "vm-2", false),
            ("vm-1", "", false),
            ("vm-1", "x/vm-1", false),
        ] {
            let identity = Identity { kind: Kind::Agent, name: name.parse().unwrap() };
            assert_eq!(identity.owns(id), owns, "{name} {id}");
        }
    }

    #[test]
    fn a_client_is_what_was_certified() {
        struct Case(&'static str, &'static str, &'static [(&'static str, &'static str)], bool);
        const CATCH: (&str, &str) = ("serves", "catch");
        const RELAY: (&str, &str) = ("role", "relay");
        const EDGE: (&str, &str) = ("gateway", "edge");
        for Case(certified, id, says, fine) in [
            Case("", "a", &[("role", "agent")], true),
            Case("", "a/b", &[("role", "agent")], false),
            Case("", "a/envoy", &[], true),
            Case("", "a/envoy", &[("role", "sidecar")], true),
            Case("", "a/relay", &[RELAY], true),
            Case("", "a/relay", &[RELAY, ("serves", "sidecar")], true),
            Case("", "a/relay", &[RELAY, ("serves", "gateway")], false),
            Case("", "a/relay", &[RELAY, CATCH, EDGE], false),
            Case("", "a", &[("role", "gateway")], false),
            Case("", "a", &[("role", "catch"), EDGE], false),
            Case("", "a", &[("role", "dns")], false),
            Case("", "b", &[("role", "agent")], false),
            Case("edge", "a", &[RELAY, CATCH, EDGE], true),
            Case("edge", "a", &[RELAY, ("serves", "gateway"), EDGE], true),
            Case("edge", "a/proxy", &[("role", "catch"), EDGE], true),
            Case("edge", "b", &[RELAY, CATCH, EDGE], false),
            Case("edge", "a", &[RELAY, EDGE], false),
            Case("edge", "a", &[RELAY, ("serves", "sidecar"), EDGE], false),
            Case("edge", "a", &[RELAY, CATCH], false),
            Case("edge", "a", &[RELAY, CATCH, ("gateway", "inner")], false),
            Case("edge", "a", &[("role", "agent"), EDGE], false),
            Case("edge", "a", &[EDGE], false),
            Case("edge", "a", &[("role", "dns"), EDGE], false),
            Case("edge", "a", &[("role", "grpc"), EDGE], false),
        ] {
            let kind = certified.parse().map_or(Kind::Agent, Kind::Gateway);
            let identity = Identity { kind, name: "a".parse().unwrap() };
            let says = says.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
            let client = Client {
                id: id.into(),
                cluster: "".into(),
                says: says.collect(),
                agent: "".into(),
                version: None,
                identity: None,
            };
            let bound = identity.bind(&client);
            assert_eq!(bound.is_ok(), fine, "{certified} {id} {:?}: {bound:?}", client.says);
        }
    }
}
