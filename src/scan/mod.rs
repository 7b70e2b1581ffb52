//! Finds the bytes that delimit SIP: the one place that knows how scanning is made fast.
//!
//! Over `memchr`, a class table, and lanes of sixteen bytes; the callers know none of them.
//! Offsets are plain `usize` into the slice given; nothing here panics on any input.

mod lanes;
mod line_ends;

use memchr::{memchr, memchr2, memchr3};

use lanes::Lanes;
pub use line_ends::LineEnds;

/// Bytes of a `token` (RFC 3261 25.1).
pub const TOKEN: u8 = 1;
/// Linear whitespace: SP, HTAB, and the CR and LF of a folded line.
pub const LWS: u8 = 1 << 1;
/// Bytes of a host name: letters, digits, `-`, `.` and, as it is seen in the field, `_`.
pub const HOST: u8 = 1 << 2;
/// Bytes of an unquoted display name: a `token`'s, whitespace, and what phones send besides that no reader can take for
/// the end of it: UTF-8, and the separators that separate nothing here. Not `,` (RFC 4475 3.1.2.15).
pub const DISPLAY: u8 = 1 << 3;
/// Bytes that a parameter's value may have outside quotes: a `token`'s, a host's and an IPv6 reference's.
pub const PARAM: u8 = 1 << 4;

/// Tells whether `byte` is in one of `classes`.
#[inline]
#[must_use]
pub const fn is(byte: u8, classes: u8) -> bool {
    CLASSES[byte as usize] & classes != 0
}

/// Tells whether every byte is in one of `classes`.
#[inline]
#[must_use]
pub fn all(bytes: &[u8], classes: u8) -> bool {
    bytes.iter().all(|&byte| is(byte, classes))
}

/// The offset at or after `from` of the first byte that is in none of `classes`, or the end.
#[inline]
#[must_use]
pub fn skip(bytes: &[u8], from: usize, classes: u8) -> usize {
    let mut at = from;
    while let Some(&byte) = bytes.get(at) {
        if !is(byte, classes) {
            break;
        }
        at += 1;
    }
    at
}

/// The offset at or after `from`, and at most `end`, of the first byte that is not of the class: [`TOKEN`], [`HOST`] or [`PARAM`].
///
/// It is [`skip`] within `bytes[..end]`, but looks at sixteen bytes at a time, also at those behind `end`.
#[inline]
#[must_use]
pub fn skip_within(bytes: &[u8], from: usize, end: usize, class: u8) -> usize {
    let mut at = from;
    while at < end
        && let Some(window) = window(bytes, at)
    {
        let known = if class == PARAM {
            known_param(window)
        } else {
            known_token(window)
        };
        let strange = !known.bits() & 0xffff;
        if strange == 0 {
            at += lanes::LEN;
            continue;
        }
        at += strange.trailing_zeros() as usize;
        // The lanes know the letters that nearly all are made of; the table knows all.
        if at >= end || !bytes.get(at).is_some_and(|&byte| is(byte, class)) {
            return at.min(end);
        }
        at += 1;
    }
    while at < end && bytes.get(at).is_some_and(|&byte| is(byte, class)) {
        at += 1;
    }
    at.min(end)
}

