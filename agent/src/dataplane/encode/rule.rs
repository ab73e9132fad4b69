//! One rule: what it looks at and what it does, as expressions.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use super::expression::{Compare, Expressions, Flow, Header, Meta, Register, Verdict};
use super::{APPEND, CREATE, Messages, Verb};
use crate::rules::{Action, Family, Match, Name, Rule, Table, Transport};

/// `NFPROTO_IPV4`, which is `AF_INET`.
pub(in crate::dataplane) const V4: u8 = 2;
/// `NFPROTO_IPV6`, which is `AF_INET6`.
pub(in crate::dataplane) const V6: u8 = 10;
/// `IPS_DST_NAT` of a flow's status.
pub(in crate::dataplane) const TRANSLATED: u32 = 1 << 5;
/// Where the flags of TCP stand in its header, and the one that opens a connection (RFC 9293).
const FLAGS: u32 = 13;
const SYN: u8 = 0x02;

/// What a rule knows of its packet already: `nft` does not ask twice.
#[derive(Debug, Default)]
struct Known {
    family: Option<Family>,
    transport: Option<Transport>,
}

/// Appends a rule to a chain.
pub(in crate::dataplane) fn append(to: &mut Messages, table: &Table, chain: &Name, rule: &Rule) {
    to.rules(Verb::NewRule, CREATE | APPEND, |message| {
        message.text(1, table.name.as_str());
        message.text(2, chain.as_str());
        message.nest(4, |list| {
            let mut expressions = Expressions::new(list);
            let mut known = Known::default();
            for it in &rule.matches {
                look(&mut expressions, &mut known, it);
            }
            for it in &rule.actions {
                act(&mut expressions, &mut known, table, it);
            }
        });
    });
}

