//! Random loss between the phones and the server: a tc classifier on the phones' interface, both ways.
//!
//! It stands at the phones' end because AF_XDP takes packets before the server's own filters see them.

use std::path::Path;
use std::process::Command;

use super::bed::{Link, PHONE_INTERFACE};
use super::namespace::run;

/// Loses `percent` of the SIP packets on `link`, in each direction, from now on.
pub(crate) fn lose(link: &Link, percent: u8, scratch: &Path) {
    let object = scratch.join("loss.o");
    let include = format!("-I/usr/include/{}-linux-gnu", std::env::consts::ARCH);
    run(Command::new("clang")
        .args([
            "-O2",
            "-Wall",
            "-target",
            "bpf",
            &include,
            &format!("-DLOSS_PERCENT={percent}"),
            "-c",
        ])
        .arg(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/system/loss.bpf.c"
        ))
        .arg("-o")
        .arg(&object));
    run(link
        .phones
        .command("tc")
        .args(["qdisc", "replace", "dev", PHONE_INTERFACE, "clsact"]));
    for direction in ["ingress", "egress"] {
        run(link
            .phones
            .command("tc")
            .args([
                "filter",
                "add",
                "dev",
                PHONE_INTERFACE,
                direction,
                "bpf",
                "direct-action",
                "object-file",
            ])
            .arg(&object)
            .args(["section", "classifier"]));
    }
}

/// Ends the loss on `link`.
pub(crate) fn stop(link: &Link) {
    run(link
        .phones
        .command("tc")
        .args(["qdisc", "del", "dev", PHONE_INTERFACE, "clsact"]));
}
