//! The network: it loses, doubles, delays, reorders and corrupts datagrams, cuts whole links for a while, and carries
//! connections in order or breaks them.

use std::net::SocketAddr;

use strowger::time::{Duration, Instant};

use super::random::Random;

/// How bad it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weather {
    pub(crate) loss_permille: u64,
    pub(crate) double_permille: u64,
    /// How much delay varies: what is sent later may arrive earlier.
    pub(crate) jitter_millis: u64,
    /// Datagrams that take seconds.
    pub(crate) straggler_permille: u64,
    pub(crate) corrupt_permille: u64,
}

/// The links that are cut, and the connections that stand.
pub(crate) struct Network {
    pub(crate) weather: Weather,
    cuts: Vec<Cut>,
    /// Our end and the other; in a list, so that their order is always the same.
    pub(crate) connections: Vec<(SocketAddr, SocketAddr)>,
    /// When the last message each way of a connection arrives.
    arrivals: Vec<(SocketAddr, SocketAddr, Instant)>,
}

struct Cut {
    ends: (SocketAddr, Option<SocketAddr>),
    until: Instant,
}

/// What becomes of a datagram: when each of its copies arrives, and whether that one is corrupt.
pub(crate) type Fate = Vec<(Instant, bool)>;

impl Network {
    /// A network without cuts.
    pub(crate) fn new(weather: Weather) -> Self {
        Self {
            weather,
            cuts: Vec::new(),
            connections: Vec::new(),
            arrivals: Vec::new(),
        }
    }

    /// Cuts the link between two addresses, or all links of one.
    pub(crate) fn cut(&mut self, one: SocketAddr, other: Option<SocketAddr>, until: Instant) {
        self.cuts.push(Cut {
            ends: (one, other),
            until,
        });
    }

    /// What becomes of a datagram that is sent now.
    pub(crate) fn fate(
        &mut self,
        now: Instant,
        from: SocketAddr,
        to: SocketAddr,
        random: &mut Random,
    ) -> Fate {
        let weather = self.weather;
        if self.is_cut(now, from, to) || random.chance(weather.loss_permille) {
            return Vec::new();
        }
        let copies = 1 + usize::from(random.chance(weather.double_permille));
        (0..copies)
            .map(|_| {
                let span = if random.chance(weather.straggler_permille) {
                    random.millis(500, 4_000)
                } else {
                    random.millis(1, 5 + weather.jitter_millis)
                };
                (now + span, random.chance(weather.corrupt_permille))
            })
            .collect()
    }

    /// When a message by a connection arrives: in its order. `None` where the link is cut.
    pub(crate) fn arrival(
        &mut self,
        now: Instant,
        from: SocketAddr,
        to: SocketAddr,
        random: &mut Random,
    ) -> Option<Instant> {
        if self.is_cut(now, from, to) {
            return None;
        }
        let mut at = now + random.millis(1, 5 + self.weather.jitter_millis);
        let known = self
            .arrivals
            .iter_mut()
            .find(|(a, b, _)| (*a, *b) == (from, to));
        match known {
            Some((_, _, last)) => {
                at = at.max(*last + Duration::from_micros(1));
                *last = at;
            }
            None => self.arrivals.push((from, to, at)),
        }
        Some(at)
    }

    /// Ends the connections that match.
    pub(crate) fn disconnect(&mut self, matches: impl Fn(SocketAddr, SocketAddr) -> bool) {
        self.connections
            .retain(|(own, other)| !matches(*own, *other));
    }

    fn is_cut(&mut self, now: Instant, from: SocketAddr, to: SocketAddr) -> bool {
        self.cuts.retain(|cut| cut.until > now);
        self.cuts.iter().any(|cut| match cut.ends {
            (one, None) => one == from || one == to,
            (one, Some(other)) => (one, other) == (from, to) || (other, one) == (from, to),
        })
    }
}

/// Changes a few bytes.
pub(crate) fn corrupt(bytes: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..random.range(1, 4) {
        if bytes.is_empty() {
            break;
        }
        let at = random.index(bytes.len());
        match random.below(4) {
            0 => bytes[at] ^= 1 << random.below(8),
            1 => bytes[at] = random.pick(b"\r\n:;,<>\"@ \0\xff09%"),
            2 => {
                bytes.remove(at);
            }
            _ => bytes.truncate(at),
        }
    }
    bytes
}
