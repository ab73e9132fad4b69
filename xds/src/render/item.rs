//! One rendered resource, and where it goes.

use std::sync::Arc;

use plan::{PlanName, Token};
use prost::Message;

use crate::name::{Name, Scope, TypeUrl};
use crate::table::{Change, Edit, Encoded};
use crate::version::Version;

/// One resource in one scope.
#[derive(Clone, Debug)]
pub(super) struct Item {
    scope: Scope,
    type_url: TypeUrl,
    encoded: Arc<Encoded>,
    plans: Arc<[PlanName]>,
    needs: Arc<[Name]>,
}

impl Item {
    /// Encodes a resource that belongs to one plan and needs nothing.
    pub(super) fn new<M: Message + prost::Name>(
        scope: &Scope,
        name: Name,
        since: Token,
        message: &M,
    ) -> Self {
        Self::of_body(scope, M::type_url().as_str().into(), name, since, &message.encode_to_vec())
    }

    /// The same of a body that is encoded already.
    pub(super) fn of_body(
        scope: &Scope,
        type_url: TypeUrl,
        name: Name,
        since: Token,
        body: &[u8],
    ) -> Self {
        let encoded = Encoded::new(&type_url, name, Version::of(since, body), body);
        let (plans, needs) = (Arc::new([]), Arc::new([]));
        Self { scope: scope.clone(), type_url, encoded: Arc::new(encoded), plans, needs }
    }

    /// Owned by these plans.
    pub(super) fn of_plans(self, plans: &Arc<[PlanName]>) -> Self {
        Self { plans: Arc::clone(plans), ..self }
    }

    /// Not before these clusters.
    pub(super) fn after(self, needs: &Arc<[Name]>) -> Self {
        Self { needs: Arc::clone(needs), ..self }
    }

    /// The same encoding in another scope, needing nothing.
    pub(super) fn also_in(&self, scope: &Scope) -> Self {
        Self { scope: scope.clone(), needs: Arc::new([]), ..self.clone() }
    }

    fn key(&self) -> (&Scope, &TypeUrl, &Name) {
        (&self.scope, &self.type_url, &self.encoded.name)
    }

    fn same(&self, other: &Self) -> bool {
        self.encoded.version == other.encoded.version
            && self.plans == other.plans
            && self.needs == other.needs
    }

    /// The edit that puts it in its table.
    pub(super) fn put(self) -> Edit {
        let Self { scope, type_url, encoded, plans, needs } = self;
        Edit { scope, type_url, change: Change::Put { encoded, plans, needs } }
    }

    fn remove(self) -> Edit {
        let name = self.encoded.name.clone();
        Edit { scope: self.scope, type_url: self.type_url, change: Change::Remove(name) }
    }
}

/// The edits that lead from one set of resources to another. Puts stand in the order of `new`;
/// what is gone follows them.
pub(super) fn differences(mut old: Vec<Item>, new: Vec<Item>, edits: &mut Vec<Edit>) {
    old.sort_by(|a, b| a.key().cmp(&b.key()));
    let mut kept = vec![false; old.len()];
    for item in new {
        let at = old.binary_search_by(|held| held.key().cmp(&item.key()));
        if let Some(kept) = at.ok().and_then(|at| kept.get_mut(at)) {
            *kept = true;
        }
        let same = at.ok().and_then(|at| old.get(at)).is_some_and(|held| held.same(&item));
        if !same {
            edits.push(item.put());
        }
    }
    let gone = old.into_iter().zip(kept).filter(|(_, kept)| !kept);
    edits.extend(gone.map(|(item, _)| item.remove()));
}
