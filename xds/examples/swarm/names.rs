//! What the streams subscribe to.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, RwLock};

use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::listener::v3::Listener;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as hcm;
use futures::future::{Either, select};
use prost::Message as _;
use proto::envoy::config::core::v3::Node;
use proto::envoy::service::discovery::v3::DeltaDiscoveryRequest;
use proto::google::protobuf::{Struct, Value, value::Kind};
use serde_json::json;
use xds::name::TypeUrl;

use crate::{bad, wire};

/// The names of each type, in the order in which they are asked for.
pub(crate) struct Names(pub(crate) Vec<OfType>);

/// The names of one type.
pub(crate) struct OfType {
    pub(crate) url: String,
    pub(crate) names: Vec<String>,
    index: HashMap<String, usize>,
    /// The newest version of each that any stream was told: streams share the text.
    newest: RwLock<Vec<Arc<str>>>,
}

impl Names {
    /// From JSON: type to names.
    pub(crate) fn read(text: &str) -> io::Result<Self> {
        let mut types: BTreeMap<String, Vec<String>> = serde_json::from_str(text)?;
        let order = [TypeUrl::CLUSTER, TypeUrl::ENDPOINTS, TypeUrl::LISTENER, TypeUrl::ROUTES];
        let mut found = Vec::new();
        for url in order {
            if let Some(names) = types.remove(url).filter(|names| !names.is_empty()) {
                found.push(OfType::new(url, names));
            }
        }
        found.extend(types.into_iter().map(|(url, names)| OfType::new(&url, names)));
        Ok(Self(found))
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.0.iter().map(|of| of.names.len()).sum()
    }
}

impl OfType {
    fn new(url: &str, names: Vec<String>) -> Self {
        let index = names.iter().enumerate().map(|(at, name)| (name.clone(), at)).collect();
        let newest = RwLock::new(vec!["".into(); names.len()]);
        Self { url: url.to_owned(), names, index, newest }
    }

    /// Where a name stands.
    pub(crate) fn at(&self, name: &str) -> Option<usize> {
        self.index.get(name).copied()
    }

    /// A version, shared with the other streams that were told it.
    pub(crate) fn share(&self, at: usize, version: &str) -> Arc<str> {
        if let Ok(newest) = self.newest.read()
            && let Some(same) = newest.get(at).filter(|newest| ***newest == *version)
        {
            return same.clone();
        }
        let version: Arc<str> = version.into();
        if let Ok(mut newest) = self.newest.write()
            && let Some(place) = newest.get_mut(at)
        {
            *place = version.clone();
        }
        version
    }
}

/// A node that says this of itself.
pub(crate) fn node(id: String, metadata: &[&str]) -> io::Result<Node> {
    let mut fields = BTreeMap::new();
    for pair in metadata {
        let (key, value) =
            pair.split_once('=').ok_or_else(|| bad(format!("{pair}: not KEY=VALUE")))?;
        let value = Value { kind: Some(Kind::StringValue(value.to_owned())) };
        fields.insert(key.to_owned(), value);
    }
    let metadata = Some(Struct { fields });
    Ok(Node { id, cluster: "swarm".to_owned(), metadata, ..Node::default() })
}

/// Asks for all clusters and listeners as an Envoy would, and reads what follows from them.
pub(crate) async fn probe(
    server: SocketAddr,
    metadata: &[&str],
) -> Result<serde_json::Value, Box<dyn Error>> {
    let (mut wire, connection) = wire::open(server, 0).await?;
    let node = node("swarm-probe".to_owned(), metadata)?;
    let found = Box::pin(async move {
        for url in [TypeUrl::CLUSTER, TypeUrl::LISTENER] {
            wire.send(&DeltaDiscoveryRequest {
                node: Some(node.clone()),
                type_url: url.to_owned(),
                resource_names_subscribe: vec!["*".to_owned()],
                ..DeltaDiscoveryRequest::default()
            })?;
        }
        let mut types: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
        let mut told = BTreeSet::new();
        while told.len() < 2 {
            let response = wire.next().await?;
            for resource in &response.resources {
                let body = resource.resource.as_ref().ok_or_else(|| bad("no body"))?;
                read(&response.type_url, &resource.name, &body.value, &mut types)?;
            }
            told.insert(response.type_url);
        }
        Ok::<_, Box<dyn Error>>(json!(types))
    });
    match select(found, connection).await {
        Either::Left((found, _)) => found,
        Either::Right(_) => Err("the connection ended".into()),
    }
}

fn read(
    url: &str,
    name: &str,
    body: &[u8],
    types: &mut BTreeMap<&str, BTreeSet<String>>,
) -> io::Result<()> {
    if url == TypeUrl::CLUSTER {
        types.entry(TypeUrl::CLUSTER).or_default().insert(name.to_owned());
        if let Some(config) = Cluster::decode(body)?.eds_cluster_config {
            let other = Some(config.service_name).filter(|name| !name.is_empty());
            let endpoints = other.unwrap_or_else(|| name.to_owned());
            types.entry(TypeUrl::ENDPOINTS).or_default().insert(endpoints);
        }
        return Ok(());
    }
    types.entry(TypeUrl::LISTENER).or_default().insert(name.to_owned());
    let listener = Listener::decode(body)?;
    let chains = listener.filter_chains.into_iter().chain(listener.default_filter_chain);
    for filter in chains.flat_map(|chain| chain.filters) {
        let Some(route) = route_of(filter)? else { continue };
        types.entry(TypeUrl::ROUTES).or_default().insert(route);
    }
    Ok(())
}

/// The routes that an HTTP filter asks for.
fn route_of(
    filter: envoy_types::pb::envoy::config::listener::v3::Filter,
) -> io::Result<Option<String>> {
    use envoy_types::pb::envoy::config::listener::v3::filter::ConfigType;
    let Some(ConfigType::TypedConfig(config)) = filter.config_type else { return Ok(None) };
    if !config.type_url.ends_with(".HttpConnectionManager") {
        return Ok(None);
    }
    let manager = hcm::HttpConnectionManager::decode(config.value.as_slice())?;
    match manager.route_specifier {
        Some(hcm::http_connection_manager::RouteSpecifier::Rds(rds)) => {
            Ok(Some(rds.route_config_name))
        }
        _ => Ok(None),
    }
}
