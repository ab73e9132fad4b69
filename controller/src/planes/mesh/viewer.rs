//! Who sees what: proxies the tables of their role, followers of our own theirs.

use xds::render::{self, Door};
use xds::session::Close;
use xds::{Client, View, Viewer, own};

/// Views by the role that a client's node names.
#[derive(Clone, Copy, Debug)]
pub struct Roles;

impl Viewer for Roles {
    fn view(&self, client: &Client) -> Result<View, Close> {
        match door(client)? {
            Some(door) => Ok(render::view(&door)),
            None => Ok(View::all(own::SCOPE)),
        }
    }
}

/// The door by which a client comes; `None` for replicas, which see the plans' names and no door.
/// A relay comes by the door of those it serves.
pub(super) fn door(client: &Client) -> Result<Option<Door>, Close> {
    match client.says("role") {
        Some("dns") => Ok(None),
        Some("relay") => {
            let mut served = client.clone();
            let role = served.says.remove("serves").unwrap_or_else(|| "sidecar".to_owned());
            served.says.insert("role".to_owned(), role);
            render::door(&served).map(Some)
        }
        Some(_) | None => render::door(client).map(Some),
    }
}
