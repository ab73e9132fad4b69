//! A machine, as it calls its controller.

use std::time::Duration;

use base64::Engine as _;
use proto::crossfade::v1 as wire;
use proto::crossfade::v1::enroll_service_client::EnrollServiceClient;
use proto::crossfade::v1::report_service_client::ReportServiceClient;
use proto::envoy::config::core::v3::Node;
use proto::google::protobuf::value::Kind;
use proto::google::protobuf::{Struct, Value};
use rcgen::{CertificateParams, KeyPair, SigningKey as _};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Status, Streaming};
use x509_parser::extensions::GeneralName;

use crate::world::{World, wait};

/// A machine with a certificate.
#[derive(Debug)]
pub(crate) struct Vm {
    pub(crate) name: String,
    key: KeyPair,
    certificate: Vec<u8>,
}

pub(crate) fn key() -> KeyPair {
    KeyPair::generate().unwrap()
}

/// A request whose names mean nothing.
pub(crate) fn request(key: &KeyPair) -> Vec<u8> {
    let params = CertificateParams::new(vec!["controller.crossfade.internal".to_owned()]).unwrap();
    params.serialize_request(key).unwrap().der().to_vec()
}

/// A request of a key that is not taken.
pub(crate) fn weak_request() -> Vec<u8> {
    request(&KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap())
}

#[expect(clippy::disallowed_methods, reason = "the machine's own clock")]
pub(crate) fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    u64::try_from(since.as_millis()).unwrap()
}

fn pem(der: &[u8]) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
}

pub(crate) async fn channel(world: &World, shows: Option<&Vm>) -> Result<Channel, Status> {
    let mut config = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(pem(world.authority.ca_der())))
        .domain_name(world.authority.trust_domain().controller_name());
    if let Some(vm) = shows {
        config = config.identity(Identity::from_pem(pem(&vm.certificate), vm.key.serialize_pem()));
    }
    let endpoint = Endpoint::from_shared(format!("https://{}", world.address)).unwrap();
    let connected = wait(endpoint.tls_config(config).unwrap().connect()).await;
    connected.map_err(|error| Status::unknown(format!("{error:?}")))
}

pub(crate) async fn enrol(
    world: &World,
    token: &str,
    request: Vec<u8>,
    now_ms: u64,
) -> Result<wire::Issued, Status> {
    let mut client = EnrollServiceClient::new(channel(world, None).await?);
    let asked = wire::EnrollRequest { token: token.to_owned(), request: request.into(), now_ms };
    Ok(wait(client.enroll(asked)).await?.into_inner())
}

/// A stream of reports of somebody who shows no certificate.
pub(crate) async fn report_of_nobody(
    world: &World,
) -> Result<Streaming<wire::ReportResponse>, Status> {
    report(channel(world, None).await?, "vm-1", AGENT, wire::ReportRequest::default()).await
}

/// What an agent says that it is.
const AGENT: &[(&str, &str)] = &[("role", "agent")];

async fn report(
    channel: Channel,
    name: &str,
    says: &[(&str, &str)],
    what: wire::ReportRequest,
) -> Result<Streaming<wire::ReportResponse>, Status> {
    let fields = says.iter().map(|(key, text)| {
        let kind = Some(Kind::StringValue((*text).to_owned()));
        (format!("crossfade.{key}"), Value { kind })
    });
    let metadata = Some(Struct { fields: fields.collect() });
    let node = Node { id: name.to_owned(), metadata, ..Node::default() };
    let first = wire::ReportRequest { node: Some(node), ..what };
    // Something every second, as machines do.
    let every = tokio::time::interval(Duration::from_secs(1));
    let stream = futures::stream::unfold((Some(first), every), |(first, mut every)| async move {
        every.tick().await;
        Some((first.unwrap_or_default(), (None, every)))
    });
    Ok(wait(ReportServiceClient::new(channel).report(stream)).await?.into_inner())
}

