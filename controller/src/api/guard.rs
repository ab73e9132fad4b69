//! Who may ask: no web page of another site, and nobody who came by a name that is not ours.
//!
//! A browser can be made to send requests to loopback by any page that its user visits. It then
//! says so in `Origin` and `Sec-Fetch-Site` (Fetch Metadata), or, after DNS rebinding, in `Host`.

use std::collections::BTreeSet;
use std::net::IpAddr;

use axum::http::uri::Authority;
use axum::http::{HeaderMap, Uri, header};

use super::peer::Peer;
use super::problem::{Code, Failure};

/// The names and addresses that this server answers to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Hosts {
    names: BTreeSet<String>,
    addresses: BTreeSet<IpAddr>,
}

impl Hosts {
    /// `localhost`, every loopback address, these names and these addresses.
    pub(crate) fn new(
        names: impl IntoIterator<Item = String>,
        addresses: impl IntoIterator<Item = IpAddr>,
    ) -> Self {
        let plain = |name: String| name.trim_end_matches('.').to_ascii_lowercase();
        let names = names.into_iter().map(plain).chain(["localhost".to_owned()]).collect();
        Self { names, addresses: addresses.into_iter().collect() }
    }

    fn knows(&self, host: &str) -> bool {
        let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        if let Ok(address) = bare.unwrap_or(host).parse::<IpAddr>() {
            return address.is_loopback() || self.addresses.contains(&address);
        }
        let name = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        self.names.contains(&name) || name.ends_with(".localhost")
    }

    /// Refuses callers that came by a foreign name or from a foreign page.
    pub(crate) fn check(&self, peer: &Peer, uri: &Uri, headers: &HeaderMap) -> Result<(), Failure> {
        let host = authority(headers)?;
        // RFC 9112 section 3.2.2: an absolute target goes before the Host header.
        let told = uri.authority().or(host.as_ref());
        let Some(told) = told else {
            return match peer {
                Peer::Unix { .. } => foreign_page(headers, None),
                Peer::Tcp(_) => Err(Failure::new(
                    Code::BadRequest,
                    "the Host header is missing; send `Host: 127.0.0.1:7400`, as every HTTP/1.1 \
                     client does",
                )),
            };
        };
        if matches!(peer, Peer::Tcp(_)) && !self.knows(told.host()) {
            return Err(Failure::new(
                Code::UnknownHost,
                format!(
                    "`{}` is not a name of this server; ask by 127.0.0.1 or localhost, or list \
                     the name under `api-hosts` in the settings file",
                    told.host(),
                ),
            ));
        }
        foreign_page(headers, Some(told))
    }
}

fn authority(headers: &HeaderMap) -> Result<Option<Authority>, Failure> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let Some(host) = hosts.next() else { return Ok(None) };
    let parsed = host.to_str().ok().and_then(|text| text.parse::<Authority>().ok());
    // RFC 9112 section 3.2: more than one, or a malformed one, is a bad request. User information
    // has no place in it (RFC 9110 section 7.2).
    match parsed {
        Some(authority) if hosts.next().is_none() && !authority.as_str().contains('@') => {
            Ok(Some(authority))
        }
        _ => Err(Failure::new(
            Code::BadRequest,
            "the Host header is malformed or there twice; send one, like `Host: 127.0.0.1:7400`",
        )),
    }
}

fn foreign_page(headers: &HeaderMap, host: Option<&Authority>) -> Result<(), Failure> {
    if let Some(site) = headers.get("sec-fetch-site")
        && !matches!(site.as_bytes(), b"same-origin" | b"none")
    {
        return Err(Failure::new(
            Code::ForeignOrigin,
            "the browser says that a page of another site asks; pages may not drive this API",
        ));
    }
    for origin in headers.get_all(header::ORIGIN) {
        let page = origin.to_str().unwrap_or("");
        let page = page.strip_prefix("http://").or_else(|| page.strip_prefix("https://"));
        let same =
            page.zip(host).is_some_and(|(page, host)| page.eq_ignore_ascii_case(host.as_str()));
        if !same {
            return Err(Failure::new(
                Code::ForeignOrigin,
                format!(
                    "a page of origin {} asks; only pages that this server gave may",
                    String::from_utf8_lossy(origin.as_bytes()),
                ),
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    struct Case {
        target: &'static str,
        headers: &'static [(&'static str, &'static str)],
        unix: bool,
        expect: Option<u16>,
    }

    fn case(headers: &'static [(&'static str, &'static str)], expect: Option<u16>) -> Case {
        Case { target: "/v1/plans", headers, unix: false, expect }
    }

    #[test]
    fn hosts_and_origins() {
        let hosts =
            Hosts::new(["Ops.Corp.Example".to_owned()], ["10.0.0.5".parse::<IpAddr>().unwrap()]);
        let cases = [
            case(&[("host", "127.0.0.1:7400")], None),
            case(&[("host", "127.9.9.9")], None),
            case(&[("host", "[::1]:7400")], None),
            case(&[("host", "LocalHost:7400")], None),
            case(&[("host", "a.localhost")], None),
            case(&[("host", "localhost.")], None),
            case(&[("host", "ops.corp.example")], None),
            case(&[("host", "10.0.0.5:7400")], None),
            case(&[("host", "10.0.0.6:7400")], Some(403)),
            case(&[("host", "evil.example")], Some(403)),
            case(&[("host", "localhost.evil.example")], Some(403)),
            case(&[("host", "user@localhost")], Some(400)),
            case(&[("host", "a b")], Some(400)),
            case(&[("host", "localhost"), ("host", "localhost")], Some(400)),
            case(&[], Some(400)),
            Case { unix: true, ..case(&[], None) },
            Case { unix: true, ..case(&[("host", "crossfade")], None) },
            Case { unix: true, ..case(&[("origin", "http://evil.example")], Some(403)) },
            Case { target: "http://localhost/x", ..case(&[], None) },
            Case { target: "http://evil.example/x", ..case(&[("host", "localhost")], Some(403)) },
            case(&[("host", "localhost:7400"), ("origin", "http://localhost:7400")], None),
            case(&[("host", "localhost:7400"), ("origin", "http://localhost:3000")], Some(403)),
            case(&[("host", "localhost:7400"), ("origin", "http://evil.example")], Some(403)),
            case(&[("host", "localhost:7400"), ("origin", "null")], Some(403)),
            case(
                &[("host", "localhost"), ("origin", "http://localhost"), ("origin", "x")],
                Some(403),
            ),
            case(&[("host", "localhost"), ("sec-fetch-site", "same-origin")], None),
            case(&[("host", "localhost"), ("sec-fetch-site", "none")], None),
            case(&[("host", "localhost"), ("sec-fetch-site", "same-site")], Some(403)),
            case(&[("host", "localhost"), ("sec-fetch-site", "cross-site")], Some(403)),
        ];
        for Case { target, headers, unix, expect } in cases {
            let peer = match unix {
                true => Peer::Unix { uid: 0, name: None },
                false => Peer::Tcp(IpAddr::from([127, 0, 0, 1])),
            };
            let mut map = HeaderMap::new();
            for (name, value) in headers {
                map.append(*name, HeaderValue::from_static(value));
            }
            let result = hosts.check(&peer, &target.parse().unwrap(), &map);
            let status = result.err().map(|failure| {
                axum::response::IntoResponse::into_response(failure).status().as_u16()
            });
            assert_eq!(status, expect, "{target} {headers:?}");
        }
    }
}
