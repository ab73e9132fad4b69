//! `crossfade revoke`: a machine is let in no more.

use controller::api::machines::Revoked;

use super::token::why;
use super::{Context, Exit, Failure};
use crate::cli::machines::OneMachine;
use crate::cli::{Output, page};

/// Revokes and says so.
pub(crate) async fn run(args: &OneMachine, context: &Context) -> Result<Exit, Failure> {
    let name = &args.name;
    let path = format!("/v1/agents/{name}{}", why(args.reason.as_deref()));
    let revoked: Revoked = context.client.delete(&path, &[]).await?;
    if context.output == Output::Json {
        page::json(&revoked)?;
        return Ok(Exit::Done);
    }
    page::print(&match (revoked.changed, revoked.gateway) {
        (true, Some(gateway)) => format!(
            "{name} is let in no more; its proxies go on as they were, and VMs take its last \
             certificate for {gateway} until that ends, within a day: end them there\n"
        ),
        (true, None) => format!(
            "{name} is let in no more; its traffic goes on as it was until somebody runs \
             `crossfade agent leave` there\n"
        ),
        (false, _) => format!("{name} was revoked before\n"),
    })?;
    Ok(Exit::Done)
}
