//! A worker's side of the resolver: it asks and goes on, and takes its answers when it is awake. Nothing is allocated here.
//!
//! No answer is lost and none waits for room: a desk has at most [`DNS_QUESTIONS_MAX`] questions out, and its tray of answers
//! is as long.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_queue::ArrayQueue;
use tokio::sync::Notify;

use crate::counters::{Counter, Counters};
use crate::datagram::{Destination, Transport};
use crate::limits::{DESTINATIONS_MAX, DNS_QUESTIONS_MAX, HOST_LEN_MAX};
use crate::proxy::{Question, QuestionId, ResolverFull};

/// Wakes a worker, if it sleeps.
pub type Bell = Box<dyn Fn() + Send + Sync>;

/// One worker's desk.
#[derive(Debug)]
pub struct Desk {
    number: usize,
    line: Arc<Line>,
    tray: Arc<Tray>,
    waiting: usize,
    counters: Arc<Counters>,
}

/// The answer to a question.
#[derive(Clone, Copy, Debug)]
pub struct Answer {
    id: QuestionId,
    list: [Destination; DESTINATIONS_MAX],
    len: usize,
}

/// The questions of all desks, in the order in which they were asked.
#[derive(Debug)]
pub(super) struct Line {
    asked: ArrayQueue<Asked>,
    news: Notify,
    is_stopping: AtomicBool,
}

/// The answers of one desk.
pub(super) struct Tray {
    answers: ArrayQueue<Answer>,
    bell: Bell,
}

/// A question on its way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) id: QuestionId,
    pub(super) desk: usize,
    pub(super) port: Option<u16>,
    pub(super) transport: Option<Transport>,
    host: [u8; HOST_LEN_MAX],
    host_len: usize,
}

impl Desk {
    pub(super) fn new(
        number: usize,
        line: Arc<Line>,
        tray: Arc<Tray>,
        counters: Arc<Counters>,
    ) -> Self {
        Self {
            number,
            line,
            tray,
            waiting: 0,
            counters,
        }
    }

    /// Asks. The answer comes to this desk, once.
    ///
    /// # Errors
    /// [`ResolverFull`]: this desk has as many questions out as it may; no answer will come.
    pub fn ask(&mut self, question: &Question<'_>) -> Result<(), ResolverFull> {
        let asked = Asked::new(self.number, question);
        if self.waiting >= DNS_QUESTIONS_MAX || self.line.asked.push(asked).is_err() {
            self.counters.increment(Counter::DnsRefused);
            return Err(ResolverFull);
        }
        self.waiting += 1;
        self.counters.increment(Counter::DnsQuestions);
        self.line.news.notify_one();
        Ok(())
    }

    /// Takes the oldest answer.
    pub fn take(&mut self) -> Option<Answer> {
        let answer = self.tray.answers.pop()?;
        self.waiting -= 1;
        Some(answer)
    }

    /// Whether there is no answer to take.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tray.answers.is_empty()
    }
}

impl Answer {
    /// An answer without a destination.
    pub(super) const fn nowhere(id: QuestionId) -> Self {
        Self {
            id,
            list: [NOWHERE; DESTINATIONS_MAX],
            len: 0,
        }
    }

    /// Adds a destination, unless it is there already; false where there is no room for another.
    pub(super) fn add(&mut self, destination: Destination) -> bool {
        if self.destinations().contains(&destination) {
            return true;
        }
        let Some(place) = self.list.get_mut(self.len) else {
            return false;
        };
        *place = destination;
        self.len += 1;
        true
    }

    /// Which question.
    #[must_use]
    pub const fn id(&self) -> QuestionId {
        self.id
    }

    /// Where, in the order in which to try.
    #[must_use]
    pub fn destinations(&self) -> &[Destination] {
        self.list.get(..self.len).unwrap_or_default()
    }
}

impl Line {
    pub(super) fn new(desks: usize) -> Self {
        Self {
            asked: ArrayQueue::new((desks * DNS_QUESTIONS_MAX).max(1)),
            news: Notify::new(),
            is_stopping: AtomicBool::new(false),
        }
    }

    pub(super) fn next(&self) -> Option<Asked> {
        self.asked.pop()
    }

    /// Waits for a question, or for the end.
    pub(super) async fn wait(&self) {
        self.news.notified().await;
    }

