//! Two real phones, baresip, call each other through the server: both directions, hold and resume, hung up by either.

use std::time::Duration;

use super::baresip::Baresip;
use super::bed::{Bed, Family};
use super::calls::{Backend, configuration};
use super::capture::Capture;
use super::recovery::{assert_nothing_left, live};
use super::scratch::Scratch;
use super::server::Server;

#[test]
fn two_phones_call_each_other_hold_resume_and_hang_up() {
    let (bed, scratch) = (Bed::two_queues(), Scratch::new());
    let server = Server::start(
        &bed.server,
        &scratch,
        &configuration(&bed, Family::V4, Backend::Driver, 2),
    );
    let link = bed.link();
    let capture = Capture::start(link, &scratch);
    let mut alice = Baresip::start(link, &scratch, "alice", 5070);
    let mut bob = Baresip::start(link, &scratch, "bob", 5080);
    assert_eq!(server.metrics().sum("strowger_bindings", ""), 2);

    call(&mut alice, &mut bob, "bob");
    hold_and_resume(&mut alice);
    hold_and_resume(&mut bob);
    hang_up(&mut alice, &mut bob);
    call(&mut bob, &mut alice, "alice");
    hang_up(&mut alice, &mut bob);
    call(&mut alice, &mut bob, "bob");
    hang_up(&mut bob, &mut alice);
    // One that is refused, and one that is given up.
    alice.command("dial", "sip:bob@example.com");
    bob.await_event("CALL_INCOMING");
    bob.command("hangup", "");
    alice.await_event("CALL_CLOSED");
    bob.await_event("CALL_CLOSED");
    bob.command("dial", "sip:alice@example.com");
    alice.await_event("CALL_INCOMING");
    bob.await_event("CALL_RINGING");
    bob.command("hangup", "");
    alice.await_event("CALL_CLOSED");
    bob.await_event("CALL_CLOSED");

    drop((alice, bob));
    let recording = capture.stop();
    recording.assert_well_formed(80);
    // The server passed on what the phones meant: those on hold send, or are sent, nothing.
    let held = recording.fields(
        "sip.Method == INVITE && ip.src == 10.77.0.1 && sdp.media_attr contains \"sendonly\"",
        &["sip.Call-ID"],
    );
    assert!(held.len() >= 2, "{held:?}");
    let metrics = server.wait_for("the transactions end", TIMERS_MAX, |metrics| {
        live(metrics) == 0
    });
    assert_nothing_left(&metrics);
    let count =
        |method: &str| metrics.sum("strowger_requests_total", &format!("method=\"{method}\""));
    // Five calls, and each end on hold and back.
    assert_eq!(count("INVITE"), 5 + 4, "{metrics}");
    assert_eq!(count("BYE"), 3, "{metrics}");
    assert_eq!(count("CANCEL"), 1, "{metrics}");
    assert_eq!(
        metrics.sum("strowger_retransmissions_total", "kind=\"request_sent\""),
        0,
        "{metrics}"
    );
}

/// One calls the other, who answers.
fn call(caller: &mut Baresip, callee: &mut Baresip, name: &str) {
    caller.command("dial", &format!("sip:{name}@example.com"));
    callee.await_event("CALL_INCOMING");
    caller.await_event("CALL_RINGING");
    callee.command("accept", "");
    caller.await_event("CALL_ESTABLISHED");
    callee.await_event("CALL_ESTABLISHED");
    std::thread::sleep(TALK);
}

fn hold_and_resume(phone: &mut Baresip) {
    phone.command("hold", "");
    std::thread::sleep(TALK);
    phone.command("resume", "");
    std::thread::sleep(TALK);
}

fn hang_up(first: &mut Baresip, second: &mut Baresip) {
    first.command("hangup", "");
    first.await_event("CALL_CLOSED");
    second.await_event("CALL_CLOSED");
}

/// How long they talk between two things that they do.
const TALK: Duration = Duration::from_millis(400);
/// 64*T1 and T4, and some time more.
const TIMERS_MAX: Duration = Duration::from_secs(45);
