//! Checking everything.

use std::sync::Arc;

use futures::FutureExt;

use super::{Case, Factory, Failed, filled, same};

pub(super) const CASES: &[Case] =
    &[Case { name: "a whole store verifies", run: |f| verified(f).boxed() }];

async fn verified(factory: &dyn Factory) -> Result<(), Failed> {
    let (store, head) = filled(factory, 2_500).await?;
    store.put_blob(Arc::from(*b"a zone")).await?;
    store.swap_cell("ca", None, b"a key").await?;
    let verified = store.verify().await?;
    same("records", &verified.records, &2_500)?;
    same("head", &(verified.head, verified.digest), &(head.token, head.digest))
}
