//! What is wrong in a plan file, where, and what would be right.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::tree::{Entry, Mark, Node, NodeId, push_field};

/// The most problems told at once: nobody reads more, and a hostile file must not make a large
/// answer. One more says that there are others.
pub const PROBLEMS_MAX: usize = 1_000;

/// One thing that is wrong in a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Problem {
    /// The file, where its name is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The line, from 1.
    pub line: u32,
    /// The column, in characters from 1.
    pub column: u32,
    /// The field: `spec.services[3].ports[0].port`. Empty where the file as a whole is meant.
    pub field: String,
    /// What is wrong.
    pub problem: String,
    /// What would be right.
    pub fix: String,
}

impl Problem {
    /// A problem that belongs to no field.
    pub(super) fn at(mark: Mark, problem: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            file: None,
            line: mark.line,
            column: mark.column,
            field: String::new(),
            problem: problem.into(),
            fix: fix.into(),
        }
    }

    /// The same problem, told with the name of its file.
    #[must_use]
    pub fn in_file(self, file: &str) -> Self {
        Self { file: Some(file.to_owned()), ..self }
    }
}

impl fmt::Display for Problem {
    /// `plan.yaml:12: spec.steps[1].split: ‘25’ has no %; write 25%`, on one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.file {
            // Line 0 is no line: the file itself is the problem.
            Some(file) if self.line == 0 => write!(f, "{file}: ")?,
            Some(file) => write!(f, "{file}:{}: ", self.line)?,
            None if self.line == 0 => {}
            None => write!(f, "line {}: ", self.line)?,
        }
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        write!(f, "{}; {}", self.problem, self.fix)
    }
}

/// The problems found so far. Their paths are found at the end, by the numbers of their nodes.
#[derive(Default)]
pub(super) struct Problems {
    found: Vec<Found>,
    more: usize,
}

struct Found {
    problem: Problem,
    node: NodeId,
    key: Option<String>,
}

impl Problems {
    /// A problem with a value.
    pub(super) fn value(
        &mut self,
        node: &Node<'_>,
        problem: impl Into<String>,
        fix: impl Into<String>,
    ) {
        self.push((node.id, None), Problem::at(node.mark, problem, fix));
    }

    /// A problem with a field that stands in `map`, its name included.
    pub(super) fn entry(
        &mut self,
        map: &Node<'_>,
        entry: &Entry<'_>,
        problem: impl Into<String>,
        fix: impl Into<String>,
    ) {
        self.push((map.id, Some(&entry.key)), Problem::at(entry.mark, problem, fix));
    }

    /// A problem with a field that `map` lacks.
    pub(super) fn missing(
        &mut self,
        map: &Node<'_>,
        key: &str,
        problem: impl Into<String>,
        fix: impl Into<String>,
    ) {
        self.push((map.id, Some(key)), Problem::at(map.mark, problem, fix));
    }

    /// A problem with a node, or with a field of a mapping.
    pub(super) fn push(&mut self, (node, key): (NodeId, Option<&str>), problem: Problem) {
        if self.found.len() < PROBLEMS_MAX {
            self.found.push(Found { problem, node, key: key.map(str::to_owned) });
        } else {
            self.more += 1;
        }
    }

    /// Whether nothing was found.
    pub(super) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// The problems in the order of the file, with their paths where the tree is there.
    pub(super) fn finish(self, root: Option<&Node<'_>>) -> Vec<Problem> {
        let with_path = |found: Found| {
            let Some(root) = root else { return found.problem };
            let mut field = root.path_of(found.node);
            if let Some(key) = &found.key {
                push_field(&mut field, key);
            }
            Problem { field, ..found.problem }
        };
        let mut problems: Vec<Problem> = self.found.into_iter().map(with_path).collect();
        problems.sort_by_key(|problem| (problem.line, problem.column));
        if self.more > 0 {
            let end = problems.last().map_or((1, 1), |last| (last.line, last.column));
            problems.push(Problem::at(
                Mark { line: end.0, column: end.1 },
                format!("{} more problems are not shown", self.more),
                "mend these first",
            ));
        }
        problems
    }
}