fn look(to: &mut Expressions<'_>, known: &mut Known, what: &Match) {
    match *what {
        Match::Family(it) => family(to, known, it),
        Match::Transport(it) => transport(to, known, it),
        Match::Source(net) => network(to, known, net),
        Match::Destination(address) => {
            family(to, known, Family::of(address));
            let (offset, length) = destination(Family::of(address));
            to.payload(Header::Network, offset, length, Register::First);
            octets(address, |bytes| to.compare(Compare::Equal, bytes));
        }
        Match::SourceBucketBelow { family: of, seed, bound } => {
            let (offset, length) = source(of);
            to.payload(Header::Network, offset, length, Register::Second);
            to.hash(length, seed);
            to.network_order();
            to.compare(Compare::Less, &u32::from(bound).to_be_bytes());
        }
        Match::DrawBelow { bound } => {
            to.draw();
            to.network_order();
            to.compare(Compare::Less, &u32::from(bound).to_be_bytes());
        }
        Match::SocketUser(user) => {
            to.meta(Meta::SocketUser, Register::First);
            to.compare(Compare::Equal, &user.to_ne_bytes());
        }
        Match::PacketMark { mask, value } => {
            to.meta(Meta::Mark, Register::First);
            masked(to, mask, value);
        }
        Match::FlowMark { mask, value } => {
            to.flow(Flow::Mark);
            masked(to, mask, value);
        }
        Match::Midway => {
            if known.transport != Some(Transport::Tcp) {
                transport(to, known, Transport::Tcp);
            }
            to.payload(Header::Transport, FLAGS, 1, Register::First);
            to.bits(&[SYN], &[0]);
            to.compare(Compare::Equal, &[0]);
        }
        Match::Translated => {
            to.flow(Flow::Status);
            to.bits(&TRANSLATED.to_ne_bytes(), &[0; 4]);
            to.compare(Compare::Unequal, &[0; 4]);
        }
        Match::LeavesHost => {
            to.meta(Meta::OutputName, Register::First);
            // All sixteen bytes of an interface's name (`IFNAMSIZ`), so that `lo2` is another.
            to.compare(Compare::Unequal, b"lo\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
        }
    }
}

fn act(to: &mut Expressions<'_>, known: &mut Known, table: &Table, what: &Action) {
    match what {
        Action::MarkFlow { mask, value } => {
            if *mask == u32::MAX {
                to.load(Register::First, &value.to_ne_bytes());
            } else {
                to.flow(Flow::Mark);
                to.bits(&(!mask).to_ne_bytes(), &value.to_ne_bytes());
            }
            to.set_flow_mark();
        }
        Action::Count(counter) => to.count(counter.as_str()),
        Action::Note(set) => note(to, known, table, set),
        Action::Translate(endpoint) => translate(to, *endpoint),
        Action::Redirect(port) => {
            to.load(Register::First, &port.to_be_bytes());
            to.redirect();
        }
        Action::Masquerade => to.masquerade(),
        Action::LeaveAs(address) => {
            octets(*address, |bytes| to.load(Register::First, bytes));
            to.leave_as(if address.is_ipv4() { V4 } else { V6 });
        }
        Action::Goto(chain) => to.verdict(Verdict::Goto(chain.as_str())),
        Action::Jump(chain) => to.verdict(Verdict::Jump(chain.as_str())),
        Action::Return => to.verdict(Verdict::Return),
        Action::Accept => to.verdict(Verdict::Accept),
        Action::Dispatch(map) => dispatch(to, known, table, map),
    }
}

fn transport(to: &mut Expressions<'_>, known: &mut Known, of: Transport) {
    known.transport = Some(of);
    to.meta(Meta::Transport, Register::First);
    to.compare(Compare::Equal, &[protocol(of)]);
}

fn family(to: &mut Expressions<'_>, known: &mut Known, of: Family) {
    if known.family == Some(of) {
        return;
    }
    known.family = Some(of);
    to.meta(Meta::Family, Register::First);
    to.compare(Compare::Equal, &[if of == Family::V4 { V4 } else { V6 }]);
}

fn network(to: &mut Expressions<'_>, known: &mut Known, net: IpNet) {
    let of = Family::of(net.addr());
    family(to, known, of);
    let (offset, length) = source(of);
    let bits = u32::from(net.prefix_len());
    if bits > 0 && bits % 8 == 0 {
        // Whole bytes: the fewer are loaded, as `nft` does.
        to.payload(Header::Network, offset, bits / 8, Register::First);
        octets(net.network(), |bytes| {
            let wanted = usize::try_from(bits / 8).unwrap_or(bytes.len());
            to.compare(Compare::Equal, bytes.get(..wanted).unwrap_or(bytes));
        });
        return;
    }
    to.payload(Header::Network, offset, length, Register::First);
    octets(net.netmask(), |mask| to.bits(mask, zeros(mask)));
    octets(net.network(), |bytes| to.compare(Compare::Equal, bytes));
}

fn masked(to: &mut Expressions<'_>, mask: u32, value: u32) {
    if mask != u32::MAX {
        to.bits(&mask.to_ne_bytes(), &[0; 4]);
    }
    to.compare(Compare::Equal, &value.to_ne_bytes());
}

fn note(to: &mut Expressions<'_>, known: &mut Known, table: &Table, set: &Name) {
    let Some(stragglers) = table.stragglers.get(set) else { return };
    family(to, known, stragglers.family);
    let (offset, length) = source(stragglers.family);
    to.payload(Header::Network, offset, length, Register::First);
    let any = match stragglers.family {
        Family::V4 => IpAddr::V4([0; 4].into()),
        Family::V6 => IpAddr::V6([0; 16].into()),
    };
    if let Ok(net) = IpNet::new(any, stragglers.prefix) {
        octets(net.netmask(), |mask| to.bits(mask, zeros(mask)));
    }
    to.note(set.as_str());
}

fn translate(to: &mut Expressions<'_>, endpoint: SocketAddr) {
    octets(endpoint.ip(), |bytes| to.load(Register::First, bytes));
    // Port 0 lets the port stay.
    let with_port = endpoint.port() != 0;
    if with_port {
        to.load(Register::Second, &endpoint.port().to_be_bytes());
    }
    to.translate(if endpoint.is_ipv4() { V4 } else { V6 }, with_port);
}

fn dispatch(to: &mut Expressions<'_>, known: &mut Known, table: &Table, map: &Name) {
    let Some(dispatch) = table.dispatch.get(map) else { return };
    family(to, known, dispatch.family);
    let (offset, length) = destination(dispatch.family);
    let (protocol, port) = match dispatch.family {
        Family::V4 => (Register::Word1, Register::Word2),
        Family::V6 => (Register::Second, Register::Word5),
    };
    to.payload(Header::Network, offset, length, Register::First);
    to.meta(Meta::Transport, protocol);
    to.payload(Header::Transport, 2, 2, port);
    to.verdict_of(map.as_str());
}

/// Where the source address stands in a header, and how long it is (RFC 791, RFC 8200).
const fn source(family: Family) -> (u32, u32) {
    match family {
        Family::V4 => (12, 4),
        Family::V6 => (8, 16),
    }
}

/// Where the destination address stands.
const fn destination(family: Family) -> (u32, u32) {
    match family {
        Family::V4 => (16, 4),
        Family::V6 => (24, 16),
    }
}

/// The number of a transport protocol.
pub(in crate::dataplane) const fn protocol(transport: Transport) -> u8 {
    match transport {
        Transport::Tcp => 6,
        Transport::Udp => 17,
    }
}

/// The bytes of an address.
pub(in crate::dataplane) fn octets<T>(address: IpAddr, then: impl FnOnce(&[u8]) -> T) -> T {
    match address {
        IpAddr::V4(v4) => then(&v4.octets()),
        IpAddr::V6(v6) => then(&v6.octets()),
    }
}

/// As many zeros as the mask of an address is long.
const fn zeros(mask: &[u8]) -> &'static [u8] {
    if mask.len() == 4 { &[0; 4] } else { &[0; 16] }
}
