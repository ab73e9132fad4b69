//! `crossfade agent join`: a token becomes an identity, and this VM follows the controller.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{IpAddr, ToSocketAddrs as _, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use agent::doctor::Row;
use agent::journal::Change;
use serde::Serialize;
use tokio::time::Instant;
use xds::join::Ticket;

use super::doctor;
use crate::cli::agent::Join;
use crate::cli::{Output, page};
use crate::following::{self, Absent, Place};
use crate::host;
use crate::host::changes::Changer;
use crate::host::control::{self, Answer, Question, Status};
use crate::host::files::{self, EnvoySettings, Names, Settings};
use crate::host::trial::TRIAL;
use crate::identity::{self, ticket};
use crate::verbs::{Context, Exit, Failure};

/// How long the agent has, once started, to reach the controller.
const CONNECT_WITHIN: Duration = Duration::from_secs(20);
/// How often it is looked whether it has.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// What joining did, for scripts.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Joined {
    name: String,
    controllers: Vec<String>,
    /// Whether the service was started.
    started: bool,
    /// Whether the join stays; else it undoes itself within a minute.
    confirmed: bool,
    /// What is worth knowing of this VM.
    doctor: Vec<Row>,
    /// What the agent says of itself, where it was started.
    status: Option<Box<Status>>,
}

/// Joins.
pub(super) async fn run(args: &Join, context: &Context) -> Result<Exit, Failure> {
    let directory = files::directory(args.here.data.as_ref())?;
    files::may_be_asked(&directory)?;
    let mut ticket = ticket::read(args.token_file.as_deref())?;
    if !ticket.kind.is_agent() {
        return Err(ticket::elsewhere(&ticket));
    }
    if !args.controller.is_empty() {
        ticket.controllers.clone_from(&args.controller);
    }
    let known = files::settings(&directory)?;
    may_join(args, &ticket, &directory, known.as_ref())?;
    let absent = Absent::of(&directory);
    let enrolled = enroll(args, &ticket, &directory, context).await;
    if enrolled.is_err() {
        absent.restore();
    }
    let Enrolled { place, settings, doctor } = enrolled?;
    // As it was, and confirmed: what it does to this VM is proved.
    if known.as_ref() != Some(&settings) || !files::is_confirmed(&directory) {
        files::begin_trial(&directory)?;
    }
    files::put_settings(&directory, &settings)?;
    say(context, &format!("{} has joined {}\n", settings.name, settings.controllers.join(", ")))?;
    files::give_to_owner(&directory)?;
    drop(place);
    let started = !args.no_start && start(&directory)?;
    let status = if started { Some(connected(&directory).await?) } else { None };
    if let Some(status) = &status {
        say(context, &told(status))?;
    }
    if args.yes {
        files::confirm(&directory)?;
    }
    settle(&directory, context, started)?;
    if context.output == Output::Json {
        let Settings { name, controllers, .. } = settings;
        let confirmed = files::is_confirmed(&directory);
        page::json(&Joined { name, controllers, started, confirmed, doctor, status })?;
    }
    Ok(Exit::Done)
}

/// Whether what this VM is already lets it join so.
fn may_join(
    args: &Join,
    ticket: &Ticket,
    directory: &Path,
    known: Option<&Settings>,
) -> Result<(), Failure> {
    let refused = |why: String| Err(Failure::Refused(why));
    if following::is_taken(directory) {
        return refused(
            "an agent runs here; to join it anew, stop it first: systemctl stop crossfade-agent"
                .to_owned(),
        );
    }
    let Some(known) = known else { return Ok(()) };
    if known.name != ticket.name.to_string() {
        return refused(format!(
            "this VM has joined as {}; first: crossfade agent leave",
            known.name
        ));
    }
    if known.names != names(args) && host::names::is_brought(directory) {
        return refused(
            "this VM is brought to ask the agent for names, which leaving takes back; to answer \
             names otherwise, first: crossfade agent leave"
                .to_owned(),
        );
    }
    Ok(())
}

fn names(args: &Join) -> Names {
    match args.names {
        _ if args.no_names => Names::Off,
        Some(address) => Names::At(address),
        None => Names::Auto,
    }
}

/// Whether this join stays, as far as that is known now, and what is to be done for it.
fn settle(directory: &Path, context: &Context, started: bool) -> Result<(), Failure> {
    let seconds = TRIAL.as_secs();
    let confirmed = files::is_confirmed(directory);
    match (started, confirmed) {
        (false, true) => say(context, "start it: crossfade agent run\n"),
        (false, false) => say(
            context,
            &format!(
                "start it: crossfade agent run; then, within {seconds} s: crossfade agent confirm\n"
            ),
        ),
        (true, true) => say(context, "confirmed: this VM stays joined\n"),
        (true, false) if context.output == Output::Json => Ok(()),
        (true, false) => match is_well()? {
            Some(true) => {
                files::confirm(directory)?;
                say(context, "confirmed: this VM stays joined\n")
            }
            Some(false) => say(context, "not confirmed: the join undoes itself within a minute\n"),
            None => say(
                context,
                &format!(
                    "within {seconds} s, once you see that all is well: crossfade agent confirm\n"
                ),
            ),
        },
    }
}

