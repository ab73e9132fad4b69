//! `crossfade agent confirm`: this VM stays joined.

use serde::Serialize;

use super::not_joined;
use crate::cli::agent::Here;
use crate::cli::{Output, page};
use crate::following;
use crate::host::files::{self, Settings};
use crate::verbs::{Context, Exit, Failure};

/// Writes it down, which ends the trial.
pub(super) fn run(args: &Here, context: &Context) -> Result<Exit, Failure> {
    #[derive(Serialize)]
    struct Confirmed {
        name: String,
        confirmed: bool,
        running: bool,
    }
    let directory = files::directory(args.data.as_ref())?;
    let Some(Settings { name, .. }) = files::settings(&directory)? else {
        return Err(not_joined(&directory));
    };
    files::confirm(&directory)?;
    let running = following::is_taken(&directory);
    if context.output == Output::Json {
        page::json(&Confirmed { name, confirmed: true, running })?;
    } else if running {
        page::print("confirmed: this VM stays joined\n")?;
    } else {
        page::print(
            "confirmed: this join does not undo itself; no agent runs here yet: crossfade agent \
             run\n",
        )?;
    }
    Ok(Exit::Done)
}
