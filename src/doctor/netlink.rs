//! One question to the kernel by netlink, one answer: the attributes, read with every length checked.

use std::io;

use netlink_sys::{Socket, SocketAddr};

/// A netlink socket with the kernel at the other end.
#[derive(Debug)]
pub(super) struct Netlink {
    socket: Socket,
}

/// A message being written: header, body, attributes.
#[derive(Debug)]
pub(super) struct Request {
    bytes: Vec<u8>,
}

impl Netlink {
    /// Opens a socket of `protocol`.
    pub(super) fn open(protocol: isize) -> io::Result<Self> {
        let mut socket = Socket::new(protocol)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self { socket })
    }

    /// Sends `request` and gives the payload of the first answer; an error answer is its `errno`.
    pub(super) fn ask(&self, request: Request) -> io::Result<Vec<u8>> {
        self.socket.send(&request.finish(), 0)?;
        let (answer, _) = self.socket.recv_from_full()?;
        let kind = u16_at(&answer, 4).ok_or(io::ErrorKind::UnexpectedEof)?;
        let len = u32_at(&answer, 0)
            .and_then(|len| usize::try_from(len).ok())
            .unwrap_or(0);
        let payload = answer
            .get(HEADER_LEN..len)
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        if kind == NLMSG_ERROR {
            let errno = u32_at(payload, 0).map_or(0, |code| code.cast_signed().saturating_neg());
            return Err(io::Error::from_raw_os_error(errno));
        }
        Ok(payload.to_vec())
    }

    /// The number of a generic netlink family.
    pub(super) fn family(&self, name: &str) -> io::Result<u16> {
        let mut request = Request::generic(GENL_ID_CTRL, CTRL_CMD_GETFAMILY, 1);
        let mut text = name.as_bytes().to_vec();
        text.push(0);
        request.attribute(CTRL_ATTR_FAMILY_NAME, &text);
        let answer = self.ask(request)?;
        let attributes = answer.get(GENERIC_HEADER_LEN..).unwrap_or_default();
        let id = find(attributes, CTRL_ATTR_FAMILY_ID).and_then(|value| u16_at(value, 0));
        id.ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Request {
    /// Begins a message of `kind` with `body` before its attributes.
    pub(super) fn new(kind: u16, body: &[u8]) -> Self {
        let mut bytes = vec![0; HEADER_LEN];
        bytes.splice(4..6, kind.to_ne_bytes());
        bytes.splice(6..8, NLM_F_REQUEST.to_ne_bytes());
        bytes.splice(8..12, 1_u32.to_ne_bytes());
        bytes.extend_from_slice(body);
        Self { bytes }
    }

    /// Begins a generic netlink message.
    pub(super) fn generic(family: u16, command: u8, version: u8) -> Self {
        Self::new(family, &[command, version, 0, 0])
    }

    /// Adds an attribute.
    pub(super) fn attribute(&mut self, kind: u16, value: &[u8]) {
        let len = u16::try_from(ATTRIBUTE_HEADER_LEN + value.len()).expect("our own short values");
        self.bytes.extend_from_slice(&len.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn finish(mut self) -> Vec<u8> {
        let len = u32::try_from(self.bytes.len()).expect("our own short messages");
        self.bytes.splice(0..4, len.to_ne_bytes());
        self.bytes
    }
}

/// The value of the first attribute of `kind`; the flags in its type are not looked at.
pub(super) fn find(mut attributes: &[u8], kind: u16) -> Option<&[u8]> {
    loop {
        let len = usize::from(u16_at(attributes, 0)?);
        let found = u16_at(attributes, 2)? & NLA_TYPE_MASK;
        let value = attributes.get(ATTRIBUTE_HEADER_LEN..len)?;
        if found == kind {
            return Some(value);
        }
        attributes = attributes.get(len.next_multiple_of(4)..)?;
    }
}

/// A number in the host's order.
pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes
        .get(at..)?
        .first_chunk()
        .map(|bytes| u16::from_ne_bytes(*bytes))
}

/// A number in the host's order.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes
        .get(at..)?
        .first_chunk()
        .map(|bytes| u32::from_ne_bytes(*bytes))
}

/// A number in the host's order.
pub(super) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes
        .get(at..)?
        .first_chunk()
        .map(|bytes| u64::from_ne_bytes(*bytes))
}

/// A text up to its NUL.
pub(super) fn text(bytes: &[u8]) -> String {
    let len = bytes
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(bytes.len());
    String::from_utf8_lossy(bytes.get(..len).unwrap_or_default()).into_owned()
}

/// The header of a generic netlink message's payload.
pub(super) const GENERIC_HEADER_LEN: usize = 4;
const HEADER_LEN: usize = 16;
const ATTRIBUTE_HEADER_LEN: usize = 4;
/// `linux/netlink.h`, `linux/genetlink.h`.
const NLMSG_ERROR: u16 = 2;
const NLM_F_REQUEST: u16 = 1;
const NLA_TYPE_MASK: u16 = 0x3fff;
const GENL_ID_CTRL: u16 = 0x10;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_found_and_broken_ones_end_the_search() {
        let mut request = Request::new(0, &[]);
        request.attribute(1, &[7]);
        request.attribute(2 | 0x8000, &9_u32.to_ne_bytes());
        let bytes = request.finish();
        let attributes = &bytes[HEADER_LEN..];
        assert_eq!(find(attributes, 1), Some(&[7][..]));
        assert_eq!(
            find(attributes, 2).and_then(|value| u32_at(value, 0)),
            Some(9)
        );
        assert_eq!(find(attributes, 3), None);
        assert_eq!(find(&[0, 0, 1, 0], 1), None, "a length below the header");
        assert_eq!(find(&[255, 0, 1, 0], 1), None, "a length beyond the end");
        assert_eq!(find(&[4, 0, 1, 0, 4, 0, 2, 0], 3), None);
    }

    #[test]
    fn a_text_ends_at_its_nul() {
        assert_eq!(text(b"veth\0\0"), "veth");
        assert_eq!(text(b"veth"), "veth");
    }
}
