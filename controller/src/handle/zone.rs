//! Zone texts on their way into the store, and answers from the catalog in force.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use dns::Name;
use dns::respond::{Answered, Client};
use dns::wire::Rtype;
use dns::zone::Zone;
use ipnet::IpNet;
use plan::spec::{ZoneSource, ZoneSpec};
use plan::view::{self, Diff, Explain, ZoneFacts};
use plan::{Command, Digest, HostName, Mode, Plan, PlanName, ServiceId, ZoneName};

use crate::handle::Handle;
use crate::store::{StoreError, WriteError};
use crate::zones;

/// A zone text is no zone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("zone {zone} has {} problems", problems.len())]
pub struct ZoneProblems {
    /// The zone.
    pub zone: ZoneName,
    /// All problems, in the order of their places.
    pub problems: Vec<dns::zone::Problem>,
}

/// A zone text was not taken.
#[derive(Debug, thiserror::Error)]
pub enum ZoneError {
    /// It is no zone.
    #[error(transparent)]
    Problems(#[from] ZoneProblems),
    /// Only whoever has the file can read it.
    #[error("zone {zone} names the file `{file}`; send its text")]
    File {
        /// The zone.
        zone: ZoneName,
        /// The file.
        file: String,
    },
    /// No blob of this digest is stored.
    #[error("the text of zone {zone} is not stored: {digest}")]
    Missing {
        /// The zone.
        zone: ZoneName,
        /// What was named.
        digest: Digest,
    },
    /// It cannot be stored.
    #[error("the text of zone {zone} cannot be stored")]
    Write {
        /// The zone.
        zone: ZoneName,
        /// Why.
        #[source]
        source: WriteError,
    },
    /// It cannot be read.
    #[error("the text of zone {zone} cannot be read")]
    Read {
        /// The zone.
        zone: ZoneName,
        /// Why.
        #[source]
        source: StoreError,
    },
    /// The reader was stopped: the process ends.
    #[error("the controller is stopping")]
    Stopped,
}

impl Handle {
    /// Checks a zone text and stores it, durably. `file` names it in problems.
    ///
    /// # Errors
    /// Every problem of the text, or it cannot be stored.
    pub async fn put_zone_text(
        &self,
        zone: &ZoneName,
        file: &str,
        text: Arc<str>,
    ) -> Result<Digest, ZoneError> {
        zones::parse(zone, file, &text).await?;
        let bytes: Arc<[u8]> = Arc::from(text.as_bytes());
        let put = self.shared.store.put_blob(bytes).await;
        put.map_err(|source| ZoneError::Write { zone: zone.clone(), source })
    }

    /// The plan with every zone text stored, as [`plan::Command::Apply`] takes it.
    ///
    /// # Errors
    /// The first zone whose text is not taken.
    pub async fn store_zones(&self, mut plan: Plan) -> Result<Plan, ZoneError> {
        for zone in &mut plan.zones {
            match &zone.source {
                ZoneSource::Own | ZoneSource::Blob(_) => {}
                ZoneSource::Text(text) => {
                    let (name, text) = (zone.name.clone(), Arc::clone(text));
                    let digest = self.put_zone_text(&name, name.as_str(), text).await?;
                    zone.source = ZoneSource::Blob(digest);
                }
                ZoneSource::File(file) => {
                    return Err(ZoneError::File { zone: zone.name.clone(), file: file.clone() });
                }
            }
        }
        Ok(plan)
    }

