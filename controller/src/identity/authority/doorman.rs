//! Who is let in to the machines' API.

use tokio::sync::watch;
use xds::Close;
use xds::server::{Doorman, Identity, Peer, Service};
use xds::session::Code;

use super::{Authority, lock};
use crate::identity::book::{NotAdmitted, Shown};
use crate::identity::proof::Leaf;

impl Doorman for Authority {
    fn admit(&self, peer: &Peer, service: Service) -> Result<Option<Identity>, Close> {
        // Where certificates are had, a bad one must not stand in the way.
        let Some(certificate) = &peer.certificate else { return Ok(None) };
        if !service.needs_identity() {
            return Ok(None);
        }
        let leaf = Leaf::read(certificate, &self.inner.domain)
            .map_err(|error| Close { code: Code::Unauthenticated, message: error.to_string() })?;
        let now = self.inner.clock.now();
        let known = self.inner.known();
        known.book.admit(&leaf.shown, now).map_err(closed)?;
        let Shown { kind, name, .. } = leaf.shown;
        if let Some(why) = self.inner.freezing(&name) {
            return Err(closed(why));
        }
        lock(&self.inner.seen).insert(name.clone(), now);
        Ok(Some(Identity { kind, name }))
    }

    fn revoked(&self) -> watch::Receiver<u64> {
        self.inner.revoked.subscribe()
    }
}

fn closed(error: NotAdmitted) -> Close {
    let code = match &error {
        NotAdmitted::Frozen { .. }
        | NotAdmitted::Revoked { .. }
        | NotAdmitted::Replaced { .. }
        | NotAdmitted::Kind { .. } => Code::PermissionDenied,
        NotAdmitted::Unknown { .. } | NotAdmitted::Expired { .. } | NotAdmitted::Renewed { .. } => {
            Code::Unauthenticated
        }
    };
    Close { code, message: error.to_string() }
}
