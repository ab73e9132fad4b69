//! The server over real sockets on loopback.

mod datagrams;
mod exchange;
mod life;
mod streams;
mod world;
