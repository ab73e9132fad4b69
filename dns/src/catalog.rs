//! What a server answers from: zones and names at one token. Immutable; a change is a new catalog
//! that shares what did not change.

use std::sync::Arc;

use plan::snapshot::{self, Snapshot};
use plan::{Digest, Token};

use crate::names::Names;
use crate::wire::{Name, NameBuf};
use crate::zone::tree::{NodeId, Tree};
use crate::zone::{Problem, Source, Zone};

/// A node of the index of zones that is no apex.
const NO_ZONE: u32 = u32::MAX;

/// Zones and names at one token.
#[derive(Clone, Debug)]
pub struct Catalog {
    /// The token of the snapshot this was made from.
    pub token: Token,
    zones: Arc<Zones>,
    names: Arc<Names>,
}

/// Why a snapshot gives no catalog.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CatalogError {
    /// The text of a zone is not at hand.
    #[error("the text of zone {zone} is missing: {digest}")]
    NoText {
        /// The zone.
        zone: String,
        /// What its text is known by.
        digest: Digest,
    },
    /// The text of a zone is no zone.
    #[error("zone {zone} has {} problems", problems.len())]
    Problems {
        /// The zone.
        zone: String,
        /// All of them.
        problems: Vec<Problem>,
    },
}

impl Catalog {
    /// A catalog of no zones: every query is refused.
    #[must_use]
    pub fn empty() -> Self {
        Self {
            token: Token::START,
            zones: Arc::new(Zones::of(Vec::new())),
            names: Arc::new(Names::empty()),
        }
    }

    /// A catalog of fixed zones without plan names. Of two zones with one name the last counts.
    #[must_use]
    pub fn of_zones(zones: Vec<Zone>) -> Self {
        let served = zones.into_iter().map(|zone| Served { zone: Arc::new(zone), text: None });
        Self { zones: Arc::new(Zones::of(served.collect())), ..Self::empty() }
    }

    /// The same zones with the names of these services, which are sorted by id, at `token`.
    #[must_use]
    pub fn with_names(&self, token: Token, services: &[Arc<snapshot::Service>]) -> Self {
        let names = Arc::new(self.names.next(services));
        Self { token, zones: self.zones.clone(), names }
    }

    /// The catalog of the next snapshot. Zones are read again only where their text is another one;
    /// of names only the leaves that changed are made anew. `text` gives a zone text by its digest.
    ///
    /// # Errors
    /// When a text is missing or is no zone; the catalog before goes on being right to serve.
    pub fn next(
        &self,
        snapshot: &Snapshot,
        text: &mut dyn FnMut(&Digest) -> Option<Arc<str>>,
    ) -> Result<Self, CatalogError> {
        let zones = if self.zones.are(&snapshot.zones) {
            self.zones.clone()
        } else {
            Arc::new(self.zones.next(&snapshot.zones, text)?)
        };
        let names = Arc::new(self.names.next(&snapshot.services));
        Ok(Self { token: snapshot.token, zones, names })
    }

    /// The names.
    #[must_use]
    pub fn names(&self) -> &Names {
        &self.names
    }

    /// The zones.
    #[must_use]
    pub fn zones(&self) -> &Zones {
        &self.zones
    }
}

/// Zones by name; the longest match answers.
#[derive(Clone, Debug)]
pub struct Zones {
    list: Vec<Served>,
    tree: Tree,
    /// Of each node its place in `list`, or [`NO_ZONE`].
    at: Vec<u32>,
}

#[derive(Clone, Debug)]
struct Served {
    zone: Arc<Zone>,
    text: Option<Digest>,
}

impl Zones {
    fn of(list: Vec<Served>) -> Self {
        let mut zones = Self { list: Vec::new(), tree: Tree::new(), at: vec![NO_ZONE] };
        for served in list {
            let name = NameBuf::from_name(served.zone.origin());
            let mut node = NodeId::APEX;
            for label in (0..name.labels()).rev() {
                let Ok(child) = zones.tree.intern(node, name.label(label)) else { return zones };
                node = child;
            }
            zones.at.resize(zones.tree.len(), NO_ZONE);
            let place = u32::try_from(zones.list.len()).unwrap_or(NO_ZONE);
            if let Some(slot) = usize::try_from(node.0).ok().and_then(|node| zones.at.get_mut(node))
            {
                *slot = place;
            }
            zones.list.push(served);
        }
        zones
    }

    /// Whether these are the zones of a snapshot.
    fn are(&self, leaves: &[Arc<snapshot::Zone>]) -> bool {
        self.list.len() == leaves.len()
            && self.list.iter().zip(leaves).all(|(served, leaf)| served.is(leaf))
    }

    fn next(
        &self,
        leaves: &[Arc<snapshot::Zone>],
        text: &mut dyn FnMut(&Digest) -> Option<Arc<str>>,
    ) -> Result<Self, CatalogError> {
        let mut list = Vec::with_capacity(leaves.len());
        for leaf in leaves {
            let same = self.list.iter().find(|served| served.is(leaf));
            list.push(match same {
                Some(served) => served.clone(),
                None => Served::read(leaf, text)?,
            });
        }
        Ok(Self::of(list))
    }

    /// The zones, in the order of their making.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Zone>> {
        self.list.iter().map(|served| &served.zone)
    }

    /// The zone with the longest name that holds `name`.
    #[must_use]
    pub fn find(&self, name: &NameBuf) -> Option<&Arc<Zone>> {
        self.find_within(name, name.labels())
    }

    /// The same among zones whose name has at most `labels` labels: the parent's side of a cut.
    pub(crate) fn find_within(&self, name: &NameBuf, labels: usize) -> Option<&Arc<Zone>> {
        let mut node = NodeId::APEX;
        let mut found = self.zone_at(node);
        for label in (0..name.labels()).rev().take(labels) {
            let Some(child) = self.tree.child(node, name.label(label)) else { break };
            node = child;
            found = self.zone_at(node).or(found);
        }
        found
    }

    fn zone_at(&self, node: NodeId) -> Option<&Arc<Zone>> {
        let place = *self.at.get(usize::try_from(node.0).ok()?)?;
        self.list.get(usize::try_from(place).ok()?).map(|served| &served.zone)
    }
}

impl Served {
    fn is(&self, leaf: &snapshot::Zone) -> bool {
        let same_name = Name::from_text(leaf.name.as_str()).ok();
        self.text == leaf.text && same_name.as_ref() == Some(self.zone.origin())
    }

    fn read(
        leaf: &snapshot::Zone,
        text: &mut dyn FnMut(&Digest) -> Option<Arc<str>>,
    ) -> Result<Self, CatalogError> {
        let zone_name = leaf.name.as_str().to_owned();
        let origin = Name::from_text(&zone_name).map_err(|error| CatalogError::Problems {
            zone: zone_name.clone(),
            problems: vec![Problem {
                file: zone_name.as_str().into(),
                line: 0,
                problem: error.to_string(),
                fix: String::new(),
            }],
        })?;
        let Some(digest) = leaf.text else {
            return Ok(Self { zone: Arc::new(Zone::own(&origin)), text: None });
        };
        let text = text(&digest)
            .ok_or_else(|| CatalogError::NoText { zone: zone_name.clone(), digest })?;
        let zone = Zone::parse(&origin, &Source::new(&zone_name, text.as_ref()))
            .map_err(|problems| CatalogError::Problems { zone: zone_name, problems })?;
        Ok(Self { zone: Arc::new(zone), text: Some(digest) })
    }
}
