//! What a client needs to know before it can ask: ready bootstraps for Envoy and for gRPC
//! libraries.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use plan::ServiceName;
use serde_json::{Value, json};

use crate::render::{Role, SDS};

/// The name of the cluster with the controllers, in Envoy's bootstrap.
pub const CONTROLLERS: &str = "crossfade";

/// The longest path of a socket that Linux takes, in bytes (`sun_path` of unix(7)).
const SOCKET_BYTES_MAX: usize = 107;

/// The most connections at once that a proxy takes: beyond, a new one is refused rather than all of
/// them lost to memory. Each holds some 60 KB of buffers at most.
const CONNECTIONS_MAX: u32 = 50_000;

/// What a bootstrap says.
#[derive(Clone, Debug)]
pub struct Options {
    /// The node's id: what the sink is called. Unique among all clients.
    pub node: String,
    /// What it is for.
    pub role: Role,
    /// Which of the plans' gateways it is.
    pub gateway: Option<ServiceName>,
    /// Where a gateway binds; `None`: all addresses of both families.
    pub bind: Option<IpAddr>,
    /// Where a sidecar's captured connections arrive; `None`: 127.0.0.1:15001.
    pub capture: Option<SocketAddr>,
    /// Whether whoever it follows hands it its certificate, so that it takes part in mTLS.
    pub identified: bool,
    /// Where the controllers are, in the order in which they are tried. At least one.
    pub controllers: Vec<Controller>,
    /// How to speak to them; `None`: in the clear.
    pub tls: Option<Tls>,
    /// The port of Envoy's admin interface on loopback; 0: any free one.
    pub admin: u16,
}

/// Files of a client's identity, as the client itself sees them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// Certificates of who signs the controllers' (PEM).
    pub authority: String,
    /// The client's certificate (PEM).
    pub certificate: String,
    /// Its key (PEM).
    pub key: String,
}

/// Where a controller or relay is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Controller(Place);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// A name or an address, and a port.
    Network { host: String, port: u16 },
    /// A socket of the client's file system; the whole path.
    Socket(String),
}

/// The text says nowhere to go.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no controller; write host:port, like 127.0.0.1:7410 or [::1]:7410, or unix:/FILE for \
     a relay's socket"
)]
pub struct ControllerError(String);

impl FromStr for Controller {
    type Err = ControllerError;

    fn from_str(text: &str) -> Result<Self, ControllerError> {
        let error = || ControllerError(text.to_owned());
        if let Some(path) = text.strip_prefix("unix:") {
            let fine = path.starts_with('/') && path.len() <= SOCKET_BYTES_MAX;
            return if fine { Ok(Self(Place::Socket(path.to_owned()))) } else { Err(error()) };
        }
        let (host, port) = text.rsplit_once(':').ok_or_else(error)?;
        let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(error)?;
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let fine = match bare {
            Some(v6) => v6.parse::<std::net::Ipv6Addr>().is_ok(),
            None => {
                let known = |b: u8| b.is_ascii_alphanumeric() || b".-_".contains(&b);
                !host.is_empty() && host.bytes().all(known)
            }
        };
        let host = bare.unwrap_or(host).to_owned();
        if fine { Ok(Self(Place::Network { host, port })) } else { Err(error()) }
    }
}

impl From<SocketAddr> for Controller {
    fn from(at: SocketAddr) -> Self {
        Self(Place::Network { host: at.ip().to_string(), port: at.port() })
    }
}

impl fmt::Display for Controller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Place::Network { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Place::Network { host, port } => write!(f, "{host}:{port}"),
            Place::Socket(path) => write!(f, "unix:{path}"),
        }
    }
}

impl Controller {
    /// As Envoy writes addresses.
    fn address(&self) -> Value {
        match &self.0 {
            Place::Network { host, port } => socket(host, *port),
            Place::Socket(path) => json!({ "pipe": { "path": path } }),
        }
    }

    /// Whether nobody has to be asked where it is.
    fn is_known(&self) -> bool {
        match &self.0 {
            Place::Network { host, .. } => host.parse::<IpAddr>().is_ok(),
            Place::Socket(_) => true,
        }
    }
}

/// Sockets of the file system, by which an Envoy and the agent beside it speak.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sockets {
    /// Where the agent serves xDS.
    pub xds: String,
    /// Where Envoy is to have its admin interface.
    pub admin: String,
    /// Who may ask it there.
    pub admin_mode: u32,
}

/// A bootstrap for Envoy 1.36 or newer, as JSON, which Envoy reads as it does YAML.
pub fn envoy(options: &Options) -> Value {
    let admin = socket("127.0.0.1", options.admin);
    with(node(options), &admin, &controllers(options))
}

/// The same for the Envoy beside an agent, a sidecar of this name, which follows the agent alone.
/// `identified`: the agent hands it its certificate.
pub fn envoy_beside(id: &str, capture: SocketAddr, identified: bool, sockets: &Sockets) -> Value {
    let mut node = json!({
        "id": id,
        "cluster": Role::Sidecar.as_str(),
        "metadata": {
            "crossfade.role": Role::Sidecar.as_str(),
            "crossfade.capture": capture.to_string()
        }
    });
    if let Some(metadata) = node.pointer_mut("/metadata").filter(|_| identified) {
        metadata["crossfade.identity"] = json!(SDS);
    }
    let admin = json!({ "pipe": { "path": sockets.admin, "mode": sockets.admin_mode } });
    let agent = json!({ "pipe": { "path": sockets.xds } });
    let cluster = cluster("STATIC", &[json!({ "endpoint": { "address": agent } })]);
    with(node, &admin, &cluster)
}

