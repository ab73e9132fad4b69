//! mTLS between proxies of VMs and the target's gateway.
//!
//! A proxy that is given who it is (`crossfade.identity`) reaches the target side of a plan through
//! the plan's gateway, where that has addresses for it, with TLS 1.3. Each of the two shows a
//! certificate and checks the other's: that the authorities of both signed it, and that the SPIFFE
//! id in it is of the right kind. So neither a proxy of another domain, nor one of this that is of
//! the wrong kind, is taken for the other end.
//!
//! The gateway tells such connections from all others by their ALPN, [`PROTOCOL`], which nothing
//! but these proxies says. What else comes to its ports, in the clear or with TLS of an
//! application's own, is treated as where there is no mTLS. The gateway chooses no protocol from
//! what is offered: what is inside is then told by its first bytes, so HTTP/1 and HTTP/2 may both
//! be.
//!
//! Where the secrets are is not known here. While they have not come, nothing that needs them
//! works, and nothing else waits for them longer than [`PATIENCE`].

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::config::cluster::v3 as cluster;
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::listener::v3 as listener;
use envoy_types::pb::envoy::extensions::filters::listener::tls_inspector::v3::TlsInspector;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3 as tls;
use envoy_types::pb::envoy::r#type::matcher::v3::{StringMatcher, string_matcher};
use envoy_types::util::pack_any;
use plan::PlanName;
use plan::endpoint::Endpoint;
use plan::snapshot::Service;
use plan::spec::Gateway;

use crate::render::common::{ads, duration, flag};
use crate::render::door::Door;
use crate::render::drain;
use crate::render::listener::listener_filter;
use crate::render::secret::{AUTHORITIES, IDENTITY};

/// By which a gateway knows connections of proxies of VMs.
const PROTOCOL: &str = "crossfade";

/// What connections with TLS are matched by.
const TLS: &str = "tls";

/// How long a cluster or listener waits for a secret before it is put in force without: who hands
/// them out is on the same machine.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long a gateway waits for the first bytes of a connection, to see whether they are TLS.
/// Servers that speak first answer clients in the clear only after it; a first packet that was lost
/// is there again within it.
const FIRST_BYTES: Duration = Duration::from_secs(1);

/// How proxies of VMs reach the target side of a service.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mtls<'a> {
    gateway: &'a Gateway,
    trust_domain: &'a str,
}

impl<'a> Mtls<'a> {
    /// If through a gateway.
    pub(super) fn of(leaf: &'a Service, trust_domain: Option<&'a str>) -> Option<Self> {
        let gateway = leaf.gateways.iter().find(|gateway| !gateway.mtls.is_empty())?;
        Some(Self { gateway, trust_domain: trust_domain? })
    }

    /// Where the gateway is: at the ports of the services.
    pub(super) fn endpoints(&self) -> Vec<Endpoint> {
        let at = |address: &IpAddr| Endpoint { address: *address, port: None };
        self.gateway.mtls.iter().map(at).collect()
    }

    /// The cluster, reached through the gateway.
    pub(super) fn cluster(&self, cluster: cluster::Cluster) -> cluster::Cluster {
        let Self { gateway, trust_domain } = self;
        let peers = format!("spiffe://{trust_domain}/gateway/{}/", gateway.name);
        let context = tls::UpstreamTlsContext {
            common_tls_context: Some(tls::CommonTlsContext {
                alpn_protocols: vec![PROTOCOL.to_owned()],
                ..context(peers)
            }),
            ..Default::default()
        };
        drain::checked_plainly(cluster::Cluster {
            transport_socket: Some(socket(pack_any(context))),
            ..cluster
        })
    }
}

/// What opens the listeners of a door for proxies of VMs.
#[derive(Debug)]
pub(super) struct Entry<'a> {
    trust_domain: &'a str,
    /// Those that send them here.
    plans: BTreeSet<&'a PlanName>,
}

