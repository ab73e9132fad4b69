//! Lists of certificates that were taken back: taken of whom one trusts, and only where no proxy
//! could come to refuse everybody by them.

use std::time::Duration;

use agent::identity::Unlisted;
use bytes::Bytes;
use rcgen::{
    CertificateRevocationListParams, CrlDistributionPoint, CrlIssuingDistributionPoint, CrlScope,
    KeyIdMethod, RevokedCertParams, SerialNumber, date_time_ymd,
};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer};
use xds::join::Pin;

use crate::authority::{Issuer, issuer, pin};
use crate::world::{Folder, World};

/// A list that is good for as long as the authority's certificate, which rcgen makes so long.
fn good() -> CertificateRevocationListParams {
    CertificateRevocationListParams {
        this_update: date_time_ymd(1975, 1, 1),
        next_update: date_time_ymd(4096, 1, 1),
        crl_number: SerialNumber::from(1_700_000_000_123_u64),
        issuing_distribution_point: None,
        revoked_certs: vec![RevokedCertParams {
            serial_number: SerialNumber::from(0x4000_0000_0000_0001_u64),
            revocation_time: date_time_ymd(2026, 1, 1),
            reason_code: None,
            invalidity_date: None,
        }],
        key_identifier_method: KeyIdMethod::Sha256,
    }
}

fn signed(params: &CertificateRevocationListParams, issuer: &Issuer) -> Bytes {
    params.signed_by(issuer).unwrap().der().to_vec().into()
}

#[tokio::test]
async fn a_list_is_taken_of_whom_one_trusts_for_as_long_as_he_is_trusted() {
    let (world, folder) = (World::start().await, Folder::new());
    let identity = world.join(&folder, "vm-1").await;
    let ours = &world.authority.issuer;
    assert_eq!(identity.authorities(), [pin(ours)]);
    let list = |pin: Pin, der: &Bytes| identity.list(&pin.to_string(), der);
    let der = signed(&good(), ours);
    let taken = list(pin(ours), &der).unwrap();
    assert_eq!(taken.number, 1_700_000_000_123);
    let read = CertificateRevocationListDer::from_pem_slice(taken.pem().as_bytes()).unwrap();
    assert_eq!(read.as_ref(), der.as_ref());
    let nobody = CertificateRevocationListParams { revoked_certs: vec![], ..good() };
    assert!(list(pin(ours), &signed(&nobody, ours)).is_ok(), "an empty one is one too");

    // Another of the same name.
    let theirs = issuer();
    assert_eq!(list(pin(ours), &signed(&good(), &theirs)), Err(Unlisted::Unsigned));
    assert_eq!(list(pin(&theirs), &signed(&good(), &theirs)), Err(Unlisted::Stranger));
    assert_eq!(identity.list("", &der), Err(Unlisted::Stranger));
    let second = Duration::from_secs(1);
    let ends = date_time_ymd(4096, 1, 1) - second;
    let ends = CertificateRevocationListParams { next_update: ends, ..good() };
    let begins = date_time_ymd(1975, 1, 1) + second;
    let begins = CertificateRevocationListParams { this_update: begins, ..good() };
    for (what, params) in [("it ends first", ends), ("it begins later", begins)] {
        assert_eq!(list(pin(ours), &signed(&params, ours)), Err(Unlisted::Time), "{what}");
    }
    let point = CrlDistributionPoint { uris: vec!["http://ca.example/".to_owned()] };
    let scope = Some(CrlScope::UserCertsOnly);
    let point = CrlIssuingDistributionPoint { distribution_point: point, scope };
    let critical =
        CertificateRevocationListParams { issuing_distribution_point: Some(point), ..good() };
    assert_eq!(list(pin(ours), &signed(&critical, ours)), Err(Unlisted::Extension));
    let mut broken = [&der[..], b"0"].concat();
    for cut in [broken.len(), der.len() - 1, 0] {
        broken.truncate(cut);
        let read = list(pin(ours), &Bytes::copy_from_slice(&broken));
        assert_eq!(read, Err(Unlisted::Unreadable), "{cut}");
    }
    let certificate: &CertificateDer<'_> = ours.der();
    let read = list(pin(ours), &Bytes::copy_from_slice(certificate));
    assert_eq!(read, Err(Unlisted::Unreadable), "a certificate is none");
}
