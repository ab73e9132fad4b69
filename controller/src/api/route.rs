//! What a route is: the one description that the router and the OpenAPI document are made from.

use std::sync::Arc;

use axum::http::Method;
use axum::routing::MethodRouter;
use schemars::{JsonSchema, Schema, SchemaGenerator};

use super::Api;
use super::problem::Code;

/// One method of one path.
pub(crate) struct Route {
    pub(crate) method: Method,
    pub(crate) path: &'static str,
    /// `operationId`: unique.
    pub(crate) id: &'static str,
    pub(crate) summary: &'static str,
    pub(crate) parameters: Vec<Parameter>,
    pub(crate) takes: Takes,
    pub(crate) gives: Gives,
    /// Beside [`ALWAYS`] and what the body brings.
    pub(crate) failures: Vec<Code>,
    pub(crate) handler: MethodRouter<Arc<Api>>,
    /// Whether the metrics address has it too.
    pub(crate) health: bool,
}

/// What can go wrong with any call.
pub(crate) const ALWAYS: [Code; 6] = [
    Code::BadRequest,
    Code::UnknownHost,
    Code::ForeignOrigin,
    Code::TimedOut,
    Code::Busy,
    Code::Internal,
];

/// What can go wrong with any body.
pub(crate) const WITH_BODY: [Code; 3] = [Code::SlowBody, Code::TooLarge, Code::UnsupportedType];

/// What can go wrong with any change of a plan.
pub(crate) const CHANGING: [Code; 7] = [
    Code::NotFound,
    Code::Refused,
    Code::Stale,
    Code::KeyReused,
    Code::StoreFull,
    Code::StoreFailed,
    Code::NotReady,
];

/// The schema of a type, its named parts kept by the generator.
pub(crate) fn schema_of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

/// The body that a call takes.
pub(crate) enum Takes {
    /// None.
    Nothing,
    /// JSON of this schema.
    Json(fn(&mut SchemaGenerator) -> Schema),
    /// A plan file, as YAML or JSON.
    Plan,
}

/// What a call gives where it succeeds.
pub(crate) enum Gives {
    /// JSON of this schema.
    Json(fn(&mut SchemaGenerator) -> Schema),
    /// The plan's JSON, with its revision as entity tag.
    Plan,
    /// Text or bytes of this media type.
    Other(&'static str),
    /// Server-sent events, each with JSON of this schema.
    Events(fn(&mut SchemaGenerator) -> Schema),
}

/// Where a parameter stands.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Path,
    Query,
    Header,
}

impl Place {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Path => "path",
            Self::Query => "query",
            Self::Header => "header",
        }
    }
}

/// A parameter of a call.
#[derive(Clone)]
pub(crate) struct Parameter {
    pub(crate) name: &'static str,
    pub(crate) place: Place,
    pub(crate) required: bool,
    pub(crate) text: &'static str,
    pub(crate) schema: fn(&mut SchemaGenerator) -> Schema,
    pub(crate) example: &'static str,
}
