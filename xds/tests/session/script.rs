//! Conversations with a stream, one line a message.
//!
//! ```text
//! ## D1 a title                      a case
//! open delta [TYPE] [names=N]...     a stream with tables of its own, and its limits;
//!                                    TYPE: of a per-type service
//! put TYPE NAME... [plans=a,b] [needs=x,y] [version=TEXT]
//! drop TYPE NAME...                  edits
//! declare TYPE
//! tick [urgent] [unseen]             publishes the edits; unseen: the stream is not asked
//!                                    before the next tick or request
//! reopen                             the same client, on a new stream
//! > TYPE [+NAME...] [-NAME...] [NAME=VERSION...] [nonce=N] [node=ID] [version=VERSION]
//!        [words WORDS]               a request; WORDS: it refuses
//! > ack TYPE [+NAME...]              of the oldest response that is not answered
//! > nack TYPE [WORDS]                likewise
//! < TYPE [+NAME...] [~NAME...] [-NAME...]
//!                                    exactly this is sent, `~` as it was and not as it is in
//!                                    the table; what is not told must not be sent
//! owes PLAN...                       what the stream says of itself; likewise `plans`
//! seen NUMBER                        of the tables
//! acked TOKEN
//! refused [PLAN... "WORDS"]
//! close CODE WORD...                 the request before closes the stream, with these words
//! pass SECONDS                       time passes
//! ```
//!
//! VERSION: `same` (as served), `old`, `ahead` (newer than the tables), or text. In SotW `+NAME`
//! are all names, and `same` is the version last read.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use plan::Token;
use proto::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest};
use proto::google::rpc::Status;
use xds::session::{Limits, Request, Variant};
use xds::{Close, Edit, Scope, Urgency, Version};

use crate::world::{self, Read, World};

/// Plays every case of a script.
pub(crate) fn run(script: &str) {
    let mut failed = Vec::new();
    for case in script.split("\n## ").skip(1) {
        let title = case.lines().next().unwrap_or_default();
        if let Err(what) = play(case) {
            failed.push(format!("{title}\n    {what}"));
        }
    }
    assert!(failed.is_empty(), "\n{}", failed.join("\n"));
}

fn play(case: &str) -> Result<(), String> {
    let mut player: Option<Player> = None;
    for line in case.lines().skip(1) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        let Some((verb, rest)) = words.split_first() else { continue };
        if *verb == "open" {
            player = Some(Player::open(rest));
            continue;
        }
        let player = player.as_mut().ok_or("the first line opens a stream")?;
        player.line(verb, rest).map_err(|what| format!("at `{line}`: {what}"))?;
    }
    player.ok_or("nothing is played")?.quiet().map_err(|what| format!("at the end: {what}"))
}

struct Player {
    world: World,
    only: Option<String>,
    edits: Vec<Edit>,
    /// Read and not answered, by type.
    unanswered: BTreeMap<&'static str, VecDeque<Read>>,
    /// The names of the last request, by type: SotW repeats them.
    names: BTreeMap<String, Vec<String>>,
    /// The newest version read, by type.
    versions: BTreeMap<String, String>,
    met: bool,
    closed: Option<Close>,
    /// The stream does not look at its tables before the next tick or request.
    unseen: bool,
}

impl Player {
    fn open(words: &[&str]) -> Self {
        let variant = if words.first() == Some(&"sotw") { Variant::Sotw } else { Variant::Delta };
        let mut limits = Limits::default();
        let mut only = None;
        for word in words.iter().skip(1) {
            match word.split_once('=') {
                Some(("bytes", most)) => limits.response_bytes = most.parse().unwrap(),
                Some(("names", most)) => limits.names = most.parse().unwrap(),
                Some(("name_bytes", most)) => limits.name_bytes = most.parse().unwrap(),
                Some(("nack_bytes", most)) => limits.nack_bytes = most.parse().unwrap(),
                Some(_) => panic!("no limit {word}"),
                None => only = Some((*word).to_owned()),
            }
        }
        let world = World::new(variant, only.as_deref().map(world::type_url), limits);
        Self {
            world,
            only,
            edits: Vec::new(),
            unanswered: BTreeMap::new(),
            names: BTreeMap::new(),
            versions: BTreeMap::new(),
            met: false,
            closed: None,
            unseen: false,
        }
    }

