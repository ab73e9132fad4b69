//! What the stub adds to the latency of a foreign name: a small UDP server on loopback is asked
//! directly, through the stub, and through the least that hands a query on and its answer back, in
//! turns, so that all see the same machine. That one is the floor: it knows one client and checks
//! nothing, so what it adds is what two more wake-ups of a thread cost here.
//!
//! `cargo run --release -p agent --example stub_latency [QUERIES]`

use std::error::Error;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use agent::names::{Answers, Sockets, Stub, Upstreams};

/// Queries of each kind where the command line says nothing.
const QUERIES: usize = 20_000;

fn main() -> Result<(), Box<dyn Error>> {
    let queries = std::env::args().nth(1).map_or(Ok(QUERIES), |text| text.parse())?;
    let upstream = upstream()?;
    let host = IpAddr::V4(Ipv4Addr::new(10, 0, 1, 11));
    let asked = Upstreams::choose([upstream], &[])?;
    let sockets = Sockets::bind(&[SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0)])?;
    let stub = Stub::waiting(Arc::new(Answers::empty(host)), None);
    stub.begin(sockets, asked)?;
    let through = *stub.addresses().first().ok_or("no address")?;
    let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    client.set_read_timeout(Some(Duration::from_secs(2)))?;
    let mut ways = [
        ("direct", upstream, Vec::new()),
        ("through the floor", floor(upstream)?, Vec::new()),
        ("through the stub", through, Vec::new()),
    ];
    for id in 0..queries {
        let id = u16::try_from(id % 65_536)?;
        for (_, server, times) in &mut ways {
            times.push(ask(&client, *server, id)?);
        }
    }
    println!("{queries} queries each, in turns, one at a time");
    let mut direct = None;
    for (name, _, times) in ways {
        let times = sorted(times);
        let (p50, p99) = (at(&times, 50), at(&times, 99));
        let added = p50.saturating_sub(*direct.get_or_insert(p50));
        println!("{name:<18} p50 {p50:>9.1?}  p99 {p99:>9.1?}  added at p50 {added:>9.1?}");
    }
    println!("{:?}", stub.totals());
    Ok(())
}

/// A server that says NOERROR to everything.
fn upstream() -> Result<SocketAddr, std::io::Error> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = socket.local_addr()?;
    std::thread::spawn(move || {
        let mut room = [0; 4_096];
        while let Ok((length, client)) = socket.recv_from(&mut room) {
            let Some(message) = room.get_mut(..length) else { continue };
            if let Some(flags) = message.get_mut(2) {
                *flags |= 0x80;
            }
            let _ = socket.send_to(message, client);
        }
    });
    Ok(address)
}

/// The least that stands between a client and a server: one thread, two sockets, no checks.
fn floor(server: SocketAddr) -> Result<SocketAddr, std::io::Error> {
    let near = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let far = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    far.connect(server)?;
    let address = near.local_addr()?;
    std::thread::spawn(move || {
        let mut room = [0; 4_096];
        let mut hand_on = || {
            let (length, client) = near.recv_from(&mut room)?;
            far.send(room.get(..length).unwrap_or_default())?;
            let length = far.recv(&mut room)?;
            near.send_to(room.get(..length).unwrap_or_default(), client)
        };
        while hand_on().is_ok() {}
    });
    Ok(address)
}

#[expect(clippy::disallowed_methods, reason = "time is what is measured here")]
fn ask(client: &UdpSocket, server: SocketAddr, id: u16) -> Result<Duration, Box<dyn Error>> {
    let mut query = id.to_be_bytes().to_vec();
    query.extend_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    query.extend_from_slice(b"\x03www\x07example\x03org\x00\x00\x01\x00\x01");
    let mut room = [0; 4_096];
    let start = Instant::now();
    client.send_to(&query, server)?;
    let (length, _) = client.recv_from(&mut room)?;
    let took = start.elapsed();
    if room.get(..length).and_then(|answer| answer.get(..2)) != query.get(..2) {
        return Err("an answer to another question".into());
    }
    Ok(took)
}

fn sorted(mut times: Vec<Duration>) -> Vec<Duration> {
    times.sort_unstable();
    times
}

fn at(times: &[Duration], percent: usize) -> Duration {
    times.get(times.len() * percent / 100).copied().unwrap_or_default()
}
