//! Secrets: what a proxy shows, and by what it knows others.

use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3 as pb;
use plan::Token;
use prost::Message as _;

use crate::name::{Name, Scope, TypeUrl};
use crate::table::{Change, Edit, Encoded};
use crate::version::Version;

/// What the proxy's own certificate and key are called.
pub const IDENTITY: &str = "crossfade/identity";
/// What the certificates of the authorities that it trusts are called.
pub const AUTHORITIES: &str = "crossfade/authorities";

/// PEM of what a proxy is.
#[derive(Clone, Copy)]
pub struct Secrets<'a> {
    /// Its certificate, and those between it and an authority.
    pub chain: &'a str,
    /// Its key.
    pub key: &'a str,
    /// The authorities that it trusts.
    pub authorities: &'a str,
    /// Which certificates they have taken back: a list of each of them, or empty. Where there is
    /// any list, a proxy refuses every certificate of an authority without one.
    pub revoked: &'a str,
}

/// The edits that put both secrets in a scope, in place of those that are there. Versions go by
/// what is in them: secrets are of no plan.
pub fn secrets(scope: &Scope, secrets: Secrets<'_>) -> [Edit; 2] {
    let Secrets { chain, key, authorities, revoked } = secrets;
    let certificate = pb::TlsCertificate {
        certificate_chain: Some(text(chain)),
        private_key: Some(text(key)),
        ..Default::default()
    };
    let validation = pb::CertificateValidationContext {
        trusted_ca: Some(text(authorities)),
        crl: (!revoked.is_empty()).then(|| text(revoked)),
        // Authorities are taken back by nobody but who trusts them.
        only_verify_leaf_cert_crl: !revoked.is_empty(),
        ..Default::default()
    };
    [
        put(scope, IDENTITY, pb::secret::Type::TlsCertificate(certificate)),
        put(scope, AUTHORITIES, pb::secret::Type::ValidationContext(validation)),
    ]
}

fn put(scope: &Scope, name: &str, what: pb::secret::Type) -> Edit {
    let secret = pb::Secret { name: name.to_owned(), r#type: Some(what) };
    let (type_url, body) = (TypeUrl::from(TypeUrl::SECRET), secret.encode_to_vec());
    let version = Version::of(Token::NEVER, &body);
    let encoded = Encoded::new(&type_url, Name::new(name), version, &body).into();
    let change = Change::Put { encoded, plans: [].into(), needs: [].into() };
    Edit { scope: scope.clone(), type_url, change }
}

fn text(pem: &str) -> core::DataSource {
    let specifier = core::data_source::Specifier::InlineString(pem.to_owned());
    core::DataSource { specifier: Some(specifier), ..Default::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_are_there_and_change_with_what_is_in_them() {
        let of = |chain, revoked| {
            let edits = Secrets { chain, key: "key", authorities: "ca", revoked };
            secrets(&"vm".into(), edits).map(|edit| {
                assert_eq!((edit.type_url.as_str(), edit.scope), (TypeUrl::SECRET, "vm".into()));
                let Change::Put { encoded, .. } = edit.change else { panic!("it is put") };
                encoded
            })
        };
        let [identity, authorities] = of("one", "");
        assert_eq!(identity.name.as_str(), IDENTITY);
        assert_eq!(authorities.name.as_str(), AUTHORITIES);
        let body = pb::Secret::decode(identity.body().as_ref()).unwrap();
        let Some(pb::secret::Type::TlsCertificate(certificate)) = body.r#type else { panic!() };
        assert_eq!(certificate.certificate_chain, Some(text("one")));
        assert_eq!(certificate.private_key, Some(text("key")));
        let body = pb::Secret::decode(authorities.body().as_ref()).unwrap();
        let Some(pb::secret::Type::ValidationContext(context)) = body.r#type else { panic!() };
        assert_eq!(context.trusted_ca, Some(text("ca")));
        assert_eq!((context.crl, context.only_verify_leaf_cert_crl), (None, false));
        let [renewed, same] = of("two", "");
        assert_ne!(renewed.version, identity.version);
        assert_eq!(same.version, authorities.version);
        let [same, listed] = of("one", "crl");
        assert_eq!(same.version, identity.version);
        assert_ne!(listed.version, authorities.version);
        let body = pb::Secret::decode(listed.body().as_ref()).unwrap();
        let Some(pb::secret::Type::ValidationContext(context)) = body.r#type else { panic!() };
        assert_eq!(context.trusted_ca, Some(text("ca")));
        assert_eq!((context.crl, context.only_verify_leaf_cert_crl), (Some(text("crl")), true));
    }
}
