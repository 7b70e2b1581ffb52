//! The loop: what has come is taken, what is due is done, what is to be attempted is begun when the schedule says so.

use std::io::Write;
use std::num::NonZeroU64;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::agent::{Agent, Wire};
use super::error::LoadError;
use super::mix::Mix;
use super::outcome::Outcome;
use super::phones::Phones;
use super::plan::Plan;
use super::processor::Processor;
use super::random::Random;
use super::schedule::{Arrivals, Schedule};
use super::tally::{Kind, Tally};
use crate::counters::{Counter, Counters};
use crate::datagram::{Datagram, Flow};
use crate::limits::{BATCH, LISTENERS_MAX, LOAD_BATCH};
use crate::net::{self, Attachments, Backend, Receiver, SendError, Transmitters};
use crate::sip::Index;
use crate::time::{Duration, Instant};

/// The open network and the agents.
pub(super) struct Generator {
    agent: Agent,
    receivers: Vec<Box<dyn Receiver + Send>>,
    transmitters: Transmitters,
    counters: Arc<Counters>,
    _attachments: Attachments,
    index: Index,
    clock: Clock,
    /// Messages for which there was no room to send.
    full: u64,
    /// When the kernel's sockets beside AF_XDP are to be looked at again.
    aside_ns: u64,
    is_stopped: Arc<AtomicBool>,
    is_quiet: bool,
}

/// One stretch of load.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stretch {
    pub(super) mix: Mix,
    pub(super) rate: f64,
    pub(super) arrivals: Arrivals,
    pub(super) seed: u64,
    pub(super) count_max: u64,
    pub(super) time: Duration,
    pub(super) warm_up: Duration,
    /// The Establishment Threshold Time (RFC 7501 3.3.2).
    pub(super) threshold: Duration,
    /// How long what is under way at the end is waited for, where not for as long as its transaction lives.
    pub(super) patience: Option<Duration>,
    /// Failures after which the rest is not tried.
    pub(super) failures_max: u64,
}

impl Generator {
    /// Opens the network.
    pub(super) fn open(plan: &Plan, is_stopped: Arc<AtomicBool>) -> Result<Self, LoadError> {
        let counters = Arc::new(Counters::new());
        let opened = net::open(&plan.listeners, 1, &[Arc::clone(&counters)])?;
        let mut workers = opened.workers;
        let Some(ports) = workers.pop() else {
            return Err(LoadError::Usage("no source".to_owned()));
        };
        // On time, whoever else is busy here; where it is not, the result says how late it was.
        let _ = net::shorten_slices();
        // Without this a sleep of 100 us may take 150.
        let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
        let mut random = Random::new(entropy());
        let run = u32::try_from(random.next() >> 32).unwrap_or(0);
        let phones = Phones::new(plan.accounts.clone(), plan.settings.sources.len());
        Ok(Self {
            agent: Agent::new(run, plan.settings.clone(), phones),
            receivers: ports.receivers,
            transmitters: ports.transmitters,
            counters,
            _attachments: opened.attachments,
            index: Index::new(),
            clock: Clock::start(),
            full: 0,
            aside_ns: 0,
            is_stopped,
            is_quiet: plan.is_quiet,
        })
    }

    /// How many phones there are.
    pub(super) const fn phones(&self) -> usize {
        self.agent.phones()
    }

    /// The called side.
    pub(super) const fn callees(&self) -> &super::callee::Callees {
        self.agent.callees()
    }

    /// Messages for which neither a frame nor the kernel's buffer had room.
    fn full(&self) -> u64 {
        self.full + self.counters.read(Counter::DropTransmitFull)
    }

