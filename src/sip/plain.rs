//! Fields as nearly all senders write them, each read at one go.
//!
//! A function here reads one plain shape, and gives nothing where the field is otherwise: written in another legal way, or wrong. What is
//! rare, what is refused, and for what cause, stays the business of the general readers, which give the same wherever these give
//! something. Offsets are those of the whole message, and so is what is looked at: a window may lie over the end of the field.

use super::address::AddressParts;
use super::host::Host;
use super::method::Method;
use super::params::Param;
use super::span::Span;
use super::start_line::StartLine;
use super::via::ViaParts;
use crate::scan;

/// A parameter without whitespace and quotes.
#[derive(Clone, Copy)]
pub(super) struct PlainParam {
    /// Where its `;` stands.
    start: usize,
    name_end: usize,
    value_start: usize,
    /// Past the value, or past the name where there is none.
    pub(super) end: usize,
}

/// The values of a Contact's parameters, each where it is written.
#[derive(Clone, Copy, Default)]
pub(super) struct ContactValues {
    pub(super) q: Option<Span>,
    pub(super) expires: Option<Span>,
    pub(super) reg_id: Option<Span>,
}

/// Reads `Method SP Request-URI SP SIP/2.0`, which ends at `end`.
#[inline]
pub(super) fn request_line(bytes: &[u8], end: usize) -> Option<StartLine> {
    let method_end = scan::skip_within(bytes, 0, end, scan::TOKEN);
    let uri_start = method_end + 1;
    let uri_end = end.checked_sub(8)?;
    let is_framed = method_end > 0
        && bytes.get(method_end) == Some(&b' ')
        && bytes.get(uri_end..end) == Some(b" SIP/2.0");
    if !is_framed || !is_uri(bytes, uri_start, uri_end) {
        return None;
    }
    let method_span = Span::within(0, method_end);
    Some(StartLine {
        method: Method::parse(method_span.of(bytes)),
        method_span,
        uri: Span::within(uri_start, uri_end),
        version: Span::within(uri_end + 1, end),
        ..StartLine::EMPTY
    })
}

/// Reads `SIP/2.0 SP 3DIGIT SP Reason-Phrase`, which ends at `end`.
#[inline]
pub(super) fn status_line(bytes: &[u8], end: usize) -> Option<StartLine> {
    let [
        b'S',
        b'I',
        b'P',
        b'/',
        b'2',
        b'.',
        b'0',
        b' ',
        code @ ..,
        b' ',
    ] = bytes.first_chunk::<12>()?
    else {
        return None;
    };
    let status = scan::decimal(code, 699).filter(|&status| status >= 100)?;
    (end >= 12).then_some(StartLine {
        status: u16::try_from(status).ok()?,
        version: Span::within(0, 7),
        reason: Span::within(12, end),
        ..StartLine::EMPTY
    })
}

/// Reads `SIP/2.0/UDP host[:port][;params]`, alone in its field.
#[inline]
pub(super) fn via(bytes: &[u8], start: usize, end: usize) -> Option<ViaParts> {
    let [
        b'S',
        b'I',
        b'P',
        b'/',
        b'2',
        b'.',
        b'0',
        b'/',
        transport @ ..,
        b' ',
    ] = bytes.get(start..end)?.first_chunk::<12>()?
    else {
        return None;
    };
    if !matches!(transport, b"UDP" | b"TCP" | b"TLS") {
        return None;
    }
    let host_start = start + 12;
    let host_end = scan::skip_within(bytes, host_start, end, scan::HOST);
    let host = Span::within(host_start, host_end);
    if !is_host(bytes, host_start, host_end) {
        return None;
    }
    let (sent_by_end, port) = if host_end < end && bytes.get(host_end) == Some(&b':') {
        let (port_end, port) = digits(bytes, host_end + 1, end)?;
        (port_end, Some(u16::try_from(port).ok()?))
    } else {
        (host_end, None)
    };
    let mut parts = ViaParts {
        span: Span::within(start, end),
        protocol: Span::within(start, start + 3),
        version: Span::within(start + 4, start + 7),
        transport: Span::within(start + 8, start + 11),
        host,
        port,
        sent_by_end: Span::within(sent_by_end, sent_by_end).start,
        params: Span::within(sent_by_end, end),
        is_plain: true,
        ..ViaParts::EMPTY
    };
    let mut at = sent_by_end;
    while at < end {
        let param = PlainParam::read(bytes, at, end)?;
        at = param.end;
        let (place, span) = match param.name(bytes) {
            BRANCH if param.has_value() => (&mut parts.branch, param.value_span()),
            BRANCH => return None,
            RECEIVED => (&mut parts.received, param.span()),
            RPORT => (&mut parts.rport, param.span()),
            _ => continue,
        };
        if place.replace(span).is_some() {
            return None;
        }
    }
    Some(parts)
}

