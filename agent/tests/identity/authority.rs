//! A small honest authority: tokens that work once, proofs that are checked, clones that are seen.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use plan::{Digest, Timestamp};
use proto::crossfade::v1 as wire;
use proto::crossfade::v1::enroll_service_server::EnrollService;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, PublicKeyData as _, SanType,
};
use rustls::crypto::ring::default_provider;
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer, alg_id};
use tokio::sync::watch;
use tonic::{Request, Response, Status};
use xds::Close;
use xds::join::{Kind, Pin, Ticket};
use xds::server::{Doorman, Identity, Peer, Service};

pub(crate) const DOMAIN: &str = "crossfade.test";
pub(crate) const DAY: Duration = Duration::from_secs(24 * 3_600);

pub(crate) type Issuer = CertifiedIssuer<'static, KeyPair>;

pub(crate) fn issuer() -> Issuer {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "test CA");
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

pub(crate) fn pin(issuer: &Issuer) -> Pin {
    Pin::of(&issuer.key().subject_public_key_info())
}

/// A certificate for these names, for a day from just before `now`.
pub(crate) fn certificate(
    issuer: &Issuer,
    key: &impl rcgen::PublicKeyData,
    (uri, dns): (&str, Option<&str>),
    now: Timestamp,
) -> CertificateDer<'static> {
    let mut params = CertificateParams::new(dns.map(str::to_owned).into_iter().collect::<Vec<_>>());
    let params = params.as_mut().unwrap();
    params.subject_alt_names.push(SanType::URI(uri.try_into().unwrap()));
    let moment = |seconds: u64| rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds);
    let now = u64::try_from(now.millis()).unwrap() / 1_000;
    params.not_before = moment(now - 60);
    params.not_after = moment(now + DAY.as_secs());
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
    params.signed_by(key, issuer).unwrap().der().clone()
}

/// How an answer is spoiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spoil {
    /// What was done is done, and nobody hears of it.
    Lost,
    NoChain,
    NoAuthority,
    NoCertificate,
    ManyCertificates,
    OtherKey,
    OtherName,
    OtherKind,
    OtherDomain,
    OtherAuthority,
    Expired,
    NotYet,
    TwoNames,
    Long,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) now: i64,
    /// By the secret's digest: the machine, and the key that it was used for.
    pub(crate) tokens: BTreeMap<Digest, (String, Option<Vec<u8>>)>,
    /// By machine: its newest key, and the one before.
    pub(crate) machines: BTreeMap<String, (Vec<u8>, Vec<u8>)>,
    pub(crate) frozen: BTreeSet<String>,
    /// Machines that are no agents.
    pub(crate) gateways: BTreeMap<String, Kind>,
    nonces: BTreeSet<Vec<u8>>,
    pub(crate) spoil: Option<Spoil>,
    /// The tokens that were shown to it.
    pub(crate) shown: usize,
}

#[derive(Clone)]
pub(crate) struct Authority {
    pub(crate) issuer: Arc<Issuer>,
    pub(crate) state: Arc<Mutex<State>>,
    pub(crate) revoked: watch::Sender<u64>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Authority")
    }
}

impl Authority {
    pub(crate) fn new(now: Timestamp) -> Self {
        let state = State { now: now.millis(), ..State::default() };
        Self {
            issuer: Arc::new(issuer()),
            state: Arc::new(Mutex::new(state)),
            revoked: watch::Sender::new(0),
        }
    }

