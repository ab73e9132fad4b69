//! Two specs compared, field by field. Fields have the names of the plan file.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;

use super::{
    Change, FieldChange, HostChange, PlaneChange, ServiceChange, StepChange, ZoneChange, ZoneFacts,
    ZoneHost,
};
use crate::endpoint::Endpoints;
use crate::file::duration;
use crate::name::{HostName, ServiceName};
use crate::spec::{
    Clients, GateTest, Gateway, Plan, Plane, Port, Resolver, Service, Step, Strategy, ZoneSource,
    ZoneSpec,
};

/// Fields of the plan itself.
pub(super) fn plan_fields(old: Option<&Plan>, new: &Plan) -> Vec<FieldChange> {
    let mut fields = Fields::default();
    let strategy = |plan: &Plan| match plan.strategy {
        Strategy::Gradual => "gradual".to_owned(),
        Strategy::Whole => "whole".to_owned(),
    };
    fields.one("strategy", old.map(strategy), strategy(new));
    let rows = |plan: &Plan| {
        let row = |row: &crate::spec::ClientRow| format!("{} {}", row.plane, list(&row.networks));
        list(plan.clients.rows.iter().map(row))
    };
    fields.one("clients", old.map(rows), rows(new));
    let resolvers = |plan: &Plan| {
        let group = |group: &Resolver| format!("{}: {}", group.name, list(&group.addresses));
        list(plan.clients.resolvers.iter().map(group))
    };
    fields.one("resolvers", old.map(resolvers), resolvers(new));
    let key = |plan: &Plan| {
        let Clients { key, .. } = &*plan.clients;
        format!("v4 /{}, v6 /{}", key.v4, key.v6)
    };
    fields.one("clientKey", old.map(key), key(new));
    let gates = |plan: &Plan| {
        list(plan.gates.iter().map(|gate| match gate.test {
            GateTest::Manual { approvers } => format!("{}: {approvers} approvers", gate.name),
        }))
    };
    fields.one("gates", old.map(gates), gates(new));
    let most = |plan: &Plan| plan.policy.max_step.map_or(String::new(), |most| most.to_string());
    fields.one("policy.maxStep", old.map(most), most(new));
    let freeze = |plan: &Plan| list(&plan.policy.freeze);
    fields.one("policy.freeze", old.map(freeze), freeze(new));
    let drain = |plan: &Plan| plan.policy.drain.map_or(String::new(), duration::text);
    fields.one("policy.drain", old.map(drain), drain(new));
    let gateways = |plan: &Plan| list(plan.gateways.iter().map(gateway));
    fields.one("gateways", old.map(gateways), gateways(new));
    fields.0
}

fn gateway(gateway: &Gateway) -> String {
    let egress = &gateway.egress;
    let from = if egress.is_empty() { String::new() } else { format!(" from {}", list(egress)) };
    let mtls = &gateway.mtls;
    let at = if mtls.is_empty() { String::new() } else { format!(" mtls at {}", list(mtls)) };
    format!("{}: {}{from}{at}", gateway.name, gateway.client_address)
}

/// Services that come, go or change, in the order of the new file, those that go last.
pub(super) fn services(
    old: Option<&Plan>,
    new: &Plan,
    split_bp: impl Fn(&ServiceName) -> u16,
) -> Vec<ServiceChange> {
    let was = by_name(old);
    let is = by_name(Some(new));
    let mut changes = Vec::new();
    for service in &new.services {
        let before = was.get(&service.name).copied();
        let fields = service_fields(before, service);
        if fields.is_empty() {
            continue;
        }
        let change = if before.is_some() { Change::Changed } else { Change::Added };
        let name = service.name.clone();
        changes.push(ServiceChange { split_bp: split_bp(&name), name, change, fields });
    }
    for name in was.keys().filter(|name| !is.contains_key(**name)) {
        let (name, change) = ((*name).clone(), Change::Removed);
        changes.push(ServiceChange { split_bp: split_bp(&name), name, change, fields: Vec::new() });
    }
    changes
}

