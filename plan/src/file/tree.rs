//! YAML text as a tree whose every node knows its place in the file.
//!
//! Anchors are expanded; the nodes of the expansion are counted, so that a small text cannot become
//! a large tree. What a plan file has no use for is refused here: tags, several documents, keys
//! that are not text.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::ops::Deref;
use std::sync::Arc;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Span, StrInput, Tag};

use super::problem::{Problem, Problems};

/// The deepest nesting. A plan file needs 8; what is deeper was not written by hand.
pub(super) const DEPTH_MAX: usize = 64;

/// The most nodes after anchors are expanded: 20 000 services of 50 values each.
pub(super) const NODES_MAX: usize = 1_000_000;

/// The number of a node, in the order of the file: a node's number is below those of its children.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct NodeId(u32);

/// A place in the file, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) line: u32,
    pub(super) column: u32,
}

impl From<Marker> for Mark {
    fn from(marker: Marker) -> Self {
        let clamp = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Self { line: clamp(marker.line()), column: clamp(marker.col().saturating_add(1)) }
    }
}

/// A value of the file.
#[derive(Clone, Debug)]
pub(super) struct Node<'t> {
    pub(super) id: NodeId,
    pub(super) mark: Mark,
    pub(super) value: Value<'t>,
}

#[derive(Clone, Debug)]
pub(super) enum Value<'t> {
    Scalar(Scalar<'t>),
    List(Vec<Node<'t>>),
    Map(Vec<Entry<'t>>),
}

/// A key with its value.
#[derive(Clone, Debug)]
pub(super) struct Entry<'t> {
    pub(super) key: Text<'t>,
    pub(super) mark: Mark,
    pub(super) node: Node<'t>,
}

#[derive(Clone, Debug)]
pub(super) struct Scalar<'t> {
    pub(super) text: Text<'t>,
    /// Written without quotes: may mean a number, a truth value or nothing.
    pub(super) plain: bool,
    /// How many bytes of the file it takes.
    pub(super) source_bytes: usize,
}

/// Text of the file, cheap to clone: an expanded alias shares it.
#[derive(Clone, Debug)]
pub(super) enum Text<'t> {
    Borrowed(&'t str),
    Shared(Arc<str>),
}

impl Text<'_> {
    pub(super) fn to_arc(&self) -> Arc<str> {
        match self {
            Self::Borrowed(text) => Arc::from(*text),
            Self::Shared(text) => Arc::clone(text),
        }
    }
}

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Self::Borrowed(text) => text,
            Self::Shared(text) => text,
        }
    }
}

impl<'t> From<Cow<'t, str>> for Text<'t> {
    fn from(text: Cow<'t, str>) -> Self {
        match text {
            Cow::Borrowed(text) => Self::Borrowed(text),
            Cow::Owned(text) => Self::Shared(text.into()),
        }
    }
}

/// The one document of the text, with what was wrong in it so far: duplicate keys and tags.
///
/// # Errors
/// The text is no YAML, or what stands there makes the rest unreadable; told together with what was
/// wrong before.
pub(super) fn read(text: &str) -> Result<(Node<'_>, Problems), Vec<Problem>> {
    let mut builder = Builder::default();
    let mut parser = Parser::new_from_str(text);
    let outcome = builder.document(&mut parser);
    let fatal = match outcome {
        Ok(Some(node)) => return Ok((node, builder.problems)),
        Ok(None) => Problem::at(
            Mark { line: 1, column: 1 },
            "the file is empty",
            "write a plan: apiVersion, kind, metadata and spec",
        ),
        Err(problem) => problem,
    };
    let mut problems = builder.problems.finish(None);
    problems.push(fatal);
    Err(problems)
}

#[derive(Default)]
struct Builder<'t> {
    nodes: usize,
    /// Nodes that anchors keep, nested ones once for each anchor around them.
    kept: usize,
    anchors: HashMap<usize, Node<'t>>,
    problems: Problems,
}

