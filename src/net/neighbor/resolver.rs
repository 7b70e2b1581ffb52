//! The thread that answers the workers' questions and keeps the answers true.
//!
//! A destination's route is asked for once, and forgotten when a route that covers it changes. Its next hop is looked up once,
//! and follows the kernel's events from then on. A next hop in use is made known to the kernel at intervals: since frames of
//! ours go past its own tables, it would otherwise let the neighbour grow stale and never find that it is gone.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::table::{Answer, HopIndex};
use super::{Neighbors, Origin};
use crate::datagram::ListenerId;
use crate::limits::{
    NEIGHBOR_CONFIRMATIONS_MAX, NEIGHBOR_QUESTIONS_MAX, NEXT_HOPS_MAX, PACKET_LEN_MAX,
};
use crate::net::netlink::{Event, Events, Requests};
use crate::net::poll;

/// The thread's state.
pub(super) struct Resolver {
    neighbors: Arc<Neighbors>,
    origins: Vec<Origin>,
    requests: Requests,
    events: Events,
    /// The next hops by interface and address, and in the order of their places.
    hops: HashMap<(u32, IpAddr), HopIndex>,
    order: Vec<(u32, IpAddr)>,
    /// How often everything has been forgotten.
    generation: u16,
    /// Where the next round of confirmations begins.
    next_confirmed: usize,
    confirm_at: Instant,
    /// Chooses whom a full bucket forgets.
    turn: usize,
}

impl Resolver {
    /// Opens the netlink sockets.
    pub(super) fn new(neighbors: Arc<Neighbors>, origins: Vec<Origin>) -> io::Result<Self> {
        Ok(Self {
            neighbors,
            origins,
            requests: Requests::new()?,
            events: Events::new()?,
            hops: HashMap::new(),
            order: Vec::new(),
            generation: 0,
            next_confirmed: 0,
            confirm_at: Instant::now() + CONFIRM_EVERY,
            turn: 0,
        })
    }

    /// Runs until the cache is over.
    pub(super) fn run(&mut self) {
        while !self.neighbors.is_over.load(Ordering::Acquire) {
            let timeout = self.confirm_at.saturating_duration_since(Instant::now());
            poll::wait([self.events.as_fd(), self.neighbors.as_fd()], timeout);
            self.take_events();
            self.take_questions();
            if Instant::now() >= self.confirm_at {
                self.confirm();
                self.confirm_at = Instant::now() + CONFIRM_EVERY;
            }
        }
    }

    /// Takes over what the kernel says has changed.
    fn take_events(&mut self) {
        let mut events = Vec::new();
        self.events.drain(|event| events.push(event));
        let routes = events
            .iter()
            .filter(|event| matches!(event, Event::Route { .. }))
            .count();
        if routes > ROUTES_ONE_BY_ONE {
            self.forget_all();
        }
        for event in events {
            match event {
                Event::Neighbor {
                    interface,
                    address,
                    mac,
                } => {
                    if let Some(hop) = self.hops.get(&(interface, address)) {
                        self.neighbors.table.set_mac(*hop, mac);
                    }
                }
                Event::Route { prefix, len } => {
                    if routes <= ROUTES_ONE_BY_ONE {
                        self.neighbors.table.forget(prefix, len);
                    }
                }
                Event::Link(state) => {
                    for origin in &self.origins {
                        if origin.device.index == state.index {
                            origin.device.update(&state);
                        }
                    }
                    // The kernel does not tell of the IPv4 routes that an interface takes down with it.
                    if !state.is_up {
                        self.forget_all();
                    }
                }
                Event::Routes | Event::Lost => self.forget_all(),
            }
        }
    }

    /// Answers what the workers asked.
    fn take_questions(&mut self) {
        self.neighbors.wake.clear();
        self.neighbors.is_woken.store(false, Ordering::Release);
        // Bounded, so that a flood of questions does not keep the events waiting: the rest wake us again.
        for _ in 0..NEIGHBOR_QUESTIONS_MAX {
            let Some((listener, destination)) = self.neighbors.questions.pop() else {
                return;
            };
            // A failure of netlink leaves the destination unknown: the kernel serves it, and the next message asks again.
            let _ = self.answer(listener, destination);
        }
        self.neighbors.wake.wake();
    }