    /// What applying this plan would change. Stores nothing.
    ///
    /// # Errors
    /// A zone text of it is no zone or cannot be read.
    pub async fn diff(&self, plan: &Plan) -> Result<Diff, ZoneError> {
        let identities = self.gives_identities();
        let mut facts = ZoneFacts { identities, ..ZoneFacts::default() };
        for zone in &plan.zones {
            let parsed = self.parsed(zone).await?;
            zones::note_hosts(plan, &zone.name, parsed, &mut facts).await?;
        }
        let shown = self.shown();
        if let Some(counts) = shown.facts.measured.planes.get(&plan::Plane::Dns) {
            let of_plan = counts.services.iter().filter(|(id, _)| id.plan == plan.name);
            let seen = of_plan.map(|(id, count)| (id.service.clone(), *count));
            facts.seen = seen.collect::<BTreeMap<_, _>>();
        }
        Ok(view::diff(&shown.state, plan, &facts))
    }

    /// What the zone texts that come with a command hold at the host names of retired plans: their
    /// names leave once the texts answer the target. Other plans never ask.
    pub(super) async fn new_zone_answers(
        &self,
        command: &Command,
    ) -> BTreeMap<HostName, Vec<IpAddr>> {
        let state = self.state();
        let retired = |plan: &PlanName| {
            state.plan(plan).filter(|plan| plan.mode == Mode::Retired).map(|plan| &plan.spec)
        };
        let zone_of = |spec: &Arc<Plan>, zone: &ZoneName, source: &ZoneSource| {
            let old = spec.zones.iter().find(|old| old.name == *zone)?;
            let changed = old.source != *source;
            changed.then(|| (Arc::clone(spec), ZoneSpec { source: source.clone(), ..old.clone() }))
        };
        let changed: Vec<(Arc<Plan>, ZoneSpec)> = match command {
            Command::Apply(plan) => {
                let zones = retired(&plan.name).into_iter().flat_map(|spec| {
                    plan.zones.iter().filter_map(|zone| zone_of(spec, &zone.name, &zone.source))
                });
                zones.collect()
            }
            Command::Reload(changes) => {
                let zones = changes.iter().filter_map(|change| {
                    zone_of(retired(&change.plan)?, &change.zone, &change.source)
                });
                zones.collect()
            }
            Command::Start(_)
            | Command::Step { .. }
            | Command::Shift { .. }
            | Command::Pause(_)
            | Command::Resume(_)
            | Command::Rollback(_)
            | Command::Approve { .. }
            | Command::Retire(_)
            | Command::Delete(_) => Vec::new(),
        };
        let mut answers = BTreeMap::new();
        for (plan, zone) in changed {
            // A text that cannot be had answers nothing; the DNS plane says what is wrong with it.
            if let Ok(parsed) = self.parsed(&zone).await {
                answers.extend(zones::answers_in(&plan, &zone.name, &parsed));
            }
        }
        answers
    }

    async fn parsed(&self, zone: &ZoneSpec) -> Result<Arc<Zone>, ZoneError> {
        let name = &zone.name;
        match &zone.source {
            ZoneSource::Own => zones::own(name),
            ZoneSource::Text(text) => zones::parse(name, name.as_str(), text).await,
            ZoneSource::File(file) => {
                Err(ZoneError::File { zone: name.clone(), file: file.clone() })
            }
            ZoneSource::Blob(digest) => {
                let read = self.shared.store.blob(*digest).await;
                let bytes =
                    read.map_err(|source| ZoneError::Read { zone: name.clone(), source })?;
                let missing = || ZoneError::Missing { zone: name.clone(), digest: *digest };
                let text = String::from_utf8(bytes.ok_or_else(missing)?).map_err(|_| missing())?;
                zones::parse(name, name.as_str(), &Arc::from(text)).await
            }
        }
    }

    /// The DNS answer that this client gets now, and why. Nothing is counted.
    pub fn answer(&self, name: &Name, rtype: Rtype, client: Client) -> Answered {
        let catalog = Arc::clone(&self.shared.catalog.borrow());
        dns::respond::answer(&catalog, name, rtype, client)
    }

    /// Which side this client gets in each plane, why, and at which split it will move.
    pub fn explain(&self, service: &ServiceId, client: Option<IpNet>) -> Option<Explain> {
        view::explain(self.state().snapshot(), service, client)
    }
}
