//! First and next certificates.

use std::net::IpAddr;
use std::time::Duration;

use plan::Timestamp;
use xds::join::{Ticket, TicketError};

use super::{Authority, ChangeError, lock};
use crate::identity::book::{EnrolRefused, Enrolment, Grant, NotAdmitted, RenewRefused, Renewal};
use crate::identity::ca::SignError;
use crate::identity::nonce::{self, NonceError};
use crate::identity::proof::{self, CertificateError, Leaf, PublicKey, RequestError};
use crate::identity::{SKEW_MAX, Serial};

/// A certificate that was made.
#[derive(Clone, Debug)]
pub(in crate::identity) struct Made {
    /// In DER.
    pub(in crate::identity) certificate: Vec<u8>,
    pub(in crate::identity) grant: Grant,
}

/// Why there is no first certificate.
#[derive(Debug, thiserror::Error)]
pub(in crate::identity) enum EnrolError {
    #[error("too many machines join at once; try again in {} s", .0.as_secs().max(1))]
    Pace(Duration),
    #[error(transparent)]
    Ticket(#[from] TicketError),
    #[error("this token is of another controller: its CA is {theirs}, ours is {ours}")]
    Foreign { theirs: xds::join::Pin, ours: xds::join::Pin },
    #[error(
        "the clocks are more than {} min apart: it is {ours} here and {theirs} there; set the \
         machine's clock",
        SKEW_MAX.as_secs() / 60
    )]
    Clock { ours: Timestamp, theirs: Timestamp },
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error(transparent)]
    Refused(#[from] EnrolRefused),
    #[error(transparent)]
    Change(#[from] ChangeError),
    #[error(transparent)]
    Sign(#[from] SignError),
}

/// Why there is no next certificate.
#[derive(Debug, thiserror::Error)]
pub(in crate::identity) enum RenewError {
    #[error("too many machines renew at once; try again in {} s", .0.as_secs().max(1))]
    Pace(Duration),
    #[error(transparent)]
    Nonce(#[from] NonceError),
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    #[error("the challenge is not signed by the key of the last certificate")]
    Signature,
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error(transparent)]
    Refused(#[from] RenewRefused),
    #[error(transparent)]
    Change(#[from] ChangeError),
    #[error(transparent)]
    Sign(#[from] SignError),
}

/// What a renewal brings.
#[derive(Clone, Copy, Debug)]
pub(in crate::identity) struct Proofs<'a> {
    /// The last certificate in DER.
    pub(in crate::identity) certificate: &'a [u8],
    /// PKCS #10 in DER.
    pub(in crate::identity) request: &'a [u8],
    /// Of a challenge.
    pub(in crate::identity) nonce: &'a [u8],
    pub(in crate::identity) signature: &'a [u8],
}

impl Authority {
    /// A first certificate, for a token.
    pub(in crate::identity) async fn enrol(
        &self,
        token: &str,
        request: &[u8],
        clock: Option<Timestamp>,
        source: IpAddr,
    ) -> Result<Made, EnrolError> {
        let inner = &self.inner;
        let ticket = token.parse::<Ticket>();
        let made_here = ticket.as_ref().ok().map(|ticket| ticket.secret.digest());
        let made_here = made_here.filter(|secret| inner.known().book.has_token(*secret));
        let uptime = inner.clock.uptime();
        let paced = match made_here {
            Some(secret) => lock(&inner.paces).token(secret, uptime),
            // Nobody's, or made at another controller a moment ago.
            None => lock(&inner.paces).stranger(source, uptime),
        };
        paced.map_err(EnrolError::Pace)?;
        let ticket = ticket?;
        let ours = inner.ca.pin();
        if ticket.pin != ours {
            return Err(EnrolError::Foreign { theirs: ticket.pin, ours });
        }
        let key = proof::request(request)?;
        let now = inner.clock.now();
        if let Some(theirs) = clock.filter(|theirs| apart(*theirs, now) > SKEW_MAX) {
            return Err(EnrolError::Clock { ours: now, theirs });
        }
        let serial = Serial::new(inner.random()?);
        let (secret, digest) = (ticket.secret.digest(), key.digest());
        let (name, kind) = (&ticket.name, &ticket.kind);
        let enrolled = inner.change(|book, now| {
            book.enrol(Enrolment { secret, name, kind, source, key: digest, serial, now })
        });
        match enrolled.await? {
            Ok(grant) => {
                let Grant { kind, name, serial, again, .. } = &grant;
                tracing::info!(%name, %kind, %source, %serial, again, "machine joined");
                self.made(grant, &key).map_err(EnrolError::from)
            }
            Err(why) => {
                // Said here alone.
                let allowed = if let EnrolRefused::Source { allowed, .. } = &why {
                    Some(allowed.to_string())
                } else {
                    None
                };
                tracing::warn!(%name, %source, allowed, %why, "machine refused");
                Err(why.into())
            }
        }
    }

    /// Something to sign.
    pub(in crate::identity) fn challenge(&self) -> Result<[u8; nonce::BYTES], ChangeError> {
        let (random, now) = (self.inner.random()?, self.inner.clock.now());
        Ok(lock(&self.inner.nonces).make(random, now))
    }

    /// The next certificate, for the last one.
    pub(in crate::identity) async fn renew_certificate(
        &self,
        proofs: Proofs<'_>,
        source: IpAddr,
    ) -> Result<Made, RenewError> {
        let inner = &self.inner;
        let uptime = inner.clock.uptime();
        // Nobody guesses a serial number: who has one costs its machine nothing before the proof.
        let leaf = Leaf::read(proofs.certificate, &inner.domain);
        if !leaf.is_ok_and(|leaf| inner.known().book.holds(&leaf.shown)) {
            lock(&inner.paces).stranger(source, uptime).map_err(RenewError::Pace)?;
        }
        lock(&inner.nonces).check(proofs.nonce, inner.clock.now())?;
        let leaf = Leaf::proved(proofs.certificate, &inner.domain, inner.ca.key())?;
        if !leaf.signed(proofs.nonce, proofs.request, proofs.signature) {
            return Err(RenewError::Signature);
        }
        let key = proof::request(proofs.request)?;
        lock(&inner.paces).machine(&leaf.shown.name, uptime).map_err(RenewError::Pace)?;
        lock(&inner.nonces).spend(proofs.nonce, inner.clock.now())?;
        if let Some(why) = inner.freezing(&leaf.shown.name) {
            return Err(RenewRefused::NotAdmitted(why).into());
        }
        let (serial, digest) = (Serial::new(inner.random()?), key.digest());
        let shown = &leaf.shown;
        let renewed = inner
            .change(|book, now| book.renew(Renewal { shown, source, key: digest, serial, now }));
        match renewed.await? {
            Ok(grant) => {
                let Grant { name, serial, again, .. } = &grant;
                tracing::info!(%name, %source, %serial, again, "certificate renewed");
                self.made(grant, &key).map_err(RenewError::from)
            }
            Err(why) => {
                told(&why, source);
                Err(why.into())
            }
        }
    }

    fn made(&self, grant: Grant, key: &PublicKey) -> Result<Made, SignError> {
        Ok(Made { certificate: self.inner.ca.sign(&grant, key)?, grant })
    }
}

/// A copied key is an alarm; anything else is somebody's mistake.
fn told(why: &RenewRefused, source: IpAddr) {
    match why {
        RenewRefused::Cloned { name, .. } => {
            tracing::error!(%name, %source, %why, "a machine's key is in two places");
        }
        RenewRefused::NotAdmitted(NotAdmitted::Frozen { name, .. }) => {
            tracing::error!(%name, %source, %why, "a frozen machine wants a certificate");
        }
        RenewRefused::NotAdmitted(_)
        | RenewRefused::TooLate { .. }
        | RenewRefused::OldKey
        | RenewRefused::TooOften => tracing::warn!(%source, %why, "renewal refused"),
    }
}

fn apart(one: Timestamp, other: Timestamp) -> Duration {
    one.since(other).max(other.since(one))
}
