//! `crossfade backup` and `crossfade restore`.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use controller::identity::Machines;
use controller::store::Restored;
use http_body_util::BodyExt as _;
use serde_json::json;
use xds::join::MachineName;

use super::{Context, Exit, Failure};
use crate::cli::{Backup, Output, Restore, page};
use crate::config::default_data;

/// The most machines that the output names.
const NAMED_MAX: usize = 50;

/// Takes a verified copy of the log from the controller.
pub(crate) async fn backup(args: &Backup, context: &Context) -> Result<Exit, Failure> {
    let failed =
        |source: std::io::Error| Failure::File { what: "write", path: args.file.clone(), source };
    // Readable by its owner only, as the log is; an older backup is never written over.
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&args.file)
        .map_err(failed)?;
    let copied = copy(&mut file, context).await;
    let bytes = match copied {
        Ok(bytes) => bytes,
        Err(error) => {
            // What is not whole must not be taken for a backup.
            fs::remove_file(&args.file).map_err(failed)?;
            return Err(error);
        }
    };
    file.sync_all().map_err(failed)?;
    match context.output {
        Output::Json => page::json(&json!({ "file": args.file, "bytes": bytes }))?,
        Output::Text => page::print(&format!("{}: {bytes} bytes\n", args.file.display()))?,
    }
    Ok(Exit::Done)
}

async fn copy(file: &mut fs::File, context: &Context) -> Result<u64, Failure> {
    let answer = context.client.download("/v1/backup").await?;
    let announced = answer
        .headers()
        .get(hyper::header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    let mut body = answer.into_body();
    let mut bytes = 0;
    let broken = |source: Box<dyn std::error::Error + Send + Sync>| Failure::Local {
        what: "the backup did not arrive whole",
        source,
    };
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| broken(Box::new(error)))?;
        let Ok(data) = frame.into_data() else { continue };
        file.write_all(&data).map_err(|error| broken(Box::new(error)))?;
        bytes += u64::try_from(data.len()).unwrap_or(u64::MAX);
    }
    if announced.is_some_and(|announced| announced != bytes) {
        return Err(broken("fewer bytes than announced".into()));
    }
    Ok(bytes)
}

/// Puts a backup in place of the log; nobody may be using the directory.
pub(crate) async fn restore(args: Restore, context: &Context) -> Result<Exit, Failure> {
    let none = || Failure::Usage("no data directory: give --data DIR".to_owned());
    let data = args.data.or_else(default_data).ok_or_else(none)?;
    let restored = crate::serve::restore(args.file, data.clone()).await?;
    match context.output {
        Output::Json => page::json(&json!({
            "from": restored.from.to_string(),
            "head": restored.head.to_string(),
            "replaced": restored.replaced,
            "withdrawnTokens": restored.machines.withdrawn,
            "unsureMachines": names(&restored.machines.unsure).collect::<Vec<_>>(),
        }))?,
        Output::Text => page::print(&restored_text(&restored, &data))?,
    }
    Ok(Exit::Done)
}

fn restored_text(restored: &Restored, data: &Path) -> String {
    let data = data.display();
    let mut text = format!(
        "restored up to {}; the log goes on at {}, and every plan waits for an operator\n",
        restored.from, restored.head
    );
    if let Some(replaced) = &restored.replaced {
        text.push_str(&format!("the log that was there is kept: {}\n", replaced.display()));
    }
    text.push_str(&machines_text(&restored.machines));
    text.push_str(&format!("next: crossfade serve --data {data}\n"));
    text
}

/// What became of the backup's machines, where anything has to be done.
fn machines_text(machines: &Machines) -> String {
    let Machines { withdrawn, unsure } = machines;
    let mut text = String::new();
    if *withdrawn > 0 {
        text.push_str(&format!("join tokens that waited and are worth nothing now: {withdrawn}\n"));
    }
    if !unsure.is_empty() {
        let named: Vec<&str> = names(unsure).take(NAMED_MAX).collect();
        let more = match unsure.len().saturating_sub(NAMED_MAX) {
            0 => String::new(),
            more => format!(" and {more} more (crossfade agents)"),
        };
        text.push_str(&format!(
            "let in as when the backup was made, also if revoked or frozen since, which nobody \
             here knows: {}{more}\nwhich of them must not be: crossfade revoke NAME\n",
            named.join(", ")
        ));
    }
    text
}

fn names(machines: &[MachineName]) -> impl Iterator<Item = &str> {
    machines.iter().map(MachineName::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines_that_may_be_revived_are_named() {
        let machine = |n: usize| format!("vm-{n}").parse().unwrap();
        let told = |withdrawn, machines| {
            machines_text(&Machines { withdrawn, unsure: (0..machines).map(machine).collect() })
        };
        assert_eq!(told(0, 0), "");
        assert!(told(3, 0).ends_with("worth nothing now: 3\n"));
        let two = told(0, 2);
        assert!(two.contains("knows: vm-0, vm-1\n") && two.contains("crossfade revoke NAME"));
        assert!(told(0, NAMED_MAX + 7).contains("vm-49 and 7 more (crossfade agents)\n"));
    }
}
