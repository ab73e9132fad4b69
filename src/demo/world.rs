//! The demo's two sides: HTTP backends on loopback, VMs and pods alike.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use plan::Side;
use tokio::net::TcpListener;

use super::crowd::PROXIED;

/// The logical address, where the demo's proxy listens.
pub(crate) const PROXY: Ipv4Addr = Ipv4Addr::new(127, 30, 0, 1);
/// Three machines a side, so that endpoint choice inside a side is seen, too.
const MACHINES: u8 = 3;
/// A port that is free on one address is nearly always free on the others.
const PORT_TRIES: usize = 20;

/// Where both sides are reached.
#[derive(Clone, Debug)]
pub(crate) struct World {
    /// The VMs.
    pub(crate) legacy: Vec<IpAddr>,
    /// The pods.
    pub(crate) target: Vec<IpAddr>,
    /// The port of all of them.
    pub(crate) port: u16,
}

impl World {
    /// Starts all backends; they run until the process ends.
    ///
    /// # Errors
    /// No port is free on all addresses.
    pub(crate) async fn start() -> io::Result<Self> {
        let address =
            |side: u8| move |machine: u8| IpAddr::from(Ipv4Addr::new(127, side, 0, machine));
        let legacy: Vec<IpAddr> = (1..=MACHINES).map(address(10)).collect();
        let target: Vec<IpAddr> = (1..=MACHINES).map(address(20)).collect();
        // The proxy's port is taken by trying, too, and then left to it.
        let proxy = [IpAddr::from(PROXY)];
        let all: Vec<IpAddr> = legacy.iter().chain(&target).chain(&proxy).copied().collect();
        let (port, mut listeners) = bind_all(&all).await?;
        listeners.pop();
        for (listener, address) in listeners.into_iter().zip(all) {
            let side = if legacy.contains(&address) { Side::Legacy } else { Side::Target };
            tokio::spawn(serve(listener, format!("{side} {address}\n")));
        }
        Ok(Self { legacy, target, port })
    }

    /// The plan that moves `orders` from one side to the other. With a proxy, those behind it are
    /// told its address and split by it.
    pub(crate) fn plan(&self, proxy: bool) -> String {
        let network = format!("127.{PROXIED}.0.0/16");
        let (clients, address) = match proxy {
            true => (
                format!("  clients: [{{ networks: [{network}], plane: mesh }}]\n"),
                format!("      address: {PROXY}\n"),
            ),
            false => (String::new(), String::new()),
        };
        let list = |addresses: &[IpAddr]| {
            addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
        };
        format!(
            "apiVersion: crossfade.dev/v1alpha1
kind: CutoverPlan
metadata: {{ name: demo }}
spec:
  zones:
    - name: shop.example.
      ttl: {{ steady: 2s, shifting: 1s }}
{clients}  services:
    - name: orders
      hosts: [orders.shop.example]
{address}      ports: [{{ name: http, port: {port}, protocol: http }}]
      legacy: {{ endpoints: [{legacy}] }}
      target: {{ endpoints: [{target}] }}
  steps:
    - {{ split: 1%, bake: 10m }}
    - {{ split: 10%, bake: 30m }}
    - {{ split: 50%, bake: 2h }}
    - {{ split: 100%, bake: 24h }}
",
            port = self.port,
            legacy = list(&self.legacy),
            target = list(&self.target),
        )
    }
}

async fn bind_all(addresses: &[IpAddr]) -> io::Result<(u16, Vec<TcpListener>)> {
    let mut last = io::Error::from(io::ErrorKind::AddrInUse);
    for _ in 0..PORT_TRIES {
        match bind_on_one_port(addresses).await {
            Ok(bound) => return Ok(bound),
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn bind_on_one_port(addresses: &[IpAddr]) -> io::Result<(u16, Vec<TcpListener>)> {
    let mut port = 0;
    let mut listeners = Vec::new();
    for address in addresses {
        let listener = TcpListener::bind(SocketAddr::new(*address, port)).await?;
        port = listener.local_addr()?.port();
        listeners.push(listener);
    }
    Ok((port, listeners))
}

async fn serve(listener: TcpListener, greeting: String) {
    let greeting = Bytes::from(greeting);
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let greeting = greeting.clone();
        let answer = service_fn(move |_: Request<hyper::body::Incoming>| {
            let greeting = greeting.clone();
            async move { Ok::<_, Infallible>(Response::new(Full::new(greeting))) }
        });
        // A client that breaks off is the client's affair.
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
    }
}
