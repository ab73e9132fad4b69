//! This host as it is now, looked at again and again: its addresses, and what no rule may touch.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use agent::doctor;
use agent::names::upstream::ResolvConf;
use agent::rules::{Forbidden, Host};
use ipnet::IpNet;
use nix::ifaddrs::getifaddrs;
use tokio::sync::{mpsc, watch};
use tokio::time::MissedTickBehavior;

use crate::disk;
use crate::host::actor::{Ask, Shared};
use crate::host::controllers::Controllers;
use crate::host::envoy::{Beside, Shown};
use crate::host::files::Settings;
use crate::host::names;
use crate::host::returns::Proved;
use crate::verbs::chain;

/// How often the host is looked at.
const EVERY: Duration = Duration::from_secs(2);

/// Where the addresses of this host are kept.
const ADDRESSES: &str = "addresses.json";

/// The port of DNS.
const DNS: u16 = 53;

/// This host as it is now. Nobody is asked for it: names of controllers are as they were found.
/// Without settings, as where an agent follows loopback for a try, or where they cannot be read.
pub(super) fn host(
    directory: &Path,
    settings: Option<&Settings>,
    controllers: &Controllers,
) -> Host {
    of(directory, settings, controllers, own_addresses())
}

/// The same for a command, which has looked up nothing.
pub(crate) fn kept(directory: &Path, settings: Option<&Settings>) -> Host {
    host(directory, settings, &Controllers::kept(directory, settings))
}

/// The same before the network is up, when interfaces have no addresses yet: those that the agent
/// saw last are the host's.
pub(crate) fn at_boot(directory: &Path, settings: Option<&Settings>) -> Host {
    let kept: Option<BTreeSet<IpAddr>> = disk::read(directory, ADDRESSES).unwrap_or_else(|error| {
        eprintln!("crossfade: {}; going on without", chain(&error));
        None
    });
    let own = own_addresses().into_iter().chain(kept.unwrap_or_default());
    of(directory, settings, &Controllers::kept(directory, settings), own.collect())
}

fn of(
    directory: &Path,
    settings: Option<&Settings>,
    controllers: &Controllers,
    own: BTreeSet<IpAddr>,
) -> Host {
    let mut host = unguarded(settings, own);
    host.forbidden = forbidden(directory, controllers, &host.own);
    host
}

/// The same without what no rule may touch.
fn unguarded(settings: Option<&Settings>, own: BTreeSet<IpAddr>) -> Host {
    let address =
        settings.map_or_else(|| IpAddr::from([127, 0, 0, 1]), |settings| settings.address);
    let mut host = Host::new(address);
    host.own.extend(own);
    if let Some(settings) = settings {
        host.exempt.clone_from(&settings.exempt);
        host.carries = settings.envoy.is_some();
    }
    host
}

