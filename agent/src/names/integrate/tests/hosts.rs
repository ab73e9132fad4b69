//! Hosts as folders: what is read of their files.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::*;
use crate::names::integrate::Standing;
use crate::names::upstream::resolv::Server;

struct Root(PathBuf);

impl Root {
    fn new(name: &str, files: &[(&str, &str)]) -> Self {
        let path = std::env::temp_dir().join(format!("cf-env-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        for (file, text) in files {
            let file = path.join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }
        Self(path)
    }

    fn read(&self) -> Env {
        Env::read(&self.0, Standing { port: 335, entries: plain().entries, ..Standing::default() })
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A header and one socket, as the kernel of a little-endian machine writes it.
const UDP: &str = "  sl  local_address rem_address   st\n\
    1: 3500007F:0035 00000000:0000 07\n 2: 0100007F:1234 00000000:0000 07\n\
    3: 0100007F:0035 0100007F:9999 01\n";
const UDP6: &str = "  sl  local_address rem_address   st\n\
    1: 00000000000000000000000000000000:0035 00000000000000000000000000000000:0000 07\n";

#[test]
fn a_host_with_resolved() {
    let root = Root::new(
        "resolved",
        &[
            ("proc/1/comm", "systemd\n"),
            ("proc/77/comm", "systemd-resolve\n"),
            ("proc/net/udp", UDP),
            ("proc/self/mountinfo", "22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw\n"),
            ("usr/lib/x86_64-linux-gnu/systemd/libsystemd-shared-252.so", ""),
            ("run/systemd/resolve/resolv.conf", "nameserver 10.0.0.2\n"),
            ("run/systemd/resolve/stub-resolv.conf", "nameserver 127.0.0.53\n"),
            ("etc/nsswitch.conf", "hosts: files dns\n"),
            ("etc/hosts", "127.0.0.1 localhost\n"),
        ],
    );
    symlink("../run/systemd/resolve/stub-resolv.conf", root.0.join("etc/resolv.conf")).unwrap();
    let env = root.read();
    assert_eq!(env.resolv_conf, resolved(252).resolv_conf);
    assert_eq!(env.resolved, resolved(252).resolved);
    #[cfg(target_endian = "little")]
    assert_eq!(env.bound, bound(&["127.0.0.53:53"]));
    assert_eq!(env.etc, Access::Writable);
    assert_eq!(decide(&env).unwrap().changes, decide(&resolved(252)).unwrap().changes);
}

#[test]
fn servers_that_systemd_resolved_has_on_every_link() {
    let own = "[Resolve]\nDNS=\nDNS=127.0.0.1:335\nDomains=~orders.corp.example\n";
    let root = Root::new(
        "resolved-servers",
        &[
            ("proc/77/comm", "systemd-resolve\n"),
            ("etc/systemd/resolved.conf", "[Resolve]\n#DNS=10.9.9.9\nDNS=10.0.0.9 \n"),
            ("usr/lib/systemd/resolved.conf.d/10-a.conf", "[Resolve]\nDNS=10.0.0.8\n"),
            ("run/systemd/resolved.conf.d/99-crossfade.conf", own),
            (
                "etc/systemd/resolved.conf.d/20-b.conf",
                "[Resolve]\nDNS=\nDNS=10.0.0.2#dns.example [fd00::2]:53\n\
                 DNS=10.0.0.4:5353 fe80::3%eth0\n",
            ),
        ],
    );
    let servers = ["10.0.0.2", "fd00::2", "fe80::3%eth0"].map(|at| Server::of(at).unwrap());
    assert_eq!(root.read().resolved.unwrap().servers, servers);
    fs::remove_file(root.0.join("etc/systemd/resolved.conf.d/20-b.conf")).unwrap();
    let servers = ["10.0.0.9", "10.0.0.8"].map(|at| Server::of(at).unwrap());
    assert_eq!(root.read().resolved.unwrap().servers, servers);
}

#[test]
fn what_systemd_resolved_wants_of_its_servers() {
    for (at, main, drop_in, wants) in [
        (0, "", "", None),
        (1, "DNSOverTLS=no\nDNSSEC=allow-downgrade", "", None),
        (2, "DNSOverTLS=yes", "", Some("DNSOverTLS=yes")),
        (3, "DNSOverTLS = opportunistic", "", Some("DNSOverTLS=opportunistic")),
        (4, "DNSOverTLS=yes", "DNSOverTLS=no", None),
        (5, "#DNSOverTLS=yes", "DNSSEC=True", Some("DNSSEC=True")),
    ] {
        let root = Root::new(
            &format!("wants-{at}"),
            &[
                ("proc/77/comm", "systemd-resolve\n"),
                ("etc/systemd/resolved.conf", &format!("[Resolve]\n{main}\n")),
                ("etc/systemd/resolved.conf.d/1.conf", &format!("[Resolve]\n{drop_in}\n")),
            ],
        );
        assert_eq!(root.read().resolved.unwrap().wants.as_deref(), wants, "{main} {drop_in}");
    }
}

#[test]
fn the_addresses_of_a_host() {
    let trie = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\n\
                \x20    +-- 10.0.0.0/24 2 0 2\n        |-- 10.0.0.1\n           /32 host LOCAL\n\
                \x20       |-- 10.0.0.255\n           /32 link BROADCAST\n";
    let inet6 = "fe800000000000000000000000000001 02 40 20 80     eth0\n";
    let files = [("proc/net/fib_trie", trie), ("proc/net/if_inet6", inet6)];
    let found = ["10.0.0.1", "fe80::1"].map(|at| at.parse::<std::net::IpAddr>().unwrap());
    assert_eq!(Root::new("addresses", &files).read().addresses, found);
}

#[test]
fn a_host_with_network_manager_and_dnsmasq() {
    let root = Root::new(
        "manager",
        &[
            ("proc/9/comm", "NetworkManager\n"),
            ("proc/10/comm", "dnsmasq\n"),
            ("proc/net/udp6", UDP6),
            (
                "proc/self/mountinfo",
                "22 1 8:1 / / rw - ext4 a rw\n23 22 0:5 / /etc ro,x - b c ro\n",
            ),
            ("etc/NetworkManager/NetworkManager.conf", "[main]\nplugins=keyfile\ndns = default\n"),
            ("etc/NetworkManager/conf.d/10-dns.conf", "[main]\ndns=dnsmasq\n"),
            ("etc/NetworkManager/conf.d/90-crossfade.conf", "[main]\nrc-manager=unmanaged\n"),
            ("run/NetworkManager/no-stub-resolv.conf", "nameserver 10.0.0.2\n"),
            ("run/NetworkManager/resolv.conf", "nameserver 127.0.0.1\n"),
            ("etc/resolv.conf", "# Generated by NetworkManager\nnameserver 127.0.0.1\n"),
            ("etc/dnsmasq.d/a.conf", "no-resolv\n"),
        ],
    );
    let env = root.read();
    let manager = env.network_manager.clone().unwrap();
    assert_eq!(manager.dns.as_deref(), Some("dnsmasq"));
    assert_eq!(manager.rc_manager, None, "what we wrote ourselves does not count");
    assert_eq!(manager.servers.as_deref(), Some(&b"nameserver 10.0.0.2\n"[..]));
    assert_eq!((env.etc, env.bound.clone()), (Access::ReadOnly, bound(&["[::]:53"])));
    assert!(env.dnsmasq.as_deref().unwrap().contains("no-resolv"));
    let writable = Env { etc: Access::Writable, ..env };
    assert_eq!(decide(&writable).unwrap().how, How::NetworkManager);
}

#[test]
fn where_a_helper_writes_it_is_the_host_that_says_what_may_be_written() {
    let root = Root::new(
        "helped",
        &[
            ("proc/self/mountinfo", "22 1 8:1 / / ro,relatime - ext4 /dev/sda1 rw\n"),
            ("proc/1/mountinfo", "22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw\n"),
        ],
    );
    for (helped, etc) in [(false, Access::ReadOnly), (true, Access::Writable)] {
        let env = Env::read(&root.0, Standing { helped, ..Standing::default() });
        assert_eq!(env.etc, etc, "helped: {helped}");
    }
}

#[test]
fn both_kinds_of_resolvconf_are_told_apart() {
    for (text, folder, flavour) in [
        ("#!/bin/sh\n# openresolv\n", "interfaces", Flavour::Openresolv),
        ("#!/bin/sh\n# Debian\n", "interface", Flavour::Debian),
    ] {
        let told = format!("run/resolvconf/{folder}/eth0");
        let own = format!("run/resolvconf/{folder}/lo.crossfade");
        let files = [
            ("sbin/resolvconf", text),
            (told.as_str(), "nameserver 10.0.0.2\n"),
            (own.as_str(), "nameserver 127.0.0.1\n"),
        ];
        let program = Root::new(folder, &files).read().resolvconf.unwrap();
        let names: Vec<&str> = program.interfaces.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!((program.flavour, names), (flavour, vec!["eth0"]));
    }
    let root = Root::new("resolvectl", &[("usr/bin/resolvectl", "openresolv")]);
    fs::create_dir_all(root.0.join("sbin")).unwrap();
    symlink("../usr/bin/resolvectl", root.0.join("sbin/resolvconf")).unwrap();
    assert_eq!(root.read().resolvconf, None);
}

#[test]
fn an_empty_host_and_this_one_can_be_read() {
    let root = Root::new("empty", &[("etc/x", "")]);
    let env = root.read();
    assert_eq!(env.resolv_conf, ResolvFile::Absent);
    assert!(decide(&env).is_err());
    let mount = "1 2 0:1 / /etc/resolv.conf rw - ext4 x rw\n2 3 0:1 / /etc/hosts rw - ext4 x rw\n";
    let files = [
        ("proc/self/mountinfo", mount),
        ("etc/resolv.conf", "nameserver 10.0.0.2\n"),
        ("etc/hosts", ""),
    ];
    let env = Root::new("mounts", &files).read();
    assert!(matches!(env.resolv_conf, ResolvFile::Mounted { .. }));
    assert_eq!(env.hosts, None);
    let own = Env::read(Path::new("/"), Standing::default());
    assert_eq!(own.nsswitch.is_some(), Path::new("/etc/nsswitch.conf").exists());
}
