//! The acceptance tests: SIPp's phones against the server, over veth pairs between network namespaces.
//!
//! They need root, SIPp, sipsak, Kamailio, baresip, tshark, clang and iproute2, and a machine to themselves, so they run by name and one at a time, as
//! `bash tests/run.sh` does: `cargo test --test system -- --test-threads=1`, with `STROWGER_BINARY` naming the release build.

mod system {
    mod bad_input;
    mod bad_streams;
    mod baresip;
    mod bed;
    mod calls;
    mod capability;
    mod capture;
    mod cluster;
    mod doctor;
    mod drain;
    mod ends;
    mod exactness;
    mod fragments;
    mod guesses;
    mod handoff;
    mod interop;
    mod interop_baresip;
    mod keepalive;
    mod lasting;
    mod load;
    mod loss;
    mod mutation;
    mod names;
    mod namespace;
    mod nat;
    mod outbound;
    mod phones;
    mod prober;
    mod recovery;
    mod registrants;
    mod restart;
    mod scratch;
    mod server;
    mod sipp;
    mod slowloris;
    mod storm;
    mod tcp;
    mod tools;
    mod torture;
    mod torture_ipv6;
    mod watch;
}
