//! The loop of a worker: one thread, run to completion, in the numbered order of [`Worker::turn`].

mod sleep;

use std::sync::Arc;

use self::sleep::Vigil;
use super::beside::Beside;
use super::clerk::Clerk;
use super::clock::Clock;
use super::control::Control;
use super::exit::Outlets;
use super::herald::Herald;
use super::intake::FromPort;
use super::mailbox::{Kind, Letter, Mailbox};
use super::overflow::{self, Overflow};
use super::served::Served;
use crate::admin::Tray;
use crate::counters::{Counter, Counters};
use crate::datagram::{Datagram, Flow, ListenerId, Transport, WorkerId};
use crate::latency::Latency;
use crate::limits::{BATCH, HOUSEKEEPING, SWEEP_BUDGET, WORTH_ANNOUNCING};
use crate::location::{Location, SweepCursor};
use crate::net::{Backend, Receiver, Unreachable, WorkerPorts};
use crate::peer;
use crate::prefetch;
use crate::proxy::{Notice, Proxy};
use crate::resolve::Desk;
use crate::store;
use crate::store::Inquiries;
use crate::time::{Duration, Instant};

/// A worker: a core, its ports, its mailbox.
pub(super) struct Worker {
    id: WorkerId,
    proxy: Proxy,
    receivers: Vec<Box<dyn Receiver + Send>>,
    beside: Beside,
    overflow: Overflow,
    outlets: Outlets,
    is_busy_polling: bool,
    vigil: Vigil,
    mailbox: Arc<Mailbox>,
    /// The batch of it at hand; empty between two.
    letters: Vec<Letter>,
    errands: Arc<Tray>,
    control: Arc<Control>,
    location: Arc<Location>,
    sweep: SweepCursor,
    /// Whether the last slice of the sweep freed anything: then the next one follows in the next turn.
    is_sweeping: bool,
    clerk: Option<Clerk>,
    herald: Option<Herald>,
    news: News,
    clock: Clock,
    counters: Arc<Counters>,
    served: Served,
    next_housekeeping: Instant,
    is_draining: bool,
}

/// What a worker was last told of the store.
#[derive(Debug, Default)]
struct News {
    /// Whether it is told of each batch that is settled.
    tells: bool,
    takes: bool,
    is_loading: bool,
    settled: u64,
}

/// What a worker shares with the others.
pub(super) struct Shared {
    /// The signs.
    pub(super) control: Arc<Control>,
    /// The bindings.
    pub(super) location: Arc<Location>,
    /// Where the admin server's errands wait, for each worker.
    pub(super) trays: Vec<Arc<Tray>>,
    /// The clock.
    pub(super) clock: Clock,
}

impl Shared {
    /// The clerk of worker `number` of `workers`.
    pub(super) fn clerk(
        &self,
        desk: Arc<store::Desk>,
        number: usize,
        workers: usize,
        flush: Duration,
    ) -> Clerk {
        Clerk::new(desk, Arc::clone(&self.location), number, workers, flush)
    }

    /// The herald of worker `number` of `workers`.
    pub(super) fn herald(
        &self,
        desk: Arc<peer::Desk>,
        of: (usize, usize),
        coalesce: Duration,
    ) -> Herald {
        Herald::new(desk, Arc::clone(&self.location), of, coalesce)
    }
}

/// What a worker counts into.
pub(super) struct Measures {
    /// Its counters.
    pub(super) counters: Arc<Counters>,
    /// Its latencies.
    pub(super) latency: Arc<Latency>,
}

impl Worker {
    /// Puts a worker together; `share` of `shares` is its part of the sweep.
    pub(super) fn new(
        id: WorkerId,
        proxy: Proxy,
        ports: WorkerPorts,
        desk: Desk,
        shared: &Shared,
        measures: Measures,
    ) -> Option<Self> {
        let number = usize::from(id.0);
        let mailboxes = shared.control.mailboxes();
        Some(Self {
            id,
            proxy,
            beside: Beside::new(&ports.receivers),
            overflow: Overflow::new(),
            receivers: ports.receivers,
            outlets: Outlets {
                transmitters: ports.transmitters,
                control: Arc::clone(&shared.control),
                desk,
                subscribers: None,
                rows: None,
                inlet: None,
            },
            is_busy_polling: ports.busy_poll,
            vigil: Vigil::default(),
            mailbox: Arc::clone(mailboxes.get(number)?),
            letters: Vec::with_capacity(BATCH),
            errands: Arc::clone(shared.trays.get(number)?),
            control: Arc::clone(&shared.control),
            location: Arc::clone(&shared.location),
            sweep: SweepCursor::new(number, mailboxes.len()),
            is_sweeping: false,
            clerk: None,
            herald: None,
            news: News::default(),
            clock: shared.clock,
            counters: measures.counters,
            served: Served::new(measures.latency),
            next_housekeeping: Instant::EPOCH,
            is_draining: false,
        })
    }

