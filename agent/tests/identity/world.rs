//! An authority behind a server, a clock, and directories.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use agent::identity::{EnrollError, Identity, Keeper, Store, enroll};
use plan::{Digest, Timestamp};
use proto::crossfade::v1::enroll_service_server::EnrollServiceServer;
use rcgen::KeyPair;
use rustls::RootCertStore;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::task::JoinHandle;
use xds::join::{Kind, Secret, Ticket};
use xds::server::{Clock, Limits, Server, Settings, Tls, standard_routes};
use xds::{Registry, Resources, TypeUrl};

use crate::authority::{Authority, DOMAIN, Issuer, certificate, pin};

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(20);

/// The path of a controller's SPIFFE ID.
const CONTROLLER: &str = "controller";

/// What must come, in time.
pub(crate) async fn in_time<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("it comes in time")
}

/// A directory of its own; removed when dropped.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("crossfade-identity-{}-{next}", std::process::id());
        Self(std::env::temp_dir().join(name))
    }

    pub(crate) fn identity(&self) -> PathBuf {
        self.0.join("identity")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

#[expect(clippy::disallowed_methods, reason = "certificates are looked at by the real clock too")]
pub(crate) fn real_now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap())
}

pub(crate) struct World {
    pub(crate) authority: Authority,
    pub(crate) address: SocketAddr,
    pub(crate) resources: Resources,
    pub(crate) registry: Registry,
    tls: Tls,
    serving: JoinHandle<()>,
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::start_at(real_now()).await
    }

    /// Where it is now this.
    pub(crate) async fn start_at(now: Timestamp) -> Self {
        Self::start_as(CONTROLLER, now).await
    }

    /// A server whose certificate says that it is this.
    pub(crate) async fn start_as(path: &str, now: Timestamp) -> Self {
        let authority = Authority::new(now);
        let (chain, key) = shown(&authority.issuer, path, now);
        let mut roots = RootCertStore::empty();
        roots.add(authority.issuer.der().clone()).unwrap();
        let tls = Tls::with_identities(chain, key, roots).unwrap();
        let server = Server::bind(Settings {
            listen: vec!["127.0.0.1:0".parse().unwrap()],
            tls: Some(tls.clone()),
            doorman: Some(Arc::new(authority.clone())),
            rules: Resources::rules([TypeUrl::new(TypeUrl::CLUSTER)]),
            limits: Limits::default(),
            clock: Clock::start(),
        })
        .unwrap();
        let address = server.addresses()[0];
        let (resources, registry) = (Resources::new(server.publisher()), server.registry());
        let (mut routes, _) = standard_routes().await.unwrap();
        routes.add_service(EnrollServiceServer::new(authority.clone()));
        let serving = tokio::spawn(server.serve(routes.routes(), std::future::pending()));
        Self { authority, address, resources, registry, tls, serving }
    }

    /// A token for a machine.
    pub(crate) fn ticket(&self, name: &str) -> Ticket {
        let random = *Digest::of(KeyPair::generate().unwrap().public_key_raw()).bytes();
        let secret = Secret::new(random);
        let token = (name.to_owned(), None);
        self.authority.with(|state| state.tokens.insert(secret.digest(), token));
        Ticket {
            controllers: vec![self.address.to_string()],
            pin: pin(&self.authority.issuer),
            name: name.parse().unwrap(),
            kind: Kind::Agent,
            secret,
        }
    }

    pub(crate) fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.authority.with(|state| state.now))
    }

    /// Moves everybody's clock; the controller renews its own certificate.
    pub(crate) fn pass(&self, time: Duration) -> Timestamp {
        let now = self.pass_alone(time);
        let (chain, key) = shown(&self.authority.issuer, CONTROLLER, now);
        self.tls.renew(chain, key).unwrap();
        now
    }

    /// Moves everybody's clock.
    pub(crate) fn pass_alone(&self, time: Duration) -> Timestamp {
        let millis = i64::try_from(time.as_millis()).unwrap();
        self.authority.with(|state| state.now += millis);
        self.now()
    }

    /// Joins, with an identity kept in `folder`.
    pub(crate) async fn join(&self, folder: &Folder, name: &str) -> Identity {
        join(folder, &self.ticket(name), self.now()).await.unwrap()
    }

    /// Keeps what is in a directory.
    pub(crate) fn keeper(&self, directory: &Path) -> Keeper {
        let found = Store::open(directory).unwrap();
        let controllers = vec![self.address.to_string()];
        Keeper::new(found.store, found.identity.unwrap(), controllers, 0)
    }

    /// The controller has gone.
    pub(crate) async fn stop(&mut self) {
        self.serving.abort();
        let _ = (&mut self.serving).await;
    }
}

pub(crate) async fn join(
    folder: &Folder,
    ticket: &Ticket,
    now: Timestamp,
) -> Result<Identity, EnrollError> {
    let mut found = Store::open(&folder.identity()).unwrap();
    in_time(enroll(ticket, &mut found.store, now)).await
}

/// What a server shows.
fn shown(
    issuer: &Issuer,
    path: &str,
    now: Timestamp,
) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let key = KeyPair::generate().unwrap();
    let uri = format!("spiffe://{DOMAIN}/{path}");
    let leaf = certificate(issuer, &key, (&uri, Some("controller.crossfade.test")), now);
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    (vec![leaf, issuer.der().clone()], key)
}
