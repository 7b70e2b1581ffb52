//! The requests that wait for the slow path, by what they wait for: a user's secrets, the rows of an AoR while the store is read, the
//! commit of what a REGISTER changed. When the answer is there they are taken up anew, as if they had just come; a REGISTER that waits
//! for its commit has done its work, and only its answer goes out.

use std::sync::Arc;

use super::answer::{self, Response};
use super::output::Output;
use super::parked::{Look, Parked, Waiting, Withheld};
use super::settings::Settings;
use super::validate::Refusal;
use super::{Bench, Proxy, Scratch};
use crate::counters::Counter;
use crate::datagram::{Datagram, Flow};
use crate::limits::{
    AOR_LEN_MAX, COMMIT_TIME, COMMITS_WAITING_MAX, PARKED_LOOKS, PARKED_MAX, PARKED_TIME,
};
use crate::location::Access;
use crate::sip::host::Host;
use crate::sip::message::{Message, Parsed, parse};
use crate::sip::uri::canonical_aor;
use crate::time::{Duration, Instant};
use crate::transaction::key::ServerKey;

/// The requests that wait at one worker.
#[derive(Debug)]
pub(super) struct Waits {
    /// For a user's secrets.
    pub(super) secrets: Parked,
    /// For the rows of an AoR.
    rows: Parked,
    /// For a commit.
    commits: Parked,
    /// Whether the store takes changes, as far as is known.
    store_takes: bool,
}

/// What a request that is taken up anew has waited for: for nothing earlier it waits again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Waited {
    /// A user's secrets.
    ForSecrets,
    /// The rows of an AoR.
    ForRows,
}

impl Waits {
    /// Nothing waits.
    pub(super) fn new(settings: &Settings) -> Self {
        let flush = settings.commit.unwrap_or(Duration::ZERO);
        Self {
            secrets: Parked::new(PARKED_MAX, PARKED_TIME),
            rows: Parked::new(PARKED_MAX, PARKED_TIME),
            commits: Parked::new(COMMITS_WAITING_MAX, COMMIT_TIME + flush),
            store_takes: true,
        }
    }

    /// Whether this request waits already.
    pub(super) fn has(&self, key: ServerKey) -> bool {
        // As a rule nothing waits.
        self.len() > 0 && (self.secrets.has(key) || self.rows.has(key) || self.commits.has(key))
    }

    /// Takes out a request that has done nothing yet, by its key.
    pub(super) fn take(&mut self, key: ServerKey) -> Option<Waiting> {
        self.secrets.take(key).or_else(|| self.rows.take(key))
    }

    /// When there is something to be done for one of them.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        if self.is_looking() {
            return Some(Instant::EPOCH);
        }
        let all = [&self.secrets, &self.rows, &self.commits];
        all.into_iter().filter_map(Parked::next_deadline).min()
    }

    /// Whether there are some to look at.
    fn is_looking(&self) -> bool {
        self.rows.is_looking() || self.commits.is_looking()
    }

    /// How many wait.
    pub(super) const fn len(&self) -> usize {
        self.secrets.len() + self.rows.len() + self.commits.len()
    }
}

impl Proxy {
    /// Whether the request at work may wait for this: it has not yet, nor for what is asked for later.
    pub(super) fn may_wait(&self, what: Waited) -> bool {
        self.waited.is_none_or(|before| before < what)
    }

    /// Waits for the rows of a user of ours, where they are not loaded yet; says whether it does.
    pub(super) fn wait_for_rows(
        &mut self,
        now: Instant,
        request: &Message<'_>,
        (source, key): (&Flow, ServerKey),
        (user, host): (&[u8], &Host<'_>),
        out: &mut impl Output,
    ) -> bool {
        let mut buffer = [0; AOR_LEN_MAX];
        let Ok(aor) = canonical_aor(user, host, self.settings.use_domain, &mut buffer) else {
            return false;
        };
        if !self.waits.store_takes || !self.may_wait(Waited::ForRows) {
            return false;
        }
        let reason = self.rows_reason(aor);
        if !self.waits.rows.has_reason(reason) && out.want_rows(aor).is_err() {
            return false;
        }
        let bytes = request.bytes().get(..request.end()).unwrap_or_default();
        let Some(stored) = self.table.arena_mut().store(bytes) else {
            return false;
        };
        let waiting = Waiting {
            request: stored,
            source: *source,
            key,
            reason,
            answer: None,
        };
        self.park_or_release(now, waiting, |waits| &mut waits.rows)
    }

    /// The same for a REGISTER, whose To names the user: what it adds to, lists or removes is in rows that are still to come.
    pub(super) fn wait_to_register(
        &mut self,
        now: Instant,
        request: &Message<'_>,
        whence: (&Flow, ServerKey),
        out: &mut impl Output,
    ) -> bool {
        let Some((user, host)) = self.user_of_to(request) else {
            return false;
        };
        let mut buffer = [0; AOR_LEN_MAX];
        let aor = canonical_aor(user, &host, self.settings.use_domain, &mut buffer);
        let is_loaded = aor.map_or(true, |aor| self.location.is_loaded(aor));
        !is_loaded && self.wait_for_rows(now, request, whence, (user, &host), out)
    }

    /// Whether the user of a REGISTER has a contact that lives in memory alone, where 200 says more than that.
    pub(super) fn is_refused_by_store(&self, now: Instant, request: &Message<'_>) -> bool {
        if self.settings.commit.is_none() {
            return false;
        }
        let Some((user, host)) = self.user_of_to(request) else {
            return false;
        };
        let mut buffer = [0; AOR_LEN_MAX];
        let aor = canonical_aor(user, &host, self.settings.use_domain, &mut buffer);
        aor.is_ok_and(|aor| self.location.has_refused(now, aor))
    }

    /// The user and host of ours that a To names.
    fn user_of_to<'m>(&self, request: &Message<'m>) -> Option<(&'m [u8], Host<'m>)> {
        let uri = request.to().uri().ok();
        let uri = uri.filter(|uri| self.identity.is_ours(uri))?;
        Some((uri.user?, uri.host))
    }

