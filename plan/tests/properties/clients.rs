//! Clients, and the side that each of them is on.

use ipnet::IpNet;
use plan::snapshot::Service;
use plan::{Side, bucket};

/// How many clients are followed. Their buckets lie everywhere.
pub(crate) const CLIENTS: u8 = 24;

/// Whether each client is on target, as the DNS plane splits them.
pub(crate) fn on_target(leaf: &Service) -> Vec<bool> {
    let split = leaf.serving.split();
    let client = |i: u8| -> IpNet { format!("192.0.{i}.0/24").parse().unwrap() };
    (0..CLIENTS).map(|i| bucket::dns(client(i), leaf.salt).side(split) == Side::Target).collect()
}
