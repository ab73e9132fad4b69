//! Names on this host: the stub DNS server, and whom it hands other names to.

mod upkeep;

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use agent::names::integrate::{self, Change, Choice, Env, How, Standing};
use agent::names::stub::{Reach, Sockets};
use agent::names::upstream::ResolvConf;
use agent::names::{Answers, Stub, Upstreams, stub};
use agent::rules::SocketMark;
use plan::snapshot::Service;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::disk;
use crate::host::files::{Names, Settings};
use crate::host::{changes, descriptors};
use crate::verbs::{Failure, chain};

/// What is known of names on this host over restarts.
const KEPT: &str = "names.json";

/// Said where that cannot be written.
const UNKEPT: &str = "what is known of names cannot be kept";

/// The port of the stub where the host's resolver can be told one: that beside multicast DNS
/// (5353) and LLMNR (5355), which systemd-resolved and Avahi have.
const PORT: u16 = 5_354;

/// Whom the C library asks.
const RESOLVER: &str = "/etc/resolv.conf";

/// What is known of names on this host over restarts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Kept {
    /// Where the stub listens.
    listen: Vec<SocketAddr>,
    /// Whom it asks: what the host asked when it last said so.
    upstreams: Vec<SocketAddr>,
    /// `/etc/resolv.conf` as others wrote it last, where we write it.
    before: Option<String>,
    /// How the host was brought to ask the stub.
    #[serde(default)]
    how: Option<How>,
}

/// Names that are served.
pub(crate) struct Serving {
    pub(super) stub: Arc<Stub>,
    kept: Kept,
    notes: watch::Sender<Vec<String>>,
}

impl Serving {
    /// What is to be known of how the host is brought to ask the stub.
    pub(super) fn notes(&self) -> watch::Receiver<Vec<String>> {
        self.notes.subscribe()
    }
}

/// Starts the stub with what was held, on the sockets that were kept if there are any. `None`:
/// names are left alone here, or there is no way; then the host stays as it is.
pub(super) fn start(
    directory: &Path,
    settings: &Settings,
    leaves: &[Arc<Service>],
    handed: Vec<OwnedFd>,
) -> Result<Option<Serving>, Failure> {
    let answers = Arc::new(Answers::of(settings.address, leaves));
    let (kept, upstreams) = match settings.names {
        Names::Off => return Ok(None),
        Names::At(listen) => {
            let upstreams = named(listen, &kept(directory))?;
            let servers = upstreams.servers().to_vec();
            let kept = Kept { listen: vec![listen], upstreams: servers, ..Kept::default() };
            (kept, upstreams)
        }
        Names::Auto => match choose(directory, &answers.entries()) {
            Ok((choice, kept)) => (kept, choice.upstreams),
            Err(why) => {
                let known = kept(directory);
                let asked = Upstreams::choose(known.upstreams.clone(), &known.listen);
                let (Some(_), Ok(asked)) = (known.how, asked) else {
                    tracing::error!(%why, "names are left alone");
                    return Ok(None);
                };
                tracing::error!(%why, "names are answered where they were");
                (known, asked)
            }
        },
    };
    let mark = Some(SocketMark::AGENT.value);
    let stub = match Sockets::from_fds(handed, Reach::Loopback) {
        Ok(sockets) if sockets.addresses() == kept.listen => {
            Stub::start(sockets, mark, answers, upstreams)
        }
        _ => {
            let listen = kept.listen.clone();
            let settings = stub::Settings { listen, reach: Reach::Loopback, mark };
            Stub::bind(&settings, answers, upstreams)
        }
    };
    let stub = stub.map_err(|error| Failure::Local {
        what: "names cannot be answered",
        source: error.into(),
    })?;
    descriptors::keep_names(&stub);
    if let Err(why) = keep(directory, &kept) {
        tracing::error!(why, "{UNKEPT}");
    }
    let notes = watch::channel(Vec::new()).0;
    Ok(Some(Serving { stub: Arc::new(stub), kept, notes }))
}

/// Chooses how this host is brought to ask the stub.
///
/// # Errors
/// No way works, in words.
pub(crate) fn choose(
    directory: &Path,
    entries: &[(String, Vec<IpAddr>)],
) -> Result<(Choice, Kept), String> {
    let decide = |env: &Env| integrate::decide(env).map_err(|refused| refused.to_string());
    settle(&kept(directory), entries, decide)
}

