//! Reading the machine. Nothing is changed, no other program is run but the Envoy that was named.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use xds::render::Door;

use super::findings::{Clock, EnvoyFound, Findings, Forwarding, Space, SshSession, Wishes};
use super::{netfilter, parse};
use crate::envoy::listeners;

/// `CAP_NET_BIND_SERVICE` and `CAP_NET_ADMIN` (`linux/capability.h`).
const BIND_SERVICE: u32 = 10;
const NET_ADMIN: u32 = 12;

/// Addresses that no host has (RFC 5737, RFC 3849): what a packet to them would be sent from is
/// what this host is reached by.
const FAR: [(&str, &str); 2] = [("0.0.0.0:0", "192.0.2.1:9"), ("[::]:0", "[2001:db8::1]:9")];

/// The longest text that is read from `/proc`, in bytes: 100 000 sockets.
const TEXT_BYTES_MAX: u64 = 16 << 20;

/// Where to look.
#[derive(Clone, Debug)]
pub struct FindSettings {
    /// All paths are below it; `/` is the host.
    pub root: PathBuf,
    /// The agent's state.
    pub data: PathBuf,
    /// The Envoy that was named.
    pub envoy: Option<PathBuf>,
}

/// Reads everything. What others know, the caller fills in: `controller`, `masqueraded`,
/// `names`.
pub async fn find(settings: &FindSettings, wishes: &Wishes) -> Findings {
    let root = settings.root.as_path();
    let capabilities = capabilities(root);
    let holds = |capability: u32| capabilities >> capability & 1 == 1;
    Findings {
        net_admin: holds(NET_ADMIN),
        bind_service: holds(BIND_SERVICE),
        kernel: text(root, "proc/sys/kernel/osrelease").as_deref().and_then(parse::release),
        netfilter: netfilter::find(&wishes.addresses).await,
        conntrack: conntrack(root),
        forwarding4: Forwarding {
            on: switch(root, "proc/sys/net/ipv4/ip_forward"),
            advertised: Vec::new(),
        },
        forwarding6: Forwarding {
            on: switch(root, "proc/sys/net/ipv6/conf/all/forwarding"),
            advertised: advertised(root),
        },
        strict: strict(root),
        docker: ["run/docker.sock", "sys/class/net/docker0"].iter().any(|p| root.join(p).exists()),
        firewalld: root.join("run/firewalld").exists(),
        legacy_tables: legacy(root),
        etc_refuses: refuses(&root.join("etc")),
        stub_refuses: wishes.stub.and_then(taken),
        envoy: (wishes.envoy || wishes.envoy_user.is_some()).then(|| envoy(settings)),
        envoy_port: envoy_port(root, wishes.envoy_user),
        clock: clock(root),
        space: space(&settings.data),
        management: management_addresses(root),
        ssh: ssh_sessions(root),
        mtu: mtu(root),
        controller: None,
        masqueraded: None,
        names: None,
    }
}

/// The ports of sshd: 22, and those that its configuration names, the files beside it too.
#[must_use]
pub fn ssh_ports(root: &Path) -> BTreeSet<u16> {
    let mut config = text(root, "etc/ssh/sshd_config").unwrap_or_default();
    for name in names(&root.join("etc/ssh/sshd_config.d")) {
        config.push('\n');
        config.push_str(&text(root, &format!("etc/ssh/sshd_config.d/{name}")).unwrap_or_default());
    }
    parse::ssh_ports(&config)
}

/// Connections of administrators: to sshd's ports.
#[must_use]
pub fn ssh_sessions(root: &Path) -> Vec<SshSession> {
    let ports = ssh_ports(root);
    let files = ["proc/net/tcp", "proc/net/tcp6"];
    let mut sessions: Vec<_> = files
        .iter()
        .filter_map(|file| text(root, file))
        .flat_map(|text| parse::sessions(&text, &ports))
        .collect();
    sessions.sort_unstable();
    sessions
}

/// By which addresses this host is managed: what packets by the default routes are sent from, and
/// this host's end of administrators' sessions.
#[must_use]
pub fn management_addresses(root: &Path) -> BTreeSet<IpAddr> {
    let by_default = |(from, to): (&str, &str)| {
        // A datagram socket that is connected sends nothing; it takes its source address.
        let socket = UdpSocket::bind(from).ok()?;
        socket.connect(to).ok()?;
        Some(socket.local_addr().ok()?.ip())
    };
    let mut addresses: BTreeSet<IpAddr> = FAR.into_iter().filter_map(by_default).collect();
    addresses.extend(ssh_sessions(root).iter().map(|session| session.local.ip()));
    addresses.retain(|address| !address.is_loopback() && !address.is_unspecified());
    addresses
}

fn text(root: &Path, path: &str) -> Option<String> {
    use std::io::Read as _;
    let mut text = String::new();
    fs::File::open(root.join(path)).ok()?.take(TEXT_BYTES_MAX).read_to_string(&mut text).ok()?;
    Some(text)
}

fn switch(root: &Path, path: &str) -> Option<bool> {
    Some(text(root, path)?.trim() != "0")
}

