//! Resources as text.

use std::fmt::Write as _;

use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::core::v3::address::Address as Kind;
use envoy_types::pb::envoy::config::core::v3::socket_address::PortSpecifier;
use envoy_types::pb::envoy::config::core::v3::{
    Address, HealthCheck, TransportSocket, TypedExtensionConfig, transport_socket,
};
use envoy_types::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use envoy_types::pb::envoy::config::endpoint::v3::lb_endpoint::HostIdentifier;
use envoy_types::pb::envoy::config::listener::v3::filter::ConfigType;
use envoy_types::pb::envoy::config::listener::v3::{FilterChain, Listener};
use envoy_types::pb::envoy::config::route::v3::RouteConfiguration;
use envoy_types::pb::envoy::config::route::v3::route::Action;
use envoy_types::pb::envoy::config::route::v3::route_action::ClusterSpecifier;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as hcm;
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3 as tcp;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{
    CommonTlsContext, DownstreamTlsContext, UpstreamTlsContext, common_tls_context,
};
use envoy_types::pb::google::protobuf::Any;
use plan::Token;
use prost::Message as _;
use xds::render::{Door, TYPES, view as view_of};
use xds::{Change, Edit, Tables};

/// Everything that clients behind this door see.
pub(crate) fn view(tables: &Tables, door: &Door) -> String {
    let view = view_of(door);
    let mut out = String::new();
    for type_url in TYPES.map(xds::TypeUrl::from) {
        let table = tables.table(view.scope(&type_url).unwrap(), &type_url);
        let mut rows: Vec<String> = table
            .into_iter()
            .flat_map(|table| table.iter())
            .map(|r| resource(type_url.short(), &r.encoded, &r.plans, &r.needs))
            .collect();
        rows.sort();
        out.extend(rows);
    }
    out
}

/// Edits in their order.
pub(crate) fn edits(edits: &[Edit]) -> String {
    let mut out = String::new();
    for edit in edits {
        match &edit.change {
            Change::Put { encoded, plans, needs } => {
                let text = resource(edit.type_url.short(), encoded, plans, needs);
                write!(out, "{}: {text}", edit.scope).unwrap();
            }
            Change::Remove(name) => {
                writeln!(out, "{}: {} {name} goes", edit.scope, edit.type_url.short()).unwrap();
            }
            Change::Partial(partial) => {
                let what = if *partial { "partial" } else { "whole" };
                writeln!(out, "{}: {} {what}", edit.scope, edit.type_url.short()).unwrap();
            }
            Change::Declare => {
                writeln!(out, "{}: {} declared", edit.scope, edit.type_url.short()).unwrap();
            }
            Change::Withdraw => {
                writeln!(out, "{}: {} withdrawn", edit.scope, edit.type_url.short()).unwrap();
            }
        }
    }
    out
}

/// Every resource with its version.
pub(crate) fn versions(tables: &Tables) -> Vec<String> {
    let of =
        |(scope, type_url, table): (&xds::Scope, &xds::TypeUrl, &std::sync::Arc<xds::Table>)| {
            let rows = table.iter().map(move |r| (r.name().to_string(), r.version().to_string()));
            rows.map(|(name, version)| format!("{scope} {type_url} {name} {version}"))
                .collect::<Vec<_>>()
        };
    let mut all: Vec<String> = tables.iter().flat_map(of).collect();
    all.sort();
    all
}

/// The newest token in any version.
pub(crate) fn newest(tables: &Tables) -> Option<Token> {
    tables.iter().flat_map(|(.., table)| table.iter()).filter_map(|r| r.version().since()).max()
}

/// Where a listener stands; nothing for those of gRPC, which share no address.
pub(crate) fn listener_address(body: &[u8]) -> String {
    let listener = Listener::decode(body).unwrap();
    listener.address.as_ref().map_or_else(|| listener.name.clone(), address)
}

fn resource(
    kind: &str,
    encoded: &xds::Encoded,
    plans: &[plan::PlanName],
    needs: &[xds::Name],
) -> String {
    let body = encoded.body().clone();
    let text = match kind {
        "Cluster" => cluster(&Cluster::decode(body).unwrap()),
        "ClusterLoadAssignment" => endpoints(&ClusterLoadAssignment::decode(body).unwrap()),
        "Listener" => listener(&Listener::decode(body).unwrap()),
        "RouteConfiguration" => routes(&RouteConfiguration::decode(body).unwrap()),
        _ => filter(&TypedExtensionConfig::decode(body).unwrap()),
    };
    let plans: Vec<&str> = plans.iter().map(plan::PlanName::as_str).collect();
    let since = encoded.version.since().unwrap();
    let needs = needs.len();
    format!("{kind} {} @{since} of [{}] needs {needs}\n{text}", encoded.name, plans.join(", "))
}

