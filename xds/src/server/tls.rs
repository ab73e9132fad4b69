//! TLS with client certificates.

use std::sync::Arc;

use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

/// TLS 1.2 or 1.3 with a certificate of ours, and clients that must show one signed by a CA of
/// ours.
#[derive(Clone)]
pub struct Tls {
    config: Arc<ServerConfig>,
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
    /// From PEM texts: our chain, its key, and the CA certificates that clients are signed by.
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
        let clients: Arc<dyn ClientCertVerifier> =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
                .build()
                .map_err(|_| TlsError::Clients)?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Unfit)?
            .with_client_cert_verifier(clients)
            .with_single_cert(chain, key)
            .map_err(TlsError::Unfit)?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Self { config: Arc::new(config) })
    }

    pub(super) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.config))
    }
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
