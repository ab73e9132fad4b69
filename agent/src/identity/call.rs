//! One call to one controller: connected, recognised, on time.

use std::fmt;
use std::future::{Ready, ready};
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper_util::rt::TokioIo;
use plan::Timestamp;
use proto::crossfade::v1 as wire;
use proto::crossfade::v1::enroll_service_client::EnrollServiceClient;
use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Code, Status};
use xds::join::{Kind, MachineName, SKEW_MAX};

use super::Identity;
use super::certificate::Unfit;
use super::key::{Key, KeyError};
use super::trust::{Distrust, Trust, Verdict, Verifier};

/// How long an address may take to take the connection.
const CONNECT_MAX: Duration = Duration::from_secs(3);

/// How long a handshake, and how long an answer may take.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// The longest answer, in bytes: two chains of some certificates.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// Why a controller gave no certificate.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// Nothing takes the connection.
    #[error("{address}: cannot connect: {source}")]
    Connect {
        /// Where.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// Nothing comes back.
    #[error("{address}: no answer in time; is something between that drops packets?")]
    Silent {
        /// Where.
        address: String,
    },
    /// It speaks no TLS, or not ours.
    #[error("{address}: no TLS: {source}; is that the port of the controller's xDS?")]
    Tls {
        /// Where.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// It is somebody else.
    #[error("{address}: {why}")]
    Distrusted {
        /// Where.
        address: String,
        /// Why.
        why: Distrust,
    },
    /// One of the clocks is wrong.
    #[error(
        "{address}: this machine's clock says {ours} and the controller's {theirs}; set the one \
         that is wrong: `timedatectl set-ntp true`"
    )]
    Apart {
        /// Where.
        address: String,
        /// What our clock says.
        ours: Timestamp,
        /// What the controller's says.
        theirs: Timestamp,
    },
    /// The clocks agree, and its certificate is not valid.
    #[error(
        "{address}: the controller's certificate has expired, or is not valid yet; restart the \
         controller, which makes itself a new one"
    )]
    Untimely {
        /// Where.
        address: String,
    },
    /// It will not.
    #[error("{address}: {words}")]
    Refused {
        /// Where.
        address: String,
        /// How.
        code: Code,
        /// Its words.
        words: String,
    },
    /// It cannot, now.
    #[error("{address}: no certificate now: {words}")]
    Away {
        /// Where.
        address: String,
        /// Its words, or the network's.
        words: String,
    },
    /// What it sent is no certificate of ours.
    #[error("{address}: what it sent cannot be used: {why}")]
    Malformed {
        /// Where.
        address: String,
        /// Why.
        why: Unusable,
    },
    /// Our own key does not work.
    #[error("this machine's key cannot be used")]
    Key(#[from] KeyError),
}

/// Why an answer cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// Its certificates do not fit.
    #[error(transparent)]
    Unfit(#[from] Unfit),
    /// It is another's.
    #[error("it is for `{0}`, which is not this machine")]
    Name(String),
    /// It is for something else.
    #[error("it is for {given}, and this machine is {asked}")]
    Kind {
        /// What it is for.
        given: Kind,
        /// What was asked for.
        asked: Kind,
    },
    /// It is over already, or does not begin yet.
    #[error("it is not valid now but from {0} until {1}")]
    Validity(Timestamp, Timestamp),
    /// Its CA is another.
    #[error("its CA is not the one by which the controller was known")]
    Authority,
}

impl CallError {
    /// Whether every controller would say the same.
    pub const fn is_settled(&self) -> bool {
        matches!(self, Self::Refused { .. } | Self::Key(_))
    }
}

/// The time of a controller, which is within five minutes of ours. Says no secret, and shows no
/// certificate: it may be that which is not valid there.
///
/// # Errors
/// As [`CallError`] says; [`CallError::Apart`] has both times.
pub async fn time(
    address: &str,
    identity: &Identity,
    now: Timestamp,
) -> Result<Timestamp, CallError> {
    let mut call = Call::connect(address, &Trust::of(identity), now).await?;
    Ok(call.challenge().await?.1)
}

/// A controller that was recognised.
pub(super) struct Call {
    address: String,
    client: EnrollServiceClient<Channel>,
    /// By what it was known.
    trust: Trust,
    /// Who it is.
    verdict: Verdict,
    now: Timestamp,
}

