//! Keys: made here, never sent.

use std::fmt;

use rcgen::{
    CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData as _,
    SigningKey as _,
};
use xds::join::RENEW_PREFIX;

/// A key of ECDSA with P-256. `Debug` does not print it.
pub struct Key(KeyPair);

/// A key that cannot be made, read or used.
#[derive(Debug, thiserror::Error)]
#[error("{doing}: {words}")]
pub struct KeyError {
    doing: &'static str,
    words: String,
}

impl Key {
    /// A new one, of the operating system's random numbers.
    ///
    /// # Errors
    /// There are none.
    pub fn generate() -> Result<Self, KeyError> {
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256);
        pair.map(Self).map_err(failed("cannot make a key"))
    }

    /// Reads PKCS #8 in PEM.
    ///
    /// # Errors
    /// It is no key, or of another kind.
    pub fn from_pem(pem: &str) -> Result<Self, KeyError> {
        let pair = KeyPair::from_pkcs8_pem_and_sign_algo(pem, &PKCS_ECDSA_P256_SHA256);
        pair.map(Self).map_err(failed("this is no P-256 key in PEM"))
    }

    /// PKCS #8 in PEM. Whoever has it is this machine.
    pub fn pem(&self) -> String {
        self.0.serialize_pem()
    }

    /// Its public half: a SubjectPublicKeyInfo in DER (RFC 5280 section 4.1.2.7).
    pub fn public(&self) -> Vec<u8> {
        self.0.subject_public_key_info()
    }

    /// A request for a certificate of it: PKCS #10 in DER, without names, for those are not ours to
    /// choose.
    ///
    /// # Errors
    /// It cannot sign.
    pub fn request(&self) -> Result<Vec<u8>, KeyError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let request = params.serialize_request(&self.0);
        Ok(request.map_err(failed("cannot write a request"))?.der().to_vec())
    }

    /// Proves that we have this key, to whoever gave `nonce`, for nothing but `request`.
    ///
    /// # Errors
    /// It cannot sign.
    pub fn prove(&self, nonce: &[u8], request: &[u8]) -> Result<Vec<u8>, KeyError> {
        let message = [RENEW_PREFIX.as_slice(), nonce, request].concat();
        self.0.sign(&message).map_err(failed("cannot sign"))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key")
    }
}

fn failed(doing: &'static str) -> impl Fn(rcgen::Error) -> KeyError {
    move |error| KeyError { doing, words: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_as_it_was_written_and_printed_nowhere() {
        let key = Key::generate().unwrap();
        assert_eq!(Key::from_pem(&key.pem()).unwrap().public(), key.public());
        assert_ne!(Key::generate().unwrap().public(), key.public());
        assert_eq!(format!("{key:?}"), "Key");
        for pem in ["", "x", &key.pem()[..60]] {
            assert!(Key::from_pem(pem).is_err(), "{pem}");
        }
    }

    #[test]
    fn a_request_has_the_key_and_no_name() {
        use x509_parser::prelude::FromDer as _;
        let key = Key::generate().unwrap();
        let der = key.request().unwrap();
        let (rest, request) =
            x509_parser::certification_request::X509CertificationRequest::from_der(&der).unwrap();
        assert!(rest.is_empty());
        assert_eq!(request.certification_request_info.subject_pki.raw, key.public());
        assert_eq!(request.certification_request_info.subject.iter().count(), 0);
    }
}