/// Reads `[display] <uri>[;params]`.
#[inline]
pub(super) fn address(bytes: &[u8], start: usize, end: usize) -> Option<AddressParts> {
    address_with(bytes, start, end, |_| Some(()))
}

/// The same of a Contact, with the values of those parameters that a registrar keeps; a quoted one is not plain.
#[inline]
pub(super) fn contact(
    bytes: &[u8],
    start: usize,
    end: usize,
) -> Option<(AddressParts, ContactValues)> {
    let mut values = ContactValues::default();
    let parts = address_with(bytes, start, end, |param| {
        let place = match param.name(bytes) {
            Q => &mut values.q,
            EXPIRES => &mut values.expires,
            REG_ID => &mut values.reg_id,
            _ => return Some(()),
        };
        let is_first = param.has_value() && place.replace(param.value_span()).is_none();
        is_first.then_some(())
    })?;
    Some((parts, values))
}

/// Reads an address, and has `keep` look at each parameter but the tag; what it refuses is not plain.
#[inline]
fn address_with(
    bytes: &[u8],
    start: usize,
    end: usize,
    mut keep: impl FnMut(&PlainParam) -> Option<()>,
) -> Option<AddressParts> {
    let (display_end, open) = display(bytes, start, end)?;
    let close = scan::find_uri_end(bytes, open + 1)?;
    if close >= end || bytes.get(close) != Some(&b'>') || !has_scheme(bytes, open + 1, close) {
        return None;
    }
    let mut tag = None;
    let mut at = close + 1;
    while at < end {
        let param = PlainParam::read(bytes, at, end)?;
        at = param.end;
        if param.name(bytes) != TAG {
            keep(&param)?;
        } else if !param.has_value() || tag.replace(param.value_span()).is_some() {
            return None;
        }
    }
    Some(AddressParts {
        display: Span::within(start, display_end),
        uri: Span::within(open + 1, close),
        params: Span::within(close + 1, end),
        tag,
    })
}

/// Reads a sequence number of at most nine digits, a space and the method.
#[inline]
pub(super) fn cseq(bytes: &[u8], start: usize, end: usize) -> Option<(u32, Span)> {
    let (number_end, number) = digits(bytes, start, end)?;
    let method_start = number_end + 1;
    let method_end = scan::skip_within(bytes, method_start, end, scan::TOKEN);
    let is_whole = bytes.get(number_end) == Some(&b' ') && method_start < end && method_end == end;
    is_whole.then(|| (number, Span::within(method_start, end)))
}

