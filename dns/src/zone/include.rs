//! A zone's text with its `$INCLUDE` entries replaced by what they name, and where each line came
//! from.

use std::fmt::Write as _;
use std::sync::Arc;

use super::problem::{Fault, Problem};
use super::read::{Findings, read};
use super::text::{Lexer, Line, Token};
use super::{PROBLEMS_MAX, TEXT_MAX};
use crate::wire::Name;
use crate::wire::name::{push_text, write_text};

/// Files within files; deeper is taken for a mistake.
pub const DEPTH_MAX: usize = 16;

/// Inclusions of one zone, so that a few files that include each other widely end soon.
pub const INCLUDES_MAX: usize = 10_000;

/// The text of a zone and the file and line that each of its lines came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    text: String,
    files: Vec<Arc<str>>,
    segments: Vec<Segment>,
}

/// A run of lines that came from one file in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Segment {
    /// Its first line in the whole text.
    from: u32,
    file: usize,
    /// The line in the file where it starts.
    line: u32,
}

/// A file that was included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Included {
    /// What identifies it; an inclusion of the same name within it is a loop.
    pub name: String,
    /// Its text.
    pub text: String,
}

impl Source {
    /// A text of one file, without inclusions.
    #[must_use]
    pub fn new(file: &str, text: impl Into<String>) -> Self {
        let segments = vec![Segment { from: 1, file: 0, line: 1 }];
        Self { text: text.into(), files: vec![file.into()], segments }
    }

    /// A text with every `$INCLUDE` replaced. `load` is given the name as written and the name of
    /// the file that includes it.
    ///
    /// After an inclusion the origin and the current owner are again what they were before it
    /// (RFC 1035 section 5.1); a `$TTL` in it stays in force.
    ///
    /// # Errors
    /// Every file that cannot be read, every loop, every inclusion that is too deep and every line
    /// that [`Zone::parse`](super::Zone::parse) would find wrong.
    pub fn expand(
        origin: &Name,
        file: &str,
        text: &str,
        load: &mut dyn FnMut(&str, &str) -> Result<Included, String>,
    ) -> Result<Self, Vec<Problem>> {
        let source = Self { text: String::new(), files: Vec::new(), segments: Vec::new() };
        let mut expander = Expander {
            source,
            lines: 0,
            stack: Vec::new(),
            origin: origin.as_wire().to_vec(),
            owner: None,
            owner_stale: false,
            includes: 0,
            full: false,
            problems: Vec::new(),
            load,
        };
        expander.file(file, text);
        let Expander { source, problems, .. } = expander;
        if problems.is_empty() {
            return Ok(source);
        }
        let mut findings = Findings::default();
        read(origin, &source, &mut findings);
        problems.into_iter().for_each(|(line, problem)| findings.push(line, problem));
        findings.close().map(|_| source)
    }

    /// The whole text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The file and line that a line of the whole text, counted from 1, came from.
    #[must_use]
    pub fn place(&self, line: u32) -> (&Arc<str>, u32) {
        static NOWHERE: std::sync::LazyLock<Arc<str>> = std::sync::LazyLock::new(|| "".into());
        let after = self.segments.partition_point(|segment| segment.from <= line);
        let segment = after.checked_sub(1).and_then(|at| self.segments.get(at));
        let file = segment.and_then(|segment| self.files.get(segment.file));
        match (segment, file) {
            (Some(segment), Some(file)) => (file, segment.line + (line - segment.from)),
            _ => (&NOWHERE, line),
        }
    }

    pub(crate) fn problem(&self, line: u32, fault: Fault) -> Problem {
        let (file, line) = self.place(line);
        Problem { file: file.clone(), line, problem: fault.problem, fix: fault.fix }
    }
}

struct Expander<'l> {
    source: Source,
    /// Lines in the text so far.
    lines: u32,
    stack: Vec<String>,
    origin: Vec<u8>,
    /// The current owner in presentation format.
    owner: Option<String>,
    /// Whether a line with a blank owner needs it written out.
    owner_stale: bool,
    includes: usize,
    /// The text has reached its limit.
    full: bool,
    /// Each with its line in the whole text.
    problems: Vec<(u32, Problem)>,
    load: &'l mut dyn FnMut(&str, &str) -> Result<Included, String>,
}

