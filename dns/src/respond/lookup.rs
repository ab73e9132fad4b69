//! Where a name is in a zone (RFC 1034 section 4.3.2, RFC 4592 section 3.3.1).

use crate::names::{Host, Names};
use crate::wire::NameBuf;
use crate::zone::Zone;
use crate::zone::tree::{self, NodeId};

/// Where a name is. `above` counts the labels of the name that lie below the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// The name exists: in the zone text, as a plan name, or because names below it do.
    Exists {
        /// Its node in the zone text.
        node: Option<NodeId>,
        /// What plan name it is.
        host: Option<Host>,
    },
    /// The name does not exist, but this wildcard stands for it.
    Wildcard(NodeId),
    /// The name is at or below a zone cut.
    Cut {
        /// The node with the NS records.
        node: NodeId,
        /// Labels of the name below the cut.
        above: usize,
    },
    /// The name is below a DNAME.
    Dname {
        /// The node with the DNAME record.
        node: NodeId,
        /// Labels of the name below it.
        above: usize,
    },
    /// Neither the name nor a wildcard for it exists.
    Missing,
}

/// Finds `name`, which is within `zone`. Cuts and DNAMEs of the zone text hide what is below them,
/// plan names too.
pub(crate) fn find(zone: &Zone, names: &Names, name: &NameBuf) -> Place {
    let tree = zone.tree();
    let below = name.labels().saturating_sub(zone.depth());
    let mut node = NodeId::APEX;
    let mut left = below;
    while left > 0 {
        if tree.flags(node) & tree::DNAME != 0 {
            return Place::Dname { node, above: left };
        }
        let Some(child) = tree.child(node, name.label(left - 1)) else { break };
        node = child;
        left -= 1;
        if tree.flags(node) & tree::CUT != 0 {
            return Place::Cut { node, above: left };
        }
    }
    let (host, known) = names.find(name);
    if left == 0 {
        return Place::Exists { node: Some(node), host };
    }
    if known == name.labels() {
        return Place::Exists { node: None, host };
    }
    // The closest encloser may be a name that only the plan makes exist; nothing stands below it.
    let in_text = name.labels() - left;
    if known > in_text || tree.flags(node) & tree::WILD == 0 {
        return Place::Missing;
    }
    tree.child(node, b"*").map_or(Place::Missing, Place::Wildcard)
}

/// The node of `name` itself in the zone text, unless it is at or below a cut or below a DNAME.
pub(crate) fn exact(zone: &Zone, name: &NameBuf) -> Option<NodeId> {
    match find_in_text(zone, name)? {
        Place::Exists { node, .. } => node,
        Place::Wildcard(_) | Place::Cut { .. } | Place::Dname { .. } | Place::Missing => None,
    }
}

/// The node of the zone text that holds the data of `name`, wildcards included.
pub(crate) fn data_node(zone: &Zone, name: &NameBuf) -> Option<NodeId> {
    match find_in_text(zone, name)? {
        Place::Exists { node, .. } => node,
        Place::Wildcard(node) => Some(node),
        Place::Cut { .. } | Place::Dname { .. } | Place::Missing => None,
    }
}

/// The name of the cut or DNAME in the zone text that hides `name`.
pub(crate) fn occluder(zone: &Zone, name: &NameBuf) -> Option<NameBuf> {
    match find_in_text(zone, name)? {
        Place::Cut { above, .. } | Place::Dname { above, .. } => {
            NameBuf::from_wire(name.suffix(above))
        }
        Place::Exists { .. } | Place::Wildcard(_) | Place::Missing => None,
    }
}

fn find_in_text(zone: &Zone, name: &NameBuf) -> Option<Place> {
    let depth = name.labels().checked_sub(zone.depth())?;
    if name.suffix(depth) != zone.origin().as_wire() {
        return None;
    }
    Some(find(zone, &Names::empty(), name))
}
