//! What the responses of a batch will need of the table is asked for before the first of them is served; `location` does the same.

use super::server::Server;
use super::table::Table;

/// Client transactions that responses of a batch name, by their slots.
#[derive(Debug)]
pub struct Ahead<const N: usize> {
    slots: [u32; N],
    len: usize,
}

impl<const N: usize> Default for Ahead<N> {
    fn default() -> Self {
        Self {
            slots: [0; N],
            len: 0,
        }
    }
}

impl<const N: usize> Ahead<N> {
    /// One more. It is a hint: whether there is such a transaction is not asked.
    pub fn push(&mut self, slot: u32) {
        if let Some(place) = self.slots.get_mut(self.len) {
            *place = slot;
            self.len += 1;
        }
    }
}

impl<S, C> Table<S, C> {
    /// Asks for what a response finds: the client transaction, its server transaction, the timers of both, and those which they are linked
    /// to in the wheel. Each of the four reads what the one before has asked for.
    pub fn look_ahead<const N: usize>(&self, ahead: &mut Ahead<N>) {
        let len = std::mem::take(&mut ahead.len);
        let slots = ahead.slots.get(..len).unwrap_or_default();
        for slot in slots {
            self.clients.prefetch(*slot);
        }
        let clients = || slots.iter().filter_map(|slot| self.clients.at(*slot));
        for client in clients() {
            self.servers.prefetch(client.server);
            client.timers().for_each(|id| self.wheel.prefetch(id));
        }
        for client in clients() {
            let timers = client.timers();
            timers.for_each(|id| self.wheel.prefetch_neighbours(id));
            let server = self.servers.at(client.server);
            let timers = server.into_iter().flat_map(Server::timers);
            timers.for_each(|id| self.wheel.prefetch(id));
        }
        for server in clients().filter_map(|client| self.servers.at(client.server)) {
            let timers = server.timers();
            timers.for_each(|id| self.wheel.prefetch_neighbours(id));
        }
    }
}
