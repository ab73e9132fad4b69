//! Which endpoint of a side a client gets: a published function, as the kernel computes it.
//!
//! The endpoints of the packet's family stand in their order, `n` of them. Endpoint `i` serves the
//! clients whose bucket ([`bucket::host`] with the high half of the salt as its seed) is at
//! least `i × 10 000 / n` and less than `(i + 1) × 10 000 / n`, rounded down. The split takes the
//! low half, so that either side's clients spread over all of its endpoints.

use std::net::IpAddr;

use crate::bucket::{self, Bucket};
use crate::split::Split;

/// The salt whose low half is the seed of the choice.
pub const fn salt(service: u64) -> u64 {
    service >> 32
}

/// Below which bucket endpoint `at` of `of`, or one before it, serves; `None`: the last one, which
/// serves all that are left.
pub fn bound(at: usize, of: usize) -> Option<u16> {
    let bound = (at + 1) * usize::from(Split::WHOLE) / of.max(1);
    u16::try_from(bound).ok().filter(|bound| (1..Split::WHOLE).contains(bound))
}

/// Below which draw endpoint `at` of `of` serves, where every flow draws anew for each endpoint in
/// order until one takes it.
pub fn draw_bound(at: usize, of: usize) -> Option<u16> {
    bound(0, of.saturating_sub(at))
}

/// Which of `of` endpoints serves this client.
pub fn endpoint(client: IpAddr, service: u64, of: usize) -> usize {
    let place: Bucket = bucket::host(client, salt(service));
    let taken = |at: &usize| bound(*at, of).is_none_or(|bound| place.number() < bound);
    (0..of).find(taken).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::split::Side;

    #[test]
    fn bounds_are_even_and_the_last_has_none() {
        struct Case {
            of: usize,
            bounds: &'static [Option<u16>],
            draws: &'static [Option<u16>],
        }
        for Case { of, bounds, draws } in [
            Case { of: 1, bounds: &[None], draws: &[None] },
            Case { of: 2, bounds: &[Some(5000), None], draws: &[Some(5000), None] },
            Case {
                of: 3,
                bounds: &[Some(3333), Some(6666), None],
                draws: &[Some(3333), Some(5000), None],
            },
        ] {
            let found: Vec<_> = (0..of).map(|at| bound(at, of)).collect();
            assert_eq!(found, bounds);
            let found: Vec<_> = (0..of).map(|at| draw_bound(at, of)).collect();
            assert_eq!(found, draws);
        }
    }

    #[test]
    fn the_choice_does_not_follow_the_split() {
        let service = bucket::salt("shop/orders");
        let tenth = Split::from_bp(1000).unwrap();
        let mut counts = [0_u32; 4];
        for low in 0..=u16::MAX {
            let client = IpAddr::V4(Ipv4Addr::from(0x0a01_0000 | u32::from(low)));
            if bucket::host(client, service).side(tenth) == Side::Target {
                counts[endpoint(client, service, 4)] += 1;
            }
        }
        let total: u32 = counts.iter().sum();
        assert!((6_300..6_800).contains(&total), "{counts:?}");
        for count in counts {
            assert!(count.abs_diff(total / 4) < total / 40, "{counts:?}");
        }
    }
}
