//! The nine fields of a message that an edge reads, through our own interface.

use std::hint::black_box;

use strowger::sip::{HeaderName, Index, Parsed, parse};

/// Parses a message and reads method, Request-URI, top Via branch, From tag, To, Call-ID, CSeq, Contact and Content-Length; of a
/// response status and reason stand for the first two.
pub(crate) fn read_nine(bytes: &[u8], index: &mut Index) {
    let Parsed::Good(message) = parse(bytes, index) else {
        panic!("a good message");
    };
    if message.is_request() {
        black_box((message.method(), message.request_uri()));
    } else {
        black_box((message.status(), message.reason()));
    }
    black_box(message.top_via().branch());
    black_box(message.from_tag());
    black_box(message.to().uri_bytes());
    black_box(message.call_id());
    black_box(message.cseq());
    let contact = message.contacts().next().and_then(Result::ok);
    black_box(contact.and_then(|contact| contact.address().map(|one| one.address.uri_bytes())));
    let length = message.header(HeaderName::ContentLength);
    black_box((length.map(|field| field.value), message.body()));
}
