//! Who this machine is, a VM or a gateway: a key that never leaves it, and a certificate for a day
//! that is renewed at half its life.
//!
//! | part | does | pure |
//! |---|---|---|
//! | [`certificate`] | reads certificates; says whether chain, key and CA go together | yes |
//! | [`key`] | makes keys, requests and proofs | but for the random numbers |
//! | [`trust`] | whether who answers is the controller | yes |
//! | [`revoked`] | which certificates an authority has taken back | yes |
//! | [`store`] | generations on disk, of which one is always whole | no |
//! | [`mod@enroll`] | the first certificate, for a token | no |
//! | [`schedule`] | when to ask for the next one | yes |
//! | [`keeper`] | asks for it, and goes on asking | no |
//!
//! The clock of a machine that joins may be wrong. The controller is asked for its time before it
//! is told any secret, so that a wrong clock is called that, and not a certificate that is not
//! valid yet.

mod call;
mod certificate;
mod enroll;
pub mod keeper;
pub mod key;
mod revoked;
pub mod schedule;
pub mod store;
mod trust;

use std::fmt;
use std::sync::Arc;

use plan::Timestamp;
use rustls_pki_types::CertificateDer;
use tokio::sync::watch;
use xds::follow::dial::{Shown, TlsSource};
use xds::join::{Kind, MachineName};

use self::key::Key;

pub use self::call::{CallError, Unusable, time};
pub use self::certificate::Unfit;
pub use self::enroll::{EnrollError, enroll};
pub use self::keeper::{Health, Keeper};
pub use self::revoked::{List, Unlisted};
pub use self::store::{Store, StoreError};
pub use self::trust::Distrust;

/// A certificate with its key, and the CA to know others by. They go together.
pub struct Identity {
    /// What the machine is.
    pub kind: Kind,
    /// What the machine is called.
    pub name: MachineName,
    /// The trust domain: `crossfade.internal`.
    pub trust_domain: String,
    /// The certificate in DER, and those between it and a CA.
    pub chain: Vec<CertificateDer<'static>>,
    /// Its key.
    pub key: Key,
    /// The CA's certificates; more than one while the CA changes.
    pub ca: Vec<CertificateDer<'static>>,
    /// From when it is valid.
    pub not_before: Timestamp,
    /// Until when it is valid.
    pub not_after: Timestamp,
}

impl Identity {
    /// The name that a controller's certificate has.
    pub fn server_name(&self) -> String {
        xds::join::server_name(&self.trust_domain)
    }

    /// Its SPIFFE ID.
    pub fn spiffe_id(&self) -> String {
        format!("spiffe://{}/{}", self.trust_domain, self.kind.path(&self.name))
    }

    /// The certificate and those between it and a CA, PEM.
    pub fn chain_pem(&self) -> String {
        certificate::pem(&self.chain)
    }

    /// The CA's certificates, PEM.
    pub fn ca_pem(&self) -> String {
        certificate::pem(&self.ca)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("id", &self.spiffe_id())
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

/// Connections show whatever identity is the newest when they begin.
#[derive(Clone, Debug)]
pub struct Newest(pub watch::Receiver<Arc<Identity>>);

impl TlsSource for Newest {
    fn shown(&self) -> Shown {
        let identity = Arc::clone(&self.0.borrow());
        Shown {
            ca: identity.ca_pem(),
            chain: identity.chain_pem(),
            key: identity.key.pem(),
            server_name: Some(identity.server_name()),
        }
    }
}
