//! A zone text and a plan's name to a catalog; one query to one answer.
//!
//! ```text
//! cargo run -p dns --example respond [CLIENT]
//! ```

use std::error::Error;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::sync::Arc;

use dns::respond::{Client, answer};
use dns::{Buffer, Catalog, Context, Name, Reply, Source, Transport, Zone, respond, zone};
use plan::bucket;
use plan::endpoint::{Endpoint, Endpoints, Pool};
use plan::snapshot::{Motion, Parts, Service, Serving};
use plan::spec::{self, Affinity, Clients, Port, Protocol};

const ZONE: &str = "
$TTL 1h
@       SOA   ns1 hostmaster 1 2h 15m 2w 5m
@       NS    ns1
ns1     A     192.0.2.1
orders  MX    10 mail
mail    A     192.0.2.25
shop    CNAME orders
";

fn main() -> Result<(), Box<dyn Error>> {
    let client = std::env::args().nth(1).unwrap_or_else(|| "198.51.100.7".to_owned());
    let origin = Name::from_text("corp.example")?;
    let zone = Zone::parse(&origin, &Source::new("corp.example.zone", ZONE))
        .map_err(|problems| problems.iter().map(|p| format!("{p}\n")).collect::<String>())?;
    let services = [orders()?];
    let catalog = Catalog::of_zones(vec![zone]).with_names(plan::Token::START, &services);

    // Bytes in, bytes out: what a server does.
    let query = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x06orders\x04corp\x07example\0\0\x01\0\x01";
    let address: IpAddr = "198.51.100.7".parse()?;
    let context = Context { client: address, transport: Transport::Udp, random: 0, cookie: None };
    let mut buffer = Buffer::new();
    match respond(&catalog, query, &context, &mut buffer) {
        Reply::Silent => println!("no answer"),
        Reply::Answer { len, seen } => println!("{len} octets to {address}; told: {seen:?}"),
    }

    // The same as text, with the reason: what `crossfade answer` prints.
    let name = Name::from_text("shop.corp.example")?;
    let rtype = zone::rtype("A").ok_or("no such type")?;
    let answered = answer(&catalog, &name, rtype, client.parse::<Client>()?);
    println!("{} {}", answered.rcode.name(), answered.flags.join(" "));
    for record in &answered.answer {
        println!("{record}");
    }
    for reason in &answered.reason {
        println!("; {reason}");
    }
    Ok(())
}

/// A quarter of the clients are on the target side.
fn orders() -> Result<Arc<Service>, Box<dyn Error>> {
    let endpoints = |address: &str| -> Result<Endpoints, Box<dyn Error>> {
        Endpoints::new(vec![address.parse::<Endpoint>()?]).ok_or_else(|| "no endpoint".into())
    };
    let spec = spec::Service {
        name: "orders".parse()?,
        hosts: vec!["orders.corp.example".parse()?],
        address: None,
        ports: vec![Port {
            name: "http".parse()?,
            port: NonZeroU16::new(8080).ok_or("no port")?,
            protocol: Protocol::Http,
        }],
        affinity: Affinity::ClientIp,
        salt: "orders-2026".into(),
        legacy: endpoints("10.0.1.11")?,
        target: endpoints("10.9.1.21")?,
        after: Vec::new(),
        preserve_source: false,
    };
    let pool = |serving: &Endpoints| Pool { serving: serving.clone(), degraded: false };
    Ok(Arc::new(Service {
        id: "shop/orders".parse()?,
        since: plan::Token::START,
        salt: bucket::salt(&spec.salt),
        serving: Serving::Both {
            legacy: pool(&spec.legacy),
            target: pool(&spec.target),
            split: "25%".parse()?,
        },
        spec: Arc::new(spec),
        clients: Arc::new(Clients::default()),
        motion: Motion::Moving,
        gateways: Arc::new([]),
        drain: None,
        ttls: [5].into(),
        parts: Parts::default(),
    }))
}