    /// Withholds the 200 of a REGISTER, with these header lines of its own, until what it changed or tells of is in the store.
    pub(super) fn wait_for_commit(
        &mut self,
        now: Instant,
        request: &Message<'_>,
        (source, key): (&Flow, ServerKey),
        (access, headers): (Access, &[u8]),
        out: &mut impl Output,
    ) {
        let bytes = request.bytes().get(..request.end()).unwrap_or_default();
        let stored = if self.waits.store_takes {
            let room = self.table.arena_mut().reserve(bytes.len() + headers.len());
            room.and_then(|(stored, room)| {
                let (before, behind) = room.split_at_mut_checked(bytes.len())?;
                before.copy_from_slice(bytes);
                behind.copy_from_slice(headers);
                Some(stored)
            })
        } else {
            None
        };
        let is_parked = stored.is_some_and(|request| {
            let waiting = Waiting {
                request,
                source: *source,
                key,
                reason: key.folded(),
                answer: Some(Withheld {
                    access,
                    request_len: bytes.len(),
                }),
            };
            self.park_or_release(now, waiting, |waits| &mut waits.commits)
        });
        if !is_parked {
            self.counters.increment(if self.waits.store_takes {
                Counter::CommitCrowded
            } else {
                Counter::CommitFailed
            });
            self.refuse_uncommitted(request, source, out);
        }
    }

    /// All rows of an AoR are in.
    pub(super) fn on_loaded(&mut self, now: Instant, aor: &[u8], out: &mut impl Output) {
        let reason = self.rows_reason(aor);
        while let Some(waiting) = self.waits.rows.take_for(reason) {
            self.counters.increment(Counter::RowsAwaited);
            self.take_up_anew(now, waiting, Waited::ForRows, out);
        }
    }

    /// All rows of the store are in.
    pub(super) fn on_all_loaded(&mut self, now: Instant, out: &mut impl Output) {
        self.waits.rows.must_look();
        self.look_at_waiting(now, out);
    }

    /// The store has settled a batch, or has begun to take changes or to fail.
    pub(super) fn on_settled(&mut self, now: Instant, takes: bool, out: &mut impl Output) {
        self.waits.store_takes = takes;
        self.waits.commits.must_look();
        if !takes {
            // Nobody knows when the rows will come.
            self.waits.rows.must_look();
        }
        self.look_at_waiting(now, out);
    }

    /// Looks at a bounded number of those who wait for what may have happened.
    pub(super) fn look_at_waiting(&mut self, now: Instant, out: &mut impl Output) {
        if !self.waits.is_looking() {
            return;
        }
        let (location, takes) = (Arc::clone(&self.location), self.waits.store_takes);
        let mut budget = PARKED_LOOKS;
        while let Look::Over(waiting) = self.waits.rows.look(&mut budget, |_| true) {
            self.counters.increment(if location.is_loading() {
                Counter::RowsLate
            } else {
                Counter::RowsAwaited
            });
            self.take_up_anew(now, waiting, Waited::ForRows, out);
        }
        let is_committed = |waiting: &Waiting| {
            let answer = waiting.answer.as_ref();
            answer.is_none_or(|answer| location.is_committed(answer.access))
        };
        while let Look::Over(waiting) = self
            .waits
            .commits
            .look(&mut budget, |waiting| !takes || is_committed(waiting))
        {
            if is_committed(&waiting) {
                self.counters.increment(Counter::CommitAwaited);
                self.give_answer(now, waiting, out);
            } else {
                self.counters.increment(Counter::CommitFailed);
                self.with_waiting(waiting, |proxy, request, source, _| {
                    proxy.refuse_uncommitted(request, source, out);
                });
            }
        }
    }

