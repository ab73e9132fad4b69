//! The bytes of a ticket: pin (32), secret (32), name, number of controllers (1), each controller,
//! and where it is a gateway's the gateway. A text is its length in a byte and its bytes.

use super::{
    CONTROLLER_BYTES_MAX, CONTROLLERS_MAX, GATEWAY_BYTES_MAX, Kind, MachineName, PREFIX, Pin,
    Secret, TICKET_BYTES_MAX, Ticket,
};

// A ticket with everything at its longest is read: 4 characters for 3 bytes.
const _: () = assert!(
    PREFIX.len()
        + (32
            + 32
            + (1 + MachineName::MAX)
            + 1
            + CONTROLLERS_MAX * (1 + CONTROLLER_BYTES_MAX)
            + (1 + GATEWAY_BYTES_MAX)
            + 4)
            * 4
            / 3
        + 4
        <= TICKET_BYTES_MAX
);

/// The text is no ticket. Says nothing of the text: it may be somebody's secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TicketError {
    /// It does not begin as a ticket does.
    #[error(
        "this is no join token: one begins with `{PREFIX}`, and `crossfade token create NAME` \
         prints one"
    )]
    Foreign,
    /// Of another version of this format.
    #[error(
        "this join token is of another version of Crossfade; use the controller's version here"
    )]
    Version,
    /// Characters are missing or wrong.
    #[error("the join token was cut or mistyped: copy all of it, in one piece")]
    Altered,
    /// Its digest is right and its body is not.
    #[error("the join token does not say what a join token says; have a new one made")]
    Malformed,
}

/// The body of a ticket. Texts over their limits are cut, and then not read again.
pub(super) fn body(ticket: &Ticket) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(256);
    bytes.extend(ticket.pin.0);
    bytes.extend(ticket.secret.0);
    put(&mut bytes, ticket.name.as_str());
    bytes.push(u8::try_from(ticket.controllers.len()).unwrap_or(u8::MAX));
    for controller in &ticket.controllers {
        put(&mut bytes, controller);
    }
    if let Some(gateway) = ticket.kind.gateway() {
        put(&mut bytes, gateway.as_str());
    }
    bytes
}

fn put(bytes: &mut Vec<u8>, text: &str) {
    let length = u8::try_from(text.len()).unwrap_or(u8::MAX);
    bytes.push(length);
    bytes.extend(text.bytes().take(usize::from(length)));
}

/// The ticket of which this is the body.
pub(super) fn ticket(body: &[u8]) -> Option<Ticket> {
    let (pin, rest) = body.split_first_chunk()?;
    let (secret, mut rest) = rest.split_first_chunk()?;
    let name = take(&mut rest)?.parse().ok()?;
    let (count, after) = rest.split_first()?;
    rest = after;
    if !(1..=CONTROLLERS_MAX).contains(&usize::from(*count)) {
        return None;
    }
    let mut controllers = Vec::with_capacity(usize::from(*count));
    for _ in 0..*count {
        controllers.push(take(&mut rest).filter(|text| is_controller(text))?.to_owned());
    }
    // Tickets of before there were others are all agents'.
    let kind = match rest {
        [] => Kind::Agent,
        _ => Kind::Gateway(take(&mut rest)?.parse().ok()?),
    };
    let whole = rest.is_empty();
    whole.then_some(Ticket { controllers, pin: Pin(*pin), name, kind, secret: Secret(*secret) })
}

fn take<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    let (length, after) = rest.split_first()?;
    let (text, after) = after.split_at_checked(usize::from(*length))?;
    *rest = after;
    std::str::from_utf8(text).ok()
}

/// Whether this is `HOST:PORT`, with a name, an IPv4 address, or an IPv6 address in brackets.
pub(super) fn is_controller(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let is_host = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(v6) => v6.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
            !host.is_empty() && host.bytes().all(plain)
        }
    };
    let is_digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
    let is_port = is_digits && port.parse::<u16>().is_ok_and(|port| port != 0);
    is_host && is_port && text.len() <= CONTROLLER_BYTES_MAX
}
