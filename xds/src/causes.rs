//! Errors in words: each layer says only its own part, so whoever tells one tells its causes too.

use std::error::Error;

/// An error with the whole chain of its causes, in one line.
#[must_use]
pub fn chain(error: &dyn Error) -> String {
    with_causes(error.to_string(), error)
}

/// These words for the error itself, then its causes.
pub(crate) fn with_causes(mut text: String, error: &dyn Error) -> String {
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        // Some layers already say what their cause says.
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{words}")]
    struct Layer {
        words: &'static str,
        source: Option<Box<Self>>,
    }

    #[test]
    fn every_cause_is_said_once() {
        let chain_of = |layers: &[&'static str]| {
            let mut source = None;
            for words in layers.iter().rev() {
                source = Some(Box::new(Layer { words, source }));
            }
            chain(&source.unwrap())
        };
        assert_eq!(chain_of(&["no file"]), "no file");
        assert_eq!(chain_of(&["cannot write", "disk", "full"]), "cannot write: disk: full");
        assert_eq!(chain_of(&["cannot write: full", "full"]), "cannot write: full");
        assert_eq!(chain_of(&["cannot write", "", "full"]), "cannot write: full");
    }
}
