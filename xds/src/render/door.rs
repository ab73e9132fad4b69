//! What a proxy says it is, and which tables it therefore sees.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use plan::{ServiceId, ServiceName};

use crate::client::{Client, View};
use crate::name::{Scope, TypeUrl};
use crate::own::REVOKED;
use crate::render::limit::{Limit, Parts};
use crate::session::Close;

/// What clients of every role may ask for.
pub const TYPES: [&str; 5] =
    [TypeUrl::CLUSTER, TypeUrl::ENDPOINTS, TypeUrl::LISTENER, TypeUrl::ROUTES, TypeUrl::EXTENSION];

/// What a client of the mesh plane is for, by its metadata `crossfade.role`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Binds the ports of services and splits what comes.
    Gateway,
    /// Splits what is captured on its way to logical addresses. The default.
    Sidecar,
    /// Stands at the target's edge for clients that other planes split: sends all to target, and
    /// back to legacy what is rolled back.
    Catch,
    /// A gRPC library.
    Grpc,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Gateway, Self::Sidecar, Self::Catch, Self::Grpc];

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Sidecar => "sidecar",
            Self::Catch => "catch",
            Self::Grpc => "grpc",
        }
    }

    /// The role of this client.
    ///
    /// # Errors
    /// It names a role that is none.
    pub fn of(client: &Client) -> Result<Self, Close> {
        let Some(said) = client.says("role") else { return Ok(Self::Sidecar) };
        let known = Self::ALL.into_iter().find(|role| role.as_str() == said);
        known.ok_or_else(|| {
            Close::invalid(format!(
                "crossfade.role is `{said}`; it must be `gateway`, `sidecar`, `catch` or `grpc` \
                 (none: `sidecar`)"
            ))
        })
    }
}

/// A kind of clients that see the same listeners.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Door {
    /// What they are for.
    pub role: Role,
    /// Where gateways and catches bind; `None`: all addresses of both families.
    pub bind: Option<IpAddr>,
    /// Which of the plans' gateways they are: says where they find the client's address.
    pub gateway: Option<ServiceName>,
    /// Where captured connections arrive at a sidecar; `None`: [`Door::CAPTURE`].
    pub capture: Option<SocketAddr>,
    /// Whether it is given [`IDENTITY`] and [`AUTHORITIES`] by who is between it and the
    /// controller, so that it can show who it is. Of sidecars and catches alone.
    ///
    /// [`IDENTITY`]: crate::render::IDENTITY
    /// [`AUTHORITIES`]: crate::render::AUTHORITIES
    pub identified: bool,
    /// The services that they may see; `None`: all. Of sidecars alone: others with a limit are
    /// rendered nothing.
    pub limit: Option<Limit>,
}

impl Door {
    /// Where captured connections arrive unless `crossfade.capture` says otherwise.
    pub const CAPTURE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 15_001);

    /// A client of this role that says nothing else.
    pub const fn of(role: Role) -> Self {
        Self { role, bind: None, gateway: None, capture: None, identified: false, limit: None }
    }

    /// Whether anything is rendered for it: of what gateways, catches and gRPC libraries share
    /// nothing can be left out.
    pub(super) fn is_rendered(&self) -> bool {
        self.limit.is_none() || self.role == Role::Sidecar
    }

    pub(super) fn captures(&self) -> SocketAddr {
        self.capture.unwrap_or(Self::CAPTURE)
    }

    /// Where its listeners are. Only what its listeners depend on is in the name.
    pub(super) fn listeners(&self) -> Scope {
        let name = match self.role {
            Role::Gateway | Role::Catch => {
                let gateway = self.gateway.as_ref().map_or("-", ServiceName::as_str);
                let bind = self.bind.map_or_else(|| "*".to_owned(), |ip| ip.to_string());
                format!("{} {gateway} {bind}", self.role.as_str())
            }
            Role::Sidecar => format!("sidecar {}", self.captures()),
            Role::Grpc => GRPC.to_owned(),
        };
        let name = match self.identified {
            true => format!("{name} {IDENTIFIED}"),
            false => name,
        };
        match &self.limit {
            Some(limit) => limit.named(&name),
            None => name.as_str().into(),
        }
    }

    /// Where its clusters and endpoint sets are; with a limit all but its listeners.
    pub(super) fn sides(&self) -> Scope {
        let name = match self.role {
            Role::Sidecar if self.identified => IDENTIFIED,
            Role::Sidecar | Role::Gateway | Role::Catch | Role::Grpc => MESH,
        };
        self.limit.as_ref().map_or_else(|| name.into(), |limit| limit.named(name))
    }
}

/// What `crossfade.identity` says of a client that is given its secrets.
pub const SDS: &str = "sds";

