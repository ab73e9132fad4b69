//! A plan in the schema of its file: what `get` prints, and what can be applied again.

use serde_json::{Map, Value, json};

use super::duration::text;
use crate::endpoint::Endpoints;
use crate::policy::Policy;
use crate::spec::{
    ClientAddress, Gate, GateTest, Gateway, Plan, Port, Service, Step, Strategy, ZoneSource,
    ZoneSpec,
};

/// The plan as its file says it, every default written out where it has a text.
///
/// A zone whose text the log keeps ([`ZoneSource::Blob`]) has neither `file` nor `text` here:
/// whoever has the blob puts it in.
pub fn write(plan: &Plan) -> Value {
    let clients = &plan.clients;
    let rows =
        clients.rows.iter().map(|row| json!({ "networks": row.networks, "plane": row.plane }));
    let resolvers = clients
        .resolvers
        .iter()
        .map(|resolver| json!({ "name": resolver.name, "addresses": resolver.addresses }));
    let mut spec = Map::new();
    spec.insert("strategy".into(), json!(strategy(plan.strategy)));
    spec.insert("zones".into(), plan.zones.iter().map(zone).collect());
    put_list(&mut spec, "clients", rows.collect());
    put_list(&mut spec, "resolvers", resolvers.collect());
    spec.insert("services".into(), plan.services.iter().map(|s| service(s)).collect());
    spec.insert("steps".into(), plan.steps.iter().map(step).collect());
    put_list(&mut spec, "gates", plan.gates.iter().map(gate).collect());
    spec.insert("clientKey".into(), json!({ "v4": clients.key.v4, "v6": clients.key.v6 }));
    put_list(&mut spec, "gateways", plan.gateways.iter().map(gateway).collect());
    spec.insert("policy".into(), policy(&plan.policy));
    json!({
        "apiVersion": "crossfade.dev/v1alpha1",
        "kind": "CutoverPlan",
        "metadata": { "name": plan.name.as_str() },
        "spec": spec,
    })
}

const fn strategy(strategy: Strategy) -> &'static str {
    match strategy {
        Strategy::Gradual => "gradual",
        Strategy::Whole => "whole",
    }
}

/// Empty lists are the default and are left out.
fn put_list(map: &mut Map<String, Value>, name: &str, list: Vec<Value>) {
    if !list.is_empty() {
        map.insert(name.to_owned(), list.into());
    }
}

fn zone(zone: &ZoneSpec) -> Value {
    let mut map = Map::new();
    map.insert("name".into(), json!(format!("{}.", zone.name)));
    match &zone.source {
        ZoneSource::Own | ZoneSource::Blob(_) => {}
        ZoneSource::File(path) => {
            map.insert("file".into(), json!(path));
        }
        ZoneSource::Text(text) => {
            map.insert("text".into(), json!(text));
        }
    }
    let (steady, shifting) = (zone.ttl.steady, zone.ttl.shifting);
    let ttl = json!({ "steady": format!("{steady}s"), "shifting": format!("{shifting}s") });
    map.insert("ttl".into(), ttl);
    map.into()
}

fn service(service: &Service) -> Value {
    let mut map = Map::new();
    map.insert("name".into(), json!(service.name));
    put_list(&mut map, "after", service.after.iter().map(|name| json!(name)).collect());
    map.insert("hosts".into(), json!(service.hosts));
    if let Some(address) = service.address {
        map.insert("address".into(), json!(address));
    }
    map.insert("ports".into(), service.ports.iter().map(port).collect());
    map.insert("affinity".into(), json!(service.affinity));
    map.insert("salt".into(), json!(service.salt));
    map.insert("legacy".into(), side(&service.legacy));
    map.insert("target".into(), side(&service.target));
    if service.preserve_source {
        map.insert("preserveSource".into(), json!(true));
    }
    map.into()
}

fn port(port: &Port) -> Value {
    json!({ "name": port.name, "port": port.port, "protocol": port.protocol })
}

fn side(endpoints: &Endpoints) -> Value {
    json!({ "endpoints": endpoints })
}

fn step(step: &Step) -> Value {
    let mut map = Map::new();
    map.insert("split".into(), json!(step.split.to_string()));
    map.insert("bake".into(), json!(text(step.bake)));
    if let Some(expires) = step.expires {
        map.insert("expires".into(), json!(text(expires)));
    }
    put_list(&mut map, "gates", step.gates.iter().map(|name| json!(name)).collect());
    map.into()
}

fn gate(gate: &Gate) -> Value {
    match gate.test {
        GateTest::Manual { approvers } => {
            json!({ "name": gate.name, "manual": { "approvers": approvers } })
        }
    }
}

fn gateway(gateway: &Gateway) -> Value {
    let mut map = Map::new();
    map.insert("name".into(), json!(gateway.name));
    let address = match gateway.client_address {
        ClientAddress::Direct => json!("direct"),
        ClientAddress::Xff(hops) => json!({ "xff": hops }),
        ClientAddress::ProxyProtocol => json!("proxy-protocol"),
    };
    map.insert("clientAddress".into(), address);
    put_list(&mut map, "egress", gateway.egress.iter().map(|net| json!(net)).collect());
    if !gateway.mtls.is_empty() {
        map.insert("mtls".into(), json!({ "addresses": gateway.mtls }));
    }
    map.into()
}

fn policy(policy: &Policy) -> Value {
    let freeze = policy.freeze.iter().map(|freeze| {
        json!({
            "cron": freeze.cron,
            "for": text(freeze.lasts),
            "tz": freeze.tz,
        })
    });
    let mut map = Map::new();
    if let Some(most) = policy.max_step {
        map.insert("maxStep".into(), json!(most.to_string()));
    }
    map.insert("drain".into(), json!(policy.drain.map_or_else(|| "none".to_owned(), text)));
    put_list(&mut map, "freeze", freeze.collect());
    map.into()
}