fn with(node: Value, admin: &Value, controllers: &Value) -> Value {
    let service = json!({
        "envoy_grpc": {
            "cluster_name": CONTROLLERS,
            // Many proxies lose a controller at once and must not come back at once.
            "retry_policy": {
                "retry_back_off": { "base_interval": "0.25s", "max_interval": "5s" }
            }
        }
    });
    json!({
        "node": node,
        "admin": { "address": admin },
        "dynamic_resources": {
            "ads_config": {
                "api_type": "DELTA_GRPC",
                "transport_api_version": "V3",
                "set_node_on_first_message_only": true,
                "grpc_services": [service]
            },
            "cds_config": { "resource_api_version": "V3", "ads": {} },
            "lds_config": { "resource_api_version": "V3", "ads": {} }
        },
        "cluster_manager": {
            "load_stats_config": {
                "api_type": "GRPC",
                "transport_api_version": "V3",
                "grpc_services": [service]
            }
        },
        "static_resources": { "clusters": [controllers] },
        "overload_manager": {
            "resource_monitors": [{
                "name": "envoy.resource_monitors.global_downstream_max_connections",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.resource_monitors.\
                              downstream_connections.v3.DownstreamConnectionsConfig",
                    "max_active_downstream_connections": CONNECTIONS_MAX
                }
            }]
        }
    })
}

/// A bootstrap for gRPC libraries, for the file that `GRPC_XDS_BOOTSTRAP` names.
pub fn grpc(options: &Options) -> Value {
    let credentials = match &options.tls {
        None => json!({ "type": "insecure" }),
        Some(tls) => json!({
            "type": "tls",
            "config": {
                "ca_certificate_file": tls.authority,
                "certificate_file": tls.certificate,
                "private_key_file": tls.key
            }
        }),
    };
    let server = |controller: &Controller| {
        json!({
            "server_uri": controller.to_string(),
            "channel_creds": [credentials],
            // A name that is gone from the controller does not stop calls that work.
            "server_features": ["xds_v3", "ignore_resource_deletion"]
        })
    };
    let servers: Vec<Value> = options.controllers.iter().map(server).collect();
    let mut node = node(options);
    if let Some(fields) = node.as_object_mut() {
        // gRPC for Node reads no bootstrap whose node has none, and does not say so.
        fields.insert("locality".to_owned(), json!({}));
    }
    json!({ "xds_servers": servers, "node": node })
}

fn node(options: &Options) -> Value {
    let mut metadata = serde_json::Map::new();
    let mut say = |key: &str, value: String| {
        metadata.insert(format!("crossfade.{key}"), Value::String(value));
    };
    say("role", options.role.as_str().to_owned());
    if let Some(gateway) = &options.gateway {
        say("gateway", gateway.to_string());
    }
    if let Some(bind) = options.bind {
        say("bind", bind.to_string());
    }
    if let Some(capture) = options.capture {
        say("capture", capture.to_string());
    }
    if options.identified {
        say("identity", SDS.to_owned());
    }
    json!({ "id": options.node, "cluster": options.role.as_str(), "metadata": metadata })
}

fn controllers(options: &Options) -> Value {
    let endpoint = |at: &Controller| json!({ "endpoint": { "address": at.address() } });
    let endpoints: Vec<Value> = options.controllers.iter().map(endpoint).collect();
    let fixed = options.controllers.iter().all(Controller::is_known);
    let discovery = if fixed { "STATIC" } else { "STRICT_DNS" };
    let mut cluster = cluster(discovery, &endpoints);
    if let (Some(tls), Some(fields)) = (&options.tls, cluster.as_object_mut()) {
        fields.insert("transport_socket".to_owned(), transport(tls));
    }
    cluster
}

/// The cluster of whoever is followed.
fn cluster(discovery: &str, endpoints: &[Value]) -> Value {
    json!({
        "name": CONTROLLERS,
        "type": discovery,
        "connect_timeout": "1s",
        "load_assignment": {
            "cluster_name": CONTROLLERS,
            "endpoints": [{ "lb_endpoints": endpoints }]
        },
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/\
                          envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {
                    "http2_protocol_options": {
                        // A controller that is cut off without a word is left after 15 s.
                        "connection_keepalive": { "interval": "10s", "timeout": "5s" }
                    }
                }
            }
        }
    })
}

fn transport(tls: &Tls) -> Value {
    json!({
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": "type.googleapis.com/\
                      envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
            "auto_host_sni": true,
            "auto_sni_san_validation": true,
            "common_tls_context": {
                "alpn_protocols": ["h2"],
                "tls_certificates": [{
                    "certificate_chain": { "filename": tls.certificate },
                    "private_key": { "filename": tls.key }
                }],
                "validation_context": { "trusted_ca": { "filename": tls.authority } }
            }
        }
    })
}

fn socket(host: &str, port: u16) -> Value {
    json!({ "socket_address": { "address": host, "port_value": port } })
}
