//! The demo's clients: each has an address of its own, resolves over real DNS, keeps an answer for
//! its TTL, connects and remembers where it landed.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RData, RecordType};
use http_body_util::{BodyExt as _, Empty};
use hyper::Request;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use plan::Side;
use tokio::net::{TcpSocket, UdpSocket};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

/// How many clients there are.
pub(crate) const CLIENTS: usize = 1_000;
/// Clients at work at once: a few sockets each, well under the usual limit of 1 024.
const AT_ONCE: usize = 100;
/// Clients behind the proxy are in 127.2.0.0/16.
pub(crate) const PROXIED: u8 = 2;
/// Loopback loses nothing; only a stopped server takes this long.
const PATIENCE: Duration = Duration::from_secs(3);
/// The longest answer over UDP without EDNS (RFC 1035 section 2.3.4).
const ANSWER_BYTES_MAX: usize = 512;

/// All clients.
pub(crate) struct Crowd {
    name: Name,
    dns: SocketAddr,
    port: u16,
    clients: Vec<Client>,
    /// How many of them stand behind a proxy.
    pub(crate) proxied: usize,
}

/// One client.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    /// Its own address.
    pub(crate) address: IpAddr,
    /// Whether a proxy splits it.
    proxied: bool,
    /// Where it landed last.
    pub(crate) landed: Option<Side>,
    cached: Option<(Vec<IpAddr>, Instant)>,
    visits: usize,
}

/// What one round of all clients saw.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Round {
    /// Landed on target.
    pub(crate) target: usize,
    /// Those of them that stand behind a proxy.
    pub(crate) proxied_target: usize,
    /// Moved from legacy to target since the round before.
    pub(crate) forward: usize,
    /// Moved from target to legacy since the round before.
    pub(crate) back: usize,
    /// Did not get an answer or a connection.
    pub(crate) failed: usize,
}

impl Crowd {
    /// Clients of `name`, which is resolved at `dns` and connected to at `port`. Where there is a
    /// proxy, every second one stands behind it: its address is in [`PROXIED`].
    pub(crate) fn new(name: Name, dns: SocketAddr, port: u16, proxy: bool) -> Self {
        // 127.1.0.1 to 127.1.255.250: 250 hosts a network, so that no address is a broadcast one.
        let places = (0..=u8::MAX).flat_map(|net| (1..=250).map(move |host| (net, host)));
        let client = |(nth, (net, host)): (usize, (u8, u8))| {
            let proxied = proxy && nth % 2 == 1;
            let network = if proxied { PROXIED } else { 1 };
            let address = IpAddr::from(Ipv4Addr::from([127, network, net, host]));
            Client { address, proxied, landed: None, cached: None, visits: 0 }
        };
        let clients: Vec<Client> = places.take(CLIENTS).enumerate().map(client).collect();
        let proxied = clients.iter().filter(|client| client.proxied).count();
        Self { name, dns, port, clients, proxied }
    }

    /// Every client goes to its service once.
    pub(crate) async fn round(&mut self) -> Round {
        let mut round = Round::default();
        let mut going = JoinSet::new();
        let mut done: Vec<Client> = Vec::with_capacity(self.clients.len());
        for client in std::mem::take(&mut self.clients) {
            if going.len() >= AT_ONCE {
                collect(going.join_next().await, &mut done, &mut round);
            }
            going.spawn(client.visit(self.name.clone(), self.dns, self.port));
        }
        while !going.is_empty() {
            collect(going.join_next().await, &mut done, &mut round);
        }
        self.clients = done;
        round
    }

    /// When the last cached answer runs out.
    pub(crate) fn cached_until(&self) -> Option<Instant> {
        self.clients.iter().filter_map(|client| Some(client.cached.as_ref()?.1)).max()
    }
}

fn collect(
    joined: Option<Result<(Client, io::Result<Side>), tokio::task::JoinError>>,
    done: &mut Vec<Client>,
    round: &mut Round,
) {
    let Some(Ok((mut client, reached))) = joined else { return };
    match reached {
        Err(_) => round.failed += 1,
        Ok(side) => {
            match (client.landed, side) {
                (Some(Side::Legacy), Side::Target) => round.forward += 1,
                (Some(Side::Target), Side::Legacy) => round.back += 1,
                _ => {}
            }
            round.target += usize::from(side == Side::Target);
            round.proxied_target += usize::from(side == Side::Target && client.proxied);
            client.landed = Some(side);
        }
    }
    done.push(client);
}

impl Client {
    async fn visit(mut self, name: Name, dns: SocketAddr, port: u16) -> (Self, io::Result<Side>) {
        let reached = self.reach(&name, dns, port).await;
        (self, reached)
    }

    async fn reach(&mut self, name: &Name, dns: SocketAddr, port: u16) -> io::Result<Side> {
        let now = Instant::now();
        if self.cached.as_ref().is_none_or(|(_, until)| *until <= now) {
            let (addresses, ttl) = timeout(PATIENCE, self.resolve(name, dns)).await??;
            self.cached = Some((addresses, now + ttl));
        }
        let addresses = self.cached.as_ref().map(|(addresses, _)| addresses.as_slice());
        let addresses = addresses.unwrap_or_default();
        // As real clients do: another of the addresses each time.
        let nth = self.visits.checked_rem(addresses.len()).unwrap_or(0);
        let address = *addresses.get(nth).ok_or(io::ErrorKind::NotFound)?;
        self.visits += 1;
        timeout(PATIENCE, self.connect(SocketAddr::new(address, port))).await?
    }

    /// One query over UDP from the client's own address (RFC 1035).
    async fn resolve(&self, name: &Name, dns: SocketAddr) -> io::Result<(Vec<IpAddr>, Duration)> {
        let id = u16::try_from(self.visits % usize::from(u16::MAX)).unwrap_or(0);
        let mut query = Message::new(id, MessageType::Query, OpCode::Query);
        query.add_query(Query::query(name.clone(), RecordType::A));
        let socket = UdpSocket::bind(SocketAddr::new(self.address, 0)).await?;
        socket.connect(dns).await?;
        socket.send(&query.to_vec().map_err(io::Error::other)?).await?;
        let mut buffer = [0; ANSWER_BYTES_MAX];
        let length = socket.recv(&mut buffer).await?;
        let bytes = buffer.get(..length).unwrap_or_default();
        let answer = Message::from_vec(bytes).map_err(io::Error::other)?;
        let records = answer.answers.iter().filter_map(|record| {
            let RData::A(a) = &record.data else { return None };
            Some((IpAddr::from(a.0), record.ttl))
        });
        let (addresses, ttls): (Vec<IpAddr>, Vec<u32>) = records.unzip();
        let ttl = ttls.into_iter().min().unwrap_or(0);
        Ok((addresses, Duration::from_secs(u64::from(ttl))))
    }

    /// One HTTP request from the client's own address.
    async fn connect(&self, to: SocketAddr) -> io::Result<Side> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::new(self.address, 0))?;
        let stream = TokioIo::new(socket.connect(to).await?);
        let broken = io::Error::other::<hyper::Error>;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(stream).await.map_err(broken)?;
        tokio::spawn(connection);
        let request = Request::get("/").header("host", "orders.shop.example");
        let request = request.body(Empty::<Bytes>::new()).map_err(io::Error::other)?;
        let answer = sender.send_request(request).await.map_err(broken)?;
        let body = answer.into_body().collect().await.map_err(broken)?.to_bytes();
        match body.split(|byte| *byte == b' ').next() {
            Some(b"legacy") => Ok(Side::Legacy),
            Some(b"target") => Ok(Side::Target),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}
