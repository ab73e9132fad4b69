//! `crossfade audit verify`: follows the hash chain through every record.

use controller::api::answer::Verified;

use super::{Context, Exit, Failure};
use crate::cli::{Audit, AuditVerb, Output, page};

/// Verifies; a log that does not is a refusal that names the first bad record.
pub(crate) async fn run(args: &Audit, context: &Context) -> Result<Exit, Failure> {
    let AuditVerb::Verify = args.verb;
    let verified: Verified = context.client.get("/v1/audit/verify").await?;
    match context.output {
        Output::Json => page::json(&verified)?,
        Output::Text => {
            let Verified { records, head, digest } = verified;
            page::print(&format!("{records} records verified, up to {head}\n{digest}\n"))?;
        }
    }
    Ok(Exit::Done)
}
