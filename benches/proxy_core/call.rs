//! Calls from phone to phone: INVITE, 180, 200, ACK, BYE and its 200, six messages in and seven out; parts of them alone.
//!
//! Calls go on side by side: between two messages of one there are those of hundreds of others, so that what a call needs has left the
//! near caches, as in life.

use std::collections::VecDeque;

use strowger::time::Duration;

use super::bed::{Arrival, BATCH, Bed, Measured};
use super::message::{self, Parties};
use super::phone::{order, register_all};

/// How calls follow each other.
pub(crate) struct Pace {
    /// How many batches of calls have begun between a call's first message and each of its others: phones answer at once, people do not.
    pub(crate) apart: [usize; STEPS],
    /// The time between two batches.
    pub(crate) span: Duration,
}

/// Hundreds of other messages are between two of one call.
pub(crate) const APART: [usize; STEPS] = [0, 8, 40, 48, 80, 88];
/// A call each millisecond: 64 transactions of each second's calls are live at the end.
const CALM: Pace = Pace {
    apart: APART,
    span: Duration::from_micros(1_000 * BATCH as u64),
};
/// 128 calls a second: few are enough until for each transaction that begins one ends.
const SLOW: Pace = Pace {
    apart: [0, 1, 2, 3, 4, 5],
    span: Duration::from_micros(250_000),
};
/// What has been done for a call.
const STEPS: usize = 6;

/// A batch of calls that are at the same step.
struct Batch {
    parties: Vec<Parties>,
    /// The request that reached each callee last.
    relayed: Vec<String>,
    /// The Record-Route that each dialog has.
    records: Vec<String>,
    step: usize,
}

/// Whole calls.
pub(crate) fn calls(phones: u32, operations: u32) -> Measured {
    run(phones, operations, &CALM, operations / 4)
}

/// Whole calls, of which as many end as begin: with what their timers cost, and in memory that others have left.
pub(crate) fn calls_at_plateau(phones: u32, operations: u32) -> Measured {
    // Timers J, L and M hold a transaction for 32 s.
    run(phones, operations, &SLOW, 33 * 4 * BATCH as u32)
}

/// So many calls at a pace, after so many that are not measured.
pub(crate) fn run(phones: u32, operations: u32, pace: &Pace, before: u32) -> Measured {
    let mut bed = bed_of(phones);
    let mut line: VecDeque<Batch> = VecDeque::new();
    let (batches, unmeasured) = (operations as usize / BATCH, before as usize / BATCH);
    let last = pace.apart[STEPS - 1];
    let warm_up = unmeasured + last;
    for n in 0..warm_up + batches {
        line.push_back(Batch::new(n, phones));
        let is_measured = n >= warm_up;
        let mut is_first = true;
        for apart in pace.apart {
            let Some(place) = (line.len() - 1).checked_sub(apart) else {
                break;
            };
            let pause = if is_first { pace.span } else { Duration::ZERO };
            is_first = false;
            line[place].go_on(&mut bed, pause, is_measured);
        }
        if is_measured {
            bed.note();
        }
        if line.len() > last {
            line.pop_front();
        }
    }
    bed.measured(BATCH)
}

fn bed_of(phones: u32) -> Bed {
    let mut bed = Bed::new();
    register_all(&mut bed, phones, |phone| {
        message::register(phone, 1, message::address(phone), "", "")
    });
    bed
}

impl Batch {
    fn new(number: usize, phones: u32) -> Self {
        let order = order(phones);
        let parties = (0..BATCH).map(|n| {
            let call = (number * BATCH + n) as u32;
            let caller = order(call);
            Parties {
                call,
                caller,
                callee: order(call.wrapping_add(phones / 2)),
            }
        });
        Self {
            parties: parties.collect(),
            relayed: Vec::new(),
            records: Vec::new(),
            step: 0,
        }
    }

    /// The next message of each call.
    fn go_on(&mut self, bed: &mut Bed, span: Duration, is_measured: bool) {
        let arrivals = self.next_arrivals();
        if is_measured {
            bed.receive(span, &arrivals);
        } else {
            bed.receive_unmeasured(span, &arrivals);
        }
        self.take_sent(bed);
        self.step += 1;
    }

