//! A user who may not use AF_XDP is told which capability is missing and how to grant it; where the choice is free, UDP serves.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use super::bed::{Bed, Family};
use super::calls::{Backend, configuration};
use super::phones;
use super::scratch::Scratch;
use super::server::{Server, User, binary};

#[test]
#[ignore = "needs root and network namespaces: bash tests/run.sh"]
fn a_missing_capability_names_itself_and_the_command_that_grants_it() {
    let (bed, scratch) = (Bed::two_queues(), Scratch::new());
    let nobody = nobody(&scratch);
    let configuration = configuration(&bed, Family::V4, Backend::Driver, 2);
    let mut server = Server::spawn(&bed.server, &scratch, &configuration, &nobody);
    let status = server.wait(Duration::from_secs(10));
    let log = server.log().to_lowercase();
    assert!(!status.success(), "it cannot serve by AF_XDP\n{log}");
    assert!(
        log.contains("cap_net_admin") || log.contains("cap_net_raw") || log.contains("cap_bpf"),
        "which one is missing?\n{log}"
    );
    assert!(log.contains("setcap"), "how is it granted?\n{log}");
}

#[test]
#[ignore = "needs root and network namespaces: bash tests/run.sh"]
fn the_free_choice_serves_by_udp_and_says_why() {
    let (bed, scratch) = (Bed::two_queues(), Scratch::new());
    let nobody = nobody(&scratch);
    let configuration = configuration(&bed, Family::V4, Backend::Driver, 2);
    let configuration = configuration
        .replace("\"af_xdp\"", "\"auto\"")
        .replace("mode = \"driver\"\n", "");
    let server = Server::start_as(&bed.server, &scratch, &configuration, &nobody);
    let groups = phones::groups(bed.link(), Family::V4, 0..20, 1);
    phones::register(bed.link(), &scratch, &groups, 20);
    phones::assert_clean(&phones::call(bed.link(), &scratch, &groups, 20, 20));
    let metrics = server.metrics();
    assert!(
        metrics.sum("strowger_messages_received_total", "backend=\"udp\"") > 0,
        "{metrics}"
    );
    let log = server.log();
    assert!(
        log.to_lowercase().contains("cap_"),
        "it says why not AF_XDP\n{log}"
    );
}

/// A user without capabilities, with a copy of the binary and a folder of configuration that are within their reach.
fn nobody(scratch: &Scratch) -> User {
    let copy = scratch.path().join("strowger");
    std::fs::copy(binary(), &copy).expect("the binary that cargo built");
    std::fs::set_permissions(scratch.path(), PermissionsExt::from_mode(0o777))
        .expect("our own folder");
    User::Nobody { binary: copy }
}
