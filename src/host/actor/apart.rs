//! One plan that the kernel refuses holds up no other: it is found, and the rest is in force.

use std::collections::BTreeMap;
use std::sync::Arc;

use agent::dataplane::{DataplaneError, Ownership};
use agent::rules::Compiled;
use agent::rules::compile::whose;
use plan::PlanName;
use tokio::time::Instant;

use super::{Actor, RETRY_APART_AFTER};
use crate::verbs::chain;

/// The most tables that are offered to the kernel before it is left as it is: a large one takes it
/// some hundred milliseconds, and a rollback may wait behind it.
const OFFERS_MAX: usize = 16;

/// What the kernel holds now, and how.
type Held = (Compiled, Ownership);

impl Actor {
    /// Makes the kernel hold this, or what is left of it without the plans that it refuses: those
    /// that it names, or the first one without which it takes the rest. Nothing is taken out that
    /// is in force before it is known what can be.
    pub(super) fn commit(&mut self, compiled: Compiled) -> Result<Held, String> {
        let before = self.world.lock().refused().clone();
        let mut refused = before.clone();
        let held = self.offer(compiled, &mut refused);
        self.state.inseparable = held.is_err();
        match &held {
            Ok(_) if refused != before => {
                self.state.retry = Some(Instant::now() + RETRY_APART_AFTER);
            }
            Ok(_) => self.state.retry = None,
            // All of them are refused together.
            Err(_) => drop(self.world.lock().without(before)),
        }
        held
    }

    /// Offers it without plans that the kernel names, as long as it does.
    fn offer(
        &mut self,
        mut compiled: Compiled,
        refused: &mut BTreeMap<PlanName, String>,
    ) -> Result<Held, String> {
        for offers in 1..=OFFERS_MAX {
            let error = match self.kernel.commit(&compiled.table) {
                Ok(ownership) => return Ok((compiled, ownership)),
                Err(error) => error,
            };
            let why = chain(&error);
            if self.state.inseparable || !error.is_about_the_table() {
                return Err(why);
            }
            let named = named(&error).filter(|plan| !refused.contains_key(plan));
            let Some(plan) = named else {
                return self.one_by_one(why, refused, OFFERS_MAX - offers);
            };
            refused.insert(plan, why);
            compiled = self.world.lock().without(refused.clone())?;
        }
        Err(format!("the kernel refused {OFFERS_MAX} tables, each for another plan"))
    }

    /// Offers it without each plan in turn: those first that were not in force, or are another than
    /// what is.
    fn one_by_one(
        &mut self,
        why: String,
        refused: &mut BTreeMap<PlanName, String>,
        offers: usize,
    ) -> Result<Held, String> {
        for plan in self.suspects(refused).into_iter().take(offers) {
            let mut without = refused.clone();
            without.insert(plan, why.clone());
            let compiled = self.world.lock().without(without.clone())?;
            match self.kernel.commit(&compiled.table) {
                Ok(ownership) => {
                    *refused = without;
                    return Ok((compiled, ownership));
                }
                Err(error) if error.is_about_the_table() => (),
                Err(error) => return Err(chain(&error)),
            }
        }
        Err(why)
    }

    fn suspects(&self, refused: &BTreeMap<PlanName, String>) -> Vec<PlanName> {
        let world = self.world.lock();
        let leaves = world.leaves();
        let is_new = |plan: &PlanName| {
            let its = leaves.iter().filter(|leaf| leaf.id.plan == *plan);
            let was = self.state.leaves.iter().filter(|leaf| leaf.id.plan == *plan);
            !its.map(Arc::as_ptr).eq(was.map(Arc::as_ptr))
        };
        let plans = world.plans().filter(|plan| !refused.contains_key(*plan));
        let mut plans: Vec<PlanName> = plans.cloned().collect();
        plans.sort_by_cached_key(|plan| (!self.state.impossible.contains_key(plan), !is_new(plan)));
        plans
    }
}

/// The plan whose part of the table the kernel refused.
fn named(error: &DataplaneError) -> Option<PlanName> {
    let DataplaneError::Refused { part: Some(part), .. } = error else { return None };
    whose(part).map(|id| id.plan)
}
