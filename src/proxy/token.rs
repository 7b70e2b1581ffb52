//! The dialog token: what our Record-Route carries, so that in-dialog requests are known for ours after any restart.
//!
//! It is a MAC over the Call-ID and the caller's tag, in the user part of the Record-Route URI: valid only in a request
//! with a To tag, with that Call-ID, and with that tag in From or To. Any node of the cluster can check it. Where a phone is
//! behind NAT, or on a TCP connection, the token also says, under the same MAC, where it is reached.

use std::net::{IpAddr, SocketAddr};

use crate::base32;
use crate::datagram::{Destination, Transport};
use crate::keyed_hash;

/// Where the two ends of a dialog are reached, if not where their Contact says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// Where the caller is behind its NAT, or its connection.
    pub caller: Option<Destination>,
    /// Where the callee is.
    pub callee: Option<Destination>,
}

/// A token that was found valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verified {
    /// What it says of NATs.
    pub reach: Reach,
    /// Whether this request comes from the caller (whose tag is then in From) rather than from the callee.
    pub from_caller: bool,
}

/// Makes and checks tokens under the keys of the cluster.
#[derive(Clone)]
pub struct TokenCodec {
    keys: Vec<[u8; 16]>,
}

/// A token as text.
#[derive(Clone, Copy)]
pub struct Token {
    text: [u8; TOKEN_LEN_MAX],
    len: usize,
}

const PREFIX: &[u8] = b"st";
const MAC_LEN: usize = 8;
const CALLER_V4: u8 = 1;
const CALLER_V6: u8 = 2;
const CALLEE_V4: u8 = 4;
const CALLEE_V6: u8 = 8;
const CALLER_TCP: u8 = 16;
const CALLEE_TCP: u8 = 32;
const PLAIN_LEN_MAX: usize = 1 + 2 * 18 + MAC_LEN;
/// The longest token: both ends behind NAT, over IPv6.
pub const TOKEN_LEN_MAX: usize = PREFIX.len() + (PLAIN_LEN_MAX * 8).div_ceil(5);

impl TokenCodec {
    /// A codec under `keys`: the current one first, then the one before it.
    #[must_use]
    pub fn new(keys: Vec<[u8; 16]>) -> Self {
        Self { keys }
    }

    /// Makes the token of a dialog.
    #[must_use]
    pub fn encode(&self, call_id: &[u8], caller_tag: &[u8], reach: &Reach) -> Token {
        let mut plain = [0; PLAIN_LEN_MAX];
        let mut len = 1;
        for (destination, v4, v6, tcp) in [
            (reach.caller, CALLER_V4, CALLER_V6, CALLER_TCP),
            (reach.callee, CALLEE_V4, CALLEE_V6, CALLEE_TCP),
        ] {
            let Some(Destination { transport, address }) = destination else {
                continue;
            };
            let mut put = |bytes: &[u8]| {
                plain[len..len + bytes.len()].copy_from_slice(bytes);
                len += bytes.len();
            };
            match address.ip() {
                IpAddr::V4(ip) => put(&ip.octets()),
                IpAddr::V6(ip) => put(&ip.octets()),
            }
            put(&address.port().to_be_bytes());
            plain[0] |= if address.is_ipv4() { v4 } else { v6 };
            plain[0] |= if transport == Transport::Tcp { tcp } else { 0 };
        }
        let key = self.keys.first().copied().unwrap_or_default();
        let sum = mac(&key, call_id, caller_tag, &plain[..len]);
        plain[len..len + MAC_LEN].copy_from_slice(&sum);
        let plain = &plain[..len + MAC_LEN];

        let mut token = Token {
            text: [0; TOKEN_LEN_MAX],
            len: 0,
        };
        token.len = PREFIX.len() + base32::encoded_len(plain.len());
        token.text[..PREFIX.len()].copy_from_slice(PREFIX);
        base32::encode(plain, &mut token.text[PREFIX.len()..token.len]);
        token
    }

    /// Checks a token against the request that carries it; `None` if it is not ours or not this dialog's.
    #[must_use]
    pub fn verify(
        &self,
        token: &[u8],
        call_id: &[u8],
        from_tag: &[u8],
        to_tag: &[u8],
    ) -> Option<Verified> {
        let encoded = token.strip_prefix(PREFIX)?;
        let mut buffer = [0; PLAIN_LEN_MAX];
        let len = base32::decoded_len(encoded.len())?;
        if !base32::decode(encoded, buffer.get_mut(..len)?) {
            return None;
        }
        let (said, sum) = buffer
            .get(..len)?
            .split_at_checked(len.checked_sub(MAC_LEN)?)?;
        let is_of = |tag: &[u8]| {
            self.keys
                .iter()
                .any(|key| mac(key, call_id, tag, said) == sum)
        };
        let from_caller = is_of(from_tag);
        if !from_caller && !is_of(to_tag) {
            return None;
        }
        let (flags, mut rest) = said.split_first()?;
        let is_set = |flag| flags & flag != 0;
        let caller = take_address(&mut rest, is_set(CALLER_V4), is_set(CALLER_V6))?;
        let callee = take_address(&mut rest, is_set(CALLEE_V4), is_set(CALLEE_V6))?;
        let reached = |address: Option<SocketAddr>, by_tcp| {
            let transport = if by_tcp {
                Transport::Tcp
            } else {
                Transport::Udp
            };
            address.map(|address| Destination { transport, address })
        };
        Some(Verified {
            reach: Reach {
                caller: reached(caller, is_set(CALLER_TCP)),
                callee: reached(callee, is_set(CALLEE_TCP)),
            },
            from_caller,
        })
    }
}

