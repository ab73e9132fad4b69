//! Who a DNS client is: which plane splits it, and the network that its bucket is made of.
//!
//! The DNS plane and `explain` both ask here, so that they cannot disagree.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::spec::{Clients, Plane, Resolver};

/// Bits before the IPv4 address in an IPv4-mapped one (RFC 4291 section 2.5.5.2).
const MAPPED_BITS: u8 = 96;

/// What a DNS server knows of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keyed {
    /// The plane that splits it. Only for [`Plane::Dns`] does the answer depend on the bucket; the
    /// others see the logical address.
    pub plane: Plane,
    /// The row of [`Clients::rows`] that says so, by its index; `None`: no row, hence dns.
    pub row: Option<usize>,
    /// The group of [`Clients::resolvers`] that it belongs to, by its index.
    pub resolver: Option<usize>,
    /// The network that its bucket is made of: [`crate::bucket::dns`].
    pub key: IpNet,
    /// What the answer says of itself as ECS SCOPE PREFIX-LENGTH (RFC 7871 section 7.2.1): 0 where
    /// the client network was not used.
    pub scope: u8,
}

/// Tells a DNS client apart: by its network where the query carries one (`ecs`, RFC 7871), else by
/// the address the query came from.
///
/// - A SOURCE PREFIX-LENGTH of 0 asks not to be told apart by network: the resolver's key, scope 0.
/// - The key has the plan's length, but private addresses count in full: they are resolvers and
///   pods of one's own. A network that is sent shorter than that is used as it is.
/// - All addresses of a resolver group count as its first one.
/// - Where a client row ends inside the key's network, the scope is as long as that row's prefix,
///   so that no cache carries an answer over the border.
pub fn key(clients: &Clients, source: IpAddr, ecs: Option<IpNet>) -> Keyed {
    match ecs.filter(|net| net.prefix_len() > 0) {
        Some(net) => {
            let canonical = canonical_net(net);
            let keyed = by_network(clients, canonical);
            // The scope counts the bits of the network as it was sent.
            let mapped = matches!((net, canonical), (IpNet::V6(_), IpNet::V4(_)));
            let scope = keyed.scope + if mapped { MAPPED_BITS } else { 0 };
            Keyed { scope, ..keyed }
        }
        None => by_address(clients, source.to_canonical()),
    }
}

/// Whether an address is of one's own network rather than of the Internet: RFC 1918, shared space
/// (RFC 6598), loopback, link-local (RFC 3927, RFC 4291 section 2.5.6) and unique local (RFC 4193).
pub const fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            let shared = a == 100 && b & 0xc0 == 64;
            v4.is_private() || shared || v4.is_loopback() || v4.is_link_local()
        }
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unicast_link_local() || v6.is_unique_local(),
    }
}

fn by_address(clients: &Clients, source: IpAddr) -> Keyed {
    let resolver = clients.resolvers.iter().position(|group| group.addresses.contains(&source));
    let first = |group: &Resolver| group.addresses.first().copied();
    let address = resolver.and_then(|at| clients.resolvers.get(at)).and_then(first);
    let address = address.unwrap_or(source);
    let (row, plane) = row_of(clients, address);
    Keyed {
        plane,
        row,
        resolver,
        key: cut(IpNet::from(address), length(clients, address)),
        scope: 0,
    }
}

fn by_network(clients: &Clients, net: IpNet) -> Keyed {
    let address = net.network();
    let length = length(clients, address);
    let (row, plane) = row_of(clients, address);
    let key = cut(net, length);
    let borders = clients.rows.iter().flat_map(|row| &row.networks);
    let borders = borders.filter(|border| key.contains(*border)).map(IpNet::prefix_len);
    let scope = borders.max().map_or(length, |border| border.max(length));
    Keyed { plane, row, resolver: None, key, scope }
}

/// The first row that holds this address, by its index, and the plane that it says; no row: dns.
pub fn row_of(clients: &Clients, address: IpAddr) -> (Option<usize>, Plane) {
    let holds = |nets: &[IpNet]| nets.iter().any(|net| net.contains(&address));
    let row = clients.rows.iter().enumerate().find(|(_, row)| holds(&row.networks));
    row.map_or((None, Plane::Dns), |(at, row)| (Some(at), row.plane))
}

/// The length of the key of this address.
const fn length(clients: &Clients, address: IpAddr) -> u8 {
    match (address, is_private(address)) {
        (IpAddr::V4(_), true) => 32,
        (IpAddr::V6(_), true) => 128,
        (IpAddr::V4(_), false) => clients.key.v4,
        (IpAddr::V6(_), false) => clients.key.v6,
    }
}

/// `net` at no more than `length` bits, its host bits cleared.
fn cut(net: IpNet, length: u8) -> IpNet {
    let length = length.min(net.prefix_len());
    IpNet::new(net.addr(), length).map_or(net, |net| net.trunc())
}

