//! TLS: who shows no certificate of ours is not served.

use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use xds::Resources;
use xds::server::{BindError, Clock, Limits, Server, Settings, Tls, TlsError};

use crate::world::{Delta, World, clusters, in_time, named, until};

type Issuer = CertifiedIssuer<'static, KeyPair>;

fn issuer() -> Issuer {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A certificate and its key.
fn leaf(issuer: &Issuer) -> (String, String) {
    let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, issuer).unwrap();
    (certificate.pem(), key.serialize_pem())
}

fn tls(issuer: &Issuer) -> Tls {
    let (chain, key) = leaf(issuer);
    Tls::from_pem(chain.as_bytes(), key.as_bytes(), issuer.pem().as_bytes()).unwrap()
}

async fn channel(world: &World, trusts: &Issuer, shows: Option<&Issuer>) -> Option<Channel> {
    let mut config = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(trusts.pem()))
        .domain_name("localhost");
    if let Some(issuer) = shows {
        let (chain, key) = leaf(issuer);
        config = config.identity(Identity::from_pem(chain, key));
    }
    let endpoint = Endpoint::from_shared(format!("https://{}", world.address)).unwrap();
    in_time(endpoint.tls_config(config).unwrap().connect()).await.ok()
}

/// Whether such a client gets what is served.
async fn is_served(world: &World, trusts: &Issuer, shows: Option<&Issuer>) -> bool {
    let Some(channel) = channel(world, trusts, shows).await else { return false };
    // With TLS 1.3 a client learns only afterwards that its certificate was refused.
    let Ok(mut client) = Delta::open(channel, "n", &clusters()).await else { return false };
    client.next().await.is_ok()
}

#[tokio::test]
async fn only_clients_with_a_certificate_of_ours_are_served() {
    let (ours, theirs) = (issuer(), issuer());
    let world = World::with(Limits::default(), Some(tls(&ours))).await;
    world.resources.replace(&clusters(), "1", named(&[("a", "1")]));
    assert!(!is_served(&world, &ours, None).await);
    assert!(!is_served(&world, &ours, Some(&theirs)).await);
    assert!(!is_served(&world, &theirs, Some(&ours)).await);
    assert_eq!(world.meter.counts().opened, 0);
    until(|| world.meter.counts().bad["handshake"] >= 3).await;
    assert!(is_served(&world, &ours, Some(&ours)).await);
}

#[tokio::test]
async fn a_handshake_that_does_not_come_is_not_waited_for() {
    let limits = Limits { handshake: Duration::from_millis(50), ..Limits::default() };
    let world = World::with(limits, Some(tls(&issuer()))).await;
    let mut silent = TcpStream::connect(world.address).await.unwrap();
    let _ = in_time(silent.read(&mut [0; 8])).await;
    until(|| world.meter.counts().connections == 0).await;
    assert_eq!(world.meter.counts().bad["handshake"], 1);
}

#[test]
fn an_open_address_needs_tls() {
    let settings = |listen: &str, tls| Settings {
        listen: vec![listen.parse().unwrap()],
        tls,
        doorman: None,
        rules: Resources::rules([clusters()]),
        limits: Limits::default(),
        clock: Clock::start(),
    };
    for open in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"] {
        let error = Server::bind(settings(open, None)).unwrap_err();
        assert!(matches!(error, BindError::Open(_)), "{open}: {error}");
        assert!(error.to_string().contains("certificate"), "{error}");
    }
    assert!(Server::bind(settings("127.0.0.1:0", None)).is_ok());
    assert!(Server::bind(settings("0.0.0.0:0", Some(tls(&issuer())))).is_ok());
}

#[test]
fn what_is_no_certificate_is_said() {
    let ours = issuer();
    let (chain, key) = leaf(&ours);
    let (_, other_key) = leaf(&ours);
    let read = |chain: &str, key: &str, clients: &str| {
        Tls::from_pem(chain.as_bytes(), key.as_bytes(), clients.as_bytes()).err()
    };
    assert!(matches!(read("", &key, &ours.pem()), Some(TlsError::Chain)));
    assert!(matches!(read(&chain, "x", &ours.pem()), Some(TlsError::Key)));
    assert!(matches!(read(&chain, &key, ""), Some(TlsError::Clients)));
    assert!(matches!(read(&chain, &other_key, &ours.pem()), Some(TlsError::Unfit(_))));
    assert!(read(&chain, &key, &ours.pem()).is_none());
}
