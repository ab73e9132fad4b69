//! Which services a word means among those that a machine holds, with no controller to ask.

use plan::ServiceId;

use super::Failure;
use crate::cli::args::Subject;

/// A service by its full name, a service whose name is unique, or all of a plan.
pub(super) fn among(
    subject: &Subject,
    held: &[ServiceId],
    who: &str,
) -> Result<Vec<ServiceId>, Failure> {
    let named: Vec<&ServiceId> = match subject {
        Subject::Service(plan, service) => {
            held.iter().filter(|id| id.plan == *plan && id.service == *service).collect()
        }
        Subject::Word(word) => held.iter().filter(|id| id.service.as_str() == word).collect(),
    };
    match (named.as_slice(), subject) {
        ([one], _) => Ok(vec![ServiceId::clone(one)]),
        ([], Subject::Word(word)) => {
            let plan: Vec<ServiceId> =
                held.iter().filter(|id| id.plan.as_str() == word).cloned().collect();
            if plan.is_empty() { Err(unknown(held, who)) } else { Ok(plan) }
        }
        ([], Subject::Service(..)) => Err(unknown(held, who)),
        (several, _) => Err(Failure::Usage(format!(
            "several services are called so; name one in full: {}",
            list(several.iter().copied())
        ))),
    }
}

fn unknown(held: &[ServiceId], who: &str) -> Failure {
    Failure::Usage(format!("{who} holds no such service; it holds: {}", list(held.iter())))
}

fn list<'a>(services: impl Iterator<Item = &'a ServiceId>) -> String {
    let names: Vec<String> = services.map(ToString::to_string).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}