impl PlainParam {
    /// Reads the parameter whose `;` stands at `start`, within `bytes[..end]`.
    #[inline]
    pub(super) fn read(bytes: &[u8], start: usize, end: usize) -> Option<Self> {
        if bytes.get(start) != Some(&b';') {
            return None;
        }
        let word = bytes
            .get(start + 1..)
            .and_then(|rest| rest.first_chunk())
            .map_or(0, |word| u64::from_le_bytes(*word));
        // What nearly all are called needs no look at each of its letters.
        let name_end = if word & FOUR == TAG_IS && start + 4 < end {
            start + 4
        } else if word & SEVEN == BRANCH_IS && start + 7 < end {
            start + 7
        } else {
            scan::skip_within(bytes, start + 1, end, scan::TOKEN)
        };
        if name_end == start + 1 {
            return None;
        }
        if name_end >= end || bytes.get(name_end) != Some(&b'=') {
            return Some(Self {
                start,
                name_end,
                value_start: name_end,
                end: name_end,
            });
        }
        let value_start = name_end + 1;
        let value_end = scan::skip_within(bytes, value_start, end, scan::PARAM);
        (value_end > value_start).then_some(Self {
            start,
            name_end,
            value_start,
            end: value_end,
        })
    }

    /// The name in lower case; zero where it is longer than eight letters.
    #[inline]
    fn name(&self, bytes: &[u8]) -> u64 {
        let len = self.name_end - self.start - 1;
        let word = bytes
            .get(self.start + 1..)
            .and_then(|rest| rest.first_chunk::<8>());
        match word {
            Some(word) if len <= 8 => lower(u64::from_le_bytes(*word), len),
            // At the end of all bytes there is no word.
            None if len <= 8 => {
                let mut padded = [0; 8];
                let name = bytes.get(self.start + 1..self.name_end).unwrap_or_default();
                padded
                    .iter_mut()
                    .zip(name)
                    .for_each(|(to, from)| *to = *from);
                lower(u64::from_le_bytes(padded), len)
            }
            _ => 0,
        }
    }

    /// The parameter as it is told to others.
    #[inline]
    pub(super) fn param<'a>(&self, source: &'a [u8]) -> Param<'a> {
        let value_span = self.value_span();
        Param {
            name: Span::within(self.start + 1, self.name_end).of(source),
            value: self.has_value().then(|| value_span.of(source)),
            span: self.span(),
            value_span,
            is_plain: true,
        }
    }

    #[inline]
    const fn has_value(&self) -> bool {
        self.value_start > self.name_end
    }

    /// The value alone.
    #[inline]
    const fn value_span(&self) -> Span {
        Span::within(self.value_start, self.end)
    }

    /// From the `;` to the end of the value.
    #[inline]
    const fn span(&self) -> Span {
        Span::within(self.start, self.end)
    }
}

/// The names of parameters as [`PlainParam::name`] gives them.
const BRANCH: u64 = name(b"branch");
const RECEIVED: u64 = name(b"received");
const RPORT: u64 = name(b"rport");
const TAG: u64 = name(b"tag");
const Q: u64 = name(b"q");
const EXPIRES: u64 = name(b"expires");
const REG_ID: u64 = name(b"reg-id");

/// The two that stand in nearly every message, and their `=`.
const TAG_IS: u64 = name(b"tag=");
const BRANCH_IS: u64 = name(b"branch=");
/// As many bytes of a word.
const FOUR: u64 = 0xffff_ffff;
const SEVEN: u64 = u64::MAX >> 8;

/// A name of at most eight letters as a word.
const fn name(letters: &[u8]) -> u64 {
    let mut word = 0;
    let mut place = 0;
    while place < letters.len() {
        word |= (letters[place] as u64) << (8 * place);
        place += 1;
    }
    word
}

/// The first `len` bytes of a word, 1 to 8, which are a token's, in lower case.
#[inline]
const fn lower(word: u64, len: usize) -> u64 {
    (word | 0x2020_2020_2020_2020) & (u64::MAX >> (64 - 8 * len))
}

/// Where the display name ends, without the space behind it, and where the `<` stands.
#[inline]
fn display(bytes: &[u8], start: usize, end: usize) -> Option<(usize, usize)> {
    let name_end = match bytes.get(start)? {
        b'<' => return Some((start, start)),
        b'"' => {
            scan::find_quote(bytes, start + 1, end).filter(|&at| bytes.get(at) == Some(&b'"'))? + 1
        }
        _ => scan::skip_within(bytes, start, end, scan::TOKEN),
    };
    let open = name_end + usize::from(bytes.get(name_end) == Some(&b' '));
    (name_end > start && open < end && bytes.get(open) == Some(&b'<')).then_some((name_end, open))
}

