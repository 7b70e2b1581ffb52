//! The kernel's sockets beside AF_XDP: hardly anything comes by them (fragments, and what XDP passed on), and to look is a system call.

use crate::limits::KERNEL_SOCKET_TURNS;
use crate::net::{Backend, Receiver};

/// When those sockets are looked at.
#[derive(Debug)]
pub(super) struct Beside {
    /// Whether there is AF_XDP at all.
    is_wanted: bool,
    /// The receivers, by their places, that had something when the worker last slept.
    readable: u64,
    turns: u32,
}

impl Beside {
    /// For a worker's receivers.
    pub(super) fn new(receivers: &[Box<dyn Receiver + Send>]) -> Self {
        let mut backends = receivers.iter().map(|receiver| receiver.backend());
        Self {
            is_wanted: backends.any(|backend| backend == Backend::AfXdp),
            readable: 0,
            turns: 0,
        }
    }

    /// A turn begins.
    pub(super) fn begin(&mut self) {
        self.turns = self.turns.wrapping_add(1);
    }

    /// Whether a receiver is looked at in this turn. A kernel's socket beside AF_XDP is when it had something, and in one turn of some, since a
    /// busy worker never sleeps; all others always are.
    pub(super) fn is_due(&self, place: usize, backend: Backend) -> bool {
        let is_beside = self.is_wanted && backend == Backend::Udp;
        !is_beside
            || self.readable & bit(place) != 0
            || self.turns.is_multiple_of(KERNEL_SOCKET_TURNS)
    }

    /// A receiver had something while the worker slept.
    pub(super) fn wake(&mut self, place: usize) {
        self.readable |= bit(place);
    }

    /// A receiver has nothing more.
    pub(super) fn drain(&mut self, place: usize) {
        self.readable &= !bit(place);
    }
}

/// A worker has far fewer receivers than bits; were there more, those past the last would share its bit.
fn bit(place: usize) -> u64 {
    1 << place.min(63)
}
