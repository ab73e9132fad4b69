//! The token of somebody who joins.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, IsTerminal as _, Read};
use std::path::Path;

use xds::join::{Kind, Ticket, TicketError};

use crate::cli::page;
use crate::verbs::{Failure, chain};

/// The longest token that is read, in bytes.
const TOKEN_MAX: u64 = 16 << 10;

/// Reads a token from a file or, without one, from standard input: a secret is no argument.
pub(crate) fn read(file: Option<&Path>) -> Result<Ticket, Failure> {
    let failed = |source| Failure::File {
        what: "read",
        path: file.unwrap_or_else(|| Path::new("standard input")).to_owned(),
        source,
    };
    let text = match file {
        Some(path) => line(File::open(path).map_err(failed)?),
        None => {
            if io::stdin().is_terminal() {
                page::print("token: ")?;
            }
            line(io::stdin().lock())
        }
    };
    parsed(&text.map_err(failed)?)
}

/// One line: what follows on standard input is the operator's word on whether the host is well.
fn line(from: impl Read) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    // A byte at a time where nothing is buffered below: what follows is not ours.
    BufReader::with_capacity(1, from.take(TOKEN_MAX)).read_until(b'\n', &mut line)?;
    Ok(line)
}

fn parsed(line: &[u8]) -> Result<Ticket, Failure> {
    let wrong = |error: TicketError| Failure::Usage(chain(&error));
    // What is no text is no token of ours, and is not shown: it may be somebody's secret.
    let text = str::from_utf8(line).map_err(|_| wrong(TicketError::Foreign))?.trim();
    if text.is_empty() {
        return Err(Failure::Usage(
            "there is no token; at the controller run `crossfade token create NAME`, and paste \
             here what it prints"
                .to_owned(),
        ));
    }
    text.parse().map_err(wrong)
}

/// The token is for a machine of another kind than joins here. It was not used up.
pub(crate) fn elsewhere(ticket: &Ticket) -> Failure {
    let Ticket { kind, name, .. } = ticket;
    let (theirs, ours) = match kind {
        Kind::Agent => ("a VM's agent: on that VM run", "this gateway"),
        Kind::Gateway(_) => ("a gateway: beside its proxy run", "this VM"),
    };
    let ours_is = match kind {
        Kind::Agent => "crossfade token create NAME --gateway GATEWAY",
        Kind::Gateway(_) => "crossfade token create NAME",
    };
    Failure::Usage(format!(
        "this token is of `{name}`, {theirs} `{}`; for {ours} have one made by `{ours_is}`. \
         Nothing was used up",
        kind.join_command()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_token_is_told_whatever_it_is() {
        for (what, bytes, says) in [
            ("nothing", &b""[..], "there is no token"),
            ("white space", b" \r\n", "there is no token"),
            ("words", b"hello\n", "begins with `cfj1_`"),
            ("no text", b"\xff\xfe\x00garbage\n", "begins with `cfj1_`"),
            ("half of one", b"cfj1_BwcH\n", "cut or mistyped"),
        ] {
            let words = parsed(bytes).unwrap_err().to_string();
            assert!(words.contains(says), "{what}: {words}");
            assert!(!words.contains("garbage"), "{what}: {words}");
        }
    }

    #[test]
    fn one_line_is_read_and_no_more() {
        let mut from = &b"cfj1_x\nyes\n"[..];
        assert_eq!(line(&mut from).unwrap(), b"cfj1_x\n");
        assert_eq!(from, b"yes\n");
        let long = vec![b'x'; 1 << 20];
        assert_eq!(line(&*long).unwrap().len(), 16 << 10);
    }
}
