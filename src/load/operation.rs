//! What is under way: one place an attempt, used again, and named so that a late answer to a former use is told apart.

use crate::time::{Duration, Instant};
use crate::timer::TimerId;

use super::compose::{Branch, Draft};
use super::tally::Kind;

/// How far an attempt is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// REGISTER, OPTIONS or INVITE is out, and nothing final came.
    Asking,
    /// The session is established and held.
    Holding,
    /// BYE is out.
    Ending,
}

/// One attempt.
#[derive(Clone, Debug)]
pub(super) struct Operation {
    pub(super) kind: Kind,
    pub(super) step: Step,
    pub(super) phone: u32,
    /// Whether it is to show in the result.
    pub(super) is_counted: bool,
    /// When what it waits for was due to be sent.
    pub(super) intended: Instant,
    /// When it was sent first.
    pub(super) sent_at: Instant,
    /// Timer A or E, as it stands; nothing once a provisional response has ended Timer A.
    pub(super) interval: Option<Duration>,
    /// Timer B or F.
    pub(super) deadline: Instant,
    pub(super) timer: Option<TimerId>,
    pub(super) branch: Branch,
    pub(super) cseq: u32,
    /// How often it was challenged.
    pub(super) challenges: u8,
    /// Whether the first 18x has come.
    pub(super) has_rung: bool,
    /// The values of From, To and Call-ID, the remote target, and whole Route lines.
    pub(super) from: Vec<u8>,
    pub(super) to: Vec<u8>,
    pub(super) call_id: Vec<u8>,
    pub(super) uri: Vec<u8>,
    pub(super) routes: Vec<u8>,
    /// Where it is sent.
    pub(super) next_hop: std::net::SocketAddr,
    /// The message that is sent again; while the session is held, its ACK.
    pub(super) message: Draft,
}

/// The places of all attempts.
#[derive(Debug)]
pub(super) struct Operations {
    run: u32,
    places: Vec<(u32, Option<Box<Operation>>)>,
    free: Vec<u32>,
    /// Kept, so that an attempt allocates nothing once there were as many before.
    #[expect(
        clippy::vec_box,
        reason = "an operation is moved in and out as a pointer"
    )]
    spare: Vec<Box<Operation>>,
    max: usize,
}

impl Operation {
    /// One with nothing in it, to be filled.
    pub(super) fn blank() -> Self {
        Self {
            kind: Kind::Options,
            step: Step::Asking,
            phone: 0,
            is_counted: false,
            intended: Instant::EPOCH,
            sent_at: Instant::EPOCH,
            interval: None,
            deadline: Instant::EPOCH,
            timer: None,
            branch: Branch {
                run: 0,
                slot: 0,
                generation: 0,
                serial: 0,
            },
            cseq: 0,
            challenges: 0,
            has_rung: false,
            from: Vec::new(),
            to: Vec::new(),
            call_id: Vec::new(),
            uri: Vec::new(),
            routes: Vec::new(),
            next_hop: (std::net::Ipv4Addr::UNSPECIFIED, 0).into(),
            message: Draft::default(),
        }
    }
}

impl Operations {
    /// At most `max` at one time, of the load `run`.
    pub(super) const fn new(run: u32, max: usize) -> Self {
        Self {
            run,
            places: Vec::new(),
            free: Vec::new(),
            spare: Vec::new(),
            max,
        }
    }

    /// How many are under way.
    pub(super) const fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// Takes a place: the branch of the attempt's first transaction. None: all are taken.
    pub(super) fn reserve(&mut self) -> Option<Branch> {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None if self.places.len() < self.max => {
                self.places.push((0, None));
                u32::try_from(self.places.len() - 1).ok()?
            }
            None => return None,
        };
        Some(Branch {
            run: self.run,
            slot,
            generation: self.places.get(slot as usize)?.0,
            serial: 0,
        })
    }

    /// An operation to be filled, with the buffers of a former one.
    pub(super) fn blank(&mut self) -> Option<Box<Operation>> {
        self.spare.pop()
    }

    /// Puts an operation into the place that its branch names.
    pub(super) fn put(&mut self, operation: Box<Operation>) {
        if let Some((_, place)) = self.places.get_mut(operation.branch.slot as usize) {
            *place = Some(operation);
        }
    }

    /// Takes out the operation that `slot` and `generation` name, to work on it.
    pub(super) fn take(&mut self, slot: u32, generation: u32) -> Option<Box<Operation>> {
        let (own, place) = self.places.get_mut(slot as usize)?;
        (*own == generation).then(|| place.take()).flatten()
    }

    /// So, by a branch of this load, whichever transaction of the operation it is.
    pub(super) fn take_by(&mut self, branch: Branch) -> Option<Box<Operation>> {
        (branch.run == self.run)
            .then(|| self.take(branch.slot, branch.generation))
            .flatten()
    }

    /// Takes out whichever is left in its place.
    pub(super) fn take_any(&mut self) -> Option<Box<Operation>> {
        if self.len() == 0 {
            return None;
        }
        self.places.iter_mut().find_map(|(_, place)| place.take())
    }

    /// Ends an operation that was taken out: its place is free for another.
    pub(super) fn end(&mut self, operation: Box<Operation>) {
        let slot = operation.branch.slot;
        if let Some((generation, _)) = self.places.get_mut(slot as usize) {
            *generation = generation.wrapping_add(1);
            self.free.push(slot);
        }
        if self.spare.len() < SPARE_MAX {
            self.spare.push(operation);
        }
    }
}

/// Operations whose buffers are kept.
const SPARE_MAX: usize = 65_536;
