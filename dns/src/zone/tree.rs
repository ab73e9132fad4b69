//! The compiled zone: names as a tree in flat arrays, record data in wire form.
//!
//! Each node knows its parent; one open hash table finds a child by (parent, label), so a lookup
//! walks down from the apex, one probe per label, and allocates nothing. A name with one address
//! costs about 60 octets.

use crate::wire::{Name, NameBuf, Rtype};

/// Most octets of record data, label data and most nodes: what 32 bits address.
pub(crate) const ARENA_MAX: usize = 0xffff_ff00;

/// A node of a [`Tree`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct NodeId(pub(crate) u32);

impl NodeId {
    /// The apex.
    pub(crate) const APEX: Self = Self(0);
}

/// A free slot of the hash table.
const FREE: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
struct Node {
    parent: u32,
    /// Where its lower-cased label starts in `labels`, length octet first.
    label: u32,
    /// Its first set.
    sets: u32,
    count: u16,
    flags: u8,
}

/// The node is a zone cut: it is not the apex and has NS records.
pub(crate) const CUT: u8 = 1;
/// The node has a DNAME record.
pub(crate) const DNAME: u8 = 2;
/// The node has a child `*`.
pub(crate) const WILD: u8 = 4;

/// A record set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Set {
    pub(crate) rtype: Rtype,
    /// Number of records.
    pub(crate) count: u16,
    pub(crate) ttl: u32,
    at: u32,
    len: u32,
}

/// Names and their record sets.
#[derive(Clone, Debug)]
pub(crate) struct Tree {
    nodes: Vec<Node>,
    labels: Vec<u8>,
    sets: Vec<Set>,
    data: Vec<u8>,
    table: Vec<u32>,
}

impl Set {
    /// The same records with another TTL.
    pub(crate) const fn with_ttl(self, ttl: u32) -> Self {
        Self { ttl, ..self }
    }
}

/// The tree cannot be addressed with 32 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooLarge;

impl Tree {
    /// A tree with an apex alone.
    pub(crate) fn new() -> Self {
        let apex = Node { parent: FREE, label: 0, sets: 0, count: 0, flags: 0 };
        Self {
            nodes: vec![apex],
            labels: vec![0],
            sets: Vec::new(),
            data: Vec::new(),
            table: vec![FREE; 16],
        }
    }

    /// Number of nodes.
    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// The child with this lower-cased label.
    pub(crate) fn child(&self, parent: NodeId, label: &[u8]) -> Option<NodeId> {
        let mask = self.table.len() - 1;
        let mut slot = hash(parent, label) & mask;
        loop {
            let id = *self.table.get(slot)?;
            if id == FREE {
                return None;
            }
            let node = self.node(NodeId(id))?;
            if node.parent == parent.0 && self.label_at(node.label) == label {
                return Some(NodeId(id));
            }
            slot = (slot + 1) & mask;
        }
    }

    /// The child with this lower-cased label, made when it is missing.
    pub(crate) fn intern(&mut self, parent: NodeId, label: &[u8]) -> Result<NodeId, TooLarge> {
        if let Some(id) = self.child(parent, label) {
            return Ok(id);
        }
        if self.labels.len() >= ARENA_MAX || self.nodes.len() >= ARENA_MAX {
            return Err(TooLarge);
        }
        if self.nodes.len() * 3 > self.table.len() * 2 {
            self.grow();
        }
        let id = u32::try_from(self.nodes.len()).map_err(|_| TooLarge)?;
        let at = u32::try_from(self.labels.len()).map_err(|_| TooLarge)?;
        self.labels.push(u8::try_from(label.len()).map_err(|_| TooLarge)?);
        self.labels.extend_from_slice(label);
        self.nodes.push(Node { parent: parent.0, label: at, sets: 0, count: 0, flags: 0 });
        self.place(id);
        if label == b"*" {
            self.flag(parent, WILD);
        }
        Ok(NodeId(id))
    }

    fn grow(&mut self) {
        self.table = vec![FREE; self.table.len() * 2];
        for id in 1..u32::try_from(self.nodes.len()).unwrap_or(FREE) {
            self.place(id);
        }
    }

    fn place(&mut self, id: u32) {
        let Some(node) = self.node(NodeId(id)) else { return };
        let mask = self.table.len() - 1;
        let mut slot = hash(NodeId(node.parent), self.label_at(node.label)) & mask;
        while let Some(place) = self.table.get_mut(slot) {
            if *place == FREE {
                *place = id;
                return;
            }
            slot = (slot + 1) & mask;
        }
    }

    /// Sets bits of a node's flags.
    pub(crate) fn flag(&mut self, id: NodeId, flags: u8) {
        if let Some(node) = self.nodes.get_mut(index(id.0)) {
            node.flags |= flags;
        }
    }

