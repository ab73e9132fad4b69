//! The first certificate, for a token.

use plan::Timestamp;
use tonic::Code;
use xds::join::Ticket;

use super::Identity;
use super::call::{Call, CallError};
use super::key::Key;
use super::store::{Files, Store, StoreError};
use super::trust::Trust;

/// Why there is no first certificate.
#[derive(Debug, thiserror::Error)]
pub enum EnrollError {
    /// No controller was reached, or none was the token's.
    #[error(
        "no controller of the token gave a certificate:{}\nthe token is good until it is used or \
         expires; mend that, then run `crossfade agent join` with it again",
        lines(.0)
    )]
    Nobody(Vec<CallError>),
    /// A controller refused.
    #[error("{why}\n{}", next(name, why))]
    Refused {
        /// The machine's name.
        name: String,
        /// How.
        why: CallError,
    },
    /// Nothing can be kept.
    #[error("the identity cannot be kept on this machine; make room or mend it, then join again")]
    Store(#[from] StoreError),
}

fn lines(errors: &[CallError]) -> String {
    errors.iter().map(|error| format!("\n  {error}")).collect()
}

/// What helps.
fn next(name: &str, why: &CallError) -> String {
    let clock = matches!(why, CallError::Refused { code: Code::FailedPrecondition, .. });
    if clock {
        return "set this machine's clock (`timedatectl set-ntp true`), then run `crossfade agent \
                join` with the same token again"
            .to_owned();
    }
    format!("at the controller run `crossfade token create {name}`, and paste here what it prints")
}

/// Gets a first certificate and keeps it. The key is on disk before the controller is asked: where
/// the answer is lost, the same token can be used again from here.
///
/// The controllers of the ticket are asked one after the other, until one of them says yes or no.
///
/// # Errors
/// None could be asked, one refused, or it cannot be kept.
pub async fn enroll<F: Files>(
    ticket: &Ticket,
    store: &mut Store<F>,
    now: Timestamp,
) -> Result<Identity, EnrollError> {
    let mut failed = Vec::new();
    for address in &ticket.controllers {
        // The same one each time, until a certificate was kept.
        let key = store.prepare(ticket.secret.digest().bytes())?;
        match Box::pin(ask(address, ticket, key, now)).await {
            Ok(identity) => {
                store.install(&identity)?;
                return Ok(identity);
            }
            Err(why) if why.is_settled() => {
                return Err(EnrollError::Refused { name: ticket.name.to_string(), why });
            }
            Err(why) => failed.push(why),
        }
    }
    Err(EnrollError::Nobody(failed))
}

async fn ask(
    address: &str,
    ticket: &Ticket,
    key: Key,
    now: Timestamp,
) -> Result<Identity, CallError> {
    let mut call = Call::connect(address, &Trust::Pin(ticket.pin), now).await?;
    // Its time, before it is told the secret.
    call.challenge().await?;
    let issued = call.enroll(ticket.to_string(), &key).await?;
    call.taken(issued, key, ticket.name.as_str())
}
