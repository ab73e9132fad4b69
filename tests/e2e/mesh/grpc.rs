//! Proxyless gRPC in three languages follows the plan.

use std::process::Command;

use crate::harness::{Controller, Scratch, crossfade, root};
use crate::mesh::world::{PORT, Peer, World, counts, shift, tool, until, until_acked};

#[test]
fn grpc_in_python_node_and_go_follows_a_shift_and_comes_back() {
    let world = World(72);
    let scratch = Scratch::new();
    let controller = world.controller(&scratch, "grpc", "127.0.0.1:0");
    let _backends = world.backends("grpc");
    let mut clients = [
        ("grpc-python", python(&scratch, &controller)),
        ("grpc-node", node(&scratch, &controller)),
        ("grpc-go", go(&scratch, &controller)),
    ];
    for (name, client) in &mut clients {
        assert_eq!(told(name, client, 1)["legacy"], 1, "{name}");
        assert_eq!(told(name, client, 50)["legacy"], 50, "{name}");
        until_acked(&controller, name);
    }
    // Draws of each call: gRPC cannot keep a client on its side.
    shift(&controller, "30%");
    for (name, client) in &mut clients {
        let sides = told(name, client, 400);
        // p = 0.3 of 400: five standard deviations are 46.
        assert!((74..=166).contains(&sides["target"]), "{name}: {sides:?}");
    }
    shift(&controller, "100%");
    for (name, client) in &mut clients {
        until(&format!("{name} is on target"), || {
            (!told(name, client, 20).contains_key("legacy")).then_some(())
        });
        assert_eq!(told(name, client, 100)["target"], 100, "{name}");
    }
    controller.run(&["rollback", "mesh/web", "--wait=20s"]).ok();
    for (name, client) in &mut clients {
        until(&format!("{name} is on legacy"), || {
            (!told(name, client, 20).contains_key("target")).then_some(())
        });
        assert_eq!(told(name, client, 100)["legacy"], 100, "{name}");
    }
}

/// Who answered so many calls.
#[track_caller]
fn told(name: &str, client: &mut Peer, calls: u32) -> std::collections::BTreeMap<String, u64> {
    let told = client.ask(&format!("ask {calls}"));
    assert_eq!(told["failures"], 0, "{name}: {told}");
    counts(&told, "sides")
}

/// What all clients are called with.
fn target() -> String {
    format!("xds:///web.mesh.example:{PORT}")
}

/// The bootstrap of this node, in the environment of its client.
fn bootstrap(command: &mut Command, scratch: &Scratch, controller: &Controller, node: &str) {
    let xds = controller.xds.to_string();
    let text = crossfade(&["bootstrap", "grpc", "--node", node, "--controller", &xds]).ok();
    command.env("GRPC_XDS_BOOTSTRAP", scratch.file(&format!("{node}.json"), &text));
}

fn python(scratch: &Scratch, controller: &Controller) -> Peer {
    let mut command = Command::new(tool("CROSSFADE_TEST_MESH_PYTHON", "mesh-1/bin/python"));
    command.arg(root().join("tests/e2e/peers/client.py")).arg(target());
    bootstrap(&mut command, scratch, controller, "grpc-python");
    Peer::run(command)
}

fn node(scratch: &Scratch, controller: &Controller) -> Peer {
    let node = std::env::var_os("CROSSFADE_TEST_NODE").unwrap_or_else(|| "node".into());
    let mut command = Command::new(node);
    command.arg(root().join("tests/e2e/peers/client.js")).arg(target());
    command.env("NODE_PATH", tool("CROSSFADE_TEST_NODE_MODULES", "node-1/node_modules"));
    bootstrap(&mut command, scratch, controller, "grpc-node");
    Peer::run(command)
}

fn go(scratch: &Scratch, controller: &Controller) -> Peer {
    let mut command = Command::new(tool("CROSSFADE_TEST_GRPC_GO", "go-1/client"));
    command.arg(target());
    bootstrap(&mut command, scratch, controller, "grpc-go");
    Peer::run(command)
}