    pub(crate) fn with<T>(&self, then: impl FnOnce(&mut State) -> T) -> T {
        then(&mut self.state.lock().unwrap())
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.with(|state| state.now))
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.now().millis()).unwrap()
    }

    fn issue(&self, name: &str, key: &rcgen::PublicKey) -> Result<Response<wire::Issued>, Status> {
        let spoil = self.with(|state| state.spoil.take());
        let kind = self.with(|state| state.gateways.get(name).cloned().unwrap_or_default());
        let path = |kind: &Kind| format!("spiffe://{DOMAIN}/{}", kind.path(&name.parse().unwrap()));
        let uri = path(&kind);
        let now = self.now();
        let ca = self.issuer.der().to_vec();
        let other = KeyPair::generate().unwrap();
        let fine = certificate(&self.issuer, key, (&uri, None), now);
        let theirs = issuer();
        let at = |now| certificate(&self.issuer, key, (&uri, None), now);
        let named = |uri: &str, dns| certificate(&self.issuer, key, (uri, dns), now);
        let (chain, authorities) = match spoil {
            None => (vec![fine], vec![ca]),
            Some(Spoil::Lost) => return Err(Status::unavailable("the answer was lost")),
            Some(Spoil::NoChain) => (vec![], vec![ca]),
            Some(Spoil::NoAuthority) => (vec![fine], vec![]),
            Some(Spoil::NoCertificate) => (vec![vec![1, 2, 3].into()], vec![ca]),
            Some(Spoil::ManyCertificates) => (vec![fine; 9], vec![ca]),
            Some(Spoil::OtherKey) => {
                (vec![certificate(&self.issuer, &other, (&uri, None), now)], vec![ca])
            }
            Some(Spoil::OtherName) => {
                (vec![named(&format!("spiffe://{DOMAIN}/agent/other"), None)], vec![ca])
            }
            Some(Spoil::OtherKind) => {
                let other = Kind::Gateway("other".parse().unwrap());
                let other = if kind.is_agent() { other } else { Kind::Agent };
                (vec![named(&path(&other), None)], vec![ca])
            }
            Some(Spoil::OtherDomain) => {
                (vec![named(&format!("spiffe://other.test/agent/{name}"), None)], vec![ca])
            }
            Some(Spoil::OtherAuthority) => {
                let chain = vec![certificate(&theirs, key, (&uri, None), now)];
                (chain, vec![theirs.der().to_vec()])
            }
            Some(Spoil::Expired) => {
                (vec![at(Timestamp::from_millis(now.millis() - 90_000_000))], vec![ca])
            }
            Some(Spoil::NotYet) => (vec![at(now.after(DAY))], vec![ca]),
            Some(Spoil::TwoNames) => {
                let mut params = CertificateParams::new(Vec::new()).unwrap();
                let uri = SanType::URI(uri.as_str().try_into().unwrap());
                params.subject_alt_names = vec![uri.clone(), uri];
                (vec![params.signed_by(key, &*self.issuer).unwrap().der().clone()], vec![ca])
            }
            Some(Spoil::Long) => (vec![fine], vec![vec![0; 1 << 20]]),
        };
        Ok(Response::new(wire::Issued {
            chain: chain.iter().map(|der| der.to_vec().into()).collect(),
            authorities: authorities.into_iter().map(Into::into).collect(),
            name: name.to_owned(),
            now_ms: self.now_ms(),
        }))
    }
}

fn requested(der: &[u8]) -> Result<rcgen::PublicKey, Status> {
    let der = CertificateSigningRequestDer::from(der.to_vec());
    let request = CertificateSigningRequestParams::from_der(&der);
    Ok(request.map_err(|_| Status::invalid_argument("no request"))?.public_key)
}

/// The machine and the public key of a certificate that this CA signed.
fn certified(issuer: &Issuer, der: &[u8]) -> Option<(String, Vec<u8>, Vec<u8>)> {
    let (_, read) = x509_parser::parse_x509_certificate(der).ok()?;
    let algorithms = default_provider().signature_verification_algorithms;
    let ca = issuer.key().public_key_raw();
    let (message, signature) = (read.tbs_certificate.as_ref(), &read.signature_value.data);
    verified(&algorithms, ca, message, signature).then_some(())?;
    let names = read.subject_alternative_name().ok()??;
    let ours = format!("spiffe://{DOMAIN}/");
    let name = names.value.general_names.iter().find_map(|name| {
        let x509_parser::extensions::GeneralName::URI(uri) = name else { return None };
        Kind::of_path(uri.strip_prefix(&ours)?).map(|(_, name)| name.to_string())
    });
    let key = read.public_key();
    Some((name?, key.raw.to_vec(), key.subject_public_key.data.to_vec()))
}