    /// Looks one destination up and puts it into the table.
    fn answer(&mut self, listener: ListenerId, destination: IpAddr) -> io::Result<()> {
        let origin = self
            .origins
            .iter()
            .find(|origin| origin.listener == listener);
        let Some(Origin {
            address, device, ..
        }) = origin
        else {
            return Ok(());
        };
        let index = device.index;
        let scope = is_link_local(destination).then_some(index);
        let answer = match self.requests.route(destination, *address, scope)? {
            Some(route) if route.interface == index => {
                let path = route
                    .mtu
                    .and_then(|mtu| u16::try_from(mtu).ok())
                    .unwrap_or(MTU_MAX);
                Answer::NextHop {
                    hop: self.hop(index, route.next_hop)?,
                    mtu: path,
                }
            }
            // By another interface than the one whose sockets send for this listener, or by none.
            Some(_) | None => Answer::Kernel,
        };
        self.turn = self.turn.wrapping_add(1);
        self.neighbors
            .table
            .insert(listener, destination, answer, self.turn);
        Ok(())
    }

    /// The index of a next hop, with what the kernel knows of it now.
    fn hop(&mut self, interface: u32, address: IpAddr) -> io::Result<HopIndex> {
        if let Some(hop) = self.hops.get(&(interface, address)) {
            return Ok(*hop);
        }
        if self.order.len() >= NEXT_HOPS_MAX {
            self.forget_all();
        }
        let place = u16::try_from(self.order.len()).map_err(io::Error::other)?;
        let hop = HopIndex {
            place,
            generation: self.generation,
        };
        let mac = self.requests.neighbor(interface, address)?;
        if mac.is_none() {
            // Without the privilege the kernel's own message resolves it.
            let _ = self.requests.use_neighbor(interface, address);
        }
        self.order.push((interface, address));
        self.hops.insert((interface, address), hop);
        self.neighbors.table.set_mac(hop, mac);
        Ok(hop)
    }

    /// Tells the kernel which next hops are in use.
    fn confirm(&mut self) {
        let count = self.order.len();
        let mut told = 0;
        for step in 0..count {
            if told == NEIGHBOR_CONFIRMATIONS_MAX {
                self.next_confirmed = (self.next_confirmed + step) % count;
                return;
            }
            let index = (self.next_confirmed + step) % count;
            let Some((interface, address)) = self.order.get(index).copied() else {
                return;
            };
            let Ok(place) = u16::try_from(index) else {
                return;
            };
            let hop = HopIndex {
                place,
                generation: self.generation,
            };
            if self.neighbors.table.take_used(hop) {
                told += 1;
                // A refusal leaves the neighbour to the kernel's own traffic, as above.
                let _ = self.requests.use_neighbor(interface, address);
            }
        }
    }

    /// Forgets everything; the workers ask again.
    fn forget_all(&mut self) {
        self.neighbors.table.forget_all();
        self.hops.clear();
        self.order.clear();
        self.generation = self.generation.wrapping_add(1);
        self.next_confirmed = 0;
    }
}

/// Whether an address means something on one link alone.
fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => Ipv6Addr::is_unicast_link_local(&address),
    }
}

/// How often next hops in use are made known to the kernel: within its 5 s (`delay_first_probe_time`), so that it confirms
/// them before they grow stale.
const CONFIRM_EVERY: Duration = Duration::from_secs(4);

/// Changes of routes taken one by one, each of which is a walk over the table; more at once: everything is forgotten.
const ROUTES_ONE_BY_ONE: usize = 16;

/// What stands for "as wide as the interface": no frame is longer than this.
const MTU_MAX: u16 = u16::MAX;

const _: () = assert!(PACKET_LEN_MAX <= MTU_MAX as usize);
