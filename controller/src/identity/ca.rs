//! The CA: one P-256 key, made at the first start, kept in a cell of the store.

use std::net::IpAddr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use plan::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    RevokedCertParams, SanType, SerialNumber, SubjectPublicKeyInfo,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use serde::{Deserialize, Serialize};
use xds::join::Pin;

use super::book::{Grant, TakenBack};
use super::proof::{PublicKey, key_of, life_of};
use super::{SKEW_MAX, Serial, TrustDomain};

/// How long the CA's certificate is good.
const CA_LIFE: Duration = Duration::from_secs(10 * 365 * 24 * 3_600);

/// How long a controller's certificate is good: one that runs makes its next one long before.
pub(super) const SERVER_LIFE: Duration = Duration::from_secs(30 * 24 * 3_600);

/// The CA.
pub(super) struct Ca {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    key: PublicKey,
    domain: TrustDomain,
    /// From when to when its certificate is good.
    life: (Timestamp, Timestamp),
}

/// The CA as it is kept.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Kept {
    format: u32,
    trust_domain: String,
    /// DER in base64.
    certificate: String,
    /// PKCS #8 in DER in base64.
    key: String,
}

/// The version of what is kept.
const FORMAT: u32 = 1;

/// What is kept cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// It is not what was written, or a later version wrote it.
    #[error("it cannot be read")]
    Malformed,
    /// It is of another trust domain.
    #[error(
        "it is of the trust domain `{kept}`, not `{wanted}`: a controller keeps the one that it \
         began with"
    )]
    Domain {
        /// The one that it has.
        kept: String,
        /// The one that was asked for.
        wanted: String,
    },
}

/// A certificate cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// A name cannot be in a certificate.
    #[error("`{0}` is neither a DNS name nor an address")]
    Name(String),
    /// The key or a field is none that can be signed.
    #[error("the certificate cannot be made")]
    Failed(#[from] rcgen::Error),
}

/// A chain and its key, for TLS.
pub(super) struct ServerIdentity {
    /// The leaf, then the CA: who joins knows the CA by its pin alone.
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: PrivateKeyDer<'static>,
}

