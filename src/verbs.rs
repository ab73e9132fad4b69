//! What the verbs do: one file each, and what they share.

pub(crate) mod agent;
pub(crate) mod agents;
pub(crate) mod among;
pub(crate) mod answer;
pub(crate) mod apply;
pub(crate) mod audit;
pub(crate) mod backup;
pub(crate) mod bootstrap;
pub(crate) mod break_glass;
pub(crate) mod check;
pub(crate) mod completions;
pub(crate) mod diff;
pub(crate) mod explain;
pub(crate) mod files;
pub(crate) mod history;
pub(crate) mod plans;
pub(crate) mod reload;
pub(crate) mod revoke;
pub(crate) mod rollback;
pub(crate) mod run;
pub(crate) mod send;
pub(crate) mod shift;
pub(crate) mod sinks;
pub(crate) mod status;
pub(crate) mod subject;
pub(crate) mod token;
pub(crate) mod wait;

use std::fmt::Write as _;
use std::io;
use std::path::PathBuf;

use plan::file::Problem as FileProblem;
pub(crate) use xds::causes::chain;

use crate::cli::follow::DnsVerb;
use crate::cli::paint::Paint;
use crate::cli::{Cli, Dns, Output, Verb};
use crate::client::{Client, ClientError, Problem};

/// What a verb works with.
pub(crate) struct Context {
    /// The controller.
    pub(crate) client: Client,
    /// How it prints.
    pub(crate) output: Output,
    /// In which colours.
    pub(crate) paint: Paint,
}

/// How a verb ended well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done.
    Done,
    /// Durable, but not converged in time.
    NotConverged,
}

/// Why a verb did not do it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The controller did not answer, or said no.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// What was typed does not say what to do.
    #[error("{0}")]
    Usage(String),
    /// A file has errors.
    #[error("{}", problem_lines(.0))]
    Invalid(Vec<FileProblem>),
    /// A file cannot be read or written.
    #[error("cannot {what} {}", path.display())]
    File {
        what: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// Standard output is gone.
    #[error("cannot write the output")]
    Print(#[from] io::Error),
    /// The plan's rules say no.
    #[error("{0}")]
    Refused(String),
    /// What was begun did not go well; the text says what.
    #[error("{0}")]
    Failed(String),
    /// Something on this machine failed.
    #[error("{what}")]
    Local {
        what: &'static str,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl Failure {
    /// 1 failed, 2 usage or invalid file, 3 refused by the plan's rules.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Client(error) => error.exit_code(),
            // A plan that is not there is a file that does not hold one.
            Self::Usage(_) | Self::Invalid(_) | Self::File { what: "read", .. } => 2,
            Self::Refused(_) => 3,
            Self::File { .. } | Self::Print(_) | Self::Failed(_) | Self::Local { .. } => 1,
        }
    }

    /// What the API said, for scripts.
    pub(crate) fn problem(&self) -> Option<&Problem> {
        let Self::Client(ClientError::Problem(problem)) = self else { return None };
        Some(problem)
    }

    /// Every error of a file, and the command that clears a refusal.
    pub(crate) fn advice(&self) -> Option<String> {
        let Self::Client(ClientError::Problem(problem)) = self else { return None };
        let mut text = match problem.errors.as_slice() {
            // The detail has said it.
            [only] if problem.detail.contains(&only.problem) => String::new(),
            errors => problem_lines(errors),
        };
        if let Some(command) = &problem.clear {
            if !text.is_empty() {
                text.push('\n');
            }
            let _ = write!(text, "try: {command}");
        }
        (!text.is_empty()).then_some(text)
    }
}

/// The problems of a file, a line each.
pub(crate) fn problem_lines(problems: &[FileProblem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// Runs the verb that was typed.
pub(crate) async fn run(cli: Cli) -> Result<Exit, Failure> {
    let context = Context {
        client: Client::named(cli.global.server.as_deref()),
        output: cli.global.output,
        paint: Paint::stdout(),
    };
    let context = &context;
    match cli.verb {
        Verb::Demo(args) => crate::demo::run(args, context).await,
        Verb::Serve(args) => crate::serve::run(args, context).await,
        Verb::Dns(args) => dns(args, context).await,
        Verb::Relay(args) => crate::relay::run(args, context).await,
        Verb::Agent(verb) => agent::run(verb, context).await,
        Verb::Bootstrap(args) => bootstrap::run(args, context).await,
        Verb::Check(args) => check::run(&args, context),
        Verb::Diff(args) => diff::run(&args, context).await,
        Verb::Apply(args) => apply::run(args, context).await,
        Verb::Plans => plans::list(context).await,
        Verb::Get(args) => plans::get(&args, context).await,
        Verb::Delete(args) => run::delete(args, context).await,
        Verb::Start(args) => run::plan_verb("start", args, context).await,
        Verb::Step(args) => run::step(args, context).await,
        Verb::Shift(args) => shift::run(args, context).await,
        Verb::Pause(args) => run::plan_verb("pause", args, context).await,
        Verb::Resume(args) => run::plan_verb("resume", args, context).await,
        Verb::Approve(args) => run::approve(args, context).await,
        Verb::Rollback(args) => rollback::run(args, context).await,
        Verb::Retire(args) => run::retire(args, context).await,
        Verb::Status(args) => status::run(args, context).await,
        Verb::History(args) => history::run(&args, context).await,
        Verb::Audit(args) => audit::run(&args, context).await,
        Verb::Explain(args) => explain::run(&args, context).await,
        Verb::Answer(args) => answer::run(&args, context).await,
        Verb::Sinks(args) => sinks::run(&args, context).await,
        Verb::Token(args) => token::run(&args, context).await,
        Verb::Agents => agents::run(context).await,
        Verb::Revoke(args) => revoke::run(&args, context).await,
        Verb::Reload(args) => reload::run(&args, context).await,
        Verb::Backup(args) => backup::backup(&args, context).await,
        Verb::Restore(args) => backup::restore(args, context).await,
        Verb::Completions(args) => completions::completions(&args),
        Verb::Man(args) => completions::man(&args),
    }
}

/// Fixed files, a replica, or break-glass on one.
async fn dns(args: Dns, context: &Context) -> Result<Exit, Failure> {
    match args.verb {
        Some(DnsVerb::Rollback(args)) => break_glass::run(&args, context),
        None if args.controller.is_empty() => crate::dns_alone::run(args, context).await,
        None => crate::replica::run(args, context).await,
    }
}
