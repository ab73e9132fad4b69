//! Proving that servers answer by way of this host, so that flows forwarded to them may keep the
//! address of their client (`preserveSource`).
//!
//! A proof is a TCP connection of the agent's own to the endpoint that leaves with an address of a
//! client network: source NAT of our table, in the kernel, by the mark of the socket. If the answer
//! comes by way of this host, connection tracking takes it back to the agent and the connection
//! opens; by any other way it does not open. So an answer never reaches the client whose address
//! was borrowed, the server's system sees a connection that is given up, and without our rules
//! there is no proof: the agent asks connection tracking with which address the flow left.
//!
//! What is not proved is masqueraded, and a proof ages. [`Wanted`] says what is to be proved,
//! [`Proofs`] keeps what came back; both are functions of what they are given, time included.

mod proofs;
#[cfg(test)]
mod tests;
mod wanted;

pub(crate) use self::proofs::NOT_YET;
pub use self::proofs::{Judged, Outcome, Proofs};
pub use self::wanted::{Ask, Wanted, Why};
