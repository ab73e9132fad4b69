//! What a server takes at most, with reasons.

use std::time::Duration;

/// Limits of a server. Every one can be changed; the defaults are the constants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The longest request, in bytes.
    pub message_bytes: usize,
    /// Streams at a time, over all connections.
    pub streams: usize,
    /// Streams at a time on one connection.
    pub streams_per_connection: u32,
    /// Connections at a time.
    pub connections: usize,
    /// Connections at a time on which nobody is known: no certificate was shown, or not yet.
    pub strangers: usize,
    /// The same from one source: an address, or a /64 of IPv6.
    pub strangers_per_source: usize,
    /// How long a connection may last on which nobody is known.
    pub stranger: Duration,
    /// Calls at a time on such connections.
    pub stranger_calls: usize,
    /// The same from one source.
    pub stranger_calls_per_source: usize,
    /// How long such a call may take.
    pub stranger_call: Duration,
    /// Connections at a time of one identity.
    pub connections_per_identity: usize,
    /// Streams at a time of one identity: of discovery and of all other services together.
    pub streams_per_identity: usize,
    /// New streams per second of one identity, in the long run; at once as many as it may have.
    pub openings_per_identity: u32,
    /// New connections, and new streams, per second. While several sources come, each has half of
    /// the connections at most.
    pub arrivals_per_second: u32,
    /// Connections that take at the same time what they first asked for. The next one is accepted
    /// when one of them has, or a moment later.
    pub filling: usize,
    /// How long a TLS handshake may take.
    pub handshake: Duration,
    /// How long a connection may have no stream, from its start or from the end of its last one.
    pub idle: Duration,
    /// How long a stream may be silent before its first request.
    pub first_request: Duration,
    /// How long a client may take nothing of a response that waits to be written.
    pub stalled: Duration,
    /// After how long a quiet connection is pinged.
    pub ping_every: Duration,
    /// How long the answer to a ping may take.
    pub ping_timeout: Duration,
    /// Requests per second on one stream, in the long run. Over it a stream is read more slowly.
    pub requests_per_second: u32,
    /// Requests that a stream may send at once.
    pub requests_burst: u32,
    /// How long streams and connections may take to end when the server stops.
    pub stop: Duration,
}

impl Limits {
    /// What gRPC servers take by default. 100 000 names of 40 bytes fit.
    pub const MESSAGE_BYTES: usize = 4 << 20;
    /// Twice the largest fleet that is measured, at some 35 KB each: 350 MB.
    pub const STREAMS: usize = 10_000;
    /// Envoy opens one for the aggregated service and a few for load reports and secrets; a program
    /// with one channel for many targets some dozens.
    pub const STREAMS_PER_CONNECTION: u32 = 100;
    /// Room for connections that are answered "no more streams", over those that have one.
    pub const CONNECTIONS: usize = 12_000;
    /// One second of arrivals in their handshakes. The rest of the room is for who is known.
    pub const STRANGERS: usize = 2_000;
    /// Many machines may be behind one address, and arrive at once when a controller starts.
    pub const STRANGERS_PER_SOURCE: usize = 500;
    /// A machine joins, or renews its certificate, in two seconds.
    pub const STRANGER: Duration = Duration::from_secs(15);
    /// Certificates are given out a hundred a second.
    pub const STRANGER_CALLS: usize = 1_000;
    /// Ten networks use all of it up, not one.
    pub const STRANGER_CALLS_PER_SOURCE: usize = 100;
    /// What is asked for there is short, and answered at once.
    pub const STRANGER_CALL: Duration = Duration::from_secs(10);
    /// One in a hundred of those who are known. A VM has two connections and a relay one; who comes
    /// again each second for as long as its old ones are not noticed to be gone, a minute, has
    /// fewer than this.
    pub const CONNECTIONS_PER_IDENTITY: usize = 100;
    /// One in twenty of all. A relay has one stream for all that its proxies follow, one of its own
    /// reports and one for each proxy's load reports, as many as one connection takes
    /// ([`Limits::STREAMS_PER_CONNECTION`]); five such connections, of which it may have lost four.
    pub const STREAMS_PER_IDENTITY: usize = 500;
    /// One in twenty of all: a connection full of streams, made anew each second.
    pub const OPENINGS_PER_IDENTITY: u32 = 100;
    /// One TLS handshake costs half a millisecond of a core.
    pub const ARRIVALS_PER_SECOND: u32 = 2_000;
    /// The first state of a stream passes through several times the memory that it then keeps.
    /// Thousands at once would leave that memory in pieces: 600 at once left 90 KB each in an
    /// unoptimised build, one after the other 39 KB.
    pub const FILLING: usize = 100;
    /// Two round trips and some lost packets.
    pub const HANDSHAKE: Duration = Duration::from_secs(10);
    /// gRPC clients connect before they call; nobody waits so long with that.
    pub const IDLE: Duration = Duration::from_secs(60);
    /// Envoy and gRPC send the first request with the headers.
    pub const FIRST_REQUEST: Duration = Duration::from_secs(30);
    /// A client that is alive reads at once; a machine that swaps may take seconds.
    pub const STALLED: Duration = Duration::from_secs(30);
    /// Shorter than what firewalls forget connections after.
    pub const PING_EVERY: Duration = Duration::from_secs(30);
    /// As hyper's default: some lost packets.
    pub const PING_TIMEOUT: Duration = Duration::from_secs(20);
    /// Five types acked twenty times a second, twice.
    pub const REQUESTS_PER_SECOND: u32 = 200;
    /// A client that subscribes to its names one by one.
    pub const REQUESTS_BURST: u32 = 5_000;
    /// Discovery streams are ended at once; what is left are streams of other services, whose
    /// clients need no more than the end of their connection. A stop must be short: no rollback is
    /// taken meanwhile.
    pub const STOP: Duration = Duration::from_secs(1);
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_bytes: Self::MESSAGE_BYTES,
            streams: Self::STREAMS,
            streams_per_connection: Self::STREAMS_PER_CONNECTION,
            connections: Self::CONNECTIONS,
            strangers: Self::STRANGERS,
            strangers_per_source: Self::STRANGERS_PER_SOURCE,
            stranger: Self::STRANGER,
            stranger_calls: Self::STRANGER_CALLS,
            stranger_calls_per_source: Self::STRANGER_CALLS_PER_SOURCE,
            stranger_call: Self::STRANGER_CALL,
            connections_per_identity: Self::CONNECTIONS_PER_IDENTITY,
            streams_per_identity: Self::STREAMS_PER_IDENTITY,
            openings_per_identity: Self::OPENINGS_PER_IDENTITY,
            arrivals_per_second: Self::ARRIVALS_PER_SECOND,
            filling: Self::FILLING,
            handshake: Self::HANDSHAKE,
            idle: Self::IDLE,
            first_request: Self::FIRST_REQUEST,
            stalled: Self::STALLED,
            ping_every: Self::PING_EVERY,
            ping_timeout: Self::PING_TIMEOUT,
            requests_per_second: Self::REQUESTS_PER_SECOND,
            requests_burst: Self::REQUESTS_BURST,
            stop: Self::STOP,
        }
    }
}