/// What is to be done now by the way that `pick` gives, and what is known then. Where others wrote
/// the resolv.conf that we write, theirs is what we stand before from now on; but never one that
/// names nobody, as it is for a moment while it is written.
fn settle(
    known: &Kept,
    entries: &[(String, Vec<IpAddr>)],
    pick: impl Fn(&Env) -> Result<Choice, String>,
) -> Result<(Choice, Kept), String> {
    let before = known.before.clone().map(String::into_bytes);
    let standing = Standing {
        port: PORT,
        entries: entries.to_vec(),
        own: known.listen.clone(),
        before,
        helped: changes::is_helped(),
    };
    let mut env = Env::read(Path::new("/"), standing);
    let mut choice = pick(&env)?;
    let found = env.resolv_conf.bytes().map(<[u8]>::to_vec);
    let wanted = written(&choice).find(|(path, _)| *path == Path::new(RESOLVER));
    if let (Some((path, wanted)), Some(found)) = (wanted, found)
        && wanted != found
    {
        let theirs = integrate::without_ours(path, &found, &choice.listen).unwrap_or(found);
        let before = env.before.replace(theirs);
        match pick(&env) {
            Ok(adopted) => choice = adopted,
            Err(_) => env.before = before,
        }
    }
    let kept = Kept {
        listen: choice.listen.clone(),
        upstreams: choice.upstreams.servers().to_vec(),
        before: env.before.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()),
        how: Some(choice.how),
    };
    Ok((choice, kept))
}

/// The files of a choice.
fn written(choice: &Choice) -> impl Iterator<Item = (&Path, &[u8])> {
    choice.changes.iter().filter_map(|change| match change {
        Change::WriteFile { path, bytes, .. } => Some((path.as_path(), bytes.as_slice())),
        Change::OnUndo { .. } | Change::Run { .. } => None,
    })
}

/// Whom the stub asked last.
pub(super) fn asked(directory: &Path) -> Vec<SocketAddr> {
    kept(directory).upstreams
}

/// Where names were answered last.
pub(super) fn listening(directory: &Path) -> Vec<SocketAddr> {
    kept(directory).listen
}

/// The way in which this host would be brought to ask us, and why.
pub(crate) fn way(directory: &Path) -> Option<(String, String)> {
    match choose(directory, &[]) {
        Ok((choice, _)) => Some((choice.how.to_string(), choice.reason)),
        Err(why) => Some(("none".to_owned(), why)),
    }
}

/// Whom the host asks, where it is not brought to ask us.
fn named(listen: SocketAddr, kept: &Kept) -> Result<Upstreams, Failure> {
    found(listen).or_else(|| Upstreams::choose(kept.upstreams.clone(), &[listen]).ok()).ok_or_else(
        || {
            Failure::Failed(
                "no name server is known to hand other names to: /etc/resolv.conf names none; \
                 write one there, or go without names (--no-names)"
                    .to_owned(),
            )
        },
    )
}

/// What the host says now.
fn found(listen: SocketAddr) -> Option<Upstreams> {
    let text = fs::read(RESOLVER).ok()?;
    Upstreams::of_resolv_conf(&ResolvConf::parse(&text), &[listen]).ok()
}

fn kept(directory: &Path) -> Kept {
    disk::read(directory, KEPT).ok().flatten().unwrap_or_default()
}

/// Where it cannot be kept, why.
fn keep(directory: &Path, known: &Kept) -> Result<(), String> {
    if kept(directory) == *known {
        return Ok(());
    }
    disk::put(directory, KEPT, known).map_err(|error| chain(&error))
}

/// Goes on asking the host's own name servers when they are others, never nobody; and goes on being
/// asked when names change, and where others change what the host asks.
pub(super) async fn go_on(serving: Option<Serving>, directory: &Path, settings: &Settings) {
    let Some(Serving { stub, kept, notes }) = serving else {
        return std::future::pending().await;
    };
    upkeep::go_on(&stub, upkeep::Looker::new(directory, settings.names, kept), &notes).await;
}
