//! Calls from phone to phone: INVITE, 180, 200, ACK, BYE and its 200, six messages in and seven out; parts of them alone.
//!
//! Calls go on side by side: between two messages of one there are those of hundreds of others, so that what a call needs has left the
//! near caches, as in life.

use std::collections::VecDeque;

use strowger::time::Duration;

use super::bed::{Arrival, BATCH, Bed, Measured};
use super::message::{self, Parties};
use super::phone::{order, register_all};

/// How many batches of calls have begun between a call's first message and each of its others: phones answer at once, people do not.
const APART: [usize; STEPS] = [0, 8, 40, 48, 80, 88];
/// A call each millisecond: 64 transactions of each second's calls are live at the end.
const CALM: Duration = Duration::from_micros(1_000 * BATCH as u64);
/// 3,125 calls a second: 200,000 transactions live.
const CROWDED: Duration = Duration::from_micros(320 * BATCH as u64);
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
    run(phones, operations, CALM, operations / 4)
}

/// Whole calls, whose transactions have filled their table before.
pub(crate) fn calls_in_a_crowd(phones: u32, operations: u32) -> Measured {
    // The Timers J and L of what was before hold for 32 s.
    let before = if operations > 100_000 {
        110_000
    } else {
        operations / 4
    };
    run(phones, operations, CROWDED, before)
}

fn run(phones: u32, operations: u32, span: Duration, before: u32) -> Measured {
    let mut bed = bed_of(phones);
    let mut line: VecDeque<Batch> = VecDeque::new();
    let (batches, unmeasured) = (operations as usize / BATCH, before as usize / BATCH);
    let warm_up = unmeasured + APART[STEPS - 1];
    for n in 0..warm_up + batches {
        line.push_back(Batch::new(n, phones));
        let is_measured = n >= warm_up;
        let mut is_first = true;
        for apart in APART {
            let Some(place) = (line.len() - 1).checked_sub(apart) else {
                break;
            };
            let pause = if is_first { span } else { Duration::ZERO };
            is_first = false;
            line[place].go_on(&mut bed, pause, is_measured);
        }
        if is_measured {
            bed.note();
        }
        if line.len() > APART[STEPS - 1] {
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
        bed.receive(CALM, &requests);
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
            batch.go_on(&mut bed, CALM, false);
        }
        batch.go_on(&mut bed, Duration::ZERO, true);
        bed.note();
    }
    bed.measured(BATCH)
}
