//! The one STUN message that phones send to a SIP port: the Binding request by which they keep a flow of datagrams alive, and see that it
//! still is the same (RFC 5626 3.5.2, RFC 8489).

use std::net::{IpAddr, SocketAddr};

/// A Binding request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BindingRequest {
    transaction: [u8; 12],
}

impl BindingRequest {
    /// Reads a datagram; `None` where it is anything else.
    #[must_use]
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let (head, attributes) = bytes.split_first_chunk::<HEAD_LEN>()?;
        let ([0, 1, high, low], rest) = head.split_first_chunk::<4>()? else {
            return None;
        };
        let (cookie, transaction) = rest.split_first_chunk::<4>()?;
        let len = usize::from(u16::from_be_bytes([*high, *low]));
        let is_whole = len == attributes.len() && len.is_multiple_of(4);
        let transaction = transaction.try_into().ok()?;
        (*cookie == COOKIE && is_whole).then_some(Self { transaction })
    }

    /// The length of the answer to a sender at an address.
    #[must_use]
    pub(super) const fn answer_len(source: SocketAddr) -> usize {
        HEAD_LEN + 8 + if source.is_ipv4() { 4 } else { 16 }
    }

    /// Writes the answer, which tells the sender's address, into a buffer of [`Self::answer_len`] bytes.
    pub(super) fn answer(&self, source: SocketAddr, out: &mut [u8]) {
        let mut mask = [0; 16];
        mask[..4].copy_from_slice(&COOKIE);
        mask[4..].copy_from_slice(&self.transaction);
        let (family, mut address, address_len) = match source.ip() {
            IpAddr::V4(ip) => {
                let mut octets = [0; 16];
                octets[..4].copy_from_slice(&ip.octets());
                (1, octets, 4)
            }
            IpAddr::V6(ip) => (2, ip.octets(), 16),
        };
        address
            .iter_mut()
            .zip(mask)
            .for_each(|(octet, mask)| *octet ^= mask);
        let port = source.port() ^ u16::from_be_bytes([COOKIE[0], COOKIE[1]]);
        let value_len = 4 + address_len;
        let mut place = 0;
        let mut put = |bytes: &[u8]| {
            if let Some(room) = out.get_mut(place..place + bytes.len()) {
                room.copy_from_slice(bytes);
            }
            place += bytes.len();
        };
        put(&[1, 1, 0, 4 + value_len]);
        put(&COOKIE);
        put(&self.transaction);
        // XOR-MAPPED-ADDRESS.
        put(&[0, 0x20, 0, value_len, 0, family]);
        put(&port.to_be_bytes());
        put(&address[..usize::from(address_len)]);
    }
}

const HEAD_LEN: usize = 20;
/// RFC 8489 5.
const COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> Vec<u8> {
        let mut bytes = vec![0, 1, 0, 0];
        bytes.extend_from_slice(&COOKIE);
        bytes.extend_from_slice(b"\xb7\xe7\xa7\x01\xbc\x34\xd6\x86\xfa\x87\xdf\xae");
        bytes
    }

    #[test]
    fn the_answer_is_that_of_the_rfcs_vectors() {
        // RFC 5769 2.2 and 2.3, the XOR-MAPPED-ADDRESS of each.
        let asked = BindingRequest::parse(&request()).expect("a request");
        let answer = |source: &str| {
            let source = source.parse().expect("an address");
            let mut out = vec![0; BindingRequest::answer_len(source)];
            asked.answer(source, &mut out);
            out
        };
        let v4 = answer("192.0.2.1:32853");
        assert_eq!(v4[..4], [1, 1, 0, 12]);
        assert_eq!(v4[4..20], request()[4..]);
        assert_eq!(
            v4[20..],
            *b"\x00\x20\x00\x08\x00\x01\xa1\x47\xe1\x12\xa6\x43"
        );
        let v6 = answer("[2001:db8:1234:5678:11:2233:4455:6677]:32853");
        assert_eq!(
            v6[20..],
            *b"\x00\x20\x00\x14\x00\x02\xa1\x47\x01\x13\xa9\xfa\xa5\xd3\xf1\x79\xbc\x25\xf4\xb5\xbe\xd2\xb9\xd9"
        );
    }

    #[test]
    fn what_is_no_binding_request_is_none() {
        assert!(BindingRequest::parse(b"").is_none());
        let good = request();
        for place in 0..8 {
            let mut bad = good.clone();
            bad[place] ^= 0x81;
            assert!(BindingRequest::parse(&bad).is_none(), "{place}");
        }
        assert!(BindingRequest::parse(&good[..19]).is_none());
        let mut long = good;
        long.push(0);
        assert!(BindingRequest::parse(&long).is_none());
    }
}
