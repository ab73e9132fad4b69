//! A million clients over every split, rising and falling: prints the rows of `scripts/bench`.
//!
//! `cargo run --release -p controller --example keys`
//!
//! 1. Who each client is, and its bucket, as the plan crate tells: its side at each of the splits
//!    0 to 10 000, rising, then falling. At each of 100 splits the buckets are computed afresh, the
//!    share on target is compared with the split, and falling with rising.
//! 2. Every client asks for A and AAAA at one split, and some of them at each of the 100 splits
//!    rising and falling: query bytes with ECS to answer bytes, over catalogs that come from shifts
//!    by the rules.

use std::collections::BTreeSet;
use std::error::Error;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use dns::{Buffer, Catalog, Context, Reply, Transport, respond};
use ipnet::IpNet;
use plan::spec::Clients;
use plan::{
    Actor, Ask, Bucket, Cause, Command, Decided, Facts, Side, Split, State, bucket, client,
};

const CLIENTS: u32 = 1_000_000;

/// Of the clients, this many ask at every one of the 100 splits.
const ASKERS: usize = 20_000;

/// The splits that shares are compared at: 1 % to 100 %.
const STRIDE: u16 = 100;

/// Where all clients ask over DNS.
const ONE_SPLIT: u16 = 3_731;

const PLAN: &str = "
apiVersion: crossfade.dev/v1alpha1
kind: CutoverPlan
metadata: { name: bench }
spec:
  zones: [{ name: bench.example. }]
  services:
    - name: orders
      hosts: [orders.bench.example]
      ports: [{ name: http, port: 8080, protocol: http }]
      legacy: { endpoints: [10.0.1.1, 'fd00:1::1'] }
      target: { endpoints: [10.0.2.1, 'fd00:2::1'] }
  steps: [{ split: 100%, bake: 1h }]
";

const NAME: &[u8] = b"\x06orders\x05bench\x07example\0";
const A: u16 = 1;
const AAAA: u16 = 28;

/// Where queries come from; the clients are told apart by the networks they carry.
const RESOLVER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 53));

fn main() -> Result<(), Box<dyn Error>> {
    let mut world = World::new()?;
    let nets: Vec<IpNet> = (0..CLIENTS).map(network).collect::<Result<_, _>>()?;
    let distinct: BTreeSet<IpNet> = nets.iter().copied().collect();
    if distinct.len() != nets.len() {
        return Err("the clients are not distinct".into());
    }
    by_bucket(&nets, world.salt()?);
    by_dns(&mut world, &nets)
}

/// Distinct clients: half are IPv4 networks of the Internet, a quarter IPv6 ones, a quarter private
/// addresses.
fn network(n: u32) -> Result<IpNet, ipnet::PrefixLenError> {
    let place = n / 4;
    match n % 4 {
        0 => IpNet::new(IpAddr::V4((0x1400_0000 + (place << 8)).into()), 24),
        1 => IpNet::new(IpAddr::V4((0x8000_0000 + (place << 8)).into()), 24),
        2 => {
            let bits = (0x2a00_0000_u128 << 96) + (u128::from(place) << 72);
            IpNet::new(IpAddr::V6(Ipv6Addr::from_bits(bits)), 56)
        }
        _ => IpNet::new(IpAddr::V4((0x0a00_0000 + place).into()), 32),
    }
}

fn buckets(nets: &[IpNet], salt: u64) -> Vec<Bucket> {
    let clients = Clients::default();
    let key = |net: &IpNet| client::key(&clients, RESOLVER, Some(*net)).key;
    nets.iter().map(|net| bucket::dns(key(net), salt)).collect()
}

fn splits() -> impl DoubleEndedIterator<Item = Split> {
    (0..=Split::WHOLE).filter_map(Split::from_bp)
}

fn compared() -> impl DoubleEndedIterator<Item = Split> {
    splits().filter(|split| split.bp() > 0 && split.bp() % STRIDE == 0)
}

