//! Opening: the CA is taken up, or made.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, RwLock};

use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::sync::{Semaphore, watch};

use super::{Authority, ChangeError, Inner, Known, Settings};
use crate::clock::Clock;
use crate::identity::Serial;
use crate::identity::ca::{Ca, CaError, SignError};
use crate::identity::nonce::Nonces;
use crate::identity::pace::Paces;
use crate::store::{Store, StoreError, SwapError};

/// Where the CA's key and certificate are.
pub(crate) const CA: &str = "identity/ca";

/// Why there is no authority.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The CA that is kept cannot be used.
    #[error("the CA in the store")]
    Ca(#[from] CaError),
    /// A CA cannot be made.
    #[error("no CA can be made")]
    Make(#[from] SignError),
    /// The store fails.
    #[error("the store cannot keep the CA")]
    Store(#[from] StoreError),
    /// It cannot be kept.
    #[error("the store cannot keep the CA")]
    Swap(#[from] SwapError),
    /// The list of machines cannot be read.
    #[error(transparent)]
    Book(#[from] ChangeError),
    /// The system gives no random bytes.
    #[error("the system gives no random numbers")]
    Random,
}

impl Authority {
    /// Takes up the CA and the list of machines. Where there is no CA yet, makes one; of several
    /// controllers that do so at once, all take the one that was first.
    ///
    /// # Errors
    /// As [`OpenError`] says.
    pub async fn open(
        store: Arc<dyn Store>,
        clock: Clock,
        settings: Settings,
    ) -> Result<Self, OpenError> {
        let Settings { trust_domain: domain } = settings;
        let random = SystemRandom::new();
        let kept = match store.cell(CA).await? {
            Some(cell) => cell.bytes,
            None => {
                let mut serial = [0; 16];
                random.fill(&mut serial).map_err(|_| OpenError::Random)?;
                let made = Ca::make(&domain, Serial::new(serial), clock.now())?;
                keep(store.as_ref(), made).await?
            }
        };
        let ca = Ca::read(&kept, &domain)?;
        tracing::info!(pin = %ca.pin(), trust_domain = %domain, "identities of machines");
        let nonces = Nonces::new(&ca.secret_for("renewal challenges"));
        let inner = Inner {
            store,
            clock,
            domain,
            ca,
            known: RwLock::new(Arc::new(Known::default())),
            revoked: watch::Sender::new(0),
            list: watch::Sender::new(None),
            turn: Semaphore::new(1),
            nonces: Mutex::new(nonces),
            paces: Mutex::new(Paces::default()),
            seen: Mutex::new(BTreeMap::new()),
            copies: Mutex::default(),
            freezing: Mutex::default(),
            random,
        };
        inner.refresh().await?;
        Ok(Self { inner: Arc::new(inner) })
    }
}

/// Whether there is a CA, whose key is in the store and in every backup of it.
pub(crate) async fn has_key(store: &dyn Store) -> Result<bool, ChangeError> {
    Ok(store.cell(CA).await?.is_some())
}

/// Keeps the CA that was made, unless there is one by now. The one that is kept.
async fn keep(store: &dyn Store, made: Vec<u8>) -> Result<Vec<u8>, OpenError> {
    match store.swap_cell(CA, None, &made).await {
        Ok(_) => return Ok(made),
        Err(SwapError::Moved { .. }) => {}
        Err(SwapError::Unknown) => drop(store.reload().await?),
        Err(error @ (SwapError::Full | SwapError::Failed(_))) => return Err(error.into()),
    }
    let kept = store.cell(CA).await?;
    kept.map(|cell| cell.bytes).ok_or(OpenError::Swap(SwapError::Unknown))
}
