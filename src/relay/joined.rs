//! `crossfade relay join`: a token becomes the identity of a gateway.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use agent::identity::Identity;
use serde::{Deserialize, Serialize};
use xds::join::Ticket;

use super::DIRECTORY;
use crate::cli::follow::RelayJoin;
use crate::cli::page;
use crate::disk;
use crate::following::{self, Absent, Place};
use crate::identity::{self, ticket};
use crate::verbs::{Exit, Failure};

/// What join wrote, in the relay's directory.
const FILE: &str = "relay.json";

/// What join chose. Who the relay is stands in its identity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Joined {
    /// Whom it follows, HOST:PORT.
    pub(super) controllers: Vec<String>,
}

impl Joined {
    /// What join wrote there; `None`: none did.
    pub(super) fn read(directory: &Path) -> Result<Option<Self>, Failure> {
        disk::read(directory, FILE)
    }
}

/// Joins.
pub(super) async fn join(args: &RelayJoin) -> Result<Exit, Failure> {
    let directory = following::directory(args.data.as_ref(), DIRECTORY)?;
    let mut ticket = ticket::read(args.token_file.as_deref())?;
    if ticket.kind.is_agent() {
        return Err(ticket::elsewhere(&ticket));
    }
    if !args.controller.is_empty() {
        ticket.controllers.clone_from(&args.controller);
    }
    let absent = Absent::of(&directory);
    let joined = enroll(&ticket, &directory).await;
    if joined.is_err() {
        absent.restore();
    }
    let (place, identity) = joined?;
    disk::put(&directory, FILE, &Joined { controllers: ticket.controllers.clone() })?;
    page::print(&format!(
        "{} has joined {} as {}\nstart it: crossfade relay --data {}\n",
        identity.name,
        ticket.controllers.join(", "),
        identity.kind,
        directory.display()
    ))?;
    drop(place);
    Ok(Exit::Done)
}

async fn enroll(ticket: &Ticket, directory: &Path) -> Result<(Place, Identity), Failure> {
    let failed = |source| Failure::File { what: "make", path: directory.to_owned(), source };
    DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed)?;
    // Nobody else is at work here meanwhile; a relay that runs has the identity in memory.
    let place = following::take(directory.to_owned())?;
    let identity = identity::join(ticket, directory).await?;
    Ok((place, identity))
}
