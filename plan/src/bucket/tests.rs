use proptest::prelude::*;

use super::*;

/// The salt of the published vectors.
fn orders() -> u64 {
    salt("shop/orders")
}

/// Computed by the reference implementation of xxHash (python-xxhash 3) over the published bytes.
#[test]
fn dns_vectors() {
    assert_eq!(orders(), 0x0ca8_769e_242d_5c63);
    for (network, bucket) in [
        ("10.0.0.0/24", 2126),
        ("10.0.0.53/32", 7216),
        ("192.0.2.0/24", 6580),
        ("203.0.113.0/24", 3614),
        ("2001:db8::/56", 8883),
        ("2001:db8:0:100::/56", 2744),
        ("fd00:a::53/128", 1022),
        ("2001:db8::/32", 2032),
    ] {
        assert_eq!(dns(network.parse().unwrap(), orders()).number(), bucket, "{network}");
    }
}

#[test]
fn a_network_counts_as_one_client() {
    let bucket = |text: &str| dns(text.parse().unwrap(), orders());
    assert_eq!(bucket("192.0.2.77/24"), bucket("192.0.2.0/24"));
    assert_ne!(bucket("192.0.2.0/25"), bucket("192.0.2.0/24"));
}

/// Read from Linux 6.18: nftables 1.0.6, `meta mark set jhash ip saddr mod 10000 seed S`, packets
/// from these addresses, the marks collected in a set.
#[test]
fn host_vectors() {
    for (seed, address, bucket) in [
        (0x242d_5c63, "10.0.1.11", 996),
        (0x242d_5c63, "10.0.1.12", 9908),
        (0x242d_5c63, "127.0.0.1", 8235),
        (0x242d_5c63, "192.0.2.1", 3549),
        (0x242d_5c63, "203.0.113.77", 4208),
        (0x242d_5c63, "2001:db8::1", 7177),
        (0x242d_5c63, "fd00:a::3:80", 3576),
        (0x242d_5c63, "::1", 6378),
        (0xed6a_1f2c, "10.0.1.11", 3178),
        (0xed6a_1f2c, "10.0.1.12", 7219),
        (0xed6a_1f2c, "127.0.0.1", 2741),
        (0xed6a_1f2c, "192.0.2.1", 2331),
        (0xed6a_1f2c, "203.0.113.77", 4369),
        (0xed6a_1f2c, "2001:db8::1", 2313),
        (0xed6a_1f2c, "fd00:a::3:80", 3988),
        (0xed6a_1f2c, "::1", 6481),
    ] {
        assert_eq!(host(address.parse().unwrap(), seed).number(), bucket, "{address}");
        // The high half of the salt does not count.
        let salted = host(address.parse().unwrap(), seed | 0xabcd_ef01 << 32);
        assert_eq!(salted.number(), bucket, "{address}");
    }
    assert_eq!(orders() & 0xffff_ffff, 0x242d_5c63);
}

/// The vectors that lookup3 was published with.
#[test]
fn jhash_is_lookup3() {
    for (key, seed, hash) in [
        ("", 0, 0xdead_beef),
        ("", 0xdead_beef, 0xbd5b_7dde),
        ("Four score and seven years ago", 0, 0x1777_0551),
        ("Four score and seven years ago", 1, 0xcd62_8161),
    ] {
        assert_eq!(jhash(key.as_bytes(), seed), hash, "{key:?} {seed:#x}");
    }
}

/// Computed by the reference implementation of xxHash, modulo 10 000.
#[test]
fn mesh_vectors() {
    for (key, bucket) in [
        ("10.8.0.1", 1006),
        ("10.8.0.2", 3959),
        ("2001:db8::1", 385),
        ("user-42", 1169),
        ("", 6921),
    ] {
        assert_eq!(mesh(key.as_bytes()).number(), bucket, "{key:?}");
    }
}

#[test]
fn draws_cover_every_place() {
    assert_eq!(Bucket::from_bits(0).number(), 0);
    assert_eq!(Bucket::from_bits(u64::MAX).number(), 9_999);
    let step = u64::MAX / 10_000 + 1;
    for place in 0..10_000_u16 {
        assert_eq!(Bucket::from_bits(u64::from(place) * step).number(), place);
    }
}