impl<'a> Entry<'a> {
    /// For this door. Who cannot show who he is opens to nobody.
    pub(super) fn of(
        door: &Door,
        trust_domain: Option<&'a str>,
        leaves: &'a [Arc<Service>],
    ) -> Self {
        let is_here = |leaf: &&'a Arc<Service>| {
            let mut gateways = leaf.gateways.iter();
            let here = gateways.find(|gateway| Some(&gateway.name) == door.gateway.as_ref());
            door.identified && here.is_some_and(|gateway| !gateway.mtls.is_empty())
        };
        let plans = leaves.iter().filter(is_here).map(|leaf| &leaf.id.plan);
        let plans = plans.filter(|_| trust_domain.is_some()).collect();
        Self { trust_domain: trust_domain.unwrap_or_default(), plans }
    }

    /// Whether any of these plans sends them here.
    pub(super) fn is_at(&self, plans: &[PlanName]) -> bool {
        plans.iter().any(|plan| self.plans.contains(plan))
    }

    /// The listener, where proxies of VMs come by `chain` and all others as before.
    pub(super) fn opened(
        &self,
        listener: listener::Listener,
        chain: listener::FilterChain,
    ) -> listener::Listener {
        let peers = format!("spiffe://{}/agent/", self.trust_domain);
        let context = tls::DownstreamTlsContext {
            common_tls_context: Some(context(peers)),
            require_client_certificate: flag(true),
            ..Default::default()
        };
        let proxies = listener::FilterChain {
            name: PROTOCOL.to_owned(),
            filter_chain_match: Some(listener::FilterChainMatch {
                transport_protocol: TLS.to_owned(),
                application_protocols: vec![PROTOCOL.to_owned()],
                ..Default::default()
            }),
            transport_socket: Some(socket(pack_any(context))),
            ..chain
        };
        let mut filters = listener.listener_filters;
        let inspector = TlsInspector::default();
        filters.push(listener_filter("envoy.filters.listener.tls_inspector", &inspector));
        listener::Listener {
            listener_filters: filters,
            listener_filters_timeout: Some(duration(FIRST_BYTES)),
            continue_on_listener_filters_timeout: true,
            filter_chains: vec![proxies],
            // Not one of the others: with TLS of another ALPN it would be passed over.
            default_filter_chain: listener.filter_chains.into_iter().next(),
            ..listener
        }
    }
}

/// What both ends have in common: who one is, and who the other must be.
fn context(peers: String) -> tls::CommonTlsContext {
    use tls::common_tls_context::{CombinedCertificateValidationContext, ValidationContextType};
    let must_be = tls::SubjectAltNameMatcher {
        san_type: tls::subject_alt_name_matcher::SanType::Uri as i32,
        matcher: Some(StringMatcher {
            match_pattern: Some(string_matcher::MatchPattern::Prefix(peers)),
            ..Default::default()
        }),
        ..Default::default()
    };
    let validation = CombinedCertificateValidationContext {
        default_validation_context: Some(tls::CertificateValidationContext {
            match_typed_subject_alt_names: vec![must_be],
            ..Default::default()
        }),
        validation_context_sds_secret_config: Some(secret(AUTHORITIES)),
        ..Default::default()
    };
    tls::CommonTlsContext {
        tls_params: Some(tls::TlsParameters {
            tls_minimum_protocol_version: tls::tls_parameters::TlsProtocol::TlSv13 as i32,
            tls_maximum_protocol_version: tls::tls_parameters::TlsProtocol::TlSv13 as i32,
            ..Default::default()
        }),
        tls_certificate_sds_secret_configs: vec![secret(IDENTITY)],
        validation_context_type: Some(ValidationContextType::CombinedValidationContext(validation)),
        ..Default::default()
    }
}

fn secret(name: &str) -> tls::SdsSecretConfig {
    tls::SdsSecretConfig {
        name: name.to_owned(),
        sds_config: Some(core::ConfigSource {
            initial_fetch_timeout: Some(duration(PATIENCE)),
            ..ads()
        }),
    }
}

fn socket(context: envoy_types::pb::google::protobuf::Any) -> core::TransportSocket {
    core::TransportSocket {
        name: "envoy.transport_sockets.tls".to_owned(),
        config_type: Some(core::transport_socket::ConfigType::TypedConfig(context)),
    }
}
