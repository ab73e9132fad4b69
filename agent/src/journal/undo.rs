//! Bringing a host back, newest change first.

use std::io;

use serde::{Deserialize, Serialize};

use super::disk::System;
use super::entry::{Action, Step, What};
use super::place::{HostPath, Place};
use super::sysctl::{Key, Setting};
use super::{Change, Journal, helper};

/// What became of the changes of a host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[must_use = "what was kept or failed is to be told"]
pub struct Report {
    /// Brought back.
    pub undone: Vec<String>,
    /// Left as others made it, for good.
    pub kept: Vec<Kept>,
    /// Not brought back.
    pub failed: Vec<Failed>,
}

/// Something that others changed after us.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Kept {
    /// Which file or setting.
    pub what: String,
    /// What was found there.
    pub why: String,
}

/// Something that could not be brought back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Failed {
    /// Which file, setting or command.
    pub what: String,
    /// In the operating system's words.
    pub why: String,
    /// Whether undoing again tries it again.
    pub again: bool,
}

/// What is to be done about a path.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// What was before is put back.
    Restore,
    /// It is as it was.
    Nothing,
    /// Others changed it.
    Keep(String),
}

/// What is not undone of what an agent does for names: the paths and commands that are in force.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Stays {
    paths: Vec<HostPath>,
    commands: Vec<Vec<String>>,
}

impl Stays {
    /// Those of these changes.
    #[must_use]
    pub fn of(changes: &[Change]) -> Self {
        let mut stays = Self::default();
        for change in changes {
            match change {
                Change::WriteFile { path, .. } => stays.paths.push(path.clone()),
                Change::OnUndo { argv } => stays.commands.push(argv.clone()),
                Change::Run { .. } | Change::Sysctl { .. } => {}
            }
        }
        stays
    }

    /// Whether it is not undone: it is one of these, or nothing that an agent does for names.
    fn holds(&self, action: &Action) -> bool {
        match action {
            Action::Path { path, .. } => self.paths.contains(path) || !helper::is_file(path),
            Action::Directory { path } => {
                self.paths.iter().any(|stays| stays.as_path().starts_with(path.as_path()))
                    || !helper::is_above_files(path)
            }
            Action::Command { argv } => self.commands.contains(argv) || !helper::is_command(argv),
            Action::Sysctl { .. } => true,
        }
    }
}

/// How much is undone.
#[derive(Clone, Copy)]
enum Extent<'s> {
    All,
    /// All but settings of the kernel.
    Files,
    /// Files and commands of names but these.
    Others(&'s Stays),
}

enum Outcome {
    Undone,
    Nothing,
    Kept(String),
}

/// Compares what is there with what was written and with what was before.
pub(super) fn judge(before: &Place, after: &Place, in_place: bool, now: &Place) -> Verdict {
    if after.is_same(now) {
        return Verdict::Restore;
    }
    if before.is_same(now) {
        return Verdict::Nothing;
    }
    if in_place && (after.is_begun_as(now) || before.is_begun_as(now)) {
        return Verdict::Restore;
    }
    let (wrote, found) = (after.word(), now.word());
    Verdict::Keep(match (wrote, found) {
        (_, "nothing") => "others took it away".to_owned(),
        (wrote, found) if wrote == found => "others changed it".to_owned(),
        (_, found) => format!("others put {found} there"),
    })
}

impl<S: System> Journal<S> {
    /// Brings everything back, newest first. What cannot be brought back now stays in the journal
    /// for the next time; when nothing is left, the journal is gone.
    pub fn undo(&mut self) -> Report {
        self.undo_to(Extent::All)
    }

    /// The same but for settings of the kernel, which are needed still; they are among what failed.
    pub fn undo_files(&mut self) -> Report {
        self.undo_to(Extent::Files)
    }

    /// Brings back the files and commands of other ways of names than the one that `stays`, and
    /// nothing else. A directory that others use is left for the time when all is undone.
    pub fn undo_others(&mut self, stays: &Stays) -> Report {
        self.undo_to(Extent::Others(stays))
    }

    fn undo_to(&mut self, extent: Extent<'_>) -> Report {
        let mut report = Report::default();
        // Not before what lies in or on it: a directory, or an older change of the same path.
        let mut blocked: Vec<HostPath> = Vec::new();
        for step in self.steps.clone().into_iter().rev().filter(|step| !step.undone) {
            let (what, path) = (step.action.to_string(), path(&step.action));
            if path.is_some_and(|p| blocked.iter().any(|b| b.as_path().starts_with(p.as_path()))) {
                continue;
            }
            match (extent, &step.action) {
                (Extent::Files, Action::Sysctl { .. }) => {
                    let why = "rules that need it are in the kernel still".to_owned();
                    report.failed.push(Failed { what, why, again: true });
                    continue;
                }
                (Extent::Others(stays), action) if stays.holds(action) => continue,
                (Extent::All | Extent::Files | Extent::Others(_), _) => {}
            }
            match self.undo_step(&step) {
                Ok(Outcome::Kept(_))
                    if matches!(
                        (extent, &step.action),
                        (Extent::Others(_), Action::Directory { .. })
                    ) =>
                {
                    continue;
                }
                Ok(Outcome::Undone) => {
                    // A newer step of it had not been made: ours was there all the time.
                    report.kept.retain(|kept| kept.what != what);
                    report.undone.push(what);
                }
                Ok(Outcome::Nothing) => {}
                Ok(Outcome::Kept(why)) => {
                    if !report.kept.iter().any(|kept| kept.what == what) {
                        report.kept.push(Kept { what, why });
                    }
                }
                Err(error) => {
                    let again = !matches!(step.action, Action::Command { .. });
                    report.failed.push(Failed { what, why: error.to_string(), again });
                    blocked.extend(path.cloned());
                    if again {
                        continue;
                    }
                }
            }
            self.note(step.number, What::Undone);
        }
        self.end(&mut report);
        report
    }