fn names(directory: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(directory) else {
        return Vec::new();
    };
    let mut names: Vec<_> =
        entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    names.sort_unstable();
    names
}

/// The effective set of this process.
fn capabilities(root: &Path) -> u64 {
    let status = text(root, "proc/self/status").unwrap_or_default();
    let set = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    set.and_then(|set| u64::from_str_radix(set.trim(), 16).ok()).unwrap_or_default()
}

fn conntrack(root: &Path) -> Option<(u64, u64)> {
    let number = |name: &str| {
        text(root, &format!("proc/sys/net/netfilter/nf_conntrack_{name}"))?.trim().parse().ok()
    };
    Some((number("count")?, number("max")?))
}

fn legacy(root: &Path) -> Vec<String> {
    let tables = text(root, "proc/net/ip_tables_names").unwrap_or_default();
    tables.lines().map(str::to_owned).collect()
}

/// The kernel takes the higher of an interface's value and that of `all` (`ip-sysctl`).
fn strict(root: &Path) -> Vec<String> {
    let directory = "proc/sys/net/ipv4/conf";
    let value = |name: &str| -> u8 {
        let text = text(root, &format!("{directory}/{name}/rp_filter"));
        text.and_then(|text| text.trim().parse().ok()).unwrap_or_default()
    };
    let all = value("all");
    let mut found = names(&root.join(directory));
    found.retain(|name| !matches!(name.as_str(), "all" | "default" | "lo"));
    found.retain(|name| value(name).max(all) == 1);
    found
}

fn advertised(root: &Path) -> Vec<String> {
    let routes = text(root, "proc/net/ipv6_route").unwrap_or_default();
    let mut found = parse::advertised(&routes);
    found.retain(|name| {
        let path = format!("proc/sys/net/ipv6/conf/{name}/accept_ra");
        text(root, &path).is_some_and(|value| value.trim() == "1")
    });
    found
}

/// Whether a directory can be written, without writing: that of the root is asked of the kernel.
fn refuses(directory: &Path) -> Option<String> {
    use rustix::fs::{Access, AtFlags, CWD};
    let asked = rustix::fs::accessat(CWD, directory, Access::WRITE_OK, AtFlags::EACCESS);
    match asked {
        Ok(()) => None,
        // The agent is not root; a helper that is writes there.
        Err(rustix::io::Errno::ACCESS) => None,
        Err(error) => Some(io::Error::from(error).to_string()),
    }
}

fn taken(at: SocketAddr) -> Option<String> {
    let both = UdpSocket::bind(at).and_then(|_| TcpListener::bind(at));
    both.err().map(|error| error.to_string())
}

fn envoy(settings: &FindSettings) -> EnvoyFound {
    let program = settings.envoy.clone().unwrap_or_else(|| PathBuf::from("envoy"));
    let mut command = Command::new("timeout");
    let command = command.arg("10").arg(program).arg("--version").stdin(Stdio::null());
    match command.output() {
        Ok(output) if output.status.success() => {
            parse::envoy(&String::from_utf8_lossy(&output.stdout))
        }
        _ => EnvoyFound::Missing,
    }
}

/// Somebody else's first, where several have it.
fn envoy_port(root: &Path, user: Option<u32>) -> Option<u32> {
    let SocketAddr::V4(at) = Door::CAPTURE else { return None };
    let table = text(root, "proc/net/tcp")?;
    let users = listeners(table.lines().map(str::to_owned), at);
    users.iter().copied().find(|found| Some(*found) != user).or_else(|| users.first().copied())
}

fn clock(root: &Path) -> Clock {
    let keepers = [
        ("run/systemd/timesync/synchronized", "systemd-timesyncd"),
        ("run/chrony/chronyd.pid", "chrony"),
        ("run/chronyd.pid", "chrony"),
        ("run/ntpd.pid", "ntpd"),
        ("run/ntpsec/ntpd.pid", "ntpsec"),
    ];
    let kept = keepers.iter().find(|(path, _)| root.join(path).exists());
    kept.map_or(Clock::Unknown, |(_, by)| Clock::Kept((*by).to_owned()))
}

/// Of the directory, or of the nearest one above that is there.
fn space(data: &Path) -> Option<Space> {
    let directory = data.ancestors().find(|path| path.is_dir())?;
    let found = rustix::fs::statvfs(directory).ok()?;
    let asked = rustix::fs::access(directory, rustix::fs::Access::WRITE_OK);
    Some(Space {
        directory: directory.display().to_string(),
        free: found.f_bavail.saturating_mul(found.f_frsize),
        refuses: asked.err().map(|error| io::Error::from(error).to_string()),
    })
}

/// The smallest of interfaces that are up, but for loopback.
fn mtu(root: &Path) -> Option<(String, u32)> {
    let directory = root.join("sys/class/net");
    let up = |name: String| {
        let read = |what: &str| text(root, &format!("sys/class/net/{name}/{what}"));
        if name == "lo" || read("operstate")?.trim() != "up" {
            return None;
        }
        let mtu = read("mtu")?.trim().parse().ok()?;
        Some((name, mtu))
    };
    names(&directory).into_iter().filter_map(up).min_by_key(|(_, mtu)| *mtu)
}
