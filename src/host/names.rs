//! Names on this host: the stub DNS server, and whom it hands other names to.

mod upkeep;

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use agent::journal::Bytes;
use agent::names::integrate::{self, Change, Choice, Env, How, Standing};
use agent::names::stub::{BindError, Sockets};
use agent::names::upstream::ResolvConf;
use agent::names::{Answers, Stub, Upstreams};
use agent::rules::SocketMark;
use plan::snapshot::Service;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::disk;
use crate::host::files::{Names, Settings};
use crate::host::{changes, descriptors};
use crate::verbs::chain;

/// What is known of names on this host over restarts.
const KEPT: &str = "names.json";

/// Said where that cannot be written.
const UNKEPT: &str = "what is known of names cannot be kept";

/// The port of the stub where the host's resolver can be told one. Below 1024, so that no program
/// without rights answers in its place while it is away; nobody's (IANA), and below those that
/// programs of RPC draw for themselves (512 and up). Port 53 may be wanted by others later.
const PORT: u16 = 335;

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
    before: Option<Bytes>,
    /// How the host was brought to ask the stub.
    #[serde(default)]
    how: Option<How>,
}

/// Names of this host: what answers them, from when it can.
pub(crate) struct Serving {
    pub(super) stub: Arc<Stub>,
    begun: Result<Kept, String>,
    notes: watch::Sender<Vec<String>>,
}

impl Serving {
    /// What is to be known of how the host is brought to ask the stub.
    pub(super) fn notes(&self) -> watch::Receiver<Vec<String>> {
        self.notes.subscribe()
    }
}

/// Starts the stub with what was held, on the sockets that were kept if there are any; where it
/// cannot answer now, that is tried again. `None`: names are left alone here.
pub(super) fn start(
    directory: &Path,
    settings: &Settings,
    leaves: &[Arc<Service>],
    handed: Vec<OwnedFd>,
) -> Option<Serving> {
    if settings.names == Names::Off {
        return None;
    }
    let answers = Arc::new(Answers::of(settings.address, leaves));
    let stub = Arc::new(Stub::waiting(answers, Some(SocketMark::AGENT.value)));
    let handed = Sockets::from_fds(handed).ok();
    let begun = begin(&stub, directory, settings.names, handed);
    let notes = watch::channel(Vec::new()).0;
    Some(Serving { stub, begun, notes })
}

/// Has the stub answer, on sockets that were kept or on others; gives what is known then, or why it
/// cannot. An address that another program took meanwhile is passed over.
fn begin(
    stub: &Stub,
    directory: &Path,
    names: Names,
    handed: Option<Sockets>,
) -> Result<Kept, String> {
    let known = kept(directory);
    let mut handed = handed.filter(|sockets| sockets.addresses() == known.listen);
    let mut taken = Vec::new();
    loop {
        let own = Own { listens: handed.is_some(), taken: taken.clone() };
        let Begun { kept, upstreams, otherwise } = wanted(&known, names, &stub.answers(), &own)?;
        let sockets = match handed.take().filter(|it| it.addresses() == kept.listen) {
            Some(sockets) => sockets,
            None => match Sockets::bind(&kept.listen) {
                Ok(sockets) => sockets,
                // The kernel shows no socket that is connected.
                Err(BindError::Socket { address, .. }) if !taken.contains(&address) => {
                    taken.push(address);
                    continue;
                }
                Err(error) => return Err(otherwise.unwrap_or_else(|| chain(&error))),
            },
        };
        stub.begin(sockets, upstreams).map_err(|error| chain(&error))?;
        descriptors::keep_names(stub);
        if let Some(why) = otherwise {
            tracing::error!(%why, "names are answered where they were");
        }
        if let Err(why) = keep(directory, &kept) {
            tracing::error!(why, "{UNKEPT}");
        }
        return Ok(kept);
    }
}

