//! What the resolver's thread does with a question: answer it from memory, let it join a lookup under way, or begin one.
//!
//! A name whose lookup fails is left alone for a while (RFC 9520), and what was known of it serves meanwhile, past its time
//! (RFC 8767). Every question is answered within the time that the operator set; a lookup that takes longer is given up.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::timeout;
use tracing::warn;

use super::Settings;
use super::cache::Cache;
use super::desk::{Answer, Asked, Tray};
use super::locate::{self, Found, Key};
use super::lots::Lots;
use super::names::Names;
use super::order;
use super::plan::Plan;
use crate::counters::{Counter, Counters};
use crate::datagram::Transport;
use crate::latency::Histogram;
use crate::limits::{DNS_FAILURE_TTL, DNS_FLIGHTS_MAX, DNS_PARTIAL_TTL, DNS_STALE_WAIT};
use crate::proxy::QuestionId;
use crate::time;

/// The thread's state.
pub(super) struct Office {
    names: Names,
    transports: Vec<Transport>,
    timeout: Duration,
    stale_max: Duration,
    trays: Vec<Arc<Tray>>,
    counters: Arc<Counters>,
    times: Arc<Histogram>,
    book: RefCell<Book>,
    /// When the log was last told that lookups fail.
    told_at: Cell<Option<Instant>>,
}

struct Book {
    known: Cache<Key, Entry>,
    /// Lookups under way, with those who wait for them.
    flights: HashMap<Key, Vec<Waiter>>,
    lots: Lots,
}

/// What is known of a way.
#[derive(Clone, Debug, Default)]
struct Entry {
    plan: Option<Rc<Plan>>,
    /// The last lookup failed, and before this no other is begun.
    retry_at: Option<Instant>,
}

/// A question that waits.
#[derive(Clone, Copy, Debug)]
struct Waiter {
    id: QuestionId,
    desk: usize,
    since: Instant,
}

impl Office {
    pub(super) fn new(
        settings: &Settings,
        names: Names,
        trays: Vec<Arc<Tray>>,
        (counters, times): (Arc<Counters>, Arc<Histogram>),
    ) -> Rc<Self> {
        Rc::new(Self {
            names,
            transports: settings.transports.clone(),
            timeout: Duration::from_micros(settings.timeout.as_micros()),
            stale_max: Duration::from_micros(settings.stale_max.as_micros()),
            trays,
            counters,
            times,
            book: RefCell::new(Book {
                known: Cache::new(settings.names_max),
                flights: HashMap::new(),
                lots: Lots::new(settings.seed),
            }),
            told_at: Cell::new(None),
        })
    }

    /// Takes a question up.
    pub(super) fn take(self: &Rc<Self>, asked: Asked) {
        let now = Instant::now();
        let waiter = Waiter {
            id: asked.id,
            desk: asked.desk,
            since: now,
        };
        let key = Key {
            host: asked.host().into(),
            port: asked.port,
            transport: asked.transport,
        };
        let entry = self.entry(&key);
        if let Some(plan) = entry.plan.as_ref().filter(|plan| now < plan.expires) {
            self.counters.increment(Counter::DnsCacheHit);
            return self.answer(waiter, Some(plan), found_or_empty(plan));
        }
        let Some(retry_at) = entry.retry_at else {
            return self.wait(key, waiter);
        };
        let stale = self.stale(&entry, now);
        if now < retry_at || stale.is_some() {
            self.counters.increment(Counter::DnsCacheHit);
            self.answer(waiter, stale.as_deref(), stale_or_failed(stale.is_some()));
            if now >= retry_at {
                self.refresh(key);
            }
            return;
        }
        self.wait(key, waiter);
    }

    /// Has a question wait for a lookup, one that is under way or a new one.
    fn wait(self: &Rc<Self>, key: Key, waiter: Waiter) {
        let mut book = self.book.borrow_mut();
        if let Some(waiting) = book.flights.get_mut(&key) {
            self.counters.increment(Counter::DnsCacheJoined);
            waiting.push(waiter);
            return;
        }
        if book.flights.len() >= DNS_FLIGHTS_MAX {
            drop(book);
            return self.answer(waiter, None, Counter::DnsAnswerFailed);
        }
        self.counters.increment(Counter::DnsCacheMiss);
        book.flights.insert(key.clone(), vec![waiter]);
        drop(book);
        tokio::task::spawn_local(Rc::clone(self).fly(key));
    }

    /// Begins a lookup that nobody waits for.
    fn refresh(self: &Rc<Self>, key: Key) {
        let mut book = self.book.borrow_mut();
        if book.flights.len() < DNS_FLIGHTS_MAX && !book.flights.contains_key(&key) {
            book.flights.insert(key.clone(), Vec::new());
            drop(book);
            tokio::task::spawn_local(Rc::clone(self).fly(key));
        }
    }

