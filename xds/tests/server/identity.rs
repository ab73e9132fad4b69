//! Identities: who has none is not served, and who is revoked is cut off.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use proto::envoy::service::load_stats::v3::LoadStatsRequest;
use proto::envoy::service::load_stats::v3::load_reporting_service_client as load;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::sync::watch;
use tonic::Code;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use xds::Close;
use xds::join::Kind;
use xds::server::{Doorman, Identity, Limits, Peer, Service, Tls};

use crate::world::{Delta, World, assert_status, clusters, in_time, named, node, until};

pub(crate) type Issuer = CertifiedIssuer<'static, KeyPair>;

pub(crate) fn issuer() -> Issuer {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A certificate and its key, PEM.
#[derive(Clone)]
pub(crate) struct Leaf {
    chain: String,
    key: String,
}

impl Leaf {
    pub(crate) fn of(issuer: &Issuer, name: &str) -> Self {
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, issuer).unwrap();
        Self { chain: certificate.pem(), key: key.serialize_pem() }
    }

    fn der(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(self.chain.as_bytes()).unwrap()
    }

    fn private(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from_pem_slice(self.key.as_bytes()).unwrap()
    }
}

pub(crate) fn tls(issuer: &Issuer, shown: &Leaf) -> Tls {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(issuer.der().clone()).unwrap();
    Tls::with_identities(vec![shown.der(), issuer.der().clone()], shown.private(), roots).unwrap()
}

/// Knows certificates by what they are, byte for byte.
#[derive(Debug)]
pub(crate) struct Porter {
    known: Mutex<BTreeMap<Bytes, Identity>>,
    revoked: watch::Sender<u64>,
}

impl Porter {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { known: Mutex::default(), revoked: watch::Sender::new(0) })
    }

    pub(crate) fn knows(&self, leaf: &Leaf, name: &str) {
        let identity = Identity { kind: Kind::Agent, name: name.parse().unwrap() };
        self.known.lock().unwrap().insert(leaf.der().to_vec().into(), identity);
    }

    fn forgets(&self, leaf: &Leaf) {
        self.known.lock().unwrap().remove(leaf.der().as_ref());
        self.revoked.send_modify(|times| *times += 1);
    }
}

impl Doorman for Porter {
    fn admit(&self, peer: &Peer, _: Service) -> Result<Option<Identity>, Close> {
        let Some(shown) = &peer.certificate else { return Ok(None) };
        let known = self.known.lock().unwrap().get(shown).cloned();
        known.map(Some).ok_or_else(|| Close::invalid("it was revoked"))
    }

    fn revoked(&self) -> watch::Receiver<u64> {
        self.revoked.subscribe()
    }
}

async fn guarded(tls: Tls, porter: &Arc<Porter>) -> World {
    let porter = Arc::clone(porter);
    let world = World::guarded(Limits::default(), Some(tls), Some(porter)).await;
    world.resources.replace(&clusters(), "1", named(&[("a", "1")]));
    world
}

pub(crate) async fn connect(world: &World, trusts: &str, shows: Option<&Leaf>) -> Option<Channel> {
    let mut config = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(trusts))
        .domain_name("controller.test");
    if let Some(Leaf { chain, key }) = shows {
        config = config.identity(tonic::transport::Identity::from_pem(chain, key));
    }
    let endpoint = Endpoint::from_shared(format!("https://{}", world.address)).unwrap();
    in_time(endpoint.tls_config(config).unwrap().connect()).await.ok()
}

#[tokio::test]
async fn who_is_nobody_is_served_health_alone() {
    let ours = issuer();
    let world = guarded(tls(&ours, &Leaf::of(&ours, "controller.test")), &Porter::new()).await;
    let channel = connect(&world, &ours.pem(), None).await.unwrap();
    let mut health = HealthClient::new(channel.clone());
    in_time(health.check(HealthCheckRequest::default())).await.unwrap();

    let refused = Delta::open(channel.clone(), "vm-1", &clusters()).await.err().unwrap();
    assert_status(&refused, Code::Unauthenticated, "crossfade token create");
    let mut loads = load::LoadReportingServiceClient::new(channel);
    let nothing = tokio_stream::iter(Vec::<LoadStatsRequest>::new());
    let refused = in_time(loads.stream_load_stats(nothing)).await.unwrap_err();
    assert_status(&refused, Code::Unauthenticated, "crossfade token create");
    assert_eq!(world.meter.counts().bad["stranger"], 2);
    assert_eq!(world.meter.counts().opened, 0);
}

