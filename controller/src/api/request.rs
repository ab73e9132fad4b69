//! What a body of a changing call may say. The CLI writes these, the API reads them.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use plan::{GateName, Override, ServiceName, Split};

use super::limits;

/// The body of `start`, `pause`, `resume`, `retire` and of the rollback of all plans.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Plain {
    /// Why, for the audit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
}

/// The body of `step`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Why, for the audit. Needed with `override`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// Limits to override.
    #[serde(default, rename = "override", skip_serializing_if = "Overrides::is_empty")]
    pub overrides: Overrides,
}

/// The body of `rollback`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rollback {
    /// Only this service, and those that come after it. Without it: the whole plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceName>,
    /// Why, for the audit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
}

/// The body of `approve`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Approve {
    /// The manual gate.
    pub gate: GateName,
    /// Why, for the audit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
}

/// The body of `shift`: exactly one of `split` and `splitBp`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "ShiftFields", into = "ShiftFields")]
pub struct Shift {
    /// Only this service. Without it: the whole plan.
    pub service: Option<ServiceName>,
    /// Where to.
    pub split: Split,
    /// Why, for the audit. Needed with `override`.
    pub reason: Option<Reason>,
    /// Limits to override.
    pub overrides: Overrides,
}

/// [`Shift`] as it is written.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ShiftFields {
    /// Only this service. Without it: the whole plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    service: Option<ServiceName>,
    /// Where to, as a percentage with its sign: `25%`, `0.01%`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        with = "String",
        regex(pattern = r"^0*(100(\.0{1,2})?|[0-9]{1,2}(\.[0-9]{1,2})?)%$")
    )]
    split: Option<Percent>,
    /// Where to, in basis points: 2500 is 25 %.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u16", range(max = 10_000))]
    split_bp: Option<BasisPoints>,
    /// Why, for the audit. Needed with `override`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<Reason>,
    /// Limits to override.
    #[serde(default, rename = "override", skip_serializing_if = "Overrides::is_empty")]
    overrides: Overrides,
}

/// A split as a percentage.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
struct Percent(Split);

impl TryFrom<String> for Percent {
    type Error = plan::split::SplitError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse().map(Self)
    }
}

impl From<Percent> for String {
    fn from(percent: Percent) -> Self {
        percent.0.to_string()
    }
}

/// A split in basis points. `2500.0` is a whole number too, as JSON Schema counts (draft 2020-12,
/// section 4.2.3 of the core).
#[derive(Clone, Serialize)]
struct BasisPoints(Split);

impl<'de> Deserialize<'de> for BasisPoints {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Whole;

        impl Visitor<'_> for Whole {
            type Value = BasisPoints;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number from 0 to 10000")
            }

            fn visit_u64<E: de::Error>(self, bp: u64) -> Result<BasisPoints, E> {
                let split = u16::try_from(bp).ok().and_then(Split::from_bp);
                let wrong = || E::invalid_value(Unexpected::Unsigned(bp), &self);
                split.map(BasisPoints).ok_or_else(wrong)
            }

            fn visit_f64<E: de::Error>(self, bp: f64) -> Result<BasisPoints, E> {
                // A whole number prints without a point; nothing else parses.
                match bp.to_string().parse() {
                    Ok(whole) => self.visit_u64(whole),
                    Err(_) => Err(E::invalid_value(Unexpected::Float(bp), &self)),
                }
            }
        }

        deserializer.deserialize_any(Whole)
    }
}

/// The body says no split, or two.
#[derive(Debug, thiserror::Error)]
#[error("give exactly one of `split` and `splitBp`")]
pub struct OneSplit;

impl TryFrom<ShiftFields> for Shift {
    type Error = OneSplit;

    fn try_from(fields: ShiftFields) -> Result<Self, OneSplit> {
        let ((Some(Percent(split)), None) | (None, Some(BasisPoints(split)))) =
            (fields.split, fields.split_bp)
        else {
            return Err(OneSplit);
        };
        let ShiftFields { service, reason, overrides, .. } = fields;
        Ok(Self { service, split, reason, overrides })
    }
}

impl From<Shift> for ShiftFields {
    fn from(shift: Shift) -> Self {
        let Shift { service, split, reason, overrides } = shift;
        Self { service, split: Some(Percent(split)), split_bp: None, reason, overrides }
    }
}

impl JsonSchema for Shift {
    fn schema_name() -> Cow<'static, str> {
        "Shift".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = ShiftFields::json_schema(generator);
        let one = serde_json::json!([{ "required": ["split"] }, { "required": ["splitBp"] }]);
        schema.insert("oneOf".to_owned(), one);
        schema
    }
}

/// Why somebody asks, in their own words: 1 to 1 000 characters, no control characters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Reason(String);

