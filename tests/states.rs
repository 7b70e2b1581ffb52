//! The four state machines of RFC 3261 17, as tables: every state, every event, and what the step asks for.
//!
//! The tables lie in `tests/states/` and are compared word for word, so that no transition changes unseen; after a change
//! that is meant, `STATES_WRITE=1 cargo test --test states` writes them anew, and the difference is read like code.
//!
//! Beside them stand the arrows of the RFCs' figures, written down by hand from the RFCs: a machine has those and no others. Where
//! it departs from its figure, the list is short:
//!
//! * INVITE client (figure 5 of RFC 3261, as RFC 6026 replaces it): in Completed the figure ends the transaction when the
//!   transport cannot send the ACK. Here it lives on to Timer D, so that the next copy of the final response is acknowledged.
//! * INVITE server (figure 7, as RFC 6026 replaces it): Proceeding has no Trying before it, because the proxy answers 100 in the
//!   same call (17.2.1). A transport error is no event: RFC 6026 7.1 keeps the transaction when a response cannot be sent.
//!   A 2xx in Completed and in Confirmed is sent: the figure knows only user agents, whose TU would not give one, while RFC
//!   3261 16.7 step 5 has a proxy forward any 2xx even after another final response.
//! * Non-INVITE client (figure 6): no departure.
//! * Non-INVITE server (figure 8): Abandon is RFC 4320 4.2, which forbids the 408 that would otherwise end the transaction; it
//!   then absorbs the client's retransmissions as after a response. Late is RFC 4320 4.1: the 100 that a proxy sends when the
//!   client's Timer E has come to T2. A transport error is no event: the client's retransmission
//!   asks for the response again.

use std::fmt::Write as _;

use strowger::time::Duration;
use strowger::transaction::step::{Emit, Retransmit, Step, Tell, Timeout};
use strowger::transaction::{invite_client, invite_server, non_invite_client, non_invite_server};

/// Lists every variant of an enum; a variant that is missing here does not compile.
macro_rules! variants {
    ($type:path: $($variant:ident)+) => {{
        use $type as Listed;
        let whole = |listed: Listed| match listed { $(Listed::$variant => (),)+ };
        let all = [$(Listed::$variant),+];
        all.into_iter().for_each(whole);
        all
    }};
}

#[test]
fn the_invite_client_transaction() {
    let states = variants!(invite_client::State: Calling Proceeding Completed Accepted Terminated);
    let events = variants!(invite_client::Event: Provisional Success Failure Retransmit Timeout TransportError);
    let title = "INVITE client transaction: RFC 3261 17.1.1, figure 5, with RFC 6026 7.2.";
    compare(
        "invite_client",
        &table(title, &states, &events, invite_client::step),
    );
}

#[test]
fn the_invite_server_transaction() {
    let states =
        variants!(invite_server::State: Proceeding Completed Confirmed Accepted Terminated);
    let events =
        variants!(invite_server::Event: Request Provisional Success Failure Ack Retransmit Timeout);
    let title = "INVITE server transaction: RFC 3261 17.2.1, figure 7, with RFC 6026 7.1.";
    compare(
        "invite_server",
        &table(title, &states, &events, invite_server::step),
    );
}

#[test]
fn the_non_invite_client_transaction() {
    let states = variants!(non_invite_client::State: Trying Proceeding Completed Terminated);
    let events =
        variants!(non_invite_client::Event: Provisional Final Retransmit Timeout TransportError);
    let title = "Non-INVITE client transaction: RFC 3261 17.1.2, figure 6.";
    compare(
        "non_invite_client",
        &table(title, &states, &events, non_invite_client::step),
    );
}

#[test]
fn the_non_invite_server_transaction() {
    let states = variants!(non_invite_server::State: Trying Proceeding Completed Terminated);
    let events =
        variants!(non_invite_server::Event: Request Provisional Final Abandon Late Timeout);
    let title = "Non-INVITE server transaction: RFC 3261 17.2.2, figure 8, with RFC 4320.";
    compare(
        "non_invite_server",
        &table(title, &states, &events, non_invite_server::step),
    );
}