    fn line(&mut self, verb: &str, words: &[&str]) -> Result<(), String> {
        if !matches!(verb, "<" | "close") && !self.unseen {
            self.quiet()?;
        }
        if matches!(verb, "tick" | ">") {
            self.unseen = words.contains(&"unseen");
        }
        let first = words.first().copied().unwrap_or_default();
        let rest = words.get(1..).unwrap_or_default();
        match verb {
            "put" => self.put(first, rest),
            "drop" => {
                let edits = rest.iter().map(|name| world::remove(world::type_url(first), name));
                self.edits.extend(edits);
            }
            "declare" => self.edits.push(world::declare(world::type_url(first))),
            "tick" => {
                let urgency =
                    if words.contains(&"urgent") { Urgency::Urgent } else { Urgency::Ordinary };
                self.world.publish(urgency, std::mem::take(&mut self.edits));
            }
            "reopen" => {
                self.world.reopen(self.only.as_deref().map(world::type_url));
                (self.met, self.unanswered) = (false, BTreeMap::new());
                self.names.clear();
            }
            ">" => return self.request(words),
            "<" => return self.expect(words),
            "pass" => self.world.now += Duration::from_secs(first.parse().unwrap()),
            "close" => return self.close(first, rest),
            "owes" | "acked" | "refused" | "plans" | "seen" => return self.progress(verb, words),
            _ => panic!("no verb {verb}"),
        }
        Ok(())
    }

    /// Nothing more is sent.
    fn quiet(&mut self) -> Result<(), String> {
        if let Some(close) = self.closed.take() {
            return Err(format!("closed: {:?} {close}", close.code));
        }
        match self.world.poll() {
            Some(read) => Err(format!("unexpected: {}", self.told(&read))),
            None => Ok(()),
        }
    }

    fn put(&mut self, short: &str, words: &[&str]) {
        let list = |key: &str| -> Vec<&str> {
            let found = words.iter().find_map(|word| word.strip_prefix(key));
            found.map(|list| list.split(',').collect()).unwrap_or_default()
        };
        let (plans, needs) = (list("plans="), list("needs="));
        for name in words.iter().filter(|word| !word.contains('=')) {
            let body = format!("{short} {name} {}", self.edits.len());
            let version = list("version=").first().map_or_else(
                || Version::of(self.world.next_token(), body.as_bytes()),
                |text| Version::Foreign(format!("{text}:{name}").into()),
            );
            let type_url = world::type_url(short);
            self.edits.push(world::put(type_url, name, version, &plans, &needs));
        }
    }

    fn request(&mut self, words: &[&str]) -> Result<(), String> {
        let (verdict, words) = match words {
            ["ack", rest @ ..] => (Some(true), rest),
            ["nack", rest @ ..] => (Some(false), rest),
            all => (None, all),
        };
        let Some((short, words)) = words.split_first() else { return Err("no type".to_owned()) };
        let mut asked = Asked { short: (*short).to_owned(), ..Asked::default() };
        asked.node = if self.met { None } else { Some("n".to_owned()) };
        if verdict.is_some() {
            let unanswered = self.unanswered.get_mut(*short).and_then(VecDeque::pop_front);
            asked.nonce = unanswered.ok_or("nothing to answer")?.nonce;
        }
        for (at, word) in words.iter().enumerate() {
            if matches!(*word, "nack" | "words") || verdict == Some(false) {
                let from = usize::from(matches!(*word, "nack" | "words"));
                asked.words = Some(words.get(at + from..).unwrap_or_default().join(" "));
                break;
            }
            self.word(word, &mut asked)?;
        }
        if verdict == Some(false) && asked.words.is_none() {
            asked.words = Some(String::new());
        }
        self.met = true;
        let request = match self.world.variant {
            Variant::Delta => asked.delta(),
            Variant::Sotw => {
                let names = self.names.entry(asked.short.clone()).or_default();
                asked.sotw(names)
            }
        };
        self.closed = self.world.request(request).err();
        Ok(())
    }

    fn word(&self, word: &str, asked: &mut Asked) -> Result<(), String> {
        if let Some(name) = word.strip_prefix('+') {
            asked.subscribe.push(name.to_owned());
        } else if let Some(name) = word.strip_prefix('-') {
            asked.unsubscribe.push(name.to_owned());
        } else if word == "none" {
            asked.none = true;
        } else {
            match word.split_once('=').ok_or_else(|| format!("what is {word}?"))? {
                // Of this stream, which began at 0.
                ("nonce", number) if number.parse::<u64>().is_ok() => {
                    asked.nonce = format!("0-{number}");
                }
                ("nonce", nonce) => asked.nonce = nonce.to_owned(),
                ("node", "-") => asked.node = None,
                ("node", id) => asked.node = Some(id.to_owned()),
                ("version", version) => asked.version = self.version(&asked.short, None, version),
                (name, version) => {
                    let version = self.version(&asked.short, Some(name), version);
                    asked.initial.insert(name.to_owned(), version);
                }
            }
        }
        Ok(())
    }