impl Ca {
    /// Makes a CA; what is to be kept of it.
    pub(super) fn make(
        domain: &TrustDomain,
        serial: Serial,
        now: Timestamp,
    ) -> Result<Vec<u8>, SignError> {
        let key = KeyPair::generate()?;
        let mut params = params("Crossfade CA", serial, now, now.after(CA_LIFE));
        params.distinguished_name.push(DnType::OrganizationName, domain.as_str());
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key)?;
        let kept = Kept {
            format: FORMAT,
            trust_domain: domain.to_string(),
            certificate: STANDARD.encode(certificate.der()),
            key: STANDARD.encode(key.serialized_der()),
        };
        // Text in memory: this cannot fail.
        Ok(serde_json::to_vec(&kept).unwrap_or_default())
    }

    /// Takes up what was kept.
    pub(super) fn read(kept: &[u8], domain: &TrustDomain) -> Result<Self, CaError> {
        let kept: Kept = serde_json::from_slice(kept).map_err(|_| CaError::Malformed)?;
        if kept.format != FORMAT {
            return Err(CaError::Malformed);
        }
        if kept.trust_domain != domain.as_str() {
            let wanted = domain.to_string();
            return Err(CaError::Domain { kept: kept.trust_domain, wanted });
        }
        let bytes = |text: &str| STANDARD.decode(text).map_err(|_| CaError::Malformed);
        let certificate = CertificateDer::from(bytes(&kept.certificate)?);
        let pair = KeyPair::from_pkcs8_der_and_sign_algo(
            &PrivatePkcs8KeyDer::from(bytes(&kept.key)?),
            &rcgen::PKCS_ECDSA_P256_SHA256,
        );
        let pair = pair.map_err(|_| CaError::Malformed)?;
        let key = key_of(&certificate).ok_or(CaError::Malformed)?;
        let life = life_of(&certificate).ok_or(CaError::Malformed)?;
        if rcgen::PublicKeyData::subject_public_key_info(&pair) != key.info {
            return Err(CaError::Malformed);
        }
        let issuer =
            Issuer::from_ca_cert_der(&certificate, pair).map_err(|_| CaError::Malformed)?;
        Ok(Self { issuer, certificate, key, domain: domain.clone(), life })
    }

    /// Its certificate.
    pub(super) const fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// Its public key.
    pub(super) const fn key(&self) -> &PublicKey {
        &self.key
    }

    /// By which machines know it.
    pub(super) fn pin(&self) -> Pin {
        Pin::of(&self.key.info)
    }

    /// A secret that all who have this CA have, for one use: another use, another secret.
    pub(super) fn secret_for(&self, using: &str) -> [u8; 32] {
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, self.issuer.key().serialized_der());
        let tag = ring::hmac::sign(&key, using.as_bytes());
        let mut secret = [0; 32];
        secret.iter_mut().zip(tag.as_ref()).for_each(|(to, from)| *to = *from);
        secret
    }

    /// The certificate of a machine, in DER.
    pub(super) fn sign(&self, grant: &Grant, key: &PublicKey) -> Result<Vec<u8>, SignError> {
        let Grant { kind, name, serial, not_before, not_after, .. } = grant;
        let mut params = params(name.as_str(), *serial, *not_before, *not_after);
        let id = self.domain.machine_id(kind, name);
        params.subject_alt_names = vec![SanType::URI(id.try_into()?)];
        let key = SubjectPublicKeyInfo::from_der(&key.info)?;
        let certificate = leaf(params).signed_by(&key, &self.issuer)?;
        Ok(certificate.der().to_vec())
    }

    /// The list of certificates that were taken back (RFC 5280 section 5), in DER.
    ///
    /// It is good from when to when the CA's certificate is: a proxy whose list has ended, or does
    /// not hold yet by its clock, refuses everybody, and there may be no controller to give it the
    /// next one.
    pub(super) fn list(&self, number: u64, taken_back: &[TakenBack]) -> Result<Vec<u8>, SignError> {
        let (begins, ends) = self.life;
        let revoked_certs = taken_back.iter().map(|TakenBack { serial, at }| RevokedCertParams {
            serial_number: SerialNumber::from_slice(serial.bytes()),
            revocation_time: rcgen::date_time_ymd(1970, 1, 1) + seconds(*at),
            reason_code: None,
            invalidity_date: None,
        });
        let list = CertificateRevocationListParams {
            this_update: rcgen::date_time_ymd(1970, 1, 1) + seconds(begins),
            next_update: rcgen::date_time_ymd(1970, 1, 1) + seconds(ends),
            crl_number: SerialNumber::from(number),
            issuing_distribution_point: None,
            revoked_certs: revoked_certs.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        Ok(list.signed_by(&self.issuer)?.der().to_vec())
    }

    /// A new key for a controller with its certificate. `names` are DNS names and addresses beside
    /// those that every controller has.
    pub(super) fn server(
        &self,
        names: &[String],
        serial: Serial,
        now: Timestamp,
    ) -> Result<ServerIdentity, SignError> {
        let name = self.domain.controller_name();
        let begins = super::book::earlier(now, SKEW_MAX);
        let mut params = params("Crossfade controller", serial, begins, now.after(SERVER_LIFE));
        let id = SanType::URI(self.domain.controller_id().try_into()?);
        let own = SanType::DnsName(name.clone().try_into()?);
        let more = names.iter().filter(|more| **more != name).map(|text| {
            let failed = |_| SignError::Name(text.clone());
            match text.parse::<IpAddr>() {
                Ok(address) => Ok(SanType::IpAddress(address)),
                Err(_) => Ok(SanType::DnsName(text.clone().try_into().map_err(failed)?)),
            }
        });
        let names = [Ok(own), Ok(id)].into_iter().chain(more);
        params.subject_alt_names = names.collect::<Result<_, SignError>>()?;
        let pair = KeyPair::generate()?;
        let certificate = leaf(params).signed_by(&pair, &self.issuer)?;
        let chain = vec![certificate.der().clone(), self.certificate.clone()];
        let key = PrivatePkcs8KeyDer::from(pair.serialized_der().to_vec()).into();
        Ok(ServerIdentity { chain, key })
    }
}

impl std::fmt::Debug for Ca {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ca").field("pin", &self.pin().to_string()).finish_non_exhaustive()
    }
}

fn params(name: &str, serial: Serial, begins: Timestamp, ends: Timestamp) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.not_before = rcgen::date_time_ymd(1970, 1, 1) + seconds(begins);
    params.not_after = rcgen::date_time_ymd(1970, 1, 1) + seconds(ends);
    params.serial_number = Some(SerialNumber::from_slice(serial.bytes()));
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

fn leaf(mut params: CertificateParams) -> CertificateParams {
    params.is_ca = IsCa::ExplicitNoCa;
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params
}

/// A moment as whole seconds since 1970, as certificates have it. Ours are all after.
fn seconds(moment: Timestamp) -> Duration {
    Duration::from_secs(u64::try_from(moment.millis().div_euclid(1_000)).unwrap_or(0))
}
