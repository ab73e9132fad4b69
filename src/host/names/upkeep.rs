//! Keeping the host asking us: when plan names change, when others write what we wrote, and when
//! the way by which it asks no longer works.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use agent::journal::{self, Applied, Bytes, HostPath};
use agent::names::drift::{self, Drift};
use agent::names::integrate::{self, Change, Choice, How, Lapsed};
use agent::names::trample::{Act, Trample};
use agent::names::upstream::watch::Watch;
use agent::names::upstream::{Adopted, adopt};
use agent::names::{Stub, Upstreams};
use tokio::sync::watch;
use tokio::time::Instant;

use super::{Kept, Own, RESOLVER, UNKEPT, begin, found, keep, settle, written};
use crate::host::changes::Changer;
use crate::host::files::Names;
use crate::verbs::chain;

/// How often the host is looked at where nothing tells of a change, and what failed is tried again.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// How long it is left alone after each look: whoever changes it is not answered at once.
const PAUSE: Duration = Duration::from_millis(100);

/// How long the way may not work before that is told: a resolver that restarts is away.
const AWAY: Duration = Duration::from_secs(2);

/// Whom the host's processes are to ask, and what stands in its files for that.
pub(super) struct Looker {
    directory: PathBuf,
    stub: Arc<Stub>,
    way: Way,
    kept: Kept,
    /// What we wrote last.
    last: BTreeMap<PathBuf, Vec<u8>>,
    tramples: BTreeMap<PathBuf, Trample>,
    fights: BTreeSet<PathBuf>,
    /// How often ours was written again over what others wrote.
    rewritten: u64,
    /// When writing failed last, until it does not: it is tried as often as the host is looked at,
    /// whatever changes meanwhile, as our own try is a change of these folders too.
    failed: Option<Instant>,
    /// Since when the way does not work, and how often it was changed.
    drift: Drift,
    /// Why it is another than the agent started with.
    turned: Option<(How, String)>,
    /// When it is time to look at that again.
    again: Option<Duration>,
    unkept: Option<String>,
    /// Something has not been done since the agent started, or failed.
    due: bool,
    trouble: Option<String>,
    begun: Instant,
}

/// How the host's processes come to ask.
#[derive(Clone, Copy)]
enum Way {
    /// We bring them, and keep it so.
    Ours(How),
    /// They do it by themselves.
    Theirs(SocketAddr),
    /// Not at all: the stub cannot answer yet.
    Not(Names),
}

impl Way {
    const fn ours(self) -> Option<How> {
        match self {
            Self::Ours(how) => Some(how),
            Self::Theirs(_) | Self::Not(_) => None,
        }
    }

    fn of(names: Names, kept: &Kept) -> Self {
        match (names, kept.how) {
            (Names::At(listen), _) => Self::Theirs(listen),
            (_, how) => Self::Ours(how.unwrap_or(How::ResolvConf)),
        }
    }
}

/// What was found.
struct Looked {
    /// Whom the host asks by its own means; `None`: it cannot be told now.
    upstreams: Option<Upstreams>,
    /// Files that tell of a change.
    files: Vec<PathBuf>,
    notes: Vec<String>,
}

/// Ends looking for good: once it is dropped, nothing is changed any more.
struct Gate {
    ended: Arc<AtomicBool>,
    looker: Arc<Mutex<Looker>>,
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Release);
        drop(self.looker.lock());
    }
}

