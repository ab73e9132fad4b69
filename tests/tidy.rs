//! The rules of the house, as tests: walls between crates, purity of `plan`, sizes, banned words.
//!
//! Each check is a function from text to findings; [`samples`] shows that each one can fail.
#![expect(clippy::unwrap_used, reason = "a test that cannot read the tree has failed")]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Longer lines do not fit beside a second file on a screen.
const COLUMNS_MAX: usize = 100;
/// A function fits a screen.
const FUNCTION_LINES_MAX: usize = 70;
/// A file has one subject; what is longer has two.
const FILE_LINES_MAX: usize = 600;

/// Who may use whom, as ARCHITECTURE.md says. What is not here is not allowed.
const ARROWS: [(&str, &[&str]); 7] = [
    ("plan", &[]),
    ("proto", &[]),
    ("dns", &["plan"]),
    ("xds", &["plan", "proto"]),
    ("agent", &["plan", "proto", "dns", "xds"]),
    ("controller", &["plan", "proto", "dns", "xds"]),
    ("crossfade", &["plan", "proto", "dns", "xds", "agent", "controller"]),
];

/// What `plan` may be built from. Pure: no runtime, no log, no socket, no clock, no file.
const PLAN_USES: [&str; 7] =
    ["ipnet", "jiff", "saphyr-parser", "schemars", "serde", "serde_json", "sha2"];
/// Likewise, with the reason beside it: small and pure.
const PLAN_USES_SMALL: [&str; 2] = [
    "thiserror", // derives Display
    "twox-hash", // xxh64
];

/// Crates that nothing below `plan` may bring in.
const IMPURE_CRATES: [&str; 12] = [
    "tokio",
    "tracing",
    "log",
    "mio",
    "socket2",
    "hyper",
    "rusqlite",
    "nix",
    "rand",
    "getrandom",
    "chrono",
    "tempfile",
];

/// Paths of the standard library that reach outside; `plan` names none of them.
const IMPURE_PATHS: [&str; 11] = [
    "std::fs",
    "std::env",
    "std::process",
    "std::thread",
    "std::io",
    "std::net::Tcp",
    "std::net::Udp",
    "Instant::now",
    "SystemTime",
    "RandomState",
    "Timestamp::now",
];

/// Words that stand for unfinished work or for output past the log.
const BANNED: [(&str, &str); 6] = [
    ("TODO", "finish it or leave it out"),
    ("FIXME", "mend it"),
    ("TBD", "decide it"),
    ("XXX", "say it in words"),
    ("dbg!(", "take it out"),
    ("#[ignore", "a test runs or does not exist"),
];

/// Only the command line prints; a library returns values and logs.
const PRINTS: [&str; 4] = ["println!(", "eprintln!(", "print!(", "eprint!("];

struct Source {
    path: String,
    text: String,
}

#[test]
fn lines_fit() {
    report(sources().iter().flat_map(long_lines));
}

#[test]
fn functions_fit_a_screen() {
    report(sources().iter().flat_map(long_functions));
}

#[test]
fn files_have_one_subject() {
    report(sources().iter().flat_map(long_file));
}

#[test]
fn no_unfinished_work() {
    let own = |source: &&Source| source.path != "tests/tidy.rs";
    report(sources().iter().filter(own).flat_map(banned_words));
}

#[test]
fn libraries_do_not_print() {
    let library = |source: &&Source| {
        let mut parts = source.path.split('/');
        let krate = parts.next().unwrap_or_default();
        ["plan", "dns", "controller"].contains(&krate) && parts.next() == Some("src")
    };
    report(sources().iter().filter(library).flat_map(prints));
}

#[test]
fn plan_is_pure() {
    let heart = |source: &&Source| source.path.starts_with("plan/src/") && !is_test(&source.path);
    report(sources().iter().filter(heart).flat_map(impure_paths));
    report(impure_crates("plan", &built_on("plan")));
    report(unknown_uses(&metadata()));
}

#[test]
fn walls_stand() {
    report(crossed_walls(&metadata()));
}

#[test]
fn every_module_is_used() {
    report(orphans(&sources()));
}

#[test]
fn test_data_is_read_by_a_test() {
    let sources = sources();
    report(dead_data(&tracked(), &sources));
}

#[test]
fn the_changelog_has_an_unreleased_head() {
    let text = std::fs::read_to_string(root().join("CHANGELOG.md")).unwrap();
    report(changelog(&text));
}

