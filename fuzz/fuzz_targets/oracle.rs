#![no_main]

#[path = "../../tests/fuzz/oracle.rs"]
mod oracle;

// rsip panics on some malformed messages, which its caller catches: a panic is a finding only if nobody does.
libfuzzer_sys::fuzz_target!(
    init: std::panic::set_hook(Box::new(|info| eprintln!("{info}"))),
    |data: &[u8]| { oracle::run(data); }
);
