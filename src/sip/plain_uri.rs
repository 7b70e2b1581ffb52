//! SIP URIs as nearly all senders write them, read in one pass: `sip:user@host:port;params`, without escapes, password and headers.

use super::host::Host;

/// What such a URI says.
pub(super) struct PlainUri<'a> {
    pub(super) user: Option<&'a [u8]>,
    pub(super) host: Host<'a>,
    pub(super) port: Option<u16>,
    /// Where the parameters begin: at the first `;`, or at the end.
    pub(super) params_start: usize,
}

impl<'a> PlainUri<'a> {
    /// Reads one; `None` where it is written in another way, or is none.
    pub(super) fn read(text: &'a [u8]) -> Option<Self> {
        if text.get(..SCHEME.len())? != SCHEME {
            return None;
        }
        let user_end = past(text, SCHEME.len(), USER);
        let (user, host_start) = match text.get(user_end) {
            Some(b'@') if user_end > SCHEME.len() => {
                (text.get(SCHEME.len()..user_end), user_end + 1)
            }
            _ => (None, SCHEME.len()),
        };
        let host_end = past(text, host_start, HOST);
        let name = text.get(host_start..host_end)?;
        let host = match name.first()? {
            b'0'..=b'9' => Host::parse(name).ok()?,
            _ => Host::Name(name),
        };
        let (port, params_start) = match text.get(host_end) {
            Some(b':') => {
                let end = past(text, host_end + 1, DIGIT);
                (Some(port(text.get(host_end + 1..end)?)?), end)
            }
            _ => (None, host_end),
        };
        let is_whole = match text.get(params_start) {
            None => true,
            Some(b';') => past(text, params_start, PARAM) == text.len(),
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

/// A port of one to five digits.
fn port(digits: &[u8]) -> Option<u16> {
    if !matches!(digits.len(), 1..=5) {
        return None;
    }
    let value = digits
        .iter()
        .fold(0_u32, |value, digit| value * 10 + u32::from(digit - b'0'));
    u16::try_from(value).ok()
}

/// The offset at or after `from` of the first byte that is not of `class`.
#[inline]
fn past(text: &[u8], from: usize, class: u8) -> usize {
    let rest = text.get(from..).unwrap_or_default();
    let len = rest
        .iter()
        .position(|byte| CLASSES[usize::from(*byte)] & class == 0);
    len.map_or(text.len(), |len| from + len)
}

const SCHEME: &[u8] = b"sip:";
const USER: u8 = 1;
const HOST: u8 = 2;
const DIGIT: u8 = 4;
const PARAM: u8 = 8;
const CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut byte = 0;
    while byte < 128 {
        let it = byte as u8;
        classes[byte] = if it.is_ascii_digit() {
            USER | HOST | DIGIT | PARAM
        } else if it.is_ascii_alphabetic() || matches!(it, b'-' | b'.') {
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
