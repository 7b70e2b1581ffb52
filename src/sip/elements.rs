//! The walks over a message's fields of one name, and over what stands in them.

use std::marker::PhantomData;

use super::address::Address;
use super::contact::Contact;
use super::error::SipError;
use super::index::NONE;
use super::message::{Header, Message};
use super::span::Span;
use super::value::{Value, Values};

/// The walk of [`Message::headers`].
#[derive(Clone, Debug)]
pub struct Headers<'a> {
    message: Message<'a>,
    next: Option<u8>,
}

impl<'a> Headers<'a> {
    /// From the field at the place `next` on.
    pub(super) const fn new(message: Message<'a>, next: Option<u8>) -> Self {
        Self { message, next }
    }
}

impl<'a> Iterator for Headers<'a> {
    type Item = Header<'a>;

    fn next(&mut self) -> Option<Header<'a>> {
        let entry = self.message.index().entry(self.next?)?;
        self.next = (entry.next != NONE).then_some(entry.next);
        Some(self.message.field(entry))
    }
}

/// What the elements of a list are read as.
pub trait Element<'a>: Sized {
    /// Reads a field that has one element, plainly written; none where it is otherwise.
    fn of_plain_field(source: &'a [u8], value: Span) -> Option<Result<Self, SipError>>;

    /// Reads one element of a field.
    fn of_value(value: &Value<'a>) -> Result<Self, SipError>;
}

impl<'a> Element<'a> for Contact<'a> {
    #[inline]
    fn of_plain_field(source: &'a [u8], value: Span) -> Option<Result<Self, SipError>> {
        Contact::parse_plain(source, value)
    }

    fn of_value(value: &Value<'a>) -> Result<Self, SipError> {
        value.contact()
    }
}

impl<'a> Element<'a> for Address<'a> {
    #[inline]
    fn of_plain_field(source: &'a [u8], value: Span) -> Option<Result<Self, SipError>> {
        Address::parse_plain(source, value).map(Ok)
    }

    fn of_value(value: &Value<'a>) -> Result<Self, SipError> {
        value.address()
    }
}

/// The walk of [`Message::contacts`] and [`Message::addresses`]: commas are looked for only in a field that is not one plain element.
#[derive(Clone, Debug)]
pub struct Elements<'a, T> {
    message: Message<'a>,
    /// The field that has not been begun.
    field: Option<u8>,
    /// All that is left, once a field was not plain.
    values: Option<Values<'a>>,
    read_as: PhantomData<T>,
}

impl<'a, T> Elements<'a, T> {
    /// From the field at the place `field` on.
    pub(super) const fn new(message: Message<'a>, field: Option<u8>) -> Self {
        Self {
            message,
            field,
            values: None,
            read_as: PhantomData,
        }
    }
}

impl<'a, T: Element<'a>> Iterator for Elements<'a, T> {
    type Item = Result<T, SipError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(values) = &mut self.values {
            return values.next().map(|value| T::of_value(&value));
        }
        let place = self.field?;
        let field = self.message.index().entry(place)?;
        if let Some(element) = T::of_plain_field(self.message.bytes(), field.value) {
            self.field = Some(field.next);
            return Some(element);
        }
        let mut values = Values::from_field(self.message, place);
        let value = values.next();
        self.values = Some(values);
        value.map(|value| T::of_value(&value))
    }
}
