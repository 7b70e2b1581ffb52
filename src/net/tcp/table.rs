//! Which connections there are: by token for epoll and the timers, by peer for what is to be sent, by source for the limit,
//! and in the order of their coming for those that have said nothing yet.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use super::connection::Connection;
use super::roster::Roster;
use crate::datagram::{Flow, ListenerId};

/// Names a connection; harmless once it is closed, even if its slot is used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) slot: u32,
    generation: u32,
}

/// All connections.
#[derive(Debug)]
pub(super) struct Table {
    slots: Vec<Slot>,
    free: Vec<u32>,
    by_peer: HashMap<(ListenerId, SocketAddr), Token>,
    /// Accepted connections of each source.
    by_source: HashMap<IpAddr, usize>,
    /// Those that have said nothing, the oldest first; some of them are gone, or have spoken since.
    silent: VecDeque<Token>,
    roster: Arc<Roster>,
    len: usize,
    len_max: usize,
}

#[derive(Debug)]
struct Slot {
    generation: u32,
    connection: Option<Connection>,
    /// Whether the roster has it.
    is_listed: bool,
}

impl Token {
    /// As epoll carries it.
    pub(super) fn to_u64(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.slot)
    }

    /// As epoll gave it back.
    pub(super) fn from_u64(value: u64) -> Self {
        let half = |value: u64| u32::try_from(value & u64::from(u32::MAX)).unwrap_or(0);
        Self {
            slot: half(value),
            generation: half(value >> 32),
        }
    }
}

impl Table {
    /// An empty table for at most `len_max` connections; `roster` is kept true.
    pub(super) fn new(len_max: usize, roster: Arc<Roster>) -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            by_peer: HashMap::new(),
            by_source: HashMap::new(),
            silent: VecDeque::new(),
            roster,
            len: 0,
            len_max: len_max.min(SLOTS_MAX),
        }
    }

    /// Adds a connection. From now on it is the one that messages to its peer take; another one to the same peer is read on.
    pub(super) fn insert(&mut self, connection: Connection) -> Token {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot {
                generation: 0,
                connection: None,
                is_listed: false,
            });
            u32::try_from(self.slots.len() - 1).expect("a table has at most SLOTS_MAX slots")
        });
        let flow = connection.flow;
        if connection.is_accepted {
            *self.by_source.entry(source(flow.peer.ip())).or_default() += 1;
        }
        let is_silent = !connection.has_spoken();
        let place = &mut self.slots[slot as usize];
        place.connection = Some(connection);
        let token = Token {
            slot,
            generation: place.generation,
        };
        if let Some(other) = self.by_peer.insert((flow.listener, flow.peer), token) {
            self.strike(other);
        }
        if is_silent {
            self.silent.push_back(token);
            self.trim_silent();
        }
        self.len += 1;
        token
    }

    /// Takes a connection out.
    pub(super) fn remove(&mut self, token: Token) -> Option<Connection> {
        self.strike(token);
        let slot = self.slots.get_mut(token.slot as usize)?;
        if slot.generation != token.generation {
            return None;
        }
        let connection = slot.connection.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(token.slot);
        self.len -= 1;
        let flow = connection.flow;
        let key = (flow.listener, flow.peer);
        if self.by_peer.get(&key) == Some(&token) {
            self.by_peer.remove(&key);
        }
        if connection.is_accepted {
            let source = source(flow.peer.ip());
            if let Some(count) = self.by_source.get_mut(&source) {
                *count -= 1;
                if *count == 0 {
                    self.by_source.remove(&source);
                }
            }
        }
        Some(connection)
    }

    /// Has the roster say what is true of a connection: that its peer is connected, where messages to it would take it.
    pub(super) fn list(&mut self, token: Token) {
        let Some(connection) = self.connection_mut(token) else {
            return;
        };
        let (flow, is_open) = (connection.flow, connection.is_open());
        if !is_open {
            return self.strike(token);
        }
        let is_listed = |slot: &Slot| slot.is_listed;
        if self.slots.get(token.slot as usize).is_some_and(is_listed)
            || self.find(&flow) != Some(token)
        {
            return;
        }
        if let Some(slot) = self.slots.get_mut(token.slot as usize) {
            slot.is_listed = true;
            self.roster.add(flow.listener, flow.peer);
        }
    }

    /// The connection of a token.
    pub(super) fn connection_mut(&mut self, token: Token) -> Option<&mut Connection> {
        let slot = self.slots.get_mut(token.slot as usize)?;
        slot.connection
            .as_mut()
            .filter(|_| slot.generation == token.generation)
    }

    /// The connection that messages by `flow` take.
    pub(super) fn find(&self, flow: &Flow) -> Option<Token> {
        self.by_peer.get(&(flow.listener, flow.peer)).copied()
    }

    /// Accepted connections of an address's network.
    pub(super) fn count_from(&self, address: IpAddr) -> usize {
        self.by_source.get(&source(address)).copied().unwrap_or(0)
    }

    /// The oldest connection that has said nothing.
    pub(super) fn oldest_silent(&mut self) -> Option<Token> {
        while let Some(token) = self.silent.pop_front() {
            if self.is_silent(token) {
                return Some(token);
            }
        }
        None
    }

    /// How many connections there are.
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// Whether there may be no more.
    pub(super) const fn is_full(&self) -> bool {
        self.len >= self.len_max
    }

    /// All tokens.
    pub(super) fn tokens(&self) -> Vec<Token> {
        let slots = self.slots.iter().zip(0_u32..);
        slots
            .filter(|(slot, _)| slot.connection.is_some())
            .map(|(place, slot)| Token {
                slot,
                generation: place.generation,
            })
            .collect()
    }

    /// Takes a connection off the roster.
    fn strike(&mut self, token: Token) {
        let Some(slot) = self.slots.get_mut(token.slot as usize) else {
            return;
        };
        let Some(connection) = &slot.connection else {
            return;
        };
        if slot.generation == token.generation && std::mem::take(&mut slot.is_listed) {
            let flow = connection.flow;
            self.roster.remove(flow.listener, flow.peer);
        }
    }

    fn is_silent(&mut self, token: Token) -> bool {
        self.connection_mut(token)
            .is_some_and(|connection| !connection.has_spoken())
    }

    /// Keeps the queue of the silent to twice the connections that there may be.
    fn trim_silent(&mut self) {
        if self.silent.len() > 2 * self.len_max + SILENT_SLACK {
            let mut silent = std::mem::take(&mut self.silent);
            silent.retain(|token| self.is_silent(*token));
            self.silent = silent;
        }
    }
}

