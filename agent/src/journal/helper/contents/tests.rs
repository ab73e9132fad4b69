use super::*;

const LONG: &str = "a-name-of-a-label-that-is-long";

fn holds(file: File, text: &str) -> bool {
    file.may_hold(text.as_bytes(), &[])
}

/// A host's dnsmasq, resolvconf and systemd-resolved run as root.
#[test]
fn what_leads_to_the_stub_is_held_and_what_runs_or_leads_elsewhere_is_not() {
    use File::{Delegate, Dnsmasq, DropIn, Manager, Resolvconf};
    for (file, text, expected) in [
        (Manager, &*format!("{LEAVES}[main]\nrc-manager=unmanaged\n"), true),
        (Manager, "[main]\nplugins=/tmp/evil.so\n", false),
        (Manager, "# x\n[main]\n", false),
        (Dnsmasq, &format!("{LEADS}server=/web.shop.example/127.0.0.1#335\n"), true),
        (Dnsmasq, "server=/-_.example/::1#335\n", true),
        (Dnsmasq, "conf-script=/tmp/evil\n", false),
        (Dnsmasq, "server=/web.example/127.0.0.1#335\ndhcp-script=/tmp/evil\n", false),
        (Dnsmasq, "server=/web.example/127.0.0.1#335@eth0\n", false),
        (Dnsmasq, "server=/web.example/127.0.0.1#+335\n", false),
        (Dnsmasq, "server=/web.example/192.0.2.1#53\n", false),
        (Dnsmasq, "server=/a b/127.0.0.1#335\n", false),
        (Dnsmasq, "server=//127.0.0.1#335\n", false),
        (Dnsmasq, &format!("server=/{}/::1#1\n", [LONG; 9].join(".")), false),
        // Its lines are of 1024 octets at most; the rest is another line.
        (Dnsmasq, &format!("#{}conf-script=/tmp/evil\n", "x".repeat(1023)), false),
        (Dnsmasq, "#\rconf-script=/tmp/evil\n", false),
        (DropIn, &format!("{LEADS}[Resolve]\nDNS=\nDNS=127.0.0.1:335\nDomains=~a.b ~c\n"), true),
        (DropIn, "[Resolve]\nDNS=[::1]:335\nDomains=~.\n", true),
        (DropIn, "[Resolve]\nDomains=\n", true),
        (DropIn, "[Service]\nExecStart=/tmp/evil\n", false),
        (DropIn, "[Resolve]\nDNS=192.0.2.1\n", false),
        (DropIn, "[Resolve]\nDNS=192.0.2.1:53\n", false),
        (DropIn, "[Resolve]\nDNS=127.0.0.1:335 192.0.2.1\n", false),
        (DropIn, "[Resolve]\nDomains=search.example\n", false),
        // systemd ends lines at these, too.
        (DropIn, "# x\rDNSSEC=no\n", false),
        (DropIn, "# x\0DNSSEC=no\n", false),
        (DropIn, "[Resolve]\nDomains=~a\\\n", false),
        (DropIn, "[Resolve]", false),
        (Delegate, &format!("{LEADS}[Delegate]\nDNS=127.0.0.1\nDefaultRoute=no\n"), true),
        (Delegate, "[Delegate]\nDNS=evil\n", false),
        (Delegate, "[Delegate]\nDefaultRoute=yes\n", false),
        (Resolvconf, "nameserver 127.0.0.1\nsearch a.example b\noptions edns0 ndots:2\n", true),
        (Resolvconf, "nameserver 127.0.0.1\nsearch $(touch${IFS}/tmp/evil)\n", false),
        (Resolvconf, "nameserver 127.0.0.1\nsearch `id`\n", false),
        (Resolvconf, "nameserver 127.0.0.1\noptions \"; id; \"\n", false),
        (Resolvconf, "nameserver 127.0.0.1;id\n", false),
        (Resolvconf, "nameserver 192.0.2.1\n", false),
        (Resolvconf, "# $(id)\n", false),
        (Resolvconf, "search -n\n", false),
        (Resolvconf, "search a\tb\n", false),
        (Resolvconf, "domain a\n", false),
        (Resolvconf, "", false),
    ] {
        assert_eq!(holds(file, text), expected, "{file:?}: {text:?}");
    }
    assert!(!Dnsmasq.may_hold(b"server=/\xff/127.0.0.1#53\n", &[]));
}