fn by_name(plan: Option<&Plan>) -> BTreeMap<&ServiceName, &Service> {
    let services = plan.into_iter().flat_map(|plan| &plan.services);
    services.map(|service| (&service.name, &**service)).collect()
}

fn service_fields(old: Option<&Service>, new: &Service) -> Vec<FieldChange> {
    let mut fields = Fields::default();
    let mut field = |name: &str, text: &dyn Fn(&Service) -> String| {
        fields.one(name, old.map(text), text(new));
    };
    field("hosts", &|service| list(&service.hosts));
    field("address", &|service| list(service.address));
    field("ports", &|service| {
        let port = |port: &Port| {
            let protocol = format!("{:?}", port.protocol).to_lowercase();
            format!("{} {} {protocol}", port.name, port.port)
        };
        list(service.ports.iter().map(port))
    });
    field("affinity", &|service| String::from(service.affinity.clone()));
    field("salt", &|service| service.salt.as_ref().to_owned());
    let endpoints = |endpoints: &Endpoints| list(endpoints.iter());
    field("legacy.endpoints", &|service| endpoints(&service.legacy));
    field("target.endpoints", &|service| endpoints(&service.target));
    field("after", &|service| list(&service.after));
    if new.preserve_source || old.is_some_and(|old| old.preserve_source) {
        field("preserveSource", &|service| service.preserve_source.to_string());
    }
    fields.0
}

/// Steps that come, go or change, by their place.
pub(super) fn steps(old: Option<&Plan>, new: &Plan) -> Vec<StepChange> {
    let old = old.map_or(&[][..], |plan| &plan.steps);
    let places = old.len().max(new.steps.len());
    let change = |at: usize| {
        let (from, to) = (old.get(at).map(step), new.steps.get(at).map(step));
        let change = match (&from, &to) {
            (None, _) => Change::Added,
            (_, None) => Change::Removed,
            _ => Change::Changed,
        };
        let index = u16::try_from(at + 1).unwrap_or(u16::MAX);
        (from != to).then_some(StepChange { index, change, from, to })
    };
    (0..places).filter_map(change).collect()
}

fn step(step: &Step) -> String {
    let mut text = format!("{} bake {}", step.split, duration::text(step.bake));
    if let Some(expires) = step.expires {
        text.push_str(&format!(" expires {}", duration::text(expires)));
    }
    if !step.gates.is_empty() {
        text.push_str(&format!(" gates {}", list(&step.gates)));
    }
    text
}

/// What changes in one plane; `None` where neither plan uses it.
pub(super) fn plane(
    old: Option<&Plan>,
    new: &Plan,
    plane: Plane,
    services: &[ServiceChange],
    zones: &ZoneFacts,
) -> Option<PlaneChange> {
    let used = |plan: &Plan| plan.uses(plane);
    if !used(new) && !old.is_some_and(used) {
        return None;
    }
    let mut change = PlaneChange {
        services: services.iter().map(|service| service.name.clone()).collect(),
        ..PlaneChange::default()
    };
    // What proxies and hosts render of every service.
    let edge = |plan: &Plan| (plan.gateways.clone(), plan.policy.drain);
    let all = old.is_some_and(|old| edge(old) != edge(new));
    if all && matches!(plane, Plane::Mesh | Plane::Host) {
        change.services = new.services.iter().map(|service| service.name.clone()).collect();
    }
    // The names answer in every plane: whoever is split elsewhere sees the logical address.
    if plane == Plane::Dns {
        change.zones = zone_changes(old, new);
        change.hosts = host_changes(old, new, zones);
    }
    Some(change)
}

