//! Zone text cut into lines of tokens (RFC 1035 section 5.1): parentheses, quotes, escapes and
//! comments.

use super::problem::Fault;

/// A word or a quoted string, its escapes not yet resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token<'t> {
    /// The characters; of a quoted string those inside the quotes.
    pub(crate) raw: &'t [u8],
    pub(crate) quoted: bool,
}

impl Token<'_> {
    /// The token for a message.
    pub(crate) fn shown(&self) -> String {
        String::from_utf8_lossy(self.raw).into_owned()
    }
}

/// One entry: a physical line, or several that parentheses join.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Line<'t> {
    /// Its first line, from 1.
    pub(crate) number: u32,
    /// Whether it starts with a blank, so that the owner is that of the record before.
    pub(crate) blank: bool,
    /// All of it, the last line feed included.
    pub(crate) raw: &'t [u8],
}

/// Cuts a text into lines.
pub(crate) struct Lexer<'t> {
    rest: &'t [u8],
    number: u32,
}

impl<'t> Lexer<'t> {
    pub(crate) fn new(text: &'t str) -> Self {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        Self { rest: text.as_bytes(), number: 1 }
    }

    /// The next line, its tokens in `tokens`; None at the end of the text.
    /// A line that cannot be cut is skipped.
    pub(crate) fn next(
        &mut self,
        tokens: &mut Vec<Token<'t>>,
    ) -> Option<(Line<'t>, Result<(), Fault>)> {
        tokens.clear();
        if self.rest.is_empty() {
            return None;
        }
        let begin = self.rest;
        let number = self.number;
        let blank = matches!(begin.first(), Some(b' ' | b'\t'));
        let result = self.tokens(tokens);
        if result.is_err() {
            self.skip_line();
        }
        let raw = begin.get(..begin.len() - self.rest.len()).unwrap_or_default();
        Some((Line { number, blank, raw }, result))
    }

    fn tokens(&mut self, tokens: &mut Vec<Token<'t>>) -> Result<(), Fault> {
        let mut depth = 0u32;
        while let Some((&first, after)) = self.rest.split_first() {
            match first {
                b'\n' => {
                    self.rest = after;
                    self.number += 1;
                    if depth == 0 {
                        return Ok(());
                    }
                }
                b' ' | b'\t' | b'\r' => self.rest = after,
                b';' => self.skip_comment(),
                b'(' => {
                    depth += 1;
                    self.rest = after;
                }
                b')' if depth == 0 => {
                    return Err(Fault::new("`)` without `(`", "remove it or write `\\)`"));
                }
                b')' => {
                    depth -= 1;
                    self.rest = after;
                }
                b'"' => tokens.push(self.quoted(after)?),
                _ => tokens.push(self.word()?),
            }
        }
        if depth > 0 {
            return Err(Fault::new("`(` is never closed", "close it with `)`"));
        }
        Ok(())
    }

    fn quoted(&mut self, inside: &'t [u8]) -> Result<Token<'t>, Fault> {
        let length = quoted_length(inside)?;
        let (raw, after) = inside.split_at_checked(length).unwrap_or_default();
        self.rest = after.get(1..).unwrap_or_default();
        Ok(Token { raw, quoted: true })
    }

    /// A word may hold a quoted part: `alpn="h2,h3"`.
    fn word(&mut self) -> Result<Token<'t>, Fault> {
        let mut length = 0usize;
        while let Some(&octet) = self.rest.get(length) {
            match octet {
                b' ' | b'\t' | b'\r' | b'\n' | b';' | b'(' | b')' => break,
                b'\\' if matches!(self.rest.get(length + 1), None | Some(b'\n')) => {
                    return Err(Fault::new("a backslash ends the line", "remove it"));
                }
                b'\\' => length += 2,
                b'"' => {
                    let inside = self.rest.get(length + 1..).unwrap_or_default();
                    length += quoted_length(inside)? + 2;
                }
                _ => length += 1,
            }
        }
        let (raw, after) = self.rest.split_at_checked(length).unwrap_or((self.rest, &[]));
        self.rest = after;
        Ok(Token { raw, quoted: false })
    }

