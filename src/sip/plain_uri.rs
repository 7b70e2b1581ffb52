//! SIP URIs as nearly all senders write them, read in one pass: `sip:user@host:port;params`, without escapes, password and headers.

use super::host::{Host, ipv4};
use super::plain::digits;
use crate::scan;

/// What such a URI says.
pub(super) struct PlainUri<'a> {
    pub(super) user: Option<&'a [u8]>,
    pub(super) host: Host<'a>,
    pub(super) port: Option<u16>,
    /// Where the parameters begin: at the first `;`, or at the end.
    pub(super) params_start: usize,
}

impl<'a> PlainUri<'a> {
    /// Reads the one that takes up `bytes[start..end]`; `None` where it is written in another way, or is none.
    #[inline]
    pub(super) fn read(bytes: &'a [u8], start: usize, end: usize) -> Option<Self> {
        let text = bytes.get(..end)?;
        let user_start = start + SCHEME.len();
        if text.get(start..user_start)? != SCHEME {
            return None;
        }
        let user_end = past(bytes, user_start, end, USER);
        let (user, host_start) = match text.get(user_end) {
            Some(b'@') if user_end > user_start => (text.get(user_start..user_end), user_end + 1),
            _ => (None, user_start),
        };
        let host_end = past(bytes, host_start, end, HOST);
        let name = text.get(host_start..host_end)?;
        let host = match name.first()? {
            // A name that begins with a digit is rare, and left to the general reader.
            b'0'..=b'9' => Host::V4(ipv4(name)?),
            _ => Host::Name(name),
        };
        let (port, params_start) = match text.get(host_end) {
            Some(b':') => {
                let (port_end, port) = digits(bytes, host_end + 1, end)?;
                (Some(u16::try_from(port).ok()?), port_end)
            }
            _ => (None, host_end),
        };
        let is_whole = match text.get(params_start) {
            None => true,
            Some(b';') => past(bytes, params_start, end, PARAM) == end,
            Some(_) => false,
        };
        is_whole.then_some(Self {
            user,
            host,
            port,
            params_start,
        })
    }
}

/// The offset at or after `from`, and at most `end`, of the first byte that is not of `class`, of which letters, digits, `-` and `.` are.
#[inline]
fn past(bytes: &[u8], from: usize, end: usize, class: u8) -> usize {
    let mut at = from;
    loop {
        at = scan::skip_known(bytes, at, end);
        match bytes.get(at) {
            Some(byte) if at < end && CLASSES[usize::from(*byte)] & class != 0 => at += 1,
            _ => return at,
        }
    }
}

const SCHEME: &[u8] = b"sip:";
const USER: u8 = 1;
const HOST: u8 = 2;
const PARAM: u8 = 4;
const CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut byte = 0;
    while byte < 128 {
        let it = byte as u8;
        classes[byte] = if it.is_ascii_alphanumeric() || matches!(it, b'-' | b'.') {
            USER | HOST | PARAM
        } else if matches!(it, b'_' | b'!' | b'~' | b'*' | b'+' | b'=') {
            USER | PARAM
        } else if matches!(it, b';' | b'[' | b']' | b':' | b'/') {
            PARAM
        } else {
            0
        };
        byte += 1;
    }
    classes
};
