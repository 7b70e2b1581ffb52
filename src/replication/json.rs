//! The little of JSON (RFC 8259) that nodes speak: read without recursion and without building a tree.
//!
//! Texts are bytes, since Kamailio passes on what a phone sent as it is. What is not JSON, or nested deeper than
//! [`JSON_DEPTH_MAX`], is an error and never more than that.

use std::borrow::Cow;

use crate::limits::JSON_DEPTH_MAX;

/// A place in a text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a> {
    text: &'a [u8],
    at: usize,
}

/// This is not JSON, or not what was to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

impl<'a> Reader<'a> {
    pub(super) const fn new(text: &'a [u8]) -> Self {
        Self { text, at: 0 }
    }

    /// Reads an object; `member` is called behind each key and reads the value.
    pub(super) fn object(
        &mut self,
        mut member: impl FnMut(&[u8], &mut Self) -> Result<(), Malformed>,
    ) -> Result<(), Malformed> {
        self.expect(b'{')?;
        if self.peek() == Some(b'}') {
            return self.expect(b'}');
        }
        loop {
            let key = self.text()?;
            self.expect(b':')?;
            member(&key, self)?;
            match self.next() {
                Some(b',') => {}
                Some(b'}') => return Ok(()),
                Some(_) | None => return Err(Malformed),
            }
        }
    }

    /// Reads a string, escapes undone.
    pub(super) fn text(&mut self) -> Result<Cow<'a, [u8]>, Malformed> {
        self.expect(b'"')?;
        let start = self.at;
        let rest = self.text.get(start..).unwrap_or_default();
        let plain = rest
            .iter()
            .position(|byte| matches!(byte, b'"' | b'\\'))
            .ok_or(Malformed)?;
        self.at = start + plain;
        if rest.get(plain) == Some(&b'"') {
            self.at += 1;
            return Ok(Cow::Borrowed(rest.get(..plain).unwrap_or_default()));
        }
        let mut out = rest.get(..plain).unwrap_or_default().to_vec();
        loop {
            match self.byte()? {
                b'"' => return Ok(Cow::Owned(out)),
                b'\\' => self.escape(&mut out)?,
                byte => out.push(byte),
            }
        }
    }

    /// Reads a number.
    pub(super) fn number(&mut self) -> Result<f64, Malformed> {
        self.peek();
        let rest = self.text.get(self.at..).unwrap_or_default();
        let is_of_number =
            |byte: &u8| byte.is_ascii_digit() || matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E');
        let len = rest
            .iter()
            .position(|byte| !is_of_number(byte))
            .unwrap_or(rest.len());
        let digits = std::str::from_utf8(rest.get(..len).unwrap_or_default());
        let number = digits.ok().and_then(|digits| digits.parse().ok());
        self.at += len;
        number
            .filter(|number: &f64| number.is_finite())
            .ok_or(Malformed)
    }

    /// Reads past any value.
    pub(super) fn skip(&mut self) -> Result<(), Malformed> {
        let mut depth = 0_usize;
        loop {
            match self.peek().ok_or(Malformed)? {
                b'"' => drop(self.text()?),
                b'{' | b'[' => {
                    depth += 1;
                    self.at += 1;
                }
                b'}' | b']' | b',' | b':' if depth > 0 => {
                    depth -= usize::from(matches!(self.peek(), Some(b'}' | b']')));
                    self.at += 1;
                }
                b'-' | b'0'..=b'9' => drop(self.number()?),
                b't' | b'f' | b'n' => self.word()?,
                _ => return Err(Malformed),
            }
            if depth == 0 {
                return Ok(());
            }
            if depth > JSON_DEPTH_MAX {
                return Err(Malformed);
            }
        }
    }

    /// Whether nothing but white space is left.
    pub(super) fn is_at_end(&mut self) -> bool {
        self.peek().is_none()
    }

    /// The byte that comes next, white space skipped.
    pub(super) fn peek(&mut self) -> Option<u8> {
        while let Some(b' ' | b'\t' | b'\r' | b'\n') = self.text.get(self.at) {
            self.at += 1;
        }
        self.text.get(self.at).copied()
    }

    fn next(&mut self) -> Option<u8> {
        let next = self.peek();
        self.at += usize::from(next.is_some());
        next
    }

    fn expect(&mut self, byte: u8) -> Result<(), Malformed> {
        if self.next() == Some(byte) {
            Ok(())
        } else {
            Err(Malformed)
        }
    }

    fn byte(&mut self) -> Result<u8, Malformed> {
        let byte = self.text.get(self.at).copied().ok_or(Malformed)?;
        self.at += 1;
        Ok(byte)
    }

    fn word(&mut self) -> Result<(), Malformed> {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let words: [&[u8]; 3] = [b"true", b"false", b"null"];
        let word = words.iter().find(|word| rest.starts_with(word));
        self.at += word.ok_or(Malformed)?.len();
        Ok(())
    }

    fn escape(&mut self, out: &mut Vec<u8>) -> Result<(), Malformed> {
        out.push(match self.byte()? {
            byte @ (b'"' | b'\\' | b'/') => byte,
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => {
                let character = self.character()?;
                let mut room = [0; 4];
                out.extend_from_slice(character.encode_utf8(&mut room).as_bytes());
                return Ok(());
            }
            _ => return Err(Malformed),
        });
        Ok(())
    }

    fn character(&mut self) -> Result<char, Malformed> {
        let high = self.unit()?;
        if !(0xD800..0xDC00).contains(&high) {
            return char::from_u32(high).ok_or(Malformed);
        }
        if (self.byte()?, self.byte()?) != (b'\\', b'u') {
            return Err(Malformed);
        }
        let low = self.unit()?;
        let low = low.checked_sub(0xDC00).filter(|low| *low < 0x400);
        char::from_u32(0x10000 + ((high - 0xD800) << 10) + low.ok_or(Malformed)?).ok_or(Malformed)
    }

    fn unit(&mut self) -> Result<u32, Malformed> {
        let mut unit = 0;
        for _ in 0..4 {
            let digit = char::from(self.byte()?).to_digit(16).ok_or(Malformed)?;
            unit = unit << 4 | digit;
        }
        Ok(unit)
    }
}

