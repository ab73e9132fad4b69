//! The gRPC service by which machines get their certificates.

use std::net::IpAddr;

use plan::Timestamp;
use proto::crossfade::v1 as wire;
use proto::crossfade::v1::enroll_service_server::{EnrollService, EnrollServiceServer};
use tonic::{Request, Response, Status};
use xds::server::Peer;

use super::issue::{EnrolError, Made, Proofs, RenewError};
use super::{Authority, ChangeError};
use crate::identity::book::{EnrolRefused, RenewRefused};
use crate::identity::ca::SignError;
use crate::identity::nonce::NonceError;
use crate::identity::proof::CertificateError;

/// The longest message, in bytes: a token, a certificate and a request fit many times.
const MESSAGE_BYTES_MAX: usize = 64 << 10;

impl Authority {
    /// The gRPC service for machines.
    pub fn enroll_service(&self) -> EnrollServiceServer<impl EnrollService + use<>> {
        EnrollServiceServer::new(Desk(self.clone())).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    fn issued(&self, made: Made) -> Response<wire::Issued> {
        Response::new(wire::Issued {
            chain: vec![made.certificate.into()],
            authorities: vec![self.ca_der().to_vec().into()],
            name: made.grant.name.to_string(),
            now_ms: self.now_ms(),
        })
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.inner.clock.now().millis()).unwrap_or(0)
    }
}

/// The service; a type of its own so that nothing else of the authority is public by it.
#[derive(Debug)]
struct Desk(Authority);

#[tonic::async_trait]
impl EnrollService for Desk {
    async fn enroll(
        &self,
        request: Request<wire::EnrollRequest>,
    ) -> Result<Response<wire::Issued>, Status> {
        let source = source(&request)?;
        let wire::EnrollRequest { token, request, now_ms } = request.into_inner();
        let millis = i64::try_from(now_ms).unwrap_or(i64::MAX);
        let clock = (now_ms != 0).then(|| Timestamp::from_millis(millis));
        let made = self.0.enrol(&token, &request, clock, source).await.map_err(not_enrolled)?;
        Ok(self.0.issued(made))
    }

    async fn challenge(
        &self,
        _: Request<wire::ChallengeRequest>,
    ) -> Result<Response<wire::ChallengeResponse>, Status> {
        let nonce = self.0.challenge().map_err(|error| not_kept(&error))?;
        let nonce = nonce.to_vec().into();
        Ok(Response::new(wire::ChallengeResponse { nonce, now_ms: self.0.now_ms() }))
    }

    async fn renew(
        &self,
        request: Request<wire::RenewRequest>,
    ) -> Result<Response<wire::Issued>, Status> {
        let source = source(&request)?;
        let wire::RenewRequest { certificate, request, nonce, signature } = request.into_inner();
        let proofs = Proofs {
            certificate: &certificate,
            request: &request,
            nonce: &nonce,
            signature: &signature,
        };
        let made = self.0.renew_certificate(proofs, source).await.map_err(not_renewed)?;
        Ok(self.0.issued(made))
    }
}

fn source<T>(request: &Request<T>) -> Result<IpAddr, Status> {
    let peer = request.extensions().get::<Peer>();
    peer.map(|peer| peer.address.ip()).ok_or_else(|| Status::internal("the caller is not known"))
}

fn not_enrolled(error: EnrolError) -> Status {
    let words = error.to_string();
    match error {
        EnrolError::Pace(_) | EnrolError::Refused(EnrolRefused::Full | EnrolRefused::TooMany) => {
            Status::resource_exhausted(words)
        }
        EnrolError::Ticket(_)
        | EnrolError::Request(_)
        | EnrolError::Refused(EnrolRefused::OldKey) => Status::invalid_argument(words),
        EnrolError::Clock { .. } => Status::failed_precondition(words),
        // A token that replaces helps, which the machine then says.
        EnrolError::Refused(EnrolRefused::Used { .. } | EnrolRefused::Live { .. }) => {
            Status::already_exists(words)
        }
        EnrolError::Foreign { .. } | EnrolError::Refused(_) => Status::permission_denied(words),
        EnrolError::Change(error) => not_kept(&error),
        EnrolError::Sign(error) => not_signed(&error),
    }
}

fn not_renewed(error: RenewError) -> Status {
    let words = error.to_string();
    match error {
        RenewError::Pace(_)
        | RenewError::Nonce(NonceError::Full)
        | RenewError::Refused(RenewRefused::TooOften) => Status::resource_exhausted(words),
        RenewError::Nonce(NonceError::Foreign | NonceError::Old | NonceError::Used) => {
            Status::aborted(words)
        }
        RenewError::Certificate(CertificateError::Malformed)
        | RenewError::Request(_)
        | RenewError::Refused(RenewRefused::OldKey) => Status::invalid_argument(words),
        RenewError::Certificate(_) | RenewError::Signature | RenewError::Refused(_) => {
            Status::permission_denied(words)
        }
        RenewError::Change(error) => not_kept(&error),
        RenewError::Sign(error) => not_signed(&error),
    }
}

/// The caller may try again; the operator has to look.
fn not_kept(error: &ChangeError) -> Status {
    let cause = std::error::Error::source(error).map(ToString::to_string);
    tracing::error!(%error, cause, "no certificate can be given out");
    Status::unavailable(error.to_string())
}

fn not_signed(error: &SignError) -> Status {
    tracing::error!(%error, "a certificate cannot be made");
    Status::internal("the certificate cannot be made")
}
