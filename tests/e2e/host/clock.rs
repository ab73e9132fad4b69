//! Time on a VM and at its controller: wrong, and passing. The wall clocks of both are moved while
//! they run (libfaketime); what is measured, as by timers, goes on as it does.

use std::fs;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use plan::Timestamp;
use serde_json::Value;

use super::leave::{host, library, same, settled};
use super::main_job::{LOGICAL, PLAN};
use super::names::{PLAN_NAME, ask, has_logical, server};
use super::peers::{client, dial, letter, sides};
use super::world::{Agent, World, until, until_within};
use crate::harness::{BINARY, Said};

const HOUR: i64 = 3_600;
const DAY: i64 = 24 * HOUR;

/// How many clients are looked at.
const CLIENTS: u16 = 100;

/// How long until a clock that was set is looked at, which is each minute, and what follows done.
const NOTICED: Duration = Duration::from_secs(100);

/// A wall clock that can be set.
struct Wall {
    file: PathBuf,
}

impl Wall {
    fn new(world: &World, name: &str) -> Self {
        let wall = Self { file: world.scratch.path().join(name) };
        wall.set(0);
        wall
    }

    /// So many seconds ahead of the real one.
    fn set(&self, ahead: i64) {
        let new = self.file.with_extension("new");
        fs::write(&new, format!("{ahead:+}\n")).unwrap();
        fs::rename(new, &self.file).unwrap();
    }

    /// What a program has in its environment that goes by it.
    fn environment(&self) -> Vec<(&'static str, String)> {
        let places = fs::read_dir("/usr/lib").unwrap();
        let mut libraries =
            places.map(|place| place.unwrap().path().join("faketime/libfaketimeMT.so.1"));
        let library = libraries.find(|path| path.exists());
        let library =
            library.unwrap_or_else(|| panic!("libfaketime is not there; scripts/test installs it"));
        vec![
            ("LD_PRELOAD", library.to_str().unwrap().to_owned()),
            ("FAKETIME_TIMESTAMP_FILE", self.file.to_str().unwrap().to_owned()),
            ("FAKETIME_NO_CACHE", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
            ("NO_FAKE_STAT", "1".to_owned()),
        ]
    }

    /// The binary under test on the VM, by this clock.
    fn on_vm(&self, world: &World, args: &[&str]) -> Command {
        let mut command = world.on_vm("env");
        command.args(self.environment().iter().map(|(name, value)| format!("{name}={value}")));
        command.arg(BINARY).args(args);
        command
    }
}

/// The two times that a complaint about clocks names: the VM's and the controller's.
#[track_caller]
fn times(complaint: &str) -> (Timestamp, Timestamp) {
    let after = |words: &str| -> Timestamp {
        let (_, rest) = complaint.split_once(words).unwrap_or_else(|| panic!("{complaint}"));
        let end = rest.find([' ', ';', '\n']).unwrap_or(rest.len());
        rest[..end].parse().unwrap_or_else(|error| panic!("{error}: {complaint}"))
    };
    (after("this machine's clock says "), after("the controller's "))
}

/// Whether a complaint names both times, so many seconds apart.
#[track_caller]
fn are_apart(complaint: &str, seconds: i64) {
    let (ours, theirs) = times(complaint);
    let off = (ours.millis() - theirs.millis()) / 1_000 - seconds;
    assert!(off.abs() < 60, "{complaint}");
}

#[test]
fn a_join_by_a_wrong_clock_is_refused_and_the_token_is_good() {
    let test = "a_join_by_a_wrong_clock_is_refused_and_the_token_is_good";
    let Some(world) = World::beside(test, PLAN) else { return };
    let wall = Wall::new(&world, "vm-time");
    let (before, had) = (settled(&world), library(&world));
    let file = world.scratch.file("token.txt", &world.token(&["vm-1"]));
    let join = || {
        let args = ["agent", "join", "--no-start", "--token-file", file.to_str().unwrap()];
        Said::of(wall.on_vm(&world, &args).output().unwrap())
    };
    for ahead in [DAY, -DAY] {
        wall.set(ahead);
        let complaint = join().fails(1);
        are_apart(&complaint, ahead);
        for words in ["timedatectl set-ntp true", "the token is good", "crossfade agent join"] {
            assert!(complaint.contains(words), "{words}: {complaint}");
        }
        same(&before, &host(&world));
        assert_eq!(library(&world), had, "nothing stays");
    }
    wall.set(0);
    join().ok();
    let _agent = Agent::start(&world);
    world.vm(&["agent", "confirm"]).ok();
    world.until_acked();
}

/// A controller that was started by a wrong clock has a certificate that begins tomorrow.
#[test]
fn a_controller_whose_clock_is_set_right_is_joined() {
    let test = "a_controller_whose_clock_is_set_right_is_joined";
    let Some(mut world) = World::beside(test, PLAN) else { return };
    let wall = Wall::new(&world, "time");
    wall.set(DAY);
    world.kill_controller();
    world.environment = wall.environment();
    world.start_controller(&[]);
    are_apart(&world.join_with(&world.token(&["vm-1"]), &[]).fails(1), -DAY);
    wall.set(0);
    let token = world.token(&["vm-1"]);
    until("the VM joins", || (world.join_with(&token, &[]).code == 0).then_some(()));
    let _agent = Agent::start(&world);
    world.vm(&["agent", "confirm"]).ok();
    world.until_acked();
}

/// A VM at half of its plan, and what its clients see.
struct Served {
    world: World,
    agent: Agent,
    sides: Vec<char>,
    streams: Vec<TcpStream>,
}

impl Served {
    /// The clocks: the controller's and the VM's.
    fn new(test: &str) -> Option<(Self, [Wall; 2])> {
        let mut world = World::beside(test, PLAN)?;
        let walls = [Wall::new(&world, "time"), Wall::new(&world, "vm-time")];
        world.kill_controller();
        world.environment = walls[0].environment();
        world.start_controller(&[]);
        world.join_with(&world.token(&["vm-1"]), &[]).ok();
        let agent = Agent::start_as(&world, walls[1].on_vm(&world, &["agent", "run"]));
        world.vm(&["agent", "confirm"]).ok();
        world.until_acked();
        world.shift("orders", "50%");
        let streams = world.net.client.enter(|| {
            let open = |number| dial(client(number), LOGICAL.parse().unwrap()).unwrap();
            (1..=10).map(open).collect()
        });
        let sides = sides(&world.net, CLIENTS, LOGICAL);
        assert!(sides.contains(&'L') && sides.contains(&'T'));
        let mut served = Self { world, agent, sides, streams };
        for stream in &mut served.streams {
            letter(stream).unwrap();
        }
        served.is_served();
        Some((served, walls))
    }