    pub(super) fn stop(&self) {
        self.is_stopping.store(true, Ordering::Release);
        self.news.notify_one();
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Acquire)
    }
}

impl Tray {
    pub(super) fn new(bell: Bell) -> Self {
        Self {
            answers: ArrayQueue::new(DNS_QUESTIONS_MAX),
            bell,
        }
    }

    /// Lays an answer down and wakes the worker.
    pub(super) fn put(&self, answer: Answer) {
        // As many places as questions may be out: there is room for every answer.
        let put = self.answers.push(answer);
        debug_assert!(put.is_ok(), "an answer that nobody asked for");
        (self.bell)();
    }
}

impl fmt::Debug for Tray {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tray")
            .field("answers", &self.answers.len())
            .finish_non_exhaustive()
    }
}

impl Asked {
    fn new(desk: usize, question: &Question<'_>) -> Self {
        let mut host = [0; HOST_LEN_MAX];
        let mut host_len = 0;
        // A longer one is no name, and leads nowhere, as an empty one does.
        if let Some(room) = host.get_mut(..question.host.len()) {
            room.copy_from_slice(question.host);
            room.make_ascii_lowercase();
            host_len = question.host.len();
        }
        Self {
            id: question.id,
            desk,
            port: question.port,
            transport: question.transport,
            host,
            host_len,
        }
    }

    /// The name, in lower case.
    pub(super) fn host(&self) -> &[u8] {
        self.host.get(..self.host_len).unwrap_or_default()
    }
}

const NOWHERE: Destination = Destination {
    transport: Transport::Udp,
    address: SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0),
};

// What `strowger check` counts a question with.
const _: () = assert!(size_of::<Asked>() + size_of::<Answer>() <= 1_024);

#[cfg(test)]
mod tests {
    use super::*;

    fn desk() -> (Desk, Arc<Line>, Arc<Tray>) {
        let (line, tray) = (Arc::new(Line::new(1)), Arc::new(Tray::new(Box::new(|| {}))));
        let counters = Arc::new(Counters::new());
        let desk = Desk::new(0, Arc::clone(&line), Arc::clone(&tray), counters);
        (desk, line, tray)
    }

    fn question(host: &[u8]) -> Question<'_> {
        Question {
            id: QuestionId(7),
            host,
            port: None,
            transport: None,
        }
    }

    #[test]
    fn a_desk_has_so_many_questions_out_and_no_more() {
        let (mut desk, line, tray) = desk();
        for _ in 0..DNS_QUESTIONS_MAX {
            desk.ask(&question(b"a.example")).expect("room");
        }
        // Taken from the line, they are still out.
        while line.next().is_some() {}
        assert_eq!(desk.ask(&question(b"a.example")), Err(ResolverFull));
        tray.put(Answer::nowhere(QuestionId(7)));
        assert_eq!(desk.take().expect("an answer").id(), QuestionId(7));
        desk.ask(&question(b"a.example")).expect("room again");
        assert_eq!(desk.counters.read(Counter::DnsRefused), 1);
        assert_eq!(
            desk.counters.read(Counter::DnsQuestions),
            DNS_QUESTIONS_MAX as u64 + 1
        );
    }

    #[test]
    fn a_name_travels_in_lower_case_and_one_that_is_too_long_is_none() {
        let (mut desk, line, _) = desk();
        for host in [&b"A.Example"[..], &[b'a'; HOST_LEN_MAX], &[b'a'; 300]] {
            desk.ask(&question(host)).expect("room");
        }
        assert_eq!(line.next().expect("a question").host(), b"a.example");
        assert_eq!(line.next().expect("a question").host().len(), HOST_LEN_MAX);
        assert_eq!(line.next().expect("a question").host(), b"");
    }

    #[test]
    fn a_destination_stands_once_and_the_list_ends() {
        let mut answer = Answer::nowhere(QuestionId(1));
        for port in 0..u16::try_from(DESTINATIONS_MAX).expect("few") {
            for _ in 0..2 {
                assert!(answer.add(Destination {
                    address: SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port),
                    ..NOWHERE
                }));
            }
        }
        assert_eq!(answer.destinations().len(), DESTINATIONS_MAX);
        let one_more = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 9);
        assert!(answer.add(Destination {
            address: one_more,
            ..NOWHERE
        }));
        let one_more = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 999);
        assert!(!answer.add(Destination {
            address: one_more,
            ..NOWHERE
        }));
    }
}