/// Whether a host of `scan::HOST`'s bytes is an IPv4 address or a name.
#[inline]
fn is_host(bytes: &[u8], start: usize, end: usize) -> bool {
    let len = end - start;
    match scan::dots_among_digits(bytes, start, len) {
        Some(dots) => is_ipv4(bytes, start, dots | 1 << len),
        None => Host::parse(Span::within(start, end).of(bytes)).is_ok(),
    }
}

/// Whether four octets end where `ends` has its bits, as [`Host::parse`] wants them.
#[inline]
fn is_ipv4(bytes: &[u8], start: usize, ends: u32) -> bool {
    let (mut at, mut left) = (start, ends);
    while left != 0 {
        let end = start + left.trailing_zeros() as usize;
        left &= left - 1;
        let is_octet = match bytes.get(at..end) {
            Some([_] | [b'1'..=b'9', _] | [b'1', _, _]) => true,
            Some([b'2', tens, ones]) => (*tens, *ones) <= (b'5', b'5'),
            _ => false,
        };
        if !is_octet {
            return false;
        }
        at = end + 1;
    }
    ends.count_ones() == 4
}

/// Whether a URI of SIP without `?` takes up `bytes[start..end]`, as far as its outward form tells.
#[inline]
fn is_uri(bytes: &[u8], start: usize, end: usize) -> bool {
    has_scheme(bytes, start, end) && scan::find_uri_end(bytes, start) == Some(end)
}

/// Whether `sip:` or `sips:` begins it, with something behind.
#[inline]
fn has_scheme(bytes: &[u8], start: usize, end: usize) -> bool {
    // The colon is left as it is; the three letters are made lower case, which nothing but a letter becomes.
    let first = bytes.get(start..).and_then(|rest| rest.first_chunk::<4>());
    let folded = first.map(|first| u32::from_le_bytes(*first) | 0x0020_2020);
    if folded == Some(u32::from_le_bytes(*b"sip:")) {
        return start + 4 < end;
    }
    let is_sips = bytes
        .get(start..start + 5)
        .is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"sips:"));
    is_sips && start + 5 < end
}

