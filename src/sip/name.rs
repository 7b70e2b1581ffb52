//! The names of header fields: a closed set that we know, and one name for all others.

use crate::scan;

macro_rules! names {
    ($( $variant:ident $text:literal $doc:literal )+) => {
        /// The name of a header field, whatever its case or form (RFC 3261 7.3.1, 7.3.3).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum HeaderName {
            $( #[doc = $doc] $variant, )+
            /// A name that is none of the above.
            Other,
        }

        const KNOWN: &[(HeaderName, &str)] = &[ $( (HeaderName::$variant, $text), )+ ];
    };
}

names! {
    Via "Via" "RFC 3261 20.42; compact `v`."
    From "From" "RFC 3261 20.20; compact `f`."
    To "To" "RFC 3261 20.39; compact `t`."
    CallId "Call-ID" "RFC 3261 20.8; compact `i`."
    CSeq "CSeq" "RFC 3261 20.16."
    Contact "Contact" "RFC 3261 20.10; compact `m`."
    MaxForwards "Max-Forwards" "RFC 3261 20.22."
    Route "Route" "RFC 3261 20.34."
    RecordRoute "Record-Route" "RFC 3261 20.30."
    ContentLength "Content-Length" "RFC 3261 20.14; compact `l`."
    ContentType "Content-Type" "RFC 3261 20.15; compact `c`."
    Expires "Expires" "RFC 3261 20.19."
    MinExpires "Min-Expires" "RFC 3261 20.23."
    Require "Require" "RFC 3261 20.32."
    ProxyRequire "Proxy-Require" "RFC 3261 20.29."
    Supported "Supported" "RFC 3261 20.37; compact `k`."
    Unsupported "Unsupported" "RFC 3261 20.40."
    Authorization "Authorization" "RFC 3261 20.7."
    ProxyAuthorization "Proxy-Authorization" "RFC 3261 20.28."
    WWWAuthenticate "WWW-Authenticate" "RFC 3261 20.44."
    ProxyAuthenticate "Proxy-Authenticate" "RFC 3261 20.27."
    AuthenticationInfo "Authentication-Info" "RFC 3261 20.6."
    Path "Path" "RFC 3327."
    ServiceRoute "Service-Route" "RFC 3608."
    UserAgent "User-Agent" "RFC 3261 20.41."
    Server "Server" "RFC 3261 20.35."
    RetryAfter "Retry-After" "RFC 3261 20.33."
    Allow "Allow" "RFC 3261 20.5."
    AllowEvents "Allow-Events" "RFC 6665 8.2.2; compact `u`."
    Event "Event" "RFC 6665 8.2.1; compact `o`."
    SubscriptionState "Subscription-State" "RFC 6665 8.2.3."
    MaxBreadth "Max-Breadth" "RFC 5393 5."
    Date "Date" "RFC 3261 20.17."
    Timestamp "Timestamp" "RFC 3261 20.38."
    Subject "Subject" "RFC 3261 20.36; compact `s`."
    Accept "Accept" "RFC 3261 20.1."
    AcceptEncoding "Accept-Encoding" "RFC 3261 20.2."
    AcceptLanguage "Accept-Language" "RFC 3261 20.3."
    ContentEncoding "Content-Encoding" "RFC 3261 20.12; compact `e`."
    ContentDisposition "Content-Disposition" "RFC 3261 20.11."
    Warning "Warning" "RFC 3261 20.43."
    Reason "Reason" "RFC 3326."
    RAck "RAck" "RFC 3262 7.2."
    RSeq "RSeq" "RFC 3262 7.1."
    ReferTo "Refer-To" "RFC 3515 2.1; compact `r`."
    ReferredBy "Referred-By" "RFC 3892; compact `b`."
    Replaces "Replaces" "RFC 3891."
    SessionExpires "Session-Expires" "RFC 4028 4; compact `x`."
    MinSE "Min-SE" "RFC 4028 5."
    FlowTimer "Flow-Timer" "RFC 5626."
    PAssertedIdentity "P-Asserted-Identity" "RFC 3325."
    PPreferredIdentity "P-Preferred-Identity" "RFC 3325."
    Privacy "Privacy" "RFC 3323."
    Identity "Identity" "RFC 8224; compact `y`."
}

impl HeaderName {
    /// How many names there are, with [`HeaderName::Other`].
    pub const COUNT: usize = KNOWN.len() + 1;

    /// The name that `bytes` spells, in any case, long or compact.
    #[inline]
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Self {
        if let [letter] = *bytes {
            return Self::compact(letter);
        }
        let Some((name, text)) =
            KNOWN.get(usize::from(SLOTS[slot(first_eight(bytes), bytes.len())]))
        else {
            return Self::Other;
        };
        if text.as_bytes().eq_ignore_ascii_case(bytes) {
            *name
        } else {
            Self::Other
        }
    }

