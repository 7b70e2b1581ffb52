//! What is turned away in overload: an INVITE that is dropped at a glance, and one that is answered 503 and acknowledged.

use strowger::proxy::Backlog;
use strowger::time::Duration;

use super::bed::{Arrival, BATCH, Bed, Measured};
use super::message::{self, Parties};
use super::phone::{order, register_all};

/// Between two batches.
const SPAN: Duration = Duration::from_micros(10);
/// As many are let in for one that is refused.
const LET_IN_PER_REFUSAL: usize = strowger::limits::OVERLOAD_REFUSALS as usize;
/// As many different INVITEs as a NIC's ring holds, each with memory of its own, so that none is found in the near caches.
const WAITING: u32 = 2_048;

/// INVITEs that are dropped, to AoRs of ours: the first line tells.
pub(crate) fn glances(phones: u32, operations: u32) -> Measured {
    let waiting = (0..WAITING).map(|call| invite(phones, call));
    drop_all(phones, operations, &waiting.collect::<Vec<_>>())
}

/// INVITEs that are dropped, to elsewhere: their To tells.
pub(crate) fn glances_at_to(phones: u32, operations: u32) -> Measured {
    let elsewhere = |call| {
        let Arrival { bytes, source } = invite(phones, call);
        let text = String::from_utf8(bytes).expect("text");
        let text = text.replacen("@example.com SIP/2.0", "@198.51.100.7 SIP/2.0", 1);
        Arrival {
            bytes: text.into_bytes(),
            source,
        }
    };
    let waiting = (0..WAITING).map(elsewhere);
    drop_all(phones, operations, &waiting.collect::<Vec<_>>())
}

fn drop_all(phones: u32, operations: u32, waiting: &[Arrival]) -> Measured {
    let mut bed = strained(phones);
    // The one that is always let in.
    bed.receive_unmeasured(SPAN, &waiting[..1]);
    for n in 0..operations as usize / BATCH {
        let from = n * BATCH % waiting.len();
        bed.receive(SPAN, &waiting[from..from + BATCH]);
        bed.note();
        assert!(bed.sent.lens.is_empty(), "dropped");
    }
    bed.measured(BATCH)
}

/// INVITEs that hear 503, and their ACKs.
pub(crate) fn refusals(phones: u32, operations: u32) -> Measured {
    let mut bed = strained(phones);
    let order = order(phones);
    let mut cseq = 1;
    for n in 0..operations as usize / BATCH {
        for _ in 0..LET_IN_PER_REFUSAL {
            cseq += 1;
            bed.now = bed.now + SPAN;
            bed.proxy.observe_backlog(bed.now, Backlog::Short);
            let let_in: Vec<Arrival> = (0..BATCH as u32)
                .map(|n| register(order(n), cseq))
                .collect();
            bed.receive_unmeasured(SPAN, &let_in);
            assert_eq!(bed.sent.lens.len(), BATCH, "let in");
        }
        let invites: Vec<Arrival> = (0..BATCH)
            .map(|call| invite(phones, (n * BATCH + call) as u32))
            .collect();
        bed.receive(SPAN, &invites);
        let acks: Vec<Arrival> = bed
            .sent
            .messages()
            .zip(&invites)
            .map(|(refusal, invite)| acknowledge(refusal, invite))
            .collect();
        assert_eq!(acks.len(), BATCH, "refused");
        bed.receive(SPAN, &acks);
        bed.note();
        assert!(bed.sent.lens.is_empty(), "absorbed");
    }
    bed.measured(BATCH)
}

/// A server in overload.
fn strained(phones: u32) -> Bed {
    let mut bed = Bed::new();
    register_all(&mut bed, phones, |phone| register(phone, 1));
    for _ in 0..200 {
        bed.now = bed.now + Duration::from_millis(1);
        bed.proxy.observe_backlog(bed.now, Backlog::Overflowing);
    }
    assert!(bed.proxy.is_overloaded());
    bed
}

fn register(phone: u32, cseq: u32) -> Arrival {
    message::register(phone, cseq, message::address(phone), "", "")
}

fn invite(phones: u32, call: u32) -> Arrival {
    let order = order(phones);
    let caller = order(call);
    let parties = Parties {
        call,
        caller,
        callee: order(call.wrapping_add(phones / 2)),
    };
    let offer = message::session_description(caller);
    parties.first("INVITE", "application/sdp", &offer)
}

/// RFC 3261 17.1.1.3: the ACK of a final response other than 2xx.
fn acknowledge(refusal: &[u8], invite: &Arrival) -> Arrival {
    let refusal = String::from_utf8_lossy(refusal);
    assert!(refusal.starts_with("SIP/2.0 503"), "{refusal}");
    let invite_text = String::from_utf8_lossy(&invite.bytes);
    let uri = invite_text.split(' ').nth(1).expect("a Request-URI");
    let mut text = format!("ACK {uri} SIP/2.0\r\nMax-Forwards: 70\r\n");
    for line in refusal.lines() {
        if ["Via:", "From:", "To:", "Call-ID:"]
            .iter()
            .any(|name| line.starts_with(name))
        {
            text += &format!("{line}\r\n");
        }
    }
    text += "CSeq: 1 ACK\r\nContent-Length: 0\r\n\r\n";
    Arrival {
        bytes: text.into_bytes(),
        source: invite.source,
    }
}
