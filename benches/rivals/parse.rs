//! The same messages parsed, and the same nine fields read, by each parser through its own interface: method (of a response, its status),
//! Request-URI, top Via branch, From tag, To, Call-ID, CSeq, Contact, Content-Length.

#[path = "../messages/mod.rs"]
mod messages;
#[path = "../messages/rsip.rs"]
mod rsip_fields;

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use strowger::sip::Index;

fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("parse");
    for (name, text) in messages::ALL {
        group.throughput(Throughput::Bytes(text.len() as u64));
        let bytes = text.as_bytes();
        let mut index = Index::new();
        group.bench_function(BenchmarkId::new("strowger", name), |bencher| {
            bencher.iter(|| messages::fields::read_nine(black_box(bytes), &mut index));
        });
        group.bench_function(BenchmarkId::new("rsipstack", name), |bencher| {
            bencher.iter(|| read_by_rsipstack(black_box(bytes)).expect("a good message"));
        });
        group.bench_function(BenchmarkId::new("rsip", name), |bencher| {
            bencher.iter(|| rsip_fields::read_nine(black_box(bytes)).expect("a good message"));
        });
    }
}

fn read_by_rsipstack(bytes: &[u8]) -> Option<()> {
    use rsipstack::sip::prelude::*;
    use rsipstack::sip::{Header, SipMessage};

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
    let length = message.headers().iter().find_map(|header| match header {
        Header::ContentLength(length) => length.value().trim().parse::<u32>().ok(),
        _ => None,
    });
    black_box(length?);
    Some(())
}

criterion_group!(benches, bench);
criterion_main!(benches);
