//! A verified copy of the log, sent as a file.

use std::io;
use std::path::Path;

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use tokio::fs::{self, File};
use tokio::io::AsyncReadExt as _;

use super::Api;
use super::problem::{Code, Failure};
use crate::store::BackupError;

/// How much of the file is read at a time.
const PIECE_BYTES: usize = 64 << 10;

/// The name of the copy until it is sent; one at a time.
const NAME: &str = "backup.part";

/// Copies the log, reads the copy again, and sends it.
pub(crate) async fn send(api: &Api) -> Result<Response, Failure> {
    let _alone = api.backups.try_acquire().map_err(|_| {
        Failure::new(Code::TooMany, "a backup is being made already; wait until it is done")
    })?;
    let Some(directory) = &api.settings.scratch else {
        return Err(Failure::new(Code::StoreFailed, "this server has no directory for the copy"));
    };
    let path = directory.join(NAME);
    // One that a crash left behind.
    let _ = fs::remove_file(&path).await;
    let made = api.handle.shared.store.backup(&path).await;
    let made = match made {
        Ok(made) => made,
        Err(error) => {
            let _ = fs::remove_file(&path).await;
            return Err(failure(&error));
        }
    };
    let file = open(&path).await.map_err(|error| {
        Failure::new(Code::StoreFailed, format!("the copy cannot be read: {error}"))
    })?;
    let mut response = Body::from_stream(pieces(file)).into_response();
    let headers = response.headers_mut();
    let media = HeaderValue::from_static("application/octet-stream");
    headers.insert(header::CONTENT_TYPE, media);
    headers.insert(header::CONTENT_LENGTH, made.bytes.into());
    // Digits and a dot are a header's value.
    if let Ok(head) = HeaderValue::from_str(&made.head.to_string()) {
        headers.insert("crossfade-head", head);
    }
    Ok(response)
}

/// Opens the copy and takes its name away: it is gone once it is sent, or the caller is.
async fn open(path: &Path) -> io::Result<File> {
    let file = File::open(path).await?;
    fs::remove_file(path).await?;
    Ok(file)
}

fn pieces(file: File) -> impl futures::Stream<Item = io::Result<Bytes>> + Send {
    futures::stream::try_unfold(file, async |mut file: File| {
        let mut piece = vec![0; PIECE_BYTES];
        let read = file.read(&mut piece).await?;
        piece.truncate(read);
        Ok((read > 0).then(|| (Bytes::from(piece), file)))
    })
}

fn failure(error: &BackupError) -> Failure {
    let code = match error {
        BackupError::Full { .. } => Code::StoreFull,
        BackupError::Exists { .. }
        | BackupError::Unusable { .. }
        | BackupError::Open(_)
        | BackupError::Verify(_)
        | BackupError::Store(_) => Code::StoreFailed,
    };
    let mut told = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        told = format!("{told}: {cause}");
        source = cause.source();
    }
    Failure::new(code, told)
}
