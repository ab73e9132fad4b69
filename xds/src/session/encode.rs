//! The few fields of a response that are not shared between streams.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use crate::name::{Name, TypeUrl};
use crate::table::{Resource, field_len, put_field};

/// Fields of both kinds of responses (discovery.proto); resources are 2.
const VERSION: u32 = 1;
const TYPE_URL: u32 = 4;
const NONCE: u32 = 5;
/// A field of Delta responses alone.
const REMOVED: u32 = 6;

/// A `DeltaDiscoveryResponse` in parts.
pub(super) fn delta<'a>(
    head: &Head<'_>,
    resources: impl Iterator<Item = &'a Arc<Resource>>,
    removed: &[&Name],
) -> Vec<Bytes> {
    let mut parts: Vec<Bytes> =
        resources.map(|resource| resource.encoded.delta().clone()).collect();
    parts.push(head.encode(removed));
    parts
}

/// A `DiscoveryResponse` in parts.
pub(super) fn sotw<'a>(
    head: &Head<'_>,
    resources: impl Iterator<Item = &'a Arc<Resource>>,
) -> Vec<Bytes> {
    let mut parts: Vec<Bytes> = resources.map(|resource| resource.encoded.sotw().clone()).collect();
    parts.push(head.encode(&[]));
    parts
}

/// How many bytes a removed name takes.
pub(super) fn removed_len(name: &Name) -> usize {
    field_len(REMOVED, name.as_str().len())
}

/// What stands beside the resources. Protobuf lets fields come in any order: it comes last.
pub(super) struct Head<'a> {
    pub(super) version: &'a str,
    pub(super) type_url: &'a TypeUrl,
    pub(super) nonce: &'a str,
}

impl Head<'_> {
    fn encode(&self, removed: &[&Name]) -> Bytes {
        let fields =
            [(VERSION, self.version), (TYPE_URL, self.type_url.as_str()), (NONCE, self.nonce)];
        let removed_bytes: usize = removed.iter().map(|name| removed_len(name)).sum();
        let bytes: usize = fields.iter().map(|(field, text)| field_len(*field, text.len())).sum();
        let mut out = BytesMut::with_capacity(bytes.saturating_add(removed_bytes));
        for (field, text) in fields {
            put_field(&mut out, field, text.as_bytes());
        }
        for name in removed {
            put_field(&mut out, REMOVED, name.as_str().as_bytes());
        }
        out.freeze()
    }
}
