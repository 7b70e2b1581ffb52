//! The flow token (RFC 5626 5.1): what our Path carries, so that whoever has it reaches the phone by the flow that it registered by.
//!
//! It names the flow in the user part of the Path's URI, under a MAC: any node of the cluster can check it, nobody else can make one,
//! and nothing is kept for it.

#![forbid(unsafe_code)]

use core::hash::Hasher;
use std::net::{IpAddr, SocketAddr};

use data_encoding::BASE32_DNSSEC;
use siphasher::sip::SipHasher24;

use crate::datagram::{Flow, ListenerId, Transport};

/// Makes and checks flow tokens under the keys of the cluster.
#[derive(Clone)]
pub struct FlowCodec {
    keys: Vec<[u8; 16]>,
}

/// A flow token as text, fit for the user part of a SIP URI.
#[derive(Clone, Copy)]
pub struct FlowToken {
    text: [u8; TOKEN_LEN_MAX],
    len: usize,
}

/// What a token says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Read {
    /// The flow.
    pub flow: Flow,
    /// Whether a node of the cluster made it for this very call, which it has let in.
    pub is_vouched: bool,
    /// Whether our listener is the one that the URI names: another node may have made it, which does not know our numbers.
    pub is_by_name: bool,
}

impl FlowCodec {
    /// A codec under `keys`: the current one first, then the one before it.
    #[must_use]
    pub const fn new(keys: Vec<[u8; 16]>) -> Self {
        Self { keys }
    }

    /// Makes the token of a flow.
    #[must_use]
    pub fn encode(&self, flow: &Flow) -> FlowToken {
        self.write(flow, 0, b"")
    }

    /// Makes the token by which a Kamailio of the cluster sends calls on to the node that has the flow, whose listener the URI names.
    #[must_use]
    pub fn encode_named(&self, flow: &Flow) -> FlowToken {
        self.write(flow, NAMED, b"")
    }

    /// Whether it is such a token, under one of the keys.
    #[must_use]
    pub fn is_named(&self, token: &[u8]) -> bool {
        let said = self.read(token, b"");
        said.is_some_and(|said| said.is_by_name && !said.is_vouched)
    }

    fn write(&self, flow: &Flow, kind: u8, call_id: &[u8]) -> FlowToken {
        let mut plain = [0; PLAIN_LEN_MAX];
        let is_tcp = flow.transport == Transport::Tcp;
        let is_v6 = flow.peer.is_ipv6();
        plain[0] = if is_tcp { TCP } else { 0 } | if is_v6 { V6 } else { 0 };
        plain[0] |= kind;
        plain[1] = if kind == NAMED { 0 } else { flow.listener.0 };
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
            call_id,
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

    /// Makes the token by which a node of the cluster sends the requests of one call on to the node that has the flow: it says as well
    /// that the call was let in.
    #[must_use]
    pub fn encode_call(&self, flow: &Flow, call_id: &[u8]) -> FlowToken {
        self.write(flow, CALL, call_id)
    }

    /// Reads a token that a request with this Call-ID bears; `None` where it is none of ours.
    #[must_use]
    pub fn read(&self, token: &[u8], call_id: &[u8]) -> Option<Read> {
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
        let is_vouched = said.first().is_some_and(|kind| kind & CALL != 0);
        let call_id = if is_vouched { call_id } else { b"" };
        if !self.keys.iter().any(|key| mac(key, said, call_id) == sum) {
            return None;
        }
        let ([kind, listener, port @ ..], address) = said.split_first_chunk::<HEAD_LEN>()?;
        let ip = if kind & V6 == 0 {
            IpAddr::from(*address.first_chunk::<4>()?)
        } else {
            IpAddr::from(*address.first_chunk::<16>()?)
        };
        let flow = Flow {
            listener: ListenerId(*listener),
            transport: if kind & TCP == 0 {
                Transport::Udp
            } else {
                Transport::Tcp
            },
            peer: SocketAddr::new(ip, u16::from_be_bytes(*port)),
        };
        Some(Read {
            flow,
            is_vouched,
            is_by_name: kind & (CALL | NAMED) != 0,
        })
    }
}

impl FlowToken {
    /// The token's text.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
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
pub fn is_token(user: &[u8]) -> bool {
    user.starts_with(PREFIX)
}

fn mac(key: &[u8; 16], said: &[u8], call_id: &[u8]) -> [u8; MAC_LEN] {
    let mut hasher = SipHasher24::new_with_key(key);
    // No length is so great: this MAC is kept apart from those of dialog tokens under the same key.
    hasher.write(&usize::MAX.to_le_bytes());
    hasher.write(&[DOMAIN]);
    hasher.write(said);
    hasher.write(call_id);
    hasher.finish().to_be_bytes()
}

const PREFIX: &[u8] = b"flow.";
/// Keeps flow tokens apart from what else is hashed under the key.
const DOMAIN: u8 = 3;
const TCP: u8 = 1;
const V6: u8 = 2;
/// It is good for one call alone.
const CALL: u8 = 4;
/// It is good for any call, by the listener that the URI names.
const NAMED: u8 = 8;
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
                let read = |codec: &FlowCodec, token: &[u8]| {
                    codec.read(token, b"call").map(|read| read.flow)
                };
                assert_eq!(read(&codec, token.as_bytes()), Some(flow));
                let rotated = FlowCodec::new(vec![[2; 16], [1; 16]]);
                assert_eq!(read(&rotated, token.as_bytes()), Some(flow));
                assert_eq!(read(&FlowCodec::new(vec![[2; 16]]), token.as_bytes()), None);
                for place in PREFIX.len()..token.len {
                    let mut bad = token.as_bytes().to_vec();
                    bad[place] = if bad[place] == b'0' { b'1' } else { b'0' };
                    assert_eq!(read(&codec, &bad), None);
                    assert_eq!(read(&codec, &token.as_bytes()[..place]), None);
                }
            }
        }
        assert_eq!(codec.read(b"flow.", b""), None);
        assert_eq!(codec.read(&[b'a'; 500], b""), None);
    }

    #[test]
    fn what_vouches_for_a_call_is_good_for_no_other() {
        let codec = FlowCodec::new(vec![[1; 16]]);
        let flow = Flow {
            listener: ListenerId(0),
            transport: Transport::Udp,
            peer: "192.0.2.9:5062".parse().expect("an address"),
        };
        let token = codec.encode_call(&flow, b"call");
        let read = |token: &FlowToken, call_id| {
            let said = codec.read(token.as_bytes(), call_id);
            said.map(|said| (said.is_vouched, said.is_by_name, said.flow))
        };
        assert_eq!(read(&token, b"call"), Some((true, true, flow)));
        assert_eq!(read(&token, b"another"), None);
        let plain = codec.encode(&flow);
        assert_eq!(read(&plain, b"call"), Some((false, false, flow)));
        // One that goes by the listener's name is good for any call, and says nothing of who let it in.
        let named = codec.encode_named(&flow);
        assert_eq!(read(&named, b"call"), Some((false, true, flow)));
        let are_named = [&token, &plain, &named].map(|token| codec.is_named(token.as_bytes()));
        assert_eq!(are_named, [false, false, true]);
    }
}
