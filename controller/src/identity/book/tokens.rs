//! Making tokens and taking them back.

use std::time::Duration;

use ipnet::IpNet;
use plan::{Digest, ServiceId, Timestamp};
use xds::join::{Kind, MachineName};

use super::{Book, Spent, Token};
use crate::identity::{SERVICES_MAX, TOKEN_LIFE_MAX, TOKENS_MAX};

/// A token that somebody wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// For which machine.
    pub name: MachineName,
    /// What the machine is.
    pub kind: Kind,
    /// How long it is to be good.
    pub life: Duration,
    /// What the machine may see; empty: everything that is for it.
    pub services: Vec<ServiceId>,
    /// From where it can be used; `None`: from anywhere.
    pub from: Option<IpNet>,
    /// Whether it may take the name of a machine that is there.
    pub replace: bool,
    /// Who wants it.
    pub by: String,
}

/// Why there is no token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenRefused {
    /// A machine has this name and can renew its certificate by itself.
    #[error(
        "a machine called `{name}` has joined and is not gone; only --replace lets another one \
         take its name"
    )]
    Live {
        /// The name.
        name: MachineName,
    },
    /// The name is that of a machine of another kind, which no token can change.
    #[error(
        "`{name}` has joined as {is}; take another name for this {wanted}, or revoke `{name}` first"
    )]
    Kind {
        /// The name.
        name: MachineName,
        /// What has the name.
        is: Kind,
        /// What was to have it.
        wanted: Kind,
    },
    /// A gateway sees what its plans say.
    #[error("a gateway is limited to no services: what it is sent is what its plans say")]
    Unlimited,
    /// It would be good for too long, or not at all.
    #[error("a token is good for 1 s to {} h", TOKEN_LIFE_MAX.as_secs() / 3_600)]
    Life,
    /// Too many services.
    #[error("a token can be limited to at most {SERVICES_MAX} services")]
    Services,
    /// Too many tokens wait.
    #[error(
        "{TOKENS_MAX} tokens wait to be used, the most that can; delete some or let them expire"
    )]
    Full,
}

impl Book {
    /// Makes a token of which only the secret's digest is kept. Whether it takes the place of one
    /// for the same name, which is worth nothing from now on.
    ///
    /// # Errors
    /// As [`TokenRefused`] says.
    pub fn create_token(
        &mut self,
        ask: Ask,
        secret: Digest,
        now: Timestamp,
    ) -> Result<bool, TokenRefused> {
        self.sweep(now);
        let Ask { name, kind, life, mut services, from, replace, by } = ask;
        if life < Duration::from_secs(1) || life > TOKEN_LIFE_MAX {
            return Err(TokenRefused::Life);
        }
        services.sort();
        services.dedup();
        if services.len() > SERVICES_MAX {
            return Err(TokenRefused::Services);
        }
        if !services.is_empty() && !kind.is_agent() {
            return Err(TokenRefused::Unlimited);
        }
        match self.agents.get(&name).filter(|agent| agent.is_live(now)) {
            Some(agent) if agent.kind != kind => {
                return Err(TokenRefused::Kind { name, is: agent.kind.clone(), wanted: kind });
            }
            Some(_) if !replace => return Err(TokenRefused::Live { name }),
            Some(_) | None => {}
        }
        let instead = self.withdraw(&name, now);
        if self.tokens.values().filter(|token| now < token.expires).count() >= TOKENS_MAX {
            return Err(TokenRefused::Full);
        }
        if self.tokens.len() >= TOKENS_MAX {
            self.tokens.retain(|_, token| now < token.expires);
        }
        let expires = now.after(life);
        let token = Token { secret, kind, created: now, expires, services, from, replace, by };
        self.tokens.insert(name, token);
        Ok(instead)
    }

    /// Takes back the token for this name. Whether there was one.
    pub fn delete_token(&mut self, name: &MachineName, now: Timestamp) -> bool {
        self.withdraw(name, now)
    }

    /// Takes a token back; whether it was still good.
    pub(super) fn withdraw(&mut self, name: &MachineName, now: Timestamp) -> bool {
        let Some(token) = self.tokens.remove(name) else { return false };
        let Token { secret, expires, .. } = token;
        self.spend(Spent { secret, name: name.clone(), at: now, expires, used: None });
        now < expires
    }
}
