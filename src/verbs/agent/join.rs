//! `crossfade agent join`: a token becomes an identity, and this VM follows the controller.

use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::net::{IpAddr, ToSocketAddrs as _, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use tokio::time::Instant;
use xds::join::Ticket;

use super::doctor;
use crate::cli::agent::Join;
use crate::cli::page;
use crate::following;
use crate::host::control::{self, Answer, Question, Status};
use crate::host::files::{self, EnvoySettings, Names, Settings};
use crate::host::trial::TRIAL;
use crate::identity::{self, ticket};
use crate::verbs::{Context, Exit, Failure};

/// How long the agent has, once started, to reach the controller.
const CONNECT_WITHIN: Duration = Duration::from_secs(20);
/// How often it is looked whether it has.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Joins.
pub(super) async fn run(args: &Join, context: &Context) -> Result<Exit, Failure> {
    let directory = files::directory(args.here.data.as_ref())?;
    let mut ticket = ticket::read(args.token_file.as_deref())?;
    if !ticket.kind.is_agent() {
        return Err(ticket::elsewhere(&ticket));
    }
    if !args.controller.is_empty() {
        ticket.controllers.clone_from(&args.controller);
    }
    let known = files::settings(&directory)?;
    if let Some(known) = known.filter(|known| known.name != ticket.name.to_string()) {
        return Err(Failure::Refused(format!(
            "this VM has joined as {}; first: crossfade agent leave",
            known.name
        )));
    }
    if following::is_taken(&directory) {
        return Err(Failure::Refused(
            "an agent runs here; to join it anew, stop it first: systemctl stop crossfade-agent"
                .to_owned(),
        ));
    }
    files::make(&directory)?;
    doctor::before_join(args, &ticket, &directory, context).await?;
    // Nobody else is at work here meanwhile.
    let place = following::take(directory.clone())?;
    let settings = enroll(args, &ticket, &directory).await?;
    files::put_settings(&directory, &settings)?;
    files::begin_trial(&directory)?;
    page::print(&format!("{} has joined {}\n", settings.name, settings.controllers.join(", ")))?;
    files::give_to_owner(&directory)?;
    drop(place);
    if args.no_start || !start()? {
        let then = if args.yes {
            files::confirm(&directory)?;
            "start it: crossfade agent run\n"
        } else {
            "start it: crossfade agent run; then, within a minute: crossfade agent confirm\n"
        };
        page::print(then)?;
        return Ok(Exit::Done);
    }
    let status = connected(&directory).await?;
    page::print(&told(&status))?;
    if args.yes || is_well()? {
        files::confirm(&directory)?;
        page::print("confirmed: this VM stays joined\n")?;
    } else {
        page::print("not confirmed: the join undoes itself within a minute\n")?;
    }
    Ok(Exit::Done)
}

async fn enroll(args: &Join, ticket: &Ticket, directory: &Path) -> Result<Settings, Failure> {
    let identity = identity::join(ticket, directory).await?;
    let address = match args.address {
        Some(address) => address,
        None => towards(&ticket.controllers)?,
    };
    Ok(Settings {
        name: identity.name.to_string(),
        controllers: ticket.controllers.clone(),
        joined: true,
        address,
        names: match args.names {
            _ if args.no_names => Names::Off,
            Some(address) => Names::At(address),
            None => Names::Auto,
        },
        exempt: args.exempt.clone(),
        envoy: args
            .envoy
            .clone()
            .map(|program| EnvoySettings { program, user: args.envoy_user.clone() }),
    })
}

/// The address that this host shows to the controller.
fn towards(controllers: &[String]) -> Result<IpAddr, Failure> {
    let addresses = controllers.iter().filter_map(|text| text.to_socket_addrs().ok()).flatten();
    for address in addresses {
        let any: IpAddr = match address {
            std::net::SocketAddr::V4(_) => [0, 0, 0, 0].into(),
            std::net::SocketAddr::V6(_) => [0_u16; 8].into(),
        };
        // Connecting a socket for datagrams sends nothing; it chooses the way.
        let local = UdpSocket::bind((any, 0)).and_then(|socket| {
            socket.connect(address)?;
            socket.local_addr()
        });
        if let Ok(local) = local {
            return Ok(local.ip());
        }
    }
    Err(Failure::Usage(
        "there is no way to a controller from here, so this VM's address is not known; give one: \
         --address IP"
            .to_owned(),
    ))
}

/// Starts the service; `false`: there is no service manager, or no unit.
fn start() -> Result<bool, Failure> {
    let unit = "crossfade-agent.service";
    if !Path::new("/run/systemd/system").is_dir() {
        return Ok(false);
    }
    let known = Command::new("systemctl").args(["cat", unit]).output();
    if !known.is_ok_and(|known| known.status.success()) {
        return Ok(false);
    }
    let units = ["crossfade-restore.service", unit];
    let started = Command::new("systemctl").args(["enable", "--quiet"]).args(units).status();
    let started =
        started.and_then(|_| Command::new("systemctl").args(["restart", unit]).status()).map_err(
            |source| Failure::Local { what: "systemctl does not run", source: source.into() },
        )?;
    if started.success() {
        return Ok(true);
    }
    Err(Failure::Failed(format!("{unit} does not start; see: journalctl -u {unit}")))
}

/// Waits until the agent has reached the controller and the kernel holds what it should.
async fn connected(directory: &Path) -> Result<Status, Failure> {
    let end = Instant::now() + CONNECT_WITHIN;
    loop {
        if let Ok(Some(Answer::Status(status))) = control::ask(directory, &Question::Status).await
            && (Instant::now() >= end || (status.controller.is_some() && status.broken.is_none()))
        {
            return Ok(*status);
        }
        if Instant::now() >= end {
            return Err(Failure::Failed(
                "the agent does not answer; see: journalctl -u crossfade-agent; the join undoes \
                 itself within a minute"
                    .to_owned(),
            ));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn told(status: &Status) -> String {
    let controller = status.controller.as_deref().unwrap_or("not reached");
    let rules = status.broken.as_deref().unwrap_or("in force");
    let services = status.services.len();
    format!("controller {controller}; rules {rules}; {services} services\n")
}

/// Asks the operator, who can only answer where the way in still works.
fn is_well() -> Result<bool, Failure> {
    if !std::io::stdin().is_terminal() {
        let seconds = TRIAL.as_secs();
        page::print(&format!(
            "within {seconds} s, once you see that all is well: crossfade agent confirm\n"
        ))?;
        return Ok(false);
    }
    page::print("is this VM well, and do you still reach it? [y/N] ")?;
    std::io::stdout().flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}
