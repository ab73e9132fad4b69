//! The VM is itself the old backend: who still reaches its own address at exactly 100 % is
//! forwarded, everybody else never.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use nix::sys::signal::Signal;

use super::netns::Space;
use super::peers::{answer, client, side};
use super::plans::shop;
use super::world::{World, until};

/// The VM's own address, which clients have hard-coded, with the port of its service.
const OWN: &str = "10.10.0.1:8081";

/// A plan whose legacy backend is the VM.
const PLAN: &str = shop!(
    "  clients:
    - { networks: [10.20.0.0/16], plane: host }
  gateways:
    - { name: edge, egress: [10.40.0.0/24] }
  steps: [{ split: 50%, bake: 1s }, { split: 100%, bake: 1s }]
  services:
    - name: bills
      hosts: [bills.corp.example]
      address: 192.0.2.20
      ports: [{ name: http, port: 8081, protocol: tcp }]
      legacy: { endpoints: [10.10.0.1] }
      target: { endpoints: [10.40.0.2] }
"
);

/// The VM's own backend says `V`, its own machine.
fn world(test: &str) -> Option<World> {
    let world = World::new(test, PLAN)?;
    answer(&world.net.vm, 8081, b'V');
    Some(world)
}

fn from(space: &Space, address: &str, to: &str) -> char {
    let (from, to): (IpAddr, SocketAddr) = (address.parse().unwrap(), to.parse().unwrap());
    space.enter(|| side(from, to).unwrap_or_else(|error| panic!("{from} to {to}: {error}")))
}

#[test]
fn only_at_100_percent_and_never_the_gateway() {
    let Some(world) = world("only_at_100_percent_and_never_the_gateway") else { return };
    answer(&world.net.target, 8081, b'T');
    let _agent = world.joined(&[]);
    let rounds = [
        ("0%", 'V', Some('V')),
        ("50%", 'V', None),
        ("100%", 'T', Some('T')),
        ("99.99%", 'V', None),
        ("100%", 'T', Some('T')),
    ];
    for (percent, stray, chosen) in rounds {
        if percent != "0%" {
            world.shift("bills", percent);
        }
        let strays: String = (0..20).map(|_| from(&world.net.client, "10.10.0.2", OWN)).collect();
        assert_eq!(strays, stray.to_string().repeat(20), "{percent}: a client of the VM's address");
        let egress = from(&world.net.target, "10.40.0.2", OWN);
        assert_eq!(egress, 'V', "{percent}: the target's gateway reaches the VM");
        let own = world.net.vm.enter(|| side("10.10.0.1".parse().unwrap(), OWN.parse().unwrap()));
        assert_eq!(own.unwrap(), 'V', "{percent}: the VM's own health check");
        let asked = from(&world.net.client, &client(7).to_string(), "192.0.2.20:8081");
        assert!(chosen.is_none_or(|side| side == asked), "{percent}: {asked}");
    }
    told(&world);
}

/// Stragglers by network: on the VM, in the plan's status, and before the plan ends.
fn told(world: &World) {
    until("stragglers are told", || {
        let status = world.controller().json(&["status", "shop"]);
        let found = status["services"][0]["stragglers"].to_string();
        let here = world.status()?["services"][0].clone();
        let both = found.contains("10.10.0.0/24") && here["networks"][0] == "10.10.0.0/24";
        (both && here["stragglers"].as_u64() >= Some(20)).then_some(())
    });
    world.controller().run(&["resume", "shop", "--no-wait"]).ok();
    until("the plan is complete", || {
        let status = world.controller().json(&["status", "shop"]);
        (status["phase"] == "complete").then_some(())
    });
    let said = world.controller().run(&["retire", "shop", "--no-wait"]);
    assert!(said.code == 0 && said.out.contains("10.10.0.0/24"), "{said:?}");
}

/// The target's gateway: it serves, or hands everybody back to the VM from its egress address.
struct Gateway {
    back: Arc<AtomicBool>,
    came: Arc<AtomicU32>,
}

impl Gateway {
    fn start(space: &Space) -> Self {
        let gateway = Self { back: Arc::default(), came: Arc::default() };
        let (back, came) = (Arc::clone(&gateway.back), Arc::clone(&gateway.came));
        let listener = space.enter(|| TcpListener::bind("10.40.0.2:8081").unwrap());
        let serve = move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                came.fetch_add(1, Ordering::Relaxed);
                let mut letter = [b'T'];
                if back.load(Ordering::Relaxed) {
                    let asked =
                        TcpStream::connect(OWN).and_then(|mut vm| vm.read_exact(&mut letter));
                    asked.unwrap();
                }
                // Who asked may have gone.
                let _ = stream.write_all(&letter);
            }
        };
        space.enter(|| std::thread::spawn(serve));
        gateway
    }
}

#[test]
fn an_agent_frozen_at_100_percent_makes_no_loop() {
    let Some(world) = world("an_agent_frozen_at_100_percent_makes_no_loop") else { return };
    let gateway = Gateway::start(&world.net.target);
    let agent = world.joined(&[]);
    world.shift("bills", "100%");
    assert_eq!(from(&world.net.client, "10.10.0.2", OWN), 'T');
    agent.signal(Signal::SIGSTOP);
    world.controller().run(&["rollback", "bills", "--no-wait"]).ok();
    gateway.back.store(true, Ordering::Relaxed);
    gateway.came.store(0, Ordering::Relaxed);
    for _ in 0..100 {
        assert_eq!(
            from(&world.net.client, "10.10.0.2", OWN),
            'V',
            "sent back, and served by the VM"
        );
    }
    assert_eq!(gateway.came.load(Ordering::Relaxed), 100, "each came by once");
    agent.signal(Signal::SIGCONT);
    until("the agent rolls back", || {
        gateway.came.store(0, Ordering::Relaxed);
        let asked = from(&world.net.client, "10.10.0.2", OWN);
        assert_eq!(asked, 'V');
        (gateway.came.load(Ordering::Relaxed) == 0).then_some(())
    });
}