impl Expander<'_> {
    fn file(&mut self, name: &str, text: &str) {
        let index = self.source.files.len();
        self.source.files.push(name.into());
        self.stack.push(name.to_owned());
        self.segment(index, 1);
        let mut lexer = Lexer::new(text);
        let mut tokens = Vec::new();
        while let Some((line, result)) = lexer.next(&mut tokens) {
            if self.full || self.problems.len() >= PROBLEMS_MAX {
                break;
            }
            match result {
                Err(fault) => {
                    self.problem(index, line.number, fault);
                    self.leave_out(line);
                }
                Ok(()) if is_directive(&tokens, b"$INCLUDE") => {
                    self.include(index, line.number, &tokens);
                    let after = line.raw.iter().filter(|octet| **octet == b'\n').count();
                    self.segment(index, line.number + u32::try_from(after).unwrap_or(0));
                }
                Ok(()) => self.copy(index, line, &tokens),
            }
        }
        self.stack.pop();
    }

    fn include(&mut self, index: usize, line: u32, tokens: &[Token<'_>]) {
        let (path, origin) = match tokens {
            [_, path] => (path.shown(), None),
            [_, path, origin] => (path.shown(), Some(origin)),
            _ => {
                let fault = Fault::new("`$INCLUDE` takes a file and perhaps an origin", "");
                return self.cannot(index, line, fault);
            }
        };
        self.includes += 1;
        if self.stack.len() >= DEPTH_MAX || self.includes > INCLUDES_MAX {
            let problem = format!("`{path}` is included too deep or too often");
            let fix = format!("at most {DEPTH_MAX} deep and {INCLUDES_MAX} times");
            return self.cannot(index, line, Fault::new(problem, fix));
        }
        let inner = match origin.map(|origin| self.absolute(origin)) {
            None => self.origin.clone(),
            Some(Some(wire)) => wire,
            Some(None) => {
                let fault = Fault::new("the origin of `$INCLUDE` is no name", "");
                return self.cannot(index, line, fault);
            }
        };
        let includer = self.stack.last().cloned().unwrap_or_default();
        let included = match (self.load)(&path, &includer) {
            Ok(included) => included,
            Err(reason) => {
                let problem = format!("`{path}` cannot be included: {reason}");
                return self.cannot(index, line, Fault::new(problem, ""));
            }
        };
        if self.stack.contains(&included.name) {
            let problem = format!("`{path}` includes itself");
            return self.cannot(index, line, Fault::new(problem, "remove the `$INCLUDE`"));
        }
        self.nested(index, line, inner, &included);
    }

    /// An inclusion that fails. It might have set a TTL, so that none is missed after it.
    fn cannot(&mut self, index: usize, line: u32, fault: Fault) {
        self.problem(index, line, fault);
        self.source.text.push_str("$TTL 0\n");
        self.lines += 1;
    }

    fn nested(&mut self, index: usize, line: u32, inner: Vec<u8>, included: &Included) {
        let outer = std::mem::replace(&mut self.origin, inner);
        let owner = self.owner.clone();
        self.segment(index, line);
        self.push_origin();
        self.file(&included.name, &included.text);
        self.origin = outer;
        self.owner = owner;
        self.owner_stale = true;
        self.segment(index, line);
        self.push_origin();
    }

    fn copy(&mut self, index: usize, line: Line<'_>, tokens: &[Token<'_>]) {
        if let Some(first) = tokens.first() {
            if is_directive(tokens, b"$ORIGIN") {
                if let Some(wire) = tokens.get(1).and_then(|origin| self.absolute(origin)) {
                    self.origin = wire;
                }
            } else if !line.blank && !first.raw.starts_with(b"$") {
                self.owner = self.absolute(first).map(|wire| shown(&wire));
                self.owner_stale = false;
            } else if line.blank && self.owner_stale {
                if let Some(owner) = &self.owner {
                    self.source.text.push_str(owner);
                }
                self.owner_stale = false;
            }
        }
        let raw = String::from_utf8_lossy(line.raw);
        if self.source.text.len() + raw.len() > TEXT_MAX {
            return self.too_long(index, line.number);
        }
        let lines = raw.bytes().filter(|octet| *octet == b'\n').count();
        self.source.text.push_str(&raw);
        self.lines += u32::try_from(lines).unwrap_or(0);
        if !raw.ends_with('\n') {
            self.source.text.push('\n');
            self.lines += 1;
        }
    }

    /// Keeps the place of a line that cannot be read.
    fn leave_out(&mut self, line: Line<'_>) {
        let lines = line.raw.iter().filter(|octet| **octet == b'\n').count();
        self.source.text.extend(std::iter::repeat_n('\n', lines));
        self.lines += u32::try_from(lines).unwrap_or(0);
    }

    /// Told once; from then on nothing is kept.
    fn too_long(&mut self, index: usize, line: u32) {
        if !std::mem::replace(&mut self.full, true) {
            let problem = format!("the zone is longer than {} MiB", TEXT_MAX >> 20);
            self.problem(index, line, Fault::new(problem, "split it into zones"));
        }
    }

    fn absolute(&self, token: &Token<'_>) -> Option<Vec<u8>> {
        if token.raw == b"@" {
            return Some(self.origin.clone());
        }
        let mut wire = Vec::new();
        push_text(&mut wire, token.raw, Some(&self.origin)).ok()?;
        Some(wire)
    }

    fn push_origin(&mut self) {
        let _ = writeln!(self.source.text, "$ORIGIN {}", shown(&self.origin));
        self.lines += 1;
    }

    fn segment(&mut self, file: usize, line: u32) {
        let from = self.lines + 1;
        self.source.segments.retain(|segment| segment.from < from);
        self.source.segments.push(Segment { from, file, line });
    }

    fn problem(&mut self, file: usize, line: u32, fault: Fault) {
        let file = self.source.files.get(file).cloned().unwrap_or_else(|| "".into());
        let problem = Problem { file, line, problem: fault.problem, fix: fault.fix };
        self.problems.push((self.lines + 1, problem));
    }
}

