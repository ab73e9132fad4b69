//! The list of certificates that were taken back, for proxies that know each other by this CA.

use std::sync::Arc;

use tokio::sync::watch;

use super::{Authority, Inner, Known};

/// A certificate revocation list (RFC 5280 section 5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List {
    /// Which one: the newest has the greatest.
    pub number: u64,
    /// In DER.
    pub der: Vec<u8>,
}

impl Authority {
    /// The newest list, and each one after it; `None`: no certificate was ever taken back.
    pub fn lists(&self) -> watch::Receiver<Option<Arc<List>>> {
        self.inner.list.subscribe()
    }
}

impl Inner {
    /// Signs the list of a book, unless that is known here.
    pub(super) fn relist(&self, known: &Known) {
        let Some(number) = known.book.list() else { return };
        let is_new = |list: &Option<Arc<List>>| list.as_ref().is_none_or(|it| it.number < number);
        if !is_new(&self.list.borrow()) {
            return;
        }
        let taken_back = known.book.taken_back(self.clock.now());
        match self.ca.list(number, &taken_back) {
            Ok(der) => {
                let new = Arc::new(List { number, der });
                self.list.send_if_modified(|list| {
                    let is_new = is_new(list);
                    if is_new {
                        *list = Some(new);
                    }
                    is_new
                });
            }
            Err(error) => tracing::error!(
                %error,
                "proxies are not told which certificates were taken back"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use plan::{Actor, Digest, Timestamp};
    use x509_parser::extensions::ParsedExtension;
    use x509_parser::prelude::{CertificateRevocationList, FromDer as _, X509Certificate};
    use xds::join::{Kind, MachineName};

    use super::*;
    use crate::clock::Clock;
    use crate::identity::book::{Ask, Enrolment, TakenBack};
    use crate::identity::{Serial, Settings, TOKEN_LIFE};
    use crate::store::Memory;

    /// Everything that a proxy looks at, as another reader finds it.
    fn read(authority: &Authority, list: &List) -> Vec<Vec<u8>> {
        let (rest, crl) = CertificateRevocationList::from_der(&list.der).unwrap();
        let (_, ca) = X509Certificate::from_der(authority.ca_der()).unwrap();
        assert!(rest.is_empty());
        assert_eq!(crl.issuer().as_raw(), ca.subject().as_raw());
        let life = ca.validity();
        assert_eq!((crl.last_update(), crl.next_update()), (life.not_before, Some(life.not_after)));
        assert_eq!(crl.crl_number().unwrap().to_string(), list.number.to_string());
        assert!(crl.extensions().iter().all(|extension| !extension.critical));
        let of_list = crl.extensions().iter().find_map(|it| {
            let ParsedExtension::AuthorityKeyIdentifier(id) = it.parsed_extension() else {
                return None;
            };
            id.key_identifier.clone()
        });
        let of_ca = ca.extensions().iter().find_map(|it| {
            let ParsedExtension::SubjectKeyIdentifier(id) = it.parsed_extension() else {
                return None;
            };
            Some(id.clone())
        });
        assert_eq!(of_list.unwrap(), of_ca.unwrap());
        assert!(ca.key_usage().unwrap().unwrap().value.crl_sign());
        let taken_back = crl.iter_revoked_certificates();
        taken_back.map(|revoked| revoked.raw_serial().to_vec()).collect()
    }

    #[tokio::test]
    async fn a_list_is_what_another_reader_takes_for_one() {
        let store = Arc::new(Memory::new());
        let opened = Authority::open(store, Clock::start(), Settings::default());
        let authority = opened.await.unwrap();
        let at = Timestamp::from_millis(1_700_000_000_000);
        let serials = [[0; 16], [0xff; 16]].map(Serial::new);
        let all = serials.map(|serial| TakenBack { serial, at });
        for taken_back in [&all[..], &[]] {
            let number = 1_700_000_000_123;
            let der = authority.inner.ca.list(number, taken_back).unwrap();
            let expect: Vec<Vec<u8>> =
                taken_back.iter().map(|taken| taken.serial.bytes().to_vec()).collect();
            assert_eq!(read(&authority, &List { number, der }), expect);
        }
    }

    #[tokio::test]
    async fn every_controller_of_a_store_has_the_newest_list() {
        let store = Arc::new(Memory::new());
        let open = || Authority::open(store.clone(), Clock::start(), Settings::default());
        let (one, other) = (open().await.unwrap(), open().await.unwrap());
        let mut lists = other.lists();
        assert_eq!(*lists.borrow_and_update(), None, "nothing was ever taken back");
        let (name, kind) = (&"vm-1".parse::<MachineName>().unwrap(), &Kind::Agent);
        let (secret, key, serial) = (Digest::of(&[1]), Digest::of(&[2]), Serial::new([1; 16]));
        let joined = one.inner.change(|book, now| {
            let (services, by, name) = (Vec::new(), String::new(), name.clone());
            let (kind, life) = (kind.clone(), TOKEN_LIFE);
            let ask = Ask { name, kind, life, services, from: None, replace: false, by };
            book.create_token(ask, secret, now).unwrap();
        });
        joined.await.unwrap();
        let joined = one.inner.change(|book, now| {
            let source = [10, 0, 0, 1].into();
            book.enrol(Enrolment { secret, name, kind, source, key, serial, now }).unwrap();
        });
        joined.await.unwrap();
        assert_eq!(*one.lists().borrow(), None);
        one.revoke(name, &Actor::new("me"), "").await.unwrap();
        let list = one.lists().borrow().clone().unwrap();
        assert_eq!(read(&one, &list), [Serial::new([1; 16]).bytes().to_vec()]);
        other.inner.refresh().await.unwrap();
        assert!(lists.has_changed().unwrap());
        let seen = lists.borrow_and_update().clone().unwrap();
        assert_eq!(seen.number, list.number);
        // And after a restart, though nothing changed.
        let again = open().await.unwrap().lists().borrow().clone().unwrap();
        assert_eq!(again.number, list.number);
    }
}
