//! Messages get lost: calls complete, or end as RFC 3261 says, and nothing stays behind.

use std::time::Duration;

use super::bed::{Bed, Family};
use super::calls::{Backend, configuration};
use super::loss;
use super::phones;
use super::scratch::Scratch;
use super::server::{Metrics, Server};
use super::sipp::{Running, Sipp};

/// The longest test: it waits for Timer C. `tests/run.sh` runs it beside the others.
#[test]
fn calls_survive_the_loss_of_a_third_of_all_messages_and_leave_nothing_behind() {
    let (bed, scratch) = (Bed::two_queues(), Scratch::new());
    let mut server = Server::start(
        &bed.server,
        &scratch,
        &configuration(&bed, Family::V4, Backend::Driver, 2),
    );
    let link = bed.link();
    let groups = phones::groups(link, Family::V4, 0..CALLS + RINGING, 1);
    let (answering, ringing) = groups[0].clone().split_at(CALLS);
    phones::register(link, &scratch, std::slice::from_ref(&answering), 200);
    phones::register(link, &scratch, std::slice::from_ref(&ringing), 200);

    loss::lose(link, 30, scratch.path());
    let callee = answering
        .callee(link, &scratch, "lossy_callee", 10 * CALLS)
        .argument("-max_retrans")
        .argument("10")
        .start();
    let silent = ringing
        .callee(link, &scratch, "callee_only_rings", 10 * RINGING)
        .start();
    std::thread::sleep(phones::LISTENING);
    let hopeless = persistent(&ringing.caller(
        link,
        &scratch,
        "caller_times_out",
        phones::CALLER_PORT + 1,
        RINGING,
        20,
    ));
    let caller = persistent(&answering.caller(
        link,
        &scratch,
        "lossy_caller",
        phones::CALLER_PORT,
        CALLS,
        10,
    ));
    let outcome = caller.finish(Duration::from_secs(240));
    println!("{outcome}");
    assert_eq!(
        outcome.successful + outcome.failed,
        u64::from(CALLS),
        "no call hangs: {outcome}"
    );
    // What fails, fails since SIPp itself gave up after 64*T1: an INVITE to which nothing ever came back (one in a hundred), or a BYE.
    assert_eq!(
        outcome.failed, outcome.gave_up,
        "no other failure: {outcome}"
    );
    assert!(
        outcome.successful >= u64::from(CALLS) * 9 / 10,
        "most calls complete: {outcome}"
    );
    assert!(outcome.retransmissions > 0, "something was lost");

    // Timer C ends the calls that only ring, and then nothing is left of any.
    let metrics = server.wait_for("no transaction lives", TIMER_C + 2 * T1_64, |metrics| {
        live(metrics) == 0
    });
    println!("{}", hopeless.outcome());
    drop((callee, silent, hopeless));
    loss::stop(link);
    assert_nothing_left(&metrics);
    for kind in ["kind=\"request_sent\"", "kind=\"request_absorbed\""] {
        let count = metrics.sum("strowger_retransmissions_total", kind);
        assert!(count > 0, "{metrics}");
    }
    assert!(server.is_alive());
}

/// Starts a caller who asks as often as RFC 3261 has it: 64*T1 of an INVITE is seven sendings; a BYE at T2 is eleven.
fn persistent(sipp: &Sipp<'_>) -> Running {
    let sipp = sipp.clone().argument("-max_invite_retrans").argument("6");
    sipp.argument("-max_non_invite_retrans")
        .argument("10")
        .start()
}

/// The transactions that live.
pub(crate) fn live(metrics: &Metrics) -> u64 {
    metrics.sum("strowger_transactions_live", "")
}

/// Every transaction was freed, and every frame is back.
#[track_caller]
pub(crate) fn assert_nothing_left(metrics: &Metrics) {
    for kind in ["kind=\"server\"", "kind=\"client\""] {
        let created = metrics.sum("strowger_transactions_created_total", kind);
        let freed = metrics.sum("strowger_transactions_freed_total", kind);
        assert!(
            created > 0 && created == freed,
            "{kind}: {created} created, {freed} freed\n{metrics}"
        );
    }
    assert_eq!(
        metrics.sum("strowger_frames_outstanding", ""),
        0,
        "{metrics}"
    );
}

const CALLS: u32 = 240;
const RINGING: u32 = 10;
/// RFC 3261 16.6.11, as in `limits.rs`.
const TIMER_C: Duration = Duration::from_secs(181);
/// 64*T1.
const T1_64: Duration = Duration::from_secs(32);
