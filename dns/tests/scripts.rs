//! Plays the scripts in `scripts/`: zone text, plan names, queries and the answers they must get.
//!
//! ```text
//! zone ORIGIN                     followed by indented zone text; none: the zone of our own
//! service NAME hosts H... [address A] legacy A... target A... split P [moving] [no-affinity]
//! clients PLANE NETWORK...        resolver NAME ADDRESS...
//! query NAME TYPE [client IP[/LEN]]
//!   RCODE FLAG...                 then `scope N`, `answer`, `authority` and `additional` records
//! ```
//!
//! Records of a section are compared as a set. Lines that start with `;` are comments.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at what it does not expect"
)]

use std::fmt::Write as _;
use std::sync::Arc;

use dns::respond::{Answered, Client, answer};
use dns::{Catalog, Name, Source, Zone};
use plan::Token;
use plan::bucket;
use plan::endpoint::{Endpoint, Endpoints, Pool};
use plan::snapshot::{Motion, Parts, Service, Serving};
use plan::spec::{Affinity, ClientRow, Clients, Plane, Resolver};

#[derive(Default)]
struct Script {
    zones: Vec<Zone>,
    services: Vec<Arc<Service>>,
    clients: Clients,
    catalog: Option<Catalog>,
    checked: usize,
}

#[test]
fn scripts_get_the_answers_they_ask_for() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/scripts");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 2, "the scripts are there");
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let mut script = Script::default();
        script.play(&file.display().to_string(), &text);
        assert!(script.checked > 10, "{} asks something", file.display());
    }
}

impl Script {
    fn play(&mut self, file: &str, text: &str) {
        let mut lines = text.lines().enumerate().peekable();
        while let Some((number, line)) = lines.next() {
            if line.trim().is_empty() || line.starts_with(';') {
                continue;
            }
            let mut body = Vec::new();
            while let Some((_, indented)) = lines.next_if(|(_, line)| line.starts_with("  ")) {
                body.push(indented.get(2..).unwrap());
            }
            let at = format!("{file}:{}: {line}", number + 1);
            let words: Vec<_> = line.split_whitespace().collect();
            match words.as_slice() {
                ["zone", origin] => self.zone(&at, origin, &body),
                ["service", name, rest @ ..] => self.service(name, rest),
                ["clients", plane, nets @ ..] => self.row(plane, nets),
                ["resolver", name, addresses @ ..] => self.clients.resolvers.push(Resolver {
                    name: (*name).to_owned(),
                    addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
                }),
                ["query", name, rtype] => self.query(&at, name, rtype, "192.0.2.250", &body),
                ["query", name, rtype, "client", client] => {
                    self.query(&at, name, rtype, client, &body);
                }
                _ => panic!("{at}: not understood"),
            }
        }
    }

    fn zone(&mut self, at: &str, origin: &str, body: &[&str]) {
        let origin = Name::from_text(origin).unwrap();
        let zone = if body.is_empty() {
            Ok(Zone::own(&origin))
        } else {
            Zone::parse(&origin, &Source::new("zone", body.join("\n")))
        };
        self.zones.push(zone.unwrap_or_else(|problems| panic!("{at}: {problems:#?}")));
    }

    fn row(&mut self, plane: &str, nets: &[&str]) {
        let plane = if plane == "mesh" { Plane::Mesh } else { Plane::Host };
        let networks = nets.iter().map(|net| net.parse().unwrap()).collect();
        self.clients.rows.push(ClientRow { networks, plane });
    }

    fn service(&mut self, name: &str, words: &[&str]) {
        let part = |key: &str| -> Vec<&str> {
            let rest = words.iter().skip_while(|word| **word != key).skip(1);
            let keys = ["hosts", "address", "legacy", "target", "split", "moving", "no-affinity"];
            rest.take_while(|word| !keys.contains(word)).copied().collect()
        };
        let pool = |key: &str| {
            let endpoints = part(key).iter().map(|a| a.parse::<Endpoint>().unwrap()).collect();
            Pool { serving: Endpoints::new(endpoints).unwrap(), degraded: false }
        };
        let mut spec = (*plan::fixture::plan().services[0]).clone();
        spec.name = name.parse().unwrap();
        spec.hosts = part("hosts").iter().map(|host| host.parse().unwrap()).collect();
        spec.address = part("address").first().map(|address| address.parse().unwrap());
        spec.salt = "script".into();
        if words.contains(&"no-affinity") {
            spec.affinity = Affinity::None;
        }
        let (legacy, target) = (pool("legacy"), pool("target"));
        let serving = match part("split")[0] {
            "0%" => Serving::Legacy { legacy, target: Some(target) },
            "100%" => Serving::Target { legacy: Some(legacy), target },
            split => Serving::Both { legacy, target, split: split.parse().unwrap() },
        };
        let moving = words.contains(&"moving");
        let ttls = vec![if moving { 5 } else { 60 }; spec.hosts.len()];
        self.services.push(Arc::new(Service {
            id: format!("script/{name}").parse().unwrap(),
            since: Token::START,
            salt: bucket::salt(&spec.salt),
            spec: Arc::new(spec),
            clients: Arc::default(),
            serving,
            motion: if moving { Motion::Moving } else { Motion::Steady },
            gateways: Arc::new([]),
            drain: None,
            ttls: ttls.into(),
            parts: Parts::default(),
        }));
    }

    fn catalog(&mut self) -> &Catalog {
        let (zones, services, clients) = (&mut self.zones, &mut self.services, &self.clients);
        self.catalog.get_or_insert_with(|| {
            let clients = Arc::new(clients.clone());
            for service in services.iter_mut() {
                Arc::get_mut(service).unwrap().clients = clients.clone();
            }
            services.sort_by(|a, b| a.id.cmp(&b.id));
            let catalog = Catalog::of_zones(std::mem::take(zones));
            catalog.with_names(Token::START, services)
        })
    }

    fn query(&mut self, at: &str, name: &str, rtype: &str, client: &str, body: &[&str]) {
        let name = Name::from_text(name).unwrap();
        let rtype = match rtype {
            "AXFR" => dns::wire::Rtype::AXFR,
            other => dns::zone::rtype(other).unwrap_or_else(|| panic!("{at}: no type")),
        };
        let client: Client = client.parse().unwrap();
        let got = shown(&answer(self.catalog(), &name, rtype, client));
        let want = sorted(body);
        assert!(got == want, "{at}\n got:\n{got}\nwant:\n{want}");
        self.checked += 1;
    }
}

fn shown(answered: &Answered) -> String {
    let mut lines = vec![format!("{} {}", answered.rcode.name(), answered.flags.join(" "))];
    lines.extend(answered.scope.map(|scope| format!("scope {scope}")));
    let sections = [
        ("answer", &answered.answer),
        ("authority", &answered.authority),
        ("additional", &answered.additional),
    ];
    for (name, records) in sections {
        lines.extend(records.iter().map(|record| format!("{name} {record}")));
    }
    sorted(&lines.iter().map(String::as_str).collect::<Vec<_>>())
}

fn sorted(lines: &[&str]) -> String {
    let (head, rest) = lines.split_first().unwrap();
    let mut rest = rest.to_vec();
    rest.sort_unstable();
    let mut text = format!("  {head}\n");
    for line in rest {
        let _ = writeln!(text, "  {line}");
    }
    text
}
