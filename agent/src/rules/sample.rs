//! Leaves, tables and hosts for the tests of this room.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use plan::endpoint::{Endpoint, Endpoints, Pool};
use plan::snapshot::{Motion, Parts, Service, Serving};
use plan::spec::{Affinity, ClientAddress, ClientKey, ClientRow, Clients, Gateway, Port, Protocol};
use plan::{Plane, ServiceId, Split, Token, bucket, spec};
use xds::own::HostTable;

use crate::rules::host::Host;
use crate::rules::mark::Marks;

/// What a leaf of a test says; everything else is as it mostly is.
#[derive(Clone, Debug)]
pub(crate) struct Leaf {
    pub(crate) id: &'static str,
    pub(crate) address: &'static str,
    pub(crate) ports: Vec<(u16, Protocol)>,
    pub(crate) legacy: Vec<&'static str>,
    pub(crate) target: Vec<&'static str>,
    pub(crate) split: u16,
    pub(crate) rows: Vec<(Plane, Vec<&'static str>)>,
    pub(crate) affinity: Affinity,
    pub(crate) keeps_source: bool,
    pub(crate) egress: Vec<&'static str>,
}

impl Leaf {
    /// `orders` behind the address of its own VM, with clients of the host plane in 10.0.0.0/8.
    pub(crate) fn orders(split: u16) -> Self {
        Self {
            id: "shop/orders",
            address: "10.0.1.10",
            ports: vec![(8080, Protocol::Http)],
            legacy: vec!["10.0.1.11", "10.0.1.12"],
            target: vec!["10.9.1.21", "10.9.1.22"],
            split,
            rows: vec![(Plane::Mesh, vec!["10.8.0.0/16"]), (Plane::Host, vec!["10.1.0.0/16"])],
            affinity: Affinity::ClientIp,
            keeps_source: false,
            egress: vec!["10.9.0.0/24"],
        }
    }

    pub(crate) fn service(&self) -> Arc<Service> {
        let id: ServiceId = self.id.parse().unwrap();
        let rows = self.rows.iter().map(|(plane, nets)| ClientRow {
            networks: nets.iter().map(|net| net.parse().unwrap()).collect(),
            plane: *plane,
        });
        let clients =
            Clients { rows: rows.collect(), resolvers: Vec::new(), key: ClientKey::default() };
        let pool = |endpoints: &[&str]| {
            let endpoints: Vec<Endpoint> = endpoints.iter().map(|e| e.parse().unwrap()).collect();
            Endpoints::new(endpoints).map(|serving| Pool { serving, degraded: false })
        };
        let (legacy, target) = (pool(&self.legacy), pool(&self.target));
        let serving = match (Split::from_bp(self.split).unwrap(), legacy, target) {
            (Split::LEGACY, legacy, target) => Serving::Legacy { legacy: legacy.unwrap(), target },
            (Split::TARGET, legacy, target) => Serving::Target { legacy, target: target.unwrap() },
            (split, legacy, target) => {
                Serving::Both { legacy: legacy.unwrap(), target: target.unwrap(), split }
            }
        };
        let endpoints = |pool: Option<&Pool>| pool.map(|pool| pool.serving.clone());
        let spec = spec::Service {
            name: id.service.clone(),
            hosts: vec!["orders.corp.example".parse().unwrap()],
            address: Some(self.address.parse().unwrap()),
            ports: self.ports.iter().map(port).collect(),
            affinity: self.affinity.clone(),
            salt: self.id.into(),
            preserve_source: self.keeps_source,
            legacy: endpoints(serving.legacy().or_else(|| serving.target())).unwrap(),
            target: endpoints(serving.target().or_else(|| serving.legacy())).unwrap(),
            after: Vec::new(),
        };
        let gateway = Gateway {
            name: "edge".parse().unwrap(),
            client_address: ClientAddress::default(),
            egress: self.egress.iter().map(|of| net(of)).collect(),
            mtls: Vec::new(),
        };
        Arc::new(Service {
            id,
            since: Token::START,
            spec: Arc::new(spec),
            clients: Arc::new(clients),
            serving,
            motion: Motion::Moving,
            salt: bucket::salt(self.id),
            gateways: Arc::new([gateway]),
            drain: None,
            ttls: Arc::new([5]),
            parts: Parts::default(),
        })
    }
}

fn port((port, protocol): &(u16, Protocol)) -> Port {
    Port {
        name: format!("{protocol:?}-{port}").to_ascii_lowercase().parse().unwrap(),
        port: (*port).try_into().unwrap(),
        protocol: *protocol,
    }
}

pub(crate) fn table(leaves: &[Leaf]) -> HostTable {
    let mut services: Vec<_> = leaves.iter().map(Leaf::service).collect();
    services.sort_by(|a, b| a.id.cmp(&b.id));
    HostTable { services }
}

pub(crate) fn marks(table: &HostTable) -> Marks {
    Marks::default().assign(table.services.iter().map(|leaf| &leaf.id)).unwrap()
}

/// The VM whose own addresses are these; its processes go by the first.
pub(crate) fn host(own: &[&str]) -> Host {
    let mut host = Host::new(address(own[0]));
    host.own = own.iter().map(|own| address(own)).collect();
    host
}

pub(crate) fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub(crate) fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}
