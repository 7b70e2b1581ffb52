//! The flow token (RFC 5626 5.1): what our Path carries, so that whoever has it reaches the phone by the flow that it registered by.
//!
//! It names the flow in the user part of the Path's URI, under a MAC: any node of the cluster can check it, nobody else can make one,
//! and nothing is kept for it.

use core::hash::Hasher;
use std::net::{IpAddr, SocketAddr};

use data_encoding::BASE32_DNSSEC;
use siphasher::sip::SipHasher24;

use crate::datagram::{Flow, ListenerId, Transport};

/// Makes and checks flow tokens under the keys of the cluster.
#[derive(Clone)]
pub(super) struct FlowCodec {
    keys: Vec<[u8; 16]>,
}

/// A flow token as text, fit for the user part of a SIP URI.
#[derive(Clone, Copy)]
pub(super) struct FlowToken {
    text: [u8; TOKEN_LEN_MAX],
    len: usize,
}

impl FlowCodec {
    /// A codec under `keys`: the current one first, then the one before it.
    #[must_use]
    pub(super) const fn new(keys: Vec<[u8; 16]>) -> Self {
        Self { keys }
    }

    /// Makes the token of a flow.
    #[must_use]
    pub(super) fn encode(&self, flow: &Flow) -> FlowToken {
        let mut plain = [0; PLAIN_LEN_MAX];
        let is_tcp = flow.transport == Transport::Tcp;
        let is_v6 = flow.peer.is_ipv6();
        plain[0] = if is_tcp { TCP } else { 0 } | if is_v6 { V6 } else { 0 };
        plain[1] = flow.listener.0;
        plain[2..4].copy_from_slice(&flow.peer.port().to_be_bytes());
        let said = match flow.peer.ip() {
            IpAddr::V4(ip) => {
                plain[HEAD_LEN..HEAD_LEN + 4].copy_from_slice(&ip.octets());
                HEAD_LEN + 4
            }
            IpAddr::V6(ip) => {
                plain[HEAD_LEN..HEAD_LEN + 16].copy_from_slice(&ip.octets());
                HEAD_LEN + 16
            }
        };
        let sum = mac(
            &self.keys.first().copied().unwrap_or_default(),
            &plain[..said],
        );
        plain[said..said + MAC_LEN].copy_from_slice(&sum);
        let plain = &plain[..said + MAC_LEN];
        let len = PREFIX.len() + BASE32_DNSSEC.encode_len(plain.len());
        let mut token = FlowToken {
            text: [0; TOKEN_LEN_MAX],
            len,
        };
        token.text[..PREFIX.len()].copy_from_slice(PREFIX);
        BASE32_DNSSEC.encode_mut(plain, &mut token.text[PREFIX.len()..len]);
        token
    }

    /// Reads a token; `None` where it is none of ours.
    #[must_use]
    pub(super) fn read(&self, token: &[u8]) -> Option<Flow> {
        let text = token.strip_prefix(PREFIX)?;
        let mut plain = [0; PLAIN_LEN_MAX];
        let len = BASE32_DNSSEC
            .decode_len(text.len())
            .ok()
            .filter(|len| *len <= PLAIN_LEN_MAX)?;
        BASE32_DNSSEC.decode_mut(text, plain.get_mut(..len)?).ok()?;
        let (said, sum) = plain
            .get(..len)?
            .split_at_checked(len.checked_sub(MAC_LEN)?)?;
        if !self.keys.iter().any(|key| mac(key, said) == sum) {
            return None;
        }
        let ([kind, listener, port @ ..], address) = said.split_first_chunk::<HEAD_LEN>()?;
        let ip = if kind & V6 == 0 {
            IpAddr::from(*address.first_chunk::<4>()?)
        } else {
            IpAddr::from(*address.first_chunk::<16>()?)
        };
        Some(Flow {
            listener: ListenerId(*listener),
            transport: if kind & TCP == 0 {
                Transport::Udp
            } else {
                Transport::Tcp
            },
            peer: SocketAddr::new(ip, u16::from_be_bytes(*port)),
        })
    }
}

impl FlowToken {
    /// The token's text.
    #[must_use]
    pub(super) fn as_bytes(&self) -> &[u8] {
        self.text.get(..self.len).unwrap_or_default()
    }
}

impl std::fmt::Debug for FlowCodec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FlowCodec")
    }
}

impl std::fmt::Debug for FlowToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FlowToken")
    }
}

/// Whether a user part says that it is a flow token, ours or not.
pub(super) fn is_token(user: &[u8]) -> bool {
    user.starts_with(PREFIX)
}

fn mac(key: &[u8; 16], said: &[u8]) -> [u8; MAC_LEN] {
    let mut hasher = SipHasher24::new_with_key(key);
    // No length is so great: this MAC is kept apart from those of dialog tokens under the same key.
    hasher.write(&usize::MAX.to_le_bytes());
    hasher.write(&[DOMAIN]);
    hasher.write(said);
    hasher.finish().to_be_bytes()
}

const PREFIX: &[u8] = b"flow.";
/// Keeps flow tokens apart from what else is hashed under the key.
const DOMAIN: u8 = 3;
const TCP: u8 = 1;
const V6: u8 = 2;
/// Kind, listener and port.
const HEAD_LEN: usize = 4;
const MAC_LEN: usize = 8;
const PLAIN_LEN_MAX: usize = HEAD_LEN + 16 + MAC_LEN;
const TOKEN_LEN_MAX: usize = PREFIX.len() + (PLAIN_LEN_MAX * 8).div_ceil(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flow_comes_back_and_no_altered_token_is_taken() {
        let codec = FlowCodec::new(vec![[1; 16]]);
        for peer in ["192.0.2.9:5062", "[2001:db8::9]:41000"] {
            for transport in [Transport::Udp, Transport::Tcp] {
                let flow = Flow {
                    listener: ListenerId(2),
                    transport,
                    peer: peer.parse().expect("an address"),
                };
                let token = codec.encode(&flow);
                assert_eq!(codec.read(token.as_bytes()), Some(flow));
                let rotated = FlowCodec::new(vec![[2; 16], [1; 16]]);
                assert_eq!(rotated.read(token.as_bytes()), Some(flow));
                assert_eq!(FlowCodec::new(vec![[2; 16]]).read(token.as_bytes()), None);
                for place in PREFIX.len()..token.len {
                    let mut bad = token.as_bytes().to_vec();
                    bad[place] = if bad[place] == b'0' { b'1' } else { b'0' };
                    assert_eq!(codec.read(&bad), None);
                    assert_eq!(codec.read(&token.as_bytes()[..place]), None);
                }
            }
        }
        assert_eq!(codec.read(b"flow."), None);
        assert_eq!(codec.read(&[b'a'; 500]), None);
    }
}
