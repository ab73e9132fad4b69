//! Prints a bootstrap: `cargo run -p xds --example bootstrap -- envoy|grpc ROLE CONTROLLER`.

use std::env;
use std::error::Error;

use xds::bootstrap::{self, Options};
use xds::render::Role;

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = env::args().skip(1).collect();
    let [kind, role, controller, rest @ ..] = words.as_slice() else {
        return Err("usage: envoy|grpc ROLE CONTROLLER [BIND] [GATEWAY] [ADMIN PORT]".into());
    };
    let role = Role::ALL.into_iter().find(|known| known.as_str() == role).ok_or("no such role")?;
    let word = |at: usize| rest.get(at).filter(|word| word.as_str() != "-");
    let options = Options {
        node: format!("{}-1", role.as_str()),
        role,
        gateway: word(1).map(|text| text.parse()).transpose()?,
        bind: word(0).map(|text| text.parse()).transpose()?,
        capture: None,
        identified: false,
        controllers: vec![controller.parse()?],
        tls: None,
        admin: word(2).map(|text| text.parse()).transpose()?.unwrap_or(0),
    };
    let bootstrap = match kind.as_str() {
        "grpc" => bootstrap::grpc(&options),
        _ => bootstrap::envoy(&options),
    };
    println!("{bootstrap:#}");
    Ok(())
}
