//! A network interface as the workers see it: what the headers of a frame need, kept current by the neighbour thread.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::netlink::LinkState;
use crate::wire::ethernet::Mac;

/// An interface on which AF_XDP sockets serve.
#[derive(Debug)]
pub(super) struct Device {
    /// The kernel's index.
    pub(super) index: u32,
    /// Its name when it was opened.
    pub(super) name: String,
    /// Whether it is `lo`, where our own address is a lawful source.
    pub(super) is_loopback: bool,
    /// How many queues it has.
    pub(super) queues: u32,
    mac: AtomicU64,
    mtu: AtomicU32,
}

impl Device {
    /// Makes one from what the kernel says.
    pub(super) fn new(state: &LinkState, queues: u32) -> Self {
        let device = Self {
            index: state.index,
            name: state.name.clone(),
            is_loopback: state.is_loopback,
            queues,
            mac: AtomicU64::new(0),
            mtu: AtomicU32::new(0),
        };
        device.update(state);
        device
    }

    /// Takes over a change.
    pub(super) fn update(&self, state: &LinkState) {
        let Mac([a, b, c, d, e, f]) = state.mac.unwrap_or_default();
        self.mac.store(
            u64::from_be_bytes([0, 0, a, b, c, d, e, f]),
            Ordering::Relaxed,
        );
        self.mtu.store(state.mtu, Ordering::Relaxed);
    }

    /// Its MAC address; all zeros where it has none, as `lo`.
    pub(super) fn mac(&self) -> Mac {
        let [_, _, a, b, c, d, e, f] = self.mac.load(Ordering::Relaxed).to_be_bytes();
        Mac([a, b, c, d, e, f])
    }

    /// The longest IP packet that it sends.
    pub(super) fn mtu(&self) -> usize {
        usize::try_from(self.mtu.load(Ordering::Relaxed)).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_seen() {
        let mut state = LinkState {
            index: 3,
            name: "eth0".to_owned(),
            mac: Some(Mac([2, 4, 6, 8, 10, 12])),
            mtu: 1_500,
            is_loopback: false,
            is_up: true,
        };
        let device = Device::new(&state, 2);
        assert_eq!(
            (device.mac(), device.mtu()),
            (Mac([2, 4, 6, 8, 10, 12]), 1_500)
        );
        state.mtu = 9_000;
        state.mac = None;
        device.update(&state);
        assert_eq!((device.mac(), device.mtu()), (Mac::default(), 9_000));
    }
}
