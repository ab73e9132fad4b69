//! Which of this machine's addresses a query was sent to, so that the answer leaves from there.
//!
//! A socket bound to the wildcard address would let the kernel choose a source by route, and the
//! client drops an answer that comes from another address than it asked.

use std::net::SocketAddr;

use nix::libc::{in_addr, in_pktinfo, in6_addr, in6_pktinfo};
use nix::sys::socket::{ControlMessageOwned, RecvMsg, SockaddrStorage};

/// The source of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Local {
    /// The address that the socket is bound to.
    Bound,
    /// An IPv4 address, in network order.
    V4(u32),
    /// An IPv6 address, with its interface if it is of link scope.
    V6([u8; 16], u32),
}

/// Room for the control message of one datagram, on a socket bound to the wildcard address. The
/// kernel fills it exactly, so that it is as large again for the next.
pub(super) fn room(bound: SocketAddr) -> Option<Vec<u8>> {
    bound.ip().is_unspecified().then(|| match bound {
        SocketAddr::V4(_) => nix::cmsg_space!(in_pktinfo),
        SocketAddr::V6(_) => nix::cmsg_space!(in6_pktinfo),
    })
}

impl Local {
    /// Where `message` was sent to; None if the kernel did not say although it was asked.
    pub(super) fn of(message: &RecvMsg<'_, '_, SockaddrStorage>) -> Option<Self> {
        let mut local = Self::Bound;
        for control in message.cmsgs().ok()? {
            if let ControlMessageOwned::Ipv4PacketInfo(info) = control {
                local = Self::V4(info.ipi_spec_dst.s_addr);
            } else if let ControlMessageOwned::Ipv6PacketInfo(info) = control {
                let address = info.ipi6_addr.s6_addr;
                local =
                    Self::V6(address, if is_link_local(address) { info.ipi6_ifindex } else { 0 });
            }
        }
        Some(local)
    }

    pub(super) const fn v4(address: u32) -> in_pktinfo {
        in_pktinfo {
            ipi_ifindex: 0,
            ipi_spec_dst: in_addr { s_addr: address },
            ipi_addr: in_addr { s_addr: 0 },
        }
    }

    pub(super) const fn v6(address: [u8; 16], interface: u32) -> in6_pktinfo {
        in6_pktinfo { ipi6_addr: in6_addr { s6_addr: address }, ipi6_ifindex: interface }
    }
}

const fn is_link_local(address: [u8; 16]) -> bool {
    let [first, second, ..] = address;
    first == 0xfe && second & 0xc0 == 0x80
}
