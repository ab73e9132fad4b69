//! Zone texts as facts: what they hold at the plans' host names.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use dns::wire::NameBuf;
use dns::zone::{Source, Zone};
use dns::{Catalog, Name};
use plan::view::{ZoneFacts, ZoneHost};
use plan::{HostName, Plan, Snapshot, ZoneName};

use crate::handle::{ZoneError, ZoneProblems};

/// Reads a zone text on a thread of its own: large ones take seconds.
pub(crate) async fn parse(
    zone: &ZoneName,
    file: &str,
    text: &Arc<str>,
) -> Result<Arc<Zone>, ZoneError> {
    let origin = origin(zone)?;
    let source = Source::new(file, text.as_ref());
    let parsed = tokio::task::spawn_blocking(move || Zone::parse(&origin, &source)).await;
    let parsed = parsed.map_err(|_| ZoneError::Stopped)?;
    let wrong = |problems| ZoneError::Problems(ZoneProblems { zone: zone.clone(), problems });
    parsed.map(Arc::new).map_err(wrong)
}

/// The zone that is served where a plan gives no text.
pub(crate) fn own(zone: &ZoneName) -> Result<Arc<Zone>, ZoneError> {
    Ok(Arc::new(Zone::own(&origin(zone)?)))
}

fn origin(zone: &ZoneName) -> Result<Name, ZoneError> {
    Name::from_text(zone.as_str()).map_err(|error| {
        let problem = dns::zone::Problem {
            file: zone.as_str().into(),
            line: 0,
            problem: error.to_string(),
            fix: "give the zone another name".to_owned(),
        };
        ZoneError::Problems(ZoneProblems { zone: zone.clone(), problems: vec![problem] })
    })
}

/// Adds what this zone of `plan` holds at the plan's host names.
pub(crate) async fn note_hosts(
    plan: &Plan,
    name: &ZoneName,
    zone: Arc<Zone>,
    facts: &mut ZoneFacts,
) -> Result<(), ZoneError> {
    let hosts = plan.services.iter().flat_map(|service| &service.hosts);
    let within = |host: &&HostName| plan.zone_of(host).is_some_and(|zone| zone.name == *name);
    let hosts: Vec<HostName> = hosts.filter(within).cloned().collect();
    let look = tokio::task::spawn_blocking(move || hosts_in(&zone, &hosts)).await;
    facts.hosts.extend(look.map_err(|_| ZoneError::Stopped)?);
    Ok(())
}

/// What the zone text holds at these names.
fn hosts_in(zone: &Zone, hosts: &[HostName]) -> BTreeMap<HostName, ZoneHost> {
    let mut found = BTreeMap::new();
    for host in hosts {
        let Ok(name) = Name::from_text(host.as_str()) else { continue };
        let cname = zone.cname_at(&name).and_then(|target| target.to_string().parse().ok());
        let addresses = dns::zone::answers(zone, &name);
        let hidden_by = zone.occluder(&name).map(|above| above.to_string());
        let there = ZoneHost { cname, addresses, hidden_by, ..ZoneHost::default() };
        found.insert(host.clone(), there);
    }
    // Owner, TTL, class, type: one walk over the text for the types and TTLs of all names.
    for line in zone.lines() {
        let mut fields = line.split_ascii_whitespace();
        let (Some(owner), Some(ttl)) = (fields.next(), fields.next()) else { continue };
        let Some(rtype) = fields.nth(1) else { continue };
        let owner = owner.strip_suffix('.').unwrap_or(owner);
        let Some(host) = found.get_mut(owner) else { continue };
        match rtype {
            "A" | "AAAA" => host.ttl = host.ttl.max(ttl.parse().ok()),
            "CNAME" => {}
            other if host.others.iter().any(|known| known == other) => {}
            other => host.others.push(other.to_owned()),
        }
    }
    found.retain(|_, host| *host != ZoneHost::default());
    found
}

/// The addresses that this zone of a plan holds at the plan's host names.
pub(crate) fn answers_in(
    plan: &Plan,
    name: &ZoneName,
    zone: &Zone,
) -> BTreeMap<HostName, Vec<IpAddr>> {
    let hosts = plan.services.iter().flat_map(|service| &service.hosts);
    let within = |host: &&HostName| plan.zone_of(host).is_some_and(|zone| zone.name == *name);
    let at = |host: &HostName| {
        let name = Name::from_text(host.as_str()).ok()?;
        Some((host.clone(), dns::zone::answers(zone, &name)))
    };
    hosts.filter(within).filter_map(at).collect()
}

/// The addresses that the zone texts of a catalog hold at the host names of a snapshot, without the
/// plans.
pub(crate) fn answers(catalog: &Catalog, snapshot: &Snapshot) -> BTreeMap<HostName, Vec<IpAddr>> {
    let hosts = snapshot.services.iter().flat_map(|service| &service.spec.hosts);
    let at = |host: &HostName| {
        let name = Name::from_text(host.as_str()).ok()?;
        let zone = catalog.zones().find(&NameBuf::from_name(&name))?;
        let addresses = dns::zone::answers(zone, &name);
        (!addresses.is_empty()).then(|| (host.clone(), addresses))
    };
    hosts.filter_map(at).collect()
}
