//! Who answers: two backends that say which they are, and clients with 65 536 addresses each of
//! IPv4 and IPv6.

use std::io::{IoSlice, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::libc::{in_addr, in_pktinfo, in6_addr, in6_pktinfo};
use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrIn, SockaddrIn6, sendmsg};

use crate::netns::{Space, World};
use crate::tables::LOGICAL;

/// Clients of one family.
pub(crate) const CLIENTS: u32 = 1 << 16;
/// Datagrams under way at a time: they fit into a socket's buffer.
const UNDER_WAY: u32 = 64;
/// How often a client asks again.
const TRIES: u32 = 20;
/// How long it waits each time.
const PATIENCE: Duration = Duration::from_millis(200);

/// The two backends, running.
#[derive(Debug)]
pub(crate) struct Backends {
    ends: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Backends {
    /// Starts them on port 8080: the legacy one says `L`, the target `T`.
    pub(crate) fn start(world: &World) -> Self {
        let ends = Arc::new(AtomicBool::new(false));
        let mut threads = Vec::new();
        for (space, letter) in [(&world.legacy, b'L'), (&world.target, b'T')] {
            threads.push(datagrams(space, letter, Arc::clone(&ends)));
            connections(space, letter);
        }
        Self { ends, threads }
    }
}

impl Drop for Backends {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().ok();
        }
    }
}

/// Sends back what came, with the letter behind it.
fn datagrams(space: &Space, letter: u8, ends: Arc<AtomicBool>) -> JoinHandle<()> {
    let socket = space.enter(|| UdpSocket::bind("[::]:8080").unwrap());
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    std::thread::spawn(move || {
        let mut bytes = [0; 64];
        while !ends.load(Ordering::Relaxed) {
            let Ok((length, from)) = socket.recv_from(&mut bytes[..63]) else { continue };
            bytes[length] = letter;
            socket.send_to(&bytes[..=length], from).ok();
        }
    })
}

/// Says the letter for each byte that comes. Ends with the process.
fn connections(space: &Space, letter: u8) {
    let listener = space.enter(|| TcpListener::bind("[::]:8080").unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            std::thread::spawn(move || {
                let mut byte = [0];
                while stream.read_exact(&mut byte).is_ok() && stream.write_all(&[letter]).is_ok() {}
            });
        }
    });
}

/// The source address of a client.
pub(crate) fn address(family: usize, client: u32) -> IpAddr {
    match family {
        0 => IpAddr::V4(Ipv4Addr::from_bits(u32::from(Ipv4Addr::new(10, 20, 0, 0)) | client)),
        _ => {
            let net = Ipv6Addr::new(0xfd20, 0, 0, 0, 0, 0, 0, 0);
            IpAddr::V6(Ipv6Addr::from_bits(u128::from(net) | u128::from(client)))
        }
    }
}

/// Which side answers each client of a family, asked from `port` in the client's namespace.
pub(crate) fn sides(world: &World, family: usize, port: u16) -> Vec<u8> {
    world.client.enter(|| ask_all(family, port))
}

fn ask_all(family: usize, port: u16) -> Vec<u8> {
    let any = ["0.0.0.0", "::"][family];
    let socket = UdpSocket::bind((any, port)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut answers = vec![0; CLIENTS as usize];
    for first in (0..CLIENTS).step_by(UNDER_WAY as usize) {
        let some = first..first + UNDER_WAY;
        for _ in 0..TRIES {
            let left = some.clone().filter(|client| answers[*client as usize] == 0);
            let left: Vec<_> = left.collect();
            for client in &left {
                send_from(&socket, address(family, *client), *client);
            }
            let mut missing = left.len();
            let mut bytes = [0; 8];
            while missing > 0 {
                let Ok((5, _)) = socket.recv_from(&mut bytes) else { break };
                let client = u32::from_be_bytes(bytes[..4].try_into().unwrap());
                missing -= usize::from(answers[client as usize] == 0);
                answers[client as usize] = bytes[4];
            }
            if missing == 0 {
                break;
            }
        }
    }
    answers
}

/// One datagram to the logical address, with the client's number in it.
fn send_from(socket: &UdpSocket, source: IpAddr, client: u32) {
    let fd = socket.as_raw_fd();
    let number = client.to_be_bytes();
    let data = [IoSlice::new(&number)];
    let to = SocketAddr::new(LOGICAL[usize::from(source.is_ipv6())].parse().unwrap(), 8080);
    match (source, to) {
        (IpAddr::V4(from), SocketAddr::V4(to)) => {
            let spec = in_addr { s_addr: u32::from_ne_bytes(from.octets()) };
            let info =
                in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: spec, ipi_addr: in_addr { s_addr: 0 } };
            let control = [ControlMessage::Ipv4PacketInfo(&info)];
            let to = SockaddrIn::from(to);
            sendmsg(fd, &data, &control, MsgFlags::empty(), Some(&to)).unwrap();
        }
        (IpAddr::V6(from), SocketAddr::V6(to)) => {
            let info =
                in6_pktinfo { ipi6_addr: in6_addr { s6_addr: from.octets() }, ipi6_ifindex: 0 };
            let control = [ControlMessage::Ipv6PacketInfo(&info)];
            let to = SockaddrIn6::from(to);
            sendmsg(fd, &data, &control, MsgFlags::empty(), Some(&to)).unwrap();
        }
        _ => unreachable!("both are of one family"),
    }
}
