//! Files of others in which something of ours can stand after they changed them: they are theirs
//! now, and what is ours goes all the same.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Journal;
use super::disk::System;
use super::place::{HostPath, Place};
use super::undo::Failed;
use crate::names::integrate;

/// The most links that are followed to what is read at a path; there is one on every known host.
const LINKS_MAX: usize = 8;

/// What became of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[must_use = "what failed is to be told"]
pub struct Taken {
    /// Something of ours was in these, and is not any more.
    pub files: Vec<String>,
    /// It is in these still.
    pub failed: Vec<Failed>,
}

/// Takes what is ours out of the files of others; `stub` is where we answered names.
pub fn take_out(system: &mut impl System, stub: &[SocketAddr]) -> Taken {
    let mut taken = Taken::default();
    for file in integrate::SHARED {
        match take_out_of(system, file, stub) {
            Ok(true) => taken.files.push(file.to_owned()),
            Ok(false) => {}
            Err(error) => {
                let (what, why) = (file.to_owned(), error.to_string());
                taken.failed.push(Failed { what, why, again: true });
            }
        }
    }
    taken
}

fn take_out_of(system: &mut impl System, file: &str, stub: &[SocketAddr]) -> io::Result<bool> {
    let path = HostPath::try_from(PathBuf::from(file)).map_err(io::Error::other)?;
    let Place::File(found) = system.look(&path)? else { return Ok(false) };
    let Some(others) = integrate::without_ours(path.as_path(), &found.bytes.0, stub) else {
        return Ok(false);
    };
    // In place: whose file it is, and what else is said of it, stays.
    system.overwrite(&path, &others)?;
    Ok(true)
}

impl<S: System> Journal<S> {
    /// [`take_out`] on the journal's host.
    pub fn take_out(&mut self, stub: &[SocketAddr]) -> Taken {
        take_out(&mut self.system, stub)
    }

    /// Every version of a file of others whose lines may stand in it: what is read there now, what
    /// was there before and after each change that is written down, and what others say that they
    /// would write there.
    pub(super) fn stood(&self, path: &HostPath) -> Vec<Vec<u8>> {
        if !integrate::SHARED.iter().any(|shared| path.as_path() == Path::new(shared)) {
            return Vec::new();
        }
        let elsewhere = integrate::said_elsewhere(path.as_path());
        let elsewhere =
            elsewhere.iter().filter_map(|at| HostPath::try_from(PathBuf::from(at)).ok());
        let mut stood: Vec<_> = elsewhere.filter_map(|at| self.read_through(at)).collect();
        // Where nobody says anything, nobody says that nothing is to stand there.
        stood.retain(|said| !said.is_empty());
        stood.extend(self.read_through(path.clone()));
        let steps = self.steps.iter().filter_map(|step| step.action.at(path));
        stood.extend(steps.flat_map(|(before, after)| [before, after]).filter_map(|place| {
            match place {
                Place::File(file) => Some(file.bytes.0.clone()),
                Place::Absent => Some(Vec::new()),
                Place::Link(_) | Place::Directory | Place::Other => None,
            }
        }));
        stood
    }

    /// What is read at a path, through links; where nothing is, nothing.
    fn read_through(&self, mut at: HostPath) -> Option<Vec<u8>> {
        for _ in 0..LINKS_MAX {
            match self.system.look(&at).ok()? {
                Place::File(file) => return Some(file.bytes.0),
                Place::Absent => return Some(Vec::new()),
                Place::Link(link) => at = at.pointed(&link.target)?,
                Place::Directory | Place::Other => return None,
            }
        }
        None
    }
}
