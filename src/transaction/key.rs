//! How a request finds its server transaction (RFC 3261 17.2.3).

use crate::keyed_hash;

/// What identifies a server transaction: a keyed 128-bit hash of branch, sent-by and method.
///
/// Two requests with one key are one transaction: at 128 keyed bits a chance match is not to be expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ServerKey(u128);

/// Makes keys; its own key keeps senders from aiming at each other's transactions.
#[derive(Clone, Copy)]
pub struct ServerKeys {
    key: [u8; 16],
}

impl ServerKeys {
    /// Hashes under `key`.
    #[must_use]
    pub const fn new(key: [u8; 16]) -> Self {
        Self { key }
    }

    /// The key of a request whose topmost branch begins with the cookie; `method` is INVITE for its ACK and its CANCEL.
    #[must_use]
    pub fn rfc3261(&self, branch: &[u8], sent_by: &[u8], method: &[u8]) -> ServerKey {
        self.hash(&[branch, sent_by, method])
    }

    /// The key of a request from an RFC 2543 client: Request-URI, From tag, Call-ID, CSeq number, topmost Via, method.
    ///
    /// The To tag is left out, so that the ACK of a final response (which has one) finds its INVITE (which has none).
    #[must_use]
    pub fn rfc2543(&self, parts: &[&[u8]; 6]) -> ServerKey {
        self.hash(parts)
    }

    fn hash(&self, parts: &[&[u8]]) -> ServerKey {
        ServerKey(keyed_hash::wide(&self.key, parts))
    }
}

impl ServerKey {
    /// The part of the key that a hash table wants.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the low half of a uniform hash is a hash"
    )]
    pub const fn folded(self) -> u64 {
        self.0 as u64
    }
}

impl std::fmt::Debug for ServerKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ServerKeys")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_do_not_run_into_each_other() {
        let keys = ServerKeys::new([9; 16]);
        assert_ne!(
            keys.rfc3261(b"ab", b"c", b"INVITE"),
            keys.rfc3261(b"a", b"bc", b"INVITE")
        );
        assert_eq!(
            keys.rfc3261(b"ab", b"c", b"INVITE"),
            keys.rfc3261(b"ab", b"c", b"INVITE")
        );
        assert_ne!(
            keys.rfc3261(b"ab", b"c", b"INVITE"),
            keys.rfc3261(b"ab", b"c", b"BYE")
        );
    }
}
