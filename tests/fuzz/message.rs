//! The parser: whatever bytes arrive, it does not panic, every place that it names lies in the message, what it calls good stays
//! good when it is written again, and what is answered to it is a message without fault of ours.

use std::net::SocketAddr;

use strowger::limits::{AOR_LEN_MAX, HEADERS_MAX, MESSAGE_LEN_MAX};
use strowger::sip::{
    self, Contact, EditError, Edits, Frame, HeaderName, Index, Message, Parsed, Reply, Span, Uri,
};

/// Asks a message for everything it has, and checks that each place lies where it should.
fn walk(message: Message<'_>) {
    let bytes = message.bytes();
    let within = |span: Span| {
        assert!(
            span.start <= span.end && usize::from(span.end) <= bytes.len(),
            "{span:?} of {}",
            bytes.len()
        );
    };
    let mut line_start = message.start_line_span().end;
    for field in message.all_headers() {
        within(field.line_span);
        assert!(
            field.line_span.start >= line_start,
            "fields come one behind the other"
        );
        line_start = field.line_span.end;
        assert_eq!(message.text(field.value_span), field.value);
        assert!(
            field.line_span.start <= field.value_span.start
                && field.value_span.end <= field.line_span.end
        );
        let mut count = 0;
        for value in message.values(field.name) {
            within(value.span());
            within(value.removal_span());
            assert!(!value.bytes().is_empty());
            if let Ok(via) = value.via() {
                within(via.span());
                let _ = (
                    via.host(),
                    via.rport(),
                    via.received(),
                    via.ttl(),
                    via.maddr(),
                    via.is_rfc3261(),
                );
                via.params().iter().for_each(|param| within(param.span));
            }
            if let Ok(address) = value.address() {
                within(address.uri_span());
                if let Ok(uri) = address.uri() {
                    walk_uri(&uri);
                }
            }
            if let Ok(Contact::Address(contact)) = value.contact() {
                assert!(contact.q.is_none_or(|q| q <= 1_000));
            }
            count += 1;
        }
        let mut edits = Edits::new();
        for cut in message.removal_of_first(field.name, count) {
            within(cut);
            match edits.remove(cut) {
                Ok(()) | Err(EditError::TooMany) => {}
                Err(error) => panic!("{error:?}: cuts of one kind never overlap"),
            }
        }
    }
    if let Ok(uri) = Uri::parse(message.request_uri()) {
        walk_uri(&uri);
    }
    within(message.request_uri_span());
    within(message.version_span());
    let _ = (
        message.body(),
        message.cseq(),
        message.from().display(),
        message.to_tag(),
        message.reason(),
    );
}

/// A URI is equal to itself; its AoR, where it has one, is the same in any spelling of it that we make.
fn walk_uri(uri: &Uri<'_>) {
    assert!(
        !uri.is_sip() || sip::equivalent(uri, uri),
        "{:?}",
        uri.bytes().escape_ascii().to_string()
    );
    let _ = (uri.is_loose_router(), uri.param(b"transport"), uri.opaque());
    let (mut out, mut again) = ([0; AOR_LEN_MAX], [0; AOR_LEN_MAX]);
    for use_domain in [false, true] {
        let user = uri.user.unwrap_or_default();
        let Ok(aor) = sip::uri::canonical_aor(user, &uri.host, use_domain, &mut out) else {
            continue;
        };
        assert!(aor.len() <= AOR_LEN_MAX);
        let upper: Vec<u8> = escapes_in_capitals(user);
        let twin = sip::uri::canonical_aor(&upper, &uri.host, use_domain, &mut again);
        assert_eq!(
            twin.ok(),
            Some(aor),
            "RFC 3261 19.1.4: case of an escape makes no difference"
        );
    }
}

fn escapes_in_capitals(user: &[u8]) -> Vec<u8> {
    let mut out = user.to_vec();
    for (at, _) in user.iter().enumerate().filter(|&(_, &byte)| byte == b'%') {
        out.iter_mut()
            .skip(at + 1)
            .take(2)
            .for_each(u8::make_ascii_uppercase);
    }
    out
}

