//! Tokens and machines as they are shown: never a secret.

use std::net::IpAddr;

use plan::{ServiceId, ServiceName, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use xds::join::MachineName;

use super::book::{Agent, EndKind, Token};

/// A machine that has joined.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AgentView {
    /// What it is called: its node id.
    pub name: String,
    /// The plans' gateway that it is of; without it: it is the agent of a VM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<ServiceName>,
    /// Whether it is let in.
    pub state: AgentState,
    /// The beginning of its certificate's serial number, in hexadecimal digits.
    pub serial: String,
    /// When its certificate ends. It renews it by itself.
    pub expires: Timestamp,
    /// When it joined.
    pub joined: Timestamp,
    /// When this controller last let it in, or any gave it a certificate.
    pub last_seen: Timestamp,
    /// From where it had its certificate.
    pub from: IpAddr,
    /// What it may see; empty: everything that is for it.
    pub services: Vec<ServiceId>,
    /// Since when and why it is frozen or revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<EndView>,
}

/// Whether a machine is let in.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum AgentState {
    /// Yes.
    Active,
    /// Its certificate has ended. For a week from then it can still renew it.
    Expired,
    /// No: its key seems to be in two places. Somebody has to look.
    Frozen,
    /// No: an operator wanted it so.
    Revoked,
}

impl AgentState {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Active, Self::Expired, Self::Frozen, Self::Revoked];

    /// As it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Expired => "expired",
            Self::Frozen => "frozen",
            Self::Revoked => "revoked",
        }
    }
}

/// Why a machine is not let in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EndView {
    /// Since when.
    pub at: Timestamp,
    /// In words.
    pub why: String,
}

impl AgentView {
    pub(super) fn of(
        name: &MachineName,
        agent: &Agent,
        seen: Option<Timestamp>,
        now: Timestamp,
    ) -> Self {
        let held = agent.current;
        Self {
            name: name.to_string(),
            gateway: agent.kind.gateway().cloned(),
            state: agent.state(now),
            serial: held.serial.short(),
            expires: held.expires(),
            joined: agent.joined,
            last_seen: seen.map_or(held.issued, |seen| seen.max(held.issued)),
            from: agent.from,
            services: agent.services.clone(),
            end: agent.end.as_ref().map(|end| EndView { at: end.at, why: end.why.clone() }),
        }
    }
}

impl Agent {
    /// Whether it is let in.
    pub fn state(&self, now: Timestamp) -> AgentState {
        match self.end.as_ref().map(|end| end.kind) {
            Some(EndKind::Frozen) => AgentState::Frozen,
            Some(EndKind::Revoked) => AgentState::Revoked,
            None if now >= self.current.expires() => AgentState::Expired,
            None => AgentState::Active,
        }
    }
}

/// A token that waits to be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TokenView {
    /// For which machine.
    pub name: String,
    /// The plans' gateway that the machine will be of; without it: the agent of a VM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<ServiceName>,
    /// When it was made.
    pub created: Timestamp,
    /// From when on it is worth nothing.
    pub expires: Timestamp,
    /// Whether that is past.
    pub expired: bool,
    /// From where it can be used; without it: from anywhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// What its machine may see; empty: everything that is for it.
    pub services: Vec<ServiceId>,
    /// Whether it may take the name of a machine that is there.
    pub replace: bool,
    /// Who made it.
    pub by: String,
}

impl TokenView {
    pub(super) fn of(name: &MachineName, token: &Token, now: Timestamp) -> Self {
        Self {
            name: name.to_string(),
            gateway: token.kind.gateway().cloned(),
            created: token.created,
            expires: token.expires,
            expired: now >= token.expires,
            from: token.from.map(|network| network.to_string()),
            services: token.services.clone(),
            replace: token.replace,
            by: token.by.clone(),
        }
    }
}
