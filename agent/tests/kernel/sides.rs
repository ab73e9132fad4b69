//! Real packets of 65 536 clients of each family: each goes where it was predicted, nobody goes
//! back while the split rises, and all retrace while it falls.

use agent::dataplane::{Dataplane as _, Ownership};
use plan::{Side, bucket};

use crate::backends::{Backends, CLIENTS, address, sides};
use crate::netns::{World, allowed};
use crate::tables::{SHAPE, Shape, flows, open, service};

#[test]
fn every_client_is_where_it_was_predicted() {
    if !allowed("every_client_is_where_it_was_predicted") {
        return;
    }
    let world = World::new();
    let _backends = Backends::start(&world);
    let mut netlink = world.vm.enter(|| open(Ownership::Persistent));
    let series = [0, 1, 1_000, 5_000, 9_999, 10_000, 5_000, 1_000, 0];
    let mut seen: Vec<(u16, [Vec<u8>; 2])> = Vec::new();
    for (round, split) in (0_u16..).zip(series) {
        netlink.commit(&service(Shape { split, ..SHAPE })).unwrap();
        let now = [0, 1].map(|family| {
            // As many flows would not fit into the table of the machine.
            netlink.forget(&flows(&[Side::Legacy, Side::Target], true)).unwrap();
            sides(&world, family, 20_000 + round)
        });
        for (family, sides) in now.iter().enumerate() {
            assert_eq!(wrong(family, sides, split), 0, "family {family} at {split}");
        }
        if let Some((before, last)) = seen.last() {
            assert_eq!(back(last, &now, *before < split), 0, "from {before} to {split}");
        }
        let earlier = seen.iter().find(|(of, _)| *of == split);
        assert!(earlier.is_none_or(|(_, sides)| *sides == now), "{split} is retraced exactly");
        seen.push((split, now));
    }
    let counted: u64 = netlink.counters().unwrap().values().map(|tally| tally.packets).sum();
    let asked = u64::try_from(series.len()).unwrap() * 2 * u64::from(CLIENTS);
    assert_eq!(counted, asked, "each flow is counted once");
    netlink.forget(&flows(&[Side::Legacy, Side::Target], true)).unwrap();
}

fn wrong(family: usize, sides: &[u8], split: u16) -> usize {
    let predicted = (0..CLIENTS).map(|client| {
        let bucket = bucket::host(address(family, client), u64::from(SHAPE.seed));
        if bucket.number() < split { b'T' } else { b'L' }
    });
    predicted.zip(sides).filter(|(expected, found)| expected != *found).count()
}

/// How many went the other way than the split.
fn back(last: &[Vec<u8>; 2], now: &[Vec<u8>; 2], rising: bool) -> usize {
    let against = if rising { (b'T', b'L') } else { (b'L', b'T') };
    let pairs = last.iter().flatten().copied().zip(now.iter().flatten().copied());
    pairs.filter(|pair| *pair == against).count()
}
