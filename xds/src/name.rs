//! Names of resources, cheap to hold: a stream keeps thousands of them.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use twox_hash::XxHash64;

/// The name of a resource. One pointer; a stream shares those of the tables.
#[derive(Clone)]
pub struct Name(Arc<Inner>);

struct Inner {
    hash: u64,
    text: Box<str>,
}

impl Name {
    /// A name.
    pub fn new(text: &str) -> Self {
        Self(Arc::new(Inner { hash: Self::hash_of(text), text: text.into() }))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0.text
    }

    /// [`Name::hash_of`] of the text.
    pub fn hash_value(&self) -> u64 {
        self.0.hash
    }

    /// What names are ordered and sharded by: xxh64, unseeded. Equality goes by the text.
    pub fn hash_of(text: &str) -> u64 {
        XxHash64::oneshot(0, text.as_bytes())
    }

    /// The order of names, against a text whose hash is known.
    pub(crate) fn cmp_text(&self, hash: u64, text: &str) -> Ordering {
        self.0.hash.cmp(&hash).then_with(|| (*self.0.text).cmp(text))
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
            || (self.0.hash == other.0.hash && self.0.text == other.0.text)
    }
}

impl Eq for Name {}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Name {
    /// By hash, then by text: any fixed order will do.
    fn cmp(&self, other: &Self) -> Ordering {
        if Arc::ptr_eq(&self.0, &other.0) {
            return Ordering::Equal;
        }
        self.cmp_text(other.0.hash, &other.0.text)
    }
}

impl Hash for Name {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0.hash);
    }
}

impl From<&str> for Name {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0.text)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.text)
    }
}

/// The type of a resource: `type.googleapis.com/` and a message's full name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TypeUrl(Arc<str>);

impl TypeUrl {
    /// Clusters.
    pub const CLUSTER: &'static str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
    /// Endpoint sets.
    pub const ENDPOINTS: &'static str =
        "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment";
    /// Listeners.
    pub const LISTENER: &'static str = "type.googleapis.com/envoy.config.listener.v3.Listener";
    /// Route configurations.
    pub const ROUTES: &'static str = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration";
    /// Virtual hosts, on demand.
    pub const VIRTUAL_HOST: &'static str = "type.googleapis.com/envoy.config.route.v3.VirtualHost";
    /// Scoped routes.
    pub const SCOPED_ROUTES: &'static str =
        "type.googleapis.com/envoy.config.route.v3.ScopedRouteConfiguration";
    /// Extension configurations: filters that change without their listener.
    pub const EXTENSION: &'static str =
        "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig";
    /// Secrets.
    pub const SECRET: &'static str =
        "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";
    /// Runtime layers.
    pub const RUNTIME: &'static str = "type.googleapis.com/envoy.service.runtime.v3.Runtime";
    /// The names of a plan, for DNS replicas.
    pub const ZONE_TABLE: &'static str = "type.googleapis.com/crossfade.v1.ZoneTable";
    /// The text of a zone, for DNS replicas.
    pub const ZONE: &'static str = "type.googleapis.com/crossfade.v1.Zone";
    /// What one VM's agent renders.
    pub const HOST_TABLE: &'static str = "type.googleapis.com/crossfade.v1.HostTable";
    /// Certificates that an authority has taken back, for agents and relays.
    pub const REVOCATIONS: &'static str = "type.googleapis.com/crossfade.v1.Revocations";

    /// A type.
    pub fn new(url: &str) -> Self {
        Self(url.into())
    }

    /// The whole of it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The last part of the message's name: `Cluster`.
    pub fn short(&self) -> &str {
        self.0.rsplit(['.', '/']).next().unwrap_or(&self.0)
    }
}

impl From<&str> for TypeUrl {
    fn from(url: &str) -> Self {
        Self::new(url)
    }
}

impl fmt::Display for TypeUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for TypeUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A set of tables that some clients see and others do not: `mesh`, `gateway 10.0.0.1`, `host
/// vm-7`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Scope(Arc<str>);

impl Scope {
    /// A scope.
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }

    /// Its name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Scope {
    fn from(name: &str) -> Self {
        Self::new(name)
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
