//! Restarts: sockets outlive the stub, and queries wait in them.

use std::collections::BTreeSet;
use std::net::{TcpListener, UdpSocket};
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::{Child, Command, Stdio};

use agent::names::Sockets;
use agent::names::stub::BindError;

use crate::world::{
    Client, Upstream, as_answer, bound, question, read_frame, stub, stub_on, upstreams, write_frame,
};

#[test]
fn queries_wait_while_nobody_serves() {
    let upstream = Upstream::echo();
    let first = stub(upstreams(&[&upstream]));
    let client = Client::new(&first);
    let address = first.addresses()[0];
    // What the service manager holds.
    let kept = first.sockets().unwrap().fds().unwrap();
    drop(first);
    let query = question(1, "orders.corp.example", 1);
    let foreign = question(2, "a.example", 1);
    client.send(&query);
    client.send(&foreign);
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    write_frame(&mut stream, &query);
    let sockets = Sockets::from_fds(kept).unwrap();
    assert_eq!(sockets.addresses(), [address]);
    let second = stub_on(sockets, upstreams(&[&upstream])).unwrap();
    assert_eq!(client.receive()[..2], [0, 1]);
    assert_eq!(client.receive(), as_answer(&foreign, 0));
    assert_eq!(read_frame(&mut stream).unwrap()[..2], [0, 1]);
    assert_eq!(second.addresses(), [address]);
}

#[test]
fn both_families() {
    let upstream = Upstream::echo();
    let listen = ["127.0.0.1:0".parse().unwrap(), "[::1]:0".parse().unwrap()];
    let stub = stub_on(Sockets::bind(&listen).unwrap(), upstreams(&[&upstream])).unwrap();
    let socket = UdpSocket::bind("[::1]:0").unwrap();
    socket.set_read_timeout(Some(crate::world::PATIENCE)).unwrap();
    for name in ["orders.corp.example", "a.example"] {
        socket.send_to(&question(3, name, 1), stub.addresses()[1]).unwrap();
        let mut room = [0; 512];
        let (length, from) = socket.recv_from(&mut room).unwrap();
        assert!(length > 12);
        assert_eq!(from, stub.addresses()[1]);
    }
}

#[test]
fn descriptors_that_are_not_ours_are_refused() {
    let loopback = || UdpSocket::bind("127.0.0.1:0").unwrap();
    let file = || OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
    let connected = || {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap()
    };
    let local = || std::os::unix::net::UnixDatagram::unbound().unwrap();
    let open = || UdpSocket::bind("0.0.0.0:0").unwrap();
    struct Case {
        name: &'static str,
        fds: Vec<OwnedFd>,
        want: fn(&BindError) -> bool,
    }
    let is_handed: fn(&BindError) -> bool = |error| matches!(error, BindError::Handed(_));
    for Case { name, fds, want } in [
        Case { name: "no socket", fds: vec![loopback().into(), file()], want: is_handed },
        Case { name: "connection", fds: vec![connected().into()], want: is_handed },
        Case { name: "unix", fds: vec![local().into()], want: is_handed },
        Case { name: "none", fds: vec![], want: |error| matches!(error, BindError::Count(0)) },
        Case {
            name: "reachable",
            fds: vec![open().into()],
            want: |error| matches!(error, BindError::NotLoopback(_)),
        },
        Case {
            name: "too many",
            fds: (0..5).map(|_| loopback().into()).collect(),
            want: |error| matches!(error, BindError::Count(5)),
        },
    ] {
        let refused = Sockets::from_fds(fds).unwrap_err();
        assert!(want(&refused), "{name}: {refused}");
    }
}

/// How many queries wait at a time, and how often who answers them is killed.
const QUERIES: u16 = 200;
const KILLS: u16 = 40;

/// Set in the process that answers.
const ANSWERS: &str = "CROSSFADE_TEST_ANSWERS";

/// A process with this socket in place of its input; it is the test below.
fn process(datagram: OwnedFd) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    let test = "life::a_query_for_a_plan_name_outlives_who_is_killed_while_answering";
    command.args(["--exact", test]).env(ANSWERS, "1");
    command.stdin(Stdio::from(datagram)).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap()
}

/// Answers on its input until it is killed.
fn answer() -> ! {
    let datagram = std::io::stdin().as_fd().try_clone_to_owned().unwrap();
    let sockets = Sockets::from_fds([datagram]).unwrap();
    let _stub = stub_on(sockets, upstreams(&[&Upstream::mute()])).unwrap();
    loop {
        std::thread::park();
    }
}

#[test]
fn a_query_for_a_plan_name_outlives_who_is_killed_while_answering() {
    if std::env::var_os(ANSWERS).is_some() {
        answer();
    }
    let bound = bound().unwrap();
    let client = Client::at(bound.addresses()[0]);
    for kill in 0..KILLS {
        for id in 0..QUERIES {
            client.send(&question(id, "orders.corp.example", 1));
        }
        let mut waiting: BTreeSet<u16> = (0..QUERIES).collect();
        let mut receive = || {
            let answer = client.receive();
            waiting.remove(&u16::from_be_bytes([answer[0], answer[1]]));
            waiting.len()
        };
        let start = || process(bound.fds().unwrap().remove(0));
        let mut first = start();
        // At another point each time.
        for _ in 0..=kill {
            receive();
        }
        first.kill().unwrap();
        first.wait().unwrap();
        let mut second = start();
        while receive() > 0 {}
        second.kill().unwrap();
        second.wait().unwrap();
        // Answers that came twice are not taken for those of the next round.
        client.drain();
    }
}
