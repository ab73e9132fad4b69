//! Whether who answers is the controller, and nobody else.
//!
//! A machine that joins has the pin of the CA: the server must present that CA's certificate and
//! one signed by it. Later it has the CA itself. In both cases the server's certificate must be the
//! controller's own: no other machine of the same CA may speak for it.
//!
//! Whether the certificate is valid *now* is judged apart from that ([`Verdict::timely`]), since it
//! may be our clock that is wrong.

use std::sync::{Arc, OnceLock};

use plan::Timestamp;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use xds::join::{Pin, server_name};

use super::Identity;
use super::certificate::Facts;

/// The most certificates of a chain that are looked at.
const CHAIN_MAX: usize = 8;

/// By what the controller is known.
#[derive(Clone, Debug)]
pub(super) enum Trust {
    /// By its CA's pin.
    Pin(Pin),
    /// By its CA.
    Authorities {
        /// The CA's certificates.
        ca: Vec<CertificateDer<'static>>,
        /// Our trust domain, which is its own.
        trust_domain: String,
    },
}

/// It is the controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    /// Whether its certificate is valid now, by our clock.
    pub(super) timely: bool,
    /// Its trust domain.
    pub(super) trust_domain: String,
}

/// It is not the controller, or not known to be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Distrust {
    /// Another CA, or one that was not presented.
    #[error(
        "it presents no CA with the token's pin {wanted}{}: the token is of another controller, or \
         somebody stands between",
        presented(shown)
    )]
    Pin {
        /// The token's.
        wanted: Pin,
        /// Those of the certificates that it presented after its own.
        shown: Vec<Pin>,
    },
    /// Not signed by the CA.
    #[error("its certificate is not signed by the controller's CA: {0}")]
    Unsigned(String),
    /// Signed, and another's.
    #[error("its certificate is not the controller's but of {0}")]
    Another(String),
    /// No certificate that can be read.
    #[error("its certificate cannot be read")]
    Unreadable,
}

fn presented(shown: &[Pin]) -> String {
    match shown {
        [] => " (it presents no CA at all)".to_owned(),
        shown => {
            let shown: Vec<String> = shown.iter().map(Pin::to_string).collect();
            format!(" (it presents {})", shown.join(", "))
        }
    }
}

impl Trust {
    /// By the CA that an identity came with.
    pub(super) fn of(identity: &Identity) -> Self {
        let Identity { ca, trust_domain, .. } = identity;
        Self::Authorities { ca: ca.clone(), trust_domain: trust_domain.clone() }
    }

    /// Judges the chain that a server presents, its own certificate first.
    fn judge(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        now: Timestamp,
    ) -> Result<Verdict, Distrust> {
        let facts = Facts::read(leaf).ok_or(Distrust::Unreadable)?;
        let roots = self.roots(rest)?;
        let unsigned = |error: rustls::Error| Distrust::Unsigned(error.to_string());
        let parsed = ParsedCertificate::try_from(leaf).map_err(unsigned)?;
        let at = facts.nearest(now);
        let algorithms = algorithms();
        verify_server_cert_signed_by_trust_anchor(&parsed, &roots, rest, at, algorithms.all)
            .map_err(unsigned)?;
        let another = || Distrust::Another(format!("`{}`", facts.uris.join("`, `")));
        let (domain, path) = facts.spiffe().ok_or_else(another)?;
        let ours = match self {
            Self::Pin(_) => true,
            Self::Authorities { trust_domain, .. } => trust_domain == domain,
        };
        let name = ServerName::try_from(server_name(domain)).map_err(|_| another())?;
        if path != "controller" || !ours || verify_server_name(&parsed, &name).is_err() {
            return Err(another());
        }
        Ok(Verdict { timely: facts.is_valid(now), trust_domain: domain.to_owned() })
    }

    /// Whether the key by which the controller is known is among those of these CAs: a CA changes
    /// by being there together with the next one for a while.
    pub(super) fn goes_on_in(&self, authorities: &[CertificateDer<'_>]) -> bool {
        let pin = |der: &CertificateDer<'_>| Facts::read(der).map(|it| Pin::of(&it.public_key));
        let known: Vec<Pin> = match self {
            Self::Pin(pin) => vec![*pin],
            Self::Authorities { ca, .. } => ca.iter().filter_map(pin).collect(),
        };
        authorities.iter().filter_map(pin).any(|pin| known.contains(&pin))
    }

    /// What it may be signed by.
    fn roots(&self, presented: &[CertificateDer<'_>]) -> Result<RootCertStore, Distrust> {
        let mut roots = RootCertStore::empty();
        match self {
            Self::Authorities { ca, .. } => {
                roots.add_parsable_certificates(ca.iter().cloned());
            }
            Self::Pin(wanted) => {
                let mut shown = Vec::new();
                for certificate in presented.iter().take(CHAIN_MAX) {
                    let facts = Facts::read(certificate).ok_or(Distrust::Unreadable)?;
                    let pin = Pin::of(&facts.public_key);
                    if pin == *wanted {
                        roots.add_parsable_certificates([certificate.clone().into_owned()]);
                    }
                    shown.push(pin);
                }
                if roots.is_empty() {
                    return Err(Distrust::Pin { wanted: *wanted, shown });
                }
            }
        }
        Ok(roots)
    }
}

fn algorithms() -> WebPkiSupportedAlgorithms {
    rustls::crypto::ring::default_provider().signature_verification_algorithms
}

/// Asks [`Trust`] during a handshake, and keeps what it said.
#[derive(Debug)]
pub(super) struct Verifier {
    trust: Trust,
    now: Timestamp,
    said: OnceLock<Result<Verdict, Distrust>>,
}

impl Verifier {
    pub(super) fn new(trust: Trust, now: Timestamp) -> Arc<Self> {
        Arc::new(Self { trust, now, said: OnceLock::new() })
    }

    /// What was said of the server; `None` where it came to no judgement.
    pub(super) fn said(&self) -> Option<Result<Verdict, Distrust>> {
        self.said.get().cloned()
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let said = self.said.get_or_init(|| self.trust.judge(end_entity, intermediates, self.now));
        match said {
            Ok(_) => Ok(ServerCertVerified::assertion()),
            Err(_) => Err(CertificateError::ApplicationVerificationFailure.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &algorithms())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &algorithms())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        algorithms().supported_schemes()
    }
}