/// What Envoys of every role share.
pub(super) const MESH: &str = "mesh";
/// Clusters and endpoint sets of sidecars that show who they are, and see every service.
pub(super) const IDENTIFIED: &str = "identified";
/// Routes of gateways: one for each port.
pub(super) const GATEWAY: &str = "gateway";
/// Routes and TCP filters of catches.
pub(super) const CATCH: &str = "catch";
/// Everything of gRPC libraries but the endpoints.
pub(super) const GRPC: &str = "grpc";

/// What a client says it is. What it may see is not for it to say.
///
/// # Errors
/// It says something that cannot be.
pub fn door(client: &Client) -> Result<Door, Close> {
    let role = Role::of(client)?;
    let parsed = |key: &str, like: &str| {
        let what = client.says(key);
        Close::invalid(format!("crossfade.{key} is `{}`; {like}", what.unwrap_or_default()))
    };
    let bind = client.says("bind").map(str::parse).transpose();
    let bind = bind.map_err(|_| parsed("bind", "it must be an IP address"))?;
    let gateway = client.says("gateway").map(str::parse).transpose();
    let gateway = gateway.map_err(|_| parsed("gateway", "it must be the name of a gateway"))?;
    let capture = client.says("capture").map(str::parse).transpose();
    let capture = capture.map_err(|_| parsed("capture", "it must be like 127.0.0.1:15001"))?;
    let identified = match client.says("identity") {
        None => false,
        Some(SDS) => true,
        Some(_) => return Err(parsed("identity", "it must be `sds`, or not be there")),
    };
    let edge = matches!(role, Role::Gateway | Role::Catch);
    Ok(Door {
        role,
        bind: bind.filter(|_| edge),
        gateway: gateway.filter(|_| edge),
        capture: capture.filter(|_| role == Role::Sidecar),
        identified: identified && matches!(role, Role::Sidecar | Role::Catch),
        limit: None,
    })
}

/// The tables that clients behind this door see.
pub fn view(door: &Door) -> View {
    let elsewhere: &[(&str, &str)] = match door.role {
        _ if door.limit.is_some() => &[],
        Role::Sidecar if door.identified => {
            &[(TypeUrl::CLUSTER, IDENTIFIED), (TypeUrl::ENDPOINTS, IDENTIFIED)]
        }
        Role::Sidecar => &[],
        Role::Gateway => &[(TypeUrl::ROUTES, GATEWAY)],
        Role::Catch => &[(TypeUrl::ROUTES, CATCH), (TypeUrl::EXTENSION, CATCH)],
        Role::Grpc => &[(TypeUrl::ROUTES, GRPC), (TypeUrl::CLUSTER, GRPC)],
    };
    let listeners = (TypeUrl::from(TypeUrl::LISTENER), Some(door.listeners()));
    let elsewhere =
        elsewhere.iter().map(|(type_url, scope)| ((*type_url).into(), Some((*scope).into())));
    // Tables that other doors were rendered for have what they show, which may be less.
    let after = Some(TypeUrl::LISTENER.into());
    let revoked = (TypeUrl::from(TypeUrl::REVOCATIONS), Some(REVOKED.into()));
    let types = [listeners, revoked].into_iter().chain(elsewhere).collect();
    let default = if door.limit.is_some() { door.sides() } else { MESH.into() };
    View { default, types, after }
}

/// What there is to be rendered for a set of doors.
#[derive(Clone, Debug, Default)]
pub(super) struct Roles {
    /// Those of all but sidecars with a limit.
    pub(super) whole: Whole,
    /// Sidecars with a limit.
    pub(super) limited: Parts,
    /// What everybody is certified in.
    pub(super) trust_domain: Option<Arc<str>>,
}

/// Who sees every service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Whole {
    pub(super) gateway: bool,
    pub(super) catch: bool,
    pub(super) grpc: bool,
    /// Sidecars that show nothing.
    pub(super) plain: bool,
    /// Sidecars that show who they are.
    pub(super) identified: bool,
    /// Where sidecars' listeners are; empty: no sidecars.
    pub(super) sidecars: BTreeSet<Scope>,
}

impl Roles {
    pub(super) fn of(doors: &BTreeSet<Door>, trust_domain: Option<&Arc<str>>) -> Self {
        let all = || doors.iter().filter(|door| door.limit.is_none());
        let any = |role| all().any(|door| door.role == role);
        let sidecars = || all().filter(|door| door.role == Role::Sidecar);
        let whole = Whole {
            gateway: any(Role::Gateway),
            catch: any(Role::Catch),
            grpc: any(Role::Grpc),
            plain: sidecars().any(|door| !door.identified),
            identified: sidecars().any(|door| door.identified),
            sidecars: sidecars().map(Door::listeners).collect(),
        };
        Self { whole, limited: Parts::of(doors), trust_domain: trust_domain.cloned() }
    }

    /// The services that are rendered for others here than there; `None`: it may be all.
    pub(super) fn changed(&self, other: &Self) -> Option<BTreeSet<ServiceId>> {
        let same = self.whole == other.whole && self.trust_domain == other.trust_domain;
        same.then(|| self.limited.changed(&other.limited))
    }
}
