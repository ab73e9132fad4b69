//! Reading a node of the tree as what its field must be. Every reader tells what is wrong and goes
//! on.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use super::duration;
use super::nearest::nearest;
use super::problem::Problems;
use super::shape::{Field, Kind, Need, Shape};
use super::tree::{Entry, Node, Scalar, Value, shown};
use crate::name::NameError;
use crate::split::{Split, SplitError};

/// A mapping with its shape; unknown and missing fields are told already.
pub(super) struct Fields<'n, 't> {
    pub(super) node: &'n Node<'t>,
    entries: &'n [Entry<'t>],
    shape: &'static Shape,
}

/// What a plain scalar means by YAML's core schema.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Means {
    Text,
    Number,
    Truth,
    Nothing,
}

impl Means {
    fn of(scalar: &Scalar<'_>) -> Self {
        let text: &str = &scalar.text;
        if !scalar.plain {
            return Self::Text;
        }
        match text {
            "" | "~" | "null" | "Null" | "NULL" => Self::Nothing,
            "true" | "True" | "TRUE" | "false" | "False" | "FALSE" => Self::Truth,
            _ if is_number(text) => Self::Number,
            _ => Self::Text,
        }
    }
}

/// Whether YAML's core schema reads this plain text as a number (YAML 1.2.2 section 10.3.2).
fn is_number(text: &str) -> bool {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if let Some(hex) = text.strip_prefix("0x") {
        return !hex.is_empty() && hex.bytes().all(|b| b.is_ascii_hexdigit());
    }
    if let Some(octal) = text.strip_prefix("0o") {
        return !octal.is_empty() && octal.bytes().all(|b| matches!(b, b'0'..=b'7'));
    }
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN") {
        return true;
    }
    // The letters that Rust would take beside digits (inf, nan) are no numbers in YAML.
    unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && unsigned.bytes().all(|b| matches!(b, b'0'..=b'9' | b'.' | b'e' | b'E' | b'-' | b'+'))
        && unsigned.parse::<f64>().is_ok()
}

/// What stands there, for a message.
fn stands(node: &Node<'_>) -> String {
    match &node.value {
        Value::List(_) => "a list".to_owned(),
        Value::Map(_) => "a mapping".to_owned(),
        Value::Scalar(scalar) => match Means::of(scalar) {
            Means::Text => format!("the text `{}`", shown(&scalar.text)),
            Means::Number => format!("the number `{}`", shown(&scalar.text)),
            Means::Truth => format!("`{}`", shown(&scalar.text)),
            Means::Nothing => "no value".to_owned(),
        },
    }
}

fn wrong_type(problems: &mut Problems, node: &Node<'_>, wanted: &str, fix: impl Into<String>) {
    problems.value(node, format!("{wanted} is wanted, not {}", stands(node)), fix);
}

/// The fields of a mapping; `None` where it is none.
pub(super) fn fields<'n, 't>(
    problems: &mut Problems,
    node: &'n Node<'t>,
    shape: &'static Shape,
) -> Option<Fields<'n, 't>> {
    let known = || shape.fields.iter().filter(|field| field.need != Need::Later);
    let Value::Map(entries) = &node.value else {
        let names: Vec<&str> = known().map(|field| field.name).collect();
        wrong_type(
            problems,
            node,
            &format!("{} (a mapping)", shape.name),
            format!("write its fields: {}", names.join(", ")),
        );
        return None;
    };
    let fields = Fields { node, entries, shape };
    let mut misspelt = Vec::new();
    for entry in entries {
        match shape.fields.iter().find(|field| field.name == &*entry.key) {
            Some(field) if field.need == Need::Later => problems.entry(
                node,
                entry,
                format!("`{}` is not supported yet", field.name),
                "remove it",
            ),
            Some(_) => {}
            None => {
                let meant = nearest(&entry.key, shape.fields.iter().map(|field| field.name));
                let fix = meant.map_or_else(
                    || {
                        let names: Vec<&str> = known().map(|field| field.name).collect();
                        format!("{} has: {}", shape.name, names.join(", "))
                    },
                    |meant| format!("did you mean `{meant}`?"),
                );
                misspelt.extend(meant);
                let problem = format!("unknown field `{}`", shown(&entry.key));
                problems.entry(node, entry, problem, fix);
            }
        }
    }
    // What is not built, or misspelt, is told already: one problem is enough.
    let must = |field: &&Field| match field.need {
        Need::Required => !misspelt.contains(&field.name),
        Need::Either => !fields.has_later() && !misspelt.contains(&field.name),
        Need::Optional | Need::Later => false,
    };
    for field in known().filter(must) {
        if fields.get(field.name).is_none() {
            problems.missing(
                node,
                field.name,
                format!("`{}` is missing", field.name),
                format!("add `{}`", example(field)),
            );
        }
    }
    Some(fields)
}

