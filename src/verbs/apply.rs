//! `crossfade apply`: hands a new or changed plan to the controller.

use hyper::Method;

use super::{Context, Exit, Failure, files, send};
use crate::cli::Apply;

/// Applies.
pub(crate) async fn run(args: Apply, context: &Context) -> Result<Exit, Failure> {
    let plan = files::plan(&args.file)?;
    let path = format!("/v1/plans/{}{}", plan.name, send::reason_query(&args.how));
    let body = plan::file::write(&plan).to_string().into_bytes();
    let json = "application/json";
    let answered = send::change(Method::PUT, &path, json, body, &args.how, context).await?;
    send::finish(&answered, &args.how, &format!("apply {}", plan.name), context).await
}
