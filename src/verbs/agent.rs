//! `crossfade agent`: what is asked of a VM's agent, on the VM.

mod confirm;
mod doctor;
mod drain;
mod join;
mod leave;
mod restore;
mod rollback;
mod status;

use std::path::Path;

use agent::dataplane::DataplaneError;
use plan::ServiceId;
use xds::TypeUrl;
use xds::follow::Held;
use xds::own::HostTable;

use crate::cli::agent::Agent;
use crate::following;
use crate::host::{self, files};
use crate::verbs::{Context, Exit, Failure, chain};

/// Does it.
pub(crate) async fn run(verb: Agent, context: &Context) -> Result<Exit, Failure> {
    match verb {
        Agent::Join(args) => join::run(&args, context).await,
        Agent::Doctor(args) => doctor::run(&args, context).await,
        Agent::Run(args) => Box::pin(host::run(args, context)).await,
        Agent::Status(args) => status::run(&args, context).await,
        Agent::Confirm(args) => confirm::run(&args, context),
        Agent::Rollback(args) => rollback::run(&args, context),
        Agent::Drain(args) => drain::run(&args, context).await,
        Agent::Leave(args) => leave::run(&args, context).await,
        Agent::Restore(args) => restore::run(&args).await,
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

/// What a command says that could not change the kernel.
fn unchanged(error: &DataplaneError) -> Failure {
    Failure::Failed(format!("the rules cannot be changed: {}", chain(error)))
}

pub(crate) fn not_joined(directory: &Path) -> Failure {
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
