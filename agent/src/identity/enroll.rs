//! The first certificate, for a token.

use plan::Timestamp;
use tonic::Code;
use xds::join::{Kind, MachineName, Ticket};

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
         expires; mend that, then run `{}` with it again",
        lines(failed),
        kind.join_command()
    )]
    Nobody {
        /// What the machine is to be.
        kind: Kind,
        /// What each of them said.
        failed: Vec<CallError>,
    },
    /// A controller refused.
    #[error("{why}\n{}", next(kind, name, why))]
    Refused {
        /// What the machine is to be.
        kind: Kind,
        /// The machine's name.
        name: MachineName,
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
fn next(kind: &Kind, name: &MachineName, why: &CallError) -> String {
    let clock = matches!(why, CallError::Refused { code: Code::FailedPrecondition, .. });
    if clock {
        return format!(
            "set this machine's clock (`timedatectl set-ntp true`), then run `{}` with the same \
             token again",
            kind.join_command()
        );
    }
    // Who used it, or has the name, is known there: it gives way on purpose alone.
    let is_had = |words: &str| words.contains("used already") || words.contains("--replace");
    let had = matches!(why, CallError::Refused { words, .. } if is_had(words));
    let replace = if had { " --replace" } else { "" };
    let create = kind.token_command(name.as_str());
    format!("at the controller run `{create}{replace}`, and paste here what it prints")
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
                let Ticket { kind, name, .. } = ticket.clone();
                return Err(EnrollError::Refused { kind, name, why });
            }
            Err(why) => failed.push(why),
        }
    }
    Err(EnrollError::Nobody { kind: ticket.kind.clone(), failed })
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
    call.taken(issued, key, (&ticket.kind, &ticket.name))
}
