//! The published schema of a plan file, made of the same table that the parser reads by.

use schemars::Schema;
use serde_json::{Map, Value, json};

use super::shape::{FILE, Field, Kind, Need, Shape};

/// The JSON schema of a plan file. Fields whose feature is not built are not in it.
pub fn schema() -> Schema {
    let mut schema = Schema::default();
    if let Value::Object(fields) = map(&FILE) {
        for (key, value) in fields {
            schema.insert(key, value);
        }
    }
    schema.insert("title".to_owned(), json!("CutoverPlan"));
    schema
}

fn map(shape: &Shape) -> Value {
    let built = || shape.fields.iter().filter(|field| field.need != Need::Later);
    let properties: Map<String, Value> =
        built().map(|field| (field.name.to_owned(), property(field))).collect();
    let required: Vec<&str> = built()
        .filter(|field| matches!(field.need, Need::Required | Need::Either))
        .map(|field| field.name)
        .collect();
    let mut schema = Map::new();
    schema.insert("type".into(), json!("object"));
    schema.insert("properties".into(), properties.into());
    if !required.is_empty() {
        schema.insert("required".into(), json!(required));
    }
    schema.insert("additionalProperties".into(), json!(false));
    schema.into()
}

fn property(field: &Field) -> Value {
    let mut schema = kind(&field.kind);
    if let Value::Object(fields) = &mut schema {
        fields.insert("description".into(), json!(field.about));
    }
    schema
}

fn kind(kind: &Kind) -> Value {
    match kind {
        Kind::Text(example) => json!({ "type": "string", "examples": [example] }),
        Kind::Percent => json!({
            "type": "string",
            "pattern": "^[0-9]+(\\.[0-9]{1,2})? *%$",
            "examples": ["25%", "0.01%"],
        }),
        Kind::Duration => json!({
            "type": "string",
            "pattern": "^([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?$",
            "minLength": 2,
            "examples": ["10m", "1h30m"],
        }),
        Kind::DurationOr(word) => {
            json!({ "anyOf": [self::kind(&Kind::Duration), { "type": "string", "const": word }] })
        }
        Kind::Matching(pattern, examples) => {
            json!({ "type": "string", "pattern": pattern, "examples": examples })
        }
        Kind::ChoiceOr(choices, shape) => {
            json!({ "anyOf": [self::kind(&Kind::Choice(choices)), map(shape)] })
        }
        Kind::Integer { min, max } => json!({ "type": "integer", "minimum": min, "maximum": max }),
        Kind::False => json!({ "type": "boolean", "enum": [false] }),
        Kind::Choice(choices) => json!({ "type": "string", "enum": choices }),
        Kind::List { of, min, max, .. } => json!({
            "type": "array",
            "items": self::kind(of),
            "minItems": min,
            "maxItems": max,
        }),
        Kind::Map(shape) => map(shape),
    }
}