    /// The name and its length where one that we know, and a colon right behind it, begin `line`, which may go on as it likes. None also
    /// where fewer bytes are left than are looked at together.
    ///
    /// It tells no more than [`HeaderName::parse`] does, but looks at sixteen letters at a time.
    #[inline]
    #[must_use]
    pub fn parse_field(line: &[u8]) -> Option<(Self, usize)> {
        let window = line.first_chunk()?;
        let Some(len) = scan::find_in_window(window, b':') else {
            return Self::parse_long_field(line);
        };
        if len <= 1 {
            let name = Self::compact(*line.first()?);
            return (len == 1 && name != Self::Other).then_some((name, len));
        }
        let key = Key::of(window, len)?;
        // What lies behind the name is no part of it: `fold` has ones there, and so has `letters`.
        let is_name = len == key.len && scan::is_folded(window, &key.fold[0], &key.letters[0]);
        is_name.then_some((key.name, len))
    }

    /// The same where the colon is not among the first sixteen bytes.
    #[inline(never)]
    fn parse_long_field(line: &[u8]) -> Option<(Self, usize)> {
        let (window, rest) = line.split_first_chunk()?;
        let rest = rest.first_chunk()?;
        let len = window.len() + scan::find_in_window(rest, b':')?;
        let key = Key::of(window, len)?;
        let is_name = len == key.len
            && scan::is_folded(window, &key.fold[0], &key.letters[0])
            && scan::is_folded(rest, &key.fold[1], &key.letters[1]);
        is_name.then_some((key.name, len))
    }

    /// The name as it is usually written; empty for [`HeaderName::Other`].
    #[must_use]
    pub fn as_str(self) -> &'static str {
        KNOWN.get(self as usize).map_or("", |(_, text)| text)
    }

    /// The name that a compact form stands for (RFC 3261 7.3.3).
    const fn compact(letter: u8) -> Self {
        match letter | 0x20 {
            b'v' => Self::Via,
            b'f' => Self::From,
            b't' => Self::To,
            b'i' => Self::CallId,
            b'm' => Self::Contact,
            b'l' => Self::ContentLength,
            b'c' => Self::ContentType,
            b'k' => Self::Supported,
            b'o' => Self::Event,
            b's' => Self::Subject,
            b'e' => Self::ContentEncoding,
            b'u' => Self::AllowEvents,
            b'r' => Self::ReferTo,
            b'b' => Self::ReferredBy,
            b'x' => Self::SessionExpires,
            b'y' => Self::Identity,
            _ => Self::Other,
        }
    }
}

/// How many bytes [`HeaderName::parse_field`] looks at together.
const WINDOW_LEN: usize = 16;

/// A known name, ready to be compared.
#[derive(Clone, Copy)]
struct Key {
    name: HeaderName,
    len: usize,
    /// The name in lower case, and ones behind it.
    letters: [[u8; WINDOW_LEN]; 2],
    /// What makes a byte lower case where the name has a letter, and ones behind the name.
    fold: [[u8; WINDOW_LEN]; 2],
}

impl Key {
    /// The one known name that a name of `len` letters, which begins with `window`, can be.
    #[inline]
    fn of(window: &[u8; WINDOW_LEN], len: usize) -> Option<&'static Self> {
        let first = window.first_chunk().copied().unwrap_or_default();
        KEYS.get(usize::from(SLOTS[slot(first, len)]))
    }
}

/// The known names, in the order of [`KNOWN`].
static KEYS: [Key; KNOWN.len()] = keys();

const fn keys() -> [Key; KNOWN.len()] {
    let mut table = [Key {
        name: HeaderName::Other,
        len: 0,
        letters: [[0; WINDOW_LEN]; 2],
        fold: [[0; WINDOW_LEN]; 2],
    }; KNOWN.len()];
    let mut at = 0;
    while at < KNOWN.len() {
        let text = KNOWN[at].1.as_bytes();
        assert!(
            text.len() < 2 * WINDOW_LEN,
            "a known name and its colon fit two windows"
        );
        let (mut letters, mut fold) = ([[u8::MAX; WINDOW_LEN]; 2], [[u8::MAX; WINDOW_LEN]; 2]);
        let mut place = 0;
        while place < text.len() {
            let (half, at) = (place / WINDOW_LEN, place % WINDOW_LEN);
            letters[half][at] = text[place].to_ascii_lowercase();
            fold[half][at] = if text[place].is_ascii_alphabetic() {
                0x20
            } else {
                0
            };
            place += 1;
        }
        table[at] = Key {
            name: KNOWN[at].0,
            len: text.len(),
            letters,
            fold,
        };
        at += 1;
    }
    table
}

