//! Plans side by side: no host, no zone belongs to two.

use std::collections::HashMap;

use super::Refused;
use crate::name::{HostName, PlanName, ZoneName};
use crate::spec::{Plan, ZoneSpec};
use crate::state::State;

/// Whether the plan can stand beside the others.
pub(super) fn apart(state: &State, new: &Plan) -> Result<(), Refused> {
    let others = || state.plans.values().map(|plan| &*plan.spec).filter(|o| o.name != new.name);
    for other in others() {
        let theirs = |zone: &&ZoneSpec| other.zones.iter().any(|z| z.name == zone.name);
        if let Some(zone) = new.zones.iter().find(theirs) {
            return Err(Refused::ZoneTaken { zone: zone.name.clone(), by: other.name.clone() });
        }
    }
    let mut hosts: HashMap<&HostName, &PlanName> = HashMap::new();
    for other in others() {
        hosts.extend(hosts_of(other).map(|host| (host, &other.name)));
    }
    for host in hosts_of(new) {
        if let Some(by) = hosts.get(host) {
            return Err(Refused::HostTaken { host: host.clone(), by: (*by).clone() });
        }
    }
    let mine = zones_of(new).collect();
    others().try_for_each(|other| not_hidden(other, &mine, &new.name))?;
    let theirs = others().flat_map(zones_of).collect();
    not_hidden(new, &theirs, &new.name)
}

fn hosts_of(plan: &Plan) -> impl Iterator<Item = &HostName> {
    plan.services.iter().flat_map(|service| &service.hosts)
}

fn zones_of(plan: &Plan) -> impl Iterator<Item = (&str, (&ZoneName, &PlanName))> {
    plan.zones.iter().map(|zone| (zone.name.as_str(), (&zone.name, &plan.name)))
}

/// No zone of another plan is below a host's own zone and above the host: the longest origin wins,
/// so it would answer in the host's place.
fn not_hidden(
    plan: &Plan,
    zones: &HashMap<&str, (&ZoneName, &PlanName)>,
    new: &PlanName,
) -> Result<(), Refused> {
    for host in hosts_of(plan) {
        let own = plan.zone_of(host).map_or(0, |zone| zone.name.as_str().len());
        let mut rest = Some(host.as_str());
        while let Some(origin) = rest.filter(|origin| origin.len() > own) {
            if let Some((zone, owner)) = zones.get(origin) {
                let other = if *owner == new { &plan.name } else { *owner };
                return Err(Refused::ZoneHides {
                    zone: (*zone).clone(),
                    host: host.clone(),
                    other: other.clone(),
                });
            }
            rest = origin.split_once('.').map(|(_, rest)| rest);
        }
    }
    Ok(())
}
