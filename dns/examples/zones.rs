//! Serves zone files, and if asked weighted names in the first of them, until interrupted:
//!
//! `zones ADDRESS THREADS WEIGHTED ORIGIN=FILE …`
//!
//! With WEIGHTED above 0, names `w0` to `w<WEIGHTED - 1>` of the first zone are services at 50 %.

use std::error::Error;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;

use dns::{Catalog, Name, Server, Zone};
use plan::endpoint::{Endpoint, Endpoints, Pool};
use plan::snapshot::{Motion, Parts, Service, Serving};
use plan::spec::{self, Affinity, Clients};
use plan::{ServiceId, Token};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut argument = || arguments.next().ok_or("serve ADDRESS THREADS WEIGHTED ORIGIN=FILE …");
    let address: SocketAddr = argument()?.parse()?;
    let threads: NonZeroUsize = argument()?.parse()?;
    let weighted: usize = argument()?.parse()?;
    let mut zones = Vec::new();
    let mut origins = Vec::new();
    for zone in arguments {
        let (origin, file) = zone.split_once('=').ok_or("a zone is given as ORIGIN=FILE")?;
        zones.push(read(origin, Path::new(file))?);
        origins.push(origin.trim_end_matches('.').to_owned());
    }
    let mut catalog = Catalog::of_zones(zones);
    if let Some(origin) = origins.first().filter(|_| weighted > 0) {
        let mut services = (0..weighted)
            .map(|number| service(origin, number).map(Arc::new))
            .collect::<Result<Vec<_>, _>>()?;
        services.sort_by(|a, b| a.id.cmp(&b.id));
        catalog = catalog.with_names(Token::START.next(), &services);
    }
    let server = Server::bind(&[address], threads, Arc::new(catalog))?;
    for address in server.addresses() {
        println!("dns {address}");
    }
    tokio::signal::ctrl_c().await?;
    println!("{:?}", server.totals());
    server.shutdown().await;
    Ok(())
}

fn read(origin: &str, file: &Path) -> Result<Zone, Box<dyn Error>> {
    let origin = Name::from_text(origin)?;
    let zone = dns::zone::load::read(&origin, file).and_then(|text| Zone::parse(&origin, &text));
    Ok(zone.map_err(|problems| {
        let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
        lines.join("\n")
    })?)
}

fn service(origin: &str, number: usize) -> Result<Service, Box<dyn Error>> {
    let side = |net: u8| -> Result<Endpoints, Box<dyn Error>> {
        let address = format!("10.{net}.{}.{}", number / 250, number % 250 + 1).parse()?;
        Endpoints::new(vec![Endpoint { address, port: None }]).ok_or_else(|| "no endpoint".into())
    };
    let pool = |endpoints: &Endpoints| Pool { serving: endpoints.clone(), degraded: false };
    let (legacy, target) = (side(1)?, side(2)?);
    let serving = Serving::Both {
        legacy: pool(&legacy),
        target: pool(&target),
        split: plan::Split::from_bp(5_000).ok_or("no split")?,
    };
    let spec = spec::Service {
        name: format!("w{number}").parse()?,
        hosts: vec![format!("w{number}.{origin}").parse()?],
        address: None,
        ports: Vec::new(),
        affinity: Affinity::ClientIp,
        salt: format!("w{number}").into(),
        legacy,
        target,
        after: Vec::new(),
        preserve_source: false,
    };
    Ok(Service {
        id: ServiceId { plan: "bench".parse()?, service: spec.name.clone() },
        since: Token::START.next(),
        salt: plan::bucket::salt(&spec.salt),
        spec: Arc::new(spec),
        clients: Arc::new(Clients::default()),
        serving,
        motion: Motion::Moving,
        gateways: Arc::new([]),
        drain: None,
        ttls: Arc::new([5]),
        parts: Parts::default(),
    })
}
