//! Every packet arrives on the wrong queue: the worker that owns the call gets all of them from the other.

use std::time::Duration;

use strowger::datagram::WorkerId;
use strowger::proxy::steer::Steering;
use strowger::secret::Secret;

use super::bed::{Bed, Family, Shape};
use super::calls::{Backend, configuration};
use super::phones;
use super::scratch::Scratch;
use super::server::Server;

#[test]
#[ignore = "needs root and network namespaces: bash tests/run.sh"]
fn calls_go_through_when_every_packet_arrives_on_the_wrong_queue() {
    // One transmit queue at the phones' end: everything arrives on queue 0, where worker 0 is.
    let (bed, scratch) = (
        Bed::new(Shape {
            links: 1,
            queues: 2,
            phone_queues: 1,
        }),
        Scratch::new(),
    );
    let server = Server::start(
        &bed.server,
        &scratch,
        &configuration(&bed, Family::V4, Backend::Driver, WORKERS),
    );
    let link = bed.link();
    let phones = &phones::groups(link, Family::V4, 0..CALLS, 1)[0];
    phones::register(link, &scratch, std::slice::from_ref(phones), 1_000);

    // Call-IDs that the server's own key gives to worker 1, every one.
    let secret =
        Secret::load_or_create(&scratch.path().join("strowger.key")).expect("the server made it");
    let steering = Steering::new(secret.derive("steer").current, WORKERS);
    let prefix = |call: u32| {
        let belongs = |prefix: &String| {
            steering.owner(format!("{prefix}///{call}@bed").as_bytes()) == WorkerId(1)
        };
        (0..)
            .map(|guess: u32| format!("h{guess}"))
            .find(belongs)
            .expect("half of all belong to it")
    };
    let users = phones.users(&scratch, prefix);
    let callee = phones.callee(link, &scratch, "callee", CALLS).start();
    std::thread::sleep(phones::LISTENING);
    let caller = phones
        .caller(link, &scratch, "caller", phones::CALLER_PORT, CALLS, 200)
        .users(&users);
    let caller = caller
        .argument("-cid_str")
        .argument("%u@bed")
        .hold(Duration::from_millis(100))
        .spread();
    caller.run(phones::PATIENCE).assert_clean();
    callee.conclude(phones::AFTERWARDS).assert_clean();

    let metrics = server.metrics();
    // INVITE, 180, 200, ACK, BYE and its 200; a REGISTER is answered where it arrives.
    let expected = u64::from(6 * CALLS);
    assert_eq!(
        metrics.sum("strowger_handoffs_total", "direction=\"out\""),
        expected,
        "{metrics}"
    );
    assert_eq!(
        metrics.sum("strowger_handoffs_total", "direction=\"in\""),
        expected,
        "{metrics}"
    );
    assert_eq!(
        metrics.sum("strowger_retransmissions_total", ""),
        0,
        "{metrics}"
    );
}

const CALLS: u32 = 2_000;
const WORKERS: u8 = 2;
