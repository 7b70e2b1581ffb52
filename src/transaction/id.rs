//! The name of a client transaction, and the Via branch that carries it (RFC 3261 8.1.1.7).
//!
//! A branch of ours is the cookie and 50 letters of base32: worker, slot, generation, server id, start epoch, loop hash
//! (RFC 5393 4.2) and a keyed MAC over all of it. So a response is an index into a table, and one that we did not ask for
//! (forged, or from before a restart) is told apart before any table is touched.

use crate::base32;
use crate::datagram::WorkerId;
use crate::keyed_hash;

/// How often a slot has been reused: a response to a former tenant does not match.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Generation(pub u32);

/// A client transaction of this process: whose it is, and where in its table it lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TransactionId {
    /// The worker that owns it.
    pub worker: WorkerId,
    /// Its slot in that worker's table.
    pub slot: u32,
    /// The slot's generation.
    pub generation: Generation,
}

/// What a branch of ours says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Branch {
    /// The client transaction.
    pub id: TransactionId,
    /// The node of the cluster that made it.
    pub server_id: u16,
    /// The start of the process that made it: 64 random bits.
    pub epoch: u64,
    /// The loop-detection hash (RFC 5393 4.2.1).
    pub loop_hash: u32,
}

/// Makes and reads branches: the node, its start, and the keys of the cluster.
#[derive(Clone)]
pub struct BranchCodec {
    server_id: u16,
    epoch: u64,
    keys: Vec<[u8; 16]>,
}

/// Why a response's branch names no transaction of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BranchError {
    /// It has not the shape of ours.
    Foreign,
    /// It has, but its MAC is wrong.
    Forged,
    /// It was ours before a restart, or another node's.
    Stale,
}

/// The length of a branch of ours in the Via header, cookie included.
pub const BRANCH_LEN: usize = COOKIE.len() + ENCODED_LEN;

/// The cookie that every branch begins with (RFC 3261 8.1.1.7).
pub const COOKIE: &[u8] = b"z9hG4bK";

const PLAIN_LEN: usize = 1 + 4 + 4 + 2 + 8 + 4 + MAC_LEN;
const MAC_LEN: usize = 8;
const ENCODED_LEN: usize = (PLAIN_LEN * 8).div_ceil(5);

impl BranchCodec {
    /// A codec for this node and this start of it; `keys` has the current key first, then the one before it.
    #[must_use]
    pub fn new(server_id: u16, epoch: u64, keys: Vec<[u8; 16]>) -> Self {
        Self {
            server_id,
            epoch,
            keys,
        }
    }

    /// Writes the branch that names `id`.
    #[must_use]
    pub fn encode(&self, id: TransactionId, loop_hash: u32) -> [u8; BRANCH_LEN] {
        let mut plain = [0; PLAIN_LEN];
        plain[0] = id.worker.0;
        plain[1..5].copy_from_slice(&id.slot.to_be_bytes());
        plain[5..9].copy_from_slice(&id.generation.0.to_be_bytes());
        plain[9..11].copy_from_slice(&self.server_id.to_be_bytes());
        plain[11..19].copy_from_slice(&self.epoch.to_be_bytes());
        plain[19..23].copy_from_slice(&loop_hash.to_be_bytes());
        let key = self.keys.first().copied().unwrap_or_default();
        let mac = mac(&key, &plain[..PLAIN_LEN - MAC_LEN]);
        plain[PLAIN_LEN - MAC_LEN..].copy_from_slice(&mac);
        let mut branch = [0; BRANCH_LEN];
        branch[..COOKIE.len()].copy_from_slice(COOKIE);
        base32::encode(&plain, &mut branch[COOKIE.len()..]);
        branch
    }

