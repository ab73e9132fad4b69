//! The socket on which the command line of this host asks the agent: a line of JSON each way.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use agent::identity::{Health, Identity};
use agent::names::Stub;
use plan::{ServiceId, Timestamp, Token};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use xds::follow::Link;

use crate::glass::Force;
use crate::host::actor::{Ask, Drained};
use crate::host::clocks::Why;
use crate::host::envoy::{EnvoyStatus, Shown};
use crate::host::farewell::Farewell;
use crate::host::files::{SOCKET, Settings};
use crate::host::report::{self, InForce, ServiceInForce};
use crate::host::trial;
use crate::verbs::{Failure, chain};

/// The longest question: a list of services.
const QUESTION_MAX: u64 = 1 << 20;
/// The longest answer: the status of 4 095 services.
const ANSWER_MAX: u64 = 16 << 20;
/// How many ask at a time: operators and scripts of one host.
const ASKING_MAX: usize = 16;
/// How long an agent may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// What is asked.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "ask")]
pub(crate) enum Question {
    /// What holds on this host.
    Status,
    /// Close what is left on the side that lost.
    Drain {
        /// Of these services.
        services: Vec<ServiceId>,
        /// Why, in the operator's words.
        #[serde(default)]
        reason: Option<String>,
    },
    /// The host leaves for good: the controller is told.
    Leave,
}

/// What is answered.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "answer")]
pub(crate) enum Answer {
    /// What holds on this host.
    Status(Box<Status>),
    /// Of these services something was closed; others are on both sides, or are not here.
    Drained {
        /// Which.
        services: Vec<ServiceId>,
        /// Those whose connections are left alone on legacy, where nobody but the program there
        /// closes them.
        #[serde(default)]
        left: Vec<ServiceId>,
    },
    /// Whether the controller was told.
    Leaving {
        /// It was, as far as is known here.
        told: bool,
    },
    /// It cannot be understood.
    Bad {
        /// Why.
        why: String,
    },
}

/// What holds on this host.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Status {
    /// What this host is called.
    pub(crate) name: String,
    /// The address that stands for its own processes.
    pub(crate) address: String,
    /// The controller that is followed now; `null`: none is reached.
    pub(crate) controller: Option<String>,
    /// Why none is, in the words of the last attempt; `null`: one is, or none was tried yet.
    #[serde(default)]
    pub(crate) away: Option<String>,
    /// The newest token that anything is held of; `null`: nothing is held.
    pub(crate) token: Option<Token>,
    /// Why the kernel does not hold what it should; `null`: it does.
    pub(crate) broken: Option<String>,
    /// How the kernel keeps our table: `persistent`, `socket` or `open`.
    pub(crate) table: Option<String>,
    /// What else is to be known of rules and names.
    pub(crate) notes: Vec<String>,
    /// Those of the notes that say which flows do not keep their source although the plan asks.
    #[serde(default)]
    pub(crate) masqueraded: Vec<String>,
    /// Services that the host's own operator keeps on legacy; `*` for every one.
    pub(crate) break_glass: Vec<String>,
    /// When the join undoes itself unless it is confirmed; `null`: it does not.
    #[serde(default)]
    pub(crate) trial: Option<Timestamp>,
    /// The certificate; `null`: the host has not joined.
    pub(crate) identity: Option<IdentityStatus>,
    /// The stub DNS server; `null`: names are left alone, by choice or as a note says.
    pub(crate) names: Option<NamesStatus>,
    /// The Envoy beside the agent; `null`: there is to be none.
    #[serde(default)]
    pub(crate) envoy: Option<EnvoyStatus>,
    /// The services, sorted.
    pub(crate) services: Vec<ServiceStatus>,
}

/// How the certificate is.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct IdentityStatus {
    /// Its SPIFFE ID.
    pub(crate) id: String,
    /// Until when it is valid.
    pub(crate) expires: Timestamp,
    /// What is wrong with it; `null`: nothing.
    pub(crate) trouble: Option<String>,
}

/// What the stub did since the agent started.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NamesStatus {
    /// Where it answers.
    pub(crate) listen: Vec<String>,
    /// Whom it asks.
    pub(crate) upstreams: Vec<String>,
    /// How many plan names it has.
    pub(crate) names: usize,
    /// Answers to plan names.
    pub(crate) answered: u64,
    /// Other queries that were relayed and answered.
    pub(crate) forwarded: u64,
    /// Those that no upstream answered.
    pub(crate) failed: u64,
    /// Those that were dropped.
    pub(crate) dropped: u64,
}

