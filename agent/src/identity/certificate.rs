//! Reading certificates: what is in them, and whether they go together.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use plan::Timestamp;
use rustls::RootCertStore;
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::{CertificateDer, UnixTime};
use x509_parser::extensions::GeneralName;
use xds::join::Kind;

use super::Identity;
use super::key::Key;

/// The longest certificate that is read, in bytes: those of controllers are some hundred.
const DER_MAX: usize = 16 << 10;

/// The most certificates of a chain, and of CAs.
const CERTIFICATES_MAX: usize = 8;

/// What a SPIFFE ID begins with.
const SCHEME: &str = "spiffe://";

/// Certificates that cannot be an identity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// Too many, or none.
    #[error("there must be 1 to 8 certificates in the chain, and as many of CAs")]
    Number,
    /// No certificate.
    #[error("a certificate cannot be read")]
    Unreadable,
    /// Of another key.
    #[error("the certificate is not of this machine's key")]
    Key,
    /// Its SPIFFE ID is none of a machine.
    #[error(
        "the certificate names no machine; it must have the one URI spiffe://DOMAIN/agent/NAME or \
         spiffe://DOMAIN/gateway/GATEWAY/NAME"
    )]
    Name,
    /// Signed by somebody else.
    #[error("the certificate is not signed by the CA that came with it: {0}")]
    Unsigned(String),
}

/// What of a certificate matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    /// The URIs it is for.
    pub(super) uris: Vec<String>,
    /// SubjectPublicKeyInfo in DER.
    pub(super) public_key: Vec<u8>,
    pub(super) not_before: Timestamp,
    pub(super) not_after: Timestamp,
}

impl Facts {
    /// Reads a certificate in DER.
    pub(super) fn read(der: &[u8]) -> Option<Self> {
        if der.len() > DER_MAX {
            return None;
        }
        let (rest, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
        if !rest.is_empty() {
            return None;
        }
        let names = certificate.subject_alternative_name().ok()?;
        let uri = |name: &GeneralName<'_>| {
            let GeneralName::URI(uri) = name else { return None };
            Some((*uri).to_owned())
        };
        let moment = |seconds: i64| Timestamp::from_millis(seconds.saturating_mul(1_000));
        let validity = certificate.validity();
        Some(Self {
            uris: names
                .iter()
                .flat_map(|names| &names.value.general_names)
                .filter_map(uri)
                .collect(),
            public_key: certificate.public_key().raw.to_vec(),
            not_before: moment(validity.not_before.timestamp()),
            not_after: moment(validity.not_after.timestamp()),
        })
    }

    /// Trust domain and path of its SPIFFE ID, of which it must have exactly one (SPIFFE X.509-SVID
    /// section 2).
    pub(super) fn spiffe(&self) -> Option<(&str, &str)> {
        let [uri] = self.uris.as_slice() else { return None };
        uri.strip_prefix(SCHEME)?.split_once('/')
    }

    /// The moment within its validity that is nearest to this one.
    pub(super) fn nearest(&self, now: Timestamp) -> UnixTime {
        let valid = now.clamp(self.not_before, self.not_after.max(self.not_before));
        UnixTime::since_unix_epoch(Duration::from_millis(
            u64::try_from(valid.millis()).unwrap_or(0),
        ))
    }

    pub(super) fn is_valid(&self, now: Timestamp) -> bool {
        (self.not_before..=self.not_after).contains(&now)
    }
}

impl Identity {
    /// An identity of certificates that were issued for this key. Whether it has expired is not
    /// looked at.
    ///
    /// # Errors
    /// They do not go together, or are not a machine's.
    pub fn of(
        chain: Vec<CertificateDer<'static>>,
        key: Key,
        ca: Vec<CertificateDer<'static>>,
    ) -> Result<Self, Unfit> {
        let number = 1..=CERTIFICATES_MAX;
        if !number.contains(&chain.len()) || !number.contains(&ca.len()) {
            return Err(Unfit::Number);
        }
        if ca.iter().any(|ca| Facts::read(ca).is_none()) {
            return Err(Unfit::Unreadable);
        }
        let (leaf, between) = chain.split_first().ok_or(Unfit::Number)?;
        let facts = Facts::read(leaf).ok_or(Unfit::Unreadable)?;
        if facts.public_key != key.public() {
            return Err(Unfit::Key);
        }
        let (domain, path) = facts.spiffe().ok_or(Unfit::Name)?;
        let (kind, name) = Kind::of_path(path).ok_or(Unfit::Name)?;
        let trust_domain = domain.to_owned();
        signed(leaf, between, &ca, facts.nearest(facts.not_before))
            .map_err(|error| Unfit::Unsigned(error.to_string()))?;
        let (not_before, not_after) = (facts.not_before, facts.not_after);
        Ok(Self { kind, name, trust_domain, chain, key, ca, not_before, not_after })
    }
}

/// Whether one of these signed it, for a client.
fn signed(
    leaf: &CertificateDer<'static>,
    between: &[CertificateDer<'static>],
    ca: &[CertificateDer<'static>],
    at: UnixTime,
) -> Result<(), rustls::Error> {
    let mut roots = RootCertStore::empty();
    for ca in ca {
        roots.add(ca.clone())?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|error| rustls::Error::General(error.to_string()))?;
    verifier.verify_client_cert(leaf, between, at).map(drop)
}

/// PEM of certificates, in their order (RFC 7468).
pub(super) fn pem(certificates: &[CertificateDer<'static>]) -> String {
    certificates.iter().map(|certificate| pem_of("CERTIFICATE", certificate)).collect()
}

/// PEM of something with this label.
pub(super) fn pem_of(label: &str, der: &[u8]) -> String {
    let encoded = STANDARD.encode(der);
    let mut text = format!("-----BEGIN {label}-----\n");
    let mut rest = encoded.as_str();
    while let Some((line, after)) = rest.split_at_checked(rest.len().min(64))
        && !line.is_empty()
    {
        text.push_str(line);
        text.push('\n');
        rest = after;
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}
