//! The OpenAPI 3.1 document, made from the table of routes and the types of the answers.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::problem::{Code, MEDIA_TYPE, Problem};
use super::route::{ALWAYS, Gives, Parameter, Place, Route, Takes, WITH_BODY, schema_of};

/// Where named schemas are.
const SCHEMAS: &str = "/components/schemas";

/// The whole document.
pub(crate) fn document(routes: &[Route]) -> Value {
    let settings = SchemaSettings::draft2020_12().with(|s| s.definitions_path = SCHEMAS.into());
    let mut generator = settings.into_generator();
    let problem = schema_of::<Problem>(&mut generator);
    let mut paths: Map<String, Value> = Map::new();
    for route in routes {
        let operation = operation(route, &mut generator, &problem.clone().to_value());
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        if let Some(methods) = path.as_object_mut() {
            methods.insert(route.method.as_str().to_ascii_lowercase(), operation);
        }
    }
    let mut schemas = generator.take_definitions(true);
    embed(&mut schemas, "CutoverPlan", plan::file::schema().to_value());
    json!({
        "openapi": "3.1.1",
        "info": {
            "title": "Crossfade",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "Moves live traffic from legacy VMs to Kubernetes by percentage, and takes \
                        it back in a second",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
        "paths": paths,
        "components": { "schemas": schemas },
    })
}

/// Puts a schema among the named ones, with its own named parts beside it.
fn embed(schemas: &mut Map<String, Value>, name: &str, mut schema: Value) {
    repoint(&mut schema);
    if let Some(object) = schema.as_object_mut() {
        object.remove("$schema");
        if let Some(Value::Object(parts)) = object.remove("$defs") {
            for (part, schema) in parts {
                schemas.entry(part).or_insert(schema);
            }
        }
    }
    schemas.insert(name.to_owned(), schema);
}

fn repoint(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            for (key, value) in object.iter_mut() {
                match value {
                    Value::String(target) if key == "$ref" => {
                        *target = target.replacen("#/$defs/", "#/components/schemas/", 1);
                    }
                    Value::Null
                    | Value::Bool(_)
                    | Value::Number(_)
                    | Value::String(_)
                    | Value::Array(_)
                    | Value::Object(_) => repoint(value),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(repoint),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn operation(route: &Route, generator: &mut SchemaGenerator, problem: &Value) -> Value {
    let parameters: Vec<Value> =
        route.parameters.iter().map(|given| parameter(given, generator)).collect();
    let mut responses = Map::new();
    responses.insert("200".to_owned(), success(route, generator));
    for (status, codes) in failures(route) {
        let names: Vec<_> = codes.iter().map(|code| format!("`{}`", code.as_str())).collect();
        let mut response = json!({
            "description": format!("{}: {}", reason(status), names.join(", ")),
            "content": { MEDIA_TYPE: { "schema": problem } },
        });
        if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
            put(
                &mut response,
                "headers",
                json!({ "Retry-After": {
                "description": "seconds to wait", "schema": { "type": "integer", "minimum": 0 },
            } }),
            );
        }
        responses.insert(status.as_str().to_owned(), response);
    }
    let mut operation = json!({
        "operationId": route.id,
        "summary": route.summary,
        "parameters": parameters,
        "responses": responses,
    });
    if let Some(body) = body(route, generator) {
        put(&mut operation, "requestBody", body);
    }
    operation
}

fn put(object: &mut Value, key: &str, value: Value) {
    if let Some(fields) = object.as_object_mut() {
        fields.insert(key.to_owned(), value);
    }
}

fn parameter(given: &Parameter, generator: &mut SchemaGenerator) -> Value {
    json!({
        "name": given.name,
        "in": given.place.as_str(),
        "required": given.required || given.place == Place::Path,
        "description": given.text,
        "schema": (given.schema)(generator),
        "example": given.example,
    })
}

fn body(route: &Route, generator: &mut SchemaGenerator) -> Option<Value> {
    let content = match route.takes {
        Takes::Nothing => return None,
        Takes::Json(schema) => json!({ "application/json": { "schema": schema(generator) } }),
        Takes::Plan => {
            let schema = json!({ "$ref": format!("#{SCHEMAS}/CutoverPlan") });
            json!({
                "application/json": { "schema": schema },
                "application/yaml": { "schema": schema },
            })
        }
    };
    Some(json!({ "required": true, "content": content }))
}

fn success(route: &Route, generator: &mut SchemaGenerator) -> Value {
    let json_of = |schema: Value| json!({ "application/json": { "schema": schema } });
    let content = match route.gives {
        Gives::Json(schema) => json_of(schema(generator).to_value()),
        Gives::Plan => json_of(json!({ "$ref": format!("#{SCHEMAS}/CutoverPlan") })),
        Gives::Other(media) => json!({ media: { "schema": { "type": "string" } } }),
        Gives::Events(schema) => json!({ "text/event-stream": {
            "schema": { "type": "string", "contentMediaType": "application/json",
                "contentSchema": schema(generator) },
        } }),
    };
    let mut response = json!({ "description": "Done", "content": content });
    if matches!(route.gives, Gives::Plan) {
        put(
            &mut response,
            "headers",
            json!({ "ETag": {
            "description": "the plan's revision, for `If-Match`",
            "schema": { "type": "string", "pattern": "^\"[0-9]+\"$" },
        } }),
        );
    }
    response
}

/// Every code that the route can answer, by status.
fn failures(route: &Route) -> BTreeMap<StatusCode, Vec<Code>> {
    let mut codes: Vec<Code> = ALWAYS.into_iter().chain(route.failures.iter().copied()).collect();
    match route.takes {
        Takes::Nothing => {}
        Takes::Json(_) => codes.extend(WITH_BODY.into_iter().chain([Code::BadBody])),
        Takes::Plan => codes.extend(WITH_BODY.into_iter().chain([Code::InvalidPlan])),
    }
    codes.sort();
    codes.dedup();
    let mut by_status: BTreeMap<StatusCode, Vec<Code>> = BTreeMap::new();
    for code in codes {
        by_status.entry(code.status()).or_default().push(code);
    }
    by_status
}

fn reason(status: StatusCode) -> &'static str {
    status.canonical_reason().unwrap_or("Failure")
}