    /// One lookup, from its begin to its answers.
    async fn fly(self: Rc<Self>, key: Key) {
        let begun = Instant::now();
        let naptr_within = self.timeout / 2;
        let mut lookup = Box::pin(locate::locate(
            &self.names,
            &key,
            &self.transports,
            naptr_within,
        ));
        if self.stale(&self.entry(&key), begun).is_some() {
            // RFC 8767 5: who waits need not wait for a dead server when there is an answer of yesterday.
            let within = DNS_STALE_WAIT_STD.min(self.timeout / 2);
            if let Ok(found) = timeout(within, &mut lookup).await {
                return self.land(&key, Some(found));
            }
            self.fail(&key);
        }
        let left = self.timeout.saturating_sub(begun.elapsed());
        let found = timeout(left, &mut lookup).await;
        self.land(&key, found.ok());
    }

    /// Takes what a lookup gave, and answers those who waited.
    fn land(&self, key: &Key, found: Option<Found>) {
        let found = found.filter(|found| !found.services.is_empty() || !found.has_failed);
        match found {
            None => self.fail(key),
            Some(found) => {
                let mut expires = found.expires;
                if found.has_failed {
                    expires = expires.min(Instant::now() + DNS_PARTIAL_TTL_STD);
                }
                let plan = Rc::new(Plan {
                    services: found.services,
                    expires,
                });
                for waiter in self.waiting(key) {
                    self.answer(waiter, Some(&plan), found_or_empty(&plan));
                }
                let entry = Entry {
                    plan: Some(plan),
                    retry_at: None,
                };
                self.book.borrow_mut().known.keep(key.clone(), entry);
            }
        }
        self.book.borrow_mut().flights.remove(key);
    }

    /// Notes that a lookup failed; those who waited get what was known, if anything.
    fn fail(&self, key: &Key) {
        let now = Instant::now();
        self.tell(now);
        let stale = self.stale(&self.entry(key), now);
        for waiter in self.waiting(key) {
            self.answer(waiter, stale.as_deref(), stale_or_failed(stale.is_some()));
        }
        let entry = Entry {
            plan: stale,
            retry_at: Some(now + DNS_FAILURE_TTL_STD),
        };
        self.book.borrow_mut().known.keep(key.clone(), entry);
    }

    /// Tells the log that lookups fail; not of each, and not of which: a name is somebody's.
    fn tell(&self, now: Instant) {
        let is_news = |at: Instant| now >= at + TOLD_AGAIN;
        if self.told_at.get().is_none_or(is_news) {
            self.told_at.set(Some(now));
            warn!(
                "the DNS does not say where a next hop is; strowger_dns_answers_total tells how often"
            );
        }
    }

    fn entry(&self, key: &Key) -> Entry {
        let mut book = self.book.borrow_mut();
        let entry = book.known.find(key).cloned().unwrap_or_default();
        let known = book.known.len() as u64;
        self.counters.set(Counter::DnsNamesKnown, known);
        entry
    }

    /// The plan of an entry, if it may serve past its time.
    fn stale(&self, entry: &Entry, now: Instant) -> Option<Rc<Plan>> {
        let plan = entry.plan.as_ref()?;
        let is_usable = !plan.is_empty() && now < plan.expires + self.stale_max;
        is_usable.then(|| Rc::clone(plan))
    }

    /// Those who wait for a lookup; nobody waits then.
    fn waiting(&self, key: &Key) -> Vec<Waiter> {
        let mut book = self.book.borrow_mut();
        book.flights
            .get_mut(key)
            .map(std::mem::take)
            .unwrap_or_default()
    }

    fn answer(&self, waiter: Waiter, plan: Option<&Plan>, result: Counter) {
        let mut answer = Answer::nowhere(waiter.id);
        if let Some(plan) = plan {
            let lots = &mut self.book.borrow_mut().lots;
            order::arrange(&plan.services, lots, &mut answer);
        }
        self.counters.increment(result);
        let took_us = waiter.since.elapsed().as_micros();
        let took_us = u64::try_from(took_us).unwrap_or(u64::MAX);
        self.times.record(time::Duration::from_micros(took_us));
        if let Some(tray) = self.trays.get(waiter.desk) {
            tray.put(answer);
        }
    }
}

fn found_or_empty(plan: &Plan) -> Counter {
    if plan.is_empty() {
        Counter::DnsAnswerEmpty
    } else {
        Counter::DnsAnswerFound
    }
}

fn stale_or_failed(is_stale: bool) -> Counter {
    if is_stale {
        Counter::DnsAnswerStale
    } else {
        Counter::DnsAnswerFailed
    }
}

/// How often the log is told of failures, at most.
const TOLD_AGAIN: Duration = Duration::from_secs(60);
const DNS_STALE_WAIT_STD: Duration = Duration::from_micros(DNS_STALE_WAIT.as_micros());
const DNS_FAILURE_TTL_STD: Duration = Duration::from_micros(DNS_FAILURE_TTL.as_micros());
const DNS_PARTIAL_TTL_STD: Duration = Duration::from_micros(DNS_PARTIAL_TTL.as_micros());
