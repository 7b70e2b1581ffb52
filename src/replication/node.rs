//! Another node: how far it is known, and what is on its way to it.

use super::address::NodeAddress;
use super::contact::Dialect;
use super::owners::Identity;
use super::parcel::Walk;
use super::session::Session;
use crate::limits::{NODE_ASK_INTERVAL, NODE_WINDOW_MAX, WALK_LATE_MAX};
use crate::location::SweepCursor;
use crate::time::{Duration, Instant};

/// How far a node is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It has never answered.
    NotActive,
    /// It answers.
    Active,
    /// It said that it leaves.
    Disabled,
    /// It answered once, and does so no more.
    Timeout,
}

/// A node.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) address: NodeAddress,
    /// Whether the configuration names it: then it is never forgotten.
    pub(super) is_seed: bool,
    pub(super) learned_at: Instant,
    pub(super) status: Status,
    /// Whether its lists of active nodes name us: a Kamailio sends its changes to those alone.
    pub(super) lists_us: bool,
    /// Whether it has spoken with a good seal.
    pub(super) seals: bool,
    pub(super) dialect: Dialect,
    pub(super) session: Session,
    pub(super) next_ping: Instant,
    pub(super) last_heard: Instant,
    /// Who it says that it is, if it is of our kind.
    pub(super) identity: Option<Identity>,
    /// When it may be asked for what we miss; `None`: there is no need.
    pub(super) sync_at: Option<Instant>,
    /// From which version on; 0: everything.
    pub(super) sync_since: u64,
    /// The same of what it was asked already.
    pub(super) sync_asked: u64,
    /// When it was last asked.
    pub(super) asked_at: Instant,
    /// When it was last heard of before it was lost.
    pub(super) lost_at: Instant,
    /// Until when the others were asked what it told them while it was lost to us; `None`: it is not.
    pub(super) missing_since: Option<Instant>,
    /// When they are to be asked again.
    pub(super) next_inquiry: Instant,
    /// The hash of the Call-ID of its last wish for everything: a retransmission is no second one.
    pub(super) last_sync: u64,
    /// What is walked through for it.
    pub(super) walk: Option<Walking>,
    /// When the next walk may begin.
    pub(super) walk_at: Instant,
    /// Answers to what it was behind with, in this second.
    pub(super) corrections: (u64, u32),
    pub(super) tally: NodeTally,
}

/// A walk through the location for a node.
#[derive(Clone, Debug)]
pub(super) struct Walking {
    pub(super) walk: Walk,
    /// Where it goes on in that worker's share; `None`: at the beginning.
    pub(super) cursor: Option<SweepCursor>,
    /// Whether a worker has it.
    pub(super) is_out: bool,
    /// No slice is asked for before: of whoever has to wait, or has a pace.
    pub(super) not_before: Instant,
    pub(super) begun: Instant,
    pub(super) sent: u64,
}

/// What passed between us and a node.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct NodeTally {
    pub(super) sent: u64,
    pub(super) acknowledged: u64,
    pub(super) received: u64,
    pub(super) walks: u64,
}

/// What is shown of a node.
#[derive(Clone, Debug)]
pub struct NodeReport {
    /// Its address.
    pub address: NodeAddress,
    /// Whether it is ourselves.
    pub is_local: bool,
    /// How far it is known.
    pub status: Status,
    /// Whether it is of our kind.
    pub dialect: Dialect,
    /// Whether it has shown that it shares our secret.
    pub seals: bool,
    /// Contacts sent to it, those of unanswered messages too.
    pub sent: u64,
    /// Contacts that it has acknowledged.
    pub acknowledged: u64,
    /// Contacts that came from it.
    pub received: u64,
    /// Contacts that wait for it, and those of unanswered messages.
    pub waiting: usize,
    /// Messages that may be unanswered.
    pub window: u32,
    /// Whether it misses changes that are sent again when there is room, or when it is back.
    pub is_behind: bool,
    /// Contacts sent so far in the full or partial send that is under way.
    pub walking: Option<u64>,
    /// Full and partial sends so far.
    pub walks: u64,
    /// How old the oldest change is that it has not acknowledged.
    pub lag: Duration,
    /// When it was last heard of; [`Instant::EPOCH`]: never.
    pub last_heard: Instant,
}

impl Status {
    /// The name, as in Kamailio's.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotActive => "not_active",
            Self::Active => "active",
            Self::Disabled => "disabled",
            Self::Timeout => "timeout",
        }
    }
}

impl Walking {
    /// Notes that `len` contacts were sent; at so many a second the next slice has to wait. What was late is not made up for at once.
    pub(super) fn note_sent(&mut self, now: Instant, len: usize, rate: Option<u32>) {
        self.sent += len as u64;
        if let Some(rate) = rate {
            let micros = len as u64 * 1_000_000 / u64::from(rate.max(1));
            let latest = now - WALK_LATE_MAX;
            self.not_before = self.not_before.max(latest) + Duration::from_micros(micros);
        }
    }
}

impl Node {
    pub(super) fn new(now: Instant, address: NodeAddress, is_seed: bool) -> Self {
        Self {
            address,
            is_seed,
            learned_at: now,
            status: Status::NotActive,
            lists_us: false,
            seals: false,
            dialect: Dialect::Kamailio,
            session: Session::new(NODE_WINDOW_MAX),
            next_ping: now,
            last_heard: Instant::EPOCH,
            identity: None,
            sync_at: None,
            sync_since: 0,
            sync_asked: 0,
            asked_at: Instant::EPOCH,
            lost_at: Instant::EPOCH,
            missing_since: None,
            next_inquiry: Instant::EPOCH,
            last_sync: 0,
            walk: None,
            walk_at: Instant::EPOCH,
            corrections: (0, 0),
            tally: NodeTally::default(),
        }
    }

    /// When it is to be asked for what we miss.
    pub(super) fn ask_due(&self) -> Option<Instant> {
        let sync_at = self.sync_at.filter(|_| self.is_active())?;
        Some(sync_at.max(self.asked_at + NODE_ASK_INTERVAL))
    }

    pub(super) fn is_active(&self) -> bool {
        self.status == Status::Active
    }

    /// When a walk for it may begin or go on.
    pub(super) fn walk_due(&self) -> Option<Instant> {
        match &self.walk {
            // Without a pace it goes on with the answers.
            Some(walking) => {
                let is_timed = !walking.is_out && walking.not_before > walking.begun;
                is_timed.then_some(walking.not_before)
            }
            None => (self.is_active() && self.session.is_behind()).then_some(self.walk_at),
        }
    }

    /// How old the oldest change is that the node has not acknowledged: nothing while it is sent everything, or has all.
    fn lag(&self, now: Instant) -> Duration {
        let since = self.walk.as_ref().map(|walking| walking.walk.since);
        let since = since.filter(|since| *since > 0).into_iter();
        let oldest = since.chain(self.session.oldest_live()).min();
        oldest.map_or(Duration::from_micros(0), |oldest| {
            now.since(Instant::from_micros(oldest))
        })
    }

    pub(super) fn report(&self, now: Instant) -> NodeReport {
        NodeReport {
            address: self.address,
            is_local: false,
            status: self.status,
            dialect: self.dialect,
            seals: self.seals,
            sent: self.tally.sent,
            acknowledged: self.tally.acknowledged,
            received: self.tally.received,
            waiting: self.session.waiting() + self.session.unanswered(),
            window: self.session.window(),
            is_behind: self.session.is_behind(),
            walking: self.walk.as_ref().map(|walking| walking.sent),
            walks: self.tally.walks,
            lag: self.lag(now),
            last_heard: self.last_heard,
        }
    }
}
