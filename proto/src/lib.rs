//! The messages of machines: those of xDS that are on the hot path, with upstream field numbers and
//! bodies as shared [`bytes::Bytes`], and Crossfade's own (`crossfade.v1`).
//!
//! Generated from `proto/` when built; rules and units are in the comments of the `.proto` files,
//! which are the documentation here. No logic.

#![allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    rustdoc::all,
    clippy::all,
    clippy::allow_attributes_without_reason,
    reason = "generated"
)]

include!(concat!(env!("OUT_DIR"), "/modules.rs"));

/// All messages and services as a `google.protobuf.FileDescriptorSet`, for reflection and for the
/// test that nothing on the wire changed unasked.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
