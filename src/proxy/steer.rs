//! Steering: which worker a request belongs to.
//!
//! A request, its retransmissions, its CANCEL and ACK, and the BYE of its call carry one Call-ID: a keyed hash of it names
//! the worker, whatever queue the packet arrives on. A response goes to the worker that its Via branch names.

use core::hash::Hasher;

use siphasher::sip::SipHasher13;

use crate::datagram::WorkerId;

/// Names the owner of a Call-ID.
#[derive(Clone, Copy)]
pub struct Steering {
    key: [u8; 16],
    workers: u8,
}

impl Steering {
    /// Spreads Call-IDs over `workers` workers (at least one) by a hash under `key`.
    #[must_use]
    pub fn new(key: [u8; 16], workers: u8) -> Self {
        Self {
            key,
            workers: workers.max(1),
        }
    }

    /// The worker that owns the transactions of this Call-ID.
    #[must_use]
    pub fn owner(&self, call_id: &[u8]) -> WorkerId {
        if self.workers == 1 {
            return WorkerId(0);
        }
        let mut hasher = SipHasher13::new_with_key(&self.key);
        hasher.write(call_id);
        let share = (u128::from(hasher.finish()) * u128::from(self.workers)) >> 64;
        WorkerId(u8::try_from(share).expect("a share is less than the number of workers"))
    }
}

impl std::fmt::Debug for Steering {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Steering")
            .field("workers", &self.workers)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_owner_is_a_function_of_the_call_id_and_spreads() {
        let steering = Steering::new([5; 16], 4);
        let mut share = [0_u32; 4];
        for n in 0..4_000_u32 {
            let call_id = format!("{n}-1234@192.0.2.1");
            let owner = steering.owner(call_id.as_bytes());
            assert_eq!(owner, steering.owner(call_id.as_bytes()));
            share[usize::from(owner.0)] += 1;
        }
        assert!(share.iter().all(|n| (850..1_150).contains(n)), "{share:?}");
    }
}