    /// Clients are where they were, connections live, and names are answered.
    #[track_caller]
    fn is_served(&mut self) {
        assert_eq!(sides(&self.world.net, CLIENTS, LOGICAL), self.sides);
        for stream in &mut self.streams {
            use std::io::Write as _;
            stream.write_all(b"?").unwrap();
            letter(stream).unwrap();
        }
        let at = server(&self.world);
        let answer = self.world.net.vm.enter(|| ask(at, 7, PLAN_NAME).unwrap());
        assert!(has_logical(&answer), "{answer:x?}");
    }

    fn key(&self) -> Vec<u8> {
        fs::read(self.world.data().join("identity/key.pem")).unwrap()
    }

    fn identity(&self) -> Value {
        self.world.status().unwrap()["identity"].clone()
    }

    fn expires(&self) -> Timestamp {
        self.identity()["expires"].as_str().unwrap().parse().unwrap()
    }

    /// Why no controller is followed.
    fn away(&self) -> Option<String> {
        let status = self.world.status()?;
        status["controller"].is_null().then(|| status["away"].as_str().map(str::to_owned))?
    }
}

#[test]
fn half_a_life_passes_and_nobody_sees_it() {
    let test = "half_a_life_passes_and_nobody_sees_it";
    let Some((mut served, walls)) = Served::new(test) else { return };
    let (key, expires, log) = (served.key(), served.expires(), served.agent.log());
    assert!(!log.contains("was renewed"), "{log}");
    walls.iter().for_each(|wall| wall.set(14 * HOUR));
    until_within(NOTICED, "there is a new key", || (served.key() != key).then_some(()));
    until("it is in use", || (served.expires() > expires).then_some(()));
    assert_eq!(served.expires().since(expires).as_secs() / 3_600, 14);
    assert!(served.identity()["trouble"].is_null(), "{}", served.identity());
    served.is_served();
    // On the same connection.
    served.world.shift("orders", "100%");
    served.world.rollback("orders");
    let log = served.agent.log();
    assert_eq!(log.matches("following").count(), 1, "{log}");
    assert!(!log.contains("the controller is away"), "{log}");
    let agents = served.world.controller().json(&["agents"]);
    assert_eq!(agents[0]["state"], "active", "{agents}");
    // And by the new certificate on the next.
    served.world.kill_controller();
    served.world.start_controller(&[]);
    served.world.until_acked();
}

#[test]
fn a_certificate_that_expires_while_the_controller_is_away() {
    let test = "a_certificate_that_expires_while_the_controller_is_away";
    let Some((mut served, walls)) = Served::new(test) else { return };
    let (key, expires) = (served.key(), served.expires());
    served.world.kill_controller();
    walls.iter().for_each(|wall| wall.set(4 * DAY));
    until_within(NOTICED, "it has expired", || {
        let trouble = served.identity()["trouble"].to_string();
        trouble.contains("expired; not renewed").then_some(())
    });
    served.is_served();
    assert_eq!(served.key(), key);
    served.world.start_controller(&[]);
    until_within(NOTICED, "the VM is back by itself", || {
        (served.world.sink()?["connected"] == true).then_some(())
    });
    assert!(served.key() != key && served.expires() > expires);
    assert!(served.identity()["trouble"].is_null(), "{}", served.identity());
    served.world.until_acked();
    served.is_served();
    served.world.shift("orders", "100%");
}

#[test]
fn a_clock_that_jumps_back_is_called_that_and_traffic_stays() {
    let test = "a_clock_that_jumps_back_is_called_that_and_traffic_stays";
    let Some((mut served, [_, wall])) = Served::new(test) else { return };
    wall.set(-DAY);
    served.world.kill_controller();
    served.world.start_controller(&[]);
    let why =
        until("the clock is called wrong", || served.away().filter(|why| why.contains("clock")));
    are_apart(&why, -DAY);
    let said = served.world.vm(&["agent", "status"]).ok();
    assert!(said.contains("what was held stays in force"), "{said}");
    are_apart(&said, -DAY);
    assert!(said.contains("timedatectl set-ntp true"), "{said}");
    assert!(!said.contains("invalid peer certificate"), "{said}");
    served.is_served();
    wall.set(0);
    served.world.until_acked();
    until("it is well", || served.world.status()?["away"].is_null().then_some(()));
    served.is_served();
}
