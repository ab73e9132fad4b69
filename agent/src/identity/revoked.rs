//! Lists of certificates that an authority has taken back.
//!
//! A proxy that is given a list refuses everybody as soon as it cannot use it: where it is signed
//! by somebody else, is not good yet, or not any more. So none is taken that could come to that
//! while the authority itself is good.

use std::fmt;

use bytes::Bytes;
use rustls::SignatureScheme;
use rustls_pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;
use x509_parser::revocation_list::CertificateRevocationList;
use xds::join::Pin;

use super::{Identity, certificate};

/// The longest list that is read, in bytes: all certificates that a controller keeps, of 35 bytes
/// each.
const LIST_MAX: usize = 8 << 20;

/// A list of an authority that this machine trusts.
#[derive(Clone, PartialEq, Eq)]
pub struct List {
    /// The newest has the greatest.
    pub number: u64,
    der: Bytes,
}

/// A list that is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unlisted {
    /// No list, or one that is too long.
    #[error("it is no list of revoked certificates")]
    Unreadable,
    /// Of somebody else.
    #[error("it is not of an authority that this machine trusts")]
    Stranger,
    /// Signed by somebody else.
    #[error("it is not signed by its authority")]
    Unsigned,
    /// It ends before its authority does, or begins later.
    #[error("it is not good for as long as its authority")]
    Time,
    /// Something that every reader must know, and not every one does.
    #[error("it has an extension that a proxy may not know")]
    Extension,
}

impl Identity {
    /// The pins of the authorities that it trusts: what their lists are called.
    pub fn authorities(&self) -> Vec<Pin> {
        self.ca.iter().filter_map(|ca| pin(ca)).collect()
    }

    /// Reads the list of the authority with this pin.
    ///
    /// # Errors
    /// It is none of an authority that is trusted here, or a proxy could come to refuse everybody
    /// by it.
    pub fn list(&self, authority: &str, der: &Bytes) -> Result<List, Unlisted> {
        let is_it =
            |ca: &&CertificateDer<'static>| pin(ca).is_some_and(|pin| pin.to_string() == authority);
        let ca = self.ca.iter().find(is_it).ok_or(Unlisted::Stranger)?;
        let (_, ca) = X509Certificate::from_der(ca).map_err(|_| Unlisted::Unreadable)?;
        let small = Some(der).filter(|der| der.len() <= LIST_MAX).ok_or(Unlisted::Unreadable)?;
        let (rest, list) =
            CertificateRevocationList::from_der(small).map_err(|_| Unlisted::Unreadable)?;
        if !rest.is_empty() {
            return Err(Unlisted::Unreadable);
        }
        if list.issuer().as_raw() != ca.subject().as_raw() {
            return Err(Unlisted::Stranger);
        }
        if !is_signed(&list, &ca) {
            return Err(Unlisted::Unsigned);
        }
        let life = ca.validity();
        let is_long = list.next_update().is_some_and(|next| next >= life.not_after);
        if !is_long || list.last_update() > life.not_before {
            return Err(Unlisted::Time);
        }
        if list.extensions().iter().any(|extension| extension.critical) {
            return Err(Unlisted::Extension);
        }
        let number = list.crl_number().and_then(|number| u64::try_from(number).ok());
        Ok(List { number: number.ok_or(Unlisted::Unreadable)?, der: der.clone() })
    }
}

impl List {
    /// The list, PEM.
    pub fn pem(&self) -> String {
        certificate::pem_of("X509 CRL", &self.der)
    }
}

impl fmt::Debug for List {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("List").field("number", &self.number).finish_non_exhaustive()
    }
}

fn pin(ca: &[u8]) -> Option<Pin> {
    certificate::Facts::read(ca).map(|facts| Pin::of(&facts.public_key))
}

/// By the key of this certificate, with the algorithm of our authorities: ECDSA with P-256 and
/// SHA-256.
fn is_signed(list: &CertificateRevocationList<'_>, ca: &X509Certificate<'_>) -> bool {
    let known = rustls::crypto::ring::default_provider().signature_verification_algorithms.mapping;
    let of_scheme = known.iter().filter(|(it, _)| *it == SignatureScheme::ECDSA_NISTP256_SHA256);
    let key = &ca.public_key().subject_public_key.data;
    let (signed, signature) = (list.tbs_cert_list.as_ref(), &list.signature_value.data);
    of_scheme
        .flat_map(|(_, algorithms)| *algorithms)
        .any(|algorithm| algorithm.verify_signature(key, signed, signature).is_ok())
}
