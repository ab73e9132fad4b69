//! A certificate that was taken back opens nothing any more: neither the gateway to a VM, nor the
//! VM's calls to a gateway.

use std::fs;
use std::io::{ErrorKind, Read as _};
use std::time::Duration;

use super::envoy::{Beside, call};
use super::main_job::LOGICAL;
use super::mtls::{Gateway, Identity, PLAN, heard_with};
use super::peers::{dial, letter};
use super::world::{World, until, until_within};

/// How long it may take until every proxy knows.
const WITHIN: Duration = Duration::from_secs(5);

/// What counts the certificates that were refused for what they are.
const REFUSED: &str = "ssl.fail_verify_error";

impl Identity {
    /// A copy of what this VM has now.
    fn copied(world: &World) -> Self {
        let found = Self::of(&world.data());
        let copy = |from, to: &str| {
            let path = world.scratch.path().join(to);
            fs::copy(from, &path).unwrap();
            path
        };
        Self { chain: copy(found.chain, "copied.pem"), key: copy(found.key, "copied.key") }
    }

    /// Of one that joins as `name`, and does not run.
    fn joined(world: &World, name: &str) -> Self {
        Self::joined_as(world, name, &[])
    }

    /// The same, where the token is made otherwise.
    fn joined_as(world: &World, name: &str, more: &[&str]) -> Self {
        let file = world.scratch.file("other.txt", &world.token(&[&[name], more].concat()));
        let data = format!("/var/lib/crossfade/other-{name}");
        let join = ["agent", "join", "--no-start", "--no-names", "--token-file"];
        let more = [file.to_str().unwrap(), "--data", &data];
        world.vm(&[&join[..], &more].concat()).ok();
        Self::of(&world.scratch.path().join(format!("vm/lib/crossfade/other-{name}")))
    }
}

/// Who answers a client on the VM that shows this.
fn heard(world: &World, identity: &Identity) -> Option<char> {
    heard_with(world, Some(identity), &[])
}

#[test]
fn a_revoked_vm_opens_the_gateway_no_more() {
    let Some(mut vm) = Beside::of("a_revoked_vm_opens_the_gateway_no_more", PLAN) else { return };
    let world = &mut vm.world;
    let mut gateway = Gateway::start(world);
    world.shift("orders", "100%");
    let (copy, other) = (Identity::copied(world), Identity::joined(world, "vm-2"));
    let session = world.scratch.path().join("session.pem");
    let session = session.to_str().unwrap();
    assert_eq!(heard_with(world, Some(&copy), &["-sess_out", session]), Some('T'));
    // It goes on where that left off, which needs no certificate.
    assert_eq!(heard_with(world, None, &["-sess_in", session]), Some('T'));
    assert_eq!(heard(world, &other), Some('T'));
    let own = |world: &World| world.net.vm.enter(|| call().ok());
    until("the split is Envoy's", || (own(world) == Some('T')).then_some(()));
    let mut long =
        world.net.vm.enter(|| dial([0, 0, 0, 0].into(), LOGICAL.parse().unwrap()).unwrap());
    assert_eq!(letter(&mut long).unwrap(), 'T');
    // Whoever has the key, and the machine itself.
    let before = Gateway::count(world, 8080, REFUSED);
    world.controller().run(&["revoke", "vm-1"]).ok();
    until_within(WITHIN, "the copy is refused", || heard(world, &copy).is_none().then_some(()));
    assert!(Gateway::count(world, 8080, REFUSED) > before);
    assert_eq!(heard_with(world, None, &["-sess_in", session]), None, "it goes on no more");
    until_within(WITHIN, "the machine is refused", || own(world).is_none().then_some(()));
    long.set_nonblocking(true).unwrap();
    let read = long.read(&mut [0]).map_err(|error| error.kind());
    assert_eq!(read, Err(ErrorKind::WouldBlock), "what is open stays");
    assert_eq!(heard(world, &other), Some('T'));
    // The name is a machine's again; the copy is not.
    let again = Identity::joined(world, "vm-1");
    assert_eq!(heard(world, &again), Some('T'));
    // With nobody to ask.
    world.kill_controller();
    gateway.restart(world);
    let before = Gateway::count(world, 8080, REFUSED);
    assert_eq!(heard(world, &copy), None);
    assert_eq!(Gateway::count(world, 8080, REFUSED), before + 1);
    assert_eq!(heard(world, &other), Some('T'));
    assert_eq!(heard(world, &again), Some('T'));
}

#[test]
fn a_name_that_was_taken_over_opens_the_gateway_for_the_new_machine_alone() {
    let test = "a_name_that_was_taken_over_opens_the_gateway_for_the_new_machine_alone";
    let Some(vm) = Beside::of(test, PLAN) else { return };
    let world = &vm.world;
    let _gateway = Gateway::start(world);
    world.shift("orders", "100%");
    let copy = Identity::copied(world);
    assert_eq!(heard(world, &copy), Some('T'));
    let new = Identity::joined_as(world, "vm-1", &["--replace"]);
    until_within(WITHIN, "the copy is refused", || heard(world, &copy).is_none().then_some(()));
    assert_eq!(heard(world, &new), Some('T'));
}

#[test]
fn a_revoked_gateway_gets_no_calls_any_more() {
    let Some(vm) = Beside::of("a_revoked_gateway_gets_no_calls_any_more", PLAN) else { return };
    let world = &vm.world;
    let _gateway = Gateway::start(world);
    world.shift("orders", "100%");
    let own = || world.net.vm.enter(|| call().ok());
    until("the split is Envoy's", || (own() == Some('T')).then_some(()));
    let refused = || vm.counted("shop/orders/http/target", REFUSED);
    let before = refused();
    world.controller().run(&["revoke", "edge-1"]).ok();
    until_within(WITHIN, "it is refused", || {
        let heard = own();
        assert_ne!(heard, Some('L'), "nobody is taken back for it");
        (heard.is_none() && refused() > before).then_some(())
    });
    world.controller().run(&["rollback", "shop/orders", "--no-wait"]).ok();
    until("legacy answers", || (own() == Some('L')).then_some(()));
}

#[test]
fn a_vm_that_left_opens_the_gateway_no_more() {
    let Some(vm) = Beside::of("a_vm_that_left_opens_the_gateway_no_more", PLAN) else { return };
    let world = &vm.world;
    let _gateway = Gateway::start(world);
    world.shift("orders", "100%");
    let copy = Identity::copied(world);
    assert_eq!(heard(world, &copy), Some('T'));
    world.vm(&["agent", "leave"]).ok();
    // Here it is the gateway's way to the target, without which that takes nobody.
    world.net.vm.sysctl("net.ipv4.ip_forward", "1");
    until_within(WITHIN, "the copy is refused", || heard(world, &copy).is_none().then_some(()));
    assert!(Gateway::count(world, 8080, REFUSED) > 0);
}