/// The offset at or after `from`, and at most `end`, of the first byte that is no letter, no digit, no `-` and no `.`.
///
/// It looks at sixteen bytes at a time, also at those behind `end`.
#[inline]
#[must_use]
pub fn skip_known(bytes: &[u8], from: usize, end: usize) -> usize {
    let mut at = from;
    while at < end {
        let known = if let Some(window) = window(bytes, at) {
            known_token(window).bits()
        } else if let Some(last) = bytes.last_chunk() {
            // The last sixteen bytes, of which some have been seen already; behind them all is strange.
            known_token(Lanes::of(last)).bits() >> (at + lanes::LEN - bytes.len()).min(lanes::LEN)
        } else {
            break;
        };
        let len = known.trailing_ones() as usize;
        at += len;
        if len < lanes::LEN {
            return at.min(end);
        }
    }
    while at < end
        && bytes
            .get(at)
            .is_some_and(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'))
    {
        at += 1;
    }
    at.min(end)
}

/// The offset at or after `from` of the first byte that no URI has, or a `?`; none where fewer than sixteen bytes are left to look at.
#[inline]
#[must_use]
pub fn find_uri_end(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    loop {
        let window = window(bytes, at)?;
        let ends = window
            .equal(b'<')
            .or(window.equal(b'>'))
            .or(window.equal(b'"'));
        let known = window.within(b'!', b'~').but(ends.or(window.equal(b'?')));
        let strange = !known.bits() & 0xffff;
        if strange != 0 {
            return Some(at + strange.trailing_zeros() as usize);
        }
        at += lanes::LEN;
    }
}

/// The offset at or after `from`, and at most `end`, of the first `"` or `\\`; none where fewer than sixteen bytes are left to look at.
#[inline]
#[must_use]
pub fn find_quote(bytes: &[u8], from: usize, end: usize) -> Option<usize> {
    let mut at = from;
    while at < end {
        let window = window(bytes, at)?;
        let found = window.equal(b'"').or(window.equal(b'\\')).bits();
        if found != 0 {
            at += found.trailing_zeros() as usize;
            break;
        }
        at += lanes::LEN;
    }
    Some(at.min(end))
}

/// Where dots stand among the first `len` bytes at `from`, in bits, where all others are digits; none where one is not, and where no window
/// fits.
#[inline]
#[must_use]
pub fn dots_among_digits(bytes: &[u8], from: usize, len: usize) -> Option<u32> {
    let window = window(bytes, from).filter(|_| len < lanes::LEN)?;
    let all = (1 << len) - 1;
    let dots = window.equal(b'.').bits() & all;
    let digits = window.within(b'0', b'9').bits() & all;
    (dots | digits == all).then_some(dots)
}

/// The offset of the first `byte` in a window.
#[inline]
#[must_use]
pub fn find_in_window(window: &[u8; 16], byte: u8) -> Option<usize> {
    let found = Lanes::of(window).equal(byte).bits();
    (found != 0).then_some(found.trailing_zeros() as usize)
}

/// Whether a window is `letters` once the bits of `fold` have been set in it.
#[inline]
#[must_use]
pub fn is_folded(window: &[u8; 16], fold: &[u8; 16], letters: &[u8; 16]) -> bool {
    let folded = Lanes::of(window).or(Lanes::of(fold));
    folded.same(Lanes::of(letters)).bits() == 0xffff
}

/// The sixteen bytes at `at`.
#[inline]
fn window(bytes: &[u8], at: usize) -> Option<Lanes> {
    bytes.get(at..)?.first_chunk().map(Lanes::of)
}

/// Which bytes are letters, digits, `-` or `.`: of a [`TOKEN`] and of a [`HOST`].
#[inline]
fn known_token(window: Lanes) -> Lanes {
    let numbers = window.within(b'-', b'9').but(window.equal(b'/'));
    let letters = window.within(b'a', b'z').or(window.within(b'A', b'Z'));
    numbers.or(letters)
}

/// Which bytes are letters, digits, `-` to `:`, `?`, `@`, `[`, `_` or `` ` ``: of a [`PARAM`].
#[inline]
fn known_param(window: Lanes) -> Lanes {
    let numbers = window.within(b'-', b':');
    numbers
        .or(window.within(b'?', b'['))
        .or(window.within(b'_', b'z'))
}

/// Tells whether every byte is printable ASCII and no space.
#[inline]
#[must_use]
pub fn is_graphic(bytes: &[u8]) -> bool {
    all_lanes(bytes, |lanes| lanes.within(b'!', b'~'))
}

/// Tells whether every byte may stand in a URI: printable ASCII but `<`, `>` and `"`.
#[inline]
#[must_use]
pub fn is_uri_text(bytes: &[u8]) -> bool {
    all_lanes(bytes, |lanes| {
        let ends = lanes
            .equal(b'<')
            .or(lanes.equal(b'>'))
            .or(lanes.equal(b'"'));
        lanes.within(b'!', b'~').but(ends)
    })
}

/// The offset of the first `byte` at or after `from`.
#[inline]
#[must_use]
pub fn find(bytes: &[u8], from: usize, byte: u8) -> Option<usize> {
    memchr(byte, bytes.get(from..)?).map(|at| from + at)
}

/// The offset of the first `a` or `b` at or after `from`.
#[inline]
#[must_use]
pub fn find_either(bytes: &[u8], from: usize, a: u8, b: u8) -> Option<usize> {
    memchr2(a, b, bytes.get(from..)?).map(|at| from + at)
}

/// The offset at or after `from` of the first CR or LF.
#[inline]
#[must_use]
pub fn find_line_break(bytes: &[u8], from: usize) -> Option<usize> {
    find_either(bytes, from, b'\r', b'\n')
}

/// The offset past the closing quote of a quoted string whose opening quote stands at `from - 1`.
///
/// A backslash quotes the byte after it (RFC 3261 25.1, quoted-pair).
#[must_use]
pub fn skip_quoted(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    loop {
        at = find_either(bytes, at, b'"', b'\\')?;
        if bytes.get(at) == Some(&b'"') {
            return Some(at + 1);
        }
        at += 2;
    }
}

/// The offset at or after `from` of the first `delimiter` outside quoted strings, or the end.
#[must_use]
pub fn find_unquoted(bytes: &[u8], from: usize, delimiter: u8) -> usize {
    let mut at = from;
    while let Some(found) = find_either(bytes, at, delimiter, b'"') {
        if bytes.get(found) == Some(&delimiter) {
            return found;
        }
        match skip_quoted(bytes, found + 1) {
            Some(past) => at = past,
            None => break,
        }
    }
    bytes.len()
}

/// The offset at or after `from` of the first comma outside quoted strings and `<>`, or the end.
#[must_use]
pub fn find_comma(bytes: &[u8], from: usize) -> usize {
    let mut at = from;
    while let Some(rest) = bytes.get(at..) {
        let Some(found) = memchr3(b',', b'"', b'<', rest).map(|offset| at + offset) else {
            break;
        };
        let past = match bytes.get(found) {
            Some(b'"') => skip_quoted(bytes, found + 1),
            Some(b'<') => find(bytes, found + 1, b'>').map(|close| close + 1),
            _ => return found,
        };
        match past {
            Some(past) => at = past,
            None => break,
        }
    }
    bytes.len()
}

/// The offset at or after `from`, and at most `end`, of the first comma outside quoted strings and `<>`.
///
/// It is [`find_comma`] within `bytes[..end]`, but looks at sixteen bytes at a time, also at those behind `end`.
#[must_use]
pub fn find_comma_within(bytes: &[u8], from: usize, end: usize) -> usize {
    let mut at = from;
    while at < end
        && let Some(window) = window(bytes, at)
    {
        let marks = window
            .equal(b',')
            .or(window.equal(b'<'))
            .or(window.equal(b'"'));
        let found = marks.bits();
        if found == 0 {
            at += lanes::LEN;
            continue;
        }
        at += found.trailing_zeros() as usize;
        let close = match bytes.get(at) {
            Some(b',') => return at.min(end),
            Some(b'<') => find_close(bytes, at + 1),
            _ => find_quote(bytes, at + 1, end).filter(|&close| bytes.get(close) == Some(&b'"')),
        };
        // What is not closed by its very counterpart is rare, and left to the general reader.
        match close.filter(|&close| close < end) {
            Some(close) => at = close + 1,
            None => break,
        }
    }
    if at >= end {
        return end;
    }
    find_comma(bytes.get(..end).unwrap_or(bytes), at)
}

/// The offset at or after `from` of the first `>`; none where fewer than sixteen bytes are left to look at.
#[inline]
fn find_close(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    loop {
        let found = window(bytes, at)?.equal(b'>').bits();
        if found != 0 {
            return Some(at + found.trailing_zeros() as usize);
        }
        at += lanes::LEN;
    }
}

/// The start and end of `bytes[start..end]` without the linear whitespace around it.
#[inline]
#[must_use]
pub fn trim(bytes: &[u8], start: usize, end: usize) -> (usize, usize) {
    let (mut start, mut end) = (start, end.min(bytes.len()));
    let is_bare = |at: usize| bytes.get(at).is_some_and(|&byte| byte > b' ');
    if start < end && is_bare(start) && is_bare(end - 1) {
        return (start, end);
    }
    while start < end && bytes.get(start).is_some_and(|&byte| is(byte, LWS)) {
        start += 1;
    }
    while end > start && bytes.get(end - 1).is_some_and(|&byte| is(byte, LWS)) {
        end -= 1;
    }
    (start, end)
}

/// The number that `digits` spells; none where it is empty, has another byte or is over `max`.
#[must_use]
pub fn decimal(digits: &[u8], max: u64) -> Option<u64> {
    let mut value: u64 = 0;
    // So many digits never overflow.
    if digits.len() <= 18 {
        for digit in digits {
            let digit = digit.wrapping_sub(b'0');
            if digit > 9 {
                return None;
            }
            value = value * 10 + u64::from(digit);
        }
        return (!digits.is_empty() && value <= max).then_some(value);
    }
    for &digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        value = value
            .checked_mul(10)?
            .checked_add(u64::from(digit - b'0'))?;
        if value > max {
            return None;
        }
    }
    Some(value)
}