/// The slot of a name in [`SLOTS`]: a perfect hash of its length and its first eight letters, found by search. What lies behind the name
/// in `first` does not matter.
#[inline]
const fn slot(first: [u8; 8], len: usize) -> usize {
    let word = u64::from_le_bytes(first) | 0x2020_2020_2020_2020;
    // From eight letters on all of the word counts.
    let letters = word & LETTERS[if len < 8 { len } else { 8 }];
    (letters.wrapping_add(len as u64).wrapping_mul(HASH_FACTOR) >> 56) as usize
}

/// The bits of so many letters.
const LETTERS: [u64; 9] = {
    let mut masks = [u64::MAX; 9];
    let mut len = 0;
    while len < 8 {
        masks[len] = (1 << (8 * len)) - 1;
        len += 1;
    }
    masks
};

/// The factor under which no two known names have one slot.
const HASH_FACTOR: u64 = 0x32e9_c069_82ce_49df;

/// The first eight bytes, with zeros behind those that are fewer.
const fn first_eight(name: &[u8]) -> [u8; 8] {
    let mut first = [0; 8];
    let mut place = 0;
    while place < name.len() && place < first.len() {
        first[place] = name[place];
        place += 1;
    }
    first
}

/// The place in [`KNOWN`] of the one name that hashes to a slot, or `u8::MAX`.
static SLOTS: [u8; 256] = slots();

#[expect(
    clippy::cast_possible_truncation,
    reason = "there are fewer than 256 names; the assert holds it"
)]
const fn slots() -> [u8; 256] {
    assert!(KNOWN.len() < u8::MAX as usize);
    let mut table = [u8::MAX; 256];
    let mut at = 0;
    while at < KNOWN.len() {
        let name = KNOWN[at].1.as_bytes();
        let slot = slot(first_eight(name), name.len());
        assert!(
            table[slot] == u8::MAX,
            "two names hash to one slot: search another factor"
        );
        table[slot] = at as u8;
        at += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_found_in_any_case_and_stands_at_its_own_index() {
        for (at, (name, text)) in KNOWN.iter().enumerate() {
            assert_eq!(*name as usize, at);
            assert_eq!(HeaderName::parse(text.as_bytes()), *name);
            assert_eq!(
                HeaderName::parse(text.to_ascii_lowercase().as_bytes()),
                *name
            );
            assert_eq!(
                HeaderName::parse(text.to_ascii_uppercase().as_bytes()),
                *name
            );
            assert_eq!(name.as_str(), *text);
        }
        assert_eq!(HeaderName::Other as usize, KNOWN.len());
    }

    #[test]
    fn a_field_is_found_by_its_window_as_by_its_letters() {
        let window = |text: &str| {
            let mut window = [b'x'; 2 * WINDOW_LEN];
            window
                .iter_mut()
                .zip(text.bytes())
                .for_each(|(to, from)| *to = from);
            window
        };
        for (name, text) in KNOWN {
            for text in [
                (*text).to_owned(),
                text.to_ascii_lowercase(),
                text.to_ascii_uppercase(),
            ] {
                let field = HeaderName::parse_field(&window(&format!("{text}:")));
                assert_eq!(field, Some((*name, text.len())));
                assert_eq!(HeaderName::parse_field(&window(&format!("{text} :"))), None);
                assert_eq!(HeaderName::parse_field(&window(&format!("x{text}:"))), None);
                assert_eq!(
                    HeaderName::parse_field(&window(&text.replace('-', "\r"))),
                    None
                );
            }
        }
        assert_eq!(
            HeaderName::parse_field(&window("Call\rID: 1")),
            None,
            "a CR is no lower-case hyphen"
        );
        assert_eq!(
            HeaderName::parse_field(&window("v:")),
            Some((HeaderName::Via, 1))
        );
        assert_eq!(HeaderName::parse_field(&window(":")), None);
        assert_eq!(HeaderName::parse_field(&window("z:")), None);
    }

    #[test]
    fn compact_forms_are_known_in_either_case() {
        assert_eq!(HeaderName::parse(b"v"), HeaderName::Via);
        assert_eq!(HeaderName::parse(b"L"), HeaderName::ContentLength);
        assert_eq!(HeaderName::parse(b"z"), HeaderName::Other);
    }

    #[test]
    fn what_only_resembles_a_name_is_other() {
        assert_eq!(HeaderName::parse(b""), HeaderName::Other);
        assert_eq!(HeaderName::parse(b"C%6Fntact"), HeaderName::Other);
        assert_eq!(HeaderName::parse(b"Contack"), HeaderName::Other);
        assert_eq!(HeaderName::parse("Vi\u{e9}".as_bytes()), HeaderName::Other);
    }
}
