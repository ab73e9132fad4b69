//! A controller with its log in memory, its API and its DNS plane on loopback.
//!
//! ```text
//! cargo run -p controller --example api -- 127.0.0.1:7400 127.0.0.1:5300
//! ```

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;

use controller::api::{self, Listen, Settings};
use controller::clock::Clock;
use controller::planes;
use controller::pump::Pump;
use controller::store::Memory;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut address =
        |default: &str| arguments.next().unwrap_or_else(|| default.to_owned()).parse();
    let (tcp, dns): (SocketAddr, SocketAddr) =
        (address("127.0.0.1:7400")?, address("127.0.0.1:5300")?);
    let (handle, mut pump) = Pump::open(Arc::new(Memory::new()), Clock::start()).await?;
    let catalog = Arc::new(dns::Catalog::empty());
    let server = Arc::new(dns::Server::bind(&[dns], NonZeroUsize::MIN, catalog)?);
    if let Some(port) = pump.dns_port() {
        tokio::spawn(planes::dns::run(port, Arc::clone(&server)));
    }
    let running = pump.run();
    let bound = api::bind(&Listen { tcp: vec![tcp], ..Listen::default() }).await?;
    println!("{}", bound.urls().join("\n"));
    handle.bound(|note| note.dns = server.addresses().iter().map(ToString::to_string).collect());
    handle.ready();
    let settings =
        Settings { dns: Some(server), scratch: Some(std::env::temp_dir()), ..Settings::default() };
    let stop = async {
        // Without signals it runs until it is killed.
        let _ = tokio::signal::ctrl_c().await;
    };
    api::serve(bound, settings, handle, stop).await;
    running.stop().await;
    Ok(())
}