    /// Answers the requests for which the slow path had no answer in time.
    pub(super) fn refuse_overdue(&mut self, now: Instant, out: &mut impl Output) {
        while let Some(waiting) = self.waits.secrets.take_overdue(now) {
            self.counters.increment(Counter::RefusedWaiting);
            self.with_waiting(waiting, |proxy, request, source, _| {
                let response = Response::new(503).with_headers(RETRY_AFTER);
                proxy.refuse(request, source, &response, out);
            });
        }
        while let Some(waiting) = self.waits.rows.take_overdue(now) {
            self.counters.increment(Counter::RowsLate);
            self.take_up_anew(now, waiting, Waited::ForRows, out);
        }
        while let Some(waiting) = self.waits.commits.take_overdue(now) {
            self.counters.increment(Counter::CommitLate);
            self.with_waiting(waiting, |proxy, request, source, _| {
                proxy.refuse_uncommitted(request, source, out);
            });
        }
    }

    /// Takes up a request anew that had waited for the slow path.
    pub(super) fn take_up_anew(
        &mut self,
        now: Instant,
        waiting: Waiting,
        waited: Waited,
        out: &mut impl Output,
    ) {
        self.with_waiting(waiting, |proxy, request, source, bench| {
            proxy.waited = Some(waited);
            let datagram = Datagram {
                bytes: request.bytes(),
                flow: *source,
                received_at: now,
                handed_off: true,
            };
            proxy.on_request(now, request, &datagram, bench, out);
            proxy.waited = None;
        });
    }

    /// The answer where nobody can say yet whom an AoR has.
    pub(super) fn refuse_loading(&self) -> Refusal<'static> {
        Refusal::counted(503, Counter::RefusedLoading).with_headers(RETRY_AFTER_LOADING)
    }

    /// Sends a 200 that was withheld.
    fn give_answer(&mut self, now: Instant, waiting: Waiting, out: &mut impl Output) {
        let mut headers = self
            .scratch
            .as_mut()
            .map_or_else(Vec::new, |scratch| std::mem::take(&mut scratch.bench.text));
        headers.clear();
        if let Some(answer) = &waiting.answer {
            let stored = self.table.arena().bytes(&waiting.request);
            headers.extend_from_slice(stored.get(answer.request_len..).unwrap_or_default());
        }
        self.with_waiting(waiting, |proxy, request, source, _| {
            if proxy.is_refused_by_store(now, request) {
                return proxy.refuse_unstorable(request, source, out);
            }
            let response = Response::new(200).with_headers(&headers);
            answer::stateless(
                request,
                source,
                &response,
                &proxy.tags,
                &proxy.counters,
                out,
            );
        });
        if let Some(scratch) = &mut self.scratch {
            scratch.bench.text = headers;
        }
    }

    /// The database refuses what the phone has registered: it is there as long as the process is, and nobody may promise more.
    pub(super) fn refuse_unstorable(
        &self,
        request: &Message<'_>,
        source: &Flow,
        out: &mut impl Output,
    ) {
        self.counters.increment(Counter::RefusedUnstorable);
        let mut response = Response::new(500);
        response.phrase = Some("Cannot Be Stored");
        self.refuse(request, source, &response, out);
    }

    /// What was changed stays, not acknowledged: the phone comes again (RFC 3261 21.5.4).
    fn refuse_uncommitted(&self, request: &Message<'_>, source: &Flow, out: &mut impl Output) {
        self.counters.increment(Counter::RefusedUncommitted);
        let response = Response::new(503).with_headers(RETRY_AFTER);
        self.refuse(request, source, &response, out);
    }

    fn park_or_release(
        &mut self,
        now: Instant,
        waiting: Waiting,
        list: impl FnOnce(&mut Waits) -> &mut Parked,
    ) -> bool {
        match list(&mut self.waits).park(now, waiting) {
            Ok(()) => true,
            Err(waiting) => {
                self.table.arena_mut().release(waiting.request);
                false
            }
        }
    }

    fn with_waiting(
        &mut self,
        waiting: Waiting,
        act: impl FnOnce(&mut Self, &Message<'_>, &Flow, &mut Bench),
    ) {
        let Some(mut scratch) = self.scratch.take() else {
            return self.table.arena_mut().release(waiting.request);
        };
        let Scratch { index, bench } = &mut *scratch;
        let mut bytes = std::mem::take(&mut bench.anew);
        bytes.clear();
        let stored = self.table.arena().bytes(&waiting.request);
        let len = waiting
            .answer
            .map_or(stored.len(), |answer| answer.request_len);
        bytes.extend_from_slice(stored.get(..len).unwrap_or_default());
        self.table.arena_mut().release(waiting.request);
        if let Parsed::Good(request) = parse(&bytes, index) {
            act(self, &request, &waiting.source, bench);
        }
        bench.anew = bytes;
        self.scratch = Some(scratch);
    }

    /// What stands for waiting for an AoR's rows.
    fn rows_reason(&self, aor: &[u8]) -> u64 {
        !self.reason(aor)
    }
}

/// When the database may have come back.
const RETRY_AFTER: &[u8] = b"Retry-After: 5\r\n";
/// When an AoR's rows may be in.
const RETRY_AFTER_LOADING: &[u8] = b"Retry-After: 1\r\n";
