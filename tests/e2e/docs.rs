//! Every command in README and docs is run, a page at a time, as a reader would.
//!
//! In a ```console block each line that begins with `$ ` is a command. A page's commands run in one
//! shell, in a directory with a copy of `examples/`, in a network of its own where the system
//! allows it, so that the default addresses are free. What serves or watches until it is stopped
//! runs in the background; the next command waits until it answers.
//!
//! `vm# ` is a command of root on a legacy VM, `client$ ` one of its clients': those machines are
//! network namespaces, which `vm.sh` makes around the shell. `cfj1_…` is the token that was printed
//! before. A second `serve` on the default addresses takes the place of the first.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use crate::harness::{BINARY, Scratch, program, root};

/// Pages share the default addresses where there is no network of their own.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Commands that set up or repeat the whole tree; they are run elsewhere, as they are.
const NOT_HERE: [&str; 4] = ["scripts/", "cargo build", "export PATH=", "git clone"];

/// The machines of pages about a VM; see there.
const MACHINES: &str = include_str!("vm.sh");

/// What a page needs and does not show begins with this line: a comment of Markdown.
const BEFORE: &str = "<!-- before";

/// What a page writes for the token that was printed before.
const TOKEN: &str = "cfj1_…";

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
    let page = "text\n```console\n$ crossfade plans\nout\n$ scripts/demo\nvm# ls\n```\n\
                ```text\n$ rm\n```\n";
    let found = commands(page);
    let found: Vec<_> = found.iter().map(|one| (one.machine, one.text.as_str())).collect();
    assert_eq!(found, [(None, "crossfade plans"), (Some("vm"), "ls")]);
}

/// A command of a page.
struct Typed {
    /// Where it is typed; `None`: where the page is read.
    machine: Option<&'static str>,
    text: String,
}

impl Typed {
    /// The command on this line, if there is one.
    fn on(line: &str) -> Option<Self> {
        let prompts = [("$ ", None), ("vm# ", Some("vm")), ("client$ ", Some("client"))];
        prompts.into_iter().find_map(|(prompt, machine)| {
            let text = line.strip_prefix(prompt)?.to_owned();
            Some(Self { machine, text })
        })
    }

    /// Whether it runs until it is stopped.
    fn stays(&self) -> bool {
        let begins = ["crossfade serve", "crossfade dns --", "crossfade relay", "envoy "];
        begins.iter().any(|begin| self.text.starts_with(begin))
            || self.text.starts_with("crossfade agent run")
            || self.text.contains("--watch")
    }

    /// What it prints once it is at work.
    fn sign(&self) -> &'static str {
        match self.text.as_str() {
            text if text.contains("--watch") => "revision",
            text if text.starts_with("envoy ") => "all dependencies initialized",
            text if text.starts_with("crossfade serve") => "^data ",
            text if text.starts_with("crossfade relay") => "^xds ",
            text if text.starts_with("crossfade agent run") => "^data ",
            _ => "^dns ",
        }
    }

    /// As the shell of the page runs it.
    fn line(&self) -> String {
        let text = self.text.replace(TOKEN, "$TOKEN");
        // Not by the function `at`: what stays must be the job that the shell ends.
        let at = |machine: &str| format!("nsenter --net=/run/netns/{machine}");
        self.machine.map_or_else(
            || text.clone(),
            |machine| format!("{} bash -c '{}'", at(machine), quoted(&text)),
        )
    }
}

fn quoted(text: &str) -> String {
    text.replace('\'', "'\\''")
}

fn commands(page: &str) -> Vec<Typed> {
    let mut found = Vec::new();
    let mut inside = false;
    for line in page.lines() {
        match line {
            "```console" | BEFORE => inside = true,
            "```" | "-->" => inside = false,
            _ => {
                let here = |typed: &Typed| !NOT_HERE.iter().any(|not| typed.text.starts_with(not));
                found.extend(Typed::on(line).filter(|typed| inside && here(typed)));
            }
        }
    }
    found
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
    let machines = commands.iter().any(|typed| typed.machine.is_some());
    if machines && !own_network() {
        eprintln!(
            "SKIPPED {name}: its machines are network namespaces, which are not allowed here"
        );
        return;
    }
    scratch.file("vm.sh", MACHINES);
    let script = scratch.file("page.sh", &script(&commands, machines));
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

fn script(commands: &[Typed], machines: bool) -> String {
    let mut script = String::from(
        "exec 2>&1\nset -o pipefail\n[ -z \"${OWN_NETWORK:-}\" ] || ip link set lo up\n\
         trap 'kill $(jobs -p) 2>/dev/null' EXIT\n\
         answers() { for _ in $(seq 200); do grep -q \"$2\" \"$1\" && return; sleep 0.05; done\n\
         cat \"$1\"; return 1; }\n\
         instead() { [ -z \"${SERVES:-}\" ] || { kill $SERVES; wait $SERVES; }; }\n",
    );
    if machines {
        script.push_str(". ./vm.sh || exit 1\n");
    }
    for (number, typed) in commands.iter().enumerate() {
        let (line, text) = (typed.line(), typed.text.as_str());
        let prompt = typed.machine.map_or_else(|| "$".to_owned(), |machine| format!("{machine}:"));
        writeln!(script, "echo '{prompt} {}'", quoted(text)).unwrap();
        let serves = text.starts_with("crossfade serve") && !text.contains("--api");
        if serves {
            script.push_str("instead\n");
        }
        if typed.stays() {
            let sign = typed.sign();
            writeln!(script, "{line} >bg{number} 2>&1 &").unwrap();
            if serves {
                script.push_str("SERVES=$!\n");
            }
            writeln!(script, "answers bg{number} '{sign}' || exit 1").unwrap();
        } else if text.starts_with("crossfade token create") {
            writeln!(script, "{line} | tee pasted || exit 1").unwrap();
            script.push_str("export TOKEN=$(grep -o 'cfj1_[[:alnum:]_-]*' pasted)\n");
        } else {
            writeln!(script, "{line} || {{ echo \"exit $?\"; exit 1; }}").unwrap();
        }
    }
    script
}

/// Whether a page can have a network of its own.
fn own_network() -> bool {
    Command::new("unshare").args(["-rnm", "true"]).status().is_ok_and(|s| s.success())
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
    let own = own_network();
    let mut command = if own { Command::new("unshare") } else { Command::new("bash") };
    if own {
        command.args(["-rnm", "bash"]).env("OWN_NETWORK", "1");
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