fn zone_changes(old: Option<&Plan>, new: &Plan) -> Vec<ZoneChange> {
    let was: BTreeMap<_, _> =
        old.into_iter().flat_map(|plan| &plan.zones).map(|zone| (&zone.name, zone)).collect();
    let is: BTreeSet<_> = new.zones.iter().map(|zone| &zone.name).collect();
    let mut changes = Vec::new();
    for zone in &new.zones {
        let before = was.get(&zone.name).copied();
        let mut fields = Fields::default();
        fields.one("text", before.map(source), source(zone));
        let ttl =
            |zone: &ZoneSpec| format!("{} s, {} s shifting", zone.ttl.steady, zone.ttl.shifting);
        fields.one("ttl", before.map(ttl), ttl(zone));
        if !fields.0.is_empty() {
            let change = if before.is_some() { Change::Changed } else { Change::Added };
            changes.push(ZoneChange { zone: zone.name.clone(), change, fields: fields.0 });
        }
    }
    for name in was.keys().filter(|name| !is.contains(**name)) {
        let (zone, change) = ((*name).clone(), Change::Removed);
        changes.push(ZoneChange { zone, change, fields: Vec::new() });
    }
    changes
}

fn source(zone: &ZoneSpec) -> String {
    match &zone.source {
        ZoneSource::Own => "an SOA and an NS of our own".to_owned(),
        ZoneSource::Blob(digest) => format!("sha256 {digest}"),
        ZoneSource::File(file) => format!("file {file}"),
        ZoneSource::Text(text) => format!("{} bytes of text", text.len()),
    }
}

fn host_changes(old: Option<&Plan>, new: &Plan, zones: &ZoneFacts) -> Vec<HostChange> {
    let (was, is) = (hosts(old), hosts(Some(new)));
    let none = ZoneHost::default();
    let mut changes = Vec::new();
    let mut push = |plan: &Plan, host: &HostName, service: &Service, change| {
        let Some(zone) = plan.zone_of(host) else { return };
        let there = zones.hosts.get(host).unwrap_or(&none);
        changes.push(HostChange {
            host: host.clone(),
            service: service.name.clone(),
            zone: zone.name.clone(),
            change,
            replaces: replaces(there),
            keeps: if there.cname.is_some() { Vec::new() } else { there.others.clone() },
            ttl_steady: zone.ttl.steady,
            ttl_shifting: zone.ttl.shifting,
        });
    };
    for (host, service) in &is {
        match was.get(host) {
            None => push(new, host, service, Change::Added),
            Some(before) if before.name != service.name => {
                push(new, host, service, Change::Changed)
            }
            Some(_) => {}
        }
    }
    for (host, service) in was.iter().filter(|(host, _)| !is.contains_key(*host)) {
        if let Some(old) = old {
            push(old, host, service, Change::Removed);
        }
    }
    changes
}

fn hosts(plan: Option<&Plan>) -> BTreeMap<&HostName, &Service> {
    let services = plan.into_iter().flat_map(|plan| &plan.services);
    services.flat_map(|service| service.hosts.iter().map(|host| (host, &**service))).collect()
}

fn replaces(there: &ZoneHost) -> Vec<String> {
    let cname = there.cname.iter().map(|target| format!("CNAME {target}."));
    let addresses = there.addresses.iter().map(|address| {
        let kind = if address.is_ipv4() { "A" } else { "AAAA" };
        format!("{kind} {address}")
    });
    cname.chain(addresses).collect()
}

/// Changes of fields as they are found.
#[derive(Default)]
struct Fields(Vec<FieldChange>);

impl Fields {
    /// Notes a field where it differs; an empty text is nothing.
    fn one(&mut self, field: &str, from: Option<String>, to: String) {
        let some = |text: String| (!text.is_empty()).then_some(text);
        let (from, to) = (from.and_then(some), some(to));
        if from != to {
            self.0.push(FieldChange { field: field.to_owned(), from, to });
        }
    }
}

fn list<T: Display>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    items.join(", ")
}