/// The first so many clients of a plane, each with an address of its own.
fn buckets(plane: &str, count: u32) -> Vec<Bucket> {
    let bucket = |n: u32| {
        let v4 = IpAddr::from((0x0a00_0000 + n).to_be_bytes());
        match plane {
            "dns" => dns(IpNet::new(IpAddr::from((n << 8).to_be_bytes()), 24).unwrap(), orders()),
            "dns6" => {
                let network = (0x2001_0db8_u128 << 96) + (u128::from(n) << 72);
                dns(IpNet::new(IpAddr::from(network.to_be_bytes()), 56).unwrap(), orders())
            }
            "host" => host(v4, orders()),
            _ => mesh(v4.to_string().as_bytes()),
        }
    };
    (0..count).map(bucket).collect()
}

/// Chi-square over 100 cells of 1 000 clients each: with 99 degrees of freedom its mean is 99 and
/// its deviation 14; five deviations above happen once in a million.
#[test]
fn clients_spread_evenly() {
    for plane in ["dns", "dns6", "host", "mesh"] {
        let mut cells = [0_u32; 100];
        for bucket in buckets(plane, 100_000) {
            cells[usize::from(bucket.number() / 100)] += 1;
        }
        let square = |count: &u32| (f64::from(*count) - 1_000.0).powi(2) / 1_000.0;
        let chi: f64 = cells.iter().map(square).sum();
        assert!((40.0..170.0).contains(&chi), "{plane}: {chi}");
    }
}

/// At every split the share is that of the split, within four deviations.
#[test]
fn shares_are_those_of_the_split() {
    for plane in ["dns", "dns6", "host", "mesh"] {
        let buckets = buckets(plane, 100_000);
        for bp in (0..=10_000).step_by(100) {
            let split = Split::from_bp(bp).unwrap();
            let target = buckets.iter().filter(|bucket| bucket.side(split) == Side::Target).count();
            let share = f64::from(bp) / 10_000.0;
            let deviation = (share * (1.0 - share) * 100_000.0).sqrt();
            let off = (target as f64 - share * 100_000.0).abs();
            assert!(off <= 4.0 * deviation, "{plane} at {split}: off by {off}, {deviation}");
        }
    }
}

proptest! {
    /// Raising a split never takes a client back; 0 and 100 % are exact.
    #[test]
    fn clients_move_one_way(bits: u64, low in 0..=10_000_u16, high in 0..=10_000_u16) {
        let bucket = Bucket::from_bits(bits);
        let side = |bp| bucket.side(Split::from_bp(bp).unwrap());
        let (low, high) = (low.min(high), low.max(high));
        prop_assert!(side(low) <= side(high));
        prop_assert_eq!(side(0), Side::Legacy);
        prop_assert_eq!(side(10_000), Side::Target);
        // The client moves exactly between its place and the next.
        prop_assert_eq!(side(bucket.number()), Side::Legacy);
        prop_assert_eq!(side(bucket.number() + 1), Side::Target);
    }

    /// Other salts, other clients: two services do not move the same clients first.
    #[test]
    fn salts_tell_services_apart(a in "[a-z]{1,12}", b in "[a-z]{1,12}") {
        prop_assume!(a != b);
        let quarter = Split::from_bp(2_500).unwrap();
        let both = (0..4_000_u32).filter(|n| {
            let network = IpNet::new(IpAddr::from((n << 8).to_be_bytes()), 24).unwrap();
            [&a, &b].iter().all(|text| dns(network, salt(text)).side(quarter) == Side::Target)
        });
        // 250 of 4 000 by chance, deviation 15.
        prop_assert!((150..350).contains(&both.count()));
    }
}

/// As `inet_ntop` of glibc 2.36 prints them.
#[test]
fn addresses_are_keys_as_envoy_prints_them() {
    for (address, key) in [
        ("10.8.0.1", "10.8.0.1"),
        ("2001:db8::1", "2001:db8::1"),
        ("2001:DB8:0:0:1:0:0:1", "2001:db8::1:0:0:1"),
        ("2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"),
        ("2001:0:0:1::1", "2001:0:0:1::1"),
        ("fd00::", "fd00::"),
        ("::", "::"),
        ("::1", "::1"),
        ("::ffff", "::ffff"),
        ("::1:2", "::0.1.0.2"),
        ("::102:304", "::1.2.3.4"),
        ("::1:102:304", "::1:102:304"),
        ("::ffff:10.8.0.1", "10.8.0.1"),
        ("::ffff:0:10.8.0.1", "::ffff:0:a08:1"),
        ("64:ff9b::10.8.0.1", "64:ff9b::a08:1"),
    ] {
        assert_eq!(address_key(address.parse().unwrap()), key, "{address}");
    }
}