fn address(at: &Address) -> String {
    let Some(Kind::SocketAddress(socket)) = &at.address else { panic!("{at:?}") };
    let Some(PortSpecifier::PortValue(port)) = socket.port_specifier else { panic!("{at:?}") };
    format!("{} port {port}", socket.address)
}

fn cluster(cluster: &Cluster) -> String {
    let mut out = format!("  {:?}", cluster.lb_policy());
    if !cluster.typed_extension_protocol_options.is_empty() {
        out.push_str(", HTTP/2");
    }
    if cluster.lrs_server.is_some() {
        out.push_str(", reports load");
    }
    if cluster.close_connections_on_host_health_failure {
        out.push_str(", checked");
    }
    let plainly = |check: &HealthCheck| check.transport_socket_match_criteria.clone();
    let checks: Vec<_> = cluster.health_checks.iter().filter_map(plainly).collect();
    for other in &cluster.transport_socket_matches {
        let by = if other.r#match.as_ref() == checks.first() { "checks" } else { "nobody" };
        write!(out, ", {} for {by}", other.transport_socket.as_ref().unwrap().name).unwrap();
    }
    out.push('\n');
    if let Some(socket) = &cluster.transport_socket {
        let any = typed(socket);
        let context = UpstreamTlsContext::decode(any.value.as_slice()).unwrap();
        out.push_str(&tls(context.common_tls_context.as_ref().unwrap()));
    }
    out
}

fn typed(socket: &TransportSocket) -> &Any {
    let Some(transport_socket::ConfigType::TypedConfig(any)) = &socket.config_type else {
        panic!("{socket:?}")
    };
    any
}

/// What a proxy shows, and whom it wants to see.
fn tls(context: &CommonTlsContext) -> String {
    let shows = context.tls_certificate_sds_secret_configs.iter().map(|secret| &*secret.name);
    let shows: Vec<&str> = shows.collect();
    let Some(common_tls_context::ValidationContextType::CombinedValidationContext(wants)) =
        &context.validation_context_type
    else {
        panic!("{context:?}")
    };
    let by = &wants.validation_context_sds_secret_config.as_ref().unwrap().name;
    let names = &wants.default_validation_context.as_ref().unwrap().match_typed_subject_alt_names;
    let names: Vec<_> = names
        .iter()
        .map(|name| (name.san_type(), name.matcher.as_ref().unwrap().match_pattern.clone()))
        .collect();
    let least = context.tls_params.as_ref().unwrap().tls_minimum_protocol_version();
    format!(
        "    {least:?} {:?} shows {} wants {names:?} by {by}\n",
        context.alpn_protocols,
        shows.join(", ")
    )
}

fn endpoints(set: &ClusterLoadAssignment) -> String {
    let mut out = String::new();
    for group in &set.endpoints {
        let locality = group.locality.as_ref().unwrap();
        for endpoint in &group.lb_endpoints {
            let Some(HostIdentifier::Endpoint(at)) = &endpoint.host_identifier else { continue };
            let at = address(at.address.as_ref().unwrap());
            let marked = if endpoint.metadata.is_some() { ", marked" } else { "" };
            writeln!(out, "  {at} in [{}] {}{marked}", locality.zone, locality.sub_zone).unwrap();
        }
    }
    out
}

fn routes(routes: &RouteConfiguration) -> String {
    let mut out = String::new();
    for host in &routes.virtual_hosts {
        let Some(Action::Route(action)) = &host.routes[0].action else { panic!("{host:?}") };
        let Some(ClusterSpecifier::WeightedClusters(weighted)) = &action.cluster_specifier else {
            panic!("{action:?}")
        };
        let weights = weighted
            .clusters
            .iter()
            .map(|cluster| format!("{} {}", cluster.name, cluster.weight.as_ref().unwrap().value));
        let weights: Vec<String> = weights.collect();
        writeln!(out, "  {} → {}", host.domains.join(", "), weights.join(", ")).unwrap();
        writeln!(out, "    by {:?}", weighted.random_value_specifier).unwrap();
        for policy in &action.hash_policy {
            let terminal = if policy.terminal { ", then no other" } else { "" };
            writeln!(out, "    {:?}{terminal}", policy.policy_specifier.as_ref().unwrap()).unwrap();
        }
    }
    out
}