    fn next_arrivals(&self) -> Vec<Arrival> {
        let of_callee = |status: &str, has_body: bool| -> Vec<Arrival> {
            let answers = self.parties.iter().zip(&self.relayed);
            let answer = |(parties, relayed): (&Parties, &String)| {
                let body = if has_body {
                    message::session_description(parties.callee)
                } else {
                    String::new()
                };
                parties.answer(relayed, status, &body)
            };
            answers.map(answer).collect()
        };
        let of_caller = |method: &str, cseq: u32| -> Vec<Arrival> {
            let requests = self.parties.iter().zip(&self.records);
            requests
                .map(|(parties, record)| parties.within(method, cseq, record))
                .collect()
        };
        match self.step {
            0 => {
                let invite = |parties: &Parties| {
                    let offer = message::session_description(parties.caller);
                    parties.first("INVITE", "application/sdp", &offer)
                };
                self.parties.iter().map(invite).collect()
            }
            1 => of_callee("180 Ringing", false),
            2 => of_callee("200 OK", true),
            3 => of_caller("ACK", 1),
            4 => of_caller("BYE", 2),
            _ => of_callee("200 OK", false),
        }
    }

    /// Takes what the core sent, which is what is expected at this step.
    fn take_sent(&mut self, bed: &Bed) {
        let first_words: &[&str] = match self.step {
            0 => &["SIP/2.0 100", "INVITE sip:"],
            1 => &["SIP/2.0 180"],
            2 | 5 => &["SIP/2.0 200"],
            3 => &["ACK sip:"],
            _ => &["BYE sip:"],
        };
        // What timers make of it comes after.
        let sent: Vec<&[u8]> = bed
            .sent
            .messages()
            .take(first_words.len() * BATCH)
            .collect();
        assert_eq!(sent.len(), first_words.len() * BATCH);
        for (n, message) in sent.iter().enumerate() {
            let expected = first_words[n % first_words.len()];
            assert!(
                message.starts_with(expected.as_bytes()),
                "{expected}: {}",
                String::from_utf8_lossy(message)
            );
        }
        if self.step != 0 && self.step != 4 {
            return;
        }
        let requests = sent
            .iter()
            .skip(first_words.len() - 1)
            .step_by(first_words.len());
        self.relayed = requests
            .map(|request| String::from_utf8_lossy(request).into_owned())
            .collect();
        if self.step == 0 {
            let record = |relayed: &String| {
                let line = relayed
                    .lines()
                    .find_map(|line| line.strip_prefix("Record-Route: "));
                line.expect("recorded").to_owned()
            };
            self.records = self.relayed.iter().map(record).collect();
        }
    }
}

/// MESSAGEs and their 200s: a transaction of another kind.
pub(crate) fn messages(phones: u32, operations: u32) -> Measured {
    let mut bed = bed_of(phones);
    for n in 0..operations as usize / BATCH {
        let mut batch = Batch::new(n, phones);
        let message = |parties: &Parties| parties.first("MESSAGE", "text/plain", "Are you there?");
        let requests: Vec<Arrival> = batch.parties.iter().map(message).collect();
        bed.receive(CALM.span, &requests);
        let relayed = bed.sent.messages().take(BATCH);
        batch.relayed = relayed
            .map(|request| String::from_utf8_lossy(request).into_owned())
            .collect();
        assert!(
            batch
                .relayed
                .iter()
                .all(|sent| sent.starts_with("MESSAGE sip:"))
        );
        batch.step = 5;
        let answers = batch.next_arrivals();
        bed.receive(Duration::ZERO, &answers);
        bed.note();
        batch.take_sent(&bed);
    }
    bed.measured(BATCH)
}

/// ACKs of 2xx responses: what passes without a transaction.
pub(crate) fn acks(phones: u32, operations: u32) -> Measured {
    let mut bed = bed_of(phones);
    for n in 0..operations as usize / BATCH {
        let mut batch = Batch::new(n, phones);
        for _ in 0..3 {
            batch.go_on(&mut bed, CALM.span, false);
        }
        batch.go_on(&mut bed, Duration::ZERO, true);
        bed.note();
    }
    bed.measured(BATCH)
}
