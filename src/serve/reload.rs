//! `POST /v1/reload`: the files that `serve` was given, read again.

use std::path::PathBuf;

use controller::api::reload::{Files, Reread, ZoneText};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use plan::file::Problem;
use plan::spec::ZoneSource;

use crate::verbs::{Failure, chain, files};

/// The plan files given at the start.
#[derive(Debug)]
pub(super) struct PlanFiles {
    /// Where they are.
    pub(super) paths: Vec<PathBuf>,
}

impl Files for PlanFiles {
    fn read_again(&self) -> BoxFuture<'_, Result<Reread, Vec<Problem>>> {
        let paths = self.paths.clone();
        // Zone files may be long: reading and parsing them must not hold up other calls.
        let read = tokio::task::spawn_blocking(move || read(&paths));
        let gone = |error: tokio::task::JoinError| Err(vec![nowhere(error.to_string())]);
        async move { read.await.unwrap_or_else(gone) }.boxed()
    }
}

fn read(paths: &[PathBuf]) -> Result<Reread, Vec<Problem>> {
    let mut reread = Reread::default();
    let mut problems = Vec::new();
    for path in paths {
        match files::plan(path) {
            Ok(plan) => {
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
