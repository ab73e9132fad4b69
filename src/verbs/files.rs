//! Plan files and zone files from disk, with every error of all of them at once.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use dns::wire::Name;
use dns::zone::{self, Zone};
use plan::file::Problem;
use plan::spec::{Plan, ZoneSource};
use plan::{HostName, ZoneName};

use super::Failure;

/// One more than a plan file may have, so that a longer one is told and not cut; it keeps a device
/// or a pipe from filling the memory.
const BYTES_MAX: u64 = plan::file::FILE_MAX as u64 + 1;

/// A plan from disk: its zone files are read, checked and put into it as text.
pub(crate) fn plan(path: &Path) -> Result<Plan, Failure> {
    let shown = path.display().to_string();
    let text = bytes(path)?;
    let mut plan = plan::file::check_bytes(&text).map_err(|problems| {
        Failure::Invalid(problems.into_iter().map(|problem| problem.in_file(&shown)).collect())
    })?;
    let folder = path.parent().unwrap_or_else(|| Path::new(""));
    let hosts = hosts(&plan);
    let mut problems = Vec::new();
    for zone in &mut plan.zones {
        let origin = origin(zone.name.as_str())?;
        let source = match &zone.source {
            ZoneSource::File(file) => zone::load::read(&origin, &folder.join(file)),
            ZoneSource::Text(text) => Ok(zone::Source::new(&shown, text.as_ref())),
            ZoneSource::Own | ZoneSource::Blob(_) => continue,
        };
        match source.and_then(|source| Ok((Zone::parse(&origin, &source)?, source))) {
            Ok((parsed, source)) => {
                let mine = hosts.iter().filter(|(_, of)| *of == zone.name).map(|(host, _)| host);
                problems.extend(mine.filter_map(|host| hidden(host, &parsed, &shown)));
                zone.source = ZoneSource::Text(source.text().into());
            }
            Err(found) => problems.extend(found.into_iter().map(problem)),
        }
    }
    if problems.is_empty() { Ok(plan) } else { Err(Failure::Invalid(problems)) }
}

/// Each host name of the plan with the zone that it is in.
fn hosts(plan: &Plan) -> Vec<(HostName, ZoneName)> {
    let hosts = plan.services.iter().flat_map(|service| &service.hosts);
    hosts.filter_map(|host| Some((host.clone(), plan.zone_of(host)?.name.clone()))).collect()
}

/// What is wrong with a host name that the zone file delegates or redirects elsewhere.
fn hidden(host: &HostName, zone: &Zone, file: &str) -> Option<Problem> {
    let above = zone.occluder(&Name::from_text(host.as_str()).ok()?)?;
    Some(Problem {
        file: Some(file.to_owned()),
        line: 0,
        column: 0,
        field: "spec.services.hosts".to_owned(),
        problem: format!(
            "`{host}` is at or below `{above}`, which the zone file delegates or redirects: no \
             client would be told what the plan says"
        ),
        fix: format!(
            "give the plan a zone `{host}.` of its own, or take `{above}` out of the file"
        ),
    })
}

/// The zones of `--zone ORIGIN=FILE …`.
pub(crate) fn zones(files: &[crate::cli::args::ZoneFile]) -> Result<Vec<Zone>, Failure> {
    let mut zones: Vec<Zone> = Vec::new();
    let mut problems = Vec::new();
    for file in files {
        let origin = origin(file.origin.as_str())?;
        if zones.iter().any(|zone| *zone.origin() == origin) {
            return Err(Failure::Usage(format!("the zone {} is given twice", file.origin)));
        }
        match zone::load::read(&origin, &file.file).and_then(|s| Zone::parse(&origin, &s)) {
            Ok(zone) => zones.push(zone),
            Err(found) => problems.extend(found.into_iter().map(problem)),
        }
    }
    if problems.is_empty() { Ok(zones) } else { Err(Failure::Invalid(problems)) }
}

/// A zone's problem in the words of a plan file's.
pub(crate) fn problem(problem: zone::Problem) -> Problem {
    // A file that is not there, too long or no text has no line to point at.
    let fix = match problem.fix {
        fix if fix.is_empty() => "mend the file, or the name that the plan has for it".to_owned(),
        fix => fix,
    };
    Problem {
        file: Some(problem.file.to_string()),
        line: problem.line,
        column: 1,
        field: String::new(),
        problem: problem.problem,
        fix,
    }
}

fn bytes(path: &Path) -> Result<Vec<u8>, Failure> {
    let failed = |source| Failure::File { what: "read", path: PathBuf::from(path), source };
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(BYTES_MAX).read_to_end(&mut bytes))
        .map_err(failed)?;
    Ok(bytes)
}

fn origin(name: &str) -> Result<Name, Failure> {
    // A plan's zone name is a DNS name by construction; a wire name can only be shorter than its
    // text.
    Name::from_text(name).map_err(|error| Failure::Usage(format!("`{name}`: {error}")))
}