/// A list or map that is being read.
struct Open<'t> {
    node: Node<'t>,
    anchor: usize,
    key: Option<(Text<'t>, Mark)>,
    /// The keys of a large map.
    seen: HashSet<Text<'t>>,
}

/// Whether a key stands among the entries already. Small maps, which nearly all are, are looked
/// through; large ones keep a set.
fn is_repeated<'t>(entries: &[Entry<'t>], seen: &mut HashSet<Text<'t>>, key: &Text<'t>) -> bool {
    const SMALL: usize = 16;
    if entries.len() < SMALL {
        return entries.iter().any(|entry| entry.key == *key);
    }
    if seen.is_empty() {
        seen.extend(entries.iter().map(|entry| entry.key.clone()));
    }
    !seen.insert(key.clone())
}

impl PartialEq for Text<'_> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Text<'_> {}

impl std::hash::Hash for Text<'_> {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

impl<'t> Builder<'t> {
    fn document(
        &mut self,
        parser: &mut Parser<'t, StrInput<'t>>,
    ) -> Result<Option<Node<'t>>, Problem> {
        let mut root: Option<Node<'t>> = None;
        let mut open: Vec<Open<'t>> = Vec::new();
        while let Some(event) = parser.next_event() {
            let (event, span) = event.map_err(|error| not_yaml(&error))?;
            let mark = Mark::from(span.start);
            let done = match event {
                Event::Scalar(text, style, anchor, tag) => {
                    self.refuse(mark, tag.as_ref());
                    let node = self.scalar(text, style, span)?;
                    self.remember(anchor, &node)?;
                    Some(node)
                }
                Event::SequenceStart(anchor, tag) => {
                    self.open(&mut open, mark, anchor, tag.as_ref(), Value::List(Vec::new()))?;
                    None
                }
                Event::MappingStart(anchor, tag) => {
                    self.open(&mut open, mark, anchor, tag.as_ref(), Value::Map(Vec::new()))?;
                    None
                }
                Event::SequenceEnd | Event::MappingEnd => match open.pop() {
                    Some(open) => {
                        self.remember(open.anchor, &open.node)?;
                        Some(open.node)
                    }
                    None => None,
                },
                Event::Alias(anchor) => Some(self.expand(anchor, mark, open.len())?),
                Event::DocumentStart(_) if root.is_some() => {
                    return Err(Problem::at(
                        mark,
                        "a second document begins here",
                        "write one plan per file",
                    ));
                }
                Event::DocumentStart(_)
                | Event::DocumentEnd
                | Event::StreamStart
                | Event::StreamEnd
                | Event::Nothing => None,
            };
            let Some(node) = done else { continue };
            match open.last_mut() {
                Some(parent) => self.put(parent, node)?,
                None => root = Some(node),
            }
        }
        Ok(root.filter(|root| !is_nothing(root)))
    }

    fn number(&mut self, mark: Mark) -> Result<NodeId, Problem> {
        if self.nodes >= NODES_MAX {
            return Err(too_many(mark));
        }
        let id = NodeId(u32::try_from(self.nodes).unwrap_or(u32::MAX));
        self.nodes += 1;
        Ok(id)
    }

    fn scalar(
        &mut self,
        text: Cow<'t, str>,
        style: ScalarStyle,
        span: Span,
    ) -> Result<Node<'t>, Problem> {
        let mark = Mark::from(span.start);
        // A span counts characters; the text's surplus of bytes over characters is added.
        let surplus = text.len() - text.chars().count();
        let scalar = Scalar {
            plain: style == ScalarStyle::Plain,
            source_bytes: span.len() + surplus,
            text: text.into(),
        };
        Ok(Node { id: self.number(mark)?, mark, value: Value::Scalar(scalar) })
    }

    fn open(
        &mut self,
        open: &mut Vec<Open<'t>>,
        mark: Mark,
        anchor: usize,
        tag: Option<&Cow<'t, Tag>>,
        value: Value<'t>,
    ) -> Result<(), Problem> {
        self.refuse(mark, tag);
        if open.len() >= DEPTH_MAX {
            return Err(too_deep(mark));
        }
        let node = Node { id: self.number(mark)?, mark, value };
        open.push(Open { node, anchor, key: None, seen: HashSet::new() });
        Ok(())
    }

    fn put(&mut self, parent: &mut Open<'t>, node: Node<'t>) -> Result<(), Problem> {
        match &mut parent.node.value {
            Value::List(items) => items.push(node),
            Value::Map(entries) => match parent.key.take() {
                Some((key, mark)) => entries.push(Entry { key, mark, node }),
                None => {
                    let mark = node.mark;
                    let Value::Scalar(key) = node.value else {
                        return Err(Problem::at(
                            mark,
                            "a key is not text",
                            "write a field's name before the `:`",
                        ));
                    };
                    if is_repeated(entries, &mut parent.seen, &key.text) {
                        let problem = format!("`{}` is given twice", shown(&key.text));
                        let place = (parent.node.id, Some(&*key.text));
                        self.problems.push(place, Problem::at(mark, problem, "keep one of them"));
                    }
                    parent.key = Some((key.text, mark));
                }
            },
            Value::Scalar(_) => {}
        }
        Ok(())
    }

    /// Tells a tag at the node that comes next.
    fn refuse(&mut self, mark: Mark, tag: Option<&Cow<'t, Tag>>) {
        let Some(tag) = tag else { return };
        let (handle, suffix) = (shown(&tag.handle), shown(&tag.suffix));
        let problem = format!("a tag, `{handle}{suffix}`, has no meaning here");
        let next = NodeId(u32::try_from(self.nodes).unwrap_or(u32::MAX));
        self.problems.push((next, None), Problem::at(mark, problem, "remove it"));
    }

    fn remember(&mut self, anchor: usize, node: &Node<'t>) -> Result<(), Problem> {
        if anchor == 0 {
            return Ok(());
        }
        // Numbers are given in order: what came since the node began is what it holds.
        self.kept += self.nodes - node.id.0 as usize;
        if self.kept > NODES_MAX {
            return Err(too_many(node.mark));
        }
        self.anchors.insert(anchor, node.clone());
        Ok(())
    }

    fn expand(&mut self, anchor: usize, mark: Mark, depth: usize) -> Result<Node<'t>, Problem> {
        let Some(node) = self.anchors.get(&anchor).cloned() else {
            return Err(Problem::at(
                mark,
                "an alias stands inside its own anchor",
                "write the value out",
            ));
        };
        self.renumber(node, mark, depth)
    }

    /// The tree of an alias: it is as deep as where it stands, and problems in it are told at the
    /// anchor, where they are mended.
    fn renumber(&mut self, node: Node<'t>, alias: Mark, depth: usize) -> Result<Node<'t>, Problem> {
        let id = self.number(alias)?;
        let value = match node.value {
            Value::Scalar(scalar) => Value::Scalar(scalar),
            Value::List(_) | Value::Map(_) if depth >= DEPTH_MAX => return Err(too_deep(alias)),
            Value::List(items) => {
                let items = items.into_iter().map(|item| self.renumber(item, alias, depth + 1));
                Value::List(items.collect::<Result<_, _>>()?)
            }
            Value::Map(entries) => {
                let entries = entries.into_iter().map(|Entry { key, mark, node }| {
                    Ok(Entry { key, mark, node: self.renumber(node, alias, depth + 1)? })
                });
                Value::Map(entries.collect::<Result<_, Problem>>()?)
            }
        };
        Ok(Node { id, mark: node.mark, value })
    }
}

