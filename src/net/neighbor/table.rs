//! The tables that workers read: destinations, and the next hops that destinations share.
//!
//! One thread writes, all workers read, and neither waits for the other. A destination lies in a bucket of slots, each under
//! a version number of its own that is odd while the slot is being written (a sequence lock): a reader who finds it changed
//! takes the slot for another's. A next hop is one word, so a neighbour's change is one store, however many destinations lie
//! behind it.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};

use crate::datagram::ListenerId;
use crate::limits::{NEIGHBORS_MAX, NEXT_HOPS_MAX};
use crate::wire::ethernet::Mac;

/// A next hop, by its place in the table and by which of the hops that have stood there it is: a destination that is read
/// while everything is forgotten must not come out at another's hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct HopIndex {
    pub(super) place: u16,
    pub(super) generation: u16,
}

/// What is known of a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// It is reached by this next hop, with packets of at most `mtu` bytes.
    NextHop { hop: HopIndex, mtu: u16 },
    /// The kernel must send what goes there.
    Kernel,
}

/// Destinations and next hops. The methods that write are for one thread alone.
#[derive(Debug)]
pub(super) struct Table {
    slots: Box<[Slot]>,
    hops: Box<[Hop]>,
    keys: RandomState,
}

#[derive(Debug, Default)]
struct Slot {
    version: AtomicU64,
    high: AtomicU64,
    low: AtomicU64,
    /// Zero: empty. Else, from the top, bytes: [`BY_HOP`] or [`BY_KERNEL`], the listener, the MTU (2), the next hop's
    /// generation (2), its place (2).
    value: AtomicU64,
}

#[derive(Debug, Default)]
struct Hop {
    /// Zero: not known. Else the MAC address above the hop's generation.
    mac: AtomicU64,
    /// Whether a worker has used it since the thread last asked.
    used: AtomicBool,
}

impl Table {
    /// Makes empty tables of full size.
    pub(super) fn new() -> Self {
        Self {
            slots: (0..NEIGHBORS_MAX).map(|_| Slot::default()).collect(),
            hops: (0..NEXT_HOPS_MAX).map(|_| Hop::default()).collect(),
            keys: RandomState::new(),
        }
    }

    /// What is known of a destination.
    pub(super) fn find(&self, listener: ListenerId, destination: IpAddr) -> Option<Answer> {
        let key = Key::new(listener, destination);
        self.bucket(&key)
            .iter()
            .find_map(|slot| key.answer(slot.read()?))
    }

    /// The MAC address of a next hop, if it is known; notes that it is in use.
    pub(super) fn mac(&self, hop: HopIndex) -> Option<Mac> {
        let generation = hop.generation;
        let hop = self.hops.get(usize::from(hop.place))?;
        let word = hop.mac.load(Ordering::Relaxed);
        let [a, b, c, d, e, f, high, low] = word.to_be_bytes();
        if word == 0 || u16::from_be_bytes([high, low]) != generation {
            return None;
        }
        // Read first: a line that nobody writes stays in every worker's cache.
        if !hop.used.load(Ordering::Relaxed) {
            hop.used.store(true, Ordering::Relaxed);
        }
        Some(Mac([a, b, c, d, e, f]))
    }

    /// Whether a next hop was used since the last time this was asked.
    pub(super) fn take_used(&self, hop: HopIndex) -> bool {
        let hop = self.hops.get(usize::from(hop.place));
        hop.is_some_and(|hop| hop.used.swap(false, Ordering::Relaxed))
    }

    /// Sets the MAC address of a next hop, or that it has none.
    pub(super) fn set_mac(&self, hop: HopIndex, mac: Option<Mac>) {
        let [high, low] = hop.generation.to_be_bytes();
        let word = mac.map_or(0, |Mac([a, b, c, d, e, f])| {
            u64::from_be_bytes([a, b, c, d, e, f, high, low])
        });
        if let Some(hop) = self.hops.get(usize::from(hop.place)) {
            hop.mac.store(word, Ordering::Relaxed);
        }
    }

    /// Puts a destination in: over its older self, into an empty slot of its bucket, or over the one that `turn` chooses.
    pub(super) fn insert(
        &self,
        listener: ListenerId,
        destination: IpAddr,
        answer: Answer,
        turn: usize,
    ) {
        let key = Key::new(listener, destination);
        let bucket = self.bucket(&key);
        let own = bucket
            .iter()
            .position(|slot| slot.read().is_some_and(|entry| key.answer(entry).is_some()));
        let empty = || {
            bucket
                .iter()
                .position(|slot| slot.value.load(Ordering::Relaxed) == 0)
        };
        let index = own.or_else(empty).unwrap_or(turn % BUCKET_LEN);
        if let Some(slot) = bucket.get(index) {
            slot.write(&key.entry(answer));
        }
    }