/// Tells whether `good` holds for all of `bytes`, sixteen at a time; what is left over is padded with a letter.
#[inline]
fn all_lanes(bytes: &[u8], good: impl Fn(Lanes) -> Lanes) -> bool {
    let (windows, rest) = bytes.as_chunks::<{ lanes::LEN }>();
    let mut all = 0xffff;
    for window in windows {
        all &= good(Lanes::of(window)).bits();
    }
    if !rest.is_empty() {
        // The last sixteen bytes, of which some have been seen already, save the copy into a padded window.
        let last = bytes.last_chunk().map_or_else(
            || {
                let mut padded = [b'a'; lanes::LEN];
                padded
                    .iter_mut()
                    .zip(rest)
                    .for_each(|(to, from)| *to = *from);
                Lanes::of(&padded)
            },
            Lanes::of,
        );
        all &= good(last).bits();
    }
    all == 0xffff
}

/// The class table, made at compile time.
static CLASSES: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut table = [0; 256];
    let mut byte: u8 = 0;
    loop {
        let alphanumeric = byte.is_ascii_alphanumeric();
        let mut class = 0;
        let is_token = alphanumeric
            || matches!(
                byte,
                b'-' | b'.' | b'!' | b'%' | b'*' | b'_' | b'+' | b'`' | b'\'' | b'~'
            );
        if is_token {
            class |= TOKEN | PARAM;
        }
        if matches!(byte, b' ' | b'\t' | b'\r' | b'\n') {
            class |= LWS;
        }
        if alphanumeric || matches!(byte, b'-' | b'.' | b'_') {
            class |= HOST;
        }
        let is_harmless = matches!(
            byte,
            b'&' | b'(' | b')' | b'/' | b'@' | b'=' | b'?' | b'#' | b'$' | b'[' | b']' | b'|'
        );
        if is_token || is_harmless || byte >= 0x80 || matches!(byte, b' ' | b'\t' | b'\r' | b'\n') {
            class |= DISPLAY;
        }
        if matches!(
            byte,
            b'[' | b']' | b':' | b'/' | b'@' | b'&' | b'$' | b'?' | b'=' | b'(' | b')' | b'|'
        ) {
            class |= PARAM;
        }
        table[byte as usize] = class;
        if byte == u8::MAX {
            break;
        }
        byte += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_checked_sixteen_bytes_at_a_time_as_one_by_one() {
        for len in 0..40 {
            for at in 0..len {
                for byte in 0..=u8::MAX {
                    let mut text = vec![b'x'; len];
                    text[at] = byte;
                    let graphic = byte.is_ascii_graphic();
                    assert_eq!(is_graphic(&text), graphic, "{byte} at {at} of {len}");
                    assert_eq!(
                        is_uri_text(&text),
                        graphic && !matches!(byte, b'<' | b'>' | b'"'),
                        "{byte}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_byte_is_found_in_a_window_where_it_first_stands() {
        let window = b"abcdefghij:k::\x3by";
        assert_eq!(find_in_window(window, b':'), Some(10));
        assert_eq!(find_in_window(window, b'a'), Some(0));
        assert_eq!(find_in_window(window, b'y'), Some(15));
        assert_eq!(find_in_window(window, b'z'), None);
    }

    #[test]
    fn a_comma_in_quotes_or_brackets_does_not_separate() {
        let text = br#""a,\",b" <sip:c,d@e>;p="x,y", next"#;
        assert_eq!(find_comma(text, 0), text.len() - 6);
        assert_eq!(find_comma(b"a,b", 2), 3);
        assert_eq!(find_comma(b"<unclosed,", 0), 10);
        assert_eq!(find_comma(b"\"unclosed,\\", 0), 11);
    }

    #[test]
    fn trimming_takes_folding_and_leaves_an_empty_span_in_place() {
        let text = b" \r\n\ta b\t ";
        assert_eq!(trim(text, 0, text.len()), (4, 7));
        assert_eq!(trim(b"    ", 1, 3), (3, 3));
    }

    #[test]
    fn a_number_is_digits_within_its_bound() {
        assert_eq!(decimal(b"0068", 255), Some(68));
        assert_eq!(decimal(b"256", 255), None);
        assert_eq!(decimal(b"", 255), None);
        assert_eq!(decimal(b"+1", 255), None);
        assert_eq!(decimal(b"99999999999999999999999", u64::MAX), None);
    }

    #[test]
    fn a_quoted_string_ends_at_the_first_quote_that_no_backslash_quotes() {
        assert_eq!(skip_quoted(br#"a\\"b"#, 0), Some(4));
        assert_eq!(skip_quoted(br#"a\"b"#, 0), None);
    }
}