/// Looks when files change, when other names are answered, and now and then.
pub(super) async fn go_on(stub: &Stub, looker: Looker, notes: &watch::Sender<Vec<String>>) {
    let ended = Arc::<AtomicBool>::default();
    let gate = Gate { ended: Arc::clone(&ended), looker: Arc::new(Mutex::new(looker)) };
    let mut published = stub.published();
    let mut watched: (Vec<PathBuf>, Option<Watch>) = (Vec::new(), None);
    let mut tick = tokio::time::interval(LOOK_EVERY);
    loop {
        let changed = async {
            match &mut watched.1 {
                Some(watch) => watch.changed().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = tick.tick() => {}
            // The stub outlives this.
            _ = published.changed() => {}
            changed = changed => if let Err(error) = changed {
                tracing::warn!(%error, "changes of the host's name servers are seen later");
                watched = (Vec::new(), None);
            }
        }
        let entries = stub.answers().entries();
        let (ended, looker) = (Arc::clone(&ended), Arc::clone(&gate.looker));
        let looking = tokio::task::spawn_blocking(move || {
            let mut looker = looker.lock().unwrap_or_else(PoisonError::into_inner);
            let looked = (!ended.load(Ordering::Acquire)).then(|| looker.look(&entries));
            (looked, looker.again)
        });
        let Ok((Some(looked), again)) = looking.await else { continue };
        if let Some(again) = again {
            tick.reset_after(again.min(LOOK_EVERY));
        }
        if watched.0 != looked.files {
            let watch = Watch::new(&looked.files);
            watched = (looked.files, watch.ok());
        }
        let looping = stub.looping();
        let looping = looping.iter().map(|server| {
            format!("names: {server} asks the agent itself, and is left out while it does")
        });
        let told: Vec<String> = looked.notes.into_iter().chain(looping).collect();
        notes.send_if_modified(|notes| {
            let differ = *notes != told;
            *notes = told;
            differ
        });
        // Nobody is named for a moment while others write their file: those before go on.
        if let (Some(found), Some(before)) = (looked.upstreams, stub.upstreams())
            && let Adopted::New(found) = adopt(&before, Ok(found))
        {
            tracing::info!(servers = %found, "other name servers are asked from now on");
            if let Err(error) = stub.ask(found) {
                tracing::error!(why = %chain(&error), "other name servers are not asked");
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

impl Looker {
    /// `begun` is what is known since the stub answers, or why it cannot.
    pub(super) fn new(
        directory: &Path,
        stub: Arc<Stub>,
        names: Names,
        begun: Result<Kept, String>,
    ) -> Self {
        let way = begun.as_ref().map_or(Way::Not(names), |kept| Way::of(names, kept));
        let kept = begun.unwrap_or_default();
        Self {
            directory: directory.to_owned(),
            stub,
            way,
            kept,
            last: BTreeMap::new(),
            tramples: BTreeMap::new(),
            fights: BTreeSet::new(),
            rewritten: 0,
            failed: None,
            drift: Drift::default(),
            turned: None,
            again: None,
            unkept: None,
            due: true,
            trouble: None,
            begun: Instant::now(),
        }
    }

    /// Looks at the host, and brings it to ask us where it does not.
    fn look(&mut self, entries: &[(String, Vec<IpAddr>)]) -> Looked {
        let how = match self.way {
            Way::Not(names) => match begin(&self.stub, &self.directory, names, None) {
                Ok(kept) => {
                    tracing::info!(at = ?kept.listen, "names are answered from now on");
                    self.way = Way::of(names, &kept);
                    self.kept = kept;
                    self.trouble = None;
                    return self.look(entries);
                }
                Err(why) => return self.left_alone(&why),
            },
            Way::Ours(how) => how,
            Way::Theirs(listen) => {
                let upstreams = found(listen);
                if let Some(upstreams) = &upstreams {
                    self.kept.upstreams = upstreams.servers().to_vec();
                    self.keep();
                }
                return Looked { upstreams, files: vec![RESOLVER.into()], notes: Vec::new() };
            }
        };
        match self.chosen(how, entries) {
            Ok((choice, kept)) => {
                self.kept = kept;
                self.keep();
                self.bring(choice)
            }
            Err((lapsed, act)) => self.nothing(&lapsed, act),
        }
    }

    /// The way to go on by: the one that was chosen, or another, where it is time for that.
    fn chosen(
        &mut self,
        how: How,
        entries: &[(String, Vec<IpAddr>)],
    ) -> Result<(Choice, Kept), (Lapsed, drift::Act)> {
        let own = Own::running();
        let found = settle(&self.kept, entries, &own, |env| integrate::again(env, how));
        let another = || settle(&self.kept, entries, &own, integrate::decide_in_place).ok();
        let is_in_question = found.is_err() || how == How::Hosts;
        let other = is_in_question.then(another).flatten();
        let other_how = other.as_ref().map(|(choice, _)| choice.how);
        let now = self.begun.elapsed();
        let act = self.drift.judge(now, how, found.as_ref().err(), other_how);
        self.again = match act {
            drift::Act::Wait(left) | drift::Act::Limited(left) => Some(left),
            drift::Act::Keep | drift::Act::Turn => None,
        };
        match (act, found, other) {
            (drift::Act::Turn, found, Some((choice, kept))) => {
                self.turn(how, &choice, found.err());
                Ok((choice, kept))
            }
            (_, found, _) => found.map_err(|lapsed| (lapsed, act)),
        }
    }

    /// The host is brought to ask us by another way from now on: first that, then the one before is
    /// put back.
    fn turn(&mut self, from: How, choice: &Choice, lapsed: Option<Lapsed>) {
        let to = choice.how;
        let why = lapsed.map(|lapsed| lapsed.to_string());
        let said = why.as_deref().unwrap_or("it works again");
        tracing::warn!(%from, %to, why = said, "the host is brought to ask the agent another way");
        let (first, before) = self.turned.take().unwrap_or((from, String::new()));
        self.turned = (first != to).then(|| (first, why.unwrap_or(before)));
        self.way = Way::Ours(to);
        self.due = true;
        self.failed = None;
        self.tramples.clear();
        self.fights.retain(|fight| written(choice).any(|(path, _)| path == fight));
        // Where names come to us, whoever leads them here is not asked any more; where they do not,
        // not before it leads them elsewhere.
        if to != How::Hosts
            && let Err(error) = self.stub.ask(choice.upstreams.clone())
        {
            tracing::error!(why = %chain(&error), "other name servers are not asked");
        }
    }

    /// Brings the host to ask us by this way, where it does not.
    fn bring(&mut self, choice: Choice) -> Looked {
        if self.failed.is_none_or(|at| at.elapsed() >= LOOK_EVERY) {
            let over = self.written_over(&choice);
            let due =
                (self.due || is_forgotten(&choice) || over.is_some()) && self.fights.is_empty();
            let done = if due { self.apply(&choice, over.unwrap_or_default()) } else { Ok(()) };
            self.failed = done.is_err().then(Instant::now);
            self.trouble(done.err());
        }
        let files = choice.follow.iter().cloned();
        let files = files.chain(written(&choice).map(|(path, _)| path.to_owned())).collect();
        Looked { upstreams: Some(choice.upstreams), files, notes: self.notes() }
    }

    /// The stub cannot answer now: the host is left as it is, and it is tried again.
    fn left_alone(&mut self, why: &str) -> Looked {
        self.trouble(Some(format!("left alone: {why}")));
        Looked { upstreams: None, files: vec![RESOLVER.into()], notes: self.notes() }
    }

    /// Keeps what is known; that it cannot be is said once for each reason.
    fn keep(&mut self) {
        let unkept = keep(&self.directory, &self.kept).err();
        if let Some(why) = &unkept
            && self.unkept != unkept
        {
            tracing::error!(%why, "{UNKEPT}");
        }
        self.unkept = unkept;
    }

    /// The host is left as it is: the way may work again, or another be chosen, in a while.
    fn nothing(&mut self, lapsed: &Lapsed, act: drift::Act) -> Looked {
        let lapsed_for = self.drift.lapsed_for(self.begun.elapsed());
        if lapsed_for.is_some_and(|time| time >= AWAY) {
            let next = match act {
                drift::Act::Wait(_) | drift::Act::Turn => {
                    "another way is chosen soon, unless it works again"
                }
                drift::Act::Limited(_) => {
                    "the way was changed too often to change it now; mend that, or have the agent \
                     choose anew: systemctl restart crossfade-agent"
                }
                drift::Act::Keep => {
                    "no other way works as long as the agent runs; mend that, or have it choose \
                     anew: systemctl restart crossfade-agent"
                }
            };
            self.trouble(Some(format!("{lapsed}; {next}")));
        }
        Looked { upstreams: None, files: vec![RESOLVER.into()], notes: self.notes() }
    }

    fn trouble(&mut self, trouble: Option<String>) {
        if let Some(why) = &trouble
            && self.trouble != trouble
        {
            tracing::error!(%why, "this host is not brought to ask the agent for names");
        }
        self.trouble = trouble;
    }

    /// Whether files are not as they should be, for the first time or because names are others; and
    /// which of them others wrote over.
    fn written_over(&mut self, choice: &Choice) -> Option<Vec<PathBuf>> {
        let now = self.begun.elapsed();
        let mut over: Option<Vec<PathBuf>> = None;
        for (path, wanted) in written(choice) {
            let found = plain_file(path);
            if found.as_deref() == Some(wanted) {
                continue;
            }
            let Some(last) = self.last.get(path).filter(|last| found.as_ref() != Some(*last))
            else {
                over.get_or_insert_default();
                continue;
            };
            let trample = self.tramples.entry(path.to_owned()).or_default();
            match trample.judge(now, found.as_deref(), last) {
                Act::Reapply => over.get_or_insert_default().push(path.to_owned()),
                Act::GiveUp => {
                    let path = path.display();
                    tracing::error!(%path, "others change it again and again; it is left to them");
                    self.fights.insert(PathBuf::from(path.to_string()));
                }
                Act::Nothing | Act::Leave => {}
            }
        }
        over
    }

    /// Makes all changes; others wrote `over` some of it.
    fn apply(&mut self, choice: &Choice, over: Vec<PathBuf>) -> Result<(), String> {
        self.due = true;
        let changes: Vec<_> = choice.changes.iter().map(change_of).collect::<Result<_, _>>()?;
        let mut changer = Changer::take(&self.directory)?;
        let mut shares_undo = false;
        for change in &changes {
            match (changer.apply(change)?, change) {
                (Applied::Done, journal::Change::WriteFile { path, .. }) => {
                    let how = choice.how;
                    tracing::info!(%path, %how, "changed on this host; leaving puts it back");
                }
                (Applied::Already, journal::Change::OnUndo { .. }) => shares_undo = true,
                (Applied::Done | Applied::Already, _) => {}
            }
        }
        self.put_back(&mut changer, choice, &changes, shares_undo)?;
        self.due = false;
        for path in over {
            self.rewritten += 1;
            if self.rewritten.is_power_of_two() {
                let (path, times) = (path.display(), self.rewritten);
                tracing::warn!(%path, times, "others changed it; it was written again");
            }
        }
        self.last =
            written(choice).map(|(path, bytes)| (path.to_owned(), bytes.to_vec())).collect();
        Ok(())
    }

    /// Puts back what is left of another way that the host was brought by before.
    fn put_back(
        &mut self,
        changer: &mut Changer,
        choice: &Choice,
        changes: &[journal::Change],
        shares_undo: bool,
    ) -> Result<(), String> {
        let report = changer.undo_others(changes)?;
        for kept in &report.kept {
            tracing::warn!(what = %kept.what, why = %kept.why, "others changed it; it stays");
        }
        for journal::Failed { what, why, again } in &report.failed {
            if *again {
                return Err(format!("what led to the agent before is not put back: {what}: {why}"));
            }
            tracing::warn!(%what, %why, "the way before was left, but this could not be done");
        }
        if report.undone.is_empty() {
            return Ok(());
        }
        tracing::info!(what = ?report.undone, "put back: the host is brought another way");
        // The same program was told of both: it is told that one is gone.
        let runs = changes.iter().filter(|it| matches!(it, journal::Change::Run { .. }));
        for change in runs.filter(|_| shares_undo) {
            changer.apply(change)?;
        }
        if written(choice).all(|(path, _)| path != Path::new(RESOLVER)) {
            self.kept.before = None;
            self.keep();
        }
        Ok(())
    }

    fn notes(&self) -> Vec<String> {
        let turned = self.turned.iter().zip(self.way.ours());
        let turned = turned.map(|((_, why), how)| format!("names: by {how} from now on: {why}"));
        let trouble = self.trouble.iter().map(|why| format!("names: {why}"));
        let rewritten = (self.rewritten > 0).then(|| {
            let times = self.rewritten;
            format!("names: others changed what leads to the agent {times} times; written again")
        });
        let fights = self.fights.iter().map(|path| {
            let path = path.display();
            format!("names: others write {path} again and again; it is left as they made it")
        });
        turned.chain(trouble).chain(rewritten).chain(fights).collect()
    }
}

/// What a regular file says.
fn plain_file(path: &Path) -> Option<Vec<u8>> {
    let is_file = fs::symlink_metadata(path).ok()?.is_file();
    is_file.then(|| fs::read(path).ok())?
}

/// Whether a program that was told of the stub no longer knows it.
fn is_forgotten(choice: &Choice) -> bool {
    matches!(choice.how, How::Resolvconf | How::Openresolv)
        && choice.follow.iter().any(|path| {
            let is_known = path.parent().is_some_and(Path::exists);
            is_known && !path.exists()
        })
}

/// As the journal has it.
fn change_of(change: &Change) -> Result<journal::Change, String> {
    Ok(match change.clone() {
        Change::WriteFile { path, bytes, mode } => {
            let path = HostPath::try_from(path).map_err(|error| chain(&error))?;
            journal::Change::WriteFile { path, bytes: Bytes(bytes), mode }
        }
        Change::OnUndo { argv } => journal::Change::OnUndo { argv },
        Change::Run { argv } => journal::Change::Run { argv },
    })
}
