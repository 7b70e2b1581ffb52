//! The elements of a field whose value is a list (RFC 3261 7.3.1), over all the lines that have its name.

use super::address::Address;
use super::contact::Contact;
use super::error::SipError;
use super::message::Message;
use super::name::HeaderName;
use super::span::Span;
use super::via::Via;
use crate::scan;

/// One element, with what is needed to cut it out.
#[derive(Clone, Copy, Debug)]
pub struct Value<'a> {
    source: &'a [u8],
    span: Span,
    line_span: Span,
    /// The offset of the comma before it in its line; `u16::MAX` where it is the first.
    comma_before: u16,
    /// Where the element after it in its line begins; zero where it is the last.
    next_start: u16,
    is_alone: bool,
}

impl<'a> Value<'a> {
    /// The element without whitespace around it.
    #[must_use]
    pub fn bytes(&self) -> &'a [u8] {
        self.span.of(self.source)
    }

    /// Where it stands.
    #[must_use]
    pub const fn span(&self) -> Span {
        self.span
    }

    /// Where the whole field stands: its name, all its elements, and its line break.
    #[must_use]
    pub const fn line_span(&self) -> Span {
        self.line_span
    }

    /// Whether no other element stands in its field.
    #[must_use]
    pub const fn is_alone(&self) -> bool {
        self.is_alone
    }

    /// What to cut so that this one element goes: the whole field where it stands alone, else the element and a comma.
    ///
    /// The cuts of two elements of one field may overlap; [`Message::removal_of_first`] cuts several.
    #[must_use]
    pub const fn removal_span(&self) -> Span {
        if self.is_alone {
            self.line_span
        } else if self.next_start > 0 {
            Span {
                start: self.span.start,
                end: self.next_start,
            }
        } else if self.comma_before < self.span.end {
            Span {
                start: self.comma_before,
                end: self.span.end,
            }
        } else {
            self.span
        }
    }

    /// Whether no other element follows it in its field.
    pub(super) const fn is_last(&self) -> bool {
        self.next_start == 0
    }

    /// Where the element after it in its field begins.
    pub(super) const fn next_start(&self) -> u16 {
        self.next_start
    }

    /// Reads it as a Via.
    pub fn via(&self) -> Result<Via<'a>, SipError> {
        Via::parse(self.source, self.span)
    }

    /// Reads it as an address.
    pub fn address(&self) -> Result<Address<'a>, SipError> {
        Address::parse(self.source, self.span)
    }

    /// Reads it as a Contact.
    pub fn contact(&self) -> Result<Contact<'a>, SipError> {
        Contact::parse(self.source, self.span)
    }
}

/// The walk of [`Message::values`]; empty elements are passed over.
#[derive(Clone, Debug)]
pub struct Values<'a> {
    message: Message<'a>,
    /// The field being walked.
    field: Option<u8>,
    /// How far it has been walked; `None` at its start.
    at: Option<usize>,
    comma_before: u16,
}

impl<'a> Values<'a> {
    /// The elements of all fields called `name`.
    pub(super) fn new(message: Message<'a>, name: HeaderName) -> Self {
        Self {
            message,
            field: message.index().first_place(name),
            at: None,
            comma_before: NO_COMMA,
        }
    }

    /// The elements of the field at `place` and of those of its name behind it.
    pub(super) const fn from_field(message: Message<'a>, place: u8) -> Self {
        Self {
            message,
            field: Some(place),
            at: None,
            comma_before: NO_COMMA,
        }
    }
}

const NO_COMMA: u16 = u16::MAX;

impl<'a> Iterator for Values<'a> {
    type Item = Value<'a>;

    fn next(&mut self) -> Option<Value<'a>> {
        loop {
            let field = self.message.index().entry(self.field?)?;
            let source = self.message.bytes();
            let text = source.get(..usize::from(field.value.end))?;
            let end = text.len();
            let from = self.at.unwrap_or(usize::from(field.value.start));
            if from >= end {
                self.field = Some(field.next);
                self.at = None;
                self.comma_before = NO_COMMA;
                continue;
            }
            let comma = scan::find_comma_within(source, from, end);
            let (start, end) = scan::trim(text, from, comma);
            let comma_before = self.comma_before;
            self.at = Some(comma + 1);
            if start == end {
                continue;
            }
            let next = next_element(text, comma);
            self.comma_before = Span::new(comma, comma).start;
            return Some(Value {
                source,
                span: Span::new(start, end),
                line_span: Span {
                    start: field.start,
                    end: field.line_end,
                },
                comma_before,
                next_start: next.map_or(0, |next| Span::new(next, next).start),
                is_alone: comma_before == NO_COMMA && next.is_none(),
            });
        }
    }
}

/// Where the next element that is not empty begins, behind the comma at `comma`.
fn next_element(text: &[u8], comma: usize) -> Option<usize> {
    let mut at = comma;
    while text.get(at) == Some(&b',') {
        at = scan::skip(text, at + 1, scan::LWS);
    }
    (at < text.len()).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sip::tests::{INVITE, good};

    #[test]
    fn elements_are_walked_over_all_lines_and_cut_one_by_one() {
        good(INVITE, |message| {
            let routes: Vec<_> = message.values(HeaderName::Route).collect();
            let texts: Vec<_> = routes.iter().map(Value::bytes).collect();
            assert_eq!(
                texts,
                [
                    &b"<sip:192.0.2.9;lr>"[..],
                    b"<sip:192.0.2.10;lr>",
                    b"<sip:192.0.2.11;lr>"
                ]
            );
            let cuts: Vec<_> = routes
                .iter()
                .map(|route| message.text(route.removal_span()))
                .collect();
            assert_eq!(cuts[0], b"<sip:192.0.2.9;lr>, ");
            assert_eq!(cuts[1], b", <sip:192.0.2.10;lr>");
            assert_eq!(cuts[2], b"Route: <sip:192.0.2.11;lr>\r\n");
            assert_eq!(message.values(HeaderName::Via).count(), 2);
        });
    }

    #[test]
    fn the_first_elements_are_cut_together() {
        let cuts = |count| {
            good(INVITE, |message| {
                let cuts = message.removal_of_first(HeaderName::Route, count);
                cuts.map(|cut| String::from_utf8_lossy(message.text(cut)).into_owned())
                    .collect::<Vec<_>>()
            })
        };
        assert_eq!(cuts(0), [""; 0]);
        assert_eq!(cuts(1), ["<sip:192.0.2.9;lr>, "]);
        assert_eq!(
            cuts(2),
            ["Route: <sip:192.0.2.9;lr>, <sip:192.0.2.10;lr>\r\n"]
        );
        assert_eq!(cuts(9).len(), 2);
    }

    #[test]
    fn empty_elements_are_passed_over_and_cut_with_their_neighbours() {
        let text = INVITE.replace("Route: <sip:192.0.2.11;lr>", "Supported: , path ,, gruu,");
        good(&text, |message| {
            let values: Vec<_> = message.values(HeaderName::Supported).collect();
            assert_eq!(
                values.iter().map(Value::bytes).collect::<Vec<_>>(),
                [&b"path"[..], b"gruu"]
            );
            assert_eq!(message.text(values[0].removal_span()), b"path ,, ");
            assert_eq!(message.text(values[1].removal_span()), b",, gruu");
        });
        let text = INVITE.replace("Route: <sip:192.0.2.11;lr>", "Supported: ,path,");
        good(&text, |message| {
            let value = message.values(HeaderName::Supported).next().expect("one");
            assert!(value.is_alone());
            assert_eq!(message.text(value.removal_span()), b"Supported: ,path,\r\n");
        });
    }
}
