//! A server that is killed in mid-traffic starts again at once, and the calls set up before it are hung up after it.

use std::time::{Duration, Instant};

use super::bed::{Bed, Family};
use super::calls::{Backend, configuration};
use super::phones;
use super::scratch::Scratch;
use super::server::Server;

#[test]
#[ignore = "needs root and network namespaces: bash tests/run.sh"]
fn a_killed_server_starts_at_once_and_hangs_up_the_calls_of_before() {
    for backend in [Backend::Driver, Backend::Udp] {
        let (bed, scratch) = (Bed::two_queues(), Scratch::new());
        let configuration = configuration(&bed, Family::V4, backend, 2);
        let server = Server::start(&bed.server, &scratch, &configuration);
        let link = bed.link();
        let groups = phones::groups(link, Family::V4, 0..400, 4);
        phones::register(link, &scratch, &groups, 400);
        let [caller_ends, callee_ends, traffic, after] = groups.as_slice() else {
            unreachable!("four groups")
        };

        // Calls that stand while the server dies: one half to be hung up by the caller, one half by the callee.
        let callees = [
            caller_ends.callee(link, &scratch, "callee", 100).start(),
            callee_ends
                .callee(link, &scratch, "callee_hangs_up", 100)
                .hold(HOLD)
                .start(),
            traffic.callee(link, &scratch, "callee", 100).start(),
        ];
        std::thread::sleep(phones::LISTENING);
        let callers = [
            caller_ends
                .caller(link, &scratch, "caller", 5085, 100, 100)
                .hold(HOLD)
                .start(),
            callee_ends
                .caller(link, &scratch, "caller_waits", 5086, 100, 100)
                .start(),
        ];
        std::thread::sleep(Duration::from_millis(2_500));
        // Calls that are being set up at that moment; what becomes of these is not asserted.
        let disturbed = traffic
            .caller(link, &scratch, "caller", 5087, 100, 50)
            .start();
        std::thread::sleep(Duration::from_secs(1));

        server.kill9();
        let killed = Instant::now();
        let server = Server::start(&bed.server, &scratch, &configuration);
        let gone_for = killed.elapsed();
        assert!(
            gone_for < RESTART_MAX,
            "it serves again only after {gone_for:?}"
        );
        drop(disturbed);

        // It serves new phones and new calls.
        phones::register(link, &scratch, std::slice::from_ref(after), 200);
        phones::assert_clean(&phones::call(
            link,
            &scratch,
            std::slice::from_ref(after),
            100,
            50,
        ));
        let [answered, hung_up, unasserted] = callees;
        drop(unasserted);
        for call in callers.into_iter().chain([answered, hung_up]) {
            call.finish(phones::PATIENCE).assert_complete();
        }
        assert!(
            server
                .metrics()
                .sum("strowger_requests_total", "method=\"BYE\"")
                >= 300,
            "the calls ended by way of it"
        );
    }
}

/// How long the calls stand: longer than all that happens before they are hung up.
const HOLD: Duration = Duration::from_secs(12);
/// How long the server may be gone.
const RESTART_MAX: Duration = Duration::from_secs(5);
