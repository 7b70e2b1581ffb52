//! A worker's side of the cluster: it fills parcels with what changed in its share of the location, walks through that share for
//! nodes that missed something, and lets in what changed elsewhere. All in slices, between two turns.

use std::sync::Arc;

use crate::limits::{CLUSTER_SLICE, PARCEL_LEN};
use crate::location::{Homes, Judge, Location, Merge, SweepCursor};
use crate::peer::Desk;
use crate::replication::{Errand, Parcel};
use crate::time::{Duration, Instant};

/// What one worker does for the cluster.
#[derive(Debug)]
pub(super) struct Herald {
    desk: Arc<Desk>,
    location: Arc<Location>,
    /// Where gathering goes on, in this worker's share.
    cursor: SweepCursor,
    share: SweepCursor,
    /// Empty parcels for what changed.
    blank: Vec<Parcel>,
    /// The one that is being filled.
    filling: Option<Parcel>,
    /// What is at work, and how far.
    current: Option<(Parcel, usize)>,
    /// How long changes are gathered before they go.
    coalesce: Duration,
    next_gather: Instant,
    /// Where the search for what was taken over goes on, while it is under way, and which changes of the nodes it has seen.
    taking_over: Option<SweepCursor>,
    changes: u64,
}

impl Herald {
    /// The herald of worker `number` of `workers`.
    pub(super) fn new(
        desk: Arc<Desk>,
        location: Arc<Location>,
        (number, workers): (usize, usize),
        coalesce: Duration,
    ) -> Self {
        let share = SweepCursor::new(number, workers);
        Self {
            desk,
            location,
            cursor: share.clone(),
            share,
            blank: Vec::with_capacity(4),
            filling: None,
            current: None,
            coalesce,
            next_gather: Instant::EPOCH,
            taking_over: None,
            changes: 0,
        }
    }

    /// Whether something waits for it.
    pub(super) fn has_post(&self) -> bool {
        let is_at_work = self.current.is_some() || self.filling.is_some();
        !self.desk.is_empty() || is_at_work || self.taking_over.is_some()
    }

    /// One slice of whatever is to be done; says whether there is more.
    pub(super) fn turn(&mut self, now: Instant) -> bool {
        let worked = self.take() && self.go_on(now);
        let worked = self.take_over() || worked;
        self.gather(now) || worked
    }

    /// A slice of the search for what has fallen to this node since it last knew who is there.
    fn take_over(&mut self) -> bool {
        let changes = self.location.homes().map_or(0, Homes::changes);
        if std::mem::replace(&mut self.changes, changes) != changes {
            self.taking_over = Some(self.share.clone());
        }
        let Some(cursor) = &mut self.taking_over else {
            return false;
        };
        let budget = u32::try_from(CLUSTER_SLICE).unwrap_or(u32::MAX);
        if self.location.take_over(cursor, budget) {
            self.taking_over = None;
        }
        self.taking_over.is_some()
    }

    /// Has a parcel in hand, if there is one.
    fn take(&mut self) -> bool {
        while self.current.is_none() {
            match self.desk.take() {
                Some(parcel) if matches!(parcel.errand, Errand::Fresh) => self.blank.push(parcel),
                Some(parcel) => self.current = Some((parcel, 0)),
                None => return false,
            }
        }
        true
    }

    /// Does a slice of the parcel in hand.
    fn go_on(&mut self, now: Instant) -> bool {
        let Some((mut parcel, from)) = self.current.take() else {
            return false;
        };
        let next = match parcel.errand.clone() {
            Errand::Merge { judge, .. } => self.merge(now, judge, &mut parcel, from),
            Errand::Walk(..) => self.walk(now, &mut parcel),
            Errand::Fresh => None,
        };
        match next {
            Some(next) => self.current = Some((parcel, next)),
            None => self.desk.post(parcel),
        }
        true
    }

    fn merge(&self, now: Instant, judge: Judge, parcel: &mut Parcel, from: usize) -> Option<usize> {
        let Parcel {
            deltas,
            merges,
            answers,
            ..
        } = parcel;
        let stop = (from + CLUSTER_SLICE).min(deltas.len());
        for delta in (from..stop).filter_map(|index| deltas.delta(index)) {
            let merge = self.location.merge(now, &delta, judge);
            if merge == Merge::Older {
                self.location.state_of(now, &delta.row, answers);
            }
            merges.push(merge);
        }
        (stop < deltas.len()).then_some(stop)
    }

    fn walk(&self, now: Instant, parcel: &mut Parcel) -> Option<usize> {
        let Errand::Walk(walk, cursor) = &mut parcel.errand else {
            return None;
        };
        // A row that came in behind the walk would never be sent.
        walk.must_wait = self.location.is_loading();
        if walk.must_wait {
            return None;
        }
        let place = cursor.get_or_insert_with(|| self.share.clone());
        let budget = u32::try_from(CLUSTER_SLICE).unwrap_or(u32::MAX);
        walk.is_over = self
            .location
            .walk(now, place, walk.since, budget, &mut parcel.deltas);
        let is_full = parcel.deltas.len() + CLUSTER_SLICE > walk.len_max;
        (!walk.is_over && !is_full).then_some(0)
    }

    /// Copies what changed, when it is time; says whether there is more.
    fn gather(&mut self, now: Instant) -> bool {
        if self.filling.is_none() {
            if now < self.next_gather {
                return false;
            }
            self.filling = self.blank.pop();
        }
        let Some(mut parcel) = self.filling.take() else {
            return false;
        };
        let len_max = (parcel.deltas.len() + CLUSTER_SLICE).min(PARCEL_LEN);
        loop {
            let before = parcel.deltas.len();
            self.location
                .gather(now, &mut self.cursor, &mut parcel.deltas, len_max);
            if self.cursor.is_at_start() {
                self.next_gather = now + self.coalesce;
                self.end_round(parcel);
                return false;
            }
            if before >= len_max {
                break;
            }
        }
        if parcel.deltas.len() >= PARCEL_LEN {
            self.desk.post(parcel);
        } else {
            self.filling = Some(parcel);
        }
        true
    }

    fn end_round(&mut self, parcel: Parcel) {
        if parcel.deltas.is_empty() {
            self.blank.push(parcel);
        } else {
            self.desk.post(parcel);
        }
    }
}
