//! The DNS plane with the real pump and the real server.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::sync::Arc;

use controller::Handle;
use controller::clock::Clock;
use controller::handle::ZoneError;
use controller::planes;
use controller::pump::Pump;
use controller::store::{Memory, Store};
use dns::respond::Client;
use dns::wire::Rtype;
use dns::{Catalog, Name, Server};
use plan::spec::{Plan, ZoneSource};
use plan::{Actor, Ask, Command, Digest, PlanName, Scope, Split};

fn ask(command: Command) -> Ask {
    Ask { command, if_revision: None, key: None, actor: Actor::new("operator"), reason: None }
}

fn plan_with(source: ZoneSource) -> Plan {
    let mut plan = plan::fixture::plan();
    plan.gates.clear();
    plan.steps.iter_mut().for_each(|step| step.gates.clear());
    plan.zones[0].source = source;
    plan
}

/// Waits until it is so.
async fn until(handle: &Handle, what: impl Fn(&Handle) -> bool) {
    let mut changes = handle.changes();
    while !what(handle) {
        changes.next().await.unwrap();
    }
}

fn addresses(handle: &Handle) -> Vec<String> {
    let name = Name::from_text("orders.corp.example").unwrap();
    let client = Client::Address("192.0.2.1".parse().unwrap());
    handle.answer(&name, Rtype::A, client).answer
}

#[tokio::test]
async fn a_zone_that_is_refused_holds_up_no_rollback() {
    let store: Arc<dyn Store> = Arc::new(Memory::new());
    let (handle, mut pump) = Pump::open(store, Clock::start()).await.unwrap();
    let any = ["127.0.0.1:0".parse().unwrap()];
    let one = NonZeroUsize::new(1).unwrap();
    let server = Arc::new(Server::bind(&any, one, Arc::new(Catalog::empty())).unwrap());
    let plane = tokio::spawn(planes::dns::run(pump.dns_port().unwrap(), Arc::clone(&server)));
    assert!(pump.dns_port().is_none());
    let running = pump.run();
    let shop: PlanName = "shop".parse().unwrap();

    let text = "@ SOA ns1 host 7 3600 600 86400 60\n@ NS ns1\nns1 A 192.0.2.53\n";
    let plan = plan_with(ZoneSource::Text(Arc::from(text)));
    let stored = handle.store_zones(plan).await.unwrap();
    handle.ask(ask(Command::Apply(Arc::new(stored)))).await.unwrap();
    let split = Split::TARGET;
    let (plan, overrides) = (shop.clone(), BTreeSet::new());
    let shift = Command::Shift { plan, service: None, split, overrides };
    let shifted = handle.ask(ask(shift)).await.unwrap();
    let converged = |handle: &Handle, token| {
        let state = handle.state();
        handle.facts().ledger.converged(&state.plan(&shop).unwrap().spec, token)
    };
    until(&handle, |handle| converged(handle, shifted.token)).await;
    assert_eq!(server.publisher().current().token, shifted.token);
    assert!(addresses(&handle).iter().all(|line| line.contains("10.9.1.")));
    assert_eq!(addresses(&handle).len(), 2);

    let missing = Digest::of(b"nobody stored this");
    let broken = plan_with(ZoneSource::Blob(missing));
    let edited = handle.ask(ask(Command::Apply(Arc::new(broken)))).await.unwrap();
    until(&handle, |handle| handle.sinks().iter().any(|sink| sink.nack.is_some())).await;
    let sink = handle.sinks().remove(0);
    let nack = sink.nack.unwrap();
    assert_eq!(nack.token, edited.token);
    assert_eq!(nack.plans, [shop.clone()].into());
    assert!(nack.detail.contains("missing"), "{}", nack.detail);
    assert_eq!(sink.acked, shifted.token);

    let back = handle.ask(ask(Command::Rollback(Scope::All))).await.unwrap();
    until(&handle, |_| server.publisher().current().token >= back.token).await;
    until(&handle, |handle| addresses(handle).iter().all(|line| line.contains("10.0.1."))).await;
    let origin = Name::from_text("corp.example").unwrap();
    let serials = |server: &Server| {
        let catalog = server.publisher().current();
        catalog
            .zones()
            .iter()
            .map(|zone| (zone.origin().clone(), zone.serial()))
            .collect::<Vec<_>>()
    };
    assert_eq!(serials(&server), [(origin, 7)]);
    assert!(!converged(&handle, back.token));

    running.stop().await;
    drop(handle);
    plane.await.unwrap();
}

#[tokio::test]
async fn a_zone_text_with_problems_is_not_stored() {
    let store: Arc<dyn Store> = Arc::new(Memory::new());
    let (handle, pump) = Pump::open(Arc::clone(&store), Clock::start()).await.unwrap();
    let running = pump.run();
    let plan =
        plan_with(ZoneSource::Text(Arc::from("@ SOA ns1 host 7 3600 600 86400 60\n@ A x\n")));
    let Err(ZoneError::Problems(wrong)) = handle.store_zones(plan).await else { panic!() };
    assert!(wrong.problems.iter().any(|problem| problem.line == 2), "{wrong:?}");
    assert!(store.blobs().await.unwrap().is_empty());
    running.stop().await;
}