impl JsonSchema for Reason {
    fn schema_name() -> Cow<'static, str> {
        "Reason".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "minLength": 1,
            "maxLength": limits::REASON_CHARS_MAX,
            "pattern": "^[^\\u0000-\\u001f\\u007f-\\u009f]+$",
        })
    }
}

/// The text is no reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a reason has 1 to {} characters and no line breaks or other control characters",
    limits::REASON_CHARS_MAX
)]
pub struct ReasonError;

impl TryFrom<String> for Reason {
    type Error = ReasonError;

    fn try_from(text: String) -> Result<Self, ReasonError> {
        let count = u32::try_from(text.chars().count()).unwrap_or(u32::MAX);
        let fine =
            (1..=limits::REASON_CHARS_MAX).contains(&count) && !text.chars().any(char::is_control);
        if fine { Ok(Self(text)) } else { Err(ReasonError) }
    }
}

impl From<Reason> for String {
    fn from(reason: Reason) -> Self {
        reason.0
    }
}

/// Limits that the operator overrides: `acks`, `freeze`, `max-step` or the name of a gate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct Overrides(BTreeSet<Override>);

impl JsonSchema for Overrides {
    fn schema_name() -> Cow<'static, str> {
        "Overrides".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "array",
            "items": generator.subschema_for::<GateName>(),
            "maxItems": limits::OVERRIDES_MAX,
            "description": "`acks`, `freeze`, `max-step` or the name of a gate",
        })
    }
}

/// The texts are no list of limits.
#[derive(Debug, thiserror::Error)]
pub enum OverridesError {
    /// A name is malformed.
    #[error(transparent)]
    Name(#[from] plan::name::NameError),
    /// More than a plan can have.
    #[error("at most {} limits can be overridden at once", limits::OVERRIDES_MAX)]
    Many,
}

impl Overrides {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl TryFrom<Vec<String>> for Overrides {
    type Error = OverridesError;

    fn try_from(names: Vec<String>) -> Result<Self, OverridesError> {
        if names.len() > usize::try_from(limits::OVERRIDES_MAX).unwrap_or(usize::MAX) {
            return Err(OverridesError::Many);
        }
        let parsed: Result<_, _> = names.iter().map(|name| name.parse()).collect();
        Ok(Self(parsed?))
    }
}

impl From<Overrides> for Vec<String> {
    fn from(overrides: Overrides) -> Self {
        overrides.0.iter().map(Override::to_string).collect()
    }
}

impl From<Overrides> for BTreeSet<Override> {
    fn from(overrides: Overrides) -> Self {
        overrides.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shift_says_its_split_once() {
        let cases = [
            (r#"{"split":"25%"}"#, Ok(2_500)),
            (r#"{"splitBp":2500}"#, Ok(2_500)),
            (r#"{"splitBp":10000,"service":"orders"}"#, Ok(10_000)),
            (r#"{}"#, Err("exactly one")),
            (r#"{"split":"25%","splitBp":2500}"#, Err("exactly one")),
            (r#"{"split":"25"}"#, Err("write `25%`")),
            (r#"{"split":25}"#, Err("expected a string")),
            (r#"{"split":"101%"}"#, Err("at most 100%")),
            (r#"{"split":"-1%"}"#, Err("at least 0%")),
            (r#"{"split":"0.001%"}"#, Err("two decimals")),
            (r#"{"splitBp":318.0}"#, Ok(318)),
            (r#"{"splitBp":318.5}"#, Err("whole number")),
            (r#"{"splitBp":-1}"#, Err("whole number")),
            (r#"{"splitBp":"1"}"#, Err("whole number")),
            (r#"{"splitBp":10001}"#, Err("whole number from 0 to 10000")),
            (r#"{"split":"25%","percent":25}"#, Err("unknown field")),
            (r#"{"split":"25%","service":"Orders"}"#, Err("service name")),
            (r#"{"split":"25%","override":["No!"]}"#, Err("gate name")),
            (r#"{"split":"25%","reason":"a\nb"}"#, Err("line breaks")),
            (r#"{"split":"25%","reason":""}"#, Err("1 to 1000")),
        ];
        for (text, expect) in cases {
            let shift = serde_json::from_str::<Shift>(text);
            match (shift, expect) {
                (Ok(shift), Ok(bp)) => assert_eq!(shift.split.bp(), bp, "{text}"),
                (Err(error), Err(part)) => {
                    assert!(error.to_string().contains(part), "{text}: {error}");
                }
                (shift, expect) => panic!("{text}: {shift:?}, wanted {expect:?}"),
            }
        }
    }

    #[test]
    fn bodies_are_written_as_they_are_read() {
        let text =
            r#"{"service":"orders","split":"0.5%","reason":"why","override":["acks","sign-off"]}"#;
        let shift: Shift = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&shift).unwrap(), text);
        assert_eq!(serde_json::to_string(&Step::default()).unwrap(), "{}");
    }
}