/// For people; scripts get one object at the end.
fn say(context: &Context, words: &str) -> Result<(), Failure> {
    match context.output {
        Output::Text => Ok(page::print(words)?),
        Output::Json => Ok(()),
    }
}

/// A machine that has its identity.
struct Enrolled {
    place: Place,
    settings: Settings,
    doctor: Vec<Row>,
}

/// Uses the token up, last of all that can fail.
async fn enroll(
    args: &Join,
    ticket: &Ticket,
    directory: &Path,
    context: &Context,
) -> Result<Enrolled, Failure> {
    files::make(directory)?;
    let envoy = envoy(args, directory)?;
    let doctor = doctor::before_join(args, ticket, directory, context).await?;
    // Nobody else is at work here meanwhile.
    let place = following::take(directory.to_owned())?;
    let address = match args.address {
        Some(address) => address,
        None => towards(&ticket.controllers)?,
    };
    let identity = identity::join(ticket, directory).await?;
    let settings = Settings {
        name: identity.name.to_string(),
        controllers: ticket.controllers.clone(),
        joined: true,
        address,
        names: names(args),
        exempt: args.exempt.clone(),
        envoy,
    };
    Ok(Enrolled { place, settings, doctor })
}

/// The Envoy that was asked for, as the agent finds it and can run it.
fn envoy(args: &Join, directory: &Path) -> Result<Option<EnvoySettings>, Failure> {
    let Some(program) = &args.envoy else { return Ok(None) };
    host::envoy::check(directory, &args.envoy_user)?;
    let program = std::path::absolute(program).map_err(|source| Failure::File {
        what: "find",
        path: program.clone(),
        source,
    })?;
    Ok(Some(EnvoySettings { program, user: args.envoy_user.clone() }))
}

/// The address that this host shows to the controller: that of a connection, where one answers.
fn towards(controllers: &[String]) -> Result<IpAddr, Failure> {
    let answered = controllers.iter().find_map(|text| doctor::connect(text).ok());
    if let Some(local) = answered.and_then(|stream| stream.local_addr().ok()) {
        return Ok(local.ip().to_canonical());
    }
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

/// Starts the service; `false`: there is no service manager, or no unit. That it is enabled is a
/// change of this host as others are: written down first, and undone with them.
fn start(directory: &Path) -> Result<bool, Failure> {
    let unit = "crossfade-agent.service";
    if !Path::new("/run/systemd/system").is_dir() {
        return Ok(false);
    }
    let known = Command::new("systemctl").args(["cat", unit]).output();
    if !known.is_ok_and(|known| known.status.success()) {
        return Ok(false);
    }
    let units = ["crossfade-restore.service", unit];
    let systemctl = |verb: &[&str], units: &[&str]| {
        let status = Command::new("systemctl").args(verb).args(units).status();
        let failed = |source: std::io::Error| Failure::Local {
            what: "systemctl does not run",
            source: source.into(),
        };
        status.map(|status| status.success()).map_err(failed)
    };
    for unit in units {
        if !systemctl(&["is-enabled", "--quiet"], &[unit])? {
            let argv = ["systemctl", "disable", "--quiet", unit].map(str::to_owned).to_vec();
            let written =
                Changer::take(directory).and_then(|mut it| it.apply(&Change::OnUndo { argv }));
            written.map_err(Failure::Failed)?;
            systemctl(&["enable", "--quiet"], &[unit])?;
        }
    }
    if systemctl(&["restart"], &[unit])? {
        return Ok(true);
    }
    Err(Failure::Failed(format!("{unit} does not start; see: journalctl -u {unit}")))
}

/// Waits until the agent has reached the controller and the kernel holds what it should.
async fn connected(directory: &Path) -> Result<Box<Status>, Failure> {
    let end = Instant::now() + CONNECT_WITHIN;
    loop {
        if let Ok(Some(Answer::Status(status))) = control::ask(directory, &Question::Status).await
            && (Instant::now() >= end || (status.controller.is_some() && status.broken.is_none()))
        {
            return Ok(status);
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

/// Asks the operator, who can only answer where the way in still works: on the terminal, as the
/// token came by standard input. `None`: there is none.
fn is_well() -> Result<Option<bool>, Failure> {
    let Ok(terminal) = File::options().read(true).write(true).open("/dev/tty") else {
        return Ok(None);
    };
    (&terminal).write_all(b"is this VM well, and do you still reach it? [y/N] ")?;
    let mut answer = String::new();
    BufReader::new(&terminal).read_line(&mut answer)?;
    Ok(Some(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes")))
}