#[test]
fn what_is_over_stays_over() {
    for event in variants!(invite_client::Event: Provisional Success Failure Retransmit Timeout TransportError)
    {
        let step = invite_client::step(invite_client::State::Terminated, event, false);
        assert_eq!(step, Step::to(invite_client::State::Terminated));
    }
    for event in
        variants!(invite_server::Event: Request Provisional Success Failure Ack Retransmit Timeout)
    {
        let step = invite_server::step(invite_server::State::Terminated, event, false);
        assert_eq!(step, Step::to(invite_server::State::Terminated));
    }
}

/// A row for each state and event; one for both kinds of transport where they do not differ.
fn table<S: Copy + PartialEq + std::fmt::Debug, E: Copy + std::fmt::Debug>(
    title: &str,
    states: &[S],
    events: &[E],
    step: fn(S, E, bool) -> Step<S>,
) -> String {
    let mut text = format!("{title}\n");
    for state in states {
        let _ = writeln!(text, "\n{state:?}");
        for event in events {
            let (unreliable, reliable) = (step(*state, *event, false), step(*state, *event, true));
            let transports: &[_] = if unreliable == reliable {
                &[("", unreliable)]
            } else {
                &[(" over UDP", unreliable), (" over TCP", reliable)]
            };
            for (transport, step) in transports {
                let event = format!("{event:?}{transport}");
                let _ = writeln!(text, "    {event:<25}{}", describe(*state, step));
            }
        }
    }
    text
}

fn describe<S: Copy + PartialEq + std::fmt::Debug>(state: S, step: &Step<S>) -> String {
    let mut parts = Vec::new();
    if step.next != state {
        parts.push(format!("-> {:?}", step.next));
    }
    match step.emit {
        Emit::Nothing => {}
        Emit::Given => parts.push("send the response".to_owned()),
        Emit::Again => parts.push("send it again".to_owned()),
        Emit::Ack => parts.push("send ACK".to_owned()),
    }
    match step.tell {
        Tell::Nothing => {}
        Tell::Message => parts.push("tell: message".to_owned()),
        Tell::TimedOut => parts.push("tell: timed out".to_owned()),
        Tell::Failed => parts.push("tell: failed".to_owned()),
    }
    match step.retransmit {
        Retransmit::Keep => {}
        Retransmit::Stop => parts.push("retransmission off".to_owned()),
        Retransmit::Set(interval) => parts.push(format!("retransmit in {}", seconds(interval))),
        Retransmit::Double(None) => parts.push("retransmit in twice that".to_owned()),
        Retransmit::Double(Some(cap)) => parts.push(format!(
            "retransmit in twice that, at most {}",
            seconds(cap)
        )),
    }
    match step.timeout {
        Timeout::Keep => {}
        Timeout::Stop => parts.push("timeout off".to_owned()),
        Timeout::Set(span) => parts.push(format!("timeout in {}", seconds(span))),
    }
    if parts.is_empty() {
        "-".to_owned()
    } else {
        parts.join("; ")
    }
}

fn seconds(span: Duration) -> String {
    let millis = span.as_micros() / 1_000;
    if millis.is_multiple_of(1_000) {
        format!("{} s", millis / 1_000)
    } else {
        format!("{millis} ms")
    }
}

/// Compares a table with the one in the repository, and shows the lines that differ.
#[track_caller]
fn compare(name: &str, text: &str) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/states")
        .join(format!("{name}.txt"));
    if std::env::var_os("STATES_WRITE").is_some() {
        std::fs::write(&path, text).expect("tests/states can be written");
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    if kept == text {
        return;
    }
    let (was, is): (Vec<_>, Vec<_>) = (kept.lines().collect(), text.lines().collect());
    let mut difference = String::new();
    for n in 0..was.len().max(is.len()) {
        let (was, is) = (was.get(n), is.get(n));
        if was != is {
            let _ = writeln!(
                difference,
                "line {}:\n  was {}\n  is  {}",
                n + 1,
                was.unwrap_or(&""),
                is.unwrap_or(&"")
            );
        }
    }
    panic!(
        "{} has changed (STATES_WRITE=1 writes it anew):\n{difference}",
        path.display()
    );
}

