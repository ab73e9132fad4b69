//! The one place where errors of the controller become answers.

use plan::file;
use plan::{Refused, RefusedKind};

use super::problem::{Code, Failure};
use crate::core::{AskError, ForgetError};
use crate::handle::{AuditFailure, ReadError, ZoneError};
use crate::identity::book::TokenRefused;
use crate::identity::{ChangeError, RevokeError, TokenError};
use crate::store::WriteError;

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        let code = match refused.kind() {
            RefusedKind::NotFound => Code::NotFound,
            RefusedKind::Stale => Code::Stale,
            RefusedKind::KeyReused => Code::KeyReused,
            RefusedKind::Rules => Code::Refused,
        };
        Self::new(code, refused.to_string()).because(refused.code(), refused.clear())
    }
}

impl From<AskError> for Failure {
    fn from(error: AskError) -> Self {
        let detail = error.to_string();
        match error {
            AskError::Refused(refused) => refused.into(),
            AskError::Busy { .. } => Self::new(Code::Busy, detail),
            AskError::Full { .. } => Self::new(Code::StoreFull, detail),
            AskError::Store { .. } | AskError::Unknown { .. } | AskError::Broken { .. } => {
                Self::new(Code::StoreFailed, detail)
            }
            AskError::Stopped => Self::new(Code::NotReady, detail),
        }
    }
}

impl From<ForgetError> for Failure {
    fn from(error: ForgetError) -> Self {
        let detail = error.to_string();
        match error {
            ForgetError::Missing(_) => Self::new(Code::NotFound, detail)
                .because("unknown-sink", Some("crossfade sinks".to_owned())),
            ForgetError::Connected(_) => {
                Self::new(Code::Refused, detail).because("connected", None)
            }
            ForgetError::Store => Self::new(Code::StoreFailed, detail),
            ForgetError::Stopped => Self::new(Code::NotReady, detail),
        }
    }
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        match &error {
            ReadError::Store(source) => Self::new(Code::StoreFailed, format!("{error}: {source}")),
            ReadError::Record { .. } => Self::new(Code::StoreFailed, error.to_string()),
            ReadError::Stopped => Self::new(Code::NotReady, error.to_string()),
        }
    }
}

impl From<AuditFailure> for Failure {
    fn from(failure: AuditFailure) -> Self {
        let detail = failure.to_string();
        match failure {
            AuditFailure::Found(_) | AuditFailure::Beside { .. } => {
                Self::new(Code::LogAltered, detail)
            }
            AuditFailure::Read(error) => error.into(),
        }
    }
}

impl From<ZoneError> for Failure {
    fn from(error: ZoneError) -> Self {
        let detail = error.to_string();
        match error {
            ZoneError::Problems(problems) => {
                let told = problems.problems.into_iter().map(zone_problem).collect();
                Self::new(Code::InvalidPlan, detail).with(told)
            }
            ZoneError::File { .. } => Self::new(Code::InvalidPlan, detail),
            ZoneError::Missing { .. } => Self::new(Code::StoreFailed, detail),
            ZoneError::Write { source, .. } => {
                let code = match source {
                    WriteError::Full => Code::StoreFull,
                    WriteError::Failed(_) => Code::StoreFailed,
                };
                Self::new(code, format!("{detail}: {source}"))
            }
            ZoneError::Read { source, .. } => {
                Self::new(Code::StoreFailed, format!("{detail}: {source}"))
            }
            ZoneError::Stopped => Self::new(Code::NotReady, detail),
        }
    }
}

impl From<TokenError> for Failure {
    fn from(error: TokenError) -> Self {
        let detail = error.to_string();
        match error {
            TokenError::Refused(TokenRefused::Live { name }) => {
                let again = format!("crossfade token create {name} --replace");
                Self::new(Code::Refused, detail).because("name-taken", Some(again))
            }
            TokenError::Refused(TokenRefused::Kind { name, .. }) => {
                let revoke = format!("crossfade revoke {name}");
                Self::new(Code::Refused, detail).because("name-taken", Some(revoke))
            }
            TokenError::Refused(TokenRefused::Unlimited) => {
                Self::new(Code::Refused, detail).because("gateway-unlimited", None)
            }
            TokenError::Refused(TokenRefused::Full) => {
                let list = Some("crossfade token list".to_owned());
                Self::new(Code::Refused, detail).because("tokens-full", list)
            }
            TokenError::Refused(TokenRefused::Life | TokenRefused::Services)
            | TokenError::Controllers { .. } => Self::new(Code::BadBody, detail),
            TokenError::Unknown(_) => Self::new(Code::NotFound, detail)
                .because("unknown-token", Some("crossfade token list".to_owned())),
            TokenError::Change(error) => error.into(),
        }
    }
}

impl From<RevokeError> for Failure {
    fn from(error: RevokeError) -> Self {
        let detail = error.to_string();
        match error {
            RevokeError::Unknown(_) => Self::new(Code::NotFound, detail)
                .because("unknown-agent", Some("crossfade agents".to_owned())),
            RevokeError::Change(error) => error.into(),
        }
    }
}

impl From<ChangeError> for Failure {
    fn from(error: ChangeError) -> Self {
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        let detail = [error.to_string()].into_iter().chain(cause).collect::<Vec<_>>().join(": ");
        let code = match error {
            ChangeError::Full | ChangeError::Large => Code::StoreFull,
            ChangeError::Cell(_) | ChangeError::Store(_) | ChangeError::Contended => {
                Code::StoreFailed
            }
            ChangeError::Random => Code::Internal,
        };
        Self::new(code, detail)
    }
}

/// A fault of a zone text, as any fault of a file.
pub(crate) fn zone_problem(problem: dns::Problem) -> file::Problem {
    file::Problem {
        file: Some(problem.file.to_string()),
        line: problem.line,
        column: 1,
        field: String::new(),
        problem: problem.problem,
        fix: problem.fix,
    }
}

/// The plan that was sent is wrong.
pub(crate) fn invalid(problems: Vec<file::Problem>) -> Failure {
    let count = problems.len();
    let first = problems.first().map(ToString::to_string).unwrap_or_default();
    let detail = match count {
        0 | 1 => first,
        more => format!("{first} (and {} more)", more - 1),
    };
    Failure::new(Code::InvalidPlan, detail).with(problems)
}

/// No such path.
pub(crate) async fn no_route() -> Failure {
    Failure::new(Code::NoRoute, "there is no such path; GET /openapi.json lists them all")
}

/// The path has other methods.
pub(crate) async fn no_method() -> Failure {
    Failure::new(Code::MethodNotAllowed, "this path has other methods: see the Allow header")
}