    /// Asks for users at this desk, where there is authentication.
    pub(super) fn with_subscribers(mut self, desk: Option<Inquiries>) -> Self {
        self.outlets.subscribers = desk;
        self
    }

    /// Keeps the location's changes in a store, too; with `tells` every worker is told of each batch that is settled.
    pub(super) fn with_clerk(mut self, clerk: Option<Clerk>, tells: bool) -> Self {
        self.outlets.rows = clerk.as_ref().map(Clerk::desk);
        self.clerk = clerk;
        self.news = News {
            tells,
            takes: true,
            is_loading: self.location.is_loading(),
            settled: self.location.settled(),
        };
        self
    }

    /// Shares the location's changes with other nodes, too.
    pub(super) fn with_herald(mut self, herald: Option<Herald>) -> Self {
        self.herald = herald;
        self
    }

    /// Looks again and again for this long, where there is nothing to do, before it sleeps.
    pub(super) fn with_spin(mut self, spin: Duration) -> Self {
        self.vigil = Vigil::new(spin);
        self
    }

    /// Leaves KDMQ for the cluster there.
    pub(super) fn with_inlet(mut self, inlet: Option<Arc<peer::Inlet>>) -> Self {
        self.outlets.inlet = inlet;
        self
    }

    /// Works until it is told to stop; what waits in its transmitters is sent, and what waits for the store is stored, before it
    /// returns.
    pub(super) fn run(mut self) {
        while !self.control.is_stopping() {
            if self.turn() {
                self.vigil.end();
            } else if !self.is_busy_polling {
                self.rest();
            }
        }
        self.outlets.transmitters.flush();
        self.housekeep(self.clock.now());
        if let Some(clerk) = &mut self.clerk {
            clerk.finish(&self.clock);
            self.answer_last();
        }
    }

