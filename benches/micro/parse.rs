//! A message parsed and nine of its fields read, by us and by `rsip`; `benches/rivals` has further parsers.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput};
use strowger::sip::Index;

use crate::messages::{self, fields};
use crate::rsip_fields;

pub(crate) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("parse");
    let mut index = Index::new();
    for (name, text) in messages::ALL {
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_function(BenchmarkId::new("strowger", name), |bencher| {
            bencher.iter(|| fields::read_nine(black_box(text.as_bytes()), &mut index));
        });
        group.bench_function(BenchmarkId::new("rsip", name), |bencher| {
            bencher.iter(|| rsip_fields::read_nine(black_box(text.as_bytes())));
        });
    }
}
