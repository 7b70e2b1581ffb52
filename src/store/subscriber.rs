//! A worker's side of the directory: it asks who a user is and goes on, and takes its answers when it is awake. Nothing is
//! allocated here.
//!
//! Every question gets one answer, and none waits for room: a counter has at most [`SUBSCRIBER_QUESTIONS_MAX`] questions out, and its
//! tray of answers is as long. The same question asked again, by whomever, while the first is under way costs the database nothing.

use std::fmt;
use std::sync::Arc;

use crossbeam_queue::ArrayQueue;

use super::desk::Waker;
use super::text::Text;
use crate::limits::{AOR_LEN_MAX, SUBSCRIBER_QUESTIONS_MAX, SUBSCRIBER_TEXT_LEN_MAX};
use crate::location::Secrets;
use crate::proxy::{StoreFull, StoreSilent, SubscriberQuestion};

/// Wakes a worker, if it sleeps.
pub type Bell = Box<dyn Fn() + Send + Sync>;

/// Where one worker asks.
#[derive(Debug)]
pub struct Inquiries {
    booth: Arc<Booth>,
    waiting: usize,
}

/// The answer to a question: what becomes `Notice::Subscriber`.
#[derive(Clone, Debug)]
pub struct Answer {
    aor: Text<AOR_LEN_MAX>,
    /// The user's secrets; none: there is no such user. An error: the database cannot say.
    pub found: Result<Option<Secrets>, StoreSilent>,
}

/// The questions and answers of one worker.
pub(super) struct Booth {
    pub(super) asked: ArrayQueue<Asked>,
    pub(super) answers: ArrayQueue<Answer>,
    pub(super) bell: Bell,
    registrar: Arc<Waker>,
}

/// A question on its way.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    aor: Text<AOR_LEN_MAX>,
    user: Text<SUBSCRIBER_TEXT_LEN_MAX>,
    realm: Text<SUBSCRIBER_TEXT_LEN_MAX>,
    /// A text was too long or no text: there is no such user.
    is_impossible: bool,
}

impl Inquiries {
    pub(super) fn new(booth: Arc<Booth>) -> Self {
        Self { booth, waiting: 0 }
    }

    /// Asks. The answer comes here, once.
    ///
    /// # Errors
    /// [`StoreFull`]: as many questions are out as may be; no answer will come.
    pub fn ask(&mut self, question: &SubscriberQuestion<'_>) -> Result<(), StoreFull> {
        if self.waiting >= SUBSCRIBER_QUESTIONS_MAX
            || self.booth.asked.push(Asked::new(question)).is_err()
        {
            return Err(StoreFull);
        }
        self.waiting += 1;
        self.booth.registrar.wake();
        Ok(())
    }

    /// Takes the oldest answer.
    pub fn take(&mut self) -> Option<Answer> {
        let answer = self.booth.answers.pop()?;
        self.waiting = self.waiting.saturating_sub(1);
        Some(answer)
    }

    /// Whether there is no answer to take.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.booth.answers.is_empty()
    }
}

impl Answer {
    /// The AoR, as it was asked.
    #[must_use]
    pub fn aor(&self) -> &[u8] {
        self.aor.as_bytes()
    }
}

impl Booth {
    pub(super) fn new(bell: Bell, registrar: Arc<Waker>) -> Self {
        Self {
            asked: ArrayQueue::new(SUBSCRIBER_QUESTIONS_MAX),
            answers: ArrayQueue::new(SUBSCRIBER_QUESTIONS_MAX),
            bell,
            registrar,
        }
    }

    pub(super) fn answer(&self, asked: Asked, found: Result<Option<Secrets>, StoreSilent>) {
        // There is a place for each question that is out.
        let _ = self.answers.push(Answer {
            aor: asked.aor,
            found,
        });
        (self.bell)();
    }
}

impl fmt::Debug for Booth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Booth")
    }
}

impl Asked {
    fn new(question: &SubscriberQuestion<'_>) -> Self {
        let (aor, fits) = Text::cut(question.aor);
        let (user, user_fits) = Text::cut(question.user);
        let (realm, realm_fits) = Text::cut(question.realm);
        Self {
            aor,
            user,
            realm,
            is_impossible: !(fits && user_fits && realm_fits),
        }
    }

    /// The user and the realm, where a database can have them.
    pub(super) fn names(&self) -> Option<(&str, &str)> {
        let text = |bytes| {
            std::str::from_utf8(bytes)
                .ok()
                .filter(|text: &&str| !text.contains('\0'))
        };
        let names = (text(self.user.as_bytes())?, text(self.realm.as_bytes())?);
        (!self.is_impossible).then_some(names)
    }

    /// The domain of the AoR.
    pub(super) fn domain(&self) -> Option<&str> {
        let aor = std::str::from_utf8(self.aor.as_bytes()).ok()?;
        aor.rsplit_once('@').map(|(_, domain)| domain)
    }
}
