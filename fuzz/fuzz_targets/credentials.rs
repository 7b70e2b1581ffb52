#![no_main]

#[path = "../../tests/fuzz/credentials.rs"]
mod credentials;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    credentials::run(data);
});