    /// Forgets every destination within a prefix.
    pub(super) fn forget(&self, prefix: IpAddr, len: u8) {
        let (prefix, family_bits) = bits(prefix);
        let len = u32::from(len) + family_bits;
        let mask = u128::MAX
            .checked_shl(128_u32.saturating_sub(len))
            .unwrap_or(0);
        for slot in &self.slots {
            let Some(entry) = slot.read() else { continue };
            if entry.value != 0 && (entry.address ^ prefix) & mask == 0 {
                slot.write(&Entry {
                    address: 0,
                    value: 0,
                });
            }
        }
    }

    /// Forgets every destination and every next hop.
    pub(super) fn forget_all(&self) {
        for slot in &self.slots {
            slot.write(&Entry {
                address: 0,
                value: 0,
            });
        }
        for hop in &self.hops {
            hop.mac.store(0, Ordering::Relaxed);
        }
    }

    /// The slots where a destination may lie.
    fn bucket(&self, key: &Key) -> &[Slot] {
        let hash = self.keys.hash_one((key.address, key.listener));
        let buckets = NEIGHBORS_MAX / BUCKET_LEN;
        let first = usize::try_from(hash % buckets as u64).unwrap_or(0) * BUCKET_LEN;
        self.slots
            .get(first..first + BUCKET_LEN)
            .unwrap_or_default()
    }
}

/// What a slot holds.
#[derive(Clone, Copy)]
struct Entry {
    address: u128,
    value: u64,
}

impl Slot {
    /// Reads the slot; `None` where it is being written.
    fn read(&self) -> Option<Entry> {
        let before = self.version.load(Ordering::Acquire);
        let high = self.high.load(Ordering::Relaxed);
        let low = self.low.load(Ordering::Relaxed);
        let value = self.value.load(Ordering::Relaxed);
        fence(Ordering::Acquire);
        let is_whole = before & 1 == 0 && self.version.load(Ordering::Relaxed) == before;
        is_whole.then(|| Entry {
            address: u128::from(high) << 64 | u128::from(low),
            value,
        })
    }

    /// Writes the slot.
    fn write(&self, entry: &Entry) {
        let version = self.version.load(Ordering::Relaxed);
        self.version
            .store(version.wrapping_add(1), Ordering::Relaxed);
        fence(Ordering::Release);
        let [high, low] = halves(entry.address);
        self.high.store(high, Ordering::Relaxed);
        self.low.store(low, Ordering::Relaxed);
        self.value.store(entry.value, Ordering::Relaxed);
        self.version
            .store(version.wrapping_add(2), Ordering::Release);
    }
}

/// What a destination is looked up by.
struct Key {
    address: u128,
    listener: u8,
}

impl Key {
    fn new(listener: ListenerId, destination: IpAddr) -> Self {
        Self {
            address: bits(destination).0,
            listener: listener.0,
        }
    }

    /// The entry that says `answer` of this destination.
    fn entry(&self, answer: Answer) -> Entry {
        let [kind, mtu, generation, place] = match answer {
            Answer::NextHop { hop, mtu } => [BY_HOP, mtu, hop.generation, hop.place].map(u64::from),
            Answer::Kernel => [BY_KERNEL, 0, 0, 0].map(u64::from),
        };
        let listener = u64::from(self.listener);
        let value = kind << 56 | listener << 48 | mtu << 32 | generation << 16 | place;
        Entry {
            address: self.address,
            value,
        }
    }

    /// What an entry says, if it is of this destination.
    fn answer(&self, entry: Entry) -> Option<Answer> {
        let [kind, listener, m0, m1, g0, g1, p0, p1] = entry.value.to_be_bytes();
        if kind == 0 || listener != self.listener || entry.address != self.address {
            return None;
        }
        if u16::from(kind) == BY_KERNEL {
            return Some(Answer::Kernel);
        }
        let hop = HopIndex {
            place: u16::from_be_bytes([p0, p1]),
            generation: u16::from_be_bytes([g0, g1]),
        };
        Some(Answer::NextHop {
            hop,
            mtu: u16::from_be_bytes([m0, m1]),
        })
    }
}

/// An address as 128 bits, an IPv4 one mapped into IPv6, and how many of them stand before its own.
fn bits(address: IpAddr) -> (u128, u32) {
    match address {
        IpAddr::V4(address) => (address.to_ipv6_mapped().to_bits(), 96),
        IpAddr::V6(address) => (address.to_bits(), 0),
    }
}

/// The upper and the lower half.
fn halves(bits: u128) -> [u64; 2] {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = bits.to_be_bytes();
    [
        u64::from_be_bytes([a, b, c, d, e, f, g, h]),
        u64::from_be_bytes([i, j, k, l, m, n, o, p]),
    ]
}

/// Slots of a bucket: four cache lines.
const BUCKET_LEN: usize = 8;