/// JSON text as YAML reads it: JSON writes characters beyond U+FFFF as two escapes (RFC 8259
/// section 7), YAML as one. Other text is left alone. Columns behind such a character count two too
/// few.
pub(super) fn without_surrogates(text: &str) -> Cow<'_, str> {
    let mut parts = text.split("\\");
    let candidate = text.trim_start().starts_with('{')
        && parts.clone().any(|part| part.get(..2).is_some_and(|u| u.eq_ignore_ascii_case("ud")));
    if !candidate {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    out.push_str(parts.next().unwrap_or_default());
    let mut parts = parts.peekable();
    while let Some(part) = parts.next() {
        let pair = parts.peek().and_then(|next| joined(part, next));
        match pair {
            Some((c, rest)) => {
                out.push_str(&format!("\\U{:08X}{rest}", u32::from(c)));
                parts.next();
            }
            None if part.is_empty() => {
                // An escaped backslash: what follows is not an escape.
                out.push_str("\\\\");
                out.push_str(parts.next().unwrap_or_default());
            }
            None => {
                out.push('\\');
                out.push_str(part);
            }
        }
    }
    Cow::Owned(out)
}

/// The character of two escapes, `ud83d` and `ude00…`, with what follows them.
fn joined<'t>(high: &str, low: &'t str) -> Option<(char, &'t str)> {
    let unit = |digits: &str| u16::from_str_radix(digits, 16).ok();
    let high = unit(high.strip_prefix('u').filter(|digits| digits.len() == 4)?)?;
    let (digits, rest) = low.strip_prefix('u')?.split_at_checked(4)?;
    let mut decoded = char::decode_utf16([high, unit(digits)?]);
    match (decoded.next(), decoded.next()) {
        (Some(Ok(c)), None) => Some((c, rest)),
        _ => None,
    }
}

