//! Parameters behind a `;`: of URIs, of addresses and of Vias (RFC 3261 25.1, `generic-param`).

use super::error::SipError;
use super::plain::PlainParam;
use super::span::Span;
use crate::scan;

/// A list of `;name=value` as it stands in a message or in any other text.
///
/// Nothing is validated until it is walked: [`Params::check`] does so once, for those who must refuse.
#[derive(Clone, Copy, Debug, Default)]
pub struct Params<'a> {
    source: &'a [u8],
    span: Span,
}

/// One parameter.
#[derive(Clone, Copy, Debug)]
pub struct Param<'a> {
    /// The name as it is written, without whitespace around it.
    pub name: &'a [u8],
    /// The value, quotes and all; none where there is no `=`.
    pub value: Option<&'a [u8]>,
    /// From the `;` to the end of the value: what to cut so that the parameter goes.
    pub span: Span,
    /// The value alone; the empty span past the name where there is none.
    pub value_span: Span,
    /// Whether reading it has shown already that it is well formed.
    pub(super) is_plain: bool,
}

impl<'a> Params<'a> {
    /// The parameters in `source` at `span`, which begins with `;` or is empty.
    #[must_use]
    pub const fn new(source: &'a [u8], span: Span) -> Self {
        Self { source, span }
    }

    /// The parameters of a text that stands alone.
    #[must_use]
    pub const fn of(text: &'a [u8]) -> Self {
        Self {
            source: text,
            span: Span::all(text),
        }
    }

    /// The text, from the first `;` on.
    #[must_use]
    pub fn text(&self) -> &'a [u8] {
        self.span.of(self.source)
    }

    /// Where the text stands.
    #[must_use]
    pub const fn span(&self) -> Span {
        self.span
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.span.is_empty()
    }

    /// The value of the first parameter called `name`, in any case: `None` where it is absent, `Some(None)` where it
    /// has no value.
    #[inline]
    #[must_use]
    pub fn param(&self, name: &[u8]) -> Option<Option<&'a [u8]>> {
        self.find(name).map(|param| param.value)
    }

    /// The first parameter called `name`, in any case.
    #[inline]
    #[must_use]
    pub fn find(&self, name: &[u8]) -> Option<Param<'a>> {
        // It does not fit into so few bytes with its `;`.
        if self.span.len() <= name.len() {
            return None;
        }
        self.search(name)
    }

    fn search(&self, name: &[u8]) -> Option<Param<'a>> {
        self.iter()
            .find(|param| param.name.eq_ignore_ascii_case(name))
    }

    /// Walks the parameters in their order, empty ones (`;;`) included.
    #[must_use]
    pub fn iter(&self) -> Iter<'a> {
        Iter {
            source: self.source,
            at: usize::from(self.span.start),
            end: usize::from(self.span.end),
        }
    }

    /// Checks that each parameter has a token for a name, and a value where it has a `=`.
    pub fn check(&self) -> Result<(), SipError> {
        self.iter().try_for_each(|param| param.check())
    }
}

impl<'a> IntoIterator for &Params<'a> {
    type Item = Param<'a>;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

impl Param<'_> {
    /// Checks that the name is a token and that the value, where there is one, is a token, a host or a quoted string.
    pub fn check(&self) -> Result<(), SipError> {
        let is_good = match self.value {
            _ if self.is_plain => true,
            _ if self.name.is_empty() || !scan::all(self.name, scan::TOKEN) => false,
            None => true,
            Some([b'"', rest @ ..]) => scan::skip_quoted(rest, 0) == Some(rest.len()),
            Some(value) => !value.is_empty() && scan::all(value, scan::PARAM),
        };
        if is_good {
            Ok(())
        } else {
            Err(SipError::BadParameter)
        }
    }
}

/// The walk of [`Params::iter`].
#[derive(Clone, Debug)]
pub struct Iter<'a> {
    source: &'a [u8],
    at: usize,
    end: usize,
}

impl<'a> Iterator for Iter<'a> {
    type Item = Param<'a>;

    fn next(&mut self) -> Option<Param<'a>> {
        // Within a message the text ends before the message does: the scan must not run on into what follows.
        let source = self.source.get(..self.end)?;
        if source.get(self.at)? != &b';' {
            // Whitespace before a `;`, or what is no parameter at all: the caller's text, shown as a nameless one.
            let start = self.at;
            self.at = scan::find_unquoted(source, start, b';');
            return Some(param(source, start, start, self.at));
        }
        let start = self.at;
        if let Some(plain) = PlainParam::read(self.source, start, self.end)
            && matches!(source.get(plain.end), None | Some(b';'))
        {
            self.at = plain.end;
            return Some(plain.param(source));
        }
        self.at = scan::find_unquoted(source, start + 1, b';');
        Some(param(source, start, start + 1, self.at))
    }
}

/// Splits `source[from..end]` at its `=`; `start` is where the parameter's own `;` stands.
pub(super) fn param(source: &[u8], start: usize, from: usize, end: usize) -> Param<'_> {
    let (from, end) = scan::trim(source, from, end);
    let text = Span::new(from, end).of(source);
    let Some(equals) = scan::find(text, 0, b'=').map(|at| from + at) else {
        return Param {
            name: text,
            value: None,
            span: Span::new(start, end),
            value_span: Span::new(end, end),
            is_plain: false,
        };
    };
    let (_, name_end) = scan::trim(source, from, equals);
    let (value_start, value_end) = scan::trim(source, equals + 1, end);
    let value_span = Span::new(value_start, value_end);
    Param {
        name: Span::new(from, name_end).of(source),
        value: Some(value_span.of(source)),
        span: Span::new(start, end),
        value_span,
        is_plain: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_in_any_case_with_whitespace_and_folding_around() {
        let params = Params::of(b";  TAG\r\n =  a73 ; lr;x=\"a;\\\"b\" ;empty=");
        assert_eq!(params.param(b"tag"), Some(Some(&b"a73"[..])));
        assert_eq!(params.param(b"LR"), Some(None));
        assert_eq!(params.param(b"x"), Some(Some(&b"\"a;\\\"b\""[..])));
        assert_eq!(params.param(b"empty"), Some(Some(&b""[..])));
        assert_eq!(params.param(b"absent"), None);
        assert_eq!(params.check(), Err(SipError::BadParameter));
    }

    #[test]
    fn a_span_takes_the_semicolon_and_the_value() {
        let text = b";branch=z9 ;rport;ttl=1";
        let params = Params::of(text);
        let rport = params.find(b"rport").map(|param| param.span);
        assert_eq!(rport.map(|span| span.of(text)), Some(&b";rport"[..]));
        let ttl = params.find(b"ttl").map(|param| param.value_span);
        assert_eq!(ttl.map(|span| span.of(text)), Some(&b"1"[..]));
        assert_eq!(params.check(), Ok(()));
    }

    #[test]
    fn an_empty_parameter_is_no_parameter() {
        for text in [
            &b";;"[..],
            b";",
            b"; ;a",
            b";a b",
            b";=x",
            b";a=\"b",
            b";a=\"b\"c",
        ] {
            assert_eq!(
                Params::of(text).check(),
                Err(SipError::BadParameter),
                "{}",
                text.escape_ascii()
            );
        }
    }
}
