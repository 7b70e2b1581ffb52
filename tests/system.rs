//! The acceptance tests: SIPp's phones against the server, over veth pairs between network namespaces.
//!
//! They need root, and a machine with SIPp, clang and iproute2; `bash tests/run.sh` sees to that and runs them one at a time:
//! `cargo test --release --test system -- --ignored --test-threads=1`.

mod system {
    mod bad_input;
    mod bed;
    mod calls;
    mod capability;
    mod drain;
    mod fragments;
    mod handoff;
    mod loss;
    mod mutation;
    mod namespace;
    mod nat;
    mod phones;
    mod recovery;
    mod restart;
    mod scratch;
    mod server;
    mod sipp;
    mod tools;
}