/// How the stub is to begin.
struct Begun {
    kept: Kept,
    upstreams: Upstreams,
    /// Why it is not chosen anew, but as it was.
    otherwise: Option<String>,
}

fn wanted(known: &Kept, names: Names, answers: &Answers, own: &Own) -> Result<Begun, String> {
    if let Names::At(listen) = names {
        let upstreams = named(listen, known)?;
        let servers = upstreams.servers().to_vec();
        let kept = Kept { listen: vec![listen], upstreams: servers, ..Kept::default() };
        return Ok(Begun { kept, upstreams, otherwise: None });
    }
    match settle(known, &answers.entries(), own, decide) {
        Ok((choice, kept)) => Ok(Begun { kept, upstreams: choice.upstreams, otherwise: None }),
        Err(why) => {
            let asked = Upstreams::choose(known.upstreams.clone(), &known.listen);
            match (known.how, asked) {
                (Some(_), Ok(upstreams)) => {
                    Ok(Begun { kept: known.clone(), upstreams, otherwise: Some(why) })
                }
                _ => Err(why),
            }
        }
    }
}

/// What is known of the stub's own addresses.
#[derive(Clone, Debug, Default)]
struct Own {
    /// It listens where it is known to.
    listens: bool,
    /// Where it could not.
    taken: Vec<SocketAddr>,
}

impl Own {
    /// It runs.
    const fn running() -> Self {
        Self { listens: true, taken: Vec::new() }
    }
}

fn decide(env: &Env) -> Result<Choice, String> {
    integrate::decide(env).map_err(|refused| refused.to_string())
}

/// What is to be done now by the way that `pick` gives, and what is known then. Where others wrote
/// the resolv.conf that we write, theirs is what we stand before from now on; but never one that
/// names nobody, as it is for a moment while it is written.
fn settle<E>(
    known: &Kept,
    entries: &[(String, Vec<IpAddr>)],
    own: &Own,
    pick: impl Fn(&Env) -> Result<Choice, E>,
) -> Result<(Choice, Kept), E> {
    let standing = Standing {
        port: PORT,
        entries: entries.to_vec(),
        own: known.listen.clone(),
        listens: own.listens,
        taken: own.taken.clone(),
        before: known.before.clone().map(|before| before.0),
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
        before: env.before.map(Bytes),
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
    match settle(&kept(directory), &[], &Own::running(), decide) {
        Ok((choice, _)) => Some((choice.how.to_string(), choice.reason)),
        Err(why) => Some(("none".to_owned(), why)),
    }
}

/// Whom the host asks, where it is not brought to ask us.
fn named(listen: SocketAddr, known: &Kept) -> Result<Upstreams, String> {
    let before = || Upstreams::choose(known.upstreams.clone(), &[listen]).ok();
    found(listen).or_else(before).ok_or_else(|| {
        "no name server is known to hand other names to: /etc/resolv.conf names none; write one \
         there, or go without names (--no-names)"
            .to_owned()
    })
}

/// What the host says now.
fn found(listen: SocketAddr) -> Option<Upstreams> {
    let text = fs::read(RESOLVER).ok()?;
    Upstreams::of_resolv_conf(&ResolvConf::parse(&text), &[listen]).ok()
}

/// Whether the host was brought to ask the stub.
pub(crate) fn is_brought(directory: &Path) -> bool {
    kept(directory).how.is_some()
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
    let Some(Serving { stub, begun, notes }) = serving else {
        return std::future::pending().await;
    };
    let looker = upkeep::Looker::new(directory, Arc::clone(&stub), settings.names, begun);
    upkeep::go_on(&stub, looker, &notes).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_there_before_is_kept_byte_for_byte() {
        let before = b"# by Andr\xe9\nnameserver 10.0.0.2\n".to_vec();
        let known = Kept { before: Some(Bytes(before)), ..Kept::default() };
        let text = serde_json::to_vec(&known).unwrap();
        assert_eq!(serde_json::from_slice::<Kept>(&text).unwrap(), known);
    }
}
