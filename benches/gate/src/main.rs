//! The paths whose instructions are counted. `benches/gate.sh` runs each under callgrind, which counts what happens within functions whose
//! names have `measured_batch` in them, and compares the counts with `benches/gate.baseline`.
//!
//! `strowger-gate PATH OPERATIONS [PHONES]` runs one, and says how long an operation took; `paths` names them all; `cpu` says what the
//! processor offers. A further path is a line of [`PATHS`].

#[path = "../../proxy_core/bed.rs"]
mod bed;
#[path = "../../proxy_core/call.rs"]
mod call;
#[path = "../../proxy_core/message.rs"]
mod message;
#[path = "../../messages/mod.rs"]
mod messages;
#[path = "../../proxy_core/phone.rs"]
mod phone;

use std::env;
use std::hint::black_box;
use std::time::Instant;

use messages::fields::read_nine;
use strowger::sip::Index;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Runs so many operations with so many phones registered; gives the nanoseconds of one.
type Path = fn(operations: u32, phones: u32) -> f64;

/// All that is counted: a message parsed with nine fields read, and the core's own work for what phones do.
const PATHS: &[(&str, Path)] = &[
    ("parse_invite", |count, _| parse(messages::ALL[0].1, count)),
    ("parse_register", |count, _| {
        parse(messages::ALL[1].1, count)
    }),
    ("parse_ok", |count, _| parse(messages::ALL[2].1, count)),
    ("register", |count, phones| {
        phone::refresh(phones, count).nanoseconds()
    }),
    ("register_nat", |count, phones| {
        phone::refresh_behind_nat(phones, count).nanoseconds()
    }),
    ("register_digest", |count, phones| {
        phone::refresh_with_digest(phones, count).nanoseconds()
    }),
    ("options", |count, phones| {
        phone::options(phones, count).nanoseconds()
    }),
    ("call", |count, phones| {
        call::calls(phones, count).nanoseconds()
    }),
    ("call_plateau", |count, phones| {
        call::calls_at_plateau(phones, count).nanoseconds()
    }),
    ("message", |count, phones| {
        call::messages(phones, count).nanoseconds()
    }),
    ("ack", |count, phones| {
        call::acks(phones, count).nanoseconds()
    }),
];

/// How many phones are registered where it is not said: enough to count, since no cache changes a count.
const PHONES: u32 = 2_000;

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["paths"] => PATHS.iter().for_each(|(name, _)| println!("{name}")),
        ["cpu"] => println!("{}", cpu()),
        [name, operations, more @ ..] if more.len() <= 1 => {
            let (_, path) = PATHS
                .iter()
                .find(|(known, _)| known == name)
                .expect("the name of a path");
            let number = |text: &str| text.parse().expect("a number");
            let phones = more.first().map_or(PHONES, |phones| number(phones));
            strowger::worker::prefault(bed::MEMORY, &[None]);
            println!("{name}: {:.0} ns", path(number(operations), phones));
        }
        _ => panic!("strowger-gate PATH OPERATIONS [PHONES], or paths, or cpu"),
    }
}

/// Parses a message again and again.
fn parse(text: &str, operations: u32) -> f64 {
    let mut index = Index::new();
    for _ in 0..100 {
        read_nine(black_box(text.as_bytes()), &mut index);
    }
    let start = Instant::now();
    measured_batch_of_messages(text.as_bytes(), &mut index, operations);
    start.elapsed().as_secs_f64() * 1e9 / f64::from(operations)
}

#[inline(never)]
fn measured_batch_of_messages(bytes: &[u8], index: &mut Index, operations: u32) {
    for _ in 0..operations {
        read_nine(black_box(bytes), index);
    }
}

/// What the processor offers that libraries of ours ask for at run time: with it they take other ways than without.
fn cpu() -> String {
    #[cfg(target_arch = "x86_64")]
    let features = [
        ("avx2", is_x86_feature_detected!("avx2")),
        ("sha", is_x86_feature_detected!("sha")),
    ];
    #[cfg(not(target_arch = "x86_64"))]
    let features: [(&str, bool); 0] = [];
    let offered = features.iter().filter(|(_, is_offered)| *is_offered);
    let names: Vec<&str> = offered.map(|(name, _)| *name).collect();
    format!("{} {}", env::consts::ARCH, names.join(" "))
}
