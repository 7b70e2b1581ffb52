//! Names that must be looked up (RFC 3263): the branch waits, and so does the ACK of a 2xx; the worker does not.

use super::compose::Consumed;
use super::forward::Stateless;
use super::next_hop::{Destinations, Name};
use super::output::{Output, Question, QuestionId};
use super::{Bench, Proxy};
use crate::counters::Counter;
use crate::datagram::{Destination, Flow, ListenerId, WorkerId};
use crate::limits::{ACKS_WAITING_MAX, HOST_LEN_MAX, LOOKUP_TIME};
use crate::sip::message::{Message, Parsed, parse};
use crate::time::Instant;
use crate::transaction::arena::Stored;
use crate::transaction::client::ClientSlot;
use crate::transaction::id::{Generation, TransactionId};
use crate::transaction::slab::Slab;

/// An ACK that waits for its next hop's name.
#[derive(Debug)]
pub(super) struct WaitingAck {
    request: Stored,
    /// The Request-URI and the Route values that it gets, where it gets any.
    texts: [Option<Stored>; 2],
    source: Flow,
    listener: ListenerId,
    routes_consumed: Consumed,
    from_strict_router: bool,
    generation: Generation,
}

/// Those of one worker.
pub(super) type WaitingAcks = Slab<WaitingAck>;

/// Room for the ACKs that may wait.
pub(super) fn waiting_acks() -> WaitingAcks {
    Slab::with_limit(ACKS_WAITING_MAX)
}

impl Proxy {
    /// Asks where a branch's next hop is; the answer, or a guard, goes on with it.
    pub(super) fn ask(
        &mut self,
        now: Instant,
        slot: ClientSlot,
        name: &Name<'_>,
        out: &mut impl Output,
    ) {
        let Some(id) = self.table.id_of(slot) else {
            return;
        };
        let is_asked = ask(name, question_of_leg(id), out);
        if !is_asked {
            self.counters.increment(Counter::RefusedUnresolvable);
            return self.give_up(slot, 503);
        }
        self.table.guard(now, slot, LOOKUP_TIME);
    }

    /// Asks where the next hop of an ACK is, and keeps the ACK until it is known.
    pub(super) fn ask_for_ack(
        &mut self,
        request: &Message<'_>,
        source: &Flow,
        ack: &Stateless<'_>,
        name: &Name<'_>,
        out: &mut impl Output,
    ) {
        let bytes = request.bytes().get(..request.end()).unwrap_or_default();
        let Some(kept) = self.table.arena_mut().store(bytes) else {
            return self.counters.increment(Counter::DropUnroutableAck);
        };
        let texts = [ack.target, ack.path]
            .map(|text| text.and_then(|text| self.table.arena_mut().store(text)));
        let mut waiting = Some((kept, texts));
        let place = self.acks.insert_with(|_, generation| {
            let (request, texts) = waiting.take().expect("a slab calls its maker once");
            WaitingAck {
                request,
                texts,
                source: *source,
                listener: name.listener,
                routes_consumed: ack.routes_consumed,
                from_strict_router: ack.from_strict_router,
                generation,
            }
        });
        let is_asked = place.is_some_and(|place| {
            let generation = self.acks.at(place).map(|ack| ack.generation);
            generation.is_some_and(|generation| ask(name, question_of_ack(place, generation), out))
        });
        if is_asked {
            return;
        }
        self.counters.increment(Counter::DropUnroutableAck);
        if let Some((request, texts)) = waiting {
            self.release(request, texts);
        } else if let Some(ack) = place.and_then(|place| self.acks.remove(place)) {
            self.release(ack.request, ack.texts);
        }
    }

    /// Takes the answer to a question.
    pub(super) fn on_resolved(
        &mut self,
        now: Instant,
        id: QuestionId,
        destinations: &[Destination],
        bench: &mut Bench,
        out: &mut impl Output,
    ) {
        let mut found = Destinations::new();
        destinations
            .iter()
            .for_each(|destination| found.push(*destination));
        match asked_by(id, self.settings.worker) {
            Asker::Leg(id) => self.on_leg_resolved(now, id, &found, bench, out),
            Asker::Ack(place, generation) => {
                if self.acks.of_generation(place, generation).is_some() {
                    self.on_ack_resolved(place, &found, bench, out);
                }
            }
        }
    }