    /// Adds a record set to `id`. Sets of a node must come one after the other.
    pub(crate) fn push_set<'r>(
        &mut self,
        id: NodeId,
        rtype: Rtype,
        ttl: u32,
        records: impl Iterator<Item = &'r [u8]>,
    ) -> Result<(), TooLarge> {
        let begin = self.data.len();
        let mut count = 0u16;
        for record in records {
            let length = u16::try_from(record.len()).map_err(|_| TooLarge)?;
            self.data.extend_from_slice(&length.to_be_bytes());
            self.data.extend_from_slice(record);
            count = count.checked_add(1).ok_or(TooLarge)?;
        }
        if self.data.len() > ARENA_MAX {
            return Err(TooLarge);
        }
        let at = u32::try_from(begin).map_err(|_| TooLarge)?;
        let len = u32::try_from(self.data.len() - begin).map_err(|_| TooLarge)?;
        let first = u32::try_from(self.sets.len()).map_err(|_| TooLarge)?;
        self.sets.push(Set { rtype, count, ttl, at, len });
        if let Some(node) = self.nodes.get_mut(index(id.0)) {
            if node.count == 0 {
                node.sets = first;
            }
            node.count += 1;
        }
        Ok(())
    }

    /// Gives spare memory back once everything is in.
    pub(crate) fn shrink(&mut self) {
        self.nodes.shrink_to_fit();
        self.labels.shrink_to_fit();
        self.sets.shrink_to_fit();
        self.data.shrink_to_fit();
    }

    /// The flags of a node.
    pub(crate) fn flags(&self, id: NodeId) -> u8 {
        self.node(id).map_or(0, |node| node.flags)
    }

    /// The record sets of a node.
    pub(crate) fn sets(&self, id: NodeId) -> &[Set] {
        let Some(node) = self.node(id) else { return &[] };
        let first = index(node.sets);
        self.sets.get(first..first + usize::from(node.count)).unwrap_or_default()
    }

    /// The record set of this type at a node.
    pub(crate) fn set(&self, id: NodeId, rtype: Rtype) -> Option<&Set> {
        self.sets(id).iter().find(|set| set.rtype == rtype)
    }

    /// The data of each record of a set, in the order of the zone text.
    pub(crate) fn records(&self, set: &Set) -> Records<'_> {
        let at = index(set.at);
        Records(self.data.get(at..at + index(set.len)).unwrap_or_default())
    }

    /// The parent of a node; None for the apex.
    pub(crate) fn parent(&self, id: NodeId) -> Option<NodeId> {
        self.node(id).filter(|node| node.parent != FREE).map(|node| NodeId(node.parent))
    }

    /// The lower-cased label of a node; empty for the apex.
    pub(crate) fn label(&self, id: NodeId) -> &[u8] {
        self.node(id).map_or(&[], |node| self.label_at(node.label))
    }

    /// The name of a node in text, where the apex is at `origin`.
    pub(crate) fn name(&self, id: NodeId, origin: &Name) -> String {
        let mut wire = Vec::new();
        let mut at = id;
        while let Some(parent) = self.parent(at) {
            let label = self.label(at);
            wire.push(u8::try_from(label.len()).unwrap_or_default());
            wire.extend_from_slice(label);
            at = parent;
        }
        wire.extend_from_slice(origin.as_wire());
        NameBuf::from_wire(&wire).map_or_else(String::new, |name| name.to_string())
    }

    /// Every node, the apex first.
    pub(crate) fn ids(&self) -> impl Iterator<Item = NodeId> + use<> {
        (0..u32::try_from(self.nodes.len()).unwrap_or(FREE)).map(NodeId)
    }

    /// Octets of memory that the tree holds.
    pub(crate) fn memory(&self) -> usize {
        self.nodes.capacity() * size_of::<Node>()
            + self.labels.capacity()
            + self.sets.capacity() * size_of::<Set>()
            + self.data.capacity()
            + self.table.capacity() * size_of::<u32>()
    }

    fn node(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(index(id.0))
    }

    fn label_at(&self, at: u32) -> &[u8] {
        let at = index(at);
        let length = self.labels.get(at).copied().map_or(0, usize::from);
        self.labels.get(at + 1..at + 1 + length).unwrap_or_default()
    }
}

/// The records of a set.
#[derive(Clone, Debug)]
pub(crate) struct Records<'t>(&'t [u8]);

impl<'t> Iterator for Records<'t> {
    type Item = &'t [u8];

    fn next(&mut self) -> Option<&'t [u8]> {
        let (length, rest) = self.0.split_first_chunk::<2>()?;
        let (record, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        self.0 = rest;
        Some(record)
    }
}

fn index(value: u32) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

/// Spreads (parent, label). Only the operator puts names in, so a secret seed buys nothing.
fn hash(parent: NodeId, label: &[u8]) -> usize {
    const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut state = u64::from(parent.0).wrapping_mul(MULTIPLIER);
    for chunk in label.chunks(8) {
        let mut word = [0; 8];
        word.iter_mut().zip(chunk).for_each(|(to, from)| *to = *from);
        state = (state.rotate_left(23) ^ u64::from_le_bytes(word)).wrapping_mul(MULTIPLIER);
    }
    let [high @ .., _, _, _, _] = (state ^ state >> 29).wrapping_mul(MULTIPLIER).to_be_bytes();
    index(u32::from_be_bytes(high))
}