/// The arrows of the figures, written down from the RFCs and from nothing else: state, input, next state, what is done.
/// What has no arrow must do nothing. The departures that the head of this file names are marked with `*`.
const FIGURES: [(&str, &str); 4] = [
    (
        "RFC 6026 figure 5: INVITE client",
        "Calling     Timer A      Calling     send
         Calling     Timer B      Terminated  inform
         Calling     error        Terminated  inform
         Calling     1xx          Proceeding  to TU
         Calling     2xx          Accepted    to TU
         Calling     300-699      Completed   ACK, to TU
         Proceeding  1xx          Proceeding  to TU
         Proceeding  2xx          Accepted    to TU
         Proceeding  300-699      Completed   ACK, to TU
         Completed   300-699      Completed   ACK
         Completed*  error        Completed   -
         Completed   Timer D      Terminated  -
         Accepted    2xx          Accepted    to TU
         Accepted    Timer M      Terminated  -",
    ),
    (
        "RFC 6026 figure 7: INVITE server",
        "Proceeding  INVITE       Proceeding  send
         Proceeding  1xx from TU  Proceeding  send
         Proceeding  2xx from TU  Accepted    send
         Proceeding  300 from TU  Completed   send
         Completed   INVITE       Completed   send
         Completed   Timer G      Completed   send
         Completed   Timer H      Terminated  inform
         Completed   ACK          Confirmed   -
         Completed*  2xx from TU  Completed   send
         Confirmed   Timer I      Terminated  -
         Confirmed*  2xx from TU  Confirmed   send
         Accepted    2xx from TU  Accepted    send
         Accepted    ACK          Accepted    to TU
         Accepted    Timer L      Terminated  -",
    ),
    (
        "RFC 3261 figure 6: non-INVITE client",
        "Trying      Timer E      Trying      send
         Trying      Timer F      Terminated  inform
         Trying      error        Terminated  inform
         Trying      1xx          Proceeding  to TU
         Trying      200-699      Completed   to TU
         Proceeding  Timer E      Proceeding  send
         Proceeding  Timer F      Terminated  inform
         Proceeding  error        Terminated  inform
         Proceeding  1xx          Proceeding  to TU
         Proceeding  200-699      Completed   to TU
         Completed   Timer K      Terminated  -",
    ),
    (
        "RFC 3261 figure 8: non-INVITE server",
        "Trying      1xx from TU  Proceeding  send
         Trying      200 from TU  Completed   send
         Trying*     given up     Completed   -
         Trying*     late         Proceeding  send
         Proceeding  1xx from TU  Proceeding  send
         Proceeding  200 from TU  Completed   send
         Proceeding  request      Proceeding  send
         Proceeding* given up     Completed   -
         Completed   request      Completed   send
         Completed   Timer J      Terminated  -",
    ),
];

#[test]
fn the_machines_have_the_arrows_of_the_figures_and_no_others() {
    let ([invite_client, non_invite_client], [invite_server, non_invite_server]) =
        (client_arrows(), server_arrows());
    let machines = [
        invite_client,
        invite_server,
        non_invite_client,
        non_invite_server,
    ];
    for ((figure, text), machine) in FIGURES.iter().zip(machines) {
        let words = |line: &str| {
            line.replace('*', " ")
                .split_whitespace()
                .collect::<Vec<_>>()
                .join(" ")
        };
        // A departure that does nothing has no arrow of the machine.
        let mut expected: Vec<String> = text.lines().map(words).collect();
        expected.retain(|arrow| arrow != "Completed error Completed -");
        expected.sort();
        assert_eq!(machine, expected, "{figure}");
    }
}

