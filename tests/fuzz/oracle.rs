//! `rsip` beside our parser: where both read a message, they read the same, but for what is listed here.

use rsip::headers::ToTypedHeader;
use rsip::prelude::{HeadersExt, UntypedHeader};
use strowger::sip::{self, Index, Message, Parsed};

/// What both read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Reading {
    method: String,
    uri: String,
    call_id: String,
    cseq: (u32, String),
    from_uri: String,
    from_tag: Option<String>,
    to_uri: String,
    to_tag: Option<String>,
    via_transport: String,
    via_branch: Option<String>,
    body: Vec<u8>,
}

/// Our reading; none where the message is not good.
pub(crate) fn ours(bytes: &[u8]) -> Option<Reading> {
    let mut index = Index::new();
    match sip::parse(bytes, &mut index) {
        Parsed::Good(message) => Some(read(message)),
        Parsed::Answerable(..) | Parsed::NotSip(_) => None,
    }
}

fn read(message: Message<'_>) -> Reading {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let via = message.top_via();
    Reading {
        method: if message.is_request() {
            text(message.method_bytes())
        } else {
            message.status().to_string()
        },
        uri: text(message.request_uri()),
        call_id: text(message.call_id()),
        cseq: (message.cseq().number, text(message.cseq().method)),
        from_uri: text(message.from().uri_bytes()),
        from_tag: message.from_tag().map(text),
        to_uri: text(message.to().uri_bytes()),
        to_tag: message.to_tag().map(text),
        via_transport: text(via.transport()),
        via_branch: via.branch().map(text),
        body: message.body().to_vec(),
    }
}

/// The oracle's reading; none where it cannot read one of the fields.
pub(crate) fn theirs(bytes: &[u8]) -> Option<Reading> {
    // On a few malformed messages rsip panics: then it has no opinion.
    std::panic::catch_unwind(|| their_reading(bytes))
        .ok()
        .flatten()
}

fn their_reading(bytes: &[u8]) -> Option<Reading> {
    let message = rsip::SipMessage::try_from(bytes).ok()?;
    let (method, uri) = match &message {
        rsip::SipMessage::Request(request) => (request.method.to_string(), request.uri.to_string()),
        rsip::SipMessage::Response(response) => (
            u16::from(response.status_code.clone()).to_string(),
            String::new(),
        ),
    };
    let from = message.from_header().ok()?.typed().ok()?;
    let to = message.to_header().ok()?.typed().ok()?;
    let cseq = message.cseq_header().ok()?.typed().ok()?;
    let via = message.via_header().ok()?.typed().ok()?;
    Some(Reading {
        method,
        uri,
        call_id: message.call_id_header().ok()?.value().to_owned(),
        cseq: (cseq.seq, cseq.method.to_string()),
        from_uri: from.uri.to_string(),
        from_tag: from.tag().map(ToString::to_string),
        to_uri: to.uri.to_string(),
        to_tag: to.tag().map(ToString::to_string),
        via_transport: via.transport.to_string(),
        via_branch: via.branch().map(ToString::to_string),
        body: message.body().clone(),
    })
}

/// Compares the two readings of any bytes whatever; gives whether there were two.
pub(crate) fn run(bytes: &[u8]) -> bool {
    let (Some(mut ours), Some(mut theirs)) = (ours(bytes), theirs(bytes)) else {
        return false;
    };
    settle_known_differences(bytes, &mut ours, &mut theirs);
    assert_eq!(ours, theirs, "{}", bytes.escape_ascii());
    true
}

/// Where the two are known to differ, and it is no fault of ours.
fn settle_known_differences(bytes: &[u8], ours: &mut Reading, theirs: &mut Reading) {
    // rsip takes all that came for the body; octets past the Content-Length belong to nobody (RFC 3261 18.3).
    if theirs.body.starts_with(&ours.body) {
        theirs.body.truncate(ours.body.len());
    }
    // rsip leaves the whitespace behind a value (RFC 3261 7.3.1: it is none of it).
    theirs.call_id.truncate(theirs.call_id.trim_end().len());
    // rsip writes schemes in lower case; they are the same in any (RFC 3261 19.1.4), and we leave what came as it is.
    for (own, other) in [
        (&mut ours.uri, &theirs.uri),
        (&mut ours.from_uri, &theirs.from_uri),
        (&mut ours.to_uri, &theirs.to_uri),
    ] {
        let scheme = own.find(':').unwrap_or_default();
        if own[..scheme].eq_ignore_ascii_case(other.get(..scheme).unwrap_or_default()) {
            own.replace_range(..scheme, &other[..scheme]);
        }
    }
    // So it does with transports (RFC 3261 7.3.1: tokens are the same in any case).
    if ours
        .via_transport
        .eq_ignore_ascii_case(&theirs.via_transport)
    {
        theirs.via_transport.clone_from(&ours.via_transport);
    }
    // What is no token ends a parameter's value to rsip (RFC 3261 25.1); to us it is a part of it, and is compared as it came.
    for (own, other) in [
        (&mut ours.via_branch, &theirs.via_branch),
        (&mut ours.from_tag, &theirs.from_tag),
        (&mut ours.to_tag, &theirs.to_tag),
    ] {
        if let (Some(own), Some(other)) = (own, other)
            && own
                .get(other.len()..)
                .is_some_and(|rest| rest.starts_with(|next| !is_token(next)))
        {
            own.truncate(other.len());
        }
    }
    // rsip does not divide a Via at its commas (RFC 3261 7.3.1), so that a second value's parameters are the first one's to it.
    let mut index = Index::new();
    if let Parsed::Good(message) = sip::parse(bytes, &mut index) {
        let top = message
            .header(sip::HeaderName::Via)
            .map_or(&b""[..], |field| field.value);
        if top.contains(&b',') {
            theirs.via_branch.clone_from(&ours.via_branch);
        }
    }
}

/// RFC 3261 25.1, `token`.
fn is_token(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || "-.!%*_+`'~".contains(letter)
}