/// The addresses of this host's interfaces, without loopback and link-local ones.
pub(crate) fn own_addresses() -> BTreeSet<IpAddr> {
    let found = match getifaddrs() {
        Ok(found) => found,
        Err(error) => {
            tracing::error!(%error, "this host's addresses cannot be read");
            return BTreeSet::new();
        }
    };
    let addresses = found.filter_map(|interface| {
        let address = interface.address?;
        let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
    });
    addresses.filter(|address| !address.is_loopback() && !is_link_local(*address)).collect()
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

/// What no rule may be about: where we are led from, and where the operator comes in.
fn forbidden(
    directory: &Path,
    controllers: &Controllers,
    own: &BTreeSet<IpAddr>,
) -> Vec<Forbidden> {
    let at = |address: SocketAddr, why: &str| Forbidden {
        net: IpNet::from(address.ip()),
        port: Some(address.port()),
        why: why.to_owned(),
    };
    // A controller may run where services do; its own port is what must stay.
    let controllers = controllers.addresses().map(|address| at(address, "where the controller is"));
    let root = Path::new("/");
    let sessions = doctor::ssh_sessions(root).into_iter().map(|session| session.local);
    let ports = doctor::ssh_ports(root);
    let managed = own.iter().flat_map(|ip| ports.iter().map(|port| SocketAddr::new(*ip, *port)));
    // Many sessions are one port.
    let managed: BTreeSet<_> = managed.chain(sessions).collect();
    let ssh = managed.into_iter().map(|address| at(address, "where this host is managed by SSH"));
    let asked = name_servers().into_iter().map(|address| SocketAddr::new(address, DNS));
    // Where the host asks us, those that we ask stand in no file of its own.
    let asked = asked.chain(names::asked(directory)).filter(|asked| !asked.ip().is_loopback());
    let asked: BTreeSet<_> = asked.collect();
    let resolvers = asked.into_iter().map(|address| at(address, "where this host asks for names"));
    controllers.chain(ssh).chain(resolvers).collect()
}

/// Whom this host asks for names by its own files.
fn name_servers() -> Vec<IpAddr> {
    let sources = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"];
    let texts = sources.iter().filter_map(|source| std::fs::read(source).ok());
    let servers = texts.flat_map(|text| {
        let conf = ResolvConf::parse(&text);
        conf.nameservers().map(|server| server.address).collect::<Vec<_>>()
    });
    servers.collect()
}

/// What others find out of this host.
pub(super) struct News {
    /// Whether the Envoy beside the agent is well.
    capture: watch::Receiver<Shown>,
    /// Which servers answer by way of this host.
    proved: watch::Receiver<Proved>,
    /// Where the controllers are.
    controllers: watch::Receiver<Controllers>,
}

impl News {
    pub(super) fn of(
        beside: &Beside,
        proved: watch::Receiver<Proved>,
        controllers: &watch::Sender<Controllers>,
    ) -> Self {
        Self { capture: beside.shown(), proved, controllers: controllers.subscribe() }
    }
}

/// Looks again and again, and tells the actor what changed.
pub(super) async fn go_on(
    directory: &Path,
    settings: &Settings,
    world: Shared,
    asks: mpsc::Sender<Ask>,
    News { mut capture, mut proved, mut controllers }: News,
) {
    let mut known = world.lock().host.clone();
    keep(directory, &known.own);
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        // Who is not well any more is not to wait for files to be read.
        let is_due = tokio::select! {
            // Without an Envoy nobody says anything more.
            Ok(()) = capture.changed() => false,
            Ok(()) = proved.changed() => false,
            Ok(()) = controllers.changed() => true,
            _ = tick.tick() => true,
        };
        let mut host = known.clone();
        if is_due {
            let at = controllers.borrow_and_update().clone();
            host = look(directory, settings, at).await.unwrap_or(host);
        }
        host.capture = capture.borrow_and_update().capture();
        proved.borrow_and_update().tell(&mut host);
        if host == known {
            continue;
        }
        if host.own != known.own {
            tracing::info!(addresses = ?host.own, "other addresses are this host's now");
            keep(directory, &host.own);
        }
        if host.forbidden != known.forbidden {
            tracing::info!("no rule may touch other addresses than before");
        }
        known = host;
        if asks.send(Ask::Host(Box::new(known.clone()))).await.is_err() {
            return;
        }
    }
}

/// For [`at_boot`].
fn keep(directory: &Path, own: &BTreeSet<IpAddr>) {
    let kept: Option<BTreeSet<IpAddr>> = disk::read(directory, ADDRESSES).ok().flatten();
    if kept.as_ref() == Some(own) {
        return;
    }
    if let Err(error) = disk::put(directory, ADDRESSES, own) {
        tracing::error!(why = %chain(&error), "this host's addresses cannot be kept");
    }
}

/// Looks at files, and at connections, which may be many; `None`: it cannot be done now.
async fn look(directory: &Path, settings: &Settings, controllers: Controllers) -> Option<Host> {
    let (directory, settings) = (directory.to_owned(), settings.clone());
    let looking = tokio::task::spawn_blocking(move || {
        // A host without any is one whose addresses are just being changed, or cannot be read.
        let is_addressed = !own_addresses().is_empty();
        is_addressed.then(|| host(&directory, Some(&settings), &controllers))
    });
    match looking.await {
        Ok(host) => host,
        Err(error) => {
            tracing::error!(why = %chain(&error), "the host cannot be looked at");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_known_before_the_network_is_up() {
        let directory =
            std::env::temp_dir().join(format!("crossfade-addresses-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let further: IpAddr = "192.0.2.77".parse().unwrap();
        let has = |host: &Host| host.own.contains(&further);
        assert!(!has(&at_boot(&directory, None)));
        keep(&directory, &[further].into());
        assert!(has(&at_boot(&directory, None)));
        // Whoever looks when it is up believes what is seen.
        assert!(!has(&kept(&directory, None)));
        keep(&directory, &BTreeSet::new());
        assert!(!has(&at_boot(&directory, None)));
        std::fs::write(directory.join(ADDRESSES), "{ cut").unwrap();
        assert_eq!(at_boot(&directory, None).own, kept(&directory, None).own);
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