/// Writes a string as Kamailio does: UTF-8 as it is; quotes, backslashes and control characters escaped.
pub(super) fn write_text(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for &byte in text {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            0..=0x1F | 0x7F => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                out.extend_from_slice(b"\\u00");
                out.push(HEX[usize::from(byte >> 4)]);
                out.push(HEX[usize::from(byte & 15)]);
            }
            byte => out.push(byte),
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(json: &str) -> Result<Vec<u8>, Malformed> {
        Reader::new(json.as_bytes()).text().map(Cow::into_owned)
    }

    #[test]
    fn texts_are_read_with_their_escapes() {
        assert_eq!(text(r#""plain""#), Ok(b"plain".to_vec()));
        assert_eq!(
            text(r#""a\"b\\c\/\u00fc""#),
            Ok("a\"b\\c/ü".as_bytes().to_vec())
        );
        assert_eq!(text(r#""\ud83d\ude00""#), Ok("😀".as_bytes().to_vec()));
        for bad in [
            r#""open"#,
            r#""\x""#,
            r#""\u12""#,
            r#""\ud83d""#,
            r#""\udc00""#,
            "x",
            "",
        ] {
            assert_eq!(text(bad), Err(Malformed), "{bad}");
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        for text in ["", "plain", "\"\\", "ü\n\t\u{7f}", "\u{1}"] {
            let mut out = Vec::new();
            write_text(text.as_bytes(), &mut out);
            let read = Reader::new(&out).text().map(Cow::into_owned);
            assert_eq!(read, Ok(text.as_bytes().to_vec()));
        }
    }

    #[test]
    fn any_value_is_read_past_and_depth_is_bounded() {
        for good in [
            "1",
            "-1.5e3",
            "true",
            "null",
            "[]",
            "{}",
            r#"{"a":[1,{"b":"}"}]}"#,
        ] {
            let text = format!("{good},");
            let mut reader = Reader::new(text.as_bytes());
            assert_eq!(reader.skip(), Ok(()), "{good}");
            assert_eq!(reader.peek(), Some(b','), "{good}");
        }
        let deep = "[".repeat(100_000);
        assert_eq!(Reader::new(deep.as_bytes()).skip(), Err(Malformed));
        for bad in ["", "}", ",", "nul", "[1", "--"] {
            assert_eq!(Reader::new(bad.as_bytes()).skip(), Err(Malformed), "{bad}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let _ = Reader::new(&text).skip();
            let _ = Reader::new(&text).object(|_, reader| reader.skip());
        }
    }
}
