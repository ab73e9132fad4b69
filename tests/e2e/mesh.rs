//! The mesh plane with the clients that people have: real Envoys and gRPC libraries, under load.
//!
//! Each test has networks of its own in 127.0.0.0/8, so that fixed ports are free there:
//! 127.(N).0.1 is where its gateway binds, .0.11 legacy, .0.21 target, and clients are in
//! 127.(N+1).0.0/16.

mod catch;
mod drain;
mod grpc;
mod http;
mod refusal;
mod relay;
mod restarts;
mod tcp;
pub(crate) mod world;
