//! The same messages parsed, and the same nine fields read, by each parser through its own interface: method (of a response, its status),
//! Request-URI, top Via branch, From tag, To, Call-ID, CSeq, Contact, Content-Length. That each finds the same is checked first.

#[path = "../messages/mod.rs"]
#[expect(
    dead_code,
    reason = "the reader of the other benches does not show what it read"
)]
mod messages;
mod nine;
mod readers;
mod shim;

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

use crate::nine::Read;

const PARSERS: &[(&str, Read)] = &[
    ("strowger", readers::strowger),
    ("rsipstack", readers::rsipstack),
    ("libosip2", shim::libosip2),
    #[cfg(feature = "siphon")]
    ("siphon-sip", readers::siphon),
    ("rsip", readers::rsip),
    ("libre", shim::libre),
];

fn bench(criterion: &mut Criterion) {
    for (parser, read) in PARSERS {
        for (name, text) in messages::ALL {
            nine::check(parser, *read, name, text);
        }
    }
    let mut group = criterion.benchmark_group("parse");
    for (name, text) in messages::ALL {
        group.throughput(Throughput::Bytes(text.len() as u64));
        for (parser, read) in PARSERS {
            group.bench_function(BenchmarkId::new(*parser, name), |bencher| {
                bencher.iter(|| {
                    read(black_box(text.as_bytes()), &mut |nine| {
                        black_box(nine);
                    })
                });
            });
        }
    }
}

criterion_group!(benches, bench);
criterion_main!(benches);