/// Routes that answer by themselves.
fn answers(routes: &RouteConfiguration) -> String {
    let mut out = String::new();
    for route in routes.virtual_hosts.iter().flat_map(|host| &host.routes) {
        let headers = &route.r#match.as_ref().unwrap().headers;
        let headers: Vec<&str> = headers.iter().map(|header| header.name.as_str()).collect();
        let Some(Action::DirectResponse(answer)) = &route.action else { panic!("{route:?}") };
        writeln!(out, "  [{}] → {}", headers.join(", "), answer.status).unwrap();
    }
    out
}

fn filter(filter: &TypedExtensionConfig) -> String {
    let any = filter.typed_config.as_ref().unwrap();
    let proxy = tcp::TcpProxy::decode(any.value.as_slice()).unwrap();
    let Some(tcp::tcp_proxy::ClusterSpecifier::WeightedClusters(weighted)) =
        proxy.cluster_specifier
    else {
        panic!("{any:?}")
    };
    let weights = weighted.clusters.iter().map(|c| format!("{} {}", c.name, c.weight));
    format!("  {}\n", weights.collect::<Vec<_>>().join(", "))
}

fn listener(listener: &Listener) -> String {
    let mut out = String::new();
    let more = listener.additional_addresses.iter().filter_map(|more| more.address.as_ref());
    for at in listener.address.iter().chain(more) {
        let virtually = listener.bind_to_port.as_ref().is_some_and(|bind| !bind.value);
        let how = if virtually { "stands for" } else { "binds" };
        writeln!(out, "  {how} {}", address(at)).unwrap();
    }
    for filter in &listener.listener_filters {
        writeln!(out, "  first {}", filter.name).unwrap();
    }
    if let Some(api) = &listener.api_listener {
        let any = api.api_listener.as_ref().unwrap();
        out.push_str(&manager(&any.value));
    }
    if let Some(most) = &listener.listener_filters_timeout {
        let then = if listener.continue_on_listener_filters_timeout { "goes on" } else { "ends" };
        writeln!(out, "  after {} s it {then}", most.seconds).unwrap();
    }
    let chains = listener.filter_chains.iter().chain(&listener.default_filter_chain);
    for chain in chains {
        out.push_str(&one_chain(chain));
    }
    out
}

fn one_chain(chain: &FilterChain) -> String {
    let mut out = String::new();
    if let Some(which) = &chain.filter_chain_match
        && let Some(socket) = &chain.transport_socket
    {
        let context = DownstreamTlsContext::decode(typed(socket).value.as_slice()).unwrap();
        let must = context.require_client_certificate.as_ref().is_some_and(|must| must.value);
        let (what, says) = (&which.transport_protocol, &which.application_protocols);
        writeln!(out, "  {what} {says:?}, must show a certificate: {must}").unwrap();
        out.push_str(&tls(context.common_tls_context.as_ref().unwrap()));
    }
    for filter in &chain.filters {
        match filter.config_type.as_ref().unwrap() {
            ConfigType::TypedConfig(any) if any.type_url.ends_with("HttpConnectionManager") => {
                out.push_str(&manager(&any.value));
            }
            ConfigType::TypedConfig(_) => writeln!(out, "  {}", filter.name).unwrap(),
            ConfigType::ConfigDiscovery(_) => {
                writeln!(out, "  discovers {}", filter.name).unwrap();
            }
        }
    }
    out
}

fn manager(body: &[u8]) -> String {
    let manager = hcm::HttpConnectionManager::decode(body).unwrap();
    let rds = match &manager.route_specifier {
        Some(hcm::http_connection_manager::RouteSpecifier::Rds(rds)) => rds,
        Some(hcm::http_connection_manager::RouteSpecifier::RouteConfig(own)) => {
            return answers(own);
        }
        other => panic!("{other:?}"),
    };
    let hops = manager.xff_num_trusted_hops;
    let append = if manager.skip_xff_append { ", adds no X-Forwarded-For" } else { "" };
    format!("  routes {}, trusts {hops} hops{append}\n", rds.route_config_name)
}
