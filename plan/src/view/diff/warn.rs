//! What is worth knowing before a plan is applied.

use std::time::Duration;

use super::{Finding, ZoneFacts};
use crate::file::duration;
use crate::measure::Count;
use crate::name::ServiceName;
use crate::spec::{Affinity, Plan, Plane, Protocol, Step};
use crate::split::Split;

/// A zone whose steady TTL is longer than this makes `start` wait for as long, which surprises.
const TTL_LONG: u32 = 3_600;

/// All warnings, in a fixed order.
pub(super) fn warnings(old: Option<&Plan>, new: &Plan, zones: &ZoneFacts) -> Vec<Finding> {
    let mut found = Vec::new();
    sinks(new, &mut found);
    if new.uses(Plane::Dns) {
        few_clients(new, zones, &mut found);
        ttls(old, new, zones, &mut found);
        hosts(new, zones, &mut found);
    }
    steps(new, &mut found);
    found.extend(in_the_clear(new).filter(|_| !zones.identities));
    drawn_anew(new, &mut found);
    found
}

/// What `mtls` of this plan comes to where machines get no identities.
pub fn in_the_clear(plan: &Plan) -> Option<Finding> {
    let gateway = plan.gateways.iter().find(|gateway| !gateway.mtls.is_empty())?;
    let detail = format!(
        "gateway {}: `mtls` is not in force: this controller gives machines no identities, so \
         proxies of VMs reach the target in the clear; `crossfade serve --xds-identities` gives \
         them",
        gateway.name
    );
    Some(Finding { code: "mtls-clear".to_owned(), detail })
}

fn warn(found: &mut Vec<Finding>, code: &str, detail: String) {
    found.push(Finding { code: code.to_owned(), detail });
}

/// Planes that nothing receives yet.
fn sinks(new: &Plan, found: &mut Vec<Finding>) {
    for plane in [Plane::Mesh, Plane::Host] {
        if new.uses(plane) {
            let detail = format!(
                "clients names plane {plane}: until a sink of it is there, the plan holds `no-sink`"
            );
            warn(found, "no-sink", detail);
        }
    }
}

/// Steps that are finer than the clients seen can make them.
fn few_clients(new: &Plan, zones: &ZoneFacts, found: &mut Vec<Finding>) {
    for (service, count) in &zones.seen {
        if new.service(service).is_none() || count.events == 0 {
            continue;
        }
        if let Some((step, deviation)) = coarsest(new, count) {
            let detail = few(service, count, step, deviation);
            warn(found, "few-clients", detail);
        }
    }
}

/// The first step whose expected deviation is more than half of its distance to everyone or no one.
fn coarsest<'a>(new: &'a Plan, count: &Count) -> Option<(&'a Step, u16)> {
    let room = |split: Split| split.bp().min(Split::WHOLE - split.bp());
    let coarse = |step: &'a Step| {
        let deviation = count.deviation(step.split);
        (deviation > room(step.split) / 2).then_some((step, deviation))
    };
    new.steps.iter().filter(|step| room(step.split) > 0).find_map(coarse)
}

fn few(service: &ServiceName, count: &Count, step: &Step, deviation: u16) -> String {
    let deviation = Split::from_bp(deviation).unwrap_or(Split::TARGET);
    format!(
        "{service}: {} client keys were seen, as coarse as {} equally busy ones; at {} the share \
         of traffic will be off by {deviation} (one standard deviation)",
        count.keys,
        count.effective_keys(),
        step.split,
    )
}