    fn skip_comment(&mut self) {
        let length = self.rest.iter().position(|octet| *octet == b'\n');
        self.rest = length.and_then(|length| self.rest.get(length..)).unwrap_or_default();
    }

    fn skip_line(&mut self) {
        self.skip_comment();
        if let Some((_, after)) = self.rest.split_first() {
            self.rest = after;
            self.number += 1;
        }
    }
}

fn quoted_length(inside: &[u8]) -> Result<usize, Fault> {
    let mut length = 0usize;
    loop {
        match inside.get(length) {
            Some(b'"') => return Ok(length),
            Some(b'\\') if inside.get(length + 1) != Some(&b'\n') => length += 2,
            None | Some(b'\\' | b'\n') => {
                let fix = "close it with `\"` on the same line";
                return Err(Fault::new("a string is never closed", fix));
            }
            Some(_) => length += 1,
        }
    }
}

/// Seconds with optional units: `3600`, `1h30m`, `1w2d`. None when it is none; above 2^32 - 1 it
/// is `u32::MAX`, so that lesser limits catch it.
pub(crate) fn period(text: &[u8]) -> Option<u32> {
    seconds(text).map(|seconds| u32::try_from(seconds).unwrap_or(u32::MAX))
}

/// The same without a limit but its own: a period beyond 64 bits is `u64::MAX`.
pub(crate) fn seconds(text: &[u8]) -> Option<u64> {
    if !text.first()?.is_ascii_digit() {
        return None;
    }
    let mut total = 0u64;
    let mut number: Option<u64> = None;
    for octet in text {
        let unit = match octet.to_ascii_lowercase() {
            digit @ b'0'..=b'9' => {
                let grown = number.unwrap_or(0).saturating_mul(10);
                number = Some(grown.saturating_add(u64::from(digit - b'0')));
                continue;
            }
            b's' => 1,
            b'm' => 60,
            b'h' => 3_600,
            b'd' => 86_400,
            b'w' => 604_800,
            _ => return None,
        };
        total = total.saturating_add(number.take()?.saturating_mul(unit));
    }
    Some(total.saturating_add(number.unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        let mut lexer = Lexer::new(text);
        let mut tokens = Vec::new();
        let mut lines = Vec::new();
        while let Some((line, result)) = lexer.next(&mut tokens) {
            let words: Vec<_> = tokens.iter().map(Token::shown).collect();
            let words = match result {
                Ok(()) => words.join("|"),
                Err(fault) => fault.problem,
            };
            lines.push(format!("{}{}{words}", line.number, if line.blank { "_" } else { " " }));
        }
        lines
    }

    #[test]
    fn lines_and_tokens() {
        let text = "a IN (1 ; one (\n\t2\n) 3\n b \"c ; d\\\"\" e\\ f;g\n\nk=\"a b\",c \"\"\n\\;x";
        let want = ["1 a|IN|1|2|3", "4_b|c ; d\\\"|e\\ f", "5 ", "6 k=\"a b\",c|", "7 \\;x"];
        assert_eq!(lines(text), want);
    }

    #[test]
    fn errors_do_not_stop_the_text() {
        let text = "a \"x\nb ) c\nd\\\ne\n\"f\\\ng\n(h\n";
        let want = [
            "1 a string is never closed",
            "2 `)` without `(`",
            "3 a backslash ends the line",
            "4 e",
            "5 a string is never closed",
            "6 g",
            "7 `(` is never closed",
        ];
        assert_eq!(lines(text), want);
    }

    #[test]
    fn periods() {
        for (text, want) in [
            ("0", Some(0)),
            ("1h30m", Some(5400)),
            ("1W2d3H4m5S", Some(604_800 + 2 * 86_400 + 3 * 3600 + 4 * 60 + 5)),
            ("1h5", Some(3605)),
            ("99999999999999999999", Some(u32::MAX)),
            ("h", None),
            ("", None),
            ("1hh", None),
            ("1x", None),
            ("-1", None),
        ] {
            assert_eq!(period(text.as_bytes()), want, "{text}");
        }
    }
}