fn by_bucket(nets: &[IpNet], salt: u64) {
    let placed = buckets(nets, salt);
    let mut on_target = vec![false; nets.len()];
    let (mut rising, mut backward, mut worst) = (Vec::new(), 0_usize, 0_f64);
    for split in splits() {
        backward += turn(&placed, &mut on_target, split, Side::Legacy);
        if split.bp() > 0 && split.bp() % STRIDE == 0 {
            let fresh = buckets(nets, salt);
            let sides: Vec<bool> = fresh.iter().map(|b| b.side(split) == Side::Target).collect();
            worst = worst.max(deviation(&sides, split));
            rising.push(sides);
        }
    }
    let (mut forward, mut strayed) = (0, 0);
    for split in splits().rev() {
        forward += turn(&placed, &mut on_target, split, Side::Target);
        if split.bp() > 0 && split.bp() % STRIDE == 0 {
            let before = rising.pop().unwrap_or_default();
            let fresh = buckets(nets, salt);
            let fresh = fresh.iter().map(|b| b.side(split) == Side::Target);
            strayed += before
                .iter()
                .zip(fresh)
                .zip(&on_target)
                .filter(|((a, b), c)| *a != b || a != c)
                .count();
        }
    }
    let left = on_target.iter().filter(|side| **side).count();
    row(
        "keys: 1 000 000 clients, 10 001 splits up and down",
        "0 backward, exact retrace",
        &format!("{backward} backward, {} off the path", forward + strayed + left),
        backward + forward + strayed + left == 0,
    );
    row(
        "keys: share at each of 100 splits",
        "within 4 sigma",
        &format!("{worst:.2} sigma"),
        worst <= 4.0,
    );
}

/// Moves every client to its side at `split`; how many went to the side that they may only leave.
fn turn(placed: &[Bucket], on_target: &mut [bool], split: Split, never: Side) -> usize {
    let mut wrong = 0;
    for (bucket, was) in placed.iter().zip(on_target) {
        let is = bucket.side(split) == Side::Target;
        wrong += usize::from(is != *was && is == (never == Side::Target));
        *was = is;
    }
    wrong
}

/// How many standard deviations of so many draws the share is off.
fn deviation(sides: &[bool], split: Split) -> f64 {
    let clients = f64::from(u32::try_from(sides.len()).unwrap_or(u32::MAX));
    let count = sides.iter().filter(|side| **side).count();
    let count = f64::from(u32::try_from(count).unwrap_or(u32::MAX));
    let share = f64::from(split.bp()) / f64::from(Split::WHOLE);
    let expected = clients * share;
    if count == expected {
        return 0.0;
    }
    (count - expected).abs() / (expected * (1.0 - share)).sqrt()
}

fn by_dns(world: &mut World, nets: &[IpNet]) -> Result<(), Box<dyn Error>> {
    let mut tally = Tally::default();
    let placed = buckets(nets, world.salt()?);
    let mut buffer = Buffer::new();
    let one = Split::from_bp(ONE_SPLIT).ok_or("no split")?;
    world.shift(one)?;
    for (net, bucket) in nets.iter().zip(&placed) {
        tally.ask(&world.catalog, &mut buffer, *net, bucket.side(one))?;
    }
    let stride = nets.len() / ASKERS;
    let askers: Vec<_> = nets.iter().zip(&placed).step_by(stride | 1).collect();
    for split in compared().chain(compared().rev().skip(1)) {
        world.shift(split)?;
        for (net, bucket) in &askers {
            tally.ask(&world.catalog, &mut buffer, **net, bucket.side(split))?;
        }
    }
    let Tally { asked, apart, wrong } = tally;
    row(
        &format!("keys: {asked} pairs of DNS answers with ECS"),
        "A = AAAA side = bucket's",
        &format!("{apart} apart, {wrong} wrong"),
        apart + wrong == 0,
    );
    Ok(())
}

#[derive(Default)]
struct Tally {
    asked: u32,
    apart: u32,
    wrong: u32,
}

