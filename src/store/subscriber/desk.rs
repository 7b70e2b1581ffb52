//! A worker's side: it asks and goes on, and takes its answers when it is awake. Nothing is allocated here.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::Thread;

use crossbeam_queue::ArrayQueue;
use parking_lot::Mutex;

use super::Bell;
use crate::limits::{AOR_LEN_MAX, SUBSCRIBER_NAME_LEN_MAX, SUBSCRIBER_QUESTIONS_MAX};
use crate::location::Secrets;
use crate::proxy::{StoreFull, StoreSilent, SubscriberQuestion};

/// One worker's desk. It has at most [`SUBSCRIBER_QUESTIONS_MAX`] questions out, and its tray is as long: no answer waits for room.
#[derive(Debug)]
pub struct SubscriberDesk {
    number: usize,
    line: Arc<Line>,
    tray: Arc<Tray>,
    waiting: usize,
}

/// What the table says of a user.
#[derive(Clone, Copy, Debug)]
pub struct SubscriberAnswer {
    aor: Text<AOR_LEN_MAX>,
    /// The secrets; none: there is no such user. An error: the database does not answer.
    pub found: Result<Option<Secrets>, StoreSilent>,
}

/// The questions of all desks, in the order in which they were asked.
#[derive(Debug)]
pub(super) struct Line {
    asked: ArrayQueue<Asked>,
    thread: Mutex<Option<Thread>>,
    is_stopping: AtomicBool,
}

/// The answers of one desk.
pub(super) struct Tray {
    answers: ArrayQueue<SubscriberAnswer>,
    bell: Bell,
}

/// A question on its way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) desk: usize,
    aor: Text<AOR_LEN_MAX>,
    user: Text<SUBSCRIBER_NAME_LEN_MAX>,
}

/// A short text in place.
#[derive(Clone, Copy)]
struct Text<const LEN: usize> {
    bytes: [u8; LEN],
    len: usize,
}

impl SubscriberDesk {
    pub(super) const fn new(number: usize, line: Arc<Line>, tray: Arc<Tray>) -> Self {
        Self {
            number,
            line,
            tray,
            waiting: 0,
        }
    }

    /// Asks. The answer comes to this desk, once.
    ///
    /// # Errors
    /// [`StoreFull`]: this desk has as many questions out as it may; no answer will come.
    pub fn ask(&mut self, question: &SubscriberQuestion<'_>) -> Result<(), StoreFull> {
        if self.waiting >= SUBSCRIBER_QUESTIONS_MAX {
            return Err(StoreFull);
        }
        let aor = Text::new(question.aor).ok_or(StoreFull)?;
        match Text::new(question.user) {
            Some(user) => {
                let asked = Asked {
                    desk: self.number,
                    aor,
                    user,
                };
                self.line.asked.push(asked).map_err(|_| StoreFull)?;
                self.line.wake();
            }
            // Longer than the table's column: there is no such user.
            None => self.tray.put(SubscriberAnswer {
                aor,
                found: Ok(None),
            }),
        }
        self.waiting += 1;
        Ok(())
    }

    /// Takes the oldest answer.
    pub fn take(&mut self) -> Option<SubscriberAnswer> {
        let answer = self.tray.answers.pop()?;
        self.waiting = self.waiting.saturating_sub(1);
        Some(answer)
    }

    /// Whether there is no answer to take.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tray.answers.is_empty()
    }
}

impl SubscriberAnswer {
    pub(super) const fn new(asked: &Asked, found: Result<Option<Secrets>, StoreSilent>) -> Self {
        Self {
            aor: asked.aor,
            found,
        }
    }

    /// Of whom.
    #[must_use]
    pub fn aor(&self) -> &[u8] {
        self.aor.as_bytes()
    }
}

impl Asked {
    pub(super) fn aor(&self) -> &[u8] {
        self.aor.as_bytes()
    }

    pub(super) fn user(&self) -> &[u8] {
        self.user.as_bytes()
    }
}

impl Line {
    pub(super) fn new(desks: usize) -> Self {
        Self {
            asked: ArrayQueue::new((desks * SUBSCRIBER_QUESTIONS_MAX).max(1)),
            thread: Mutex::new(None),
            is_stopping: AtomicBool::new(false),
        }
    }

    pub(super) fn next(&self) -> Option<Asked> {
        self.asked.pop()
    }

    pub(super) fn set(&self, thread: Thread) {
        *self.thread.lock() = Some(thread);
        self.wake();
    }

    pub(super) fn stop(&self) {
        self.is_stopping.store(true, Ordering::Release);
        self.wake();
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Acquire)
    }

    fn wake(&self) {
        if let Some(thread) = &*self.thread.lock() {
            thread.unpark();
        }
    }
}

impl Tray {
    pub(super) fn new(bell: Bell) -> Self {
        Self {
            answers: ArrayQueue::new(SUBSCRIBER_QUESTIONS_MAX),
            bell,
        }
    }

    /// Lays an answer down and wakes the worker.
    pub(super) fn put(&self, answer: SubscriberAnswer) {
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

impl<const LEN: usize> Text<LEN> {
    /// `None`: it is too long.
    fn new(text: &[u8]) -> Option<Self> {
        let mut bytes = [0; LEN];
        bytes.get_mut(..text.len())?.copy_from_slice(text);
        Some(Self {
            bytes,
            len: text.len(),
        })
    }

    fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

impl<const LEN: usize> fmt::Debug for Text<LEN> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Text")
    }
}
