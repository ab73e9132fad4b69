//! What several kinds of resources have in common.

use std::net::IpAddr;
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::google::protobuf;
use plan::Side;

/// The resource comes over the same stream.
pub(super) fn ads() -> core::ConfigSource {
    use core::config_source::ConfigSourceSpecifier;
    core::ConfigSource {
        resource_api_version: core::ApiVersion::V3 as i32,
        config_source_specifier: Some(ConfigSourceSpecifier::Ads(Default::default())),
        ..Default::default()
    }
}

/// A TCP address.
pub(super) fn address(ip: IpAddr, port: u16) -> core::Address {
    use core::socket_address::PortSpecifier;
    let socket = core::SocketAddress {
        address: ip.to_string(),
        port_specifier: Some(PortSpecifier::PortValue(port.into())),
        ..Default::default()
    };
    core::Address { address: Some(core::address::Address::SocketAddress(socket)) }
}

/// Whole milliseconds; what does not fit becomes the longest there is.
pub(super) fn duration(time: Duration) -> protobuf::Duration {
    protobuf::Duration {
        seconds: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(time.subsec_nanos()).unwrap_or(0),
    }
}

/// Yes or no, said.
pub(super) const fn flag(value: bool) -> Option<protobuf::BoolValue> {
    Some(protobuf::BoolValue { value })
}

/// The word for a side, in names.
pub(super) const fn word(side: Side) -> &'static str {
    match side {
        Side::Legacy => "legacy",
        Side::Target => "target",
    }
}
