//! How many TCP connections there may be, in all and of one client (RFC 7766 section 6.2.2).
//!
//! A client over its own limit is turned away. When the server is full, the connection that has
//! waited longest for its client makes room: it is owed no answer and its client can connect again
//! (RFC 7766 section 6.2.3). A message that has begun and does not end keeps no place. When none
//! waits, the newcomer is turned away.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv6Addr};

/// Connections at a time. With all of them in use there are still descriptors left under the
/// customary limit of 1 024 per process, and their buffers take a few megabytes.
pub(crate) const CONNECTIONS_MAX: usize = 512;

/// Connections at a time of one client: a resolver should need one (RFC 7766 section 6.2.2); many
/// resolvers behind one address fit as well.
pub(crate) const PER_CLIENT_MAX: usize = 64;

/// A connection's number, never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Id(u64);

/// Whether a new connection is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// It is.
    Welcome(Id),
    /// It is, and the second one is to be closed for it.
    InPlaceOf(Id, Id),
    /// It is not.
    Refused,
}

/// The connections there are.
pub(crate) struct Connections {
    most: usize,
    most_per_client: usize,
    open: HashMap<Id, Open>,
    clients: HashMap<IpAddr, usize>,
    /// Those that wait for their clients, by since when.
    idle: BTreeMap<u64, Id>,
    /// Counts events; gives both numbers and the order of idleness.
    clock: u64,
}

struct Open {
    client: IpAddr,
    idle_since: Option<u64>,
}

impl Connections {
    pub(crate) fn new(most: usize, most_per_client: usize) -> Self {
        Self {
            most,
            most_per_client,
            open: HashMap::new(),
            clients: HashMap::new(),
            idle: BTreeMap::new(),
            clock: 0,
        }
    }

    /// Asks for a connection from `address`. It counts as busy.
    pub(crate) fn admit(&mut self, address: IpAddr) -> Admission {
        let client = client_of(address);
        if self.clients.get(&client).is_some_and(|count| *count >= self.most_per_client) {
            return Admission::Refused;
        }
        let mut victim = None;
        if self.open.len() >= self.most {
            let Some((_, longest)) = self.idle.pop_first() else { return Admission::Refused };
            self.leave(longest);
            victim = Some(longest);
        }
        let id = Id(self.tick());
        self.open.insert(id, Open { client, idle_since: None });
        *self.clients.entry(client).or_default() += 1;
        victim.map_or(Admission::Welcome(id), |victim| Admission::InPlaceOf(id, victim))
    }

    /// The connection waits for its client: for a message, or for the rest of one. Saying so again
    /// changes nothing.
    pub(crate) fn idle(&mut self, id: Id) {
        let now = self.tick();
        if let Some(open) = self.open.get_mut(&id)
            && open.idle_since.is_none()
        {
            open.idle_since = Some(now);
            self.idle.insert(now, id);
        }
    }

    /// The connection has a whole message to answer.
    pub(crate) fn busy(&mut self, id: Id) {
        let since = self.open.get_mut(&id).and_then(|open| open.idle_since.take());
        if let Some(since) = since {
            self.idle.remove(&since);
        }
    }

    /// The connection is gone. Saying so twice is harmless.
    pub(crate) fn leave(&mut self, id: Id) {
        let Some(open) = self.open.remove(&id) else { return };
        if let Some(since) = open.idle_since {
            self.idle.remove(&since);
        }
        if let Some(count) = self.clients.get_mut(&open.client) {
            *count -= 1;
            if *count == 0 {
                self.clients.remove(&open.client);
            }
        }
    }

    const fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }
}

/// Who counts as one client: an IPv4 address, or an IPv6 /64, which one host can fill alone.
fn client_of(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    fn welcome(admission: Admission) -> Id {
        let Admission::Welcome(id) = admission else { panic!("{admission:?}") };
        id
    }

    #[test]
    fn one_client_is_turned_away_and_others_are_not() {
        let mut connections = Connections::new(8, 2);
        let first = welcome(connections.admit(v4(1)));
        welcome(connections.admit(v4(1)));
        assert_eq!(connections.admit(v4(1)), Admission::Refused);
        welcome(connections.admit(v4(2)));
        connections.leave(first);
        connections.leave(first);
        welcome(connections.admit(v4(1)));
        assert_eq!(connections.admit(v4(1)), Admission::Refused);
    }

    #[test]
    fn the_longest_idle_makes_room_and_busy_ones_do_not() {
        let mut connections = Connections::new(3, 3);
        let ids = [1, 2, 3].map(|last| welcome(connections.admit(v4(last))));
        assert_eq!(connections.admit(v4(4)), Admission::Refused);
        connections.idle(ids[1]);
        connections.idle(ids[0]);
        connections.idle(ids[1]);
        connections.busy(ids[1]);
        connections.idle(ids[1]);
        let Admission::InPlaceOf(fourth, victim) = connections.admit(v4(4)) else { panic!() };
        assert_eq!(victim, ids[0]);
        let Admission::InPlaceOf(_, victim) = connections.admit(v4(5)) else { panic!() };
        assert_eq!(victim, ids[1]);
        assert_eq!(connections.admit(v4(6)), Admission::Refused);
        connections.idle(ids[0]);
        assert_eq!(connections.admit(v4(6)), Admission::Refused);
        connections.leave(fourth);
        welcome(connections.admit(v4(6)));
    }

    #[test]
    fn an_ipv6_network_is_one_client() {
        let mut connections = Connections::new(9, 1);
        welcome(connections.admit("2001:db8::1".parse().unwrap()));
        assert_eq!(connections.admit("2001:db8::2".parse().unwrap()), Admission::Refused);
        welcome(connections.admit("2001:db8:0:1::2".parse().unwrap()));
    }

    #[test]
    fn nothing_is_left_when_all_are_gone() {
        let mut connections = Connections::new(100, 10);
        let ids: Vec<Id> = (0..50).map(|n| welcome(connections.admit(v4(n)))).collect();
        ids.iter().step_by(2).for_each(|id| connections.idle(*id));
        ids.iter().for_each(|id| connections.leave(*id));
        assert!(connections.open.is_empty() && connections.idle.is_empty());
        assert!(connections.clients.is_empty());
    }
}
