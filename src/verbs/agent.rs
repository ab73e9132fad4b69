//! `crossfade agent`: what is asked of a VM's agent, on the VM.

mod doctor;
mod join;
mod leave;
mod rollback;
mod status;

use std::path::Path;

use plan::ServiceId;
use serde::Serialize;
use xds::TypeUrl;
use xds::follow::Held;
use xds::own::HostTable;

use crate::cli::agent::{Agent, Drain, Here};
use crate::cli::{Output, page};
use crate::following;
use crate::host::control::{self, Answer, Question};
use crate::host::files::Settings;
use crate::host::{self, files};
use crate::verbs::among::among;
use crate::verbs::{Context, Exit, Failure, chain};

/// Does it.
pub(crate) async fn run(verb: Agent, context: &Context) -> Result<Exit, Failure> {
    match verb {
        Agent::Join(args) => join::run(&args, context).await,
        Agent::Doctor(args) => doctor::run(&args, context).await,
        Agent::Run(args) => Box::pin(host::run(args, context)).await,
        Agent::Status(args) => status::run(&args, context).await,
        Agent::Confirm(args) => confirm(&args, context),
        Agent::Rollback(args) => rollback::run(&args, context),
        Agent::Drain(args) => drain(&args, context).await,
        Agent::Leave(args) => leave::run(&args, context).await,
        Agent::Restore(args) => rollback::restore(&args).await,
        Agent::HostHelper(args) => {
            host::changes::help(&files::directory(args.data.as_ref())?)?;
            Ok(Exit::Done)
        }
        Agent::Envoy => {
            host::envoy::keep().await?;
            Ok(Exit::Done)
        }
    }
}

fn confirm(args: &Here, context: &Context) -> Result<Exit, Failure> {
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

async fn drain(args: &Drain, context: &Context) -> Result<Exit, Failure> {
    let directory = files::directory(args.here.data.as_ref())?;
    let services = among(&args.service, &held(&directory)?, "this VM")?;
    let question = Question::Drain { services, reason: args.reason.clone() };
    match control::ask(&directory, &question).await? {
        Some(Answer::Drained { services }) if services.is_empty() => Err(Failure::Refused(
            "nothing is closed: a side has lost only at exactly 0% or 100%".to_owned(),
        )),
        Some(Answer::Drained { services }) => {
            if context.output == Output::Json {
                page::json(&services)?;
            } else {
                for id in services {
                    page::print(&format!("{id}  connections on the side that lost are closed\n"))?;
                }
            }
            Ok(Exit::Done)
        }
        Some(_) => Err(Failure::Failed("the agent does not understand; is it as new?".to_owned())),
        None => Err(not_running(&directory)),
    }
}

/// The services that the agent holds, running or not.
fn held(directory: &Path) -> Result<Vec<ServiceId>, Failure> {
    let held = Held::read(directory, &TypeUrl::from(TypeUrl::HOST_TABLE))
        .map_err(|error| Failure::Failed(chain(&error)))?;
    let tables = held.resources.values().filter_map(|item| HostTable::decode(&item.body).ok());
    let mut services: Vec<ServiceId> =
        tables.flat_map(|table| table.services).map(|leaf| leaf.id.clone()).collect();
    services.sort();
    Ok(services)
}

/// What a user is told who forgot to be root.
fn as_root(directory: &Path) -> Option<Failure> {
    files::is_for_root(directory).then(|| {
        Failure::Usage("the agent of this VM answers root alone: run this with sudo".to_owned())
    })
}

fn not_joined(directory: &Path) -> Failure {
    if let Some(failure) = as_root(directory) {
        return failure;
    }
    Failure::Usage(format!(
        "this VM has not joined ({} has no {}); at the controller run `crossfade token create \
         NAME`, and paste here what it prints",
        directory.display(),
        files::SETTINGS
    ))
}

fn not_running(directory: &Path) -> Failure {
    if let Some(failure) = as_root(directory) {
        return failure;
    }
    if following::is_taken(directory) {
        return Failure::Failed(format!(
            "the agent runs, but cannot be asked: there is no socket in {}, which may be \
             read-only; its log says why",
            directory.display()
        ));
    }
    Failure::Failed(format!(
        "no agent runs here ({}); start it: systemctl start crossfade-agent",
        directory.display()
    ))
}
