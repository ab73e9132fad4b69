//! Plan files from outside: every example is right, every bad file is told as expected.

use std::fs;
use std::path::{Path, PathBuf};

use plan::{Plan, Problem};

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The files of a directory and those below it, by extension, sorted.
#[expect(clippy::unwrap_used, reason = "a test without its files has failed")]
fn files(dir: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, extension));
        } else if path.extension().is_some_and(|end| end == extension) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The problems of a file as an operator reads them, with the column.
fn told(outcome: Result<Plan, Vec<Problem>>) -> String {
    let Err(problems) = outcome else { return "no problem\n".to_owned() };
    let line = |problem: &Problem| {
        let Problem { line, column, field, problem, fix, .. } = problem;
        format!("{line}:{column} {field}\n  {problem}\n  {fix}\n")
    };
    problems.iter().map(line).collect()
}

#[test]
fn every_example_is_right() {
    let examples = files(&here("../examples"), "yaml");
    assert!(examples.len() >= 7, "{examples:?}");
    for path in examples {
        let outcome = plan::check_bytes(&fs::read(&path).unwrap());
        let plan = outcome.unwrap_or_else(|problems| {
            panic!("{}:\n{}", path.display(), told(Err(problems)));
        });
        let written = plan::file::write(&plan).to_string();
        assert_eq!(plan::check(&written).as_ref(), Ok(&plan), "{}", path.display());
        for zone in &plan.zones {
            if let plan::spec::ZoneSource::File(name) = &zone.source {
                assert!(path.with_file_name(name).is_file(), "{} names {name}", path.display());
            }
        }
    }
}

/// Each `bad/NAME.yaml` is told as `bad/NAME.expected` says.
#[test]
fn every_bad_file_is_told_as_expected() {
    let bad = files(&here("tests/bad"), "yaml");
    assert!(bad.len() >= 40, "only {} bad files", bad.len());
    let mut differences = String::new();
    for path in &bad {
        let told = told(plan::check_bytes(&fs::read(path).unwrap()));
        if std::env::var_os("CROSSFADE_WRITE_GOLDEN").is_some() {
            fs::write(path.with_extension("expected"), &told).unwrap();
        }
        let expected = fs::read_to_string(path.with_extension("expected")).unwrap_or_default();
        if told != expected || told == "no problem\n" {
            let name = path.file_name().unwrap_or_default().display();
            differences.push_str(&format!("== {name}, expected:\n{expected}== told:\n{told}\n"));
        }
    }
    assert!(differences.is_empty(), "\n{differences}CROSSFADE_WRITE_GOLDEN=1 writes them anew");
    for path in files(&here("tests/bad"), "expected") {
        assert!(path.with_extension("yaml").is_file(), "{} has no file", path.display());
    }
}
