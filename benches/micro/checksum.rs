//! The Internet checksum of an IPv4 header, and of messages as they leave: a REGISTER's reply and an INVITE with its offer.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput};
use strowger::wire::checksum::Sum;

pub(crate) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("checksum");
    for len in [20, 500, 900] {
        let bytes = vec![0x5a; len];
        group.throughput(Throughput::Bytes(len as u64));
        group.bench_function(BenchmarkId::from_parameter(len), |bencher| {
            bencher.iter(|| Sum::new().bytes(black_box(&bytes)).finish());
        });
    }
}