/// What to write for a field that is missing.
fn example(field: &Field) -> String {
    let value = match &field.kind {
        Kind::Text(example) => (*example).to_owned(),
        Kind::Percent => "25%".to_owned(),
        Kind::Duration | Kind::DurationOr(_) => "10m".to_owned(),
        Kind::Matching(_, examples) => examples.first().copied().unwrap_or_default().to_owned(),
        Kind::Integer { min, .. } => min.to_string(),
        Kind::False => "false".to_owned(),
        Kind::Choice(choices) | Kind::ChoiceOr(choices, _) => choices.join(" | "),
        Kind::List { .. } => "[…]".to_owned(),
        Kind::Map(shape) => {
            let names: Vec<&str> = shape
                .fields
                .iter()
                .filter(|field| matches!(field.need, Need::Required | Need::Either))
                .map(|field| field.name)
                .collect();
            format!("{{ {}: … }}", names.join(": …, "))
        }
    };
    format!("{}: {value}", field.name)
}

impl<'n, 't> Fields<'n, 't> {
    /// The value of a field.
    pub(super) fn get(&self, name: &str) -> Option<&'n Node<'t>> {
        debug_assert!(self.field(name).is_some(), "`{name}` is in no shape");
        self.entries.iter().find(|entry| &*entry.key == name).map(|entry| &entry.node)
    }

    /// Whether a feature that is not built is asked for; told already.
    pub(super) fn has_later(&self) -> bool {
        self.shape
            .fields
            .iter()
            .any(|field| field.need == Need::Later && self.get(field.name).is_some())
    }

    fn field(&self, name: &str) -> Option<&'static Field> {
        self.shape.fields.iter().find(|field| field.name == name)
    }

    /// The values of a list, as many as the shape allows; empty where the field is not there.
    pub(super) fn list(&self, problems: &mut Problems, name: &str) -> &'n [Node<'t>] {
        let Some(node) = self.get(name) else { return &[] };
        let Some(Kind::List { min, max, one, .. }) = self.field(name).map(|field| &field.kind)
        else {
            return &[];
        };
        let Value::List(items) = &node.value else {
            wrong_type(problems, node, "a list", format!("write `{name}: […]` with {one} in it"));
            return &[];
        };
        if items.len() < *min {
            problems.value(node, format!("`{name}` is empty"), format!("add {one}"));
        }
        if items.len() > *max {
            problems.value(
                node,
                format!("`{name}` has {} values, more than {max}", items.len()),
                "split the plan into several",
            );
            return &[];
        }
        items
    }
}

/// Text as it stands.
pub(super) fn text<'n>(problems: &mut Problems, node: &'n Node<'_>) -> Option<&'n str> {
    scalar(problems, node).map(|scalar| &*scalar.text)
}

/// Text with how it stands in the file.
pub(super) fn scalar<'n, 't>(
    problems: &mut Problems,
    node: &'n Node<'t>,
) -> Option<&'n Scalar<'t>> {
    match &node.value {
        Value::Scalar(scalar) => match Means::of(scalar) {
            Means::Text => return Some(scalar),
            Means::Number | Means::Truth => {
                let fix = format!("write it in quotes: \"{}\"", shown(&scalar.text));
                wrong_type(problems, node, "text", fix);
            }
            Means::Nothing => {
                wrong_type(problems, node, "text", "write a value or remove the field")
            }
        },
        Value::List(_) | Value::Map(_) => wrong_type(problems, node, "text", "write one value"),
    }
    None
}