impl Verified {
    /// Where the end is reached that a request goes to, if not where its Contact says.
    #[must_use]
    pub const fn other_end(&self) -> Option<Destination> {
        if self.from_caller {
            self.reach.callee
        } else {
            self.reach.caller
        }
    }

    /// What two tokens of one dialog say together: of a request that passed us twice, each saw one neighbour.
    #[must_use]
    pub fn joined(mut self, other: &Self) -> Self {
        self.reach.caller = self.reach.caller.or(other.reach.caller);
        self.reach.callee = self.reach.callee.or(other.reach.callee);
        self
    }
}

impl Token {
    /// The token's text, fit for the user part of a SIP URI.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.text[..self.len]
    }
}

impl std::fmt::Debug for TokenCodec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenCodec")
    }
}

/// Takes one optional address off the front; the outer `None` means that the token is cut short.
fn take_address(rest: &mut &[u8], is_v4: bool, is_v6: bool) -> Option<Option<SocketAddr>> {
    let ip: IpAddr = if is_v4 {
        let (octets, after) = rest.split_first_chunk::<4>()?;
        *rest = after;
        IpAddr::from(*octets)
    } else if is_v6 {
        let (octets, after) = rest.split_first_chunk::<16>()?;
        *rest = after;
        IpAddr::from(*octets)
    } else {
        return Some(None);
    };
    let (port, after) = rest.split_first_chunk::<2>()?;
    *rest = after;
    Some(Some(SocketAddr::new(ip, u16::from_be_bytes(*port))))
}

fn mac(key: &[u8; 16], call_id: &[u8], caller_tag: &[u8], said: &[u8]) -> [u8; MAC_LEN] {
    keyed_hash::mac(key, &[call_id, caller_tag, said], b"").to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reach() -> Reach {
        Reach {
            caller: Some(Destination {
                transport: Transport::Tcp,
                address: "198.51.100.7:1024".parse().expect("an address"),
            }),
            callee: Some(Destination {
                transport: Transport::Udp,
                address: "[2001:db8::1]:5062".parse().expect("an address"),
            }),
        }
    }

    #[test]
    fn a_token_is_good_in_its_dialog_alone() {
        let codec = TokenCodec::new(vec![[1; 16]]);
        let token = codec.encode(b"call", b"alice", &reach());
        let from_caller = codec
            .verify(token.as_bytes(), b"call", b"alice", b"bob")
            .expect("valid");
        assert_eq!(
            from_caller,
            Verified {
                reach: reach(),
                from_caller: true
            }
        );
        let from_callee = codec
            .verify(token.as_bytes(), b"call", b"bob", b"alice")
            .expect("valid");
        assert!(!from_callee.from_caller);
        assert_eq!(
            codec.verify(token.as_bytes(), b"other", b"alice", b"bob"),
            None
        );
        assert_eq!(
            codec.verify(token.as_bytes(), b"call", b"eve", b"bob"),
            None
        );
    }

    #[test]
    fn a_token_outlives_one_rotation_of_the_keys() {
        let token = TokenCodec::new(vec![[1; 16]]).encode(b"call", b"alice", &Reach::default());
        let rotated = TokenCodec::new(vec![[2; 16], [1; 16]]);
        assert!(
            rotated
                .verify(token.as_bytes(), b"call", b"alice", b"bob")
                .is_some()
        );
        let twice = TokenCodec::new(vec![[3; 16], [2; 16]]);
        assert!(
            twice
                .verify(token.as_bytes(), b"call", b"alice", b"bob")
                .is_none()
        );
    }

    #[test]
    fn rubbish_is_no_token() {
        let codec = TokenCodec::new(vec![[1; 16]]);
        let whole = codec.encode(b"call", b"alice", &reach());
        for len in 0..whole.as_bytes().len() {
            assert_eq!(
                codec.verify(&whole.as_bytes()[..len], b"call", b"alice", b"bob"),
                None
            );
        }
        assert_eq!(codec.verify(&[b'a'; 500], b"call", b"alice", b"bob"), None);
    }
}