    /// Answers what waited for the last batches, those of the other workers too.
    fn answer_last(&mut self) {
        let deadline = self.clock.now() + LAST_ANSWERS_TIME;
        loop {
            let now = self.clock.now();
            self.tell_of_store(now);
            self.proxy.on_timeout(now, &mut self.outlets.exit());
            self.outlets.transmitters.flush();
            if self.proxy.waiting() == 0 || now >= deadline {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }

    /// One turn; says whether there was anything to do.
    ///
    /// 0. What the store has done, for those who wait for it. 1. What the ports received, a batch a port. 2. What other workers handed over. 3. What the resolver and the users' tables answered. 4. Timers
    ///    that are due. 5. What all this sent leaves. 6. A slice for the store, one for the cluster, one errand of
    ///    the admin server. 7. Housekeeping, now and then.
    fn turn(&mut self) -> bool {
        let now = self.clock.now();
        // Before anything is received: who asks is answered by what the store says now.
        self.tell_of_store(now);
        let (received, is_full) = self.receive(now);
        let mail = self.take_mail(now);
        self.observe_backlog(now, is_full || mail >= BATCH);
        let mut worked = received || mail > 0;
        worked |= self.take_answers(now);
        worked |= self.take_users(now);
        if self.proxy.next_deadline().is_some_and(|due| due <= now) {
            let mut exit = self.outlets.exit();
            self.proxy.on_timeout(now, &mut exit);
            worked = true;
        }
        self.flush(now);
        if let Some(clerk) = &mut self.clerk {
            let (proxy, outlets) = (&mut self.proxy, &mut self.outlets);
            worked |= clerk.turn(now, |aor| {
                proxy.on_notice(now, Notice::Loaded { aor }, &mut outlets.exit());
            });
        }
        if let Some(herald) = &mut self.herald {
            worked |= herald.turn(now);
        }
        worked |= self.errands.run_one(now, &self.location, &self.counters);
        if now >= self.next_housekeeping {
            self.housekeep(now);
        } else if self.is_sweeping {
            self.sweep(now);
        }
        worked | self.is_sweeping
    }

    /// Tells the core what those who wait for the store wait for.
    fn tell_of_store(&mut self, now: Instant) {
        let Some(clerk) = &mut self.clerk else { return };
        let (takes, has_settled) = (clerk.store_takes(), clerk.has_settled());
        let settled = if self.news.tells {
            self.location.settled()
        } else {
            self.news.settled
        };
        if takes != self.news.takes || settled != self.news.settled {
            (self.news.takes, self.news.settled) = (takes, settled);
            let mut exit = self.outlets.exit();
            self.proxy
                .on_notice(now, Notice::Settled { takes }, &mut exit);
        }
        if has_settled && self.news.tells {
            let others = self.control.mailboxes().iter();
            let others = others.filter(|other| !Arc::ptr_eq(other, &self.mailbox));
            others.for_each(|other| other.rouse());
        }
        if self.news.is_loading && !self.location.is_loading() {
            self.news.is_loading = false;
            let mut exit = self.outlets.exit();
            self.proxy.on_notice(now, Notice::AllLoaded, &mut exit);
        }
    }

    /// Says whether anything came, and whether more waits.
    fn receive(&mut self, now: Instant) -> (bool, bool) {
        let Self {
            receivers,
            beside,
            outlets,
            proxy,
            counters,
            served,
            ..
        } = self;
        let (mut worked, mut is_full) = (false, false);
        beside.begin();
        for (place, receiver) in receivers.iter_mut().enumerate() {
            if !beside.is_due(place, receiver.backend()) {
                continue;
            }
            let received_by = match receiver.backend() {
                Backend::AfXdp => Counter::ReceivedAfXdp,
                Backend::Udp => Counter::ReceivedUdp,
            };
            let mut intake = FromPort {
                now,
                proxy: &mut *proxy,
                outlets: &mut *outlets,
                counters,
                served,
                received_by,
            };
            let taken = receiver.receive(now, &mut intake);
            worked |= taken > 0;
            is_full |= taken >= BATCH;
            if taken < BATCH {
                beside.drain(place);
            }
        }
        (worked, is_full)
    }

    /// Tells the core how the queues stand, and the log when an overload begins or ends.
    fn observe_backlog(&mut self, now: Instant, is_full: bool) {
        let (receivers, mailbox) = (&self.receivers, &self.mailbox);
        let lost = || {
            let packets = receivers.iter().map(|receiver| receiver.packets_lost());
            packets.sum::<u64>() + mailbox.lost()
        };
        let backlog = self.overflow.backlog(now, is_full, lost);
        if let Some(turn) = self.proxy.observe_backlog(now, backlog) {
            overflow::tell(self.id, turn);
            let is_there = u64::from(self.proxy.is_overloaded());
            self.counters.set(Counter::Overloaded, is_there);
        }
    }

    /// Takes a batch of letters: as from a port, each is announced before the first of them is taken. Says how many there were.
    fn take_mail(&mut self, now: Instant) -> usize {
        let mut letters = std::mem::take(&mut self.letters);
        letters.extend(std::iter::from_fn(|| self.mailbox.take()).take(BATCH));
        // Another core wrote them.
        letters
            .iter()
            .for_each(|letter| prefetch::bytes(letter.bytes()));
        if letters.len() >= WORTH_ANNOUNCING {
            let served = letters.iter().filter(|letter| letter.is_received());
            served.for_each(|letter| self.proxy.glance(letter.bytes()));
            self.proxy.look_ahead();
        }
        let taken = letters.len();
        for letter in letters.drain(..) {
            if letter.is_received() {
                self.take_handed_over(now, &letter);
            } else {
                let datagram = letter.datagram();
                self.take_undelivered(now, datagram.flow, datagram.bytes);
            }
            self.mailbox.discard(letter);
        }
        self.letters = letters;
        taken
    }

    fn take_users(&mut self, now: Instant) -> bool {
        for taken in 0..BATCH {
            let desk = self.outlets.subscribers.as_mut();
            let Some(answer) = desk.and_then(Inquiries::take) else {
                return taken > 0;
            };
            let notice = Notice::Subscriber {
                aor: answer.aor(),
                found: answer.found,
            };
            let mut exit = self.outlets.exit();
            self.proxy.on_notice(now, notice, &mut exit);
        }
        true
    }

    fn take_answers(&mut self, now: Instant) -> bool {
        for taken in 0..BATCH {
            let Some(answer) = self.outlets.desk.take() else {
                return taken > 0;
            };
            let notice = Notice::Resolved {
                id: answer.id(),
                destinations: answer.destinations(),
            };
            let mut exit = self.outlets.exit();
            self.proxy.on_notice(now, notice, &mut exit);
        }
        true
    }

    fn take_handed_over(&mut self, now: Instant, letter: &Letter) {
        let datagram = letter.datagram();
        if letter.is_handed_over() {
            self.counters.increment(Counter::HandedIn);
        }
        let mut exit = self.outlets.exit().answering(datagram.flow, letter.link());
        if let Some(method) = self.proxy.on_datagram(now, &datagram, &mut exit)
            && !exit.has_handed_off()
        {
            self.served.note(method, datagram.received_at);
        }
    }

    fn take_undelivered(&mut self, now: Instant, flow: Flow, sent: &[u8]) {
        let mut exit = self.outlets.exit();
        self.proxy
            .on_notice(now, Notice::Unreachable { flow, sent }, &mut exit);
    }

    /// Sends what this turn made, and takes back what the kernel refuses to send for want of a route.
    fn flush(&mut self, now: Instant) {
        self.outlets.transmitters.flush();
        self.served.record(&self.clock);
        let mut refused: Vec<(Flow, Vec<u8>)> = Vec::new();
        self.outlets.transmitters.failures(&mut |unreachable| {
            refused.push((flow_of(&unreachable), unreachable.payload.to_vec()));
        });
        for (flow, sent) in refused {
            self.take_undelivered(now, flow, &sent);
        }
    }

    fn housekeep(&mut self, now: Instant) {
        self.next_housekeeping = now + HOUSEKEEPING;
        if self.control.is_draining() && !self.is_draining {
            self.is_draining = true;
            let mut exit = self.outlets.exit();
            self.proxy.on_notice(now, Notice::Drain, &mut exit);
        }
        self.take_errors(now);
        self.sweep(now);
        let missing: usize = self
            .receivers
            .iter()
            .map(|receiver| receiver.frames_missing())
            .sum();
        let outstanding = self.outlets.transmitters.frames_outstanding() + missing;
        self.counters
            .set(Counter::FramesOutstanding, outstanding as u64);
        self.counters.set(
            Counter::MailboxBuffersOut,
            self.mailbox.buffers_out() as u64,
        );
        let (_, timers, messages) = self.proxy.held();
        self.counters
            .set(Counter::RequestsWaiting, self.proxy.waiting() as u64);
        self.counters.set(Counter::TimersRunning, timers as u64);
        self.counters.set(Counter::MessagesStored, messages as u64);
        let bytes = self.proxy.footprint() as u64;
        self.counters.set(Counter::TransactionBytes, bytes);
        let stored = self.proxy.stored_bytes() as u64;
        self.counters.set(Counter::StoredMessageBytes, stored);
        self.control
            .report(self.id, self.is_draining, self.proxy.pending());
    }

    /// Frees a slice of what has expired.
    fn sweep(&mut self, now: Instant) {
        self.is_sweeping = self.location.sweep(now, &mut self.sweep, SWEEP_BUDGET) > 0;
    }

    /// What ICMP said of datagrams that we sent: a report reaches any worker's socket, and is passed on to its owner.
    fn take_errors(&mut self, now: Instant) {
        let Self {
            id,
            receivers,
            outlets,
            control,
            proxy,
            ..
        } = self;
        for receiver in receivers {
            receiver.receive_errors(&mut |unreachable| {
                let sent = unreachable.payload;
                let Some(owner) = proxy.owner_of_sent(sent) else {
                    return;
                };
                if owner == *id {
                    let mut exit = outlets.exit();
                    let flow = flow_of(&unreachable);
                    proxy.on_notice(now, Notice::Unreachable { flow, sent }, &mut exit);
                } else if let Some(mailbox) = control.mailboxes().get(usize::from(owner.0)) {
                    // A full mailbox loses the hint alone: the transaction's own timer ends it then.
                    let _ = mailbox.post(Kind::Undelivered, &undelivered(&unreachable, now), None);
                }
            });
        }
    }
}

/// A report as a letter carries it.
fn undelivered<'a>(report: &Unreachable<'a>, now: Instant) -> Datagram<'a> {
    Datagram {
        bytes: report.payload,
        flow: flow_of(report),
        received_at: now,
        handed_off: true,
    }
}

/// The way that a report is about. The kernel does not say which of our listeners sent it.
fn flow_of(report: &Unreachable<'_>) -> Flow {
    Flow {
        listener: ListenerId(0),
        transport: Transport::Udp,
        peer: report.peer,
    }
}

/// How long another worker's last batch is waited for, when the process ends with requests that wait for it.
const LAST_ANSWERS_TIME: Duration = Duration::from_secs(1);
