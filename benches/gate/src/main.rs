//! The paths whose instructions are counted. `benches/gate.sh` runs this under callgrind and compares the counts with
//! `benches/gate.baseline`; `strowger-gate time` times the same paths.
//!
//! A path is a function whose name begins with `counted_`: callgrind counts what happens within it, and `main` calls it a fixed number
//! of times once it is warm. A further path is such a function and its line in [`PATHS`].

mod bed;
#[path = "../../messages/mod.rs"]
mod messages;

use std::env;
use std::hint::black_box;
use std::time::Instant;

use bed::Bed;
use messages::fields::read_nine;

/// All that is counted.
const PATHS: [(&str, fn(&mut Bed)); 3] = [
    ("parse_invite", counted_parse_invite),
    ("parse_register", counted_parse_register),
    ("parse_ok", counted_parse_ok),
];

#[inline(never)]
fn counted_parse_invite(bed: &mut Bed) {
    read_nine(black_box(messages::INVITE.as_bytes()), &mut bed.index);
}

#[inline(never)]
fn counted_parse_register(bed: &mut Bed) {
    read_nine(black_box(messages::REGISTER.as_bytes()), &mut bed.index);
}

#[inline(never)]
fn counted_parse_ok(bed: &mut Bed) {
    read_nine(black_box(messages::OK.as_bytes()), &mut bed.index);
}

/// Calls of each path while they are counted.
const CALLS: u32 = 100;
/// Calls of a path that are timed together.
const CALLS_TIMED: u32 = 10_000;
/// Times a path is timed; the fastest counts.
const TIMES: u32 = 200;

fn main() {
    let mut bed = Bed::new();
    if env::args().nth(1).as_deref() == Some("time") {
        return time(&mut bed);
    }
    println!("cpu {}", bed::cpu());
    println!("calls {CALLS}");
    for (_, path) in PATHS {
        for _ in 0..CALLS {
            black_box(path)(&mut bed);
        }
    }
}

/// Prints nanoseconds a call: the fastest and the median.
fn time(bed: &mut Bed) {
    for (name, path) in PATHS {
        let mut spans: Vec<f64> = (0..TIMES)
            .map(|_| {
                let start = Instant::now();
                for _ in 0..CALLS_TIMED {
                    black_box(path)(bed);
                }
                start.elapsed().as_secs_f64() * 1e9 / f64::from(CALLS_TIMED)
            })
            .collect();
        spans.sort_by(f64::total_cmp);
        println!(
            "{name:20} {:8.1} ns  median {:8.1} ns",
            spans[0],
            spans[spans.len() / 2]
        );
    }
}
