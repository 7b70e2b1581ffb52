//! SIGTERM: what is new is refused, what is in progress comes to its end, and then the server exits.

use std::time::{Duration, Instant};

use super::bed::{Bed, Family};
use super::calls::{Backend, configuration};
use super::phones;
use super::scratch::Scratch;
use super::server::Server;

#[test]
#[ignore = "needs root and network namespaces: bash tests/run.sh"]
fn a_draining_server_refuses_what_is_new_and_finishes_what_is_in_progress() {
    let (bed, scratch) = (Bed::two_queues(), Scratch::new());
    let mut server = Server::start(
        &bed.server,
        &scratch,
        &configuration(&bed, Family::V4, Backend::Driver, 2),
    );
    let link = bed.link();
    let groups = phones::groups(link, Family::V4, 0..60, 3);
    phones::register(link, &scratch, &groups, 60);
    let [answered, cancelled, fresh] = groups.as_slice() else {
        unreachable!("three groups")
    };

    let callees = [
        answered.callee(link, &scratch, "callee", 20).start(),
        cancelled
            .callee(link, &scratch, "callee_is_cancelled", 20)
            .start(),
    ];
    std::thread::sleep(phones::LISTENING);
    // Calls that ring hold the exit; calls that stand are hung up meanwhile.
    let callers = [
        answered
            .caller(link, &scratch, "caller", 5080, 20, 100)
            .hold(Duration::from_secs(3))
            .start(),
        cancelled
            .caller(link, &scratch, "caller_cancels", 5081, 20, 100)
            .hold(Duration::from_secs(5))
            .start(),
    ];
    std::thread::sleep(Duration::from_secs(1));

    server.terminate();
    let asked = Instant::now();
    std::thread::sleep(Duration::from_millis(300));
    let refused = fresh
        .caller(link, &scratch, "caller_refused", 5082, 20, 100)
        .run(phones::PATIENCE);
    let unregistered = phones::register_with(
        link,
        &scratch,
        std::slice::from_ref(fresh),
        100,
        "register_refused",
    );
    refused.assert_clean();
    phones::assert_clean(&unregistered);
    for call in callers.into_iter().chain(callees) {
        call.finish(phones::PATIENCE).assert_clean();
    }
    let status = server.wait(DRAIN_MAX);
    assert_eq!(
        status.code(),
        Some(0),
        "a drained server exits with 0\n{}",
        server.log()
    );
    let drained_in = asked.elapsed();
    assert!(
        drained_in < DRAIN_MAX,
        "nothing held it any more, but it took {drained_in:?}"
    );
}

/// `drain_s`, by default, and a little.
const DRAIN_MAX: Duration = Duration::from_secs(11);