/// A service on this host.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ServiceStatus {
    /// `plan/service`.
    pub(crate) service: ServiceId,
    /// Its logical address; `null`: it has none, and only its names are known here.
    pub(crate) address: Option<std::net::IpAddr>,
    /// Its split.
    pub(crate) split_bp: u16,
    /// Flows to legacy since that split.
    pub(crate) legacy: u64,
    /// Flows to target since that split.
    pub(crate) target: u64,
    /// Flows that reached legacy at exactly 100 % and were forwarded.
    pub(crate) stragglers: u64,
    /// Their networks, the busiest first.
    pub(crate) networks: Vec<String>,
}

/// What answers are made of.
#[derive(Clone)]
pub(super) struct Control {
    pub(super) settings: Settings,
    pub(super) in_force: watch::Receiver<InForce>,
    pub(super) links: watch::Receiver<Option<Link>>,
    /// Why no controller is followed.
    pub(super) why: Why,
    pub(super) health: Option<(watch::Receiver<Arc<Identity>>, watch::Receiver<Health>)>,
    pub(super) stub: Option<Arc<Stub>>,
    /// What is to be known of how the host is brought to ask the stub.
    pub(super) notes: Option<watch::Receiver<Vec<String>>>,
    pub(super) asks: mpsc::Sender<Ask>,
    /// The Envoy beside the agent, if there is to be one.
    pub(super) envoy: Option<watch::Receiver<Shown>>,
    pub(super) farewell: Farewell,
}