/// Whom an address belongs to, as far as limits go: itself, or of IPv6 its /64, which one host may have all of.
fn source(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(),
    }
}

/// Slots above it name listeners and the outbox.
pub(super) const SLOTS_MAX: usize = 1 << 24;
const SILENT_SLACK: usize = 64;

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;
    use crate::datagram::Transport;
    use crate::time::Instant;

    /// Connections need sockets; whose they are is the test's to say.
    fn stream() -> TcpStream {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        TcpStream::connect(listener.local_addr().expect("bound")).expect("it listens")
    }

    fn flow(peer: &str) -> Flow {
        Flow {
            listener: ListenerId(0),
            transport: Transport::Tcp,
            peer: peer.parse().expect("an address"),
        }
    }

    fn accepted(peer: &str) -> Connection {
        Connection::accepted(stream(), flow(peer), Instant::EPOCH)
    }

    #[test]
    fn a_token_names_its_connection_and_no_later_one() {
        let roster = Arc::new(Roster::new(4));
        let mut table = Table::new(4, Arc::clone(&roster));
        let first = table.insert(accepted("192.0.2.1:1"));
        table.list(first);
        assert!(roster.has(ListenerId(0), flow("192.0.2.1:1").peer));
        assert_eq!(Token::from_u64(first.to_u64()), first);
        assert!(table.remove(first).is_some() && table.remove(first).is_none());
        assert!(!roster.has(ListenerId(0), flow("192.0.2.1:1").peer));
        let second = table.insert(accepted("192.0.2.1:2"));
        assert_eq!((second.slot, second == first), (first.slot, false));
        assert!(
            table.connection_mut(first).is_none() && table.find(&flow("192.0.2.1:1")).is_none()
        );
        assert_eq!(table.find(&flow("192.0.2.1:2")), Some(second));
    }

    #[test]
    fn the_latest_connection_to_a_peer_is_the_one_that_is_used() {
        let roster = Arc::new(Roster::new(4));
        let mut table = Table::new(4, Arc::clone(&roster));
        let (to, peer) = (flow("192.0.2.1:1"), flow("192.0.2.1:1").peer);
        let first = table.insert(accepted("192.0.2.1:1"));
        table.list(first);
        let second = table.insert(accepted("192.0.2.1:1"));
        table.list(second);
        assert_eq!(table.find(&to), Some(second));
        table.remove(first);
        assert_eq!(table.find(&to), Some(second));
        assert!(roster.has(ListenerId(0), peer));
        table.remove(second);
        assert!(table.find(&to).is_none() && !roster.has(ListenerId(0), peer));
    }

    #[test]
    fn sources_are_counted_and_an_ipv6_network_is_one() {
        let mut table = Table::new(4, Arc::new(Roster::new(4)));
        let first = table.insert(accepted("[2001:db8::1]:1"));
        table.insert(accepted("[2001:db8::ffff:1]:1"));
        table.insert(accepted("[2001:db8:0:1::1]:1"));
        let network = "2001:db8::77".parse().expect("an address");
        assert_eq!(table.count_from(network), 2);
        table.remove(first);
        assert_eq!((table.count_from(network), table.len()), (1, 2));
    }

    #[test]
    fn the_oldest_that_said_nothing_is_found_and_the_queue_does_not_grow() {
        let mut table = Table::new(2, Arc::new(Roster::new(2)));
        for _ in 0..1_000 {
            let token = table.insert(accepted("192.0.2.1:1"));
            table.remove(token);
        }
        assert!(table.silent.len() <= 2 * 2 + SILENT_SLACK);
        let first = table.insert(accepted("192.0.2.1:2"));
        table.insert(accepted("192.0.2.1:3"));
        assert!(table.is_full());
        assert_eq!(table.oldest_silent(), Some(first));
    }
}