    /// Reads a branch that carries our MAC, whichever node and start of the cluster made it.
    ///
    /// # Errors
    /// [`BranchError::Foreign`] and [`BranchError::Forged`].
    pub fn decode(&self, branch: &[u8]) -> Result<Branch, BranchError> {
        let encoded: &[u8; ENCODED_LEN] = branch
            .strip_prefix(COOKIE)
            .and_then(|text| text.try_into().ok())
            .ok_or(BranchError::Foreign)?;
        let mut plain = [0; PLAIN_LEN];
        if !base32::decode(encoded, &mut plain) {
            return Err(BranchError::Foreign);
        }
        let (said, sum) = plain.split_at(PLAIN_LEN - MAC_LEN);
        if !self.keys.iter().any(|key| mac(key, said) == sum) {
            return Err(BranchError::Forged);
        }
        let mut fields = Fields(said);
        let [worker] = fields.take();
        Ok(Branch {
            id: TransactionId {
                worker: WorkerId(worker),
                slot: u32::from_be_bytes(fields.take()),
                generation: Generation(u32::from_be_bytes(fields.take())),
            },
            server_id: u16::from_be_bytes(fields.take()),
            epoch: u64::from_be_bytes(fields.take()),
            loop_hash: u32::from_be_bytes(fields.take()),
        })
    }

    /// Reads the branch of a response: it must be of this node and of this start.
    ///
    /// # Errors
    /// Any [`BranchError`].
    pub fn decode_own(&self, branch: &[u8]) -> Result<Branch, BranchError> {
        let branch = self.decode(branch)?;
        if branch.server_id == self.server_id && branch.epoch == self.epoch {
            Ok(branch)
        } else {
            Err(BranchError::Stale)
        }
    }
}

/// Whose a branch is and which slot it names, if it is of ours. Nothing of it is verified: a hint.
#[must_use]
pub fn glance(branch: &[u8]) -> Option<(WorkerId, u32)> {
    let letters = branch.strip_prefix(COOKIE)?.first_chunk::<8>()?;
    let mut plain = [0; 5];
    if !base32::decode(letters, &mut plain) {
        return None;
    }
    let [worker, slot @ ..] = plain;
    Some((WorkerId(worker), u32::from_be_bytes(slot)))
}

impl std::fmt::Debug for BranchCodec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BranchCodec")
            .field("server_id", &self.server_id)
            .finish_non_exhaustive()
    }
}

/// The fields of a plain branch, taken one after the other.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let (field, rest) = self
            .0
            .split_first_chunk()
            .expect("the fields add up to PLAIN_LEN");
        self.0 = rest;
        *field
    }
}

fn mac(key: &[u8; 16], plain: &[u8]) -> [u8; MAC_LEN] {
    keyed_hash::mac(key, &[], plain).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codec(epoch: u64, keys: Vec<[u8; 16]>) -> BranchCodec {
        BranchCodec::new(7, epoch, keys)
    }

    fn id() -> TransactionId {
        TransactionId {
            worker: WorkerId(3),
            slot: 0x00a1_b2c3,
            generation: Generation(9),
        }
    }

    #[test]
    fn a_branch_names_its_transaction() {
        let codec = codec(42, vec![[1; 16]]);
        let branch = codec.encode(id(), 0xfeed);
        assert!(branch.starts_with(COOKIE) && branch.is_ascii());
        let read = codec.decode_own(&branch).expect("our own branch");
        assert_eq!(glance(&branch), Some((id().worker, id().slot)));
        assert_eq!((read.id, read.loop_hash), (id(), 0xfeed));
    }

    #[test]
    fn a_change_of_any_letter_is_a_forgery() {
        let codec = codec(42, vec![[1; 16]]);
        let branch = codec.encode(id(), 0);
        for at in COOKIE.len()..BRANCH_LEN {
            let mut forged = branch;
            forged[at] = if forged[at] == b'0' { b'1' } else { b'0' };
            assert!(codec.decode(&forged).is_err(), "letter {at}");
        }
    }

    #[test]
    fn a_restart_makes_it_stale_and_a_rotation_does_not() {
        let before = codec(1, vec![[1; 16]]).encode(id(), 0);
        assert_eq!(
            codec(2, vec![[1; 16]]).decode_own(&before),
            Err(BranchError::Stale)
        );
        assert!(codec(1, vec![[2; 16], [1; 16]]).decode_own(&before).is_ok());
        assert_eq!(
            codec(1, vec![[2; 16]]).decode_own(&before),
            Err(BranchError::Forged)
        );
        assert_eq!(
            codec(1, vec![[2; 16]]).decode_own(b"z9hG4bK77"),
            Err(BranchError::Foreign)
        );
    }
}
