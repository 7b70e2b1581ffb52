//! What the tests of several files here share: a request, what becomes of one that is written otherwise, and whether the two ways in which
//! Contacts are read give the same.

use super::error::{NotSip, RejectionCause};
use super::index::Index;
use super::message::{Message, Parsed, parse};
use super::name::HeaderName;

pub(super) const INVITE: &str = "INVITE sip:bob@example.com SIP/2.0\r\n\
    Via: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK1;rport\r\n\
    v: SIP/2.0/UDP 192.0.2.2;branch=z9hG4bK2\r\n\
    Route: <sip:192.0.2.9;lr>, <sip:192.0.2.10;lr>\r\n\
    Max-Forwards: 70\r\n\
    f: \"Alice, A.\" <sip:alice@example.com>;tag=a1\r\n\
    To: <sip:bob@example.com>\r\n\
    Route: <sip:192.0.2.11;lr>\r\n\
    Call-ID: c1@192.0.2.1\r\n\
    CSeq: 7 INVITE\r\n\
    X-Unknown: one\r\n\
    Content-Length: 4\r\n\
    \r\n\
    bodyand more";

/// Parses `text` and hands it on, good or not.
fn with<T>(text: &str, check: impl FnOnce(Parsed<'_>) -> T) -> T {
    check(parse(text.as_bytes(), &mut Index::new()))
}

pub(super) fn good<T>(text: &str, check: impl FnOnce(Message<'_>) -> T) -> T {
    with(text, |parsed| match parsed {
        Parsed::Good(message) => check(message),
        Parsed::Answerable(_, rejection) => panic!("{rejection:?}"),
        Parsed::NotSip(cause) => panic!("{cause:?}"),
    })
}

pub(super) fn rejection(text: &str) -> Option<RejectionCause> {
    with(text, |parsed| match parsed {
        Parsed::Good(_) => None,
        Parsed::Answerable(_, rejection) => Some(rejection.why),
        Parsed::NotSip(cause) => panic!("{cause:?}"),
    })
}

pub(super) fn dropped(text: &str) -> NotSip {
    with(text, |parsed| match parsed {
        Parsed::NotSip(cause) => cause,
        Parsed::Good(_) => panic!("a good message"),
        Parsed::Answerable(_, rejection) => panic!("{rejection:?}"),
    })
}

/// Holds the walk of [`Message::contacts`] against that of [`Message::values`].
pub(super) fn compare_contacts(message: &Message<'_>) {
    let count = message.values(HeaderName::Contact).count();
    assert_eq!(message.contacts().count(), count);
    // The one is bounded by its field, the other by its message: what they read is the same.
    let mut theirs = message.values(HeaderName::Contact);
    for ours in message.contacts() {
        let read = theirs.next().map(|value| value.contact());
        match (ours, read) {
            (Ok(ours), Some(Ok(theirs))) => assert_eq!(
                ours.address().map(|one| (
                    one.address.uri_bytes(),
                    one.q,
                    one.expires_s,
                    one.instance,
                    one.reg_id
                )),
                theirs.address().map(|one| (
                    one.address.uri_bytes(),
                    one.q,
                    one.expires_s,
                    one.instance,
                    one.reg_id
                )),
            ),
            (ours, theirs) => assert_eq!(ours.err(), theirs.and_then(Result::err)),
        }
    }
}
