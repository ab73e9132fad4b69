//! What tests hold.

use std::sync::Arc;

use bytes::Bytes;
use plan::snapshot::Service;
use plan::{Split, Token, fixture};
use xds::follow::{Held, Item};
use xds::own::HostTable;
use xds::{Name, TypeUrl, Version};

/// What a controller sends of a plan of this name: one service at this address.
pub(super) fn item(plan: &str, address: &str, split: Split, revision: u64) -> (Name, Item) {
    item_of(plan, address, split, revision, ["tcp", "10.40.0.2"])
}

/// The same by this protocol and with this target.
pub(super) fn item_of(
    plan: &str,
    address: &str,
    split: Split,
    revision: u64,
    [protocol, target]: [&str; 2],
) -> (Name, Item) {
    let text = format!(
        "apiVersion: crossfade.dev/v1alpha1\nkind: CutoverPlan\nmetadata: {{ name: {plan} }}\n\
         spec:\n  zones: [{{ name: {plan}.example. }}]\n  clients:\n    \
         - {{ networks: [10.20.0.0/16], plane: host }}\n  services:\n    - name: web\n      \
         hosts: [web.{plan}.example]\n      address: {address}\n      \
         ports: [{{ name: http, port: 8080, protocol: {protocol} }}]\n      \
         legacy: {{ endpoints: [10.30.0.2] }}\n      target: {{ endpoints: [{target}] }}\n  \
         steps: [{{ split: 100%, bake: 1h }}]\n"
    );
    let snapshot = fixture::snapshot(&text, split);
    let token = Token { incarnation: 1, revision };
    let since = |leaf: &Arc<Service>| Arc::new(Service { since: token, ..Service::clone(leaf) });
    let services = snapshot.services.iter().map(since).collect();
    let table = HostTable { services };
    let body = Bytes::from(table.encode());
    let version = Version::of(token, &body);
    (Name::new(plan), Item { version, body })
}

/// As the pump holds them.
pub(super) fn held(items: impl IntoIterator<Item = (Name, Item)>) -> Held {
    let mut held = Held::nothing(TypeUrl::HOST_TABLE.into());
    held.resources = items.into_iter().collect();
    held
}
