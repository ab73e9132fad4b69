//! The log of the process: lines for people on a terminal, else JSON; to standard error.

use std::io::IsTerminal as _;

use tracing_appender::non_blocking::{NonBlocking, WorkerGuard};
use tracing_subscriber::EnvFilter;

use crate::config::{Config, LogFormat};
use crate::verbs::Failure;

/// Starts it as the settings say.
pub(super) fn start(config: &Config) -> Result<WorkerGuard, Failure> {
    begin(&config.log, config.log_format)
}

/// Starts it; once a process. What waits to be written is written when the guard goes.
pub(crate) fn begin(level: &str, format: Option<LogFormat>) -> Result<WorkerGuard, Failure> {
    let filter = EnvFilter::try_new(level)
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
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    let started = match format {
        LogFormat::Text => builder.with_ansi(terminal).with_target(false).try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    started.map_err(|source| Failure::Local { what: "the log does not start", source })?;
    Ok(guard)
}