    /// Whether it was interrupted.
    pub(super) fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::Relaxed)
    }

    /// Makes the attempts of a stretch, and waits for the end of all.
    pub(super) fn run(&mut self, stretch: &Stretch, processor: &Processor) -> Outcome {
        let time_ns = stretch.time.as_micros().saturating_mul(1_000);
        let warm_up_ns = stretch.warm_up.as_micros() * 1_000;
        let mut schedule = Schedule::new(
            stretch.rate,
            stretch.arrivals,
            stretch.seed,
            stretch.count_max,
            time_ns,
        );
        let mut kinds = Random::new(stretch.seed.wrapping_add(1));
        self.agent.reset();
        self.agent.judge_by(stretch.threshold);
        let (full, strays) = (self.full(), self.agent.strays);
        let mut progress = Progress::new(self.is_quiet);
        let start_ns = self.clock.now_ns();
        let mut before = processor.usage();
        let mut is_warm = warm_up_ns == 0;
        let mut last_due_ns = 0;
        let is_crowded = stretch.rate * stretch.mix.weight() >= CROWDED_RATE;
        while !self.is_stopped() {
            let now_ns = self.clock.now_ns() - start_ns;
            if !is_warm && now_ns >= warm_up_ns {
                is_warm = true;
                before = processor.usage();
            }
            for _ in 0..LOAD_BATCH {
                let Some(due_ns) = schedule.take(now_ns) else {
                    break;
                };
                last_due_ns = due_ns;
                let intended = self.clock.instant(start_ns + due_ns);
                let kind = stretch.mix.draw(&mut kinds);
                self.begin(kind, intended, due_ns >= warm_up_ns);
            }
            self.turn();
            progress.tell(now_ns, schedule.taken(), &self.agent);
            let next_ns = schedule.next_ns().map(|due_ns| start_ns + due_ns);
            let is_over = next_ns.is_none() && self.agent.under_way() == 0;
            let waits_until_ns = stretch.patience.map_or(u64::MAX, |patience| {
                last_due_ns + patience.as_micros() * 1_000
            });
            let is_late = next_ns.is_none() && now_ns >= waits_until_ns;
            if is_over || is_late || self.failed() > stretch.failures_max {
                break;
            }
            if is_crowded && next_ns.is_some() {
                std::thread::sleep(std::time::Duration::from_nanos(CROWDED_NS));
            } else {
                self.sleep(next_ns.or(Some(start_ns.saturating_add(waits_until_ns))));
            }
        }
        let usage = processor.usage().since(before);
        self.agent.abandon();
        let is_whole = stretch.count_max == u64::MAX && !self.is_stopped();
        let span_ns = if is_whole {
            time_ns
        } else {
            last_due_ns.max(1)
        };
        Outcome {
            rate: stretch.rate,
            mix: stretch.mix,
            span_s: span_ns.saturating_sub(warm_up_ns).max(1) as f64 / 1e9,
            usage,
            full: self.full() - full,
            strays: self.agent.strays - strays,
            tallies: self.agent.reset(),
        }
    }

    /// How many attempts have failed.
    fn failed(&self) -> u64 {
        self.agent.tallies().iter().map(Tally::failed).sum()
    }

    /// Answers what comes, and attempts nothing, for a time.
    pub(super) fn serve(&mut self, time: Duration) {
        let end_ns = self.clock.now_ns() + time.as_micros() * 1_000;
        while !self.is_stopped() && self.clock.now_ns() < end_ns {
            self.turn();
            self.sleep(Some(end_ns));
        }
    }

    fn begin(&mut self, kind: Kind, intended: Instant, is_counted: bool) {
        let Self {
            agent,
            transmitters,
            full,
            clock,
            ..
        } = self;
        let mut wire = Wires { transmitters, full };
        agent.begin(kind, clock.now(), intended, is_counted, &mut wire);
    }

    /// Takes what has come, does what is due, and sends what waits.
    fn turn(&mut self) {
        let Self {
            agent,
            receivers,
            transmitters,
            index,
            clock,
            full,
            aside_ns,
            ..
        } = self;
        transmitters.flush();
        transmitters.failures(&mut |report| agent.on_unreachable(report.payload));
        let has_xdp = receivers
            .iter()
            .any(|receiver| receiver.backend() == Backend::AfXdp);
        let looks_aside = !has_xdp || clock.now_ns() >= *aside_ns;
        if looks_aside {
            *aside_ns = clock.now_ns() + ASIDE_NS;
        }
        for receiver in receivers {
            if !looks_aside && receiver.backend() == Backend::Udp {
                continue;
            }
            let now = clock.now();
            let taken = receiver.receive(now, &mut |datagram: Datagram<'_>, _| {
                let mut wire = Wires { transmitters, full };
                agent.on_datagram(clock.now(), &datagram, index, &mut wire);
            });
            if taken < BATCH {
                receiver.receive_errors(&mut |report| agent.on_unreachable(report.payload));
            }
        }
        let mut wire = Wires { transmitters, full };
        agent.on_timeout(clock.now(), &mut wire);
        transmitters.flush();
    }

    /// Sleeps until something comes, or is due; not at all where that is now.
    fn sleep(&self, next_ns: Option<u64>) {
        let now_ns = self.clock.now_ns();
        let timer_ns = self.agent.next_deadline().map(|at| self.clock.ns_of(at));
        let until_ns = [next_ns, timer_ns].into_iter().flatten().min();
        let mut span_ns = until_ns.map_or(SLEEP_MAX_NS, |until| until.saturating_sub(now_ns));
        if !self.transmitters.is_idle() {
            span_ns = span_ns.min(BUSY_NS);
        }
        if span_ns < WORTH_NS {
            return;
        }
        let timeout = Timespec {
            tv_sec: 0,
            tv_nsec: i64::try_from(span_ns.min(SLEEP_MAX_NS)).unwrap_or(0),
        };
        let Some(first) = self.receivers.first() else {
            return;
        };
        let fd_at = |place: usize| -> BorrowedFd<'_> {
            self.receivers
                .get(place)
                .map_or(first.fd(), |receiver| receiver.fd())
        };
        let mut fds: [PollFd<'_>; POLLED_MAX] =
            std::array::from_fn(|place| PollFd::from_borrowed_fd(fd_at(place), PollFlags::IN));
        let polled = self.receivers.len().min(POLLED_MAX);
        // Interrupted or failed, the next turn looks everywhere anyway.
        let _ = poll(&mut fds[..polled], Some(&timeout));
    }
}

