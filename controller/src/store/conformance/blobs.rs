//! Bytes by their digest.

use std::sync::Arc;

use futures::FutureExt;
use plan::Digest;

use super::{Case, Factory, Failed, holds, same};

pub(super) const CASES: &[Case] = &[
    Case { name: "a blob is read again", run: |f| kept(f).boxed() },
    Case { name: "a blob that was never kept is none", run: |f| missing(f).boxed() },
    Case { name: "blobs are listed in order", run: |f| listed(f).boxed() },
];

async fn kept(factory: &dyn Factory) -> Result<(), Failed> {
    let mut store = factory.empty().await;
    // Empty, short, and about the sizes at which a store may cut it in parts.
    for size in [0, 1, 4096, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, (5 << 20) + 3] {
        let bytes: Arc<[u8]> = (0..size).map(|n: usize| n.to_le_bytes()[0] ^ 0x5a).collect();
        let digest = store.put_blob(Arc::clone(&bytes)).await?;
        same("digest", &digest, &Digest::of(&bytes))?;
        same("digest of the second time", &store.put_blob(Arc::clone(&bytes)).await?, &digest)?;
        store = factory.restarted(store).await;
        let found = store.blob(digest).await?;
        holds(&format!("a blob of {size} bytes is as it was"), found.as_deref() == Some(&*bytes))?;
    }
    Ok(())
}

async fn missing(factory: &dyn Factory) -> Result<(), Failed> {
    let store = factory.empty().await;
    same("blob", &store.blob(Digest::of(b"never kept")).await?, &None)
}

async fn listed(factory: &dyn Factory) -> Result<(), Failed> {
    let store = factory.empty().await;
    let mut digests = Vec::new();
    for text in ["a", "b", "c", "a"] {
        digests.push(store.put_blob(Arc::from(text.as_bytes())).await?);
    }
    digests.sort_unstable();
    digests.dedup();
    same("blobs", &store.blobs().await?, &digests)
}
