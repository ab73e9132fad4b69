//! Reads a host: files below a root, nothing else, so that a folder is a host in tests.

use std::fs;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::env::{Access, Env, Flavour, NetworkManager, ResolvFile, Resolvconf, Resolved};
use super::managers::INTERFACE;
use super::resolved::RESOLVED_DROP_IN;
use crate::names::upstream::PORT;
use crate::names::upstream::resolv::{FILE_MAX, Server};

/// Longest file that is read here; the tables of sockets of busy hosts are long.
const TEXT_MAX: u64 = 4 << 20;

/// Most entries of a folder that are looked at: processes of a busy host.
const ENTRIES_MAX: usize = 65_536;

/// Where libraries of systemd are, whose names hold its version.
const SYSTEMD: [&str; 5] = [
    "usr/lib/systemd",
    "usr/lib/x86_64-linux-gnu/systemd",
    "usr/lib/aarch64-linux-gnu/systemd",
    "usr/lib64/systemd",
    "lib/systemd",
];

/// What this product does on the host already.
#[derive(Clone, Debug, Default)]
pub struct Standing {
    /// The port of the stub, where a port can be said.
    pub port: u16,
    /// Plan names and what this host is told.
    pub entries: Vec<(String, Vec<IpAddr>)>,
    /// Where the stub listens, or did when it last ran.
    pub own: Vec<SocketAddr>,
    /// Whether it does now.
    pub listens: bool,
    /// Where it could not listen, whatever the kernel shows.
    pub taken: Vec<SocketAddr>,
    /// `/etc/resolv.conf` before this product changed it.
    pub before: Option<Vec<u8>>,
    /// Whether a helper changes the host: what may be written is as the host's first process sees
    /// it then, not as this one does, whose unit keeps it from writing.
    pub helped: bool,
}

impl Env {
    /// Reads the host whose root is `root`. What cannot be read counts as absent.
    #[must_use]
    pub fn read(root: &Path, standing: Standing) -> Self {
        let whose = if standing.helped { "proc/1/mountinfo" } else { "proc/self/mountinfo" };
        let mounts = text(&root.join(whose)).unwrap_or_default();
        let running = processes(root);
        let runs = |name: &str| running.iter().any(|process| process == name);
        let is_mount = |path: &str| mounted(&mounts, path).is_some();
        let hosts = bytes(&root.join("etc/hosts")).filter(|_| !is_mount("/etc/hosts"));
        Self {
            port: standing.port,
            entries: standing.entries,
            own: standing.own,
            listens: standing.listens,
            before: standing.before,
            resolv_conf: resolv_file(root, is_mount("/etc/resolv.conf")),
            etc: access(&mounts, "/etc"),
            hosts,
            nsswitch: text(&root.join("etc/nsswitch.conf")),
            // The kernel keeps 15 octets of a name.
            resolved: runs("systemd-resolve").then(|| {
                let (servers, wants) = configured(root);
                let uplinks = bytes(&root.join("run/systemd/resolve/resolv.conf"));
                Resolved { version: version(root), uplinks, servers, wants }
            }),
            network_manager: runs("NetworkManager").then(|| network_manager(root)),
            resolvconf: resolvconf(root),
            dnsmasq: runs("dnsmasq").then(|| {
                let main = text(&root.join("etc/dnsmasq.conf")).unwrap_or_default();
                main + "\n" + &configuration(&[root.join("etc/dnsmasq.d")])
            }),
            bound: [bound(root, &[PORT, standing.port]), standing.taken].concat(),
            addresses: addresses(root),
        }
    }
}

fn bytes(path: &Path) -> Option<Vec<u8>> {
    let mut read = Vec::new();
    fs::File::open(path).ok()?.take(TEXT_MAX).read_to_end(&mut read).ok()?;
    Some(read)
}

fn text(path: &Path) -> Option<String> {
    bytes(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// Names of a folder's entries, sorted.
fn names(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let names = entries.take(ENTRIES_MAX).filter_map(Result::ok);
    let mut names: Vec<String> =
        names.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort_unstable();
    names
}

fn processes(root: &Path) -> Vec<String> {
    let proc = root.join("proc");
    let numbers =
        names(&proc).into_iter().filter(|name| name.bytes().all(|it| it.is_ascii_digit()));
    let comm = numbers.filter_map(|number| text(&proc.join(number).join("comm")));
    comm.map(|name| name.trim_end().to_owned()).collect()
}

fn resolv_file(root: &Path, is_mount: bool) -> ResolvFile {
    let path = root.join("etc/resolv.conf");
    let Ok(found) = fs::symlink_metadata(&path) else { return ResolvFile::Absent };
    if found.is_symlink() {
        let target = fs::read_link(&path).unwrap_or_default();
        let bytes = bytes(&within(root, &target)).map(shortened);
        return ResolvFile::Link { target, bytes };
    }
    let bytes = shortened(bytes(&path).unwrap_or_default());
    if is_mount {
        return ResolvFile::Mounted { bytes };
    }
    ResolvFile::File { bytes, mode: found.permissions().mode() & 0o7777 }
}

/// What is beyond the limit is not understood; a file that long is no resolv.conf.
fn shortened(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.truncate(FILE_MAX);
    bytes
}

/// A link's target below the root, whichever way it is written.
fn within(root: &Path, target: &Path) -> PathBuf {
    match target.strip_prefix("/") {
        Ok(below) => root.join(below),
        Err(_) => root.join("etc").join(target),
    }
}

/// The options of the last mount at `path` (proc_pid_mountinfo(5)).
fn mounted<'t>(mounts: &'t str, path: &str) -> Option<&'t str> {
    let mut lines = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(4);
        let (at, options) = (words.next()?, words.next()?);
        (at == path).then_some(options)
    });
    lines.next_back()
}