#[test]
fn resolv_conf_names_the_stub_and_keeps_what_others_wrote() {
    let theirs = b"# by Andr\xe9\rsearch x\nsearch $(id)\nnameserver 192.0.2.1\n\
                   nameserver fe80::1%eth0\noptions ndots:2"
        .to_vec();
    let stood = [b"nameserver 192.0.2.7\n".to_vec(), theirs];
    let others = |servers: &str| {
        let rest = format!("\rsearch x\nsearch $(id)\n{servers}options ndots:2\n");
        [MARK.as_bytes(), b"# by Andr\xe9", rest.as_bytes()].concat()
    };
    for (servers, expected) in [
        ("nameserver 127.0.0.1\nnameserver 192.0.2.1\nnameserver fe80::1%eth0\n", true),
        ("nameserver 127.0.0.1\n", true),
        ("nameserver 127.0.0.57\nnameserver 127.0.0.1\nnameserver 192.0.2.7\n", true),
        ("nameserver 192.0.2.1\nnameserver 127.0.0.1\n", false),
        ("nameserver 127.0.0.1\nnameserver 192.0.2.66\n", false),
        ("nameserver 127.0.0.1 $(id)\n", false),
        ("nameserver 127.0.0.1\nsearch evil.example\n", false),
        ("nameserver 127.0.0.1\n# x\n", false),
    ] {
        assert_eq!(File::ResolvConf.may_hold(&others(servers), &stood), expected, "{servers}");
    }
    let of = |text: &str| File::ResolvConf.may_hold(text.as_bytes(), &stood);
    assert!(of("nameserver 127.0.0.1\nnameserver 192.0.2.7\n"), "that of the other version");
    assert!(!of("# by another\nnameserver 127.0.0.1\n"));
    // What is ours already is others' with our mark.
    let ours = others("nameserver 127.0.0.1\n");
    assert!(File::ResolvConf.may_hold(&others("nameserver 127.0.0.57\n"), &[ours]));
    assert!(!holds(File::ResolvConf, "nameserver 127.0.0.1\n"), "nothing stood");
}

#[test]
fn hosts_has_names_in_the_block_and_keeps_what_others_wrote() {
    let theirs = "127.0.0.1 localhost\n# $(id)\r\n10.0.0.1 db # last".to_owned();
    let block = |inner: &str| format!("{BEGIN}{inner}{END}");
    let stood = [(block("192.0.2.1 old.example\n") + &theirs).into_bytes()];
    for (text, expected) in [
        (theirs.clone(), true),
        (block("192.0.2.1 web.example\n2001:db8::1 -a_b\n") + &theirs, true),
        (block("") + &theirs, true),
        (block("192.0.2.1 localhost\n") + &theirs, false),
        (block("192.0.2.1 a.localhost\n") + &theirs, false),
        (block("192.0.2.1 web.example localhost\n") + &theirs, false),
        (block("192.0.2.1 web.example # x\n") + &theirs, false),
        (block("192.0.2.1 web.example\r\n") + &theirs, false),
        (block("# x\n") + &theirs, false),
        (block("192.0.2.1 web.example\n"), false),
        (block("192.0.2.1 web.example\n") + &theirs + "\n192.0.2.1 more\n", false),
        (format!("192.0.2.1 first\n{theirs}"), false),
        (theirs.replace("127.0.0.1", "192.0.2.1"), false),
        (String::new(), false),
    ] {
        assert_eq!(File::Hosts.may_hold(text.as_bytes(), &stood), expected, "{text:?}");
    }
}
