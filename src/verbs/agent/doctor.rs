//! `crossfade agent doctor`, which `join` runs first.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use agent::doctor::{self, FindSettings, Reach, Row, Verdict, Wishes};
use xds::join::Ticket;

use crate::cli::agent::{Doctor, Join};
use crate::cli::{Output, page};
use crate::host;
use crate::host::control::{self, Answer, Question};
use crate::host::files;
use crate::host::world::World;
use crate::verbs::{Context, Exit, Failure, chain};

/// How long a controller may take to accept a connection.
const REACH_WITHIN: Duration = Duration::from_secs(3);

/// Looks and prints; exit code 1 where something fails.
pub(super) async fn run(args: &Doctor, context: &Context) -> Result<Exit, Failure> {
    let directory = files::directory(args.here.data.as_ref())?;
    let known = files::settings(&directory)?;
    let controllers: Vec<String> = match (&args.controller, &known) {
        (Some(controller), _) => vec![controller.clone()],
        (None, Some(known)) => known.controllers.clone(),
        (None, None) => Vec::new(),
    };
    let wishes = wishes(true, args.names, args.envoy.is_some());
    // What is joined has the port of names already.
    let joined = known.is_some();
    let mut wishes = if joined {
        Wishes { stub: None, joined, addresses: addresses(&directory), ..wishes }
    } else {
        wishes
    };
    let joined_with = known.and_then(|known| known.envoy);
    wishes.envoy_user = joined_with.as_ref().and_then(|envoy| host::envoy::user(&envoy.user));
    let envoy = args.envoy.clone().or_else(|| joined_with.map(|envoy| envoy.program));
    let rows = look(&directory, envoy.as_ref(), &wishes, &controllers).await;
    show(&rows, context)?;
    match doctor::worst(&rows) {
        Verdict::Fail if joined => {
            Err(Failure::Failed("this VM has joined, and something fails on it now".to_owned()))
        }
        Verdict::Fail => Err(Failure::Failed("this VM cannot join as it is".to_owned())),
        Verdict::Good | Verdict::Note | Verdict::Warn => Ok(Exit::Done),
    }
}

/// What a join goes by: refused where something fails, unless forced. Gives the rows that are worth
/// knowing; for people they are printed.
pub(super) async fn before_join(
    args: &Join,
    ticket: &Ticket,
    directory: &Path,
    context: &Context,
) -> Result<Vec<Row>, Failure> {
    let mut wishes = wishes(!args.no_names, args.names, args.envoy.is_some());
    wishes.envoy_user = args.envoy.as_ref().and_then(|_| host::envoy::user(&args.envoy_user));
    let rows = look(directory, args.envoy.as_ref(), &wishes, &ticket.controllers).await;
    let told: Vec<Row> = rows.into_iter().filter(|row| row.verdict >= Verdict::Warn).collect();
    let is_refused = doctor::worst(&told) == Verdict::Fail && !args.force;
    // For scripts they are part of what joining prints.
    if !told.is_empty() && (is_refused || context.output == Output::Text) {
        show(&told, context)?;
    }
    if is_refused {
        return Err(Failure::Refused(
            "this VM cannot join as it is: mend what fails above, or join with --force; all of it: \
             crossfade agent doctor"
                .to_owned(),
        ));
    }
    Ok(told)
}

fn wishes(names: bool, stub: Option<SocketAddr>, envoy: bool) -> Wishes {
    Wishes { envoy, names, stub, ..Wishes::default() }
}

/// The logical addresses that the agent holds, running or not. Where they cannot be read, the other
/// rows are told all the same.
fn addresses(directory: &Path) -> BTreeSet<IpAddr> {
    match World::read(directory) {
        Ok(world) => world.addresses(),
        Err(error) => {
            eprintln!("crossfade: {}; logical addresses are not looked for", chain(&error));
            BTreeSet::new()
        }
    }
}

async fn look(
    directory: &Path,
    envoy: Option<&PathBuf>,
    wishes: &Wishes,
    controllers: &[String],
) -> Vec<Row> {
    let settings = FindSettings {
        root: PathBuf::from("/"),
        data: directory.to_owned(),
        envoy: envoy.cloned(),
    };
    let mut findings = doctor::find(&settings, wishes).await;
    findings.controller = reach(controllers).await;
    findings.masqueraded = masqueraded(directory).await;
    if wishes.names && wishes.stub.is_none() {
        findings.names = host::names::way(directory);
    }
    doctor::judge(&findings, wishes)
}

/// What the agent that runs does not keep the source of; `None`: none runs, or it does not answer.
async fn masqueraded(directory: &Path) -> Option<Vec<String>> {
    match control::ask(directory, &Question::Status).await {
        Ok(Some(Answer::Status(status))) => Some(status.masqueraded),
        _ => None,
    }
}

/// Whether any controller takes a connection.
async fn reach(controllers: &[String]) -> Option<Reach> {
    let controllers = controllers.to_vec();
    let tried = tokio::task::spawn_blocking(move || {
        let mut last = None;
        for text in controllers {
            match connect(&text) {
                Ok(_) => return Some(Reach::Answered(text)),
                Err(error) => last = Some(Reach::Silent(format!("{text}: {error}"))),
            }
        }
        last
    });
    tried.await.ok().flatten()
}

/// Connects to a controller, by whichever of its addresses answers.
pub(super) fn connect(controller: &str) -> std::io::Result<TcpStream> {
    let mut last = std::io::Error::other("it has no address");
    for address in controller.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, REACH_WITHIN) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn show(rows: &[Row], context: &Context) -> Result<(), Failure> {
    if context.output == Output::Json {
        return Ok(page::json(&rows)?);
    }
    Ok(page::print(&doctor::table(rows))?)
}