/// Text of a type of our own, whose error says what is wrong; `fix` says what would be right.
pub(super) fn parsed<T>(problems: &mut Problems, node: &Node<'_>, fix: &str) -> Option<T>
where
    T: FromStr,
    T::Err: Display,
{
    let text = text(problems, node)?;
    match text.parse() {
        Ok(value) => Some(value),
        Err(error) => {
            tell(problems, node, &error, fix);
            None
        }
    }
}

/// A name of ours: what it may be made of is the remedy.
pub(super) fn name<T>(problems: &mut Problems, node: &Node<'_>) -> Option<T>
where
    T: FromStr<Err = NameError>,
{
    let text = text(problems, node)?;
    match text.parse() {
        Ok(name) => Some(name),
        Err(error) => {
            let error = error.to_string();
            let (problem, rule) = error.rsplit_once(": ").unwrap_or((&error, "another name"));
            problems.value(node, one_line(problem), format!("write {rule}"));
            None
        }
    }
}

/// Tells an error whose text has a remedy of its own after the last `;`, else with `fix`.
pub(super) fn tell(problems: &mut Problems, node: &Node<'_>, error: &dyn Display, fix: &str) {
    let error = error.to_string();
    match error.rsplit_once("; ") {
        Some((problem, fix)) => problems.value(node, one_line(problem), one_line(fix)),
        None => problems.value(node, one_line(&error), fix),
    }
}

/// A message with text from the file in it, short enough and on one line.
fn one_line(message: &str) -> String {
    /// Room for a sentence around a name of 253 characters.
    const CHARS_MAX: usize = 400;
    let clean = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
    let mut line: String = message.chars().take(CHARS_MAX).map(clean).collect();
    if message.chars().nth(CHARS_MAX).is_some() {
        line.push('…');
    }
    line
}

/// A share with its sign.
pub(super) fn percent(problems: &mut Problems, node: &Node<'_>) -> Option<Split> {
    let Value::Scalar(scalar) = &node.value else {
        wrong_type(problems, node, "a percentage", "write it like `25%`");
        return None;
    };
    if scalar.text.is_empty() || Means::of(scalar) == Means::Nothing {
        wrong_type(problems, node, "a percentage", "write it like `25%`");
        return None;
    }
    let error = match scalar.text.parse::<Split>() {
        Ok(split) => return Some(split),
        Err(error) => error,
    };
    let fix = match &error {
        SplitError::Over => "write 100% at most",
        SplitError::Negative => "write 0% at least",
        SplitError::Bare(_) | SplitError::TooFine(_) | SplitError::NotANumber(_) => "write `25%`",
    };
    tell(problems, node, &error, fix);
    None
}

/// A length of time within `bounds`.
pub(super) fn duration(
    problems: &mut Problems,
    node: &Node<'_>,
    bounds: RangeInclusive<Duration>,
) -> Option<Duration> {
    duration_like(problems, node, bounds, "write it like `10m` or `1h30m`")
}

/// A length of time within `bounds` where `word` may stand too, which was looked for before.
pub(super) fn duration_or(
    problems: &mut Problems,
    node: &Node<'_>,
    bounds: RangeInclusive<Duration>,
    word: &str,
) -> Option<Duration> {
    duration_like(problems, node, bounds, &format!("write it like `30s` or `10m`, or `{word}`"))
}

fn duration_like(
    problems: &mut Problems,
    node: &Node<'_>,
    bounds: RangeInclusive<Duration>,
    like: &str,
) -> Option<Duration> {
    let Value::Scalar(scalar) = &node.value else {
        wrong_type(problems, node, "a duration", like);
        return None;
    };
    if Means::of(scalar) == Means::Nothing {
        wrong_type(problems, node, "a duration", like);
        return None;
    }
    match duration::parse(&scalar.text) {
        Ok(duration) if bounds.contains(&duration) => Some(duration),
        Ok(duration) => {
            let (least, most) = (duration::text(*bounds.start()), duration::text(*bounds.end()));
            let problem = if duration < *bounds.start() {
                format!("`{}` is too short", shown(&scalar.text))
            } else {
                format!("`{}` is too long", shown(&scalar.text))
            };
            problems.value(node, problem, format!("write {least} to {most}"));
            None
        }
        Err(error) => {
            tell(problems, node, &error, like);
            None
        }
    }
}

/// A whole number within the bounds of the field's shape.
pub(super) fn integer(problems: &mut Problems, fields: &Fields<'_, '_>, name: &str) -> Option<u32> {
    let node = fields.get(name)?;
    let Some(Kind::Integer { min, max }) = fields.field(name).map(|field| &field.kind) else {
        return None;
    };
    let fix = format!("write {min} to {max}");
    let Value::Scalar(scalar) = &node.value else {
        wrong_type(problems, node, "a whole number", fix);
        return None;
    };
    let digits = scalar.text.strip_prefix(['-', '+']).unwrap_or(&scalar.text);
    let whole = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    if !scalar.plain || !whole {
        wrong_type(problems, node, "a whole number", fix);
        return None;
    }
    match scalar.text.parse::<u32>().ok().filter(|number| (*min..=*max).contains(number)) {
        Some(number) => Some(number),
        None => {
            problems.value(node, format!("`{}` is out of range", shown(&scalar.text)), fix);
            None
        }
    }
}

/// One of the words that the field's shape lists.
pub(super) fn choice<'n>(
    problems: &mut Problems,
    fields: &Fields<'n, '_>,
    name: &str,
) -> Option<&'n str> {
    let node = fields.get(name)?;
    let Some(Kind::Choice(choices)) = fields.field(name).map(|field| &field.kind) else {
        return None;
    };
    let text = text(problems, node)?;
    if choices.contains(&text) {
        return Some(text);
    }
    let fix = match choices {
        [only] => format!("write `{only}`"),
        _ => nearest(text, choices.iter().copied()).map_or_else(
            || format!("write one of: {}", choices.join(", ")),
            |meant| format!("did you mean `{meant}`? One of: {}", choices.join(", ")),
        ),
    };
    problems.value(node, format!("`{}` is no `{name}`", shown(text)), fix);
    None
}

/// Whether the field stands there and is true or false.
pub(super) fn truth(problems: &mut Problems, node: &Node<'_>) -> Option<bool> {
    if let Value::Scalar(scalar) = &node.value
        && Means::of(scalar) == Means::Truth
    {
        return Some(scalar.text.eq_ignore_ascii_case("true"));
    }
    wrong_type(problems, node, "true or false", "write `false`");
    None
}
