//! Who sees what: proxies the tables of their role, followers of our own theirs.

use std::sync::Arc;

use xds::own::Concern;
use xds::render::{self, Door, Limit, Role};
use xds::session::{Close, Code};
use xds::{Client, View, Viewer, own};

use crate::planes::dns;
use crate::planes::mesh::hosts::{self, Concerns};

/// Views by the role that a client's node names.
#[derive(Clone, Debug)]
pub struct Roles {
    /// Which services concern a host.
    pub concerns: Arc<dyn Concerns>,
}

impl Viewer for Roles {
    fn view(&self, client: &Client) -> Result<View, Close> {
        // Sinks are told apart by their ids alone, over all planes: under this one a client would
        // be expected for ever, since the controller's own DNS is never away to be forgotten.
        if *client.id == *dns::SINK {
            return Err(Close::invalid(format!(
                "node.id `{}` is the controller's own DNS; give the client another",
                dns::SINK
            )));
        }
        match door(client, self.concerns.as_ref())? {
            Some(door) => Ok(render::view(&door)),
            None if hosts::is_agent(client) => {
                Ok(View::all(self.concerns.of(client).scope(&client.id)))
            }
            None => Ok(View::all(own::SCOPE)),
        }
    }
}

/// The door by which a client comes; `None` for replicas and agents, which see tables of our own.
/// The proxy of a VM that is limited to services comes by one that shows these alone.
pub(super) fn door(client: &Client, concerns: &dyn Concerns) -> Result<Option<Door>, Close> {
    let Some(door) = asked(client)? else { return Ok(None) };
    let vm = client.identity.as_ref().filter(|identity| identity.kind.is_agent());
    let Some(vm) = vm else { return Ok(Some(door)) };
    let Concern::Only(services) = concerns.of(client) else { return Ok(Some(door)) };
    let denied =
        |why: &str| Close { code: Code::PermissionDenied, message: format!("`{}` {why}", vm.name) };
    let limit = Limit::to(services).ok_or_else(|| {
        denied("is no machine that is known here; join it again: crossfade token create NAME")
    })?;
    match door.role {
        Role::Sidecar => Ok(Some(Door { limit: Some(limit), ..door })),
        Role::Gateway | Role::Catch | Role::Grpc => {
            Err(denied("is limited to services, so its proxies are sidecars"))
        }
    }
}

/// The door that a client asks for. A relay comes by the door of those it serves.
fn asked(client: &Client) -> Result<Option<Door>, Close> {
    match client.says("role") {
        Some("dns" | "agent") => Ok(None),
        Some("relay") => {
            let mut served = client.clone();
            let role = served.says.remove("serves").unwrap_or_else(|| "sidecar".to_owned());
            served.says.insert("role".to_owned(), role);
            render::door(&served).map(Some)
        }
        Some(_) | None => match render::door(client)? {
            door if door.identified => Err(Close::invalid(
                "crossfade.identity is for proxies behind an agent or a relay, which hands them \
                 their secrets; this controller does not",
            )),
            door => Ok(Some(door)),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use xds::Scope;
    use xds::client::Identity;
    use xds::join::Kind;

    use super::*;

    #[test]
    fn nobody_comes_under_the_name_of_the_controllers_own_dns() {
        let client = |id: &str, role: &str| Client {
            id: id.into(),
            cluster: "".into(),
            says: [("role".to_owned(), role.to_owned())].into(),
            agent: "".into(),
            version: None,
            identity: None,
        };
        let roles = Roles { concerns: hosts::concerns(None) };
        for role in ["sidecar", "gateway", "relay", "dns", "agent"] {
            assert!(roles.view(&client(dns::SINK, role)).is_err(), "{role}");
            assert!(roles.view(&client("dns/paris", role)).is_ok(), "{role}");
        }
    }

    /// All but `free` are limited: `gone` to nothing, as who is not known.
    #[derive(Debug)]
    struct Limits;

    impl Concerns for Limits {
        fn of(&self, client: &Client) -> Concern {
            match client.identity.as_ref().map(|identity| identity.name.as_str()) {
                Some("free") => Concern::All,
                Some("limited") => Concern::Only(Arc::new(["a/b".parse().unwrap()].into())),
                Some(_) | None => Concern::Only(Arc::default()),
            }
        }
    }

    /// Every scope that is to be seen by it.
    fn scopes(view: &View) -> BTreeSet<Scope> {
        render::TYPES.iter().filter_map(|it| view.scope(&(*it).into()).cloned()).collect()
    }

    #[test]
    fn the_proxies_of_a_vm_that_is_limited_see_tables_of_its_own() {
        let roles = Roles { concerns: Arc::new(Limits) };
        let view = |name: &str, kind: Kind, id: &str, role: Option<&str>| {
            let says = role.map(|role| ("role".to_owned(), role.to_owned()));
            roles.view(&Client {
                id: id.into(),
                cluster: "".into(),
                says: says.into_iter().collect(),
                agent: "".into(),
                version: None,
                identity: Some(Arc::new(Identity { kind, name: name.parse().unwrap() })),
            })
        };
        let free = scopes(&view("free", Kind::Agent, "free", None).unwrap());
        for (role, id) in
            [(None, "limited/x"), (Some("sidecar"), "limited"), (Some("relay"), "limited/relay")]
        {
            let seen = scopes(&view("limited", Kind::Agent, id, role).unwrap());
            assert!(seen.is_disjoint(&free), "{seen:?}");
            let refused = view("gone", Kind::Agent, id, role).unwrap_err();
            assert_eq!(refused.code, Code::PermissionDenied, "told nothing is not told to forget");
        }
        // Certificates of VMs do not get so far with these.
        for role in ["gateway", "catch", "grpc"] {
            let refused = view("limited", Kind::Agent, "limited", Some(role)).unwrap_err();
            assert_eq!(refused.code, Code::PermissionDenied, "{role}");
            assert!(view("free", Kind::Agent, "free", Some(role)).is_ok(), "{role}");
        }
        assert!(view("limited", Kind::Agent, "limited", Some("agent")).is_ok());
        for role in [None, Some("sidecar"), Some("relay")] {
            let seen = scopes(&view("free", Kind::Agent, "free", role).unwrap());
            assert_eq!(seen, free, "{role:?}");
        }
        let edge = Kind::Gateway("edge".parse().unwrap());
        assert!(view("edge-1", edge, "edge-1", Some("gateway")).is_ok());
    }

    #[test]
    fn a_proxy_is_handed_its_identity_by_who_is_before_it() {
        let client = |role: &str| Client {
            id: "a".into(),
            cluster: "".into(),
            says: [("role", role), ("serves", "catch"), ("identity", "sds")]
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
            agent: "".into(),
            version: None,
            identity: None,
        };
        let concerns = hosts::concerns(None);
        let door = |role: &str| door(&client(role), concerns.as_ref());
        assert!(door("relay").unwrap().unwrap().identified);
        for role in ["catch", "sidecar"] {
            let refused = door(role).unwrap_err();
            assert!(refused.message.contains("agent or a relay"), "{refused}");
        }
    }
}
