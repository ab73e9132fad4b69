//! `POST /v1/reload`: the files that `serve` was given, read again.

use std::path::Path;

use controller::Handle;
use controller::api::reload::{Files, Reread, ZoneText};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use plan::file::Problem;
use plan::spec::ZoneSource;
use plan::{Plan, State};

use crate::config::Config;
use crate::verbs::{Failure, chain, files};

/// The plan files given at the start.
#[derive(Debug)]
pub(super) struct PlanFiles {
    /// Where they are, and what else was set.
    pub(super) config: Config,
    /// What is committed, to compare with.
    pub(super) handle: Handle,
}

impl Files for PlanFiles {
    fn read_again(&self) -> BoxFuture<'_, Result<Reread, Vec<Problem>>> {
        let (config, state) = (self.config.clone(), self.handle.state());
        // Zone files may be long: reading and parsing them must not hold up other calls.
        let read = tokio::task::spawn_blocking(move || read(&config, &state));
        let gone = |error: tokio::task::JoinError| Err(vec![nowhere(error.to_string())]);
        async move { read.await.unwrap_or_else(gone) }.boxed()
    }
}

fn read(config: &Config, state: &State) -> Result<Reread, Vec<Problem>> {
    let mut reread = Reread::default();
    let mut problems = Vec::new();
    match config.changed() {
        Ok(changed) => reread.notes.extend(changed.into_iter().map(|setting| {
            format!("the setting `{setting}` has changed; it takes effect after a restart")
        })),
        Err(error) => problems.push(nowhere(chain(&error))),
    }
    for path in &config.plans {
        match files::plan(path) {
            Ok(plan) => {
                reread.notes.extend(more_than_zones(&plan, path, state));
                let file = path.display().to_string();
                let zones = plan.zones.iter().map(|zone| ZoneText {
                    plan: plan.name.clone(),
                    zone: zone.name.clone(),
                    file: file.clone(),
                    text: match &zone.source {
                        ZoneSource::Text(text) => Some(text.clone()),
                        ZoneSource::Own | ZoneSource::File(_) | ZoneSource::Blob(_) => None,
                    },
                });
                reread.zones.extend(zones);
                reread.plans.push(plan.name);
            }
            Err(Failure::Invalid(found)) => problems.extend(found),
            Err(error) => problems.push(nowhere(chain(&error))),
        }
    }
    if problems.is_empty() { Ok(reread) } else { Err(problems) }
}

/// Says so where a plan's file has changed in more than its zones: a reload takes only those.
fn more_than_zones(file: &Plan, path: &Path, state: &State) -> Option<String> {
    let committed = &state.plan(&file.name)?.spec;
    let mut same = file.clone();
    for (zone, committed) in same.zones.iter_mut().zip(&committed.zones) {
        zone.source.clone_from(&committed.source);
    }
    let (name, path) = (&file.name, path.display());
    (same != **committed).then(|| {
        format!(
            "{name}: its file says more than other zones; take that over: crossfade apply {path}"
        )
    })
}

fn nowhere(problem: String) -> Problem {
    Problem {
        file: None,
        line: 0,
        column: 0,
        field: String::new(),
        problem,
        fix: "make the file readable again; nothing was taken over".to_owned(),
    }
}
