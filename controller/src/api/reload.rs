//! Reading plan files again. The files belong to whoever started the server; this commits what
//! changed in them.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::future::BoxFuture;
use plan::command::ZoneChange;
use plan::spec::ZoneSource;
use plan::{Command, PlanName, ZoneName, file};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Api;
use super::answer::ChangedAll;
use super::call::Caller;
use super::problem::Failure;
use super::refuse::{invalid, zone_problem};
use super::request::Plain;
use crate::handle::ZoneError;

/// Whoever can read the files again that the server was started with.
pub trait Files: Send + Sync {
    /// Reads the configuration and the files of the plans given at the start again.
    ///
    /// # Errors
    /// Everything that is wrong in them; then nothing is taken over.
    fn read_again(&self) -> BoxFuture<'_, Result<Reread, Vec<file::Problem>>>;
}

/// What the files say now.
#[derive(Clone, Debug, Default)]
pub struct Reread {
    /// The plans whose files were read.
    pub plans: Vec<PlanName>,
    /// The zone texts of these plans.
    pub zones: Vec<ZoneText>,
    /// What else is worth telling: settings that take effect only after a restart.
    pub notes: Vec<String>,
}

/// A zone text as it is on disk now.
#[derive(Clone, Debug)]
pub struct ZoneText {
    /// The plan that owns the zone.
    pub plan: PlanName,
    /// The zone.
    pub zone: ZoneName,
    /// The name of its file, for problems.
    pub file: String,
    /// The text; `None`: the plan gives the zone no text any more.
    pub text: Option<Arc<str>>,
}

/// What a reload did, durable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Reloaded {
    /// What was committed: the plans are those whose zones changed.
    #[serde(flatten)]
    pub done: ChangedAll,
    /// Plans that came by the API: they have no file to read.
    pub skipped: Vec<PlanName>,
}

/// Reads, checks and stores every zone text, then commits all changed ones as one record.
pub(crate) async fn reload(api: &Api, caller: Caller, body: Plain) -> Result<Reloaded, Failure> {
    let reread = match &api.settings.files {
        Some(files) => files.read_again().await.map_err(invalid)?,
        None => Reread::default(),
    };
    let mut changes = Vec::new();
    let mut problems = Vec::new();
    for ZoneText { plan, zone, file, text } in reread.zones {
        let stored = match text {
            None => Ok(ZoneSource::Own),
            Some(text) => api.handle.put_zone_text(&zone, &file, text).await.map(ZoneSource::Blob),
        };
        match stored {
            Ok(source) => changes.push(ZoneChange { plan, zone, source }),
            Err(ZoneError::Problems(found)) => {
                problems.extend(found.problems.into_iter().map(zone_problem));
            }
            Err(error) => return Err(error.into()),
        }
    }
    if !problems.is_empty() {
        return Err(invalid(problems));
    }
    let done = api.handle.ask(caller.ask(Command::Reload(changes), body.reason)).await?;
    let read: BTreeSet<_> = reread.plans.into_iter().collect();
    let state = api.handle.state();
    let skipped = state.plans().map(|(name, _)| name).filter(|name| !read.contains(*name));
    let skipped = skipped.cloned().collect();
    let mut done = ChangedAll::from(done);
    done.notes.extend(reread.notes);
    Ok(Reloaded { done, skipped })
}