    fn on_leg_resolved(
        &mut self,
        now: Instant,
        id: TransactionId,
        found: &Destinations,
        bench: &mut Bench,
        out: &mut impl Output,
    ) {
        // A branch that was cancelled meanwhile is gone.
        let Some(slot) = self.table.find_client(id) else {
            return;
        };
        let Some(server) = self
            .table
            .client(slot)
            .filter(|client| !client.is_started())
            .map(|client| client.server())
        else {
            return;
        };
        // So is the reason for one whose request was answered by another branch; only an INVITE's is cancelled there and then.
        let entry = self.table.server(server);
        if !entry.is_some_and(|server| server.state().is_pending()) {
            return self.close_leg(slot);
        }
        self.table.unguard(slot);
        self.recall(server, bench, |proxy, request, bench| {
            proxy.launch(now, slot, found, request, bench, out);
        });
        self.conclude_if_done(now, server, bench, out);
    }

    fn on_ack_resolved(
        &mut self,
        place: u32,
        found: &Destinations,
        bench: &mut Bench,
        out: &mut impl Output,
    ) {
        let Some(ack) = self.acks.remove(place) else {
            return;
        };
        let flow = found
            .iter()
            .find_map(|destination| self.identity.flow_to(&destination, ack.listener));
        let mut index = std::mem::take(&mut bench.stored);
        let arena = self.table.arena();
        match (parse(arena.bytes(&ack.request), &mut index), flow) {
            (Parsed::Good(request), Some(flow)) => {
                let [target, path] = ack
                    .texts
                    .each_ref()
                    .map(|text| text.as_ref().map(|text| arena.bytes(text)));
                let changes = Stateless {
                    target,
                    path,
                    routes_consumed: ack.routes_consumed,
                    from_strict_router: ack.from_strict_router,
                };
                self.send_statelessly(&request, &ack.source, &changes, &flow, bench, out);
            }
            _ => self.counters.increment(Counter::DropUnroutableAck),
        }
        bench.stored = index;
        self.release(ack.request, ack.texts);
    }

    fn release(&mut self, request: Stored, texts: [Option<Stored>; 2]) {
        let arena = self.table.arena_mut();
        arena.release(request);
        for text in texts.into_iter().flatten() {
            arena.release(text);
        }
    }
}

fn ask(name: &Name<'_>, id: QuestionId, out: &mut impl Output) -> bool {
    let question = Question {
        id,
        host: name.host,
        port: name.port,
        transport: name.transport,
    };
    name.host.len() <= HOST_LEN_MAX && out.resolve(&question).is_ok()
}

/// Who waits for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asker {
    Leg(TransactionId),
    Ack(u32, Generation),
}

/// A branch asks under its slot and generation.
fn question_of_leg(id: TransactionId) -> QuestionId {
    QuestionId(u64::from(id.generation.0) << 32 | u64::from(id.slot))
}

/// An ACK asks under its place, which no slot of a transaction has.
fn question_of_ack(place: u32, generation: Generation) -> QuestionId {
    QuestionId(u64::from(generation.0) << 32 | u64::from(place | OF_ACK))
}

fn asked_by(id: QuestionId, worker: WorkerId) -> Asker {
    let [g0, g1, g2, g3, s0, s1, s2, s3] = id.0.to_be_bytes();
    let generation = Generation(u32::from_be_bytes([g0, g1, g2, g3]));
    let slot = u32::from_be_bytes([s0, s1, s2, s3]);
    if slot & OF_ACK != 0 {
        return Asker::Ack(slot & !OF_ACK, generation);
    }
    Asker::Leg(TransactionId {
        worker,
        slot,
        generation,
    })
}

/// The mark of an ACK's question: slots of transactions stay below it.
const OF_ACK: u32 = 1 << 31;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_finds_who_asked() {
        let id = TransactionId {
            worker: WorkerId(3),
            slot: 70_000,
            generation: Generation(u32::MAX),
        };
        assert_eq!(asked_by(question_of_leg(id), WorkerId(3)), Asker::Leg(id));
        let generation = Generation(9);
        assert_eq!(
            asked_by(question_of_ack(5, generation), WorkerId(3)),
            Asker::Ack(5, generation)
        );
    }
}
