//! The first certificate.

use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use agent::identity::{CallError, EnrollError, Health, Store};
use plan::Timestamp;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use xds::join::Ticket;

use crate::authority::{DAY, DOMAIN, Spoil, issuer, pin};
use crate::world::{Folder, World, in_time, join};

/// Why nobody gave a certificate: of the last controller.
fn nobody(error: EnrollError) -> CallError {
    let words = error.to_string();
    let EnrollError::Nobody { failed: mut errors, .. } = error else { unreachable!("{words}") };
    errors.pop().unwrap()
}

#[tokio::test]
async fn a_token_gives_an_identity_once() {
    let (world, folder) = (World::start().await, Folder::new());
    let ticket = world.ticket("vm-1");
    let identity = join(&folder, &ticket, world.now()).await.unwrap();
    assert_eq!(identity.name.as_str(), "vm-1");
    assert_eq!(identity.spiffe_id(), format!("spiffe://{DOMAIN}/agent/vm-1"));
    assert_eq!(identity.server_name(), "controller.crossfade.test");

    let directory = folder.identity();
    let kept = Store::open(&directory).unwrap().identity.unwrap();
    assert_eq!((kept.chain, kept.key.public()), (identity.chain.clone(), identity.key.public()));
    for (path, text) in [
        ("key.pem", identity.key.pem()),
        ("chain.pem", identity.chain_pem()),
        ("ca.pem", identity.ca_pem()),
    ] {
        let path = directory.join(path);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
    assert_eq!(directory.metadata().unwrap().permissions().mode() & 0o777, 0o700);

    let error = join(&Folder::new(), &ticket, world.now()).await.unwrap_err().to_string();
    assert!(error.contains("the token was used already"), "{error}");
    assert!(error.contains("crossfade token create vm-1 --replace"), "{error}");
}

#[tokio::test]
async fn an_answer_that_was_lost_is_asked_for_again() {
    let (world, folder) = (World::start().await, Folder::new());
    let ticket = world.ticket("vm-1");
    world.authority.with(|state| state.spoil = Some(Spoil::Lost));
    let error = nobody(join(&folder, &ticket, world.now()).await.unwrap_err());
    assert!(matches!(error, CallError::Away { .. }), "{error}");
    // The token is used; the key that it was used for is on disk, whatever goes wrong meanwhile.
    let key = std::fs::read(folder.identity().join("joining")).unwrap();
    let elsewhere = Ticket { pin: pin(&issuer()), ..ticket.clone() };
    let closed = Ticket { controllers: vec![closed().await], ..ticket.clone() };
    for (ticket, now) in
        [(&elsewhere, world.now()), (&closed, world.now()), (&ticket, world.now().after(DAY))]
    {
        nobody(join(&folder, ticket, now).await.unwrap_err());
        assert_eq!(std::fs::read(folder.identity().join("joining")).unwrap(), key);
    }
    assert_eq!(join(&folder, &ticket, world.now()).await.unwrap().name.as_str(), "vm-1");
    assert!(!names(&folder).contains(&"joining".to_owned()), "{:?}", names(&folder));
}

/// A port where nobody is.
async fn closed() -> String {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string()
}

/// What is in the identity's directory.
fn names(folder: &Folder) -> Vec<String> {
    let entries = folder.identity().read_dir().unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn of_what_is_refused_nothing_stays() {
    let (world, folder, other) = (World::start().await, Folder::new(), Folder::new());
    let used = world.ticket("vm-1");
    join(&other, &used, world.now()).await.unwrap();
    let good = world.ticket("vm-2");
    let elsewhere = Ticket { pin: pin(&issuer()), ..good.clone() };
    let unreached = Ticket { controllers: vec![closed().await], ..good.clone() };
    for (what, ticket, now) in [
        ("used", &used, world.now()),
        ("another controller's", &elsewhere, world.now()),
        ("nobody answers", &unreached, world.now()),
        ("by a wrong clock", &good, world.now().after(DAY)),
    ] {
        join(&folder, ticket, now).await.unwrap_err();
        assert_eq!(names(&folder), [""; 0], "{what}");
    }
    // A key of which nobody knows what came of it goes as soon as its token is of no use.
    world.authority.with(|state| state.spoil = Some(Spoil::Lost));
    join(&folder, &good, world.now()).await.unwrap_err();
    assert_eq!(names(&folder), ["joining"]);
    world.authority.with(|state| state.tokens.clear());
    let error = join(&folder, &good, world.now()).await.unwrap_err();
    assert!(matches!(error, EnrollError::Refused { .. }), "{error}");
    assert_eq!(names(&folder), [""; 0]);
}

/// A machine whose renewal is under way joins anew, and is refused.
#[tokio::test]
async fn who_joins_anew_and_is_refused_goes_on_with_what_it_had() {
    let (world, folder) = (World::start().await, Folder::new());
    world.join(&folder, "vm-1").await;
    let mut keeper = world.keeper(&folder.identity());
    let now = world.pass(Duration::from_secs(14 * 3_600));
    world.authority.with(|state| state.spoil = Some(Spoil::Lost));
    in_time(keeper.step(now, 0)).await;
    drop(keeper);
    let before = names(&folder);
    let elsewhere = Ticket { pin: pin(&issuer()), ..world.ticket("vm-1") };
    join(&folder, &elsewhere, world.now()).await.unwrap_err();
    assert_eq!(names(&folder), before);
    // With another key than that of the lost answer it would be taken for a copy.
    let mut keeper = world.keeper(&folder.identity());
    in_time(keeper.step(world.now(), 0)).await;
    assert!(matches!(*keeper.health().borrow(), Health::Fine { .. }));
    assert!(world.authority.with(|state| state.frozen.is_empty()));
}

/// What is said is one thing, and names one command.
#[tokio::test]
async fn what_helps_is_said_once() {
    let (world, folder) = (World::start().await, Folder::new());
    let foreign = Ticket { pin: pin(&issuer()), ..world.ticket("vm-1") };
    let said = |ticket: Ticket| {
        let (folder, now) = (&folder, world.now());
        async move { join(folder, &ticket, now).await.unwrap_err().to_string() }
    };
    let error = said(foreign.clone()).await;
    assert!(error.contains("the token was not shown"), "{error}");
    assert!(error.contains("run `crossfade token create vm-1`, and paste here"), "{error}");
    assert!(!error.contains("is good") && !error.contains("agent join"), "{error}");
    // One that was not reached may be the token's.
    let controllers = vec![world.address.to_string(), closed().await];
    let error = said(Ticket { controllers, ..foreign }).await;
    assert!(error.contains("the token is good") && error.contains("agent join"), "{error}");
    assert!(!error.contains("token create"), "{error}");
}

#[tokio::test]
async fn another_controller_is_told_nothing() {
    let (world, folder) = (World::start().await, Folder::new());
    let other = pin(&issuer());
    let ticket = Ticket { pin: other, ..world.ticket("vm-1") };
    let error = join(&folder, &ticket, world.now()).await.unwrap_err().to_string();
    for words in [&other.to_string(), &pin(&world.authority.issuer).to_string(), "token create"] {
        assert!(error.contains(words), "{error} has not `{words}`");
    }

    // Another machine of the same CA, which would be glad of the token.
    for uri in ["agent/vm-2", "controller/", "controllers", ""] {
        let false_one = World::start_as(uri, world.now()).await;
        let ticket = false_one.ticket("vm-1");
        let error = nobody(join(&folder, &ticket, false_one.now()).await.unwrap_err());
        assert!(matches!(error, CallError::Distrusted { .. }), "{error}");
        assert_eq!(false_one.authority.with(|state| state.shown), 0, "{uri}");
    }
    assert_eq!(world.authority.with(|state| state.shown), 0);
}

#[tokio::test]
async fn a_wrong_clock_is_called_that_and_uses_nothing_up() {
    let (world, folder) = (World::start().await, Folder::new());
    let ticket = world.ticket("vm-1");
    let right = world.now();
    for wrong in [
        right.after(DAY * 3),
        right.after(Duration::from_secs(301)),
        Timestamp::from_millis(right.millis() - 301_000),
        Timestamp::from_millis(right.millis() - 86_400_000 * 400),
        Timestamp::from_millis(0),
    ] {
        let error = join(&folder, &ticket, wrong).await.unwrap_err();
        let words = error.to_string();
        assert!(words.contains(&wrong.to_string()), "{words}");
        assert!(words.contains("timedatectl") && words.contains("crossfade agent join"), "{words}");
        assert!(matches!(nobody(error), CallError::Apart { theirs, .. } if theirs == right));
    }
    assert_eq!(world.authority.with(|state| state.shown), 0);

    // Both clocks agree, a week after the controller's certificate expired.
    let later = world.pass_alone(DAY * 7);
    let error = nobody(join(&folder, &ticket, later).await.unwrap_err());
    assert!(matches!(error, CallError::Untimely { .. }), "{error}");
    assert_eq!(world.authority.with(|state| state.shown), 0);
}

#[tokio::test]
async fn controllers_are_asked_in_turn() {
    let (world, folder) = (World::start().await, Folder::new());
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let plain = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut ticket = world.ticket("vm-1");
    ticket.controllers = vec![closed.to_string(), plain.local_addr().unwrap().to_string()];
    let answers = tokio::spawn(async move {
        while let Ok((mut stream, _)) = plain.accept().await {
            stream.write_all(b"SSH-2.0-x\r\n").await.unwrap();
        }
    });
    let EnrollError::Nobody { failed: errors, .. } =
        join(&folder, &ticket, world.now()).await.unwrap_err()
    else {
        panic!("nobody can have answered")
    };
    assert!(matches!(errors[0], CallError::Connect { .. }), "{}", errors[0]);
    assert!(matches!(errors[1], CallError::Tls { .. }), "{}", errors[1]);
    ticket.controllers.push(world.address.to_string());
    join(&folder, &ticket, world.now()).await.unwrap();
    answers.abort();
}

#[tokio::test]
async fn what_cannot_be_used_is_not_kept() {
    let world = World::start().await;
    for spoil in [
        Spoil::NoChain,
        Spoil::NoAuthority,
        Spoil::NoCertificate,
        Spoil::ManyCertificates,
        Spoil::OtherKey,
        Spoil::OtherName,
        Spoil::OtherKind,
        Spoil::OtherDomain,
        Spoil::OtherAuthority,
        Spoil::Expired,
        Spoil::NotYet,
        Spoil::TwoNames,
    ] {
        let folder = Folder::new();
        let ticket = world.ticket("vm-1");
        world.authority.with(|state| state.spoil = Some(spoil));
        let error = nobody(join(&folder, &ticket, world.now()).await.unwrap_err());
        assert!(matches!(error, CallError::Malformed { .. }), "{spoil:?}: {error}");
        assert!(Store::open(&folder.identity()).unwrap().identity.is_none(), "{spoil:?}");
        assert!(join(&folder, &ticket, world.now()).await.is_ok(), "{spoil:?}: asked again");
    }
    world.authority.with(|state| state.spoil = Some(Spoil::Long));
    let error = join(&Folder::new(), &world.ticket("vm-1"), world.now()).await.unwrap_err();
    assert!(matches!(nobody(error), CallError::Away { .. }));
}
