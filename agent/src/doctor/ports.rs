//! Rules of others that translate a port whatever the address, as docker's and redirections do.

use crate::dataplane::Attributes;

/// `NFT_PAYLOAD_NETWORK_HEADER` and `_TRANSPORT_HEADER`.
const NETWORK: u32 = 1;
const TRANSPORT: u32 = 2;
/// Where the destination address stands (RFC 791, RFC 8200), and the destination port.
const ADDRESS_V4: u32 = 16;
const ADDRESS_V6: u32 = 24;
const PORT: u32 = 2;
/// `NFT_NAT_DNAT`.
const DNAT: u32 = 1;

/// Whether a rule, of the expressions that it is made of (`NFTA_RULE_EXPRESSIONS`), changes the
/// destination of packets by their port, and looks at no address that they go to.
pub(super) fn translates(expressions: &[u8]) -> bool {
    let (mut changes, mut by_port, mut by_address) = (false, false, false);
    for expression in Attributes::new(expressions) {
        let expression = expression.nest();
        let (Some(name), Some(data)) = (expression.text(1), expression.nest(2)) else { continue };
        match name {
            "redir" => changes = true,
            "nat" => changes |= data.number(1) == Some(DNAT),
            "target" => changes |= matches!(data.text(1), Some("DNAT" | "REDIRECT")),
            "match" => by_port |= matches!(data.text(1), Some("tcp" | "udp" | "multiport")),
            "payload" => {
                let (header, offset) = (data.number(2), data.number(3));
                by_port |= header == Some(TRANSPORT) && offset == Some(PORT);
                by_address |= header == Some(NETWORK)
                    && offset.is_some_and(|at| at == ADDRESS_V4 || at == ADDRESS_V6);
            }
            _ => {}
        }
    }
    changes && by_port && !by_address
}
