//! The world outside the cores: what they sent, handed on and asked, and what fails.

use std::collections::VecDeque;
use std::net::SocketAddr;

use strowger::datagram::{Datagram, Flow, WorkerId};
use strowger::proxy::{
    MailboxFull, Output, Question, QuestionId, ResolverFull, SendError, StoreFull,
    SubscriberQuestion,
};
use strowger::sip::{self, Index, Parsed};

/// A message on its way.
#[derive(Clone, Debug)]
pub(super) struct Passed {
    pub(super) flow: Flow,
    pub(super) bytes: Vec<u8>,
}

/// The world outside the cores.
#[derive(Default)]
pub(super) struct Wire {
    pub(super) sent: VecDeque<Passed>,
    pub(super) handed_off: VecDeque<(WorkerId, Passed)>,
    pub(super) asked: VecDeque<(WorkerId, QuestionId)>,
    pub(super) worker: u8,
    /// Sends to these fail.
    pub(super) dead: Vec<SocketAddr>,
    /// The next send finds no room, the next question and the next hand-off neither.
    pub(super) is_full: bool,
    pub(super) is_connected: bool,
}

impl Output for Wire {
    fn send(
        &mut self,
        flow: &Flow,
        len: usize,
        write: impl FnOnce(&mut [u8]),
    ) -> Result<(), SendError> {
        if std::mem::take(&mut self.is_full) {
            return Err(SendError::Full);
        }
        if self.dead.contains(&flow.peer) {
            return Err(SendError::Unreachable);
        }
        let mut bytes = vec![UNWRITTEN; len];
        write(&mut bytes);
        assert!(
            !bytes.contains(&UNWRITTEN),
            "written whole: {}",
            bytes.escape_ascii()
        );
        assert_good(&bytes);
        self.sent.push_back(Passed { flow: *flow, bytes });
        if self.sent.len() > REMEMBERED_MAX {
            self.sent.pop_front();
        }
        Ok(())
    }

    fn hand_off(&mut self, to: WorkerId, datagram: &Datagram<'_>) -> Result<(), MailboxFull> {
        assert!(!datagram.handed_off, "handed on once at most");
        if std::mem::take(&mut self.is_full) {
            return Err(MailboxFull);
        }
        let passed = Passed {
            flow: datagram.flow,
            bytes: datagram.bytes.to_vec(),
        };
        self.handed_off.push_back((to, passed));
        Ok(())
    }

    fn resolve(&mut self, question: &Question<'_>) -> Result<(), ResolverFull> {
        assert!(!question.host.is_empty() && question.host.len() <= 255);
        if std::mem::take(&mut self.is_full) {
            return Err(ResolverFull);
        }
        self.asked.push_back((WorkerId(self.worker), question.id));
        Ok(())
    }

    fn ask_subscriber(&mut self, _: &SubscriberQuestion<'_>) -> Result<(), StoreFull> {
        Err(StoreFull)
    }

    fn want_rows(&mut self, _: &[u8]) -> Result<(), StoreFull> {
        Err(StoreFull)
    }

    fn is_connected(&self, _: &Flow) -> bool {
        self.is_connected
    }
}

/// What leaves is a keepalive's answer, or a message that its receiver can read.
fn assert_good(bytes: &[u8]) {
    if bytes == b"\r\n" {
        return;
    }
    let mut index = Index::new();
    match sip::parse(bytes, &mut index) {
        Parsed::Good(_) => {}
        Parsed::Answerable(_, rejection) => panic!("{rejection:?}: {}", bytes.escape_ascii()),
        // What is passed back keeps the faults that its callee, or the request that it answers, put into it.
        Parsed::NotSip(cause) => assert!(
            bytes.starts_with(b"SIP/2.0 "),
            "{cause:?}: {}",
            bytes.escape_ascii()
        ),
    }
}

/// How much of the past is kept.
pub(super) const REMEMBERED_MAX: usize = 64;
/// A byte that no message here has.
const UNWRITTEN: u8 = 0xFF;
