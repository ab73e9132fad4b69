//! Reading what machines send: requests and certificates, and the proofs that they have the keys.
//!
//! Only P-256 keys with SHA-256 are taken (RFC 5480 section 2.1.1, RFC 5758 section 3.2): one
//! algorithm, no choice to attack.

use plan::{Digest, Timestamp};
use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use rustls_pki_types::CertificateDer;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::GeneralName;
use x509_parser::oid_registry::{
    OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_SIG_ECDSA_WITH_SHA256,
};
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::x509::{AlgorithmIdentifier, SubjectPublicKeyInfo};
use xds::join::RENEW_PREFIX;

use super::book::{Held, Shown};
use super::{SKEW_MAX, Serial, TrustDomain};

/// The longest request or certificate that is read, in bytes; ours have some hundred.
const DER_BYTES_MAX: usize = 16 << 10;

/// A public key, as it is in certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PublicKey {
    /// SubjectPublicKeyInfo in DER.
    pub(super) info: Vec<u8>,
    /// The point, uncompressed.
    point: Vec<u8>,
}

impl PublicKey {
    fn read(info: &SubjectPublicKeyInfo<'_>) -> Option<Self> {
        let curve = info.algorithm.parameters.as_ref()?.as_oid().ok()?;
        let point = info.subject_public_key.data.as_ref();
        let is_p256 = info.algorithm.algorithm == OID_KEY_TYPE_EC_PUBLIC_KEY
            && curve == OID_EC_P256
            && point.len() == 65
            && point.first() == Some(&4);
        is_p256.then(|| Self { info: info.raw.to_vec(), point: point.to_vec() })
    }

    /// What is kept of it.
    pub(super) fn digest(&self) -> Digest {
        Digest::of(&self.info)
    }

    /// Whether this is its signature (ECDSA with SHA-256, ASN.1 DER) over the message.
    fn signed(&self, message: &[u8], signature: &[u8]) -> bool {
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &self.point);
        key.verify(message, signature).is_ok()
    }
}

/// The request is none that is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum RequestError {
    /// It is no PKCS #10.
    #[error("the certificate request cannot be read: it must be PKCS #10 in DER")]
    Malformed,
    /// Of another kind of key.
    #[error("the certificate request must be of a P-256 key, signed with ECDSA and SHA-256")]
    Algorithm,
    /// Whoever sent it has not the key.
    #[error("the certificate request is not signed by its own key")]
    Signature,
}

/// The key of a request (RFC 2986), proved to be its sender's. Names in it mean nothing.
pub(super) fn request(der: &[u8]) -> Result<PublicKey, RequestError> {
    let small = Some(der).filter(|der| der.len() <= DER_BYTES_MAX);
    let parsed = small.and_then(|der| X509CertificationRequest::from_der(der).ok());
    let Some((&[], request)) = parsed.as_ref().map(|(rest, request)| (*rest, request)) else {
        return Err(RequestError::Malformed);
    };
    let info = &request.certification_request_info;
    let key = PublicKey::read(&info.subject_pki).ok_or(RequestError::Algorithm)?;
    if !is_ecdsa(&request.signature_algorithm) {
        return Err(RequestError::Algorithm);
    }
    match key.signed(info.raw, &request.signature_value.data) {
        true => Ok(key),
        false => Err(RequestError::Signature),
    }
}

fn is_ecdsa(algorithm: &AlgorithmIdentifier<'_>) -> bool {
    algorithm.algorithm == OID_SIG_ECDSA_WITH_SHA256
}

/// The certificate is none of a machine of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum CertificateError {
    /// It is no certificate.
    #[error("the certificate cannot be read: it must be X.509 in DER")]
    Malformed,
    /// It was signed by another CA.
    #[error("the certificate is not of this controller's CA")]
    Foreign,
    /// It is for something else than a machine.
    #[error("the certificate is of this controller, yet not of a machine that has joined")]
    Other,
}

/// A certificate of a machine.
#[derive(Clone, Debug)]
pub(super) struct Leaf {
    /// Whose, and what is kept of it.
    pub(super) shown: Shown,
    key: PublicKey,
}

impl Leaf {
    /// Reads a certificate that TLS has verified, or that [`Leaf::proved`] verifies.
    pub(super) fn read(der: &[u8], domain: &TrustDomain) -> Result<Self, CertificateError> {
        certificate(der).and_then(|certificate| Self::of(&certificate, domain))
    }

    /// Reads a certificate and checks that this CA signed it. Whether it has expired is not
    /// looked at.
    pub(super) fn proved(
        der: &[u8],
        domain: &TrustDomain,
        authority: &PublicKey,
    ) -> Result<Self, CertificateError> {
        let certificate = certificate(der)?;
        let signed = certificate.tbs_certificate.as_ref();
        let is_ours = is_ecdsa(&certificate.signature_algorithm)
            && certificate.tbs_certificate.signature == certificate.signature_algorithm
            && authority.signed(signed, &certificate.signature_value.data);
        if !is_ours {
            return Err(CertificateError::Foreign);
        }
        Self::of(&certificate, domain)
    }

    fn of(
        certificate: &X509Certificate<'_>,
        domain: &TrustDomain,
    ) -> Result<Self, CertificateError> {
        let names = certificate.subject_alternative_name().ok().flatten();
        let names = names.map(|names| names.value.general_names.as_slice()).unwrap_or_default();
        let [GeneralName::URI(id)] = names else { return Err(CertificateError::Other) };
        let (kind, name) = domain.machine(id).ok_or(CertificateError::Other)?;
        let serial = Serial::read(certificate.raw_serial()).ok_or(CertificateError::Other)?;
        let key = PublicKey::read(certificate.public_key()).ok_or(CertificateError::Other)?;
        let begins = certificate.validity().not_before.timestamp().saturating_mul(1_000);
        let issued = Timestamp::from_millis(begins).after(SKEW_MAX);
        let held = Held { serial, key: key.digest(), issued };
        Ok(Self { shown: Shown { kind, name, held }, key })
    }

    /// Whether its key signed this renewal.
    pub(super) fn signed(&self, nonce: &[u8], request: &[u8], signature: &[u8]) -> bool {
        self.key.signed(&[RENEW_PREFIX, nonce, request].concat(), signature)
    }
}

fn certificate(der: &[u8]) -> Result<X509Certificate<'_>, CertificateError> {
    if der.len() > DER_BYTES_MAX {
        return Err(CertificateError::Malformed);
    }
    match X509Certificate::from_der(der) {
        Ok((&[], certificate)) => Ok(certificate),
        Ok(_) | Err(_) => Err(CertificateError::Malformed),
    }
}

/// From when to when a certificate is good.
pub(super) fn life_of(der: &CertificateDer<'_>) -> Option<(Timestamp, Timestamp)> {
    let certificate = certificate(der).ok()?;
    let moment = |seconds: i64| Timestamp::from_millis(seconds.saturating_mul(1_000));
    let life = certificate.validity();
    Some((moment(life.not_before.timestamp()), moment(life.not_after.timestamp())))
}

/// The public key of a certificate.
pub(super) fn key_of(der: &CertificateDer<'_>) -> Option<PublicKey> {
    certificate(der).ok().and_then(|certificate| PublicKey::read(certificate.public_key()))
}