/// What a proxy does to every request: the source into the topmost Via, a Via of its own before it. The result is good, too.
fn relay(message: &Message<'_>, source: SocketAddr) {
    let mut edits = Edits::new();
    let top = message
        .header(HeaderName::Via)
        .expect("a good message has one");
    edits
        .insert(
            top.line_span.start,
            b"Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKours\r\n",
        )
        .expect("room for one edit");
    message
        .top_via()
        .stamp(source, &mut edits)
        .expect("room for three more");
    let bytes = &message.bytes()[..message.end()];
    let mut out = vec![0; edits.len(bytes.len())];
    assert_eq!(edits.write(bytes, &mut out), Ok(out.len()));
    let mut index = Index::new();
    let Parsed::Good(relayed) = sip::parse(&out, &mut index) else {
        // With one Via more it may be over a bound of its own.
        assert!(
            out.len() > MESSAGE_LEN_MAX || message.all_headers().count() >= HEADERS_MAX,
            "{}",
            out.escape_ascii()
        );
        return;
    };
    assert_eq!(relayed.body(), message.body());
    assert_eq!(relayed.top_via().branch(), Some(&b"z9hG4bKours"[..]));
    let second = relayed
        .values(HeaderName::Via)
        .nth(1)
        .expect("the former top")
        .via()
        .expect("still good");
    assert_eq!(second.branch(), message.top_via().branch());
    if let Some(received) = second.received() {
        assert_eq!(received, source.ip().to_string().as_bytes());
    }
    if let Some(rport) = second.rport() {
        assert_eq!(rport, Some(source.port()));
    }
}

/// What must hold of any bytes whatever.
pub(crate) fn run(bytes: &[u8]) {
    let mut index = Index::new();
    let message = match sip::parse(bytes, &mut index) {
        Parsed::Good(message) => {
            walk(message);
            let mut again = Index::new();
            let Parsed::Good(same) = sip::parse(message.bytes(), &mut again) else {
                panic!("a good message stays good")
            };
            assert_eq!(
                same.bytes(),
                message.bytes(),
                "what is forwarded is what was read"
            );
            assert_eq!(same.body(), message.body());
            // Where the message says how long it is, a stream is cut where the datagram is.
            if message.header(HeaderName::ContentLength).is_some()
                && !bytes.starts_with(b"\r\n\r\n")
            {
                assert_eq!(
                    sip::frame(message.bytes(), &mut again),
                    Frame::Message(message.end())
                );
            }
            // No bare CR or LF is in the head of what is forwarded.
            let head = &message.bytes()[..usize::from(message.headers_end())];
            let bare = |at: usize| match head[at] {
                b'\n' => at == 0 || head[at - 1] != b'\r',
                b'\r' => head.get(at + 1).is_some_and(|&next| next != b'\n'),
                _ => false,
            };
            assert!(!(0..head.len()).any(bare));
            message
        }
        Parsed::Answerable(message, _) => {
            walk(message);
            message
        }
        Parsed::NotSip(_) => return,
    };
    match sip::frame(bytes, &mut Index::new()) {
        Frame::Partial => {}
        Frame::Keepalive(len) | Frame::Message(len) | Frame::Unframed(len) => {
            assert!(len > 0 && len <= bytes.len())
        }
    }
    if message.is_request() {
        let source = "192.0.2.77:5077".parse().expect("an address");
        if matches!(sip::parse(bytes, &mut Index::new()), Parsed::Good(_)) {
            relay(&message, source);
        }
        let reply = Reply::new(&message, 404, "Not Found")
            .to_tag(b"t")
            .received(source)
            .record_route(true);
        let mut out = vec![0; reply.len()];
        assert_eq!(reply.write(&mut out), Some(out.len()));
        if matches!(sip::parse(bytes, &mut Index::new()), Parsed::Good(_)) {
            let mut index = Index::new();
            let Parsed::Good(reply) = sip::parse(&out, &mut index) else {
                panic!(
                    "the response to a good request is good: {}",
                    out.escape_ascii()
                )
            };
            assert_eq!(reply.call_id(), message.call_id());
            assert_eq!(reply.cseq(), message.cseq());
            assert_eq!(reply.from_tag(), message.from_tag());
            assert_eq!(reply.top_via().branch(), message.top_via().branch());
            assert!(reply.to_tag().is_some());
        }
    }
}