#[tokio::test]
async fn a_client_is_who_its_certificate_says() {
    let (ours, theirs) = (issuer(), issuer());
    let (one, porter) = (Leaf::of(&ours, "vm-1"), Porter::new());
    porter.knows(&one, "vm-1");
    let world = guarded(tls(&ours, &Leaf::of(&ours, "controller.test")), &porter).await;
    let channel = connect(&world, &ours.pem(), Some(&one)).await.unwrap();

    let mut fine =
        Delta::open_as(channel.clone(), node("vm-1", Some("agent")), &clusters()).await.unwrap();
    assert_eq!(fine.took().await.len(), 1);
    let sink = world.sink("vm-1", |_| true).await;
    assert_eq!(sink.client.identity.as_ref().unwrap().name.as_str(), "vm-1");

    for (id, role, words) in [
        ("vm-2", "agent", "node.id must be"),
        ("vm-1", "gateway", "may not say crossfade.role `gateway`"),
    ] {
        let mut other =
            Delta::open_as(channel.clone(), node(id, Some(role)), &clusters()).await.unwrap();
        assert_status(&other.end().await, Code::PermissionDenied, words);
    }
    let mut loads = load::LoadReportingServiceClient::new(channel);
    let as_another = LoadStatsRequest { node: Some(node("vm-2", None)), cluster_stats: Vec::new() };
    let mut answers = in_time(loads.stream_load_stats(tokio_stream::iter([as_another])))
        .await
        .unwrap()
        .into_inner();
    let refused = in_time(answers.message()).await.unwrap_err();
    assert_status(&refused, Code::PermissionDenied, "node.id must be");

    let foreign = Leaf::of(&theirs, "vm-1");
    let opened = match connect(&world, &ours.pem(), Some(&foreign)).await {
        None => false,
        Some(channel) => Delta::open(channel, "vm-1", &clusters()).await.is_ok(),
    };
    assert!(!opened, "a certificate of another CA");
    until(|| world.meter.counts().bad["handshake"] == 1).await;
}

#[tokio::test]
async fn who_is_revoked_is_cut_off_and_nobody_else() {
    let (ours, porter) = (issuer(), Porter::new());
    let (one, two) = (Leaf::of(&ours, "vm-1"), Leaf::of(&ours, "vm-2"));
    porter.knows(&one, "vm-1");
    porter.knows(&two, "vm-2");
    let world = guarded(tls(&ours, &Leaf::of(&ours, "controller.test")), &porter).await;
    let mut streams = Vec::new();
    for (leaf, name) in [(&one, "vm-1"), (&two, "vm-2")] {
        let channel = connect(&world, &ours.pem(), Some(leaf)).await.unwrap();
        let mut stream =
            Delta::open_as(channel, node(name, Some("agent")), &clusters()).await.unwrap();
        assert_eq!(stream.took().await.len(), 1);
        streams.push(stream);
    }
    porter.forgets(&one);
    streams[0].end().await;
    until(|| world.meter.counts().connections == 1).await;
    world.resources.replace(&clusters(), "2", named(&[("a", "2")]));
    assert_eq!(streams[1].took().await, [("a".to_owned(), "2".to_owned())]);

    let channel = connect(&world, &ours.pem(), Some(&one)).await.unwrap();
    let refused = Delta::open(channel, "vm-1", &clusters()).await.err().unwrap();
    assert_status(&refused, Code::InvalidArgument, "it was revoked");
}

#[tokio::test]
async fn a_new_certificate_is_shown_to_whoever_comes() {
    let (before, after) = (issuer(), issuer());
    let tls = tls(&before, &Leaf::of(&before, "controller.test"));
    let world = guarded(tls.clone(), &Porter::new()).await;
    let first = connect(&world, &before.pem(), None).await.unwrap();
    let new = Leaf::of(&after, "controller.test");

    let other_key = Leaf::of(&after, "controller.test").private();
    assert!(tls.renew(vec![new.der()], other_key).is_err());
    assert!(connect(&world, &before.pem(), None).await.is_some(), "the old one stayed");

    tls.renew(vec![new.der()], new.private()).unwrap();
    assert!(connect(&world, &before.pem(), None).await.is_none());
    assert!(connect(&world, &after.pem(), None).await.is_some());
    let mut health = HealthClient::new(first);
    in_time(health.check(HealthCheckRequest::default())).await.expect("the first goes on");
}
