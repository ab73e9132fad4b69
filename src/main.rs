//! Crossfade: one binary. Arguments in, an exit code out.

mod cli;
mod client;
mod config;
mod demo;
mod disk;
mod dns_alone;
mod following;
mod glass;
mod host;
mod identity;
mod relay;
mod replica;
mod serve;
mod verbs;

use std::process::ExitCode;

use clap::Parser as _;

use crate::verbs::{Exit, Failure};

/// Exit codes (docs/errors.md): 0 done, 1 failed, 2 usage or invalid file, 3 refused by the plan's
/// rules, 4 not converged in time.
const NOT_CONVERGED: u8 = 4;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    let output = cli.global.output;
    match run(cli) {
        Ok(Exit::Done) => ExitCode::SUCCESS,
        Ok(Exit::NotConverged) => ExitCode::from(NOT_CONVERGED),
        Err(error) => {
            complain(&error, output);
            let failure = error.downcast_ref::<Failure>();
            ExitCode::from(failure.map_or(1, Failure::exit_code))
        }
    }
}

fn run(cli: cli::Cli) -> anyhow::Result<Exit> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let exit = runtime.block_on(verbs::run(cli))?;
    // A verb has waited for what it wants to end; what is left must not hold the exit.
    runtime.shutdown_background();
    Ok(exit)
}

/// The whole chain of causes, then the advice. Scripts get what the API said as JSON besides.
fn complain(error: &anyhow::Error, output: cli::Output) {
    let failure = error.downcast_ref::<Failure>();
    if let (cli::Output::Json, Some(problem)) = (output, failure.and_then(Failure::problem)) {
        // The exit code says the rest where standard output is gone.
        let _ = cli::page::json(problem);
    }
    match failure {
        // A line for each problem, `path:line: …`, as editors and scripts read them.
        Some(Failure::Invalid(problems)) => eprintln!("{}", verbs::problem_lines(problems)),
        _ => eprintln!("crossfade: {}", verbs::chain(error.as_ref())),
    }
    if let Some(advice) = failure.and_then(Failure::advice) {
        eprintln!("{advice}");
    }
}