impl Vm {
    pub(crate) async fn enrol(world: &World, token: &str) -> Result<Self, Status> {
        let key = key();
        let issued = enrol(world, token, request(&key), now_ms()).await?;
        assert_eq!(issued.authorities, [world.authority.ca_der().to_vec()]);
        Ok(Self { name: issued.name, key, certificate: issued.chain[0].to_vec() })
    }

    pub(crate) async fn renew(&self, world: &World, key: &KeyPair) -> Result<Self, Status> {
        let mut parts = Parts::new(world, self).await;
        parts.request = request(key);
        let issued = parts.signed_by(self).send(world).await?;
        let key = KeyPair::from_pem(&key.serialize_pem()).unwrap();
        Ok(Self { name: issued.name, key, certificate: issued.chain[0].to_vec() })
    }

    /// The same, by a name that it has not.
    pub(crate) fn called(self, name: &str) -> Self {
        Self { name: name.to_owned(), ..self }
    }

    /// Opens a stream of reports with its certificate.
    pub(crate) async fn report(
        &self,
        world: &World,
    ) -> Result<Streaming<wire::ReportResponse>, Status> {
        self.report_as(world, AGENT, wire::ReportRequest::default()).await
    }

    /// The same, saying that it is this, and reporting this.
    pub(crate) async fn report_as(
        &self,
        world: &World,
        says: &[(&str, &str)],
        what: wire::ReportRequest,
    ) -> Result<Streaming<wire::ReportResponse>, Status> {
        report(channel(world, Some(self)).await?, &self.name, says, what).await
    }

    /// Its only name for others.
    pub(crate) fn id(&self) -> String {
        let (_, parsed) = x509_parser::parse_x509_certificate(&self.certificate).unwrap();
        let names = parsed.subject_alternative_name().unwrap().unwrap();
        let [GeneralName::URI(id)] = names.value.general_names[..] else { panic!("{names:?}") };
        id.to_owned()
    }

    pub(crate) fn serial(&self) -> Vec<u8> {
        let (_, parsed) = x509_parser::parse_x509_certificate(&self.certificate).unwrap();
        parsed.raw_serial().to_vec()
    }
}

/// What a renewal brings.
#[derive(Clone)]
pub(crate) struct Parts {
    pub(crate) certificate: Vec<u8>,
    pub(crate) request: Vec<u8>,
    pub(crate) nonce: Vec<u8>,
    signature: Vec<u8>,
}

impl Parts {
    /// All as it should be, with a new key.
    pub(crate) async fn new(world: &World, vm: &Vm) -> Self {
        let mut client = EnrollServiceClient::new(channel(world, None).await.unwrap());
        let challenge = wait(client.challenge(wire::ChallengeRequest {})).await.unwrap();
        let parts = Self {
            certificate: vm.certificate.clone(),
            request: request(&key()),
            nonce: challenge.into_inner().nonce.to_vec(),
            signature: Vec::new(),
        };
        parts.signed_by(vm)
    }

    pub(crate) fn signed_by(&self, vm: &Vm) -> Self {
        let message = [&b"crossfade-renew\0"[..], &self.nonce, &self.request].concat();
        Self { signature: vm.key.sign(&message).unwrap(), ..self.clone() }
    }

    /// With another's certificate, signed by it.
    pub(crate) fn of(&self, vm: &Vm) -> Self {
        Self { certificate: vm.certificate.clone(), ..self.signed_by(vm) }
    }

    /// With the key that it has already.
    pub(crate) fn again(&self, vm: &Vm) -> Self {
        Self { request: request(&vm.key), ..self.clone() }.signed_by(vm)
    }

    pub(crate) fn with(&self, change: impl FnOnce(&mut Self)) -> Self {
        let mut parts = self.clone();
        change(&mut parts);
        parts
    }

    pub(crate) async fn send(&self, world: &World) -> Result<wire::Issued, Status> {
        let mut client = EnrollServiceClient::new(channel(world, None).await?);
        let asked = wire::RenewRequest {
            certificate: self.certificate.clone().into(),
            request: self.request.clone().into(),
            nonce: self.nonce.clone().into(),
            signature: self.signature.clone().into(),
        };
        Ok(wait(client.renew(asked)).await?.into_inner())
    }
}