/// A network of IPv4-mapped addresses (RFC 4291 section 2.5.5.2) is one of IPv4.
fn canonical_net(net: IpNet) -> IpNet {
    let short = net.prefix_len().checked_sub(MAPPED_BITS);
    match (net.network().to_canonical(), short) {
        (address @ IpAddr::V4(_), Some(short)) if matches!(net, IpNet::V6(_)) => {
            IpNet::new(address, short).unwrap_or(net)
        }
        _ => net.trunc(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{ClientKey, ClientRow};

    fn clients() -> Clients {
        let row = |plane, nets: &[&str]| ClientRow {
            networks: nets.iter().map(|net| net.parse().unwrap()).collect(),
            plane,
        };
        let group = |name: &str, addresses: &[&str]| Resolver {
            name: name.to_owned(),
            addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
        };
        Clients {
            rows: vec![
                row(Plane::Mesh, &["10.8.0.0/16"]),
                row(Plane::Host, &["203.0.113.128/25", "2001:db8:1::/48"]),
            ],
            resolvers: vec![
                group("hq", &["10.0.0.53", "10.0.0.54"]),
                group("isp", &["198.51.100.53", "198.51.100.153", "2001:db8:9::53"]),
            ],
            key: ClientKey::default(),
        }
    }

    #[test]
    fn who_a_client_is() {
        struct Case {
            source: &'static str,
            ecs: Option<&'static str>,
            plane: Plane,
            row: Option<usize>,
            resolver: Option<usize>,
            key: &'static str,
            scope: u8,
        }
        let dns = |source, ecs, key, scope| Case {
            source,
            ecs,
            plane: Plane::Dns,
            row: None,
            resolver: None,
            key,
            scope,
        };
        let cases = [
            // Public addresses count by network, private ones in full.
            dns("198.51.100.7", None, "198.51.100.0/24", 0),
            dns("2001:db8:2:3ff::1", None, "2001:db8:2:300::/56", 0),
            dns("10.1.2.3", None, "10.1.2.3/32", 0),
            dns("172.16.0.1", None, "172.16.0.1/32", 0),
            dns("192.168.0.1", None, "192.168.0.1/32", 0),
            dns("100.64.0.1", None, "100.64.0.1/32", 0),
            dns("100.128.0.1", None, "100.128.0.0/24", 0),
            dns("127.0.0.1", None, "127.0.0.1/32", 0),
            dns("169.254.0.1", None, "169.254.0.1/32", 0),
            dns("::1", None, "::1/128", 0),
            dns("fd00::1", None, "fd00::1/128", 0),
            dns("fe80::1", None, "fe80::1/128", 0),
            // A socket of both families sees mapped addresses.
            dns("::ffff:198.51.100.7", None, "198.51.100.0/24", 0),
            // ECS counts before the source; SOURCE 0 asks not to.
            dns("10.0.0.53", Some("192.0.2.0/24"), "192.0.2.0/24", 24),
            dns("10.0.0.99", Some("192.0.2.7/32"), "192.0.2.0/24", 24),
            dns("10.0.0.99", Some("192.0.0.0/16"), "192.0.0.0/16", 24),
            dns("10.0.0.99", Some("0.0.0.0/0"), "10.0.0.99/32", 0),
            dns("10.0.0.99", Some("10.1.2.3/32"), "10.1.2.3/32", 32),
            dns("10.0.0.99", Some("2001:db8:2:3ff::/64"), "2001:db8:2:300::/56", 56),
            // The scope is as long as a row that ends inside the key's network.
            dns("10.0.0.99", Some("203.0.113.7/32"), "203.0.113.0/24", 25),
            Case {
                plane: Plane::Host,
                row: Some(1),
                ..dns("10.0.0.99", Some("203.0.113.200/32"), "203.0.113.0/24", 25)
            },
            Case { plane: Plane::Mesh, row: Some(0), ..dns("10.8.1.1", None, "10.8.1.1/32", 0) },
            Case {
                plane: Plane::Host,
                row: Some(1),
                ..dns("2001:db8:1:2::3", None, "2001:db8:1::/56", 0)
            },
            // Every address of a group counts as its first.
            Case { resolver: Some(0), ..dns("10.0.0.54", None, "10.0.0.53/32", 0) },
            Case { resolver: Some(1), ..dns("198.51.100.153", None, "198.51.100.0/24", 0) },
            Case { resolver: Some(1), ..dns("2001:db8:9::53", None, "198.51.100.0/24", 0) },
        ];
        for Case { source, ecs, plane, row, resolver, key, scope } in cases {
            let ecs = ecs.map(|net| net.parse().unwrap());
            let expected = Keyed { plane, row, resolver, key: key.parse().unwrap(), scope };
            let found = super::key(&clients(), source.parse().unwrap(), ecs);
            assert_eq!(found, expected, "{source} {ecs:?}");
        }
    }

    #[test]
    fn mapped_networks_are_of_ipv4() {
        let mapped: IpNet = "::ffff:192.0.2.0/120".parse().unwrap();
        let found = key(&clients(), "10.0.0.53".parse().unwrap(), Some(mapped));
        assert_eq!(found.key, "192.0.2.0/24".parse().unwrap());
        // 24 would be the scope of an IPv6 network that holds all mapped addresses.
        assert_eq!(found.scope, 120);
    }
}
