//! What is to be proved: from which addresses, to which endpoints.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;
use plan::snapshot::Service;
use plan::split::Side;
use plan::{Plane, ServiceId};

use crate::rules::forwarded::{Forwarded, forwarded, is_client};
use crate::rules::{Family, Host};

/// One thing to prove: what this endpoint answers to this address comes by way of this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ask {
    /// An address of a client network.
    pub from: IpAddr,
    /// An endpoint.
    pub to: SocketAddr,
}

/// Everything that is to be proved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The addresses to leave with, for [`Host::sources`].
    pub sources: Vec<IpAddr>,
    /// What must be proved for each side of a service whose flows keep their source; or why it
    /// cannot be.
    pub sides: BTreeMap<(ServiceId, Side), Result<BTreeSet<Ask>, Why>>,
}

/// Why nothing can be proved.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    /// Answers to a few addresses say nothing of so many networks.
    #[error("{0} is too wide for an address in it to stand for all of it")]
    Wide(IpNet),
    /// Nobody could be a client.
    #[error("{0} has no address that could be a client's")]
    Nobody(IpNet),
    /// Datagrams are answered by whom it pleases.
    #[error("only TCP answers for sure, and it has no TCP port")]
    NoTcp,
    /// The agent would be more than a nuisance.
    #[error(
        "it would need more than {} addresses or {} connections for all services",
        Wanted::SOURCES_MAX,
        Wanted::ASKS_MAX
    )]
    Many,
}

impl Wanted {
    /// The most addresses to leave with: each is a rule for the agent's own flows.
    pub const SOURCES_MAX: usize = 128;
    /// The most things to prove: [`super::Proofs::AT_ONCE`] at a time, all of them take their time.
    pub const ASKS_MAX: usize = 1_024;
    /// The widest networks that a few addresses stand for: an organisation's own.
    const LENGTH_MIN_V4: u8 = 8;
    const LENGTH_MIN_V6: u8 = 32;
    /// How many addresses are tried, from either end of a network, for one that can be a client's.
    const TRIES: u32 = 64;

    /// What these services need.
    pub fn of(services: &[Arc<Service>], host: &Host) -> Self {
        let mut wanted = Self::default();
        let mut all = BTreeSet::new();
        for leaf in services.iter().filter(|leaf| leaf.spec.preserve_source) {
            for side in forwarded(leaf, host) {
                let asks = asks(leaf, host, &side);
                let asks = asks.and_then(|asks| wanted.take(&mut all, asks));
                wanted.sides.insert((leaf.id.clone(), side.side), asks);
            }
        }
        wanted
    }

    /// Makes room for more, or not.
    fn take(&mut self, all: &mut BTreeSet<Ask>, asks: BTreeSet<Ask>) -> Result<BTreeSet<Ask>, Why> {
        let known: BTreeSet<IpAddr> = self.sources.iter().copied().collect();
        let sources: BTreeSet<IpAddr> = asks.iter().map(|ask| ask.from).collect();
        let new: Vec<IpAddr> = sources.difference(&known).copied().collect();
        let more = asks.difference(all).count();
        if self.sources.len() + new.len() > Self::SOURCES_MAX || all.len() + more > Self::ASKS_MAX {
            return Err(Why::Many);
        }
        self.sources.extend(new);
        all.extend(asks.iter().copied());
        Ok(asks)
    }

    /// Each thing to prove, once.
    pub fn asks(&self) -> BTreeSet<Ask> {
        self.sides.values().flatten().flatten().copied().collect()
    }
}

/// Both ends of each client network, and who is next to an endpoint within it: a server answers its
/// neighbours directly.
fn asks(leaf: &Service, host: &Host, side: &Forwarded) -> Result<BTreeSet<Ask>, Why> {
    let endpoints = side.to.as_ref().ok_or(Why::NoTcp)?;
    let mut asks = BTreeSet::new();
    let rows = leaf.clients.rows.iter().filter(|row| row.plane == Plane::Host);
    let nets = rows.flat_map(|row| &row.networks);
    for net in nets.filter(|net| Family::of(net.addr()) == side.family) {
        let least = match net {
            IpNet::V4(_) => Wanted::LENGTH_MIN_V4,
            IpNet::V6(_) => Wanted::LENGTH_MIN_V6,
        };
        if net.prefix_len() < least {
            return Err(Why::Wide(*net));
        }
        let fits = |who: IpAddr| is_client(leaf, host, who);
        let (first, last) = ends(*net);
        let near = |from: u128, way| nearest(*net, from, way, fits);
        let mut sources: BTreeSet<IpAddr> =
            [near(first, Way::Up), near(last, Way::Down)].into_iter().flatten().collect();
        for to in endpoints.iter().filter(|to| net.contains(&to.ip())) {
            let at = number(to.ip());
            let up = at.checked_add(1).and_then(|at| near(at, Way::Up));
            let down = at.checked_sub(1).and_then(|at| near(at, Way::Down));
            sources.extend(up.into_iter().chain(down));
        }
        // A single address that is an endpoint's is masqueraded anyway, and this host's own is
        // nobody's.
        let alone = net.prefix_len() == net.max_prefix_len();
        if sources.is_empty() && !alone {
            return Err(Why::Nobody(*net));
        }
        let pairs = sources.iter().flat_map(|from| endpoints.iter().map(move |to| (*from, *to)));
        asks.extend(pairs.map(|(from, to)| Ask { from, to }));
    }
    Ok(asks)
}

#[derive(Clone, Copy, Debug)]
enum Way {
    Up,
    Down,
}

/// The first address on the way from `at` that fits.
fn nearest(net: IpNet, at: u128, way: Way, fits: impl Fn(IpAddr) -> bool) -> Option<IpAddr> {
    let (first, last) = ends(net);
    let mut at = Some(at);
    for _ in 0..Wanted::TRIES {
        let here = at.filter(|at| (first..=last).contains(at))?;
        let who = address(net, here);
        if fits(who) {
            return Some(who);
        }
        at = match way {
            Way::Up => here.checked_add(1),
            Way::Down => here.checked_sub(1),
        };
    }
    None
}

/// The first and the last that a machine can have: not the network's own, nor its broadcast.
fn ends(net: IpNet) -> (u128, u128) {
    let (first, last) = (number(net.network()), number(net.broadcast()));
    match net.max_prefix_len() - net.prefix_len() {
        0 | 1 => (first, last),
        _ => (first.saturating_add(1), last.saturating_sub(1)),
    }
}

fn number(of: IpAddr) -> u128 {
    match of {
        IpAddr::V4(v4) => u128::from(u32::from(v4)),
        IpAddr::V6(v6) => u128::from(v6),
    }
}

fn address(net: IpNet, number: u128) -> IpAddr {
    match net {
        IpNet::V4(_) => Ipv4Addr::from(u32::try_from(number).unwrap_or(u32::MAX)).into(),
        IpNet::V6(_) => Ipv6Addr::from(number).into(),
    }
}