impl Tally {
    fn ask(
        &mut self,
        catalog: &Catalog,
        buffer: &mut Buffer,
        net: IpNet,
        expected: Side,
    ) -> Result<(), Box<dyn Error>> {
        let v4 = told(catalog, buffer, A, net)?;
        let v6 = told(catalog, buffer, AAAA, net)?;
        self.asked += 1;
        self.apart += u32::from(v4 != v6);
        self.wrong += u32::from(v4 != expected);
        Ok(())
    }
}

/// The side that the answer's address is of.
fn told(
    catalog: &Catalog,
    buffer: &mut Buffer,
    rtype: u16,
    net: IpNet,
) -> Result<Side, Box<dyn Error>> {
    let query = query(rtype, net);
    let context = Context { client: RESOLVER, transport: Transport::Udp, random: 0, cookie: None };
    let Reply::Answer { .. } = respond(catalog, &query, &context, buffer) else {
        return Err("no answer".into());
    };
    // Header, question, then a record: a pointer, type, class, TTL and length are 12 octets.
    let data = buffer.bytes().get(12 + NAME.len() + 4 + 12..).unwrap_or_default();
    let (legacy, target): (&[u8], &[u8]) = match rtype {
        A => (&[10, 0, 1, 1], &[10, 0, 2, 1]),
        _ => (&[0xfd, 0, 0, 1], &[0xfd, 0, 0, 2]),
    };
    match data.get(..4) {
        Some(start) if start == legacy => Ok(Side::Legacy),
        Some(start) if start == target => Ok(Side::Target),
        _ => Err("the answer has no address of either side".into()),
    }
}

/// A query for the service's name that carries a client's network (RFC 7871 section 6).
fn query(rtype: u16, net: IpNet) -> Vec<u8> {
    let octets = match net.network() {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    let used = octets.get(..usize::from(net.prefix_len().div_ceil(8))).unwrap_or_default();
    let length = u8::try_from(used.len()).unwrap_or_default();
    let family = if octets.len() == 4 { 1 } else { 2 };
    let mut query = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\x01".to_vec();
    query.extend(NAME);
    query.extend(rtype.to_be_bytes());
    query.extend(b"\0\x01\0\0\x29\x04\xd0\0\0\0\0\0");
    query.extend([8 + length, 0, 8, 0, 4 + length, 0, family, net.prefix_len(), 0]);
    query.extend(used);
    query
}

/// The log's state without a log, and the catalog of its snapshot.
struct World {
    state: State,
    catalog: Catalog,
}

impl World {
    fn new() -> Result<Self, Box<dyn Error>> {
        let plan = plan::check(PLAN).map_err(|problems| {
            problems.iter().map(|problem| format!("{problem}\n")).collect::<String>()
        })?;
        let mut world = Self { state: State::empty(), catalog: Catalog::empty() };
        world.command(Command::Apply(plan.into()))?;
        Ok(world)
    }

    fn shift(&mut self, split: Split) -> Result<(), Box<dyn Error>> {
        let (plan, overrides) = ("bench".parse()?, BTreeSet::new());
        self.command(Command::Shift { plan, service: None, split, overrides })
    }

    fn command(&mut self, command: Command) -> Result<(), Box<dyn Error>> {
        let actor = Actor::new("bench");
        let ask = Ask { command, if_revision: None, key: None, actor, reason: None };
        if let Decided::Commit(record) =
            self.state.decide(&Cause::Operator(ask), &Facts::default())?
        {
            self.state = self.state.apply(&record)?;
        }
        self.catalog = self.catalog.next(self.state.snapshot(), &mut |_| None)?;
        Ok(())
    }

    fn salt(&self) -> Result<u64, Box<dyn Error>> {
        let service = self.state.snapshot().services.first();
        Ok(service.ok_or("no service")?.salt)
    }
}

fn row(figure: &str, must: &str, measured: &str, ok: bool) {
    println!("{figure}\t{must}\t{measured}\t{}", if ok { "ok" } else { "short" });
}
