//! Receivers that go for good.

use std::sync::Arc;
use std::time::Duration;

use plan::{Actor, SinkId};
use tokio::sync::{mpsc, oneshot};
use xds::Client;

use crate::core::ForgetError;
use crate::handle::ForgetKnock;
use crate::identity::Authority;

/// How long it may take until its connections are gone.
const GONE_WITHIN: Duration = Duration::from_secs(10);
/// How often that is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What is needed to let somebody go.
#[derive(Clone, Debug)]
pub(super) struct Leaving {
    pub(super) forget: mpsc::Sender<ForgetKnock>,
    pub(super) identity: Option<Authority>,
}

impl Leaving {
    /// Waits until this receiver is gone, and expects it no more.
    pub(super) async fn let_go(self, client: Arc<Client>) {
        let id = &client.id;
        if let (Some(authority), Some(known)) = (&self.identity, &client.identity) {
            let revoked = authority.revoke(&known.name, &Actor::new(id), "it left").await;
            if let Err(error) = revoked {
                tracing::warn!(sink = %id, %error, "its certificate is not revoked");
            }
        }
        let tries = GONE_WITHIN.as_millis() / LOOK_EVERY.as_millis();
        for _ in 0..tries {
            tokio::time::sleep(LOOK_EVERY).await;
            match self.ask(id).await {
                Ok(()) => return tracing::info!(sink = %id, "it left, and is expected no more"),
                Err(ForgetError::Connected(_)) => {}
                Err(ForgetError::Missing(_)) => return,
                Err(error) => return tracing::warn!(sink = %id, %error, "it is not forgotten"),
            }
        }
        tracing::warn!(sink = %id, "it said that it leaves, and is still there");
    }

    async fn ask(&self, id: &str) -> Result<(), ForgetError> {
        let (answer, answered) = oneshot::channel();
        let knock = ForgetKnock { sink: SinkId::new(id), answer };
        self.forget.send(knock).await.map_err(|_| ForgetError::Stopped)?;
        answered.await.unwrap_or(Err(ForgetError::Stopped))
    }
}
