//! What each part of the core costs alone: `cargo bench --bench micro`, or `cargo bench --bench micro -- parse`.
//!
//! Times are of this machine at this moment; what continuous integration holds is `benches/gate.sh`'s count of instructions.

#[path = "../messages/mod.rs"]
mod messages;
mod parse;

use criterion::{criterion_group, criterion_main};

criterion_group!(benches, parse::bench);
criterion_main!(benches);