/// The arrows of the INVITE and the non-INVITE client transaction.
fn client_arrows() -> [Vec<String>; 2] {
    let invite_client = arrows(
        &variants!(invite_client::State: Calling Proceeding Completed Accepted Terminated),
        &variants!(invite_client::Event: Provisional Success Failure Retransmit Timeout TransportError),
        invite_client::step,
        |state, event| match (event, state) {
            ("Provisional", _) => "1xx",
            ("Success", _) => "2xx",
            ("Failure", _) => "300-699",
            ("Retransmit", _) => "Timer A",
            ("Timeout", "Calling") => "Timer B",
            ("Timeout", "Completed") => "Timer D",
            ("Timeout", "Accepted") => "Timer M",
            _ => "error",
        },
    );
    let non_invite_client = arrows(
        &variants!(non_invite_client::State: Trying Proceeding Completed Terminated),
        &variants!(non_invite_client::Event: Provisional Final Retransmit Timeout TransportError),
        non_invite_client::step,
        |state, event| match (event, state) {
            ("Provisional", _) => "1xx",
            ("Final", _) => "200-699",
            ("Retransmit", _) => "Timer E",
            ("Timeout", "Completed") => "Timer K",
            ("Timeout", _) => "Timer F",
            _ => "error",
        },
    );
    [invite_client, non_invite_client]
}

/// The arrows of the INVITE and the non-INVITE server transaction.
fn server_arrows() -> [Vec<String>; 2] {
    let invite_server = arrows(
        &variants!(invite_server::State: Proceeding Completed Confirmed Accepted Terminated),
        &variants!(invite_server::Event: Request Provisional Success Failure Ack Retransmit Timeout),
        invite_server::step,
        |state, event| match (event, state) {
            ("Request", _) => "INVITE",
            ("Provisional", _) => "1xx from TU",
            ("Success", _) => "2xx from TU",
            ("Failure", _) => "300 from TU",
            ("Ack", _) => "ACK",
            ("Retransmit", _) => "Timer G",
            (_, "Completed") => "Timer H",
            (_, "Confirmed") => "Timer I",
            _ => "Timer L",
        },
    );
    let non_invite_server = arrows(
        &variants!(non_invite_server::State: Trying Proceeding Completed Terminated),
        &variants!(non_invite_server::Event: Request Provisional Final Abandon Late Timeout),
        non_invite_server::step,
        |_, event| match event {
            "Request" => "request",
            "Provisional" => "1xx from TU",
            "Final" => "200 from TU",
            "Abandon" => "given up",
            "Late" => "late",
            _ => "Timer J",
        },
    );
    [invite_server, non_invite_server]
}

/// Every step that is not nothing, over either kind of transport: state, input in the figure's words, next state, what is done.
fn arrows<S: Copy + PartialEq + std::fmt::Debug, E: Copy + std::fmt::Debug>(
    states: &[S],
    events: &[E],
    step: fn(S, E, bool) -> Step<S>,
    input: impl Fn(&str, &str) -> &'static str,
) -> Vec<String> {
    let mut arrows = Vec::new();
    for state in states {
        for event in events {
            let steps = [step(*state, *event, false), step(*state, *event, true)];
            let done = steps.map(|step| {
                let emits = match step.emit {
                    Emit::Nothing => None,
                    Emit::Given | Emit::Again => Some("send"),
                    Emit::Ack => Some("ACK"),
                };
                let tells = match step.tell {
                    Tell::Nothing => None,
                    Tell::Message => Some("to TU"),
                    Tell::TimedOut | Tell::Failed => Some("inform"),
                };
                let parts: Vec<_> = emits.into_iter().chain(tells).collect();
                (
                    step.next,
                    if parts.is_empty() {
                        "-".to_owned()
                    } else {
                        parts.join(", ")
                    },
                )
            });
            assert_eq!(
                done[0], done[1],
                "{state:?} {event:?}: a transport changes timers alone"
            );
            if steps[0] != Step::to(*state) {
                let [(next, what), _] = done;
                let input = input(&format!("{state:?}"), &format!("{event:?}"));
                arrows.push(format!("{state:?} {input} {next:?} {what}"));
            }
        }
    }
    arrows.sort();
    arrows
}