/// As the nearest mount above says.
fn access(mounts: &str, path: &str) -> Access {
    let options = mounted(mounts, path).or_else(|| mounted(mounts, "/"));
    let is_read_only = options.is_some_and(|options| options.split(',').any(|it| it == "ro"));
    if is_read_only { Access::ReadOnly } else { Access::Writable }
}

/// The version in `libsystemd-shared-252.so` or `libsystemd-shared-252.22-1.fc38.so`.
fn version(root: &Path) -> Option<u32> {
    let files = SYSTEMD.iter().flat_map(|folder| names(&root.join(folder)));
    let versions = files.filter_map(|name| {
        let rest = name.strip_prefix("libsystemd-shared-")?;
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().ok()
    });
    versions.max()
}

/// The `*.conf` of folders in the order in which they count.
fn configuration(folders: &[PathBuf]) -> String {
    let mut all = String::new();
    for folder in folders {
        for name in names(folder).iter().filter(|name| name.ends_with(".conf")) {
            all += &text(&folder.join(name)).unwrap_or_default();
            all.push('\n');
        }
    }
    all
}

/// resolved.conf(5): drop-ins of all folders by their names, after the file itself; the last line
/// of a setting counts, and an empty list of servers forgets those before. Ours is left out, and so
/// are servers at other ports, which a resolv.conf cannot name. Beside the servers what is wanted
/// of them beyond plain DNS.
fn configured(root: &Path) -> (Vec<Server>, Option<String>) {
    let folders = ["usr/lib", "run", "etc"].map(|folder| root.join(folder).join("systemd"));
    let drop_ins = folders.iter().flat_map(|folder| {
        let folder = folder.join("resolved.conf.d");
        names(&folder).into_iter().map(move |name| (name, folder.clone()))
    });
    let mut drop_ins: Vec<_> = drop_ins.filter(|(name, _)| name.ends_with(".conf")).collect();
    drop_ins.retain(|(name, folder)| !folder.join(name).ends_with(RESOLVED_DROP_IN));
    drop_ins.sort();
    let main = folders.iter().map(|folder| folder.join("resolved.conf")).rev();
    let main = main.filter(|path| path.exists()).take(1);
    let files = main.chain(drop_ins.into_iter().map(|(name, folder)| folder.join(name)));
    let (mut servers, mut over_tls, mut signed) = (Vec::new(), None, None);
    for line in files.filter_map(|path| text(&path)).flat_map(lines) {
        let Some((key, value)) = line.split_once('=') else { continue };
        match (key.trim(), value.trim()) {
            ("DNS", "") => servers.clear(),
            ("DNS", list) => servers.extend(list.split_whitespace().filter_map(server)),
            ("DNSOverTLS", wanted) => over_tls = Some(wanted.to_owned()),
            ("DNSSEC", wanted) => signed = Some(wanted.to_owned()),
            _ => {}
        }
    }
    let over_tls = over_tls.filter(|wanted| is_yes(wanted) || wanted == "opportunistic");
    let over_tls = over_tls.map(|wanted| format!("DNSOverTLS={wanted}"));
    let signed = signed.filter(|wanted| is_yes(wanted)).map(|wanted| format!("DNSSEC={wanted}"));
    (servers, over_tls.or(signed))
}

/// As systemd reads it (systemd.syntax(7)).
fn is_yes(value: &str) -> bool {
    ["1", "yes", "y", "true", "t", "on"].iter().any(|yes| value.eq_ignore_ascii_case(yes))
}

fn lines(text: String) -> Vec<String> {
    text.lines().map(|line| line.trim().to_owned()).collect()
}

/// `10.0.0.2`, `10.0.0.2:53`, `[fd00::2]:53`, each perhaps with `#NAME` or `%LINK`.
fn server(word: &str) -> Option<Server> {
    let word = word.split('#').next()?;
    let (at, zone) = word.split_once('%').map_or((word, None), |(at, zone)| (at, Some(zone)));
    let with_port = || at.parse::<SocketAddr>().ok().filter(|at| at.port() == PORT);
    let address = at.parse().ok().or_else(|| Some(with_port()?.ip()))?;
    Some(Server { address, zone: zone.map(str::to_owned) })
}

