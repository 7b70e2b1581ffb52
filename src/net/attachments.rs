//! What lives beside the workers: the XDP programs, the sockets' statistics, and the neighbour thread.

use super::neighbor::NeighborThread;
use super::xdp::program::{Program, Verdict, Verdicts};
use super::xdp::socket::Statistics;
use crate::counters::{Counter, Counters};

/// Dropping this takes the XDP programs off their interfaces and ends the neighbour thread. The AF_XDP sockets are closed
/// when the workers' ports are dropped too.
#[derive(Debug)]
pub struct Attachments {
    programs: Vec<(String, Program)>,
    statistics: Vec<Statistics>,
    _thread: Option<NeighborThread>,
}

impl Attachments {
    /// Takes charge of them.
    pub(super) const fn new(
        programs: Vec<(String, Program)>,
        statistics: Vec<Statistics>,
        thread: Option<NeighborThread>,
    ) -> Self {
        Self {
            programs,
            statistics,
            _thread: thread,
        }
    }

    /// The programs, each with its interface's name.
    #[must_use]
    pub fn programs(&self) -> &[(String, Program)] {
        &self.programs
    }

    /// What the programs have done with their packets, all interfaces together. A program that cannot be read counts as
    /// nothing.
    #[must_use]
    pub fn verdicts(&self) -> Verdicts {
        let mut sum = Verdicts::default();
        for (_, program) in &self.programs {
            if let Ok(verdicts) = program.verdicts() {
                sum.add(&verdicts);
            }
        }
        sum
    }

    /// Copies what the kernel counts into `counters`, which are nobody else's to write: a set for the process, beside the
    /// workers' own.
    pub fn publish(&self, counters: &Counters) {
        let verdicts = self.verdicts();
        counters.set(Counter::XdpPassed, verdicts.passed());
        for verdict in Verdict::ALL {
            counters.set(counter(verdict), verdicts.of(verdict));
        }
        let [mut other, mut ring_full, mut fill_empty, mut invalid] = [0; 4];
        for statistics in self
            .statistics
            .iter()
            .filter_map(|socket| socket.read().ok())
        {
            other += statistics.rx_dropped;
            ring_full += statistics.rx_ring_full;
            fill_empty += statistics.rx_fill_ring_empty_descs;
            invalid += statistics.rx_invalid_descs + statistics.tx_invalid_descs;
        }
        counters.set(Counter::XdpSocketDropped, other);
        counters.set(Counter::XdpSocketRingFull, ring_full);
        counters.set(Counter::XdpSocketFillEmpty, fill_empty);
        counters.set(Counter::XdpSocketInvalid, invalid);
    }
}

/// The counter of a verdict.
const fn counter(verdict: Verdict) -> Counter {
    match verdict {
        Verdict::Redirected => Counter::XdpRedirected,
        Verdict::NotIp => Counter::XdpNotIp,
        Verdict::NotPlain => Counter::XdpNotPlain,
        Verdict::NotUdp => Counter::XdpNotUdp,
        Verdict::OtherPort => Counter::XdpOtherPort,
        Verdict::NoSocket => Counter::XdpNoSocket,
        Verdict::Truncated => Counter::XdpTruncated,
        Verdict::TooLong => Counter::XdpTooLong,
    }
}
