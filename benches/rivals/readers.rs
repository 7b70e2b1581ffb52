//! The nine fields by the parsers in Rust, each through its own interface.

use std::cell::RefCell;
use std::fmt::{self, Display};

use strowger::sip::{HeaderName, Index, Parsed, parse};

use crate::nine::{Nine, Start};

thread_local! {
    /// Kept from message to message, as a worker keeps it.
    static INDEX: RefCell<Index> = RefCell::new(Index::new());
}

/// Bytes of a message that are written out as the text they are.
struct Text<'m>(&'m [u8]);

impl Display for Text<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .utf8_chunks()
            .try_for_each(|chunk| out.write_str(chunk.valid()))
    }
}

pub(crate) fn strowger(bytes: &[u8], see: &mut dyn FnMut(&Nine<'_>)) -> bool {
    INDEX.with_borrow_mut(|index| read_by_strowger(bytes, index, see).is_some())
}

fn read_by_strowger(bytes: &[u8], index: &mut Index, see: &mut dyn FnMut(&Nine<'_>)) -> Option<()> {
    let Parsed::Good(message) = parse(bytes, index) else {
        return None;
    };
    let (method, uri) = (Text(message.method_bytes()), Text(message.request_uri()));
    let cseq = message.cseq();
    let contact = message.contacts().next()?.ok()?;
    see(&Nine {
        start: if message.is_request() {
            Start::Request(&method, &uri)
        } else {
            Start::Response(message.status())
        },
        branch: &Text(message.top_via().branch()?),
        from_tag: &Text(message.from_tag()?),
        to: &Text(message.to().uri_bytes()),
        call_id: &Text(message.call_id()),
        cseq: cseq.number,
        cseq_method: &Text(cseq.method),
        contact: &Text(contact.address()?.address.uri_bytes()),
        content_length: std::str::from_utf8(message.header(HeaderName::ContentLength)?.value)
            .ok()?
            .parse()
            .ok()?,
    });
    Some(())
}

/// A reader by rsip's interface, which rsipstack's parser has kept.
macro_rules! by_rsip {
    ($name:ident, $($library:ident)::+) => {
        pub(crate) fn $name(bytes: &[u8], see: &mut dyn FnMut(&Nine<'_>)) -> bool {
            let read = |see: &mut dyn FnMut(&Nine<'_>)| -> Option<()> {
                use $($library)::+::prelude::*;
                use $($library)::+::{Header, SipMessage};

                let message = SipMessage::try_from(bytes).ok()?;
                let via = message.via_header().ok()?.typed().ok()?;
                let from = message.from_header().ok()?.typed().ok()?;
                let to = message.to_header().ok()?.typed().ok()?;
                let cseq = message.cseq_header().ok()?.typed().ok()?;
                let contact = message.contact_header().ok()?.typed().ok()?;
                let length = message.headers().iter().find_map(|header| match header {
                    Header::ContentLength(length) => length.value().trim().parse().ok(),
                    _ => None,
                });
                see(&Nine {
                    start: match &message {
                        SipMessage::Request(request) => Start::Request(request.method(), request.uri()),
                        SipMessage::Response(response) => Start::Response(response.status_code().code()),
                    },
                    branch: &via.branch()?.value(),
                    from_tag: &from.tag()?.value(),
                    to: &to.uri,
                    call_id: &message.call_id_header().ok()?.value(),
                    cseq: cseq.seq,
                    cseq_method: &cseq.method,
                    contact: &contact.uri,
                    content_length: length?,
                });
                Some(())
            };
            read(see).is_some()
        }
    };
}

by_rsip!(rsip, rsip);
by_rsip!(rsipstack, rsipstack::sip);

#[cfg(feature = "siphon")]
pub(crate) fn siphon(bytes: &[u8], see: &mut dyn FnMut(&Nine<'_>)) -> bool {
    read_by_siphon(bytes, see).is_some()
}

#[cfg(feature = "siphon")]
fn read_by_siphon(bytes: &[u8], see: &mut dyn FnMut(&Nine<'_>)) -> Option<()> {
    use ::siphon::sip::headers::{cseq::CSeq, nameaddr::NameAddr, via::Via};
    use ::siphon::sip::message::StartLine;
    use ::siphon::sip::parser::parse_sip_message_bytes;

    let message = parse_sip_message_bytes(bytes).ok()?;
    let headers = &message.headers;
    let via = Via::parse(headers.via()?).ok()?;
    let from = NameAddr::parse(headers.from()?).ok()?;
    let to = NameAddr::parse(headers.to()?).ok()?;
    let cseq = CSeq::parse(headers.cseq()?).ok()?;
    let contact = NameAddr::parse(headers.contact()?).ok()?;
    let method;
    see(&Nine {
        start: match &message.start_line {
            StartLine::Request(line) => {
                method = line.method.as_str();
                Start::Request(&method, &line.request_uri)
            }
            StartLine::Response(line) => Start::Response(line.status_code),
        },
        branch: via.branch.as_ref()?,
        from_tag: from.tag.as_ref()?,
        to: &to.uri,
        call_id: headers.call_id()?,
        cseq: cseq.sequence,
        cseq_method: &cseq.method.as_str(),
        contact: &contact.uri,
        content_length: u32::try_from(headers.content_length()?).ok()?,
    });
    Some(())
}
