//! The same nine fields, through `rsip`'s interface.

use std::hint::black_box;

/// Parses a message and reads the fields of [`super::messages::fields::read_nine`]; none where one cannot be read.
pub(crate) fn read_nine(bytes: &[u8]) -> Option<()> {
    use rsip::prelude::*;
    use rsip::{Header, SipMessage};

    let message = SipMessage::try_from(bytes).ok()?;
    match &message {
        SipMessage::Request(request) => drop(black_box((request.method(), request.uri()))),
        SipMessage::Response(response) => drop(black_box(response.status_code())),
    }
    let via = message.via_header().ok()?.typed().ok()?;
    black_box(via.branch());
    let from = message.from_header().ok()?.typed().ok()?;
    black_box(from.tag());
    let to = message.to_header().ok()?.typed().ok()?;
    black_box(&to.uri);
    black_box(message.call_id_header().ok()?.value());
    let cseq = message.cseq_header().ok()?.typed().ok()?;
    black_box((cseq.seq, &cseq.method));
    let contact = message.contact_header().ok()?.typed().ok()?;
    black_box(&contact.uri);
    let length = message.headers().iter().find_map(|header| {
        let Header::ContentLength(length) = header else {
            return None;
        };
        length.value().trim().parse::<u32>().ok()
    });
    black_box(length?);
    Some(())
}
