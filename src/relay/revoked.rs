//! Which certificates were taken back, as a relay takes it from its controller.

use agent::identity::{Identity, List};
use bytes::Bytes;
use xds::Name;
use xds::follow::{Held, Item};
use xds::join::Pin;
use xds::own::Revocations;

/// The list of this authority that is held, if it is one of this identity's.
pub(super) fn held(held: &Held, authority: &Pin, identity: &Identity) -> Option<List> {
    let name = authority.to_string();
    let item = held.resources.get(&Name::new(&name))?;
    match read(&name, &item.body, identity) {
        Ok(list) => Some(list),
        Err(why) => {
            tracing::error!(%authority, %why, "a list of revoked certificates is not used");
            None
        }
    }
}

/// Whether a list may take the place of the one that is held. The same one that was signed again
/// may; it is the same.
///
/// # Errors
/// Why not.
pub(super) fn check(
    name: &str,
    body: &Bytes,
    held: Option<&Item>,
    identity: &Identity,
) -> Result<(), String> {
    let new = read(name, body, identity)?;
    // One of an authority that is not trusted any more counts for nothing.
    let old = held.and_then(|held| read(name, &held.body, identity).ok());
    match old.filter(|old| new.number < old.number) {
        Some(old) => Err(format!("list {} is older than {}, held here", new.number, old.number)),
        None => Ok(()),
    }
}

fn read(name: &str, body: &Bytes, identity: &Identity) -> Result<List, String> {
    let revocations = Revocations::decode(body).map_err(|error| error.to_string())?;
    identity.list(name, &revocations.crl).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use agent::identity::key::Key;
    use rcgen::{
        BasicConstraints, CertificateParams, CertificateRevocationListParams,
        CertificateSigningRequestParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
        KeyIdMethod, KeyPair, PublicKeyData as _, SanType, SerialNumber, date_time_ymd,
    };
    use xds::{TypeUrl, Version};

    use super::*;
    use crate::relay::tables::Served;

    type Ca = CertifiedIssuer<'static, KeyPair>;

    fn ca(name: &str) -> Ca {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    }

    /// A gateway that the first of these has certified, and that trusts all of them.
    fn identity(all: &[&Ca]) -> Identity {
        let key = Key::generate().unwrap();
        let request = &key.request().unwrap().into();
        let mut request = CertificateSigningRequestParams::from_der(request).unwrap();
        let id = "spiffe://crossfade.test/gateway/edge/edge-1".try_into().unwrap();
        request.params.subject_alt_names = vec![SanType::URI(id)];
        request.params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = request.signed_by(all[0]).unwrap();
        let trusted = all.iter().map(|ca| ca.der().clone()).collect();
        Identity::of(vec![certificate.der().clone()], key, trusted).unwrap()
    }

    fn name(ca: &Ca) -> String {
        Pin::of(&ca.key().subject_public_key_info()).to_string()
    }

    /// The list of this number, good for as long as rcgen makes authorities.
    fn body(ca: &Ca, number: u64) -> Bytes {
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(1975, 1, 1),
            next_update: date_time_ymd(4096, 1, 1),
            crl_number: SerialNumber::from(number),
            issuing_distribution_point: None,
            revoked_certs: Vec::new(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let crl = list.signed_by(ca).unwrap().der().to_vec().into();
        Revocations { crl }.encode().into()
    }

    fn item(body: Bytes) -> Item {
        Item { version: Version::parse("0.0-0000000000000001"), body }
    }

    #[test]
    fn a_list_gives_way_to_none_that_is_older() {
        let (ours, theirs) = (ca("ours"), ca("theirs"));
        let identity = identity(&[&ours]);
        let held = item(body(&ours, 7));
        let of_theirs = item(body(&theirs, 9));
        for (what, new, held, is_taken) in [
            ("the first", body(&ours, 1), None, true),
            ("a newer one", body(&ours, 8), Some(&held), true),
            ("the same, signed by another controller", body(&ours, 7), Some(&held), true),
            ("an older one", body(&ours, 6), Some(&held), false),
            ("another's", body(&theirs, 8), Some(&held), false),
            ("nothing", Bytes::new(), None, false),
            ("after one of whom nobody trusts any more", body(&ours, 1), Some(&of_theirs), true),
        ] {
            let checked = check(&name(&ours), &new, held, &identity);
            assert_eq!(checked.is_ok(), is_taken, "{what}: {checked:?}");
        }
    }

    #[test]
    fn proxies_are_given_a_list_of_each_authority_or_none_at_all() {
        let (old, new) = (ca("old"), ca("new"));
        let mut served = Served::nothing();
        let mut lists = |held: &[&Ca], trusted: &[&Ca]| {
            let mut all = Held::nothing(TypeUrl::REVOCATIONS.into());
            let held = held.iter().map(|ca| (Name::new(&name(ca)), item(body(ca, 7))));
            all.resources.extend(held);
            served.revoke(&Arc::new(all));
            served.lists(&identity(trusted)).matches("BEGIN X509 CRL").count()
        };
        assert_eq!(lists(&[], &[&old]), 0);
        assert_eq!(lists(&[&old], &[&old]), 1);
        assert_eq!(lists(&[&old], &[&old, &new]), 0, "the new one's would all be refused");
        assert_eq!(lists(&[&old, &new], &[&old, &new]), 2);
        assert_eq!(lists(&[&old, &new], &[&new]), 1);
        assert_eq!(lists(&[&old], &[&new]), 0);
    }
}
