//! TLS with client certificates.

use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

/// TLS 1.2 or 1.3 with a certificate of ours, and clients that must, or may, show one signed by a
/// CA of ours. Clones are one: a certificate renewed in one is shown by all.
#[derive(Clone)]
pub struct Tls {
    config: Arc<ArcSwap<ServerConfig>>,
    clients: Arc<dyn ClientCertVerifier>,
    /// Whether a client's second connection may begin where its first one ended.
    resumes: bool,
}

/// Certificates or keys that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The certificate chain is no PEM, or empty.
    #[error(
        "the certificate chain cannot be read: it must be one or more CERTIFICATE blocks (PEM)"
    )]
    Chain,
    /// The key is no PEM.
    #[error("the key cannot be read: it must be a PRIVATE KEY block (PEM)")]
    Key,
    /// The CA certificates are no PEM, or there are none.
    #[error("the clients' CA cannot be read: it must be one or more CERTIFICATE blocks (PEM)")]
    Clients,
    /// They are well-formed and do not go together.
    #[error("the certificate cannot be used")]
    Unfit(#[source] rustls::Error),
}

impl Tls {
    /// From PEM texts: our chain, its key, and the CA certificates that clients are signed by. A
    /// client must show a certificate.
    ///
    /// # Errors
    /// They cannot be read, or do not go together.
    pub fn from_pem(chain: &[u8], key: &[u8], clients: &[u8]) -> Result<Self, TlsError> {
        let chain = certificates(chain).ok_or(TlsError::Chain)?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| TlsError::Key)?;
        let mut roots = RootCertStore::empty();
        for root in certificates(clients).ok_or(TlsError::Clients)? {
            roots.add(root).map_err(TlsError::Unfit)?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        let clients = clients.build().map_err(|_| TlsError::Clients)?;
        Self::of(chain, key, clients, true)
    }

    /// Our chain, its key, and the CA certificates of identities. A client that shows a
    /// certificate must have it of one of them; one that shows none is a matter of the
    /// [`Doorman`](super::Doorman). No session is resumed, so that a certificate is looked at
    /// whenever a connection begins.
    ///
    /// Machines that join know the CA by its pin alone, so the chain must have its certificate.
    ///
    /// # Errors
    /// They do not go together, or there is no CA.
    pub fn with_identities(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        roots: RootCertStore,
    ) -> Result<Self, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        let clients = clients.allow_unauthenticated().build().map_err(|_| TlsError::Clients)?;
        Self::of(chain, key, clients, false)
    }

    fn of(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        clients: Arc<dyn ClientCertVerifier>,
        resumes: bool,
    ) -> Result<Self, TlsError> {
        let config = config(chain, key, &clients, resumes)?;
        Ok(Self { config: Arc::new(ArcSwap::from_pointee(config)), clients, resumes })
    }

    /// Another certificate of ours, for connections from now on. Where it cannot be used the old
    /// one stays.
    ///
    /// # Errors
    /// Chain and key do not go together.
    pub fn renew(
        &self,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<(), TlsError> {
        self.config.store(Arc::new(config(chain, key, &self.clients, self.resumes)?));
        Ok(())
    }

    /// For one connection.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.config.load_full())
    }
}

fn config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    clients: &Arc<dyn ClientCertVerifier>,
    resumes: bool,
) -> Result<ServerConfig, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Unfit)?
        .with_client_cert_verifier(Arc::clone(clients))
        .with_single_cert(chain, key)
        .map_err(TlsError::Unfit)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    if !resumes {
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    Ok(config)
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tls")
    }
}

/// At least one, or none.
fn certificates(pem: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    all.ok().filter(|all| !all.is_empty())
}
