//! The first certificate, for a token.

use plan::Timestamp;
use tonic::Code;
use xds::join::{Kind, MachineName, Ticket};

use super::Identity;
use super::call::{Call, CallError};
use super::key::Key;
use super::store::{Files, Store, StoreError};
use super::trust::{Distrust, Trust};

/// Why there is no first certificate.
#[derive(Debug, thiserror::Error)]
pub enum EnrollError {
    /// No controller was reached, or none was the token's.
    #[error(
        "no controller of the token gave a certificate:{}\n{}",
        lines(failed),
        after(kind, name, failed)
    )]
    Nobody {
        /// What the machine is to be.
        kind: Kind,
        /// The machine's name.
        name: MachineName,
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

/// What helps where nobody said no.
fn after(kind: &Kind, name: &MachineName, failed: &[CallError]) -> String {
    let is_foreign = |error: &CallError| {
        matches!(error, CallError::Distrusted { why: Distrust::Pin { .. }, .. })
    };
    // One that was not reached may be the token's.
    if !failed.is_empty() && failed.iter().all(is_foreign) {
        return format!(
            "the token was not shown to it; at the controller that this machine is to join run \
             `{}`, and paste here what it prints",
            kind.token_command(name.as_str())
        );
    }
    format!(
        "the token is good until it is used or expires; mend that, then run `{}` with it again",
        kind.join_command()
    )
}

/// What helps where a controller said no.
fn next(kind: &Kind, name: &MachineName, why: &CallError) -> String {
    let is = |asked: Code| matches!(why, CallError::Refused { code, .. } if *code == asked);
    if is(Code::FailedPrecondition) {
        return format!(
            "set this machine's clock (`timedatectl set-ntp true`), then run `{}` with the same \
             token again",
            kind.join_command()
        );
    }
    let create = kind.token_command(name.as_str());
    let says = |part: &str| matches!(why, CallError::Refused { words, .. } if words.contains(part));
    if says("may not be used from") {
        return format!(
            "use it where it may be used; or at the controller run `{create} --from NETWORK` with \
             a network that has this address, and paste here what it prints"
        );
    }
    // Who used it, or has the name, is known there: it gives way on purpose alone.
    let replace = if is(Code::AlreadyExists) { " --replace" } else { "" };
    format!("at the controller run `{create}{replace}`, and paste here what it prints")
}

/// Gets a first certificate and keeps it. The key is on disk before the controller is asked: where
/// the answer is lost, the same token can be used again from here. Where no answer can have been
/// lost, nothing of it stays.
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
    let token = ticket.secret.digest();
    // On disk before anybody is asked. Of one that was there nobody knows here what came of it.
    let is_new = store.prepare_first(token.bytes())?.1;
    let (mut failed, mut may_be_lost) = (Vec::new(), false);
    for address in &ticket.controllers {
        // The same one each time, until a certificate was kept.
        let (key, _) = store.prepare_first(token.bytes())?;
        match Box::pin(ask(address, ticket, key, now)).await {
            Ok(identity) => {
                store.install(&identity)?;
                return Ok(identity);
            }
            Err(Failed { why, .. }) if why.is_settled() => {
                // What it says of a token goes for every key that the token was used with.
                let is_word = matches!(&why, CallError::Refused { code, .. }
                    if matches!(code, Code::PermissionDenied | Code::AlreadyExists));
                forget(store, !may_be_lost && (is_new || is_word));
                let Ticket { kind, name, .. } = ticket.clone();
                return Err(EnrollError::Refused { kind, name, why });
            }
            Err(Failed { why, was_shown }) => {
                may_be_lost |= was_shown;
                failed.push(why);
            }
        }
    }
    forget(store, !may_be_lost && is_new);
    let Ticket { kind, name, .. } = ticket.clone();
    Err(EnrollError::Nobody { kind, name, failed })
}

/// Forgets the key, if it is of no use.
fn forget<F: Files>(store: &mut Store<F>, is_useless: bool) {
    if is_useless && let Err(error) = store.forget_first() {
        tracing::warn!(%error, "a key that is of no use stays");
    }
}

/// No certificate came.
struct Failed {
    why: CallError,
    /// Whether the controller was shown the token.
    was_shown: bool,
}

async fn ask(address: &str, ticket: &Ticket, key: Key, now: Timestamp) -> Result<Identity, Failed> {
    let unshown = |why| Failed { why, was_shown: false };
    let shown = |why| Failed { why, was_shown: true };
    let called = Call::connect(address, &Trust::Pin(ticket.pin), now).await;
    let mut call = called.map_err(unshown)?;
    // Its time, before it is told the secret.
    call.challenge().await.map_err(unshown)?;
    let issued = call.enroll(ticket.to_string(), &key).await.map_err(shown)?;
    call.taken(issued, key, (&ticket.kind, &ticket.name)).map_err(shown)
}
