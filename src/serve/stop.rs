//! When to stop: SIGTERM from a service manager, SIGINT from a keyboard.

use tokio::signal::unix::{SignalKind, signal};

use crate::verbs::Failure;

/// Returns when the process is told to stop.
pub(crate) async fn stopped() -> Result<(), Failure> {
    let deaf = |source: std::io::Error| Failure::Local {
        what: "cannot listen for signals",
        source: source.into(),
    };
    let mut terminate = signal(SignalKind::terminate()).map_err(deaf)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(deaf)?;
    // Both arms only wait.
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
