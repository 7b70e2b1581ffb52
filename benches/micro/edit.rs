//! What a hop changes in a request, and the request written once with it; a reply written to it.

use std::hint::black_box;

use criterion::Criterion;
use strowger::sip::{Edits, HeaderName, Index, Message, Parsed, Reply, parse};

use crate::messages;

const VIA: &[u8] = b"Via: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK00a8d1f7c35b6e2094\r\n";
const RECORD_ROUTE: &[u8] = b"Record-Route: <sip:d7f3a1c05b@192.0.2.1:5060;lr>\r\n";
const TARGET: &[u8] = b"sip:bob@192.0.2.202:5060";

pub(crate) fn bench(criterion: &mut Criterion) {
    let mut index = Index::new();
    let Parsed::Good(invite) = parse(messages::INVITE.as_bytes(), &mut index) else {
        panic!("a good message");
    };
    let mut group = criterion.benchmark_group("edit");
    let (mut edits, mut frame) = (Edits::new(), vec![0; 2_048]);
    group.bench_function("forward", |bencher| {
        bencher.iter(|| forward(black_box(&invite), &mut edits, &mut frame));
    });
    group.bench_function("reply", |bencher| {
        bencher.iter(|| {
            let reply = Reply::new(black_box(&invite), 100, "Trying");
            reply.write(&mut frame).expect("room")
        });
    });
}

/// Via, Record-Route, the target and Max-Forwards: what every forwarded INVITE gets.
fn forward(invite: &Message<'_>, edits: &mut Edits, frame: &mut [u8]) -> usize {
    edits.clear();
    let first = invite.start_line_span().end;
    let max_forwards = invite.header(HeaderName::MaxForwards).expect("one");
    edits
        .replace(invite.request_uri_span(), TARGET)
        .expect("room");
    edits.insert(first, VIA).expect("room");
    edits.insert(first, RECORD_ROUTE).expect("room");
    edits.replace(max_forwards.value_span, b"69").expect("room");
    edits.write(invite.bytes(), frame).expect("room")
}
