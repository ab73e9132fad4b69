//! What the kernel does with a client, said from the plan alone: for tests, which hold compiled
//! rules against it.

mod tests;

use std::net::{IpAddr, SocketAddr};

use plan::split::Side;
use plan::{Plane, ServiceId, Split, bucket, choice};
use xds::own::HostTable;

use crate::rules::compile;
use crate::rules::host::Host;
use crate::rules::keys::{Held, Keys};
use crate::rules::local::{Lane, Local, Way, plane_of};
use crate::rules::table::{Family, Key, Transport};

/// Somebody who opens a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Client {
    /// The address that its packets carry.
    pub source: IpAddr,
    /// Where they go.
    pub key: Key,
    /// Where it runs.
    pub origin: Origin,
}

/// Where a client runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// Elsewhere: its packets arrive.
    Network,
    /// On this host, but not as the agent or the Envoy beside it.
    Host,
}

/// What becomes of a new flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Decision {
    /// Whose destination it is.
    pub service: ServiceId,
    /// What is done.
    pub fate: Fate,
    /// It is a straggler that is sent on to target.
    pub caught: bool,
}

/// What is done with a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Nothing; it goes where it goes.
    LeftAlone(Why),
    /// The local Envoy takes it, at this port.
    Captured(u16),
    /// Each flow is drawn anew, with this share for target; so is the endpoint.
    Drawn(Split),
    /// It is counted on this side.
    Sent {
        /// Which.
        side: Side,
        /// Where it goes; `None`: where it went anyway.
        endpoint: Option<SocketAddr>,
        /// It leaves with an address of this host.
        masqueraded: bool,
    },
}

/// Why a flow is left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// It comes from a gateway of the target, of the same plan.
    Gateway,
    /// It comes from a network that the host exempts.
    Exempt,
    /// Another plane splits its client.
    Plane(Plane),
    /// It is at an address of this host itself, and not everyone is on target.
    AtHome,
}

/// What becomes of a new flow of this client; `None`: no service is where it goes. `table` must be
/// one that [`compile::compile`] takes.
pub(super) fn predict(table: &HostTable, host: &Host, client: Client) -> Option<Decision> {
    let locals = compile::locals(table, host);
    let held = Keys::of(&locals).held.get(&client.key).copied()?;
    let (Held::Logical(at) | Held::Own(at)) = held;
    let local = locals.get(at)?;
    let logical = matches!(held, Held::Logical(_));
    let (fate, caught) = match client.origin {
        Origin::Host if logical => (own(local, client), false),
        Origin::Host => return None,
        Origin::Network => arriving(local, logical, client),
    };
    Some(Decision { service: local.leaf.id.clone(), fate, caught })
}

fn own(local: &Local<'_>, client: Client) -> Fate {
    match local.captured() {
        Some(capture) if client.key.transport == Transport::Tcp => Fate::Captured(capture.port),
        _ if local.own_left_alone() => Fate::LeftAlone(Why::Plane(Plane::Mesh)),
        _ => split(local, local.host.address, client),
    }
}

fn arriving(local: &Local<'_>, logical: bool, client: Client) -> (Fate, bool) {
    let within = |nets: &[ipnet::IpNet]| nets.iter().any(|net| net.contains(&client.source));
    if within(&local.host.exempt) {
        return (Fate::LeftAlone(Why::Exempt), false);
    }
    if local.egress().any(|net| net.contains(&client.source)) {
        return (Fate::LeftAlone(Why::Gateway), false);
    }
    let plane = plane_of(local.leaf, client.source);
    if logical && plane == Plane::Host {
        return (split(local, client.source, client), false);
    }
    if logical && !local.is_here() {
        return (Fate::LeftAlone(Why::Plane(plane)), false);
    }
    if !local.catches(Family::of(client.key.address)) {
        return (Fate::LeftAlone(Why::AtHome), false);
    }
    (on(local, Side::Target, client, true), true)
}

/// The side of one who is split: `who` is the client that counts.
fn split(local: &Local<'_>, who: IpAddr, client: Client) -> Fate {
    if local.draws() {
        return Fate::Drawn(local.split());
    }
    on(local, bucket::host(who, local.leaf.salt).side(local.split()), client, false)
}

fn on(local: &Local<'_>, side: Side, client: Client, caught: bool) -> Fate {
    if local.draws() {
        return Fate::Drawn(if side == Side::Target { Split::TARGET } else { Split::LEGACY });
    }
    let family = Family::of(client.key.address);
    let endpoints = local.endpoints(side, family);
    let at = choice::endpoint(client.source, local.leaf.salt, endpoints.len());
    let lanes = endpoints.get(at).map(|endpoint| local.lanes(side, *endpoint));
    let fits = |lane: &Lane| lane.transport.is_none_or(|of| of == client.key.transport);
    let way = lanes.into_iter().flatten().find(fits).map_or(Way::Stay, |lane| lane.way);
    let endpoint = match way {
        Way::Stay => None,
        Way::To(to) if to.port() == 0 => Some(SocketAddr::new(to.ip(), client.key.port)),
        Way::To(to) => Some(to),
    };
    let here = SocketAddr::new(client.key.address, client.key.port);
    let leaves = |to: &SocketAddr| *to != here && !local.host.own.contains(&to.ip());
    let returns = |to: &SocketAddr| {
        let proved = local.keeps_source(side) && client.origin == Origin::Network && !caught;
        proved && client.source != to.ip()
    };
    let masqueraded = endpoint.is_some_and(|to| leaves(&to) && !returns(&to));
    Fate::Sent { side, endpoint, masqueraded }
}