/// The kinds of entry.
const BY_HOP: u16 = 1;
const BY_KERNEL: u16 = 2;

const _: () = assert!(NEXT_HOPS_MAX <= 1 << 16, "a place is 16 bits");

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicBool;
    use std::thread;

    const LISTENER: ListenerId = ListenerId(3);

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn hop(place: u16) -> Answer {
        Answer::NextHop {
            hop: HopIndex {
                place,
                generation: 9,
            },
            mtu: 1_400,
        }
    }

    #[test]
    fn what_is_put_in_is_found_by_its_listener_alone() {
        let table = Table::new();
        assert_eq!(table.find(LISTENER, ip("192.0.2.1")), None);
        table.insert(LISTENER, ip("192.0.2.1"), hop(0), 0);
        table.insert(LISTENER, ip("2001:db8::1"), Answer::Kernel, 0);
        assert_eq!(table.find(LISTENER, ip("192.0.2.1")), Some(hop(0)));
        assert_eq!(
            table.find(LISTENER, ip("2001:db8::1")),
            Some(Answer::Kernel)
        );
        assert_eq!(table.find(ListenerId(0), ip("192.0.2.1")), None);
        table.insert(LISTENER, ip("192.0.2.1"), hop(7), 0);
        assert_eq!(table.find(LISTENER, ip("192.0.2.1")), Some(hop(7)));
    }

    #[test]
    fn a_prefix_takes_what_lies_in_it_and_nothing_else() {
        let table = Table::new();
        let inside = ["192.0.2.1", "192.0.2.255"];
        let outside = ["192.0.3.1", "2001:db8::1", "::1"];
        for address in inside.into_iter().chain(outside) {
            table.insert(LISTENER, ip(address), hop(1), 0);
        }
        table.forget(ip("192.0.2.0"), 24);
        for address in inside {
            assert_eq!(table.find(LISTENER, ip(address)), None);
        }
        for address in outside {
            assert_eq!(table.find(LISTENER, ip(address)), Some(hop(1)));
        }
        table.forget(ip("0.0.0.0"), 0);
        assert_eq!(table.find(LISTENER, ip("192.0.3.1")), None);
        assert_eq!(table.find(LISTENER, ip("2001:db8::1")), Some(hop(1)));
        table.forget(ip("::"), 0);
        assert_eq!(table.find(LISTENER, ip("::1")), None);
    }

    #[test]
    fn a_next_hop_is_one_word() {
        let table = Table::new();
        let mac = Mac([0, 0, 0, 0, 0, 0]);
        let hop = HopIndex {
            place: 5,
            generation: 1,
        };
        assert_eq!(table.mac(hop), None);
        table.set_mac(hop, Some(mac));
        assert!(!table.take_used(hop));
        assert_eq!(table.mac(hop), Some(mac));
        assert!(table.take_used(hop));
        assert!(!table.take_used(hop));
        assert_eq!(
            table.mac(HopIndex {
                generation: 2,
                ..hop
            }),
            None
        );
        table.set_mac(hop, None);
        assert_eq!(table.mac(hop), None);
        assert_eq!(
            table.mac(HopIndex {
                place: u16::MAX,
                generation: 1
            }),
            None
        );
    }

    #[test]
    fn a_full_table_forgets_old_destinations_and_keeps_the_newest() {
        let table = Table::new();
        let count = u32::try_from(2 * NEIGHBORS_MAX).expect("small");
        for n in 0..count {
            let address = IpAddr::from(n.to_be_bytes());
            let turn = usize::try_from(n).expect("small");
            let answer = hop(u16::try_from(n % 1_000).expect("small"));
            table.insert(LISTENER, address, answer, turn);
            assert_eq!(table.find(LISTENER, address), Some(answer));
        }
        table.forget_all();
        assert_eq!(
            table.find(LISTENER, IpAddr::from((count - 1).to_be_bytes())),
            None
        );
    }

    #[test]
    fn a_reader_never_sees_half_a_write() {
        let table = Table::new();
        let over = AtomicBool::new(false);
        let addresses = [ip("2001:db8::1"), ip("2001:db9:1::1")];
        thread::scope(|scope| {
            scope.spawn(|| {
                for n in 0..200_000_u32 {
                    // Both into one slot: the bucket is chosen by hand.
                    let index = u16::from(n % 2 == 1);
                    let key = Key::new(LISTENER, addresses[usize::from(index)]);
                    table.slots[0].write(&key.entry(hop(index)));
                }
                over.store(true, Ordering::Relaxed);
            });
            while !over.load(Ordering::Relaxed) {
                for (index, address) in (0..).zip(addresses) {
                    let key = Key::new(LISTENER, address);
                    if let Some(answer) = table.slots[0].read().and_then(|entry| key.answer(entry))
                    {
                        assert_eq!(answer, hop(index));
                    }
                }
            }
        });
    }
}
