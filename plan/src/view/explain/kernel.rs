//! What the kernel of a VM does with a client's new connection.
//!
//! The agent's rules say the same; a test beside them holds the two together. What only the VM
//! knows is left out: networks that it exempts, and its own processes, which are one client there.

use std::net::IpAddr;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::bucket;
use crate::choice;
use crate::client::row_of;
use crate::endpoint::Endpoint;
use crate::snapshot::Service;
use crate::spec::{Affinity, Plane};
use crate::split::{Side, Split};

/// What the kernel of a VM does with a client's new connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KernelView {
    /// The egress network of a gateway that the client is in: it is left alone there, neither
    /// split nor caught.
    pub egress: Option<String>,
    /// The side of a connection to the logical address; `null` where it is left alone or drawn
    /// anew.
    pub side: Option<Side>,
    /// The endpoint that it goes to there; without a port it is the service's own.
    pub endpoint: Option<Endpoint>,
    /// The endpoint that a connection to an address of the VM itself goes on to, where this client
    /// is a straggler: at exactly 100 %. `null` also where it is drawn anew.
    pub straggler: Option<Endpoint>,
    /// What else there is to know, in words.
    pub note: String,
}

/// What the kernel of a VM does with a new connection of this client, which runs elsewhere; `None`
/// where the service has no logical address.
pub fn kernel(service: &Service, client: IpAddr) -> Option<KernelView> {
    let logical = service.spec.address?;
    let egress = egress(service, client).map(ToString::to_string);
    if egress.is_some() {
        let note = "a gateway of the target: never split, never caught".to_owned();
        return Some(KernelView { egress, side: None, endpoint: None, straggler: None, note });
    }
    let (_, plane) = row_of(&service.clients, client);
    let reaches = client.is_ipv4() == logical.is_ipv4();
    let splits = plane == Plane::Host && reaches;
    let sticky = service.spec.affinity != Affinity::None;
    let here = service.serving.split();
    let has_target = !endpoints(service, Side::Target, client).is_empty();
    let split = if has_target { here } else { Split::LEGACY };
    let side = match split {
        Split::LEGACY => Some(Side::Legacy),
        Split::TARGET => Some(Side::Target),
        _ => sticky.then(|| bucket::host(client, service.salt).side(split)),
    };
    let side = side.filter(|_| splits);
    let chosen = |side| chosen(service, side, client).filter(|_| sticky);
    let endpoint = side.and_then(chosen);
    let straggler = (here == Split::TARGET).then(|| chosen(Side::Target)).flatten();
    let note = note(service, (splits, plane), has_target, here);
    Some(KernelView { egress, side, endpoint, straggler, note })
}

fn note(
    service: &Service,
    (splits, plane): (bool, Plane),
    has_target: bool,
    split: Split,
) -> String {
    let mut notes = Vec::new();
    if !splits && plane == Plane::Host {
        notes.push("the logical address is of another family".to_owned());
    } else if !splits {
        notes.push(format!("left alone at the logical address; {plane} splits it"));
    } else if service.spec.affinity == Affinity::None {
        notes.push("every connection is drawn anew, and so is its endpoint".to_owned());
    }
    if !has_target && split > Split::LEGACY {
        notes.push("target has no address of its family: legacy".to_owned());
    }
    if service.spec.preserve_source {
        notes.push(
            "servers see its address where the VM proved the way back, and else the VM's: \
             crossfade agent status"
                .to_owned(),
        );
    }
    notes.join("; ")
}

/// Whether a rising split moves this client's connections, where the host plane splits it.
pub(super) fn moves(service: &Service, client: IpAddr) -> bool {
    let reaches = |logical: IpAddr| client.is_ipv4() == logical.is_ipv4();
    egress(service, client).is_none()
        && service.spec.address.is_none_or(reaches)
        && !endpoints(service, Side::Target, client).is_empty()
}

/// The network of the target's gateways that this client is in.
fn egress(service: &Service, client: IpAddr) -> Option<&IpNet> {
    let mut gateways = service.gateways.iter().flat_map(|gateway| &gateway.egress);
    gateways.find(|net| net.contains(&client))
}

/// Those of a side that this client's packets can reach.
fn endpoints(service: &Service, side: Side, client: IpAddr) -> Vec<Endpoint> {
    let pool = match side {
        Side::Legacy => service.serving.legacy(),
        Side::Target => service.serving.target(),
    };
    let endpoints = pool.into_iter().flat_map(|pool| &pool.serving);
    let fits = |endpoint: &&Endpoint| endpoint.address.is_ipv4() == client.is_ipv4();
    endpoints.filter(fits).copied().collect()
}

fn chosen(service: &Service, side: Side, client: IpAddr) -> Option<Endpoint> {
    let endpoints = endpoints(service, side, client);
    endpoints.get(choice::endpoint(client, service.salt, endpoints.len())).copied()
}
