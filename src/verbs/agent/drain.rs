//! `crossfade agent drain`: closes connections on the side that lost.

use super::{held, not_running};
use crate::cli::agent::Drain;
use crate::cli::{Output, page};
use crate::host::control::{self, Answer, Question};
use crate::host::files;
use crate::verbs::among::among;
use crate::verbs::{Context, Exit, Failure};

/// Has the agent do it.
pub(super) async fn run(args: &Drain, context: &Context) -> Result<Exit, Failure> {
    let directory = files::directory(args.here.data.as_ref())?;
    let services = among(&args.service, &held(&directory)?, "this VM")?;
    let question = Question::Drain { services, reason: args.reason.clone() };
    match control::ask(&directory, &question).await? {
        Some(Answer::Drained { services, left }) if services.is_empty() && left.is_empty() => {
            Err(Failure::Refused(
                "nothing is closed: a side has lost only at exactly 0% or 100%; at the \
                 controller: crossfade shift SERVICE 0%, or 100%"
                    .to_owned(),
            ))
        }
        Some(Answer::Drained { services, left }) => {
            if context.output == Output::Json {
                page::json(&services)?;
            } else {
                for id in services {
                    page::print(&format!("{id}  connections on the side that lost are closed\n"))?;
                }
                for id in left {
                    page::print(&format!(
                        "{id}  nothing to close: its connections are left alone on legacy, as \
                         those to a program on this VM itself, which alone can close them\n"
                    ))?;
                }
            }
            Ok(Exit::Done)
        }
        Some(_) => Err(control::misunderstood("it answers something else")),
        None => Err(not_running(&directory)),
    }
}