impl Call {
    /// Connects to a controller and recognises it.
    pub(super) async fn connect(
        address: &str,
        trust: &Trust,
        now: Timestamp,
    ) -> Result<Self, CallError> {
        let verifier = Verifier::new(trust.clone(), now);
        // Boxed: what a handshake needs is large, and over soon.
        let stream = Box::pin(connect(address, &verifier)).await?;
        let Some(Ok(verdict)) = verifier.said() else {
            let source = io::Error::other("the server showed no certificate");
            return Err(CallError::Tls { address: address.to_owned(), source });
        };
        let endpoint = Endpoint::from_static("http://controller").timeout(ANSWER_MAX);
        let connector = Connected(Some(TokioIo::new(stream)));
        let channel = endpoint.connect_with_connector(connector).await.map_err(|error| {
            CallError::Away { address: address.to_owned(), words: error.to_string() }
        })?;
        let client = EnrollServiceClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX);
        Ok(Self { address: address.to_owned(), client, trust: trust.clone(), verdict, now })
    }

    /// Asks for its time and for what is to be signed. Says no secret.
    pub(super) async fn challenge(&mut self) -> Result<(Bytes, Timestamp), CallError> {
        let asked = self.client.challenge(wire::ChallengeRequest {}).await;
        let answer = asked.map_err(|status| refused(&self.address, &status))?.into_inner();
        let theirs = Timestamp::from_millis(i64::try_from(answer.now_ms).unwrap_or(i64::MAX));
        let (address, ours) = (self.address.clone(), self.now);
        if ours.since(theirs).max(theirs.since(ours)) > SKEW_MAX {
            return Err(CallError::Apart { address, ours, theirs });
        }
        if !self.verdict.timely {
            return Err(CallError::Untimely { address });
        }
        Ok((answer.nonce, theirs))
    }

    /// Asks for a first certificate.
    pub(super) async fn enroll(
        &mut self,
        token: String,
        key: &Key,
    ) -> Result<wire::Issued, CallError> {
        let now_ms = u64::try_from(self.now.millis()).unwrap_or(0);
        let request = wire::EnrollRequest { token, request: key.request()?.into(), now_ms };
        let asked = self.client.enroll(request).await;
        Ok(asked.map_err(|status| refused(&self.address, &status))?.into_inner())
    }

    /// Asks for the next certificate.
    pub(super) async fn renew(
        &mut self,
        last: &Identity,
        key: &Key,
    ) -> Result<wire::Issued, CallError> {
        let (nonce, _) = self.challenge().await?;
        let request = key.request()?;
        let signature = last.key.prove(&nonce, &request)?;
        let certificate = last.chain.first().map(|leaf| leaf.to_vec()).unwrap_or_default();
        let asked = self.client.renew(wire::RenewRequest {
            certificate: certificate.into(),
            request: request.into(),
            nonce,
            signature: signature.into(),
        });
        let asked = asked.await;
        Ok(asked.map_err(|status| refused(&self.address, &status))?.into_inner())
    }

    /// What was issued, if it can be used: for this key, this machine, now, and of the controller's
    /// trust domain.
    pub(super) fn taken(
        &self,
        issued: wire::Issued,
        key: Key,
        machine: (&Kind, &MachineName),
    ) -> Result<Identity, CallError> {
        self.judge(issued, key, machine)
            .map_err(|why| CallError::Malformed { address: self.address.clone(), why })
    }

    fn judge(
        &self,
        issued: wire::Issued,
        key: Key,
        (kind, name): (&Kind, &MachineName),
    ) -> Result<Identity, Unusable> {
        let identity = Identity::of(der(issued.chain), key, der(issued.authorities))?;
        if identity.name != *name || issued.name != name.as_str() {
            return Err(Unusable::Name(issued.name));
        }
        if identity.kind != *kind {
            return Err(Unusable::Kind { given: identity.kind, asked: kind.clone() });
        }
        let goes_on = self.trust.goes_on_in(&identity.ca);
        if !goes_on || identity.trust_domain != self.verdict.trust_domain {
            return Err(Unusable::Authority);
        }
        let (from, until) = (identity.not_before, identity.not_after);
        // Somebody's clock may be a little ahead.
        if from > self.now.after(SKEW_MAX) || until <= self.now {
            return Err(Unusable::Validity(from, until));
        }
        Ok(identity)
    }
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call").field("address", &self.address).finish_non_exhaustive()
    }
}

fn der(certificates: Vec<impl Into<Vec<u8>>>) -> Vec<CertificateDer<'static>> {
    certificates.into_iter().map(|der| CertificateDer::from(der.into())).collect()
}

async fn connect(
    address: &str,
    verifier: &Arc<Verifier>,
) -> Result<TlsStream<TcpStream>, CallError> {
    let silent = || CallError::Silent { address: address.to_owned() };
    let connected = tokio::time::timeout(CONNECT_MAX, TcpStream::connect(address)).await;
    let stream = connected
        .map_err(|_| silent())?
        .map_err(|source| CallError::Connect { address: address.to_owned(), source })?;
    let tls = |source| CallError::Tls { address: address.to_owned(), source };
    let config = config(verifier).map_err(|error| tls(io::Error::other(error)))?;
    // Not sent: the controller has one name, which the verifier finds in its certificate.
    let name = ServerName::try_from("controller").map_err(|error| tls(io::Error::other(error)))?;
    let handshake = TlsConnector::from(Arc::new(config)).connect(name, stream);
    match tokio::time::timeout(ANSWER_MAX, handshake).await {
        Err(_) => Err(silent()),
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(source)) => Err(match verifier.said() {
            Some(Err(why)) => CallError::Distrusted { address: address.to_owned(), why },
            Some(Ok(_)) | None => tls(source),
        }),
    }
}

fn config(verifier: &Arc<Verifier>) -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier: Arc<Verifier> = Arc::clone(verifier);
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.enable_sni = false;
    // Who resumes shows no certificate.
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// What a status means: some are the controller's word, others the network's.
fn refused(address: &str, status: &Status) -> CallError {
    let (address, words) = (address.to_owned(), status.message().to_owned());
    match status.code() {
        code @ (Code::PermissionDenied
        | Code::InvalidArgument
        | Code::FailedPrecondition
        | Code::Unauthenticated
        | Code::AlreadyExists
        | Code::NotFound) => CallError::Refused { address, code, words },
        Code::Unimplemented => {
            let words = "it signs no certificates; is that the port of its xDS, and does it run \
                         with identities?";
            CallError::Away { address, words: words.to_owned() }
        }
        // Some of them are the controller's, such as that there were too many; the others are the
        // network's. Either way it may say something else another time.
        code @ (Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::ResourceExhausted
        | Code::Aborted
        | Code::OutOfRange
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss) => CallError::Away { address, words: format!("{words} ({code})") },
    }
}

/// Gives away the one connection that is there.
struct Connected(Option<TokioIo<TlsStream<TcpStream>>>);

impl tower_service::Service<Uri> for Connected {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = io::Error;
    type Future = Ready<io::Result<Self::Response>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        ready(self.0.take().ok_or_else(|| io::ErrorKind::NotConnected.into()))
    }
}
