//! Digest: a nonce made and read, and the response to it computed, by each algorithm, from an HA1 that is at hand.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion};
use strowger::auth::Algorithm;
use strowger::auth::algorithm::{Proof, Qop};
use strowger::auth::nonce::NonceCodec;
use strowger::time::{Duration, Instant};

const START: Instant = Instant::from_micros(1_700_000_000_000_000);

pub(crate) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("digest");
    let codec = NonceCodec::new(vec![[3; 16]], Duration::from_secs(300));
    let nonce = codec.make(START, 1);
    group.bench_function("nonce_make", |bencher| {
        bencher.iter(|| codec.make(START, black_box(2)))
    });
    group.bench_function("nonce_read", |bencher| {
        bencher.iter(|| codec.read(START, black_box(&nonce)))
    });
    let proof = Proof {
        method: b"REGISTER",
        uri: b"sip:example.com",
        nonce: &nonce,
        qop: Some(Qop {
            name: b"auth",
            nc: b"00000001",
            cnonce: b"0a4f113b",
        }),
    };
    for algorithm in Algorithm::ALL {
        let ha1 = algorithm.ha1(b"alice", b"example.com", b"secret");
        group.bench_function(
            BenchmarkId::new("response", algorithm.as_str()),
            |bencher| {
                bencher.iter(|| algorithm.response(black_box(ha1.as_bytes()), &proof));
            },
        );
    }
}