fn shown(wire: &[u8]) -> String {
    let mut text = String::new();
    let _ = write_text(&mut text, wire);
    text
}

/// Whether the line is this directive; directives ignore case.
pub(crate) fn is_directive(tokens: &[Token<'_>], directive: &[u8]) -> bool {
    tokens.first().is_some_and(|t| !t.quoted && t.raw.eq_ignore_ascii_case(directive))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(path: &str, from: &str) -> Result<Included, String> {
        let text = match path {
            "hosts" => "www A 192.0.2.1\n$ORIGIN deep\nx A 192.0.2.2\n$INCLUDE tail",
            "tail" => " AAAA ::1\ny A 192.0.2.3",
            "loop" => "$INCLUDE loop2\n",
            "loop2" => "\n$INCLUDE loop\n",
            _ => return Err(format!("no such file beside {from}")),
        };
        Ok(Included { name: path.to_owned(), text: text.to_owned() })
    }

    fn expand(text: &str) -> Result<Source, Vec<Problem>> {
        Source::expand(&Name::from_text("example").unwrap(), "main", text, &mut load)
    }

    #[test]
    fn lines_keep_their_places() {
        let source = expand("a A 1\n$INCLUDE hosts sub\n  TXT b\nc A 2").unwrap();
        let lines: Vec<_> = source.text().lines().collect();
        let want = [
            ("a A 1", "main", 1),
            ("$ORIGIN sub.example.", "main", 2),
            ("www A 192.0.2.1", "hosts", 1),
            ("$ORIGIN deep", "hosts", 2),
            ("x A 192.0.2.2", "hosts", 3),
            ("$ORIGIN deep.sub.example.", "hosts", 4),
            (" AAAA ::1", "tail", 1),
            ("y A 192.0.2.3", "tail", 2),
            ("$ORIGIN deep.sub.example.", "hosts", 4),
            ("$ORIGIN example.", "main", 2),
            ("a.example.  TXT b", "main", 3),
            ("c A 2", "main", 4),
        ];
        assert_eq!(lines.len(), want.len(), "{lines:#?}");
        for (index, (text, file, line)) in want.into_iter().enumerate() {
            assert_eq!(lines[index], text);
            let (got_file, got_line) = source.place(u32::try_from(index).unwrap() + 1);
            assert_eq!((got_file.as_ref(), got_line), (file, line), "{text}");
        }
    }

    #[test]
    fn every_problem_is_told() {
        let problems = expand("$INCLUDE loop\n$INCLUDE none\n(\n").unwrap_err();
        let shown: Vec<_> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(
            shown,
            [
                "loop2:2: `loop` includes itself; remove the `$INCLUDE`",
                "main:2: `none` cannot be included: no such file beside main",
                "main:3: `(` is never closed; close it with `)`",
            ]
        );
    }

    #[test]
    fn lines_that_cannot_be_cut_do_not_hide_others() {
        let text = "a 1 A 1\nb \"\nc 1 A 192.0.2.1\n$INCLUDE short\nd 1 A 2\n\
                    $INCLUDE short nothing..\ne A 192.0.2.1\nf 1 A 3\n";
        let mut load = |path: &str, _: &str| {
            Ok(Included { name: path.to_owned(), text: "x )\ny 1 NO 1".to_owned() })
        };
        let origin = Name::from_text("example").unwrap();
        let problems = Source::expand(&origin, "main", text, &mut load).unwrap_err();
        let places: Vec<_> = problems.iter().map(|p| format!("{}:{}", p.file, p.line)).collect();
        let want = ["main:1", "main:2", "short:1", "short:2", "main:5", "main:6", "main:8"];
        assert_eq!(places, want, "{problems:#?}");
    }

    #[test]
    fn depth_is_limited() {
        let mut load = |path: &str, _: &str| {
            let name = format!("{path}x");
            Ok(Included { text: format!("$INCLUDE {name}\n"), name })
        };
        let origin = Name::from_text("example").unwrap();
        let problems = Source::expand(&origin, "main", "$INCLUDE a\n", &mut load).unwrap_err();
        assert_eq!(problems.len(), 1);
        assert!(problems[0].problem.contains("too deep"), "{}", problems[0]);
    }
}