/// Text from the file as it may stand in a message: short, and on one line.
pub(super) fn shown(text: &str) -> String {
    /// Longer values are cut: the place says where the whole of it is.
    const CHARS_MAX: usize = 64;
    let mut shown: String = text.chars().take(CHARS_MAX).flat_map(char::escape_debug).collect();
    if text.chars().nth(CHARS_MAX).is_some() {
        shown.push('…');
    }
    shown
}

fn is_nothing(node: &Node<'_>) -> bool {
    matches!(&node.value, Value::Scalar(scalar) if scalar.plain && scalar.text.is_empty())
}

fn too_many(mark: Mark) -> Problem {
    Problem::at(
        mark,
        format!("the file has more than {NODES_MAX} values, with its anchors expanded"),
        "split the plan into several",
    )
}

fn too_deep(mark: Mark) -> Problem {
    Problem::at(
        mark,
        format!("values are nested deeper than {DEPTH_MAX} levels"),
        "a plan needs no more than 8",
    )
}

fn not_yaml(error: &saphyr_parser::ScanError) -> Problem {
    let mark = Mark::from(*error.marker());
    // The scanner has a limit of its own, above ours, and may look ahead far enough to meet it.
    if error.info().contains("recursion limit") {
        return too_deep(mark);
    }
    Problem::at(
        mark,
        format!("this is not YAML: {}", error.info()),
        "mend the syntax here or just above",
    )
}

impl Node<'_> {
    /// The path of the node with this number: `spec.services[3].ports`. Empty for the root.
    pub(super) fn path_of(&self, id: NodeId) -> String {
        let mut path = String::new();
        let mut node = self;
        while node.id < id {
            // Children are numbered in order: the wanted node is in the last that begins before it.
            let next = match &node.value {
                Value::Scalar(_) => None,
                Value::List(items) => {
                    let at = items.partition_point(|item| item.id <= id).checked_sub(1);
                    at.and_then(|at| {
                        path.push_str(&format!("[{at}]"));
                        items.get(at)
                    })
                }
                Value::Map(entries) => {
                    let at = entries.partition_point(|entry| entry.node.id <= id).checked_sub(1);
                    at.and_then(|at| entries.get(at)).map(|entry| {
                        push_field(&mut path, &entry.key);
                        &entry.node
                    })
                }
            };
            let Some(next) = next else { break };
            node = next;
        }
        path
    }
}

/// Adds a field's name to a path.
pub(super) fn push_field(path: &mut String, key: &str) {
    if !path.is_empty() {
        path.push('.');
    }
    path.push_str(&shown(key));
}