fn ttls(old: Option<&Plan>, new: &Plan, zones: &ZoneFacts, found: &mut Vec<Finding>) {
    for zone in &new.zones {
        if zone.ttl.steady > TTL_LONG {
            let wait = duration::text(Duration::from_secs(zone.ttl.steady.into()));
            let detail = format!(
                "zone {}: after `start` the first step waits {wait}, the steady TTL",
                zone.name
            );
            warn(found, "ttl-long", detail);
        }
        if zone.ttl.shifting > zone.ttl.steady {
            let detail =
                format!("zone {}: the shifting TTL is longer than the steady one", zone.name);
            warn(found, "ttl-shifting", detail);
        }
    }
    if old.is_some() {
        return;
    }
    // Answers of whoever served the name before stay out for as long as their own TTL.
    for (host, there) in &zones.hosts {
        let steady = new.zone_of(host).map_or(0, |zone| zone.ttl.steady);
        if let Some(ttl) = there.ttl.filter(|ttl| *ttl > steady) {
            let detail = format!(
                "{host} has TTL {ttl} s in the zone file, more than the plan's {steady} s: wait \
                 that long after the servers were changed before `start`"
            );
            warn(found, "ttl-before", detail);
        }
    }
}

fn hosts(new: &Plan, zones: &ZoneFacts, found: &mut Vec<Finding>) {
    for host in new.services.iter().flat_map(|service| &service.hosts) {
        let Some(there) = zones.hosts.get(host) else { continue };
        if let Some(above) = &there.hidden_by {
            let detail = format!(
                "{host}: the zone file delegates {above} or has a DNAME there, so no client gets \
                 the plan's addresses; remove those records, or split the name where they lead"
            );
            warn(found, "name-hidden", detail);
        }
        let Some(target) = &there.cname else { continue };
        let lost = if there.others.is_empty() {
            String::new()
        } else {
            format!(" and {}", there.others.join(", "))
        };
        warn(found, "cname-replaced", format!("{host}: its CNAME {target}.{lost} is not served"));
    }
}

fn steps(new: &Plan, found: &mut Vec<Finding>) {
    for (at, step) in new.steps.iter().enumerate() {
        if step.bake.is_zero() {
            let detail =
                format!("step {} ({}) bakes 0 s: the plan moves on at once", at + 1, step.split);
            warn(found, "bake-zero", detail);
        }
        if step.expires.is_some_and(|expires| expires <= step.bake) {
            let detail =
                format!("step {} ({}) expires before its bake is over", at + 1, step.split);
            warn(found, "expires-early", detail);
        }
    }
}

/// Receivers that cannot keep a client on its side.
fn drawn_anew(new: &Plan, found: &mut Vec<Finding>) {
    let mesh = new.uses(Plane::Mesh);
    for service in &new.services {
        let name = &service.name;
        match &service.affinity {
            Affinity::None => {
                let detail = format!("{name}: affinity is none, so clients change sides at random");
                warn(found, "drawn-anew", detail);
                continue;
            }
            Affinity::Header(_) | Affinity::Cookie(_) if !mesh => {
                let detail = format!(
                    "{name}: only plane mesh sees headers and cookies, and no row of `clients` \
                     names it: clients are told apart by address"
                );
                warn(found, "affinity-unseen", detail);
            }
            Affinity::ClientIp | Affinity::Header(_) | Affinity::Cookie(_) => {}
        }
        let ports = service.ports.iter().filter(|_| mesh);
        let drawn = ports.filter_map(|port| Some((port.port, drawn_in_mesh(port.protocol)?)));
        drawn.for_each(|(port, what)| {
            warn(found, "drawn-anew", format!("{name}: port {port} in plane mesh: {what}"));
        });
    }
    if mesh && new.services.iter().any(|service| service.affinity != Affinity::None) {
        let detail = "clients keep their side behind an Envoy from 1.36 on; one before ignores \
                      `use_hash_policy`, and the plan holds `not-sticky`";
        warn(found, "sticky-from", detail.to_owned());
    }
}

/// What proxies of this protocol cannot do, for people.
pub(in crate::view) const fn drawn_in_mesh(protocol: Protocol) -> Option<&'static str> {
    match protocol {
        Protocol::Tcp => Some("Envoy draws a side for every connection of tcp anew"),
        Protocol::Grpc => Some(
            "a gRPC client that follows the plan without a proxy draws a side for every call anew, \
             and ignores weights of localities; behind an Envoy it keeps its side",
        ),
        Protocol::Http | Protocol::Udp => None,
    }
}
