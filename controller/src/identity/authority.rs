//! The CA and the book over the store: what the rest of the controller asks.

mod copies;
mod doorman;
mod issue;
mod list;
mod service;
mod start;
mod tend;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use ipnet::IpNet;
use plan::{Actor, ServiceId, Timestamp};
use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::sync::{Semaphore, watch};
use xds::follow::dial;
use xds::join::{Kind, MachineName, Pin, Secret, Ticket};
use xds::server::{Tls, TlsError};

use super::book::{self, Book, CellError, TokenRefused, UnknownAgent};
use super::ca::{Ca, ServerIdentity, SignError};
use super::copies::Copies;
use super::nonce::Nonces;
use super::pace::Paces;
use super::view::{AgentView, TokenView};
use super::{Serial, TrustDomain};
use crate::clock::Clock;
use crate::store::{CELL_BYTES_MAX, Store, StoreError, SwapError};

use self::copies::Freezing;
pub(crate) use self::copies::Watched;
pub use self::list::List;
pub use self::start::OpenError;
pub(crate) use self::start::{CA, has_key};

/// Where the book is.
pub(crate) const BOOK: &str = "identity/agents";

/// How often a change is decided anew because another controller was faster: with a handful of
/// controllers each wins within a few.
const TRIES: usize = 16;

/// What an authority has to know.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The trust domain. It cannot change once there is a CA.
    pub trust_domain: TrustDomain,
}

/// Knows every machine's identity. Cheap to clone.
#[derive(Clone)]
pub struct Authority {
    inner: Arc<Inner>,
}

struct Inner {
    store: Arc<dyn Store>,
    clock: Clock,
    domain: TrustDomain,
    ca: Ca,
    known: RwLock<Arc<Known>>,
    revoked: watch::Sender<u64>,
    /// Which certificates were taken back, as signed here; `None`: none ever was.
    list: watch::Sender<Option<Arc<List>>>,
    /// One change at a time, so that those of one controller do not stand in each other's way.
    turn: Semaphore,
    nonces: Mutex<Nonces>,
    paces: Mutex<Paces>,
    /// When machines were let in. None but machines that are known are in it.
    seen: Mutex<BTreeMap<MachineName, Timestamp>>,
    copies: Mutex<Copies>,
    /// Machines that are to be frozen and that the store does not say so of yet.
    freezing: Mutex<BTreeMap<MachineName, Freezing>>,
    random: SystemRandom,
}

/// The book as it was last read or written here.
#[derive(Debug, Default)]
struct Known {
    version: Option<u64>,
    book: Book,
}

/// A token that somebody wants.
#[derive(Clone, Debug)]
pub struct NewToken {
    /// For which machine.
    pub name: MachineName,
    /// What the machine is.
    pub kind: Kind,
    /// How long it is to be good.
    pub life: std::time::Duration,
    /// What the machine may see; empty: everything that is for it.
    pub services: Vec<ServiceId>,
    /// From where it can be used; `None`: from anywhere.
    pub from: Option<IpNet>,
    /// Whether it may take the name of a machine that is there.
    pub replace: bool,
    /// Where the machine finds the controllers: `HOST:PORT`, one at least.
    pub controllers: Vec<String>,
}

/// A token, for the one who asked. `Debug` does not print its secret.
#[derive(Clone, Debug)]
pub struct Created {
    /// What the machine needs. Its `Display` is the secret text.
    pub ticket: Ticket,
    /// From when on it is worth nothing.
    pub expires: Timestamp,
    /// Whether an older token for the same name is worth nothing from now on.
    pub instead: bool,
}

/// The book cannot be read or changed. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// It is not what was written.
    #[error("the list of machines in the store")]
    Cell(#[from] CellError),
    /// It would be larger than a cell.
    #[error(
        "the list of machines is full: {CELL_BYTES_MAX} bytes; revoked machines leave it in time"
    )]
    Large,
    /// No space is left.
    #[error("no space is left in the data directory")]
    Full,
    /// Other controllers were faster each time.
    #[error("other controllers change the list of machines all the time; try again")]
    Contended,
    /// The store fails.
    #[error("the store cannot keep the list of machines")]
    Store(#[from] StoreError),
    /// The system gives no random bytes.
    #[error("the system gives no random numbers")]
    Random,
}

/// There is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The rules say no.
    #[error(transparent)]
    Refused(#[from] TokenRefused),
    /// An address of a controller that cannot be in a token.
    #[error(
        "`{given}` cannot be in a token: the controllers are HOST:PORT, 1 to {}",
        xds::join::CONTROLLERS_MAX
    )]
    Controllers {
        /// What was given.
        given: String,
    },
    /// There is none for this name.
    #[error("no token waits for a machine called `{0}`")]
    Unknown(MachineName),
    /// It cannot be kept.
    #[error(transparent)]
    Change(#[from] ChangeError),
}