    fn end(&mut self, report: &mut Report) {
        if self.steps.iter().any(|step| !step.undone) {
            return;
        }
        self.steps.clear();
        if let Err(error) = self.log.finish() {
            let what = self.log.path().display().to_string();
            report.failed.push(Failed { what, why: error.to_string(), again: true });
        }
    }

    fn undo_step(&mut self, step: &Step) -> io::Result<Outcome> {
        match &step.action {
            Action::Path { path, before, after } => self.undo_path(step, path, before, after),
            Action::Directory { path } => self.undo_directory(path),
            Action::Sysctl { key, value, before } => self.undo_sysctl(step, key, value, before),
            Action::Command { argv } => self.system.run(argv).map(|()| Outcome::Undone),
        }
    }

    fn undo_path(
        &mut self,
        step: &Step,
        path: &HostPath,
        before: &Place,
        after: &Place,
    ) -> io::Result<Outcome> {
        let now = self.system.look(path)?;
        let outcome = match judge(before, after, step.in_place, &now) {
            Verdict::Restore => {
                self.put(step.number, path, before)?;
                Outcome::Undone
            }
            Verdict::Nothing => Outcome::Nothing,
            Verdict::Keep(why) => Outcome::Kept(why),
        };
        // Left by a process that was killed between making it and renaming it.
        self.system.unlink(&path.temporary(step.number))?;
        Ok(outcome)
    }

    fn undo_directory(&mut self, path: &HostPath) -> io::Result<Outcome> {
        match self.system.look(path)? {
            Place::Absent => Ok(Outcome::Nothing),
            Place::Directory => match self.system.remove_directory(path) {
                Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {
                    Ok(Outcome::Kept("others put something in it".to_owned()))
                }
                removed => {
                    removed?;
                    self.system.settle(path)?;
                    Ok(Outcome::Undone)
                }
            },
            found @ (Place::File(_) | Place::Link(_) | Place::Other) => {
                Ok(Outcome::Kept(format!("others put {} there", found.word())))
            }
        }
    }

    fn undo_sysctl(
        &mut self,
        step: &Step,
        key: &Key,
        value: &str,
        before: &[Setting],
    ) -> io::Result<Outcome> {
        let now = match self.system.sysctl(key) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Outcome::Nothing),
            now => now?,
        };
        let was = value_of(before, key).unwrap_or_default();
        let wrote = step.observed.as_deref().and_then(|after| value_of(after, key));
        let wanted = match &step.undoing {
            Some(wanted) => wanted.clone(),
            None if now == was => return Ok(Outcome::Nothing),
            None if now != wrote.unwrap_or(value) => {
                return Ok(Outcome::Kept(format!("others set it to {now}")));
            }
            None => self.wanted(step, before),
        };
        // What the kernel changes along with it is known before it is changed back.
        self.note(step.number, What::Undoing(wanted.clone()));
        if now != was {
            self.system.set_sysctl(key, was)?;
        }
        for Setting { key, value } in &wanted {
            let now = self.system.sysctl(key);
            if now.is_ok_and(|now| now != *value) {
                self.system.set_sysctl(key, value)?;
            }
        }
        Ok(Outcome::Undone)
    }

    /// What each setting is to be: as it was before, unless others changed it after us.
    fn wanted(&self, step: &Step, before: &[Setting]) -> Vec<Setting> {
        let restored = |was: &Setting| {
            let now = self.system.sysctl(&was.key).ok()?;
            let ours = step.observed.as_deref().and_then(|after| value_of(after, &was.key));
            let theirs = ours.is_some_and(|ours| ours != now);
            let value = if theirs { now } else { was.value.clone() };
            Some(Setting { key: was.key.clone(), value })
        };
        before.iter().filter_map(restored).collect()
    }
}

fn value_of<'a>(settings: &'a [Setting], key: &Key) -> Option<&'a str> {
    settings.iter().find(|setting| setting.key == *key).map(|setting| setting.value.as_str())
}

fn path(action: &Action) -> Option<&HostPath> {
    match action {
        Action::Path { path, .. } | Action::Directory { path } => Some(path),
        Action::Sysctl { .. } | Action::Command { .. } => None,
    }
}
