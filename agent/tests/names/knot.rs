//! A real upstream: Knot DNS answers through the stub as it answers directly.

use std::fs;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use agent::names::Upstreams;

use crate::world::{Client, PATIENCE, question, read_frame, stub, wait_for, write_frame};

const ZONE: &str = "@ 300 SOA ns hostmaster 7 3600 600 86400 60
@ 300 NS ns
ns 300 A 192.0.2.53
www 300 A 192.0.2.1
www 300 AAAA 2001:db8::1
alias 300 CNAME www
svc 300 HTTPS 1 . alpn=h2 ipv4hint=192.0.2.1
odd 300 TYPE65280 \\# 4 0a000001
_sip._udp 300 SRV 1 2 5060 www
*.wild 300 TXT \"any\"
large 300 TXT (
";

/// A running server, stopped when dropped, with its folder.
struct Knot {
    child: Child,
    folder: PathBuf,
    address: SocketAddr,
}

impl Drop for Knot {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// None where it is not installed, which is told.
fn knot() -> Option<Knot> {
    let program =
        ["/usr/sbin/knotd", "/usr/bin/knotd"].into_iter().find(|path| PathBuf::from(path).exists());
    let Some(program) = program else {
        eprintln!("skipped: knotd is not installed");
        return None;
    };
    let folder = std::env::temp_dir().join(format!("crossfade-names-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let large: Vec<String> = (0..40).map(|at| format!("  \"{at:0>200}\"")).collect();
    fs::write(folder.join("zone"), format!("{ZONE}{}\n)\n", large.join("\n"))).unwrap();
    let address = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let at = folder.display();
    let conf = format!(
        "server:\n  listen: 127.0.0.1@{}\n  rundir: \"{at}\"\n  tcp-workers: 1\n  udp-workers: 1\n\
         database:\n  storage: \"{at}/db\"\nacl:\n  - id: all\n    action: transfer\n\
         zone:\n  - domain: real.example.\n    file: \"{at}/zone\"\n    zonefile-sync: -1\n\
         \x20   journal-content: none\n    acl: all\n",
        address.port()
    );
    let file = folder.join("knot.conf");
    fs::write(&file, conf).unwrap();
    let child = Command::new(program)
        .arg("-c")
        .arg(&file)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let knot = Knot { child, folder, address };
    wait_for("knotd", || {
        let mut stream = TcpStream::connect(address).ok()?;
        write_frame(&mut stream, &question(1, "real.example", 6));
        read_frame(&mut stream).filter(|answer| answer[3] & 0x0f == 0)
    });
    Some(knot)
}

/// With EDNS, DO and an option that nobody knows.
fn with_edns(mut query: Vec<u8>, payload: u16) -> Vec<u8> {
    query[11] += 1;
    query.extend_from_slice(&[0, 0, 41]);
    query.extend_from_slice(&payload.to_be_bytes());
    query.extend_from_slice(&[0, 0, 0x80, 0, 0, 6, 0xfd, 0xe9, 0, 2, 1, 2]);
    query
}

#[test]
fn through_the_stub_as_directly() {
    let Some(knot) = knot() else { return };
    let stub = stub(Upstreams::choose([knot.address], &[]).unwrap());
    let (direct, through) = (Client::at(knot.address), Client::new(&stub));
    let streams = [knot.address, stub.addresses()[0]].map(|address| {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    });
    let [mut direct_stream, mut through_stream] = streams;
    let names = [
        "real.example",
        "www.real.example",
        "WWW.Real.Example",
        "alias.real.example",
        "svc.real.example",
        "odd.real.example",
        "_sip._udp.real.example",
        "x.wild.real.example",
        "large.real.example",
        "missing.real.example",
        "elsewhere.example",
        ".",
    ];
    let types = [1, 2, 5, 6, 12, 15, 16, 28, 33, 35, 43, 46, 48, 64, 65, 255, 257, 65_280];
    let mut compared = 0;
    for name in names {
        for rtype in types {
            let plain = question(compared, name, rtype);
            for query in [plain.clone(), with_edns(plain.clone(), 1_232), with_edns(plain, 4_096)] {
                assert_eq!(through.ask(&query), direct.ask(&query), "{name} {rtype}");
                write_frame(&mut direct_stream, &query);
                write_frame(&mut through_stream, &query);
                let directly = read_frame(&mut direct_stream).unwrap();
                assert_eq!(read_frame(&mut through_stream).unwrap(), directly, "{name} {rtype}");
                compared += 1;
            }
        }
    }
    // A zone transfer, and the answer that needs TCP.
    let transfer = question(compared, "real.example", 252);
    write_frame(&mut direct_stream, &transfer);
    write_frame(&mut through_stream, &transfer);
    let directly = read_frame(&mut direct_stream).unwrap();
    assert_eq!(read_frame(&mut through_stream).unwrap(), directly);
    assert_eq!(directly[3] & 0x0f, 0);
    assert!(directly.len() > 8_000);
    let cut = through.ask(&question(1, "large.real.example", 16));
    assert_eq!(cut[2] & 2, 2, "it is truncated over UDP");
    assert!(compared > 600);
}