/// Answers on the socket in `directory`, for its owner alone. Where there can be none, as on a disk
/// that is read-only, that is told, and everything else goes on.
pub(super) fn serve(directory: &Path, control: Control) -> impl Future<Output = ()> + use<> {
    let (listener, directory) = (listen(directory), Arc::<Path>::from(directory));
    async move {
        let listener = match listener {
            Ok(listener) => listener,
            Err(error) => {
                tracing::error!(why = %chain(&error), "commands of this host are not answered");
                return std::future::pending().await;
            }
        };
        let room = Arc::new(Semaphore::new(ASKING_MAX));
        loop {
            let Ok(place) = Arc::clone(&room).acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, _)) => {
                    let (control, directory) = (control.clone(), Arc::clone(&directory));
                    tokio::spawn(async move {
                        let answered = control.answer(stream, &directory);
                        match tokio::time::timeout(ANSWER_WITHIN, answered).await {
                            Ok(Ok(())) => {}
                            Ok(Err(error)) => tracing::debug!(%error, "a command has gone"),
                            Err(_) => tracing::debug!("a command took too long"),
                        }
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "commands cannot be accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

fn listen(directory: &Path) -> Result<UnixListener, Failure> {
    let path = directory.join(SOCKET);
    let failed = |source| Failure::File { what: "listen on", path: path.clone(), source };
    // The directory is this process's alone: what is there is of one that has ended.
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let listener = UnixListener::bind(&path).map_err(failed)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).map_err(failed)?;
    Ok(listener)
}

impl Control {
    async fn answer(&self, stream: UnixStream, directory: &Path) -> io::Result<()> {
        let (reading, mut writing) = stream.into_split();
        let mut line = String::new();
        BufReader::new(reading.take(QUESTION_MAX)).read_line(&mut line).await?;
        let answer = match serde_json::from_str(&line) {
            Ok(Question::Status) => Answer::Status(Box::new(self.status(directory))),
            Ok(Question::Drain { services, reason }) => {
                let on: Vec<String> = services.iter().map(ToString::to_string).collect();
                let (on, reason) = (on.join(", "), reason.unwrap_or_default());
                tracing::info!(%on, %reason, "an operator drains");
                let (done, drained) = oneshot::channel();
                // The actor goes only with the process.
                let _ = self.asks.send(Ask::Drain { services, done }).await;
                let Drained { closed, left } = drained.await.unwrap_or_default();
                Answer::Drained { services: closed, left }
            }
            Ok(Question::Leave) => {
                let linked = self.links.borrow().is_some();
                Answer::Leaving { told: linked && self.farewell.say().await }
            }
            Err(error) => Answer::Bad { why: error.to_string() },
        };
        let mut text = serde_json::to_vec(&answer)?;
        text.push(b'\n');
        writing.write_all(&text).await
    }

    fn status(&self, directory: &Path) -> Status {
        let in_force = self.in_force.borrow().clone();
        let masqueraded = in_force.otherwise.iter().filter(|told| told.masquerades);
        let notes = self.notes.as_ref().map(|notes| notes.borrow().clone());
        Status {
            name: self.settings.name.clone(),
            address: self.settings.address.to_string(),
            controller: self.links.borrow().as_ref().map(|link| link.address.to_string()),
            away: self.why.words(),
            token: (in_force.through != Token::NEVER).then_some(in_force.through),
            broken: in_force.broken,
            table: in_force.ownership.map(|ownership| format!("{ownership:?}").to_lowercase()),
            notes: in_force.told.into_iter().chain(notes.into_iter().flatten()).collect(),
            masqueraded: masqueraded.map(ToString::to_string).collect(),
            break_glass: in_force.force.iter().map(Force::subject).collect(),
            trial: trial::ends(directory, &self.settings),
            identity: self.identity(),
            names: self.stub.as_ref().filter(|stub| stub.is_serving()).map(|stub| names(stub)),
            envoy: self.envoy.as_ref().map(|shown| shown.borrow().clone().into()),
            services: in_force.services.iter().map(service).collect(),
        }
    }

    fn identity(&self) -> Option<IdentityStatus> {
        let (identity, health) = self.health.as_ref()?;
        let (identity, health) = (identity.borrow(), health.borrow());
        let trouble = match &*health {
            Health::Fine { .. } => None,
            Health::Failing { why, expired, .. } => {
                let expired = if *expired { "expired; " } else { "" };
                Some(format!("{expired}not renewed: {why}"))
            }
            Health::Refused { why } | Health::Lost { why } => Some(why.clone()),
        };
        Some(IdentityStatus { id: identity.spiffe_id(), expires: identity.not_after, trouble })
    }
}

fn names(stub: &Stub) -> NamesStatus {
    let proto::crossfade::v1::Names { answered, forwarded, failed, dropped } = report::names(stub);
    let asked = stub.upstreams();
    let upstreams = asked.iter().flat_map(|asked| asked.servers());
    NamesStatus {
        listen: stub.addresses().iter().map(ToString::to_string).collect(),
        upstreams: upstreams.map(ToString::to_string).collect(),
        names: stub.answers().len(),
        answered,
        forwarded,
        failed,
        dropped,
    }
}

fn service(one: &ServiceInForce) -> ServiceStatus {
    let (stragglers, networks) = one.stragglers();
    ServiceStatus {
        service: one.leaf.id.clone(),
        address: one.leaf.spec.address,
        split_bp: one.leaf.serving.split().bp(),
        legacy: one.legacy,
        target: one.target,
        stragglers,
        networks: networks.iter().map(|(network, _)| network.to_string()).collect(),
    }
}

/// Asks the agent whose directory this is; `None`: none runs.
///
/// # Errors
/// It cannot be asked, does not answer, or does not understand the question, as one that was
/// started before this program was replaced.
pub(crate) async fn ask(directory: &Path, question: &Question) -> Result<Option<Answer>, Failure> {
    let path = directory.join(SOCKET);
    let failed = |source| Failure::File { what: "ask on", path: path.clone(), source };
    let mut stream = match UnixStream::connect(&path).await {
        Ok(stream) => stream,
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
            ) =>
        {
            return Ok(None);
        }
        Err(error) => return Err(failed(error)),
    };
    let asked = async {
        let mut line = serde_json::to_vec(question)?;
        line.push(b'\n');
        stream.write_all(&line).await?;
        let mut answer = Vec::new();
        stream.take(ANSWER_MAX).read_to_end(&mut answer).await?;
        let mut answer = serde_json::from_slice(&answer)?;
        clean(&mut answer);
        Ok::<Answer, io::Error>(serde_json::from_value(answer)?)
    };
    match tokio::time::timeout(ANSWER_WITHIN, asked).await {
        Ok(Ok(Answer::Bad { why })) => Err(misunderstood(&why)),
        Ok(answer) => answer.map(Some).map_err(failed),
        Err(_) => Err(Failure::Failed(
            "the agent does not answer; to be safe without it: crossfade agent rollback".to_owned(),
        )),
    }
}

/// Takes control characters out of all that an agent says: root reads it on a terminal, and the
/// agent is less than root.
fn clean(value: &mut Value) {
    match value {
        Value::String(text) if text.contains(char::is_control) => {
            *text = text.replace(char::is_control, " ");
        }
        Value::Array(all) => all.iter_mut().for_each(clean),
        Value::Object(all) => all.values_mut().for_each(clean),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// What is said where the agent and this program are not of one version.
pub(crate) fn misunderstood(why: &str) -> Failure {
    Failure::Failed(format!(
        "the agent does not understand: {why}; if it is older than this program: systemctl \
         restart crossfade-agent"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever an agent says, the terminal is told nothing.
    #[tokio::test]
    async fn what_an_agent_says_has_no_control_characters() {
        let directory =
            std::env::temp_dir().join(format!("crossfade-control-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let listener = listen(&directory).unwrap();
        let answering = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            BufReader::new(&mut stream).read_line(&mut String::new()).await.unwrap();
            let said = r#"{"answer":"bad","why":"a\u001b[2Jb\u009bc\nd"}"#;
            stream.write_all(said.as_bytes()).await.unwrap();
        };
        let (asked, ()) = tokio::join!(ask(&directory, &Question::Status), answering);
        let told = chain(&asked.unwrap_err());
        assert!(told.contains("a [2Jb c d") && !told.contains(char::is_control), "{told:?}");
        fs::remove_dir_all(&directory).unwrap();
    }
}
