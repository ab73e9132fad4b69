//! Arguments of `crossfade bootstrap`.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use plan::ServiceName;
use xds::bootstrap::Controller;
use xds::render::Role;

/// `crossfade bootstrap`.
#[derive(Debug, Args)]
pub(crate) struct Bootstrap {
    /// Whom it is for: an Envoy (1.36 or newer), or a gRPC library that follows xDS by itself
    #[arg(value_enum, value_name = "KIND")]
    pub(crate) kind: Kind,
    /// What the client is for: gateway binds the services' ports; sidecar takes captured
    /// connections to logical addresses; catch sends stragglers where the plan says; grpc is a
    /// library. Without it sidecar, or grpc
    #[arg(long, value_enum, value_name = "ROLE")]
    pub(crate) role: Option<RoleArg>,
    /// What the client is called, unique among all; without it this host's name and the role
    #[arg(long, value_name = "NAME")]
    pub(crate) node: Option<String>,
    /// Where a gateway or catch binds; without it all addresses of both families
    #[arg(long, value_name = "ADDR")]
    pub(crate) bind: Option<IpAddr>,
    /// Where a controller or relay serves xDS, HOST:PORT or unix:FILE; several times for several.
    /// Without it the controller of --server is asked
    #[arg(long = "controller", value_name = "ADDR")]
    pub(crate) controllers: Vec<Controller>,
    /// Which of the plans' gateways it is: says where it finds the client's address
    #[arg(long, value_name = "NAME")]
    pub(crate) gateway: Option<ServiceName>,
    /// Where a sidecar's captured connections arrive; without it 127.0.0.1:15001
    #[arg(long, value_name = "ADDR")]
    pub(crate) capture: Option<SocketAddr>,
    /// Take part in mTLS between VMs and the target's gateway (sidecar, catch): --controller is the
    /// socket of a relay that has joined, unix:DIR/xds.sock, and hands it its certificate
    #[arg(long)]
    pub(crate) identity: bool,
    /// The port of Envoy's admin interface, on loopback; 0 for any free one
    #[arg(long, value_name = "PORT", default_value_t = 9901)]
    pub(crate) admin_port: u16,
    /// Who signs the controllers' certificates, PEM, as the client finds it
    #[arg(long, value_name = "FILE", requires_all = ["tls_cert", "tls_key"])]
    pub(crate) tls_ca: Option<PathBuf>,
    /// The client's certificate, PEM, as the client finds it
    #[arg(long, value_name = "FILE", requires_all = ["tls_ca", "tls_key"])]
    pub(crate) tls_cert: Option<PathBuf>,
    /// The client's key, PEM, as the client finds it
    #[arg(long, value_name = "FILE", requires_all = ["tls_ca", "tls_cert"])]
    pub(crate) tls_key: Option<PathBuf>,
}

/// Whom a bootstrap is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// An Envoy.
    Envoy,
    /// A gRPC library.
    Grpc,
}

/// What a client may be for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum RoleArg {
    /// Binds the services' ports.
    Gateway,
    /// Takes captured connections.
    Sidecar,
    /// Sends stragglers where the plan says.
    Catch,
    /// A gRPC library.
    Grpc,
}

impl From<RoleArg> for Role {
    fn from(role: RoleArg) -> Self {
        match role {
            RoleArg::Gateway => Self::Gateway,
            RoleArg::Sidecar => Self::Sidecar,
            RoleArg::Catch => Self::Catch,
            RoleArg::Grpc => Self::Grpc,
        }
    }
}