/// A machine was not revoked.
#[derive(Debug, thiserror::Error)]
pub enum RevokeError {
    /// There is none of this name.
    #[error(transparent)]
    Unknown(#[from] UnknownAgent),
    /// It cannot be kept.
    #[error(transparent)]
    Change(#[from] ChangeError),
}

/// A controller has no certificate.
#[derive(Debug, thiserror::Error)]
pub enum ServerTlsError {
    /// It cannot be made.
    #[error(transparent)]
    Sign(#[from] SignError),
    /// It cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The system gives no random bytes.
    #[error("the system gives no random numbers")]
    Random,
}

impl Authority {
    /// The CA's pin.
    pub fn pin(&self) -> Pin {
        self.inner.ca.pin()
    }

    /// The trust domain.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.inner.domain
    }

    /// The CA's certificate in DER: for programs that verify machines.
    pub fn ca_der(&self) -> &[u8] {
        self.inner.ca.certificate()
    }

    /// TLS for a controller: a new key and its certificate, good for 30 days, with
    /// `controller.<trust domain>` and `names` in it. [`Authority::tend`] renews it.
    ///
    /// # Errors
    /// A name is neither a DNS name nor an address, or the system fails.
    pub fn server_tls(&self, names: &[String]) -> Result<Tls, ServerTlsError> {
        let ServerIdentity { chain, key } = self.server_identity(names)?;
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.inner.ca.certificate().clone()).map_err(TlsError::Unfit)?;
        Ok(Tls::with_identities(chain, key, roots)?)
    }

    fn server_identity(&self, names: &[String]) -> Result<ServerIdentity, ServerTlsError> {
        let random = self.inner.random().map_err(|_| ServerTlsError::Random)?;
        Ok(self.inner.ca.server(names, Serial::new(random), self.inner.clock.now())?)
    }

    /// Makes a token. Only the digest of its secret is kept.
    ///
    /// # Errors
    /// As [`TokenError`] says.
    pub async fn create_token(
        &self,
        new: NewToken,
        actor: &Actor,
        reason: &str,
    ) -> Result<Created, TokenError> {
        let NewToken { name, kind, life, services, from, replace, controllers } = new;
        let secret = Secret::new(self.inner.random()?);
        let ticket = Ticket {
            controllers,
            pin: self.pin(),
            name: name.clone(),
            kind: kind.clone(),
            secret: secret.clone(),
        };
        if let Some(given) = ticket.controllers.iter().find(|text| dial::check(text).is_err()) {
            return Err(TokenError::Controllers { given: given.clone() });
        }
        // What cannot be read again is of no use.
        if ticket.to_string().parse().as_ref() != Ok(&ticket) {
            return Err(TokenError::Controllers { given: ticket.controllers.join(",") });
        }
        let by = actor.to_string();
        let (called, is) = (name.clone(), kind.clone());
        let ask = book::Ask { name: called, kind: is, life, services, from, replace, by };
        let made = self.inner.change(|book, now| {
            let instead = book.create_token(ask.clone(), secret.digest(), now)?;
            Ok::<_, TokenRefused>(Created {
                ticket: ticket.clone(),
                expires: now.after(life),
                instead,
            })
        });
        let created = made.await??;
        let (expires, instead) = (created.expires, created.instead);
        let from = from.map_or_else(|| "anywhere".to_owned(), |network| network.to_string());
        tracing::info!(
            %actor, reason, %name, %kind, %expires, from, replace, instead, "token made"
        );
        Ok(created)
    }

    /// Takes back the token for this name.
    ///
    /// # Errors
    /// There is none, or the store fails.
    pub async fn delete_token(
        &self,
        name: &MachineName,
        actor: &Actor,
        reason: &str,
    ) -> Result<(), TokenError> {
        let deleted = self.inner.change(|book, now| {
            let is_there = book.tokens().any(|(owner, _)| owner == name);
            book.delete_token(name, now);
            is_there
        });
        if !deleted.await? {
            return Err(TokenError::Unknown(name.clone()));
        }
        tracing::info!(%actor, reason, %name, "token deleted");
        Ok(())
    }

    /// The tokens that wait, sorted by name.
    ///
    /// # Errors
    /// The store fails.
    pub async fn tokens(&self) -> Result<Vec<TokenView>, ChangeError> {
        self.inner.refresh().await?;
        let (known, now) = (self.inner.known(), self.inner.clock.now());
        Ok(known.book.tokens().map(|(name, token)| TokenView::of(name, token, now)).collect())
    }

    /// The machines as they were a second ago or later, sorted by name.
    pub fn agents(&self) -> Vec<AgentView> {
        let (known, now) = (self.inner.known(), self.inner.clock.now());
        let seen = lock(&self.inner.seen);
        let view = |(name, agent): (&MachineName, &book::Agent)| {
            AgentView::of(name, agent, seen.get(name).copied(), now)
        };
        known.book.agents().map(view).collect()
    }

    /// What the agent on this machine may see; empty: everything that is for it. `None`: there is
    /// no such machine, or it is no VM.
    pub fn services_of(&self, name: &MachineName) -> Option<Vec<ServiceId>> {
        let known = self.inner.known();
        let agent = known.book.agent(name).filter(|agent| agent.kind.is_agent());
        agent.map(|agent| agent.services.clone())
    }

    /// Lets a machine in no more. Its connections are cut within a second here, within two where
    /// other controllers serve it. What it was, and whether that is new.
    ///
    /// # Errors
    /// There is no such machine, or the store fails.
    pub async fn revoke(
        &self,
        name: &MachineName,
        actor: &Actor,
        reason: &str,
    ) -> Result<(Kind, bool), RevokeError> {
        let revoked = self.inner.change(|book, now| book.revoke(name, reason, now)).await?;
        let (kind, is_new) = revoked?;
        tracing::warn!(%actor, reason, %name, %kind, is_new, "machine revoked");
        Ok((kind, is_new))
    }
}

impl Inner {
    fn known(&self) -> Arc<Known> {
        Arc::clone(&self.known.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn random<const N: usize>(&self) -> Result<[u8; N], ChangeError> {
        let mut bytes = [0; N];
        self.random.fill(&mut bytes).map_err(|_| ChangeError::Random)?;
        Ok(bytes)
    }

    /// Reads the book, if another controller has changed it.
    async fn refresh(&self) -> Result<Arc<Known>, ChangeError> {
        let cell = self.store.cell(BOOK).await?;
        let known = self.known();
        let version = cell.as_ref().map(|cell| cell.version);
        if version == known.version {
            return Ok(known);
        }
        let book = cell.map_or_else(|| Ok(Book::default()), |cell| Book::decode(&cell.bytes))?;
        Ok(self.install(Known { version, book }))
    }

    /// Takes a book over, unless a newer one is known.
    fn install(&self, new: Known) -> Arc<Known> {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if new.version < known.version {
            return Arc::clone(&known);
        }
        let refuses_more = new.book.refuses_more_than(&known.book);
        let new = Arc::new(new);
        *known = Arc::clone(&new);
        drop(known);
        lock(&self.seen).retain(|name, _| new.book.agent(name).is_some());
        self.relist(&new);
        if refuses_more {
            self.revoked.send_modify(|count| *count = count.wrapping_add(1));
        }
        new
    }

    /// Decides on the newest book and keeps what came of it. Decides anew where another controller
    /// was faster.
    async fn change<T>(
        &self,
        mut decide: impl FnMut(&mut Book, Timestamp) -> T,
    ) -> Result<T, ChangeError> {
        // It is never closed; holding what it gives is the turn.
        let _turn = self.turn.acquire().await;
        for _ in 0..TRIES {
            let known = self.refresh().await?;
            let mut book = known.book.clone();
            let outcome = decide(&mut book, self.clock.now());
            if book == known.book {
                return Ok(outcome);
            }
            let bytes = book.encode();
            if bytes.len() > CELL_BYTES_MAX {
                return Err(ChangeError::Large);
            }
            let version = match self.store.swap_cell(BOOK, known.version, &bytes).await {
                Ok(version) => Some(version),
                Err(SwapError::Moved { .. }) => None,
                Err(SwapError::Unknown) => self.look(&bytes).await?,
                Err(SwapError::Full) => return Err(ChangeError::Full),
                Err(SwapError::Failed(error)) => return Err(error.into()),
            };
            if version.is_some() {
                self.install(Known { version, book });
                return Ok(outcome);
            }
        }
        Err(ChangeError::Contended)
    }

    /// The outcome of a write is unknown: the version, if these bytes are there.
    async fn look(&self, bytes: &[u8]) -> Result<Option<u64>, ChangeError> {
        self.store.reload().await?;
        let cell = self.store.cell(BOOK).await?;
        Ok(cell.filter(|cell| cell.bytes == bytes).map(|cell| cell.version))
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("ca", &self.inner.ca).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
