//! Every command in README and docs is run, a page at a time, as a reader would.
//!
//! In a ```console block each line that begins with `$ ` is a command. A page's commands run in one
//! shell, in a directory with a copy of `examples/`, in a network of its own where the system
//! allows it, so that the default addresses are free. What serves or watches until it is stopped
//! runs in the background; the next command waits until it answers.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use crate::harness::{BINARY, Scratch, program, root};

/// Pages share the default addresses where there is no network of their own.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Commands that set up or repeat the whole tree; they are run elsewhere, as they are.
const NOT_HERE: [&str; 4] = ["scripts/", "cargo build", "export PATH=", "git clone"];

#[test]
fn readme() {
    run_page("README.md");
}

#[test]
fn every_page_in_docs() {
    let mut pages: Vec<String> = std::fs::read_dir(root().join("docs"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".md"))
        .collect();
    pages.sort();
    assert!(pages.len() >= 8, "{pages:?}");
    for page in pages {
        run_page(&format!("docs/{page}"));
    }
}

#[test]
fn every_code_of_the_api_is_explained() {
    let page = std::fs::read_to_string(root().join("docs/errors.md")).unwrap();
    for code in controller::api::problem::Code::ALL {
        let row = format!("| `{}` | {} |", code.as_str(), code.status().as_u16());
        assert!(page.contains(&row), "docs/errors.md has no row {row}");
    }
}

#[test]
fn commands_are_found_and_foreign_ones_left() {
    let page =
        "text\n```console\n$ crossfade plans\nout\n$ scripts/demo\n```\n```text\n$ rm\n```\n";
    assert_eq!(commands(page), ["crossfade plans"]);
}

fn commands(page: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut inside = false;
    for line in page.lines() {
        match line {
            "```console" => inside = true,
            "```" => inside = false,
            _ => {
                let command = line.strip_prefix("$ ").filter(|_| inside);
                let here =
                    |command: &&str| !NOT_HERE.iter().any(|prefix| command.starts_with(prefix));
                found.extend(command.filter(here).map(str::to_owned));
            }
        }
    }
    found
}

/// Whether a command runs until it is stopped.
fn stays(command: &str) -> bool {
    command.starts_with("crossfade serve")
        || command.starts_with("crossfade dns --")
        || command.starts_with("crossfade relay")
        || command.starts_with("envoy ")
        || command.contains("--watch")
}

/// What it prints once it is at work.
fn sign(command: &str) -> &'static str {
    match command {
        _ if command.contains("--watch") => "revision",
        _ if command.starts_with("envoy ") => "all dependencies initialized",
        _ if command.starts_with("crossfade serve") => "^data ",
        _ if command.starts_with("crossfade relay") => "^xds ",
        _ => "^dns ",
    }
}

fn run_page(name: &str) {
    let text = std::fs::read_to_string(root().join(name)).unwrap();
    let commands = commands(&text);
    if commands.is_empty() {
        return;
    }
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let scratch = Scratch::new();
    let examples = root().join("examples");
    program("cp", &["-r", examples.to_str().unwrap(), scratch.path().to_str().unwrap()]).ok();
    for (file, yaml) in files_of(&text) {
        scratch.file(&file, &yaml);
    }
    let script = scratch.file("page.sh", &script(&commands));
    let output = shell(&script, scratch.path());
    assert!(output.status.success(), "{name}:\n{}", String::from_utf8_lossy(&output.stdout));
}

/// A page names the file that its ```yaml block is: `` `orders.yaml` ``, in the paragraph before.
fn files_of(text: &str) -> Vec<(String, String)> {
    let mut files = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("```yaml\n") {
        let (yaml, next) = after.split_once("\n```").unwrap();
        let name = before.rsplit('`').find(|part| part.ends_with(".yaml"));
        files.extend(name.map(|name| (name.to_owned(), format!("{yaml}\n"))));
        rest = next;
    }
    files
}

fn script(commands: &[String]) -> String {
    let mut script = String::from(
        "exec 2>&1\n[ -z \"${OWN_NETWORK:-}\" ] || ip link set lo up\n\
         trap 'kill $(jobs -p) 2>/dev/null' EXIT\n\
         answers() { for _ in $(seq 200); do grep -q \"$2\" \"$1\" && return; sleep 0.05; done\n\
         cat \"$1\"; return 1; }\n",
    );
    for (number, command) in commands.iter().enumerate() {
        let quoted = command.replace('\'', "'\\''");
        writeln!(script, "echo '$ {quoted}'").unwrap();
        if stays(command) {
            let sign = sign(command);
            writeln!(script, "{command} >bg{number} 2>&1 &\nanswers bg{number} '{sign}' || exit 1")
                .unwrap();
        } else {
            writeln!(script, "{command} || {{ echo \"exit $?\"; exit 1; }}").unwrap();
        }
    }
    script
}

/// The folder of the Envoy that scripts/test installs.
fn envoy() -> PathBuf {
    let envoy = std::env::var_os("CROSSFADE_TEST_ENVOY").map(PathBuf::from);
    let folder = envoy.and_then(|envoy| envoy.parent().map(Path::to_path_buf));
    folder.unwrap_or_else(|| "/nowhere".into())
}

fn shell(script: &Path, folder: &Path) -> std::process::Output {
    let binaries = Path::new(BINARY).parent().unwrap();
    let path = std::env::var("PATH").unwrap_or_default();
    let own = Command::new("unshare").args(["-rn", "true"]).status().is_ok_and(|s| s.success());
    let mut command = if own { Command::new("unshare") } else { Command::new("bash") };
    if own {
        command.args(["-rn", "bash"]).env("OWN_NETWORK", "1");
    }
    command
        .arg(script)
        .current_dir(folder)
        .env("PATH", format!("{}:{}:{path}:/usr/sbin:/sbin", binaries.display(), envoy().display()))
        .env("HOME", folder)
        .env_remove("CROSSFADE_SERVER")
        .output()
        .unwrap()
}
