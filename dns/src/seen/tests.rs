//! Counting who was told what.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use ipnet::{IpNet, Ipv4Net};
use plan::split::Side;
use plan::time::Timestamp;
use proptest::prelude::*;

use super::places::{Place, Roster};
use super::table::Table;
use super::{KEYS_PER_SERVICE, KeyHasher, Seen, TABLE_SLOTS};

const HASHER: KeyHasher = KeyHasher::new([0x1234_5678_9abc_def1, 0x0fed_cba9_8765_4321]);

fn client(number: u32) -> IpNet {
    IpNet::V4(Ipv4Net::new(Ipv4Addr::from_bits(number << 8), 24).unwrap())
}

/// One service in its first epoch.
fn roster(services: u32) -> Roster {
    let places = (0..services).map(|index| Place { index, epoch: 1, first: 1, ttl: 5 });
    Roster::of(places)
}

fn place(roster: &Roster, service: u32) -> Place {
    roster.place(service).unwrap()
}

fn counts(tables: &[Seen], roster: &Roster) -> Vec<plan::Count> {
    let counts = super::counts(tables.iter(), roster, Timestamp::from_millis(0));
    counts.into_iter().map(|(_, count)| count).collect()
}

#[test]
fn a_client_of_two_threads_is_one_client() {
    let roster = roster(1);
    let tables = [Seen::new(HASHER), Seen::new(HASHER)];
    for number in 0..100 {
        let side = if number % 4 == 0 { Side::Target } else { Side::Legacy };
        for table in &tables {
            let place = place(&roster, 0);
            table.lock().note(&roster, place, client(number), side, 100);
        }
    }
    let count = counts(&tables, &roster)[0];
    assert_eq!((count.keys, count.target, count.legacy), (100, 25, 75));
    assert_eq!((count.events, count.largest, count.squares), (200, 2, 400));
}

#[test]
fn beyond_the_bound_shares_stay_right_and_events_exact() {
    const CLIENTS: u32 = KEYS_PER_SERVICE * 20;
    let roster = roster(1);
    let tables = [Seen::new(HASHER), Seen::new(HASHER)];
    let mut target = 0;
    for number in 0..CLIENTS {
        // The side follows the bucket, as it does in service; counting must not follow it too.
        let bucket = plan::bucket::dns(client(number), 7).number();
        let side = if bucket < 1_000 { Side::Target } else { Side::Legacy };
        target += u64::from(side == Side::Target);
        // One thread sees a part only, so its level is another.
        let tables = if number % 5 == 0 { &tables[..] } else { &tables[..1] };
        for table in tables {
            table.lock().note(&roster, place(&roster, 0), client(number), side, 100);
        }
    }
    let count = counts(&tables, &roster)[0];
    assert_eq!(count.events, u64::from(CLIENTS) * 6 / 5);
    assert_eq!(count.legacy + count.target, count.keys);
    let off = |got: u64, real: u64| (got as f64 / real as f64 - 1.0).abs();
    // At least a quarter of the bound is kept: 4 standard deviations are 6 %, of a tenth 20 %.
    assert!(off(count.keys, CLIENTS.into()) < 0.06, "{count:?}");
    assert!(off(count.target, target) < 0.20, "{count:?} {target}");
    assert!(off(u64::try_from(count.squares).unwrap(), u64::from(CLIENTS) * 8 / 5) < 0.1);
}

#[test]
fn a_full_table_makes_room_fairly() {
    const SERVICES: u32 = 1_000;
    let roster = roster(SERVICES);
    let seen = Seen::new(HASHER);
    for number in 0..400 {
        for service in 0..SERVICES {
            let place = place(&roster, service);
            seen.lock().note(&roster, place, client(number), Side::Legacy, 100);
        }
    }
    assert!(seen.lock().used() <= TABLE_SLOTS / 4 * 3);
    let counts = counts(&[seen], &roster);
    assert_eq!(counts.len(), 1_000);
    let keys: u64 = counts.iter().map(|count| count.keys).sum();
    assert!((200_000..800_000).contains(&keys), "{keys}");
    assert!(counts.iter().all(|count| count.events == 400));
}

#[test]
fn a_new_epoch_starts_at_nothing_and_keeps_when_old_answers_end() {
    let mut roster = roster(2);
    let mut table = Table::new(HASHER, 64);
    for number in 0..10 {
        table.note(&roster, place(&roster, 0), client(number), Side::Legacy, 100);
    }
    roster = Roster::of([Place { epoch: 2, ..place(&roster, 0) }, place(&roster, 1)].into_iter());
    assert_eq!(table.tally(0).old_until(2), 106);
    table.note(&roster, place(&roster, 0), client(3), Side::Target, 103);
    assert_eq!((table.tally(0).events, table.tally(0).old_until(2)), (1, 106));
    // The old entries give way when room is needed, again and again.
    for number in 0..48 {
        table.note(&roster, place(&roster, 1), client(number), Side::Target, 103);
    }
    assert!(table.used() <= 48);
    // A service that came to the place of another does not inherit.
    let other = Place { index: 0, epoch: 3, first: 3, ttl: 5 };
    table.note(&roster, other, client(3), Side::Target, 104);
    assert_eq!(table.tally(0).old_until(3), 0);
}

proptest! {
    #[test]
    fn below_the_bounds_everything_is_exact(
        told in prop::collection::vec((0..3_u32, 0..40_u32, any::<bool>(), 0..3_usize), 0..300),
    ) {
        let roster = roster(3);
        let tables = [Seen::new(HASHER), Seen::new(HASHER), Seen::new(HASHER)];
        let mut naive = BTreeMap::<u32, BTreeMap<u32, [u64; 2]>>::new();
        for (service, number, target, thread) in told {
            let side = if target { Side::Target } else { Side::Legacy };
            let place = place(&roster, service);
            tables[thread].lock().note(&roster, place, client(number), side, 100);
            naive.entry(service).or_default().entry(number).or_default()[usize::from(target)] += 1;
        }
        let counts = counts(&tables, &roster);
        prop_assert_eq!(counts.len(), naive.len());
        for (count, keys) in counts.iter().zip(naive.values()) {
            let events = keys.values().map(|[legacy, target]| legacy + target);
            let squares: u128 = events.clone().map(|n| u128::from(n * n)).sum();
            let told = |side: usize| keys.values().filter(|told| told[side] > 0).count() as u64;
            prop_assert_eq!(count.keys, keys.len() as u64);
            prop_assert_eq!(count.events, events.clone().sum::<u64>());
            prop_assert_eq!(count.largest, events.max().unwrap_or(0));
            prop_assert_eq!(count.squares, squares);
            prop_assert_eq!((count.legacy, count.target), (told(0), told(1)));
        }
    }
}
