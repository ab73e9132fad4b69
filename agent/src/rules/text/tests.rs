use std::path::Path;
use std::process::Command;

use plan::Plane;
use plan::spec::{Affinity, Protocol};

use super::*;
use crate::rules::compile::compile;
use crate::rules::host::Capture;
use crate::rules::sample::{Leaf, host, marks, net, table};

/// One of each: a VM's own logical address while it shifts, one at 100 % with stragglers, one of
/// IPv6 with two transports and an endpoint on another port, one that draws.
fn typical() -> Table {
    let leaves = [
        Leaf::orders(2500),
        Leaf {
            id: "shop/payments",
            address: "10.0.1.10",
            ports: vec![(8443, Protocol::Grpc), (9443, Protocol::Tcp)],
            legacy: vec!["10.0.1.11", "fd00::11"],
            target: vec!["10.9.1.31", "fd00:9::31"],
            ..Leaf::orders(10_000)
        },
        Leaf {
            id: "shop/time",
            address: "fd00::10",
            ports: vec![(123, Protocol::Udp), (4460, Protocol::Tcp)],
            legacy: vec!["fd00::12"],
            target: vec!["[fd00:9::41]:1123", "fd00:9::42", "fd00:9::43"],
            rows: vec![(Plane::Host, vec!["::/0"])],
            ..Leaf::orders(1)
        },
        Leaf {
            id: "web/shop",
            address: "10.0.7.7",
            affinity: Affinity::None,
            rows: vec![(Plane::Mesh, vec!["10.1.2.0/24"]), (Plane::Host, vec!["0.0.0.0/0"])],
            ..Leaf::orders(9_999)
        },
    ];
    let leaves = table(&leaves);
    let mut host = host(&["10.0.1.11", "10.0.1.10", "fd00::11"]);
    host.exempt = vec![net("10.0.9.9/32"), net("fd00:8::/64")];
    host.capture = Some(Capture { port: 15_001, user: 65_532 });
    host.returns = [leaves.services[0].id.clone()].into();
    compile(&leaves, &host, &marks(&leaves)).unwrap().table
}

/// `CROSSFADE_GOLDEN=write cargo test` would hide a change, so the file is only compared; the text
/// to copy stands in the temporary directory where they differ.
#[test]
fn a_typical_file() {
    let found = text(&typical());
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/rules/text/typical.nft");
    if std::fs::read_to_string(&path).ok().as_deref() != Some(found.as_str()) {
        let copy = Path::new(env!("CARGO_TARGET_TMPDIR_OR_TMP")).join("typical.nft");
        std::fs::write(&copy, &found).unwrap();
        panic!("{} differs from what is written now: {}", path.display(), copy.display());
    }
}
