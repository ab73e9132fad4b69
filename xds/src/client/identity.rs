//! Who a client was proved to be, and what it may therefore call itself.

use crate::session::{Close, Code};

/// Which roles (`crossfade.role`) a client may say it has, by the role that it was certified as;
/// a client that says none is a sidecar.
const ROLES: [(&str, &[&str]); 4] = [
    // What runs on a VM: the agent, what it relays to the VM's proxies, and those proxies.
    ("agent", &["agent", "relay", "sidecar"]),
    ("dns", &["dns"]),
    ("relay", &["relay"]),
    ("proxy", &["sidecar", "gateway", "catch", "grpc"]),
];

/// What a client is that says no role.
const UNSAID: &str = "sidecar";

/// Who a client was proved to be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    /// What it is certified as: `agent`.
    pub role: String,
    /// What it is called. Nothing else of its role has this name.
    pub name: String,
}

impl Identity {
    /// Whether it may call itself so: by its name, or `NAME/…`.
    pub fn owns(&self, id: &str) -> bool {
        let rest = id.strip_prefix(self.name.as_str());
        !self.name.is_empty() && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// Whether it may say how far this client of its own is: agents serve the proxies of their VM,
    /// relays whoever follows them.
    pub fn speaks_for(&self, id: &str) -> bool {
        self.role == "relay" || self.owns(id)
    }

    /// Whether it may be what it says it is.
    ///
    /// # Errors
    /// It goes by another's name, or says a role that it has not.
    pub(super) fn bind(
        &self,
        id: &str,
        role: Option<&str>,
        serves: Option<&str>,
    ) -> Result<(), Close> {
        let Self { role: certified, name } = self;
        if !self.owns(id) {
            return Err(denied(format!(
                "the certificate is of `{name}` and node.id says another name; node.id must be \
                 `{name}` or begin with `{name}/`"
            )));
        }
        let found = ROLES.iter().find(|(role, _)| role == certified);
        let may = found.map(|(_, may)| *may).unwrap_or_default();
        let said = role.unwrap_or(UNSAID);
        if !may.contains(&said) {
            return Err(denied(format!(
                "the certificate of `{name}` is of role `{certified}`, which may not say \
                 crossfade.role `{said}`{}",
                if may.is_empty() {
                    String::new()
                } else {
                    format!("; say `{}`", may.join("`, `"))
                }
            )));
        }
        // A relay on a VM is for what runs on that VM.
        let serves = serves.filter(|_| said == "relay").unwrap_or(UNSAID);
        if certified == "agent" && serves != UNSAID {
            return Err(denied(format!(
                "the certificate of `{name}` is of role `agent`, whose relay serves sidecars \
                 alone; leave out crossfade.serves `{serves}`"
            )));
        }
        Ok(())
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
            ("", "/x", false),
        ] {
            let identity = Identity { role: "agent".to_owned(), name: name.to_owned() };
            assert_eq!(identity.owns(id), owns, "{name} {id}");
        }
    }

    #[test]
    fn a_role_is_what_was_certified() {
        struct Case(&'static str, &'static str, Option<&'static str>, Option<&'static str>, bool);
        for Case(certified, id, role, serves, fine) in [
            Case("agent", "a", Some("agent"), None, true),
            Case("agent", "a/envoy", None, None, true),
            Case("agent", "a/envoy", Some("sidecar"), None, true),
            Case("agent", "a/relay", Some("relay"), Some("sidecar"), true),
            Case("agent", "a/relay", Some("relay"), Some("gateway"), false),
            Case("agent", "a", Some("gateway"), None, false),
            Case("agent", "a", Some("dns"), None, false),
            Case("agent", "b", Some("agent"), None, false),
            Case("dns", "a", Some("dns"), None, true),
            Case("dns", "a", None, None, false),
            Case("relay", "a", Some("relay"), Some("gateway"), true),
            Case("proxy", "a", Some("gateway"), None, true),
            Case("proxy", "a", Some("agent"), None, false),
            Case("controller", "a", None, None, false),
        ] {
            let identity = Identity { role: certified.to_owned(), name: "a".to_owned() };
            let bound = identity.bind(id, role, serves);
            assert_eq!(bound.is_ok(), fine, "{certified} {id} {role:?} {serves:?}: {bound:?}");
        }
    }
}