#[test]
fn documents_name_files_that_exist() {
    let files: BTreeSet<String> = tracked().into_iter().collect();
    for name in ["README.md", "ARCHITECTURE.md"] {
        let text = std::fs::read_to_string(root().join(name)).unwrap();
        report(broken_links(name, &text, &files));
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn report(findings: impl IntoIterator<Item = String>) {
    let mut text = String::new();
    let mut count = 0;
    for finding in findings {
        count += 1;
        writeln!(text, "{finding}").unwrap();
    }
    assert_eq!(count, 0, "\n{text}");
}

/// Every file that git tracks, or would track.
fn tracked() -> Vec<String> {
    let listed = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(listed.status.success(), "git ls-files failed");
    let names = String::from_utf8(listed.stdout).unwrap();
    names.lines().filter(|name| root().join(name).is_file()).map(str::to_owned).collect()
}

fn sources() -> Vec<Source> {
    let rust = tracked().into_iter().filter(|name| name.ends_with(".rs"));
    rust.map(|path| Source { text: std::fs::read_to_string(root().join(&path)).unwrap(), path })
        .collect()
}

fn cargo(args: &[&str]) -> String {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(args)
        .args(["--locked", "--offline"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn metadata() -> Value {
    serde_json::from_str(&cargo(&["metadata", "--format-version", "1", "--no-deps"])).unwrap()
}

fn numbered(source: &Source) -> impl Iterator<Item = (usize, &str)> {
    source.text.lines().enumerate().map(|(i, line)| (i + 1, line))
}

/// A row of a table in a comment cannot be broken; everything else can.
fn long_lines(source: &Source) -> Vec<String> {
    let row = |line: &str| line.starts_with("//! |") || line.trim_start().starts_with("/// |");
    let long =
        numbered(source).filter(|(_, line)| line.chars().count() > COLUMNS_MAX && !row(line));
    long.map(|(at, _)| format!("{}:{at}: over {COLUMNS_MAX} columns", source.path)).collect()
}

fn long_file(source: &Source) -> Vec<String> {
    let lines = source.text.lines().count();
    if lines <= FILE_LINES_MAX {
        return Vec::new();
    }
    vec![format!("{}: {lines} lines, at most {FILE_LINES_MAX}; move a wall", source.path)]
}

/// rustfmt closes a function with a brace in the column where its line began.
fn long_functions(source: &Source) -> Vec<String> {
    let mut findings = Vec::new();
    let mut open: Option<(usize, usize, String)> = None;
    let mut body = false;
    for (at, line) in numbered(source) {
        let indent = line.len() - line.trim_start().len();
        if let Some((from, column, name)) = &open {
            body |= line.trim_end().ends_with('{');
            if !body && line.trim_end().ends_with(';') {
                // A declaration without a body.
                open = None;
            } else if indent == *column && line.trim_end() == format!("{}}}", " ".repeat(indent)) {
                let lines = at - from + 1;
                if lines > FUNCTION_LINES_MAX {
                    let path = &source.path;
                    findings.push(format!(
                        "{path}:{from}: fn {name}: {lines} lines, at most {FUNCTION_LINES_MAX}"
                    ));
                }
                open = None;
            }
        } else if let Some(name) = function_name(line)
            && !line.trim_end().ends_with(['}', ';'])
        {
            open = Some((at, indent, name.to_owned()));
            body = line.trim_end().ends_with('{');
        }
    }
    findings
}

fn is_test(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.contains("/tests/")
}

fn function_name(line: &str) -> Option<&str> {
    let (before, after) = line.trim_start().split_once("fn ")?;
    let only_words = ["pub", "pub(crate)", "pub(super)", "async", "const", "unsafe", "extern"];
    if !before.split_whitespace().all(|word| only_words.contains(&word)) {
        return None;
    }
    after.split(['(', '<']).next()
}

fn banned_words(source: &Source) -> Vec<String> {
    let mut findings = Vec::new();
    for (at, line) in numbered(source) {
        for (word, remedy) in BANNED {
            if line.contains(word) {
                findings.push(format!("{}:{at}: `{word}`: {remedy}", source.path));
            }
        }
    }
    findings
}

fn prints(source: &Source) -> Vec<String> {
    let code = numbered(source).filter(|(_, line)| !line.trim_start().starts_with("//"));
    let found = code.filter(|(_, line)| PRINTS.iter().any(|print| line.contains(print)));
    found.map(|(at, _)| format!("{}:{at}: a library does not print", source.path)).collect()
}

fn impure_paths(source: &Source) -> Vec<String> {
    let mut findings = Vec::new();
    for (at, line) in numbered(source) {
        let code = line.split("//").next().unwrap_or_default();
        for path in IMPURE_PATHS {
            if code.contains(path) {
                findings.push(format!("{}:{at}: `{path}`: take it as an argument", source.path));
            }
        }
    }
    findings
}

/// Direct dependencies that are built into the crate itself: neither dev nor build.
fn uses(metadata: &Value, name: &str) -> BTreeSet<String> {
    let packages = metadata["packages"].as_array().unwrap();
    let package = packages.iter().find(|p| p["name"] == name && p["source"].is_null()).unwrap();
    let normal = package["dependencies"].as_array().unwrap().iter().filter(|d| d["kind"].is_null());
    normal.map(|d| d["name"].as_str().unwrap().to_owned()).collect()
}

fn crossed_walls(metadata: &Value) -> Vec<String> {
    let ours: BTreeSet<String> = metadata["packages"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|package| package["source"].is_null())
        .map(|package| package["name"].as_str().unwrap().to_owned())
        .collect();
    let mut findings = Vec::new();
    for name in &ours {
        let Some((_, allowed)) = ARROWS.iter().find(|(from, _)| from == name) else {
            findings.push(format!("crate `{name}` has no row in ARROWS"));
            continue;
        };
        for used in uses(metadata, name).intersection(&ours) {
            if !allowed.contains(&used.as_str()) {
                findings.push(format!("`{name}` must not use `{used}` (ARCHITECTURE.md, Walls)"));
            }
        }
    }
    findings
}

/// The names of all crates that are built into this one.
fn built_on(name: &str) -> BTreeSet<String> {
    let tree = cargo(&["tree", "-p", name, "-e", "normal", "--prefix", "none", "-f", "{p}"]);
    let names = tree.lines().filter_map(|line| line.split(' ').next());
    names.filter(|found| !found.is_empty()).map(str::to_owned).collect()
}

fn impure_crates(name: &str, built_on: &BTreeSet<String>) -> Vec<String> {
    let found = IMPURE_CRATES.iter().filter(|found| built_on.contains(**found));
    found.map(|found| format!("`{name}` is built on `{found}`, which reaches outside")).collect()
}

fn unknown_uses(metadata: &Value) -> Vec<String> {
    let known: BTreeSet<&str> = PLAN_USES.iter().chain(&PLAN_USES_SMALL).copied().collect();
    let unknown = uses(metadata, "plan").into_iter().filter(|used| !known.contains(used.as_str()));
    unknown
        .map(|used| format!("`plan` uses `{used}`: is it pure? then add it to the list"))
        .collect()
}

/// A module file that no `mod` line names is built by nobody.
fn orphans(sources: &[Source]) -> Vec<String> {
    let mut findings = Vec::new();
    for source in sources.iter().filter(|s| s.path.contains("src/")) {
        let path = Path::new(&source.path);
        let stem = path.file_stem().unwrap().to_str().unwrap();
        if ["lib", "main"].contains(&stem) {
            continue;
        }
        let folder = path.parent().unwrap().to_str().unwrap();
        let parents = [
            format!("{folder}.rs"),
            format!("{folder}/lib.rs"),
            format!("{folder}/main.rs"),
            format!("{folder}/mod.rs"),
        ];
        let declared = sources.iter().filter(|s| parents.contains(&s.path)).any(|parent| {
            parent.text.lines().any(|line| line.trim_end().ends_with(&format!("mod {stem};")))
        });
        if !declared {
            findings.push(format!("{}: no `mod {stem};` names it", source.path));
        }
    }
    findings
}

/// A data file under a `tests` folder whose own name or folder no source names is read by no test.
fn dead_data(files: &[String], sources: &[Source]) -> Vec<String> {
    let data = files.iter().filter(|file| {
        file.split('/').any(|part| part == "tests")
            && ![".rs", ".sh", "schemathesis.toml"].iter().any(|end| file.ends_with(end))
    });
    let named = |name: &str| sources.iter().any(|source| source.text.contains(name));
    data.filter(|file| {
        let path = Path::new(file);
        let folder = path.parent().and_then(Path::file_name).and_then(|n| n.to_str()).unwrap();
        let own = path.file_name().and_then(|n| n.to_str()).unwrap();
        !named(own)
            && (folder == "tests"
                || !named(&format!("{folder}\"")) && !named(&format!("{folder}/")))
    })
    .map(|file| format!("{file}: no test names it or its folder"))
    .collect()
}

fn changelog(text: &str) -> Vec<String> {
    let heads: Vec<&str> = text.lines().filter(|line| line.starts_with("## ")).collect();
    match heads.first() {
        Some(&"## Unreleased") => Vec::new(),
        _ => vec!["CHANGELOG.md: the first `## ` head is not `## Unreleased`".to_owned()],
    }
}

/// Links to files of the tree: `[text](path)`.
fn broken_links(name: &str, text: &str, files: &BTreeSet<String>) -> Vec<String> {
    let mut findings = Vec::new();
    for part in text.split("](").skip(1) {
        let target = part.split([')', '#']).next().unwrap_or_default();
        if target.is_empty() || target.contains("://") {
            continue;
        }
        let target = target.trim_end_matches('/');
        let folder = format!("{target}/");
        if !files.iter().any(|file| file == target || file.starts_with(&folder)) {
            findings.push(format!("{name}: link to `{target}`, which does not exist"));
        }
    }
    findings
}

/// Each check sees what it is for: a rule that cannot fail is no rule.
mod samples {
    use serde_json::json;

    use super::*;

    fn source(path: &str, text: &str) -> Source {
        Source { path: path.to_owned(), text: text.to_owned() }
    }

    #[test]
    fn texts() {
        let long = "x".repeat(COLUMNS_MAX + 1);
        assert_eq!(long_lines(&source("a.rs", &long)).len(), 1);
        assert_eq!(long_lines(&source("a.rs", &long[1..])).len(), 0);
        let body = |lines| format!("    pub fn f() {{\n{}    }}\n", "        x();\n".repeat(lines));
        assert_eq!(long_functions(&source("a.rs", &body(FUNCTION_LINES_MAX - 1))).len(), 1);
        assert_eq!(long_functions(&source("a.rs", &body(FUNCTION_LINES_MAX - 2))).len(), 0);
        let declared =
            format!("    fn f(\n        x: u8,\n    );\n{}", body(FUNCTION_LINES_MAX - 2));
        assert_eq!(long_functions(&source("a.rs", &declared)).len(), 0);
        assert_eq!(long_file(&source("a.rs", &"\n".repeat(FILE_LINES_MAX + 1))).len(), 1);
        assert_eq!(long_file(&source("a.rs", &"\n".repeat(FILE_LINES_MAX))).len(), 0);
        assert_eq!(banned_words(&source("a.rs", "// TODO later")).len(), 1);
        assert_eq!(prints(&source("a.rs", "    println!(\"x\");")).len(), 1);
        assert_eq!(prints(&source("a.rs", "    // println!(\"x\");")).len(), 0);
        assert_eq!(impure_paths(&source("a.rs", "use std::fs::File;")).len(), 1);
        assert_eq!(impure_paths(&source("a.rs", "let x = 1; // std::fs")).len(), 0);
        assert_eq!(changelog("# Changelog\n## 1.0\n## Unreleased\n").len(), 1);
        assert_eq!(changelog("# Changelog\n## Unreleased\n").len(), 0);
    }

    #[test]
    fn trees() {
        let used = [source("plan/src/lib.rs", "pub mod a;\n"), source("plan/src/a.rs", "")];
        assert_eq!(orphans(&used).len(), 0);
        let unused = [source("plan/src/lib.rs", "pub mod b;\n"), source("plan/src/a.rs", "")];
        assert_eq!(orphans(&unused).len(), 1);
        let reader = [source("plan/tests/a.rs", "read(\"bad/\")")];
        assert_eq!(dead_data(&["plan/tests/bad/x.yaml".to_owned()], &reader).len(), 0);
        assert_eq!(dead_data(&["plan/tests/good/x.yaml".to_owned()], &reader).len(), 1);
        let files = BTreeSet::from(["docs/a.md".to_owned()]);
        assert_eq!(broken_links("R", "[a](docs/a.md#x) [b](docs) [c](https://x)", &files).len(), 0);
        assert_eq!(broken_links("R", "[a](docs/b.md)", &files).len(), 1);
    }

    #[test]
    fn walls() {
        let package = |name: &str, uses: &[&str]| {
            let dependencies: Vec<Value> =
                uses.iter().map(|used| json!({ "name": used, "kind": null })).collect();
            json!({ "id": name, "name": name, "source": null, "dependencies": dependencies })
        };
        let tree = json!({
            "packages": [package("plan", &["dns"]), package("dns", &[]), package("tokio", &[]),
                package("mystery", &[])],
        });
        let crossed = crossed_walls(&tree);
        assert!(crossed.iter().any(|f| f.contains("`plan` must not use `dns`")), "{crossed:?}");
        assert!(crossed.iter().any(|f| f.contains("`mystery` has no row")), "{crossed:?}");
        let impure = BTreeSet::from(["serde", "tokio"].map(str::to_owned));
        assert_eq!(impure_crates("plan", &impure).len(), 1);
        assert_eq!(unknown_uses(&tree).len(), 1);
    }
}
