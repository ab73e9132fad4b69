//! VMs that are limited to other services than others, over a real server with all planes: each is
//! sent its own, whoever came first, and whoever has gone.

use std::collections::BTreeSet;
use std::sync::Arc;

use controller::store::Memory;
use plan::{Actor, Ask, Command};
use proto::envoy::config::core::v3::Node;
use proto::envoy::service::discovery::v3::aggregated_discovery_service_client as ads;
use proto::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use tonic::Streaming;
use xds::TypeUrl;

use crate::calls::{self, Vm};
use crate::world::{Kept, World, wait};

/// The services of the plan.
const SERVICES: [&str; 2] = ["orders", "payments"];

/// What is sent on a stream.
struct Follower {
    answers: Streaming<DeltaDiscoveryResponse>,
}

impl Follower {
    /// Asks for everything of a type as this part of a machine.
    async fn start(world: &World, vm: &Vm, part: &str, says: &[(&str, &str)], kind: &str) -> Self {
        let channel = calls::channel(world, Some(vm)).await.unwrap();
        let node: Node = xds::follow::node(&format!("{}{part}", vm.name), "1", says);
        let first = DeltaDiscoveryRequest {
            node: Some(node),
            type_url: kind.to_owned(),
            resource_names_subscribe: vec!["*".to_owned()],
            ..DeltaDiscoveryRequest::default()
        };
        // It stays open, and takes nothing.
        let requests = futures::stream::unfold(Some(first), |first| async move {
            match first {
                Some(first) => Some((first, None)),
                None => std::future::pending().await,
            }
        });
        let mut client = ads::AggregatedDiscoveryServiceClient::new(channel);
        let answers = wait(client.delta_aggregated_resources(requests)).await.unwrap().into_inner();
        Self { answers }
    }

    async fn agent(world: &World, vm: &Vm) -> Self {
        Self::start(world, vm, "", &[("role", "agent")], TypeUrl::HOST_TABLE).await
    }

    /// As the relay says it that an agent has for an Envoy.
    async fn relay(world: &World, vm: &Vm) -> Self {
        let says = [("role", "relay"), ("capture", "127.0.0.1:15001"), ("identity", "sds")];
        Self::start(world, vm, "/relay", &says, TypeUrl::CLUSTER).await
    }

    /// The services of which it is sent something at first.
    async fn services(&mut self) -> BTreeSet<&'static str> {
        let answer = wait(self.answers.message()).await.unwrap().unwrap();
        let has =
            |bytes: &[u8], word: &str| bytes.windows(word.len()).any(|it| it == word.as_bytes());
        let of = |word: &&str| {
            answer.resources.iter().any(|resource| {
                let body = resource.resource.as_ref().map(|any| any.value.to_vec());
                has(resource.name.as_bytes(), word) || has(&body.unwrap_or_default(), word)
            })
        };
        SERVICES.into_iter().filter(of).collect()
    }
}

async fn apply(world: &World) {
    let rows = "  clients: [{ networks: [10.20.0.0/16], plane: mesh }]\n  steps:\n";
    let text =
        plan::fixture::SHOP.replace("  steps:\n", rows).replace("      after: [orders]\n", "");
    let plan = plan::fixture::plan_from(&text);
    let command = Command::Apply(Arc::new(plan));
    let (actor, reason) = (Actor::new("test"), Some("test".to_owned()));
    let ask = Ask { command, if_revision: None, key: None, actor, reason };
    world.handle().ask(ask).await.unwrap();
}

async fn join(world: &World, name: &str, services: &[&str]) -> Vm {
    Vm::enrol(world, &world.token_for(name, services).await).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_vm_is_sent_its_own_services_whoever_came_first() {
    let kept = Kept::Memory(Arc::new(Memory::new()));
    let world = World::with_planes(&kept).await;
    apply(&world).await;
    let one = join(&world, "vm-1", &["shop/orders"]).await;
    let two = join(&world, "vm-2", &["shop/payments"]).await;
    let free = join(&world, "vm-3", &[]).await;
    let vms = [(&one, &SERVICES[..1]), (&two, &SERVICES[1..]), (&free, &SERVICES[..])];
    let mut there = Vec::new();
    for (vm, services) in vms {
        let services: BTreeSet<&str> = services.iter().copied().collect();
        let mut agent = Follower::agent(&world, vm).await;
        assert_eq!(agent.services().await, services, "the agent of {}", vm.name);
        let mut relay = Follower::relay(&world, vm).await;
        assert_eq!(relay.services().await, services, "the Envoy of {}", vm.name);
        there.push((agent, relay));
    }
    // The first goes; another one comes that is limited as nobody is.
    there.remove(0);
    let four = join(&world, "vm-4", &["shop/orders", "shop/payments"]).await;
    for vm in [&four, &two] {
        let mut agent = Follower::agent(&world, vm).await;
        assert!(agent.services().await.contains("payments"), "the agent of {}", vm.name);
        let mut relay = Follower::relay(&world, vm).await;
        assert!(relay.services().await.contains("payments"), "the Envoy of {}", vm.name);
    }
    drop(there);
    world.stop().await;
}