/// Reads one to nine digits; gives where they end.
#[inline]
pub(super) fn digits(bytes: &[u8], start: usize, end: usize) -> Option<(usize, u32)> {
    let mut number = 0_u32;
    let mut len = 0;
    for byte in bytes.get(start..end)?.iter().take(10) {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            break;
        }
        number = number.wrapping_mul(10).wrapping_add(u32::from(digit));
        len += 1;
    }
    matches!(len, 1..=9).then_some((start + len, number))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::sip::params::param;
    use crate::sip::tests::compare_contacts;
    use crate::sip::{Index, Parsed, cseq, parse};

    /// What a mutation writes: what delimits, what is neither, and what no field has.
    const BYTES: &[u8] = b"\r\n\t :;,=<>\"\\?@./[]%'!~az09A_-+\0\x7f\xc3";

    /// Every message of the fuzzers' corpora and of RFC 4475.
    fn messages() -> Vec<Vec<u8>> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut folders = vec![root.join("fuzz/corpus"), root.join("tests/torture")];
        let mut messages = Vec::new();
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).expect("a folder") {
                let path = entry.expect("an entry").path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_none_or(|ending| ending != "rs") {
                    messages.push(fs::read(path).expect("a file"));
                }
            }
        }
        messages
    }

    /// What an index says of a head.
    fn told(index: &Index) -> String {
        let places = (index.start_line_span, index.headers_end, index.body);
        format!(
            "{:?} {places:?} {:?} {:?}",
            index.start_line,
            index.entries(),
            index.wrong
        )
    }

    /// Holds each plain reader against the general one; gives whether the head was plain.
    fn compare(bytes: &[u8], plain: &mut Index, general: &mut Index) -> bool {
        plain.clear();
        let is_plain = plain.read_plain(bytes);
        let read = general.read_any(bytes);
        if is_plain {
            assert_eq!(read, Ok(()), "{}", bytes.escape_ascii());
            assert_eq!(told(plain), told(general), "{}", bytes.escape_ascii());
        }
        for entry in general.entries() {
            compare_fields(
                bytes,
                usize::from(entry.value.start),
                usize::from(entry.value.end),
            );
        }
        if let Parsed::Good(message) | Parsed::Answerable(message, _) = parse(bytes, plain) {
            compare_contacts(&message);
        }
        is_plain
    }

    /// Reads one field as whatever it may be.
    fn compare_fields(bytes: &[u8], start: usize, end: usize) {
        let field = || Span::new(start, end).of(bytes).escape_ascii();
        if let Some(read) = address(bytes, start, end) {
            assert_eq!(
                AddressParts::parse_any(bytes, start, end),
                Ok(read),
                "{}",
                field()
            );
        }
        if let Some(read) = cseq(bytes, start, end) {
            assert_eq!(cseq::parse_any(bytes, start, end), Ok(read), "{}", field());
        }
        if let Some(read) = via(bytes, start, end) {
            let mut parts = ViaParts::EMPTY;
            assert_eq!(
                parts.read(bytes, Span::new(start, end)),
                Ok(()),
                "{}",
                field()
            );
            parts.is_plain = read.is_plain; // how it was read, not what was
            assert_eq!(parts, read, "{}", field());
            assert_eq!(scan::find_comma(&bytes[..end], start), end, "{}", field());
        }
        let comma = scan::find_comma(&bytes[..end], start);
        assert_eq!(
            scan::find_comma_within(bytes, start, end),
            comma,
            "{}",
            field()
        );
        for at in (start..end).filter(|&at| bytes[at] == b';') {
            let source = &bytes[..end];
            let behind = scan::find_unquoted(source, at + 1, b';');
            if let Some(read) = PlainParam::read(bytes, at, end).filter(|read| read.end == behind) {
                let (read, general) = (read.param(source), param(source, at, at + 1, behind));
                assert_eq!(general.check(), Ok(()), "{}", field());
                assert_eq!(
                    (read.name, read.value),
                    (general.name, general.value),
                    "{}",
                    field()
                );
                assert_eq!(
                    (read.span, read.value_span),
                    (general.span, general.value_span),
                    "{}",
                    field()
                );
            }
        }
    }

    #[test]
    fn what_is_plain_is_read_as_the_general_readers_read_it() {
        let (mut plain, mut general) = (Index::new(), Index::new());
        let (mut heads, mut random) = (0, 0x2545_f491_4f6c_dd1d_u64);
        let mut next = |bound: usize| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            usize::try_from(random >> 33).expect("31 bits") % bound
        };
        for message in messages() {
            if message.len() > 4_096 {
                continue;
            }
            heads += usize::from(compare(&message, &mut plain, &mut general));
            for _ in 0..50 {
                let mut mutant = message.clone();
                for _ in 0..=next(3) {
                    if mutant.is_empty() {
                        break;
                    }
                    let at = next(mutant.len());
                    match next(4) {
                        0 => drop(mutant.remove(at)),
                        1 => mutant.insert(at, BYTES[next(BYTES.len())]),
                        _ => mutant[at] = BYTES[next(BYTES.len())],
                    }
                }
                mutant.truncate(mutant.len() - next(mutant.len() + 1) * usize::from(next(8) == 0));
                heads += usize::from(compare(&mutant, &mut plain, &mut general));
            }
        }
        assert!(heads > 1_000, "{heads} heads were plain");
    }
}