    fn version(&self, short: &str, name: Option<&str>, text: &str) -> String {
        let table = self.world.tables.table(&Scope::new(world::SCOPE), &world::type_url(short));
        let token = self.world.tables.token();
        match (text, name) {
            ("same", None) => self.versions.get(short).cloned().unwrap_or_default(),
            ("same", Some(name)) => table.unwrap().get(name).unwrap().version().to_string(),
            ("old", _) => Version::of(Token::START, b"old").to_string(),
            // The very version that the next `put` of this name gives, before it is there.
            ("ahead", Some(name)) => {
                Version::of(token.next(), format!("{short} {name} 0").as_bytes()).to_string()
            }
            ("ahead", None) => Version::of(token.next(), b"ahead").to_string(),
            (text, _) => text.to_owned(),
        }
    }

    fn told(&self, read: &Read) -> String {
        let mut words = vec![read.short.to_owned()];
        let mut names: Vec<String> =
            read.resources.iter().map(|(name, version)| self.named(read, name, version)).collect();
        names.extend(read.removed.iter().map(|name| format!("-{name}")));
        names.sort();
        words.extend(names);
        words.join(" ")
    }

    fn named(&self, read: &Read, name: &str, version: &str) -> String {
        let table =
            self.world.tables.table(&Scope::new(world::SCOPE), &world::type_url(read.short));
        let now = table.and_then(|table| table.get(name));
        let is_new = now.is_some_and(|now| now.version().to_string() == version);
        format!("{}{name}", if is_new { '+' } else { '~' })
    }

    fn expect(&mut self, words: &[&str]) -> Result<(), String> {
        if let Some(close) = self.closed.take() {
            return Err(format!("closed: {:?} {close}", close.code));
        }
        let Some(read) = self.world.poll() else { return Err("nothing is sent".to_owned()) };
        let told = self.told(&read);
        let (first, names) = words.split_first().ok_or("no type")?;
        let mut names = names.to_vec();
        names.sort_unstable();
        let expected = [&[*first], names.as_slice()].concat().join(" ");
        self.versions.insert(read.short.to_owned(), read.version.clone());
        self.unanswered.entry(read.short).or_default().push_back(read);
        if told == expected { Ok(()) } else { Err(format!("sent: {told}")) }
    }

    fn progress(&self, verb: &str, words: &[&str]) -> Result<(), String> {
        let progress = self.world.session.progress();
        let is: Vec<String> = match verb {
            "owes" => progress.owes.iter().map(ToString::to_string).collect(),
            "plans" => progress.plans.iter().map(ToString::to_string).collect(),
            "acked" => vec![progress.acked.to_string()],
            "seen" => vec![progress.seen.0.to_string()],
            _ => {
                let refused = progress.refused.iter();
                refused
                    .flat_map(|refused| {
                        let plans = refused.plans.iter().map(ToString::to_string);
                        plans.chain([format!("{:?}", refused.detail)])
                    })
                    .collect()
            }
        };
        let (is, words) = (is.join(" "), words.join(" "));
        if is == words { Ok(()) } else { Err(format!("it says: {is}")) }
    }

    fn close(&mut self, code: &str, words: &[&str]) -> Result<(), String> {
        let close = self.closed.take().ok_or("it is not closed")?;
        let is = format!("{:?}", close.code);
        let message = close.to_string();
        if is == code && words.iter().all(|word| message.contains(word)) {
            return Ok(());
        }
        Err(format!("closed: {is} {message}"))
    }
}

#[derive(Default)]
struct Asked {
    short: String,
    subscribe: Vec<String>,
    unsubscribe: Vec<String>,
    initial: BTreeMap<String, String>,
    nonce: String,
    node: Option<String>,
    version: String,
    words: Option<String>,
    /// SotW: no names, although there were some.
    none: bool,
}

impl Asked {
    fn type_url(&self) -> String {
        if self.short == "-" {
            return String::new();
        }
        world::type_url(&self.short).as_str().to_owned()
    }

    fn error(&self) -> Option<Status> {
        self.words.clone().map(|message| Status { code: 3, message })
    }

    fn delta(self) -> Request {
        Request::Delta(Box::new(DeltaDiscoveryRequest {
            node: self.node.as_deref().map(world::node),
            type_url: self.type_url(),
            error_detail: self.error(),
            resource_names_subscribe: self.subscribe,
            resource_names_unsubscribe: self.unsubscribe,
            initial_resource_versions: self.initial,
            response_nonce: self.nonce,
        }))
    }

    fn sotw(self, names: &mut Vec<String>) -> Request {
        if !self.subscribe.is_empty() || self.none {
            names.clone_from(&self.subscribe);
        }
        Request::Sotw(Box::new(DiscoveryRequest {
            version_info: self.version.clone(),
            node: self.node.as_deref().map(world::node),
            type_url: self.type_url(),
            error_detail: self.error(),
            resource_names: names.clone(),
            response_nonce: self.nonce,
        }))
    }
}
