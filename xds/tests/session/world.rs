//! Tables to be served, and streams to serve them on, for tests.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use plan::{PlanName, Token};
use prost::Message as _;
use proto::envoy::config::core::v3::Node;
use proto::envoy::service::discovery::v3::{DeltaDiscoveryResponse, DiscoveryResponse};
use xds::session::{Limits, Next, Opened, Request, Response, Rules, Session, Variant};
use xds::{
    Change, Client, Close, Edit, Encoded, Name, Scope, Tables, TypeUrl, Urgency, Version, View,
    Viewer,
};

/// Short names of types.
pub(crate) const TYPES: [(&str, &str); 10] = [
    ("cds", TypeUrl::CLUSTER),
    ("eds", TypeUrl::ENDPOINTS),
    ("lds", TypeUrl::LISTENER),
    ("ecds", TypeUrl::EXTENSION),
    ("srds", TypeUrl::SCOPED_ROUTES),
    ("rds", TypeUrl::ROUTES),
    ("vhds", TypeUrl::VIRTUAL_HOST),
    ("sds", TypeUrl::SECRET),
    ("own", TypeUrl::ZONE_TABLE),
    ("other", "type.googleapis.com/somebody.Else"),
];

/// The scope of everything here.
pub(crate) const SCOPE: &str = "s";

pub(crate) fn type_url(short: &str) -> TypeUrl {
    let known = TYPES.iter().find(|(known, _)| *known == short);
    known.map_or_else(|| panic!("no type {short}"), |(_, url)| TypeUrl::new(url))
}

pub(crate) fn short(type_url: &str) -> &'static str {
    let known = TYPES.iter().find(|(_, url)| *url == type_url);
    known.map_or_else(|| panic!("no type {type_url}"), |(short, _)| short)
}

pub(crate) fn put(
    type_url: TypeUrl,
    name: &str,
    version: Version,
    plans: &[&str],
    needs: &[&str],
) -> Edit {
    let body = format!("{name} {version}");
    let encoded = Encoded::new(&type_url, Name::new(name), version, body.as_bytes());
    let plans: Vec<PlanName> = plans.iter().map(|plan| plan.parse().unwrap()).collect();
    let needs: Vec<Name> = needs.iter().map(|name| Name::new(name)).collect();
    let change =
        Change::Put { encoded: Arc::new(encoded), plans: plans.into(), needs: needs.into() };
    Edit { scope: Scope::new(SCOPE), type_url, change }
}

pub(crate) fn remove(type_url: TypeUrl, name: &str) -> Edit {
    Edit { scope: Scope::new(SCOPE), type_url, change: Change::Remove(Name::new(name)) }
}

pub(crate) fn declare(type_url: TypeUrl) -> Edit {
    Edit { scope: Scope::new(SCOPE), type_url, change: Change::Declare }
}

/// Everybody sees everything but secrets.
#[derive(Debug)]
struct NoSecrets;

impl Viewer for NoSecrets {
    fn view(&self, client: &Client) -> Result<View, Close> {
        if &*client.id == "nobody" {
            return Err(Close::invalid("we do not know you"));
        }
        let types = [(TypeUrl::new(TypeUrl::SECRET), None)];
        let after = (&*client.id == "last").then(|| TypeUrl::new(TypeUrl::LISTENER));
        Ok(View { default: Scope::new(SCOPE), types: Arc::new(types), after })
    }
}

pub(crate) fn rules(limits: Limits) -> Arc<Rules> {
    let types: BTreeSet<TypeUrl> =
        TYPES.iter().filter(|(short, _)| *short != "other").map(|(_, url)| (*url).into()).collect();
    Arc::new(Rules { viewer: Arc::new(NoSecrets), types, limits })
}

pub(crate) fn node(id: &str) -> Node {
    Node { id: id.to_owned(), ..Node::default() }
}

/// A response as a client reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Read {
    pub(crate) short: &'static str,
    pub(crate) nonce: String,
    /// Of all, in SotW.
    pub(crate) version: String,
    /// Name and version.
    pub(crate) resources: Vec<(String, String)>,
    pub(crate) removed: Vec<String>,
}

pub(crate) fn read(variant: Variant, response: &Response) -> Read {
    let bytes: Vec<u8> = response.parts.iter().flat_map(|part| part.iter().copied()).collect();
    assert_eq!(bytes.len(), response.len());
    let body = |any: &proto::google::protobuf::Any| {
        assert_eq!(any.type_url, response.type_url.as_str());
        let text = String::from_utf8(any.value.to_vec()).unwrap();
        let (name, version) = text.split_once(' ').unwrap();
        (name.to_owned(), version.to_owned())
    };
    let read = match variant {
        Variant::Delta => {
            let read = DeltaDiscoveryResponse::decode(bytes.as_slice()).unwrap();
            let resources = read.resources.iter().map(|resource| {
                let (name, version) = body(resource.resource.as_ref().unwrap());
                assert_eq!((&name, &version), (&resource.name, &resource.version));
                (name, version)
            });
            Read {
                short: short(&read.type_url),
                nonce: read.nonce.clone(),
                version: String::new(),
                resources: resources.collect(),
                removed: read.removed_resources.clone(),
            }
        }
        Variant::Sotw => {
            let read = DiscoveryResponse::decode(bytes.as_slice()).unwrap();
            let resources = read.resources.iter().map(body);
            Read {
                short: short(&read.type_url),
                nonce: read.nonce.clone(),
                version: read.version_info.clone(),
                resources: resources.collect(),
                removed: Vec::new(),
            }
        }
    };
    assert_eq!(read.resources.len(), response.resources);
    assert_eq!(read.nonce, *response.nonce);
    // S8: no name twice.
    let distinct: BTreeSet<&String> = read.resources.iter().map(|(name, _)| name).collect();
    assert_eq!(distinct.len(), read.resources.len(), "{read:?}");
    read
}

/// Tables and one stream.
pub(crate) struct World {
    pub(crate) tables: Tables,
    pub(crate) session: Session,
    pub(crate) variant: Variant,
    pub(crate) rules: Arc<Rules>,
    pub(crate) now: Duration,
}

impl World {
    pub(crate) fn new(variant: Variant, only: Option<TypeUrl>, limits: Limits) -> Self {
        let rules = rules(limits);
        let session = Session::new(Opened { variant, only }, Arc::clone(&rules));
        Self { tables: Tables::empty(), session, variant, rules, now: Duration::ZERO }
    }

    pub(crate) fn reopen(&mut self, only: Option<TypeUrl>) {
        let opened = Opened { variant: self.variant, only };
        self.session = Session::new(opened, Arc::clone(&self.rules));
    }

    pub(crate) fn publish(&mut self, urgency: Urgency, edits: Vec<Edit>) {
        let token = self.next_token();
        self.tables = self.tables.next(token, urgency, edits);
    }

    /// The token that is published next.
    pub(crate) fn next_token(&self) -> Token {
        self.tables.token().max(Token::START).next()
    }

    pub(crate) fn request(&mut self, request: Request) -> Result<(), Close> {
        self.session.request(request, &self.tables, self.now)
    }

    pub(crate) fn poll(&mut self) -> Option<Read> {
        match self.session.poll(&self.tables, self.now) {
            Next::Send(response) => Some(read(self.variant, &response)),
            Next::Wait(_) => None,
        }
    }
}
