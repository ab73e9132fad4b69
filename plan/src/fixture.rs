//! The demo plan `shop` and small builders, for tests here and in other crates.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::spec::Plan;
use crate::split::Split;
use crate::{Actor, Ask, Cause, Command, Decided, Facts, Snapshot, State};

/// The text of the demo plan: `orders`, and `payments` after it, both in zone `corp.example.`; six
/// steps, the one at 25 % behind the gate `sign-off`. Bakes are short, there is no `maxStep`.
pub const SHOP: &str = "\
apiVersion: crossfade.dev/v1alpha1
kind: CutoverPlan
metadata: { name: shop }
spec:
  zones: [{ name: corp.example. }]
  services:
    - name: orders
      hosts: [orders.corp.example]
      address: 10.0.1.10
      ports: [{ name: http, port: 8080, protocol: http }]
      legacy: { endpoints: [10.0.1.11, 10.0.1.12] }
      target: { endpoints: [10.9.1.21, 10.9.1.22] }
    - name: payments
      after: [orders]
      hosts: [payments.corp.example]
      address: 10.0.2.10
      ports: [{ name: http, port: 8080, protocol: http }]
      legacy: { endpoints: [10.0.2.11, 10.0.2.12] }
      target: { endpoints: [10.9.2.21, 10.9.2.22] }
  steps:
    - { split: 1%, bake: 10s }
    - { split: 10%, bake: 10s }
    - { split: 25%, bake: 10s, gates: [sign-off] }
    - { split: 50%, bake: 10s }
    - { split: 75%, bake: 10s }
    - { split: 100%, bake: 10s }
  gates:
    - { name: sign-off, manual: { approvers: 1 } }
";

/// The demo plan.
pub fn plan() -> Plan {
    plan_from(SHOP)
}

/// The plan of a text that a test knows to be right.
///
/// # Panics
/// The text is no plan; every problem is told.
#[expect(clippy::panic, reason = "only tests call this, with texts of their own")]
pub fn plan_from(yaml: &str) -> Plan {
    match crate::check(yaml) {
        Ok(plan) => plan,
        Err(problems) => {
            let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
            panic!("the text is no plan:\n{}", lines.join("\n"));
        }
    }
}

/// The snapshot of a controller that was given this plan and shifted all of it to `split`.
///
/// # Panics
/// The text is no plan, or the rules refuse that.
pub fn snapshot(yaml: &str, split: Split) -> Arc<Snapshot> {
    let plan = plan_from(yaml);
    let name = plan.name.clone();
    let mut commands = vec![Command::Apply(Arc::new(plan))];
    if split != Split::LEGACY {
        let overrides = BTreeSet::new();
        commands.push(Command::Shift { plan: name, service: None, split, overrides });
    }
    let mut state = State::empty();
    for command in commands {
        let (actor, reason) = (Actor::new("test"), Some("test".to_owned()));
        let ask = Ask { command, if_revision: None, key: None, actor, reason };
        state = after(&state, ask);
    }
    Arc::clone(state.snapshot())
}

#[expect(clippy::panic, reason = "only tests call this, with plans of their own")]
fn after(state: &State, ask: Ask) -> State {
    match state.decide(&Cause::Operator(ask), &Facts::default()) {
        Ok(Decided::Commit(record)) => match state.apply(&record) {
            Ok(state) => state,
            Err(broken) => panic!("the rules made a record that does not fit: {broken}"),
        },
        Ok(Decided::Already(_)) => state.clone(),
        Err(refused) => panic!("the rules refuse it: {refused}"),
    }
}