fn verified(
    algorithms: &rustls::crypto::WebPkiSupportedAlgorithms,
    point: &[u8],
    message: &[u8],
    signature: &[u8],
) -> bool {
    let ours = algorithms.all.iter().find(|algorithm| {
        algorithm.public_key_alg_id() == alg_id::ECDSA_P256
            && algorithm.signature_alg_id() == alg_id::ECDSA_SHA256
    });
    ours.unwrap().verify_signature(point, message, signature).is_ok()
}

#[tonic::async_trait]
impl EnrollService for Authority {
    async fn enroll(
        &self,
        request: Request<wire::EnrollRequest>,
    ) -> Result<Response<wire::Issued>, Status> {
        assert!(request.extensions().get::<Peer>().is_some_and(|peer| peer.certificate.is_none()));
        let asked = request.into_inner();
        let key = requested(&asked.request)?;
        let info = key.subject_public_key_info();
        let ticket: Ticket =
            asked.token.parse().map_err(|_| Status::permission_denied("no token"))?;
        let name = self.with(|state| {
            state.shown += 1;
            let token = state.tokens.get_mut(&ticket.secret.digest());
            let (name, used) = token.ok_or_else(|| Status::permission_denied("no such token"))?;
            match used {
                Some(used) if *used != info => {
                    return Err(Status::already_exists("the token was used already"));
                }
                _ => *used = Some(info.clone()),
            }
            state.machines.insert(name.clone(), (info.clone(), Vec::new()));
            Ok(name.clone())
        })?;
        self.issue(&name, &key)
    }

    async fn challenge(
        &self,
        _: Request<wire::ChallengeRequest>,
    ) -> Result<Response<wire::ChallengeResponse>, Status> {
        let nonce = KeyPair::generate().unwrap().public_key_raw().to_vec();
        self.with(|state| state.nonces.insert(nonce.clone()));
        Ok(Response::new(wire::ChallengeResponse { nonce: nonce.into(), now_ms: self.now_ms() }))
    }

    async fn renew(
        &self,
        request: Request<wire::RenewRequest>,
    ) -> Result<Response<wire::Issued>, Status> {
        let asked = request.into_inner();
        let key = requested(&asked.request)?;
        let refused = |words: &str| Status::permission_denied(words);
        let (name, last, point) =
            certified(&self.issuer, &asked.certificate).ok_or_else(|| refused("not ours"))?;
        let message = [b"crossfade-renew\0", &*asked.nonce, &asked.request].concat();
        let algorithms = default_provider().signature_verification_algorithms;
        if !verified(&algorithms, &point, &message, &asked.signature) {
            return Err(refused("no proof"));
        }
        let info = key.subject_public_key_info();
        self.with(|state| {
            if !state.nonces.remove(&*asked.nonce) {
                return Err(refused("an old nonce"));
            }
            if state.frozen.contains(&name) {
                return Err(refused("the name is frozen: its key was copied"));
            }
            let (newest, before) =
                state.machines.get_mut(&name).ok_or_else(|| refused("nobody"))?;
            if *newest == last && info != last {
                (*before, *newest) = (last, info.clone());
            } else if !(*before == last && *newest == info) {
                state.frozen.insert(name.clone());
                return Err(refused("the name is frozen: its key was copied"));
            }
            Ok(())
        })?;
        self.issue(&name, &key)
    }
}

impl Doorman for Authority {
    fn admit(&self, peer: &Peer, _: Service) -> Result<Option<Identity>, Close> {
        let Some(shown) = &peer.certificate else { return Ok(None) };
        let found = certified(&self.issuer, shown);
        let (name, key, _) = found.ok_or_else(|| Close::invalid("not ours"))?;
        let is = |keys: &(Vec<u8>, Vec<u8>)| keys.0 == key;
        if self.with(|state| !state.machines.get(&name).is_some_and(is)) {
            return Err(Close::invalid("not the newest"));
        }
        Ok(Some(Identity { kind: Kind::Agent, name: name.parse().unwrap() }))
    }

    fn revoked(&self) -> watch::Receiver<u64> {
        self.revoked.subscribe()
    }
}
