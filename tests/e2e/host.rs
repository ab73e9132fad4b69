//! The host plane end to end, in network namespaces that the tests make: the real binary as
//! controller and agent, the real kernel, thousands of source addresses.

#[path = "../../agent/tests/support/netns.rs"]
#[expect(clippy::expect_used, reason = "what it needs is part of the set-up")]
mod netns;

mod beside;
mod booted;
mod brought;
mod catch;
mod clock;
mod envoy;
mod envoy_port;
mod envoy_unit;
mod glass;
mod leave;
mod left_flows;
mod load;
mod machine;
mod main_job;
mod mtls;
mod names;
mod peers;
mod plans;
mod refused;
mod resolvers;
mod restored;
mod returns;
mod revoked;
mod stays;
mod trial;
mod watchdog;
mod ways;
mod world;
