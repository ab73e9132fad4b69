//! Sends a changing command, prints what it did and waits for it to arrive.

use std::time::{Duration, SystemTime};

use controller::api::answer::{Changed, ChangedAll};
use hyper::Method;
use plan::view::Status;
use plan::{PlanName, Token};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Context, Exit, Failure, wait};
use crate::cli::{How, Output, Overrides, page};
use crate::client::encode;

/// What the API answers to a changing command once it is durable.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Answered {
    /// Of one plan.
    One(Changed),
    /// Of several plans in one record.
    All(ChangedAll),
}

impl Answered {
    /// The plans that it was about, with their revisions.
    pub(crate) fn plans(&self) -> Vec<(PlanName, u64)> {
        match self {
            Self::One(one) => vec![(one.plan.clone(), one.revision)],
            Self::All(all) => all.plans.iter().map(|p| (p.plan.clone(), p.revision)).collect(),
        }
    }

    /// What sinks must have applied.
    pub(crate) const fn token(&self) -> Token {
        match self {
            Self::One(one) => one.token,
            Self::All(all) => all.token,
        }
    }

    /// What else it did, in words.
    pub(crate) fn notes(&self) -> &[String] {
        self.parts().2
    }

    fn parts(&self) -> (bool, bool, &[String]) {
        match self {
            Self::One(one) => (one.changed, one.repeated, &one.notes),
            Self::All(all) => (all.changed, all.repeated, &all.notes),
        }
    }
}

/// Posts `body` with what every changing verb takes, then reports.
pub(crate) async fn post(
    path: &str,
    mut body: Value,
    how: &How,
    words: &str,
    context: &Context,
) -> Result<Exit, Failure> {
    if let (Some(reason), Some(fields)) = (&how.reason, body.as_object_mut()) {
        fields.insert("reason".to_owned(), Value::String(reason.clone()));
    }
    let body = body.to_string().into_bytes();
    let answered = change(Method::POST, path, "application/json", body, how, context).await?;
    finish(&answered, how, words, context).await
}

/// Sends a change under an idempotency key of its own.
pub(crate) async fn change(
    method: Method,
    path: &str,
    content_type: &'static str,
    body: Vec<u8>,
    how: &How,
    context: &Context,
) -> Result<Answered, Failure> {
    Ok(context.client.send(method, path, &headers(how), content_type, body).await?)
}

/// The revision that is expected, and an idempotency key of its own.
pub(crate) fn headers(how: &How) -> Vec<(&'static str, String)> {
    let expected = how.if_revision.map(|revision| ("if-match", format!("\"{revision}\"")));
    [("idempotency-key", key())].into_iter().chain(expected).collect()
}

/// The reason, where a call has no body to put it in.
pub(crate) fn reason_query(how: &How) -> String {
    let reason = how.reason.as_ref();
    reason.map_or_else(String::new, |reason| format!("?reason={}", encode(reason)))
}

/// Says what was done, and waits unless told not to.
pub(crate) async fn finish(
    answered: &Answered,
    how: &How,
    words: &str,
    context: &Context,
) -> Result<Exit, Failure> {
    if context.output == Output::Text {
        page::print(&said(answered, words))?;
    }
    let plans: Vec<PlanName> = answered.plans().into_iter().map(|(plan, _)| plan).collect();
    let (exit, statuses) = match how.no_wait {
        true => (Exit::Done, Vec::new()),
        false => wait::until_converged(&plans, answered, how.wait.0, context).await?,
    };
    if context.output == Output::Json {
        page::json(&Report { answered, converged: converged(how, exit), status: &statuses })?;
    }
    Ok(exit)
}

#[derive(Serialize)]
struct Report<'a> {
    #[serde(flatten)]
    answered: &'a Answered,
    converged: Option<bool>,
    #[serde(skip_serializing_if = "<[Status]>::is_empty")]
    status: &'a [Status],
}

fn converged(how: &How, exit: Exit) -> Option<bool> {
    (!how.no_wait).then_some(exit == Exit::Done)
}

fn said(answered: &Answered, words: &str) -> String {
    let plans = answered.plans().into_iter();
    let plans: Vec<String> =
        plans.map(|(plan, revision)| format!("{plan} at revision {revision}")).collect();
    let (changed, repeated, notes) = answered.parts();
    let state = match (repeated, changed) {
        (true, _) => "was done before",
        (false, true) => "durable",
        (false, false) => "nothing to change",
    };
    let plans = if plans.is_empty() { "there is no plan".to_owned() } else { plans.join(", ") };
    let mut text = format!("{words}: {state}; {plans}\n");
    for note in notes {
        text.push_str(&format!("  {note}\n"));
    }
    text
}

/// An idempotency key that no other call uses: it lets a broken connection be retried by hand.
fn key() -> String {
    #[expect(clippy::disallowed_methods, reason = "uniqueness, not time: the heart never sees it")]
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let nanos = now.as_ref().map_or(0, Duration::as_nanos);
    format!("cli-{}-{nanos}", std::process::id())
}

/// The limits to override, as the API takes them.
pub(crate) fn overrides(overrides: &Overrides) -> Vec<String> {
    overrides.overrides.iter().map(ToString::to_string).collect()
}
