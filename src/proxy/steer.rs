//! Steering: which worker a request belongs to.
//!
//! A request, its retransmissions, its CANCEL and ACK, and the BYE of its call carry one Call-ID: a keyed hash of it names
//! the worker, whatever queue the packet arrives on. A response goes to the worker that its Via branch names.

use core::hash::Hasher;

use memchr::memmem::Finder;
use siphasher::sip::SipHasher13;

use crate::datagram::WorkerId;
use crate::transaction::id::{COOKIE, glance};

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

/// Names the owner of a message that nobody has read yet.
///
/// It may be mistaken (a Call-ID in a body, where that of the head is written otherwise): whoever gets the message reads it, and steers it
/// by what it then says.
#[derive(Debug)]
pub(super) struct Glance {
    call_id: Finder<'static>,
    branch: Finder<'static>,
}

impl Glance {
    pub(super) fn new() -> Self {
        Self {
            call_id: Finder::new(b"\nCall-ID:"),
            branch: Finder::new(COOKIE),
        }
    }

    /// Whose a message looks to be; `None` where that cannot be told at a glance, or is for any worker to say.
    pub(super) fn owner(&self, steering: &Steering, bytes: &[u8]) -> Option<WorkerId> {
        if steering.workers == 1 {
            return None;
        }
        if bytes.starts_with(b"SIP/2.0 ") {
            let top = bytes.get(..TOP_LEN).unwrap_or(bytes);
            let branch = top.get(self.branch.find(top)?..)?;
            let (owner, _) = glance(branch)?;
            return (owner.0 < steering.workers).then_some(owner);
        }
        let is_for_any = |method: &&[u8]| bytes.starts_with(method);
        if FOR_ANY_WORKER.iter().any(is_for_any) {
            return None;
        }
        let field = bytes.get(self.call_id.find(bytes)? + b"\nCall-ID:".len()..)?;
        let line = field.get(..memchr::memchr(b'\r', field)?)?.trim_ascii();
        (!line.is_empty()).then(|| steering.owner(line))
    }
}

/// What may be answered where it came, and what is the cluster's.
const FOR_ANY_WORKER: [&[u8]; 3] = [b"REGISTER ", b"OPTIONS ", b"KDMQ "];
/// The bytes of a response among which its topmost branch is.
const TOP_LEN: usize = 512;

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

    #[test]
    fn a_glance_agrees_with_the_steering_of_what_is_read() {
        let (steering, glance) = (Steering::new([7; 16], 8), Glance::new());
        for n in 0..100 {
            let call_id = format!("{n}@192.0.2.{n}");
            let owner = Some(steering.owner(call_id.as_bytes()));
            for line in ["Call-ID: ", "Call-ID:", "Call-ID: \t "] {
                let request =
                    format!("BYE sip:a@b SIP/2.0\r\nCSeq: 1 BYE\r\n{line}{call_id} \r\n\r\n");
                assert_eq!(glance.owner(&steering, request.as_bytes()), owner);
            }
        }
    }

    #[test]
    fn what_cannot_be_told_at_a_glance_is_left_to_be_read() {
        let (steering, glance) = (Steering::new([7; 16], 8), Glance::new());
        for message in [
            "REGISTER sip:b SIP/2.0\r\nCall-ID: 1\r\n\r\n",
            "OPTIONS sip:b SIP/2.0\r\nCall-ID: 1\r\n\r\n",
            "KDMQ sip:notification_peer@b SIP/2.0\r\nCall-ID: 1\r\n\r\n",
            "BYE sip:a@b SIP/2.0\r\ni: 1\r\n\r\n",
            "BYE sip:a@b SIP/2.0\r\nCall-ID:\r\n 1\r\n\r\n",
            "BYE sip:a@b SIP/2.0\r\nCall-ID: 1",
            "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP b;branch=z9hG4bKother\r\n\r\n",
            "SIP/2.0 200 OK\r\n\r\n",
            "\r\n\r\n",
            "",
        ] {
            assert_eq!(
                glance.owner(&steering, message.as_bytes()),
                None,
                "{message}"
            );
        }
        let alone = Steering::new([7; 16], 1);
        let request = b"BYE sip:a@b SIP/2.0\r\nCall-ID: 1\r\n\r\n";
        assert_eq!(glance.owner(&alone, request), None);
    }

    #[test]
    fn a_response_goes_to_the_worker_that_its_branch_names() {
        let (steering, glance) = (Steering::new([7; 16], 3), Glance::new());
        for worker in 0..5 {
            let mut name = [0; 8];
            crate::base32::encode(&[worker, 0, 0, 0, 9], &mut name);
            let name = std::str::from_utf8(&name).expect("letters");
            let response = format!(
                "SIP/2.0 180 Ringing\r\nVia: SIP/2.0/UDP b;branch=z9hG4bK{name}rest\r\n\r\n"
            );
            let owner = (worker < 3).then_some(WorkerId(worker));
            assert_eq!(glance.owner(&steering, response.as_bytes()), owner);
        }
    }
}
