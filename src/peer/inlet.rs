//! What the workers and the TCP threads received for the cluster: KDMQ messages in pooled buffers, in one bounded queue, from those
//! alone who are listened to.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicU32, Ordering};

use ipnet::IpNet;
use parking_lot::RwLock;

use crate::datagram::ListenerId;
use crate::limits::{KDMQ_INLET_LARGE_LEN, KDMQ_INLET_LEN, KDMQ_INLET_SHARE};
use crate::net::{Conveyor, Parcel};
use crate::replication::NodeAddress;

/// The queue, and who may use it.
#[derive(Debug)]
pub struct Inlet {
    conveyor: Conveyor<Label>,
    /// The listener whose KDMQ is ours; none: DMQ has an address of its own.
    listener: Option<ListenerId>,
    allow: Vec<IpNet>,
    /// The addresses of the nodes that the configuration names, each with how many of its messages wait.
    seeds: RwLock<Vec<(IpAddr, AtomicU32)>>,
    /// As much of all others.
    others: AtomicU32,
}

/// Why a message was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InletError {
    /// Its sender is not listened to.
    NotAllowed,
    /// There is no room, or its sender has its share of it.
    Full,
}

/// A message that waits, or that comes back since no connection took it.
#[derive(Debug)]
pub(super) struct Label {
    /// The node that it came from, or that it was for.
    pub(super) node: NodeAddress,
    /// Whether it is one of ours, not sent.
    pub(super) is_undelivered: bool,
}

/// A message on its way to the cluster.
pub(super) type Letter = Parcel<Label>;

impl Inlet {
    pub(super) fn new(allow: Vec<IpNet>, listener: Option<ListenerId>) -> io::Result<Self> {
        Ok(Self {
            conveyor: Conveyor::new(KDMQ_INLET_LEN, KDMQ_INLET_LARGE_LEN)?,
            listener,
            allow,
            seeds: RwLock::default(),
            others: AtomicU32::new(0),
        })
    }

    /// Whether KDMQ that comes by a listener is the cluster's.
    #[must_use]
    pub fn is_of(&self, listener: ListenerId) -> bool {
        self.listener == Some(listener)
    }

    /// Leaves a copy of a message for the cluster.
    ///
    /// # Errors
    /// [`InletError`]; a datagram comes again, and a stream is not read on meanwhile.
    pub fn post(&self, from: NodeAddress, bytes: &[u8]) -> Result<(), InletError> {
        let seeds = self.seeds.read();
        let seed = seeds.iter().find(|(seed, _)| *seed == from.ip());
        let is_allowed = seed.is_some() || self.allow.iter().any(|net| net.contains(&from.ip()));
        if !is_allowed {
            return Err(InletError::NotAllowed);
        }
        // One node that floods leaves room for the others.
        let waiting = seed.map_or(&self.others, |(_, waiting)| waiting);
        if waiting.fetch_add(1, Ordering::Relaxed) >= KDMQ_INLET_SHARE {
            waiting.fetch_sub(1, Ordering::Relaxed);
            return Err(InletError::Full);
        }
        let label = Label {
            node: from,
            is_undelivered: false,
        };
        let posted = self.carry(label, bytes);
        if posted.is_err() {
            waiting.fetch_sub(1, Ordering::Relaxed);
        }
        posted
    }

    /// Gives back a message that no connection took to `node`.
    ///
    /// # Errors
    /// [`InletError::Full`].
    pub fn give_back(&self, node: NodeAddress, bytes: &[u8]) -> Result<(), InletError> {
        let label = Label {
            node,
            is_undelivered: true,
        };
        self.carry(label, bytes)
    }

    /// Who is listened to beside the networks that are.
    pub(super) fn set_seeds(&self, seeds: impl Iterator<Item = IpAddr>) {
        let mut ips: Vec<IpAddr> = seeds.collect();
        ips.sort_unstable();
        ips.dedup();
        let mut held = self.seeds.write();
        held.retain(|(ip, _)| ips.contains(ip));
        for ip in ips {
            if !held.iter().any(|(known, _)| *known == ip) {
                held.push((ip, AtomicU32::new(0)));
            }
        }
    }

    pub(super) fn take(&self) -> Option<Letter> {
        let letter = self.conveyor.take()?;
        if !letter.label.is_undelivered {
            let seeds = self.seeds.read();
            let seed = seeds
                .iter()
                .find(|(seed, _)| *seed == letter.label.node.ip());
            let waiting = seed.map_or(&self.others, |(_, waiting)| waiting);
            // Who became a seed meanwhile is counted from now on.
            let less = |count: u32| count.checked_sub(1);
            let _ = waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        }
        Some(letter)
    }

    pub(super) fn discard(&self, letter: Letter) {
        self.conveyor.discard(letter);
    }

    /// Whether nothing waits, so that the cluster's thread may sleep: whoever posts from here on wakes it.
    pub(super) fn may_sleep(&self) -> bool {
        self.conveyor.may_sleep()
    }

    pub(super) fn awake(&self, was_woken: bool) {
        self.conveyor.awake(was_woken);
    }

    fn carry(&self, label: Label, bytes: &[u8]) -> Result<(), InletError> {
        let copy = |room: &mut [u8]| room.copy_from_slice(bytes);
        let posted = self.conveyor.post(label, bytes.len(), copy);
        posted.map_err(|_| InletError::Full)
    }
}

impl AsFd for Inlet {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.conveyor.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(text: &str) -> NodeAddress {
        NodeAddress::udp(text.parse().expect("an address"))
    }

    #[test]
    fn who_is_not_listened_to_takes_no_room_and_who_floods_takes_its_share() {
        let allow = vec!["192.0.2.0/24".parse().expect("a network")];
        let inlet = Inlet::new(allow, None).expect("an eventfd");
        let (seed, learned) = (node("198.51.100.1:5060"), node("192.0.2.9:5060"));
        assert_eq!(inlet.post(seed, b"KDMQ"), Err(InletError::NotAllowed));
        inlet.set_seeds([seed.ip()].into_iter());
        let flood = |from| {
            let posted = (0..KDMQ_INLET_LEN).filter(|_| inlet.post(from, b"KDMQ").is_ok());
            posted.count()
        };
        let share = KDMQ_INLET_SHARE as usize;
        assert_eq!((flood(learned), flood(seed)), (share, share));
        let mut taken = 0;
        while let Some(letter) = inlet.take() {
            assert_eq!(letter.bytes(), b"KDMQ");
            inlet.discard(letter);
            taken += 1;
        }
        assert_eq!(taken, 2 * share);
        assert_eq!(flood(seed), share);
    }
}
