//! A book as it is kept.

use std::collections::BTreeMap;

use plan::Timestamp;
use serde::{Deserialize, Serialize};
use xds::join::{Kind, MachineName};

use super::revoked::Ended;
use super::{Agent, Book, Held, Spent, Token};

/// The version of the format of a book of agents alone.
const AGENTS: u32 = 1;

/// The version of one with gateways. A program that knows agents alone would take them for such,
/// so it must not read it.
const GATEWAYS: u32 = 2;

#[derive(Serialize, Deserialize)]
struct Kept {
    format: u32,
    tokens: BTreeMap<MachineName, Token>,
    spent: Vec<Spent>,
    agents: BTreeMap<MachineName, Agent>,
    // A program that does not know of these lets in the same machines, so the format is the same.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    ended: Vec<Ended>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    list: Option<u64>,
}

#[derive(Deserialize)]
struct Head {
    format: u32,
}

/// The bytes are no book.
#[derive(Debug, thiserror::Error)]
pub enum CellError {
    /// It was written by a later version of the program.
    #[error("it is of format {0}, which this version of Crossfade does not know")]
    Later(u32),
    /// It is not what was written.
    #[error("it cannot be read")]
    Malformed(#[source] serde_json::Error),
}

impl Book {
    /// As it is kept. Has digests, never a secret.
    pub fn encode(&self) -> Vec<u8> {
        let Self { tokens, spent, agents, ended, list } = self.clone();
        let kinds = tokens.values().map(|it| &it.kind).chain(agents.values().map(|it| &it.kind));
        let format = if kinds.into_iter().all(Kind::is_agent) { AGENTS } else { GATEWAYS };
        let kept = Kept { format, tokens, spent, agents, ended, list };
        // Writing text and numbers into memory cannot fail.
        serde_json::to_vec(&kept).unwrap_or_default()
    }

    /// From what was kept.
    ///
    /// # Errors
    /// As [`CellError`] says.
    pub fn decode(bytes: &[u8]) -> Result<Self, CellError> {
        let Head { format } = serde_json::from_slice(bytes).map_err(CellError::Malformed)?;
        if !matches!(format, AGENTS | GATEWAYS) {
            return Err(CellError::Later(format));
        }
        let kept = serde_json::from_slice(bytes).map_err(CellError::Malformed)?;
        let Kept { tokens, spent, agents, ended, list, .. } = kept;
        Ok(Self { tokens, spent, agents, ended, list })
    }
}

/// The text says of no certificate what is kept of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a certificate is kept as SERIAL KEY MILLISECONDS")]
pub struct HeldError;

impl TryFrom<String> for Held {
    type Error = HeldError;

    fn try_from(text: String) -> Result<Self, HeldError> {
        let mut parts = text.split(' ');
        let mut part = || parts.next().ok_or(HeldError);
        let serial = part()?.parse().map_err(|_| HeldError)?;
        let key = part()?.parse().map_err(|_| HeldError)?;
        let issued = Timestamp::from_millis(part()?.parse().map_err(|_| HeldError)?);
        if parts.next().is_some() { Err(HeldError) } else { Ok(Self { serial, key, issued }) }
    }
}

impl From<Held> for String {
    fn from(held: Held) -> Self {
        format!("{} {} {}", held.serial, held.key, held.issued.millis())
    }
}
