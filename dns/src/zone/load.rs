//! Zone files from disk. The only part of this crate's zone code that reads files.

use std::fs::File;
use std::io::Read as _;
use std::path::{Component, Path, PathBuf};

use super::TEXT_MAX;
use super::include::{Included, Source};
use super::problem::Problem;
use crate::wire::Name;

/// Reads a zone file and all that it includes. Names of included files are taken relative to the
/// directory of the file that includes them.
///
/// # Errors
/// Every file that cannot be read or is not UTF-8, with the place that names it.
pub fn read(origin: &Name, path: &Path) -> Result<Source, Vec<Problem>> {
    let file = path.display().to_string();
    let text = read_text(path).map_err(|problem| {
        vec![Problem { file: file.as_str().into(), line: 0, problem, fix: String::new() }]
    })?;
    Source::expand(origin, &file, &text, &mut |included, from| {
        let beside = Path::new(from).parent().unwrap_or_else(|| Path::new(""));
        // One file has one name, so that a loop is seen the first time round.
        let parts = beside.join(included);
        let parts = parts.components().filter(|part| *part != Component::CurDir);
        let path: PathBuf = parts.collect();
        Ok(Included { text: read_text(&path)?, name: path.display().to_string() })
    })
}

fn read_text(path: &Path) -> Result<String, String> {
    let cannot = |error: std::io::Error| format!("cannot be read: {error}");
    let file = File::open(path).map_err(cannot)?;
    let limit = u64::try_from(TEXT_MAX).unwrap_or(u64::MAX);
    let mut octets = Vec::new();
    file.take(limit + 1).read_to_end(&mut octets).map_err(cannot)?;
    if octets.len() > TEXT_MAX {
        return Err(format!("is longer than {} MiB", TEXT_MAX >> 20));
    }
    String::from_utf8(octets).map_err(|error| {
        let good = error.as_bytes().get(..error.utf8_error().valid_up_to()).unwrap_or_default();
        let line = 1 + good.iter().filter(|octet| **octet == b'\n').count();
        format!("is not UTF-8 in line {line}; write other octets as `\\DDD`")
    })
}
