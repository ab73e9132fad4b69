//! The log of the process: lines for people on a terminal, else JSON; to standard error.

use std::io::IsTerminal as _;

use tracing_appender::non_blocking::{NonBlocking, WorkerGuard};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::layer;
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::registry;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::config::{Config, LogFormat};
use crate::verbs::Failure;

/// Starts it as the settings say.
pub(super) fn start(config: &Config) -> Result<WorkerGuard, Failure> {
    begin(&config.log, config.log_format)
}

/// Starts it; once a process. What waits to be written is written when the guard goes.
pub(crate) fn begin(level: &str, format: Option<LogFormat>) -> Result<WorkerGuard, Failure> {
    let filter: Targets = level
        .parse()
        .map_err(|error| Failure::Usage(format!("`{level}` is no log level: {error}")))?;
    let terminal = std::io::stderr().is_terminal();
    let format = match (format, terminal) {
        (Some(format), _) => format,
        (None, true) => LogFormat::Text,
        (None, false) => LogFormat::Json,
    };
    // A reader of the log that stands still must not hold up a rollback: lines are dropped before
    // anybody waits for it.
    let (writer, guard) = NonBlocking::new(std::io::stderr());
    let lines = layer().with_writer(writer);
    let lines = match format {
        LogFormat::Text => lines.with_ansi(terminal).with_target(false).boxed(),
        LogFormat::Json => lines.json().boxed(),
    };
    let started = registry().with(lines.with_filter(filter)).try_init();
    started.map_err(|source| Failure::Local {
        what: "the log does not start",
        source: source.into(),
    })?;
    Ok(guard)
}
