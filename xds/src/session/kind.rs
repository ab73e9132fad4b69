//! What the engine knows of types: their order, and what their protocol says of removal.

use crate::name::TypeUrl;

/// Sorted as they are sent: "clusters, endpoints, listeners, routes, virtual hosts"
/// (xds_protocol.rst, "Eventual consistency considerations"), each before what names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// CDS.
    Clusters,
    /// EDS; an endpoint set has its cluster's name.
    Endpoints,
    /// LDS.
    Listeners,
    /// ECDS.
    Extensions,
    /// SRDS.
    ScopedRoutes,
    /// RDS.
    Routes,
    /// VHDS.
    VirtualHosts,
    /// All else: refers to no clusters that are known of, and nothing waits for it.
    Other,
}

impl Kind {
    /// The kind of a type.
    pub(super) fn of(type_url: &TypeUrl) -> Self {
        match type_url.as_str() {
            TypeUrl::CLUSTER => Self::Clusters,
            TypeUrl::ENDPOINTS => Self::Endpoints,
            TypeUrl::LISTENER => Self::Listeners,
            TypeUrl::EXTENSION => Self::Extensions,
            TypeUrl::SCOPED_ROUTES => Self::ScopedRoutes,
            TypeUrl::ROUTES => Self::Routes,
            TypeUrl::VIRTUAL_HOST => Self::VirtualHosts,
            _ => Self::Other,
        }
    }

    /// Whether a SotW response of it has everything, and what is absent is deleted: "for Listener
    /// and Cluster resources" (xds_protocol.rst, "Deleting resources").
    pub(super) const fn is_whole(self) -> bool {
        matches!(self, Self::Clusters | Self::Listeners)
    }

    /// Whether removing it waits until whatever named it has let go.
    pub(super) const fn goes_last(self) -> bool {
        matches!(self, Self::Clusters | Self::Endpoints)
    }

    /// Whether it names clusters.
    pub(super) const fn refers(self) -> bool {
        matches!(
            self,
            Self::Listeners
                | Self::Extensions
                | Self::ScopedRoutes
                | Self::Routes
                | Self::VirtualHosts
        )
    }
}

/// Whether a first request without names asks for everything of this type: by the protocol for
/// clusters and listeners; by our own rule for our own types.
pub(super) fn is_wildcard_at_first(type_url: &TypeUrl) -> bool {
    Kind::of(type_url).is_whole() || type_url.as_str().starts_with("type.googleapis.com/crossfade.")
}
