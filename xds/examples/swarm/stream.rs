//! The life of one stream: connect, ask, acknowledge, come back.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{Either, select};
use proto::envoy::config::core::v3::Node;
use proto::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};

use crate::bad;
use crate::board::Board;
use crate::names::{self, Names};
use crate::wire::{self, Wire};

/// The first wait after a failure, as Envoy has it; each stream takes a part of it, by its number.
const BACKOFF: Duration = Duration::from_millis(500);
/// The longest.
const BACKOFF_MAX: Duration = Duration::from_secs(4);

/// What all streams have in common.
pub(crate) struct Plan {
    server: SocketAddr,
    names: Names,
    node: Node,
}

impl Plan {
    pub(crate) fn new(server: SocketAddr, names: Names, metadata: &[&str]) -> io::Result<Self> {
        Ok(Self { server, names, node: names::node(String::new(), metadata)? })
    }
}

/// One stream and what it holds.
pub(crate) struct Stream {
    number: usize,
    plan: Arc<Plan>,
    board: Arc<Board>,
    /// By type and name; `None`: not answered yet.
    versions: Vec<Vec<Option<Arc<str>>>>,
    missing: usize,
}

impl Stream {
    pub(crate) fn new(number: usize, plan: Arc<Plan>, board: Arc<Board>) -> Self {
        let versions = plan.names.0.iter().map(|of| vec![None; of.names.len()]).collect();
        let missing = plan.names.count();
        Self { number, plan, board, versions, missing }
    }

    /// Never ends by itself.
    pub(crate) async fn live(mut self) {
        let mut backoff = BACKOFF;
        loop {
            self.board.go().await;
            let ended = match self.once().await {
                Ok(never) => match never {},
                Err(error) => error,
            };
            self.board.failed(ended.to_string());
            let part = self.number.wrapping_mul(2_654_435_761) % 1024;
            tokio::time::sleep(backoff * u32::try_from(part).unwrap_or(0) / 1024).await;
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
    }

    async fn once(&mut self) -> io::Result<std::convert::Infallible> {
        let (mut wire, connection) = wire::open(self.plan.server, self.number).await?;
        let board = self.board.clone();
        let talk = Box::pin(async {
            self.ask(&mut wire)?;
            let _open = Open::new(&board);
            loop {
                let response = wire.next().await?;
                self.take(&mut wire, &response)?;
            }
        });
        match select(talk, connection).await {
            Either::Left((ended, _)) => ended,
            // What the stream was told last says more than that the connection is gone.
            Either::Right((ended, talk)) => {
                match tokio::time::timeout(Duration::ZERO, talk).await {
                    Ok(told) => told,
                    Err(_) => Err(bad(format!("the connection ended: {ended:?}"))),
                }
            }
        }
    }

    /// The first request of each type.
    fn ask(&self, wire: &mut Wire) -> io::Result<()> {
        for (of, versions) in self.plan.names.0.iter().zip(&self.versions) {
            let known = of.names.iter().zip(versions);
            let known = known.filter_map(|(name, version)| {
                let version = version.as_ref().filter(|version| !version.is_empty())?;
                Some((name.clone(), version.to_string()))
            });
            let known: BTreeMap<String, String> = known.collect();
            let mut node = self.plan.node.clone();
            node.id = format!("swarm-{}", self.number);
            wire.send(&DeltaDiscoveryRequest {
                node: Some(node),
                type_url: of.url.clone(),
                resource_names_subscribe: of.names.clone(),
                initial_resource_versions: known,
                ..DeltaDiscoveryRequest::default()
            })?;
        }
        Ok(())
    }

    /// Keeps the versions and acknowledges.
    fn take(&mut self, wire: &mut Wire, response: &DeltaDiscoveryResponse) -> io::Result<()> {
        let mut types = self.plan.names.0.iter().zip(&mut self.versions);
        let found = types.find(|(of, _)| of.url == response.type_url);
        let (of, versions) =
            found.ok_or_else(|| bad(format!("not asked for: {}", response.type_url)))?;
        let here = response.resources.iter().map(|one| (one.name.as_str(), one.version.as_str()));
        let gone = response.removed_resources.iter().map(|name| (name.as_str(), ""));
        let was_missing = self.missing;
        for (name, version) in here.chain(gone) {
            let at = of.at(name).ok_or_else(|| bad(format!("not asked for: {name}")))?;
            let place = versions.get_mut(at).ok_or_else(|| bad("a name without a place"))?;
            if place.is_none() {
                self.missing -= 1;
            }
            *place = Some(of.share(at, version));
        }
        wire.send(&DeltaDiscoveryRequest {
            type_url: response.type_url.clone(),
            response_nonce: response.nonce.clone(),
            ..DeltaDiscoveryRequest::default()
        })?;
        self.board.acked(self.number, response.resources.len());
        if was_missing > 0 && self.missing == 0 {
            self.board.is_ready();
        }
        Ok(())
    }
}

/// Counted as open until dropped.
struct Open<'a>(&'a Board);

impl<'a> Open<'a> {
    fn new(board: &'a Board) -> Self {
        board.opened();
        Self(board)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.closed();
    }
}
