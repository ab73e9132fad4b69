//! Names on this host: the stub DNS server, and whom it hands other names to.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use agent::names::integrate::{self, Choice, Env, Standing};
use agent::names::stub::{Reach, Sockets};
use agent::names::upstream::ResolvConf;
use agent::names::{Answers, Stub, Upstreams, stub};
use agent::rules::SocketMark;
use plan::snapshot::Service;
use serde::{Deserialize, Serialize};

use crate::host::files::{self, Names, Settings};
use crate::host::handed;
use crate::verbs::{Failure, chain};

/// What is known of names on this host over restarts.
const KEPT: &str = "names.json";

/// The port of the stub where the host's resolver can be told one.
const PORT: u16 = 5_355;

/// How often it is looked whether the host's own name servers are others.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// What is known of names on this host over restarts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Kept {
    /// Where the stub listens.
    listen: Vec<SocketAddr>,
    /// Whom it asks: what the host asked when it last said so.
    upstreams: Vec<SocketAddr>,
    /// `/etc/resolv.conf` before it was changed.
    before: Option<String>,
}

/// Names that are served.
pub(crate) struct Serving {
    pub(super) stub: Arc<Stub>,
    kept: Kept,
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
            (Kept { listen: vec![listen], upstreams: servers, before: None }, upstreams)
        }
        Names::Auto => match choose(directory, &answers.entries()) {
            Ok((choice, kept)) => (kept, choice.upstreams),
            Err(why) => {
                tracing::error!(%why, "names are left alone");
                return Ok(None);
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
    handed::keep_names(&stub);
    keep(directory, &kept);
    Ok(Some(Serving { stub: Arc::new(stub), kept }))
}

/// Chooses how this host is brought to ask the stub.
///
/// # Errors
/// No way works, in words.
pub(crate) fn choose(
    directory: &Path,
    entries: &[(String, Vec<IpAddr>)],
) -> Result<(Choice, Kept), String> {
    let known = kept(directory);
    let before = known.before.clone().map(String::into_bytes);
    let standing =
        Standing { port: PORT, entries: entries.to_vec(), own: known.listen.clone(), before };
    let env = Env::read(Path::new("/"), standing);
    let choice = integrate::decide(&env).map_err(|refused| refused.to_string())?;
    // What stands there now is the host's own as long as nobody was brought to ask us.
    let text = || env.resolv_conf.bytes().map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    let kept = Kept {
        listen: choice.listen.clone(),
        upstreams: choice.upstreams.servers().to_vec(),
        before: known.before.or_else(text),
    };
    Ok((choice, kept))
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
    let text = fs::read("/etc/resolv.conf").ok()?;
    Upstreams::of_resolv_conf(&ResolvConf::parse(&text), &[listen]).ok()
}

fn kept(directory: &Path) -> Kept {
    let bytes = fs::read(directory.join(KEPT)).ok();
    bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}

fn keep(directory: &Path, known: &Kept) {
    if kept(directory) == *known {
        return;
    }
    let path: PathBuf = directory.join(KEPT);
    let written = serde_json::to_vec_pretty(known)
        .map_err(std::io::Error::from)
        .and_then(|bytes| files::write(&path, &bytes, 0o644));
    if let Err(error) = written {
        tracing::error!(why = %chain(&error), "what is known of names cannot be kept");
    }
}

/// Goes on asking the host's own name servers when they are others, never nobody; and goes on being
/// asked where others change what the host asks.
pub(super) async fn go_on(serving: Option<Serving>, directory: &Path, settings: &Settings) {
    let Some(Serving { stub, mut kept }) = serving else {
        return std::future::pending().await;
    };
    let mut tick = tokio::time::interval(LOOK_EVERY);
    loop {
        tick.tick().await;
        let (place, names) = (directory.to_owned(), settings.names);
        let entries = stub.answers().entries();
        let looked = tokio::task::spawn_blocking(move || match names {
            Names::Auto => choose(&place, &entries).ok().map(|(choice, _)| choice.upstreams),
            Names::At(listen) => found(listen),
            Names::Off => None,
        });
        // Nobody is named for a moment while others write their file: those before go on.
        let Ok(Some(found)) = looked.await else { continue };
        if found == *stub.upstreams() {
            continue;
        }
        tracing::info!(servers = ?found.servers(), "other name servers are asked from now on");
        kept.upstreams = found.servers().to_vec();
        keep(directory, &kept);
        if let Err(error) = stub.ask(found) {
            tracing::error!(why = %chain(&error), "other name servers are not asked");
        }
    }
}
