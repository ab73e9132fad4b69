//! `crossfade agent leave`.

use std::fmt::Write as _;

use crate::cli::agent::Leave;
use crate::cli::{Output, page};
use crate::host::{files, leave};
use crate::verbs::{Context, Exit, Failure};

/// Leaves, and says what was done.
pub(super) async fn run(args: &Leave, context: &Context) -> Result<Exit, Failure> {
    let directory = files::directory(args.here.data.as_ref())?;
    let left = leave::leave(&directory, args.reason.clone()).await?;
    if context.output == Output::Json {
        page::json(&left)?;
    } else {
        page::print(&text(&left))?;
    }
    if left.failed.is_empty() {
        return Ok(Exit::Done);
    }
    Err(Failure::Failed(format!(
        "not everything was put back: {}; mend that, then leave again",
        left.failed.join("; ")
    )))
}

fn text(left: &leave::Left) -> String {
    let mut text = String::new();
    if left.told {
        text.push_str("the controller was told, and expects this VM no more\n");
    }
    if left.ended {
        text.push_str("the agent was ended\n");
    }
    if left.rules {
        text.push_str("its rules were taken out of the kernel\n");
    }
    for undone in &left.undone {
        let _ = writeln!(text, "put back: {undone}");
    }
    for kept in &left.kept {
        let _ = writeln!(text, "left as others made it: {kept}");
    }
    if left.is_nothing() {
        text.push_str("nothing of an agent was here\n");
    }
    // Whoever has joined is known there, whether or not it ever ran.
    if !left.told && !left.is_nothing() {
        let name = left.name.as_deref().unwrap_or("NAME");
        let _ = writeln!(
            text,
            "the controller was not told; run there: crossfade sinks forget {name}, and if this \
             VM had joined: crossfade revoke {name}"
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_there_is_told_whether_or_not_it_ran_or_went() {
        let none = leave::Left::default();
        assert_eq!(text(&none), "nothing of an agent was here\n");
        let joined = leave::Left { name: Some("vm-1".to_owned()), ..leave::Left::default() };
        let said = text(&joined);
        assert!(said.contains("revoke vm-1") && !said.contains("nothing"), "{said}");
        let failed = leave::Left { failed: vec!["rules".to_owned()], ..leave::Left::default() };
        assert!(!text(&failed).contains("nothing of an agent"), "{}", text(&failed));
    }
}
