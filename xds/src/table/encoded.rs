//! A resource as it goes out, encoded once.

use bytes::{BufMut, Bytes, BytesMut};
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};
use twox_hash::XxHash64;

use crate::name::{Name, TypeUrl};
use crate::version::Version;

/// The field `resources` of both kinds of responses (discovery.proto).
const RESOURCES: u32 = 2;
/// Fields of `Resource`.
const VERSION: u32 = 1;
const RESOURCE: u32 = 2;
const NAME: u32 = 3;
/// Fields of `Any`.
const TYPE_URL: u32 = 1;
const VALUE: u32 = 2;

/// A resource, encoded once for whatever number of streams, SotW and Delta.
///
/// `Resource` puts its `Any` last under field 2, which is also the number of the `Any`s of a SotW
/// response: the end of the one encoding is the other.
#[derive(Clone, Debug)]
pub struct Encoded {
    /// Its name.
    pub name: Name,
    /// Its version.
    pub version: Version,
    delta: Bytes,
    sotw: Bytes,
    body: Bytes,
}

impl Encoded {
    /// Encodes a resource. `body` is its message in protobuf's binary form.
    pub fn new(type_url: &TypeUrl, name: Name, version: Version, body: &[u8]) -> Self {
        let version_text = version.to_string();
        let any = field_len(TYPE_URL, type_url.as_str().len()) + field_len(VALUE, body.len());
        let resource = field_len(NAME, name.as_str().len())
            + field_len(VERSION, version_text.len())
            + field_len(RESOURCE, any);
        let mut out = BytesMut::with_capacity(field_len(RESOURCES, resource));
        put_head(&mut out, RESOURCES, resource);
        put_field(&mut out, NAME, name.as_str().as_bytes());
        put_field(&mut out, VERSION, version_text.as_bytes());
        let sotw_from = out.len();
        put_head(&mut out, RESOURCE, any);
        put_field(&mut out, TYPE_URL, type_url.as_str().as_bytes());
        put_head(&mut out, VALUE, body.len());
        let body_from = out.len();
        out.put_slice(body);
        let delta = out.freeze();
        let (sotw, body) = (delta.slice(sotw_from..), delta.slice(body_from..));
        Self { name, version, delta, sotw, body }
    }

    /// The field `resources` of a `DeltaDiscoveryResponse` with this one resource.
    pub const fn delta(&self) -> &Bytes {
        &self.delta
    }

    /// The field `resources` of a `DiscoveryResponse` with this one resource.
    pub const fn sotw(&self) -> &Bytes {
        &self.sotw
    }

    /// The message itself.
    pub const fn body(&self) -> &Bytes {
        &self.body
    }

    /// Over name and version.
    pub(crate) fn identity(&self) -> u64 {
        XxHash64::oneshot(self.name.hash_value(), self.version.to_string().as_bytes())
    }
}

/// How long a field with so many bytes is.
pub(crate) fn field_len(field: u32, bytes: usize) -> usize {
    key_len(field) + encoded_len_varint(bytes as u64) + bytes
}

fn put_head(out: &mut BytesMut, field: u32, bytes: usize) {
    encode_key(field, WireType::LengthDelimited, out);
    encode_varint(bytes as u64, out);
}

/// Writes a field of bytes or text.
pub(crate) fn put_field(out: &mut BytesMut, field: u32, bytes: &[u8]) {
    put_head(out, field, bytes.len());
    out.put_slice(bytes);
}

#[cfg(test)]
mod tests {
    use plan::Token;
    use prost::Message as _;
    use proto::envoy::service::discovery::v3::{DeltaDiscoveryResponse, DiscoveryResponse};

    use super::*;

    #[test]
    fn one_encoding_is_both_responses() {
        let version = Version::of(Token::START, b"body");
        let encoded =
            Encoded::new(&TypeUrl::CLUSTER.into(), "orders".into(), version.clone(), b"body");
        let delta = DeltaDiscoveryResponse::decode(encoded.delta().clone()).unwrap();
        let [resource] = delta.resources.as_slice() else { panic!("{delta:?}") };
        assert_eq!((resource.name.as_str(), &resource.version), ("orders", &version.to_string()));
        let sotw = DiscoveryResponse::decode(encoded.sotw().clone()).unwrap();
        assert_eq!(resource.resource.as_slice(), sotw.resources.as_slice());
        let any = sotw.resources.first().unwrap();
        assert_eq!((any.type_url.as_str(), &any.value), (TypeUrl::CLUSTER, encoded.body()));
    }
}
