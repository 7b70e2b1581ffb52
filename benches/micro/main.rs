//! What each part of the core costs alone: `cargo bench --bench micro`, or one part: `cargo bench --bench micro -- parse`.
//!
//! Times are of this machine at this moment; what continuous integration holds is `benches/gate.sh`'s count of instructions. What the parts
//! cost together is `proxy_core`'s.

mod checksum;
mod digest;
mod edit;
mod hand_off;
mod location;
#[path = "../messages/mod.rs"]
mod messages;
mod parse;
#[path = "../messages/rsip.rs"]
mod rsip_fields;
mod steering;
mod timer;
mod transaction;

use criterion::{criterion_group, criterion_main};

criterion_group!(
    benches,
    parse::bench,
    edit::bench,
    transaction::bench,
    timer::bench,
    location::bench,
    hand_off::bench,
    steering::bench,
    checksum::bench,
    digest::bench
);
criterion_main!(benches);