/// NetworkManager.conf(5): what stands in `/etc/NetworkManager/conf.d` counts last. Our own file
/// is left out.
fn network_manager(root: &Path) -> NetworkManager {
    let folders = ["usr/lib/NetworkManager/conf.d", "run/NetworkManager/conf.d"];
    let mut all = configuration(&folders.map(|folder| root.join(folder)));
    all += &text(&root.join("etc/NetworkManager/NetworkManager.conf")).unwrap_or_default();
    all.push('\n');
    let own = root.join("etc/NetworkManager/conf.d");
    for name in names(&own).iter().filter(|name| name.ends_with(".conf")) {
        if name != "90-crossfade.conf" {
            all += &text(&own.join(name)).unwrap_or_default();
            all.push('\n');
        }
    }
    let value = |key: &str| {
        let lines = all.lines().filter_map(|line| line.trim().split_once('='));
        let mut values =
            lines.filter(|(name, _)| name.trim() == key).map(|(_, value)| value.trim());
        values.next_back().map(str::to_owned)
    };
    let run = root.join("run/NetworkManager");
    let servers = bytes(&run.join("no-stub-resolv.conf"));
    NetworkManager {
        dns: value("dns"),
        rc_manager: value("rc-manager"),
        servers: servers.or_else(|| bytes(&run.join("resolv.conf"))),
    }
}

fn resolvconf(root: &Path) -> Option<Resolvconf> {
    let paths = ["sbin/resolvconf", "usr/sbin/resolvconf"].map(|path| root.join(path));
    let path = paths.into_iter().find(|path| path.exists())?;
    // systemd's is resolvectl under another name.
    let target = fs::read_link(&path).unwrap_or_default();
    if target.to_string_lossy().ends_with("resolvectl") {
        return None;
    }
    let is_open = text(&path)?.contains("openresolv");
    let flavour = if is_open { Flavour::Openresolv } else { Flavour::Debian };
    let folder =
        root.join(if is_open { "run/resolvconf/interfaces" } else { "run/resolvconf/interface" });
    let told = names(&folder).into_iter().filter(|name| name != INTERFACE);
    let told = told.filter_map(|name| {
        let said = bytes(&folder.join(&name))?;
        Some((name, said))
    });
    Some(Resolvconf { flavour, interfaces: told.collect() })
}

/// What is bound to these ports, of `/proc/net/{udp,tcp}{,6}` (proc_pid_net(5)).
fn bound(root: &Path, ports: &[u16]) -> Vec<SocketAddr> {
    let tables = ["udp", "udp6", "tcp", "tcp6"].map(|table| root.join("proc/net").join(table));
    let tables = tables.iter().filter_map(|path| text(path));
    let mut found: Vec<SocketAddr> = tables
        .flat_map(|table| table.lines().filter_map(local).collect::<Vec<_>>())
        .filter(|address| ports.contains(&address.port()))
        .collect();
    found.sort_unstable();
    found.dedup();
    found
}

/// The addresses of this host: what `/proc/net/fib_trie` has as its own, and `/proc/net/if_inet6`.
fn addresses(root: &Path) -> Vec<IpAddr> {
    let mut found = Vec::new();
    let trie = text(&root.join("proc/net/fib_trie")).unwrap_or_default();
    let mut at: Option<Ipv4Addr> = None;
    for line in trie.lines().map(str::trim_start) {
        if let Some(address) = line.strip_prefix("|-- ") {
            at = address.parse().ok();
        } else if line.starts_with("/32 host LOCAL") {
            found.extend(at.map(IpAddr::from));
        }
    }
    let table = text(&root.join("proc/net/if_inet6")).unwrap_or_default();
    let addresses = table.lines().filter_map(|line| line.split(' ').next());
    let bits = addresses.filter_map(|address| u128::from_str_radix(address, 16).ok());
    found.extend(bits.map(|bits| IpAddr::from(Ipv6Addr::from_bits(bits))));
    found.sort_unstable();
    found.dedup();
    found
}

/// The local address of a socket that is not connected: words of 32 bits in the machine's order.
fn local(line: &str) -> Option<SocketAddr> {
    let mut words = line.split_ascii_whitespace().skip(1);
    let (local, remote) = (words.next()?, words.next()?);
    if !remote.ends_with(":0000") {
        return None;
    }
    let (address, port) = local.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let mut octets = Vec::with_capacity(16);
    for word in address.as_bytes().chunks(8) {
        let word = u32::from_str_radix(std::str::from_utf8(word).ok()?, 16).ok()?;
        octets.extend_from_slice(&word.to_ne_bytes());
    }
    let address: IpAddr = match octets.len() {
        4 => Ipv4Addr::from(*octets.first_chunk::<4>()?).into(),
        16 => Ipv6Addr::from(*octets.first_chunk::<16>()?).to_canonical(),
        _ => return None,
    };
    Some(SocketAddr::new(address, port))
}
