//! Identities over a real server with TLS: every way to join and renew, on every store.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail loudly"
)]

#[path = "identity/calls.rs"]
mod calls;
#[path = "identity/limited.rs"]
mod limited;
#[path = "identity/world.rs"]
mod world;

use std::sync::Arc;
use std::time::Duration;

use controller::clock::Clock;
use controller::identity::view::AgentState;
use controller::identity::{Authority, OpenError, RevokeError, Settings};
use controller::store::{Memory, Sqlite, restore};
use plan::{Actor, Timestamp};
use proto::crossfade::v1::{Count, Plane, ReportRequest, SinkReport, Stragglers};
use tonic::Code;

use self::calls::Vm;
use self::world::{Kept, World, actor, wait};

/// Joins, renews, is copied, freezes, joins again, is revoked.
async fn life(kept: Kept) {
    let world = World::new(&kept).await;
    let token = world.token("vm-1").await;
    let vm = Vm::enrol(&world, &token).await.unwrap();
    assert_eq!(vm.name, "vm-1");
    vm.report(&world).await.unwrap().message().await.unwrap();
    let seen = &world.authority.agents()[0];
    assert_eq!((seen.state, seen.name.as_str()), (AgentState::Active, "vm-1"));

    // Its answer is lost; the same key has the same certificate again.
    let key = calls::key();
    let once = vm.renew(&world, &key).await.unwrap();
    let again = vm.renew(&world, &key).await.unwrap();
    assert_eq!(once.serial(), again.serial());
    assert_ne!(once.serial(), vm.serial());
    again.report(&world).await.unwrap();

    // Somebody with its old disk renews too.
    let mut reports = again.report(&world).await.unwrap();
    reports.message().await.unwrap();
    let copied = vm.renew(&world, &calls::key()).await.unwrap_err();
    assert_eq!(copied.code(), Code::PermissionDenied);
    assert!(copied.message().contains("frozen"), "{copied}");
    wait(reports.message()).await.unwrap_err();
    for who in [&vm, &again] {
        let refused = who.report(&world).await.unwrap_err();
        assert!(refused.message().contains("frozen"), "{refused}");
        let refused = who.renew(&world, &calls::key()).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied);
    }
    assert_eq!(world.authority.agents()[0].state, AgentState::Frozen);

    // All of that is there after a restart, and a new token clears it.
    let world = world.restarted(&kept).await;
    assert_eq!(world.authority.agents()[0].state, AgentState::Frozen);
    let vm = Vm::enrol(&world, &world.token("vm-1").await).await.unwrap();
    let mut reports = vm.report(&world).await.unwrap();
    reports.message().await.unwrap();
    let name = "vm-1".parse().unwrap();
    assert!(world.authority.revoke(&name, &actor(), "sold").await.unwrap().1);
    assert!(!world.authority.revoke(&name, &actor(), "sold").await.unwrap().1);
    wait(reports.message()).await.unwrap_err();
    let refused = vm.report(&world).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert!(refused.message().contains("revoked"), "{refused}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machines_life_with_a_store_in_memory() {
    life(Kept::Memory(Arc::new(Memory::new()))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machines_life_with_a_store_on_disk() {
    life(Kept::disk()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_bad_token_is_told_apart() {
    let world = World::new(&Kept::Memory(Arc::new(Memory::new()))).await;
    let other = World::new(&Kept::Memory(Arc::new(Memory::new()))).await;
    let token = world.token("vm-1").await;
    let far = world.token_from("vm-2", "192.0.2.0/24").await;
    let withdrawn = world.token("vm-3").await;
    world.authority.delete_token(&"vm-3".parse().unwrap(), &actor(), "").await.unwrap();
    let used = world.token("vm-4").await;
    Vm::enrol(&world, &used).await.unwrap();
    let foreign = other.token("vm-1").await;
    // One that this controller could have made and did not.
    let mut unknown: xds::join::Ticket = token.parse().unwrap();
    unknown.secret = xds::join::Secret::new([7; 32]);
    let now = calls::now_ms();
    let minutes = |n: u64| now + n * 60_000;
    let request = calls::request(&calls::key());
    let mut altered = request.clone();
    *altered.last_mut().unwrap() ^= 1;
    let weak = calls::weak_request();
    let cases = [
        ("empty", "", request.clone(), 0, Code::InvalidArgument, "no join token"),
        ("cut", &token[..90], request.clone(), 0, Code::InvalidArgument, "cut or mistyped"),
        ("foreign", &foreign, request.clone(), 0, Code::PermissionDenied, "another controller"),
        (
            "unknown",
            &unknown.to_string(),
            request.clone(),
            0,
            Code::PermissionDenied,
            "not known here",
        ),
        ("used", &used, request.clone(), 0, Code::AlreadyExists, "used already at"),
        ("withdrawn", &withdrawn, request.clone(), 0, Code::PermissionDenied, "withdrawn at"),
        ("from elsewhere", &far, request.clone(), 0, Code::PermissionDenied, "as 127.0.0.1"),
        ("no request", &token, Vec::new(), 0, Code::InvalidArgument, "PKCS #10"),
        ("another's request", &token, altered, 0, Code::InvalidArgument, "its own key"),
        ("another algorithm", &token, weak, 0, Code::InvalidArgument, "P-256"),
        (
            "a clock of tomorrow",
            &token,
            request.clone(),
            minutes(24 * 60),
            Code::FailedPrecondition,
            "clocks are more than 5 min apart",
        ),
        ("a clock that is slow", &token, request, now - 400_000, Code::FailedPrecondition, "here"),
    ];
    for (what, token, request, now_ms, code, words) in cases {
        let refused = calls::enrol(&world, token, request, now_ms).await.unwrap_err();
        assert_eq!(refused.code(), code, "{what}: {refused}");
        assert!(refused.message().contains(words), "{what}: {refused}");
        assert!(!refused.message().contains("192.0.2"), "{what}: {refused}");
    }
    let request = calls::request(&calls::key());
    calls::enrol(&world, &token, request, minutes(4)).await.expect("none of that used it up");
    world.stop().await;
    other.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_bad_renewal_is_told_apart() {
    let world = World::new(&Kept::Memory(Arc::new(Memory::new()))).await;
    let other = World::new(&Kept::Memory(Arc::new(Memory::new()))).await;
    let vm = Vm::enrol(&world, &world.token("vm-1").await).await.unwrap();
    let theirs = Vm::enrol(&other, &other.token("vm-1").await).await.unwrap();
    let ours = calls::Parts::new(&world, &vm).await;
    let nonce = calls::Parts::new(&other, &vm).await.nonce;
    let mut of_ca = ours.signed_by(&vm);
    of_ca.certificate = world.authority.ca_der().to_vec();
    for (what, parts, code, words) in [
        ("another CA's", ours.of(&theirs), Code::PermissionDenied, "not of this controller's CA"),
        ("no certificate", ours.with(|p| p.certificate.clear()), Code::InvalidArgument, "X.509"),
        ("the CA's own", of_ca, Code::PermissionDenied, "yet not of a machine"),
        ("a nonce of another", ours.with(|p| p.nonce = nonce), Code::Aborted, "not of this"),
        (
            "another request than was signed",
            ours.with(|p| p.request = calls::request(&calls::key())),
            Code::PermissionDenied,
            "not signed",
        ),
        ("signed by another", ours.signed_by(&theirs), Code::PermissionDenied, "not signed"),
        ("its old key", ours.again(&vm), Code::InvalidArgument, "new key"),
    ] {
        let refused = parts.send(&world).await.unwrap_err();
        assert_eq!(refused.code(), code, "{what}: {refused}");
        assert!(refused.message().contains(words), "{what}: {refused}");
    }
    let fresh = calls::Parts::new(&world, &vm).await;
    fresh.send(&world).await.expect("none of that did harm");
    let refused = fresh.send(&world).await.unwrap_err();
    assert_eq!((refused.code(), refused.message().contains("used already")), (Code::Aborted, true));
    world.stop().await;
    other.stop().await;
}

/// What a stream may see is settled when it begins, so none outlives that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_that_joins_for_other_services_begins_anew() {
    let world = World::new(&Kept::Memory(Arc::new(Memory::new()))).await;
    let services = |world: &World| world.authority.services_of(&"vm-1".parse().unwrap()).unwrap();
    let token = world.token_for("vm-1", &["shop/orders", "shop/store"]).await;
    let before = Vm::enrol(&world, &token).await.unwrap();
    let mut reports = before.report(&world).await.unwrap();
    reports.message().await.unwrap();
    assert_eq!(services(&world).len(), 2);
    let token = world.token_for("vm-1", &["shop/orders"]).await;
    assert_eq!(services(&world).len(), 2, "until the token is used");
    let after = Vm::enrol(&world, &token).await.unwrap();
    assert_eq!(services(&world), ["shop/orders".parse().unwrap()]);
    wait(reports.message()).await.unwrap_err();
    before.report(&world).await.unwrap_err();
    after.report(&world).await.unwrap().message().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_served_without_an_identity() {
    let world = World::new(&Kept::Memory(Arc::new(Memory::new()))).await;
    let refused = calls::report_of_nobody(&world).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    let vm = Vm::enrol(&world, &world.token("vm-1").await).await.unwrap();
    let stranger = vm.called("vm-2");
    let mut reports = stranger.report(&world).await.unwrap();
    let refused = wait(reports.message()).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "another's node id: {refused}");
    world.stop().await;
}

/// What the relay of `edge` says that it is.
const EDGE: &[(&str, &str)] = &[("role", "relay"), ("serves", "catch"), ("gateway", "edge")];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_is_one_and_nothing_else() {
    let world = World::new(&Kept::Memory(Arc::new(Memory::new()))).await;
    let token = world.gateway_token("edge-1", "edge").await;
    let mut as_agent: xds::join::Ticket = token.parse().unwrap();
    as_agent.kind = xds::join::Kind::Agent;
    let refused = Vm::enrol(&world, &as_agent.to_string()).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
    let gateway = Vm::enrol(&world, &token).await.unwrap();
    let id = "spiffe://crossfade.internal/gateway/edge/edge-1";
    assert_eq!(gateway.id(), id);
    let gateway = gateway.renew(&world, &calls::key()).await.unwrap();
    assert_eq!(gateway.id(), id, "renewed");
    let seen = &world.authority.agents()[0];
    assert_eq!(seen.gateway.as_ref().map(plan::ServiceName::as_str), Some("edge"));
    let vm = Vm::enrol(&world, &world.token("vm-1").await).await.unwrap();
    assert_eq!(vm.id(), "spiffe://crossfade.internal/agent/vm-1");

    let nothing = ReportRequest::default;
    let behind = |id: &str| {
        let sinks = vec![SinkReport { id: id.to_owned(), ..SinkReport::default() }];
        ReportRequest { sinks, ..nothing() }
    };
    let service = "shop/orders".to_owned();
    let stragglers = Stragglers { service: service.clone(), ..Stragglers::default() };
    let count = Count { service, plane: Plane::Host.into(), ..Count::default() };
    let inner = &[("role", "relay"), ("serves", "catch"), ("gateway", "inner")];
    for (what, who, says, report, fine) in [
        ("a relay", &gateway, EDGE, nothing(), true),
        ("its proxy", &gateway, EDGE, behind("proxy"), true),
        ("another gateway", &gateway, inner, nothing(), false),
        ("an agent", &gateway, &[("role", "agent")], nothing(), false),
        ("a sidecar", &gateway, &[("role", "sidecar")], nothing(), false),
        ("nothing said", &gateway, &[], nothing(), false),
        ("leaving", &gateway, EDGE, ReportRequest { leaving: true, ..nothing() }, false),
        (
            "stragglers",
            &gateway,
            EDGE,
            ReportRequest { stragglers: vec![stragglers], ..nothing() },
            false,
        ),
        ("counts", &gateway, EDGE, ReportRequest { counts: vec![count], ..nothing() }, false),
        ("an agent as a gateway", &vm, EDGE, nothing(), false),
        ("an agent", &vm, &[("role", "agent")], nothing(), true),
    ] {
        let mut reports = who.report_as(&world, says, report).await.unwrap();
        let answer = wait(reports.message()).await;
        match answer {
            Ok(_) => assert!(fine, "{what} is taken"),
            Err(refused) => {
                assert!(!fine, "{what}: {refused}");
                assert_eq!(refused.code(), Code::PermissionDenied, "{what}: {refused}");
            }
        }
    }
    assert_eq!(world.authority.services_of(&"vm-1".parse().unwrap()), Some(Vec::new()));
    assert_eq!(world.authority.services_of(&"edge-1".parse().unwrap()), None);

    let mut reports = gateway.report_as(&world, EDGE, nothing()).await.unwrap();
    reports.message().await.unwrap();
    let name = "edge-1".parse().unwrap();
    assert!(world.authority.revoke(&name, &actor(), "sold").await.unwrap().1);
    wait(reports.message()).await.unwrap_err();
    let refused = gateway.renew(&world, &calls::key()).await.unwrap_err();
    assert!(refused.message().contains("revoked"), "{refused}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn controllers_on_one_store_are_one() {
    let store = Arc::new(Memory::new());
    let open = |_| Authority::open(Arc::new(store.another()), Clock::start(), Settings::default());
    let opened = futures::future::join_all((0..4).map(open)).await;
    let opened: Vec<Authority> = opened.into_iter().map(Result::unwrap).collect();
    assert!(opened.iter().all(|authority| authority.pin() == opened[0].pin()), "one CA");

    let kept = Kept::Memory(Arc::clone(&store));
    let (one, two) = (World::new(&kept).await, World::new(&kept).await);
    // Made at one, used at the other; challenged at one, renewed at the other.
    let vm = Vm::enrol(&two, &one.token("vm-1").await).await.unwrap();
    let parts = calls::Parts::new(&one, &vm).await;
    parts.send(&two).await.unwrap();
    let vm = Vm::enrol(&one, &two.token("vm-2").await).await.unwrap();
    let mut reports = loop {
        // Heard of within a second.
        match vm.report(&two).await {
            Ok(reports) => break reports,
            Err(refused) => assert_eq!(refused.code(), Code::Unauthenticated),
        }
        tokio::task::yield_now().await;
    };
    reports.message().await.unwrap();
    one.authority.revoke(&"vm-2".parse().unwrap(), &actor(), "sold").await.unwrap();
    wait(reports.message()).await.unwrap_err();

    // All at once: nothing is lost.
    let tokens: Vec<String> = futures::future::join_all((0..16).map(|n| {
        let (world, name) = (if n % 2 == 0 { &one } else { &two }, format!("at-once-{n}"));
        async move { world.token(&name).await }
    }))
    .await;
    let joins = tokens.iter().enumerate().map(|(n, token)| {
        let world = if n % 3 == 0 { &one } else { &two };
        Vm::enrol(world, token)
    });
    let joined = futures::future::join_all(joins).await;
    assert!(joined.iter().all(Result::is_ok), "{joined:?}");
    assert_eq!(one.authority.tokens().await.unwrap(), []);

    // One token, used at both at once.
    let token = one.token("contested").await;
    let (here, there) =
        futures::future::join(Vm::enrol(&one, &token), Vm::enrol(&two, &token)).await;
    assert!(here.is_ok() != there.is_ok(), "used once: {here:?} {there:?}");
    one.stop().await;
    two.stop().await;
}

#[tokio::test]
async fn a_ca_stays_in_its_trust_domain_and_is_not_made_twice() {
    let store = Arc::new(Memory::new());
    let open = |domain: &str| {
        let settings = Settings { trust_domain: domain.parse().unwrap() };
        Authority::open(Arc::clone(&store) as _, Clock::start(), settings)
    };
    let pin = open("one.example").await.unwrap().pin();
    assert_eq!(open("one.example").await.unwrap().pin(), pin);
    assert!(matches!(open("two.example").await, Err(OpenError::Ca(_))));
    let unknown = open("one.example").await.unwrap();
    let unknown = unknown.revoke(&"vm-1".parse().unwrap(), &Actor::new("x"), "").await;
    assert!(matches!(unknown, Err(RevokeError::Unknown(_))));
}

#[tokio::test]
async fn a_controllers_names_can_be_in_its_certificate() {
    let settings = Settings::default();
    let opened = Authority::open(Arc::new(Memory::new()), Clock::start(), settings).await.unwrap();
    for (names, fine) in [
        (vec![], true),
        (vec!["xds.corp.example", "10.0.0.1", "2001:db8::1"], true),
        (vec!["no\u{e4}me"], false),
    ] {
        let names: Vec<String> = names.into_iter().map(str::to_owned).collect();
        let made = opened.server_tls(&names);
        assert_eq!(made.is_ok(), fine, "{names:?}: {:?}", made.err());
    }
    // Tending goes on for ever.
    let tending = tokio::time::timeout(Duration::from_millis(1), opened.tend(None)).await;
    assert!(tending.is_err());
}

/// A machine and its copy are connected at once: nobody has to wait for the next renewal.
#[tokio::test]
async fn a_copy_that_is_connected_beside_its_machine_freezes_both() {
    let world = World::new(&Kept::Memory(Arc::default())).await;
    let vm = Vm::enrol(&world, &world.token("vm-1").await).await.unwrap();
    for mut reports in [vm.report(&world).await.unwrap(), vm.report(&world).await.unwrap()] {
        let cut = async { while reports.message().await.is_ok_and(|answer| answer.is_some()) {} };
        // Both have to talk for a while before anybody can be sure.
        tokio::time::timeout(Duration::from_secs(60), cut).await.expect("both are cut");
    }
    let seen = &world.authority.agents()[0];
    assert_eq!(seen.state, AgentState::Frozen);
    let refused = vm.report(&world).await.unwrap_err();
    assert!(refused.message().contains("two processes"), "{refused}");
}

/// What a network sends that nobody knows takes nothing from the machines in it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_from_a_network_keeps_no_machine_of_it_out() {
    let world = World::new(&Kept::Memory(Arc::new(Memory::new()))).await;
    let vm = Vm::enrol(&world, &world.token("vm-1").await).await.unwrap();
    let is_over = |error: &tonic::Status| error.code() == Code::ResourceExhausted;
    let garbage = calls::Parts::new(&world, &vm).await.with(|p| p.certificate.clear());
    loop {
        let joins = (0..40).map(|_| calls::enrol(&world, "x", Vec::new(), 0));
        let renewals = (0..40).map(|_| garbage.send(&world));
        let joins = futures::future::join_all(joins).await;
        let renewals = futures::future::join_all(renewals).await;
        let over =
            |answers: &[Result<_, _>]| answers.iter().any(|one| one.as_ref().is_err_and(is_over));
        if over(&joins) && over(&renewals) {
            break;
        }
    }
    let vm = vm.renew(&world, &calls::key()).await.unwrap();
    vm.report(&world).await.unwrap();
    Vm::enrol(&world, &world.token("vm-2").await).await.unwrap();
    // One token, or one machine, has no more than its own.
    let used = world.token("vm-3").await;
    Vm::enrol(&world, &used).await.unwrap();
    let request = calls::request(&calls::key());
    let again = (0..40).map(|_| calls::enrol(&world, &used, request.clone(), 0));
    let again = futures::future::join_all(again).await;
    assert!(again.iter().any(|answer| answer.as_ref().is_err_and(is_over)), "{again:?}");
    Vm::enrol(&world, &world.token("vm-4").await).await.unwrap();
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restore_revives_no_machine_and_no_token() {
    let kept = Kept::disk();
    let Kept::Disk(directory) = &kept else { panic!("on disk") };
    let directory = directory.clone();
    let world = World::new(&kept).await;
    let (one, two) = (world.token("vm-1").await, world.token("vm-2").await);
    let vm = Vm::enrol(&world, &one).await.unwrap();
    world.stop().await;
    let backup = directory.join("backup");
    let store = kept.open().await;
    store.backup(&backup).await.unwrap();
    drop(store);

    let world = World::new(&kept).await;
    world.authority.revoke(&"vm-1".parse().unwrap(), &actor(), "sold").await.unwrap();
    world.stop().await;
    drop(kept.open().await);
    let now = Timestamp::from_millis(calls::now_ms().try_into().unwrap());
    let restored = restore(&backup, &directory, &actor(), now).unwrap();
    assert_eq!((restored.machines.withdrawn, restored.machines.unsure.len()), (1, 0));
    let world = World::new(&kept).await;
    let mut refused = vm.report(&world).await.unwrap_err();
    if refused.code() != Code::PermissionDenied {
        // Its connection was quicker than the first look at who is there, which cuts it off.
        refused = vm.report(&world).await.unwrap_err();
    }
    assert!(refused.message().contains("revoked"), "{refused}");
    let refused = Vm::enrol(&world, &two).await.unwrap_err();
    assert!(refused.message().contains("withdrawn"), "{refused}");
    world.stop().await;
    drop(kept.open().await);

    // Elsewhere nobody knows.
    let other = directory.join("other");
    let restored = restore(&backup, &other, &actor(), now).unwrap();
    let unsure: Vec<&str> = restored.machines.unsure.iter().map(|name| name.as_str()).collect();
    assert_eq!((restored.machines.withdrawn, unsure), (1, vec!["vm-1"]));
    assert!(Sqlite::open(&other).is_ok());
}