/// The transmitters, as the agents see them.
struct Wires<'a> {
    transmitters: &'a mut Transmitters,
    full: &'a mut u64,
}

impl Wire for Wires<'_> {
    fn send(&mut self, flow: &Flow, bytes: &[u8]) {
        let write = |out: &mut [u8]| out.copy_from_slice(bytes);
        match self.transmitters.send(flow, None, bytes.len(), write) {
            Ok(()) => {}
            // As if the network had lost it: the transaction sends it again.
            Err(SendError::Full) => *self.full += 1,
            Err(SendError::TooLarge | SendError::Unsendable) => {}
        }
    }
}

/// Nanoseconds since the load's start, and the same as moments.
#[derive(Clone, Copy, Debug)]
struct Clock(std::time::Instant);

impl Clock {
    fn start() -> Self {
        Self(std::time::Instant::now())
    }

    fn now_ns(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn now(&self) -> Instant {
        self.instant(self.now_ns())
    }

    /// Away from zero, so that what was due before the load's start is a moment too.
    fn instant(&self, ns: u64) -> Instant {
        Instant::from_micros(ns / 1_000 + OFFSET_US)
    }

    fn ns_of(&self, at: Instant) -> u64 {
        at.as_micros()
            .saturating_sub(OFFSET_US)
            .saturating_mul(1_000)
    }
}

/// A line a second, for whoever waits.
struct Progress {
    is_quiet: bool,
    next_ns: u64,
    before: (u64, u64),
}

impl Progress {
    const fn new(is_quiet: bool) -> Self {
        Self {
            is_quiet,
            next_ns: SECOND_NS,
            before: (0, 0),
        }
    }

    fn tell(&mut self, now_ns: u64, taken: u64, agent: &Agent) {
        if self.is_quiet || now_ns < self.next_ns {
            return;
        }
        let seconds = (now_ns + SECOND_NS - self.next_ns) as f64 / 1e9;
        self.next_ns = now_ns / SECOND_NS * SECOND_NS + SECOND_NS;
        let successes = agent.tallies().iter().map(|tally| tally.successes).sum();
        let failed: u64 = agent.tallies().iter().map(Tally::failed).sum();
        let again: u64 = agent
            .tallies()
            .iter()
            .map(|tally| tally.retransmissions)
            .sum();
        let rate = |now: u64, before: u64| now.saturating_sub(before) as f64 / seconds;
        let _ = writeln!(
            std::io::stderr(),
            "{:>4} s: {:>9.0}/s due, {:>9.0}/s successful; {failed} failed, {again} retransmissions, {} under way",
            now_ns / SECOND_NS,
            rate(taken, self.before.0),
            rate(successes, self.before.1),
            agent.under_way()
        );
        self.before = (taken, successes);
    }
}

/// What tells this load from another one; without randomness, the time does.
fn entropy() -> u64 {
    let mut bytes = [0; 8];
    if getrandom::fill(&mut bytes).is_ok() {
        return u64::from_ne_bytes(bytes);
    }
    let since = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(0)
}

/// The most receivers: a queue of AF_XDP, and the kernel's socket of each source.
const POLLED_MAX: usize = LISTENERS_MAX + 1;
const SECOND_NS: u64 = 1_000_000_000;
const OFFSET_US: u64 = 1_000_000;
const SLEEP_MAX_NS: u64 = 100_000_000;
/// How often the kernel's sockets are looked at where AF_XDP brings what comes: for fragments and ICMP errors alone.
const ASIDE_NS: u64 = 1_000_000;
/// Messages a second from which on the network is looked at by the clock, each [`CROWDED_NS`], and not whenever something comes: a
/// wake-up for each message would cost more than the message.
const CROWDED_RATE: f64 = 40_000.0;
const CROWDED_NS: u64 = 40_000;
/// How long to sleep while the kernel has frames to give back.
const BUSY_NS: u64 = 50_000;
/// Sleeps shorter than this cost more than they give.
const WORTH_NS: u64 = 3_000;
