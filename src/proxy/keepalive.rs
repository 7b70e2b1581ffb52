//! Keepalives to contacts: what keeps the way through a NAT open, and tells whether somebody is still there.
//!
//! The location's hand says whose turn it is. A CRLF asks for nothing. An OPTIONS (RFC 3261 11) is sent once and not kept: its
//! Via branch, under our MAC, names the contact and the second, so that the answer finds the contact by itself; one that nobody
//! asked for, or that comes too late, does nothing. Both leave by the flow on which calls would, over a connection only while it is
//! open: no connection, an ICMP error and silence are the same.

use std::io::Write;

use tracing::debug;

use super::Proxy;
use super::identity::Identity;
use super::next_hop::NextHop;
use super::output::{Output, SendError};
use super::settings::{Listener, Settings};
use crate::counters::Counter;
use crate::datagram::{Flow, ListenerId, Transport, WorkerId};
use crate::limits::{KEEPALIVE_ANSWER_TIME, MAX_FORWARDS_DEFAULT, WORKERS_MAX};
use crate::location::{DueContact, DueContacts, KeepalivePolicy, KeepaliveWheel, KeptContact};
use crate::sip::message::Message;
use crate::sip::uri::{Scheme, Uri};
use crate::time::{Duration, Instant};
use crate::transaction::id::{BRANCH_LEN, Branch, COOKIE, Generation, TransactionId};

/// What a contact is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keepalive {
    /// A double CRLF, the ping of RFC 5626; nobody need answer it.
    Crlf,
    /// An OPTIONS, which every user agent answers.
    Options,
}

/// How contacts are kept alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepaliveSettings {
    /// What they are sent.
    pub keepalive: Keepalive,
    /// How often each has its turn.
    pub cycle: Duration,
    /// Only those behind a NAT or on a connection.
    pub nat_only: bool,
    /// A contact that left so many OPTIONS in a row unanswered is removed at its next turn; 0: never.
    pub silent_max: u8,
}

/// What one worker keeps contacts alive with.
#[derive(Debug)]
pub(super) struct Keeper {
    keepalive: Keepalive,
    policy: KeepalivePolicy,
    wheel: KeepaliveWheel,
    due: DueContacts,
    /// Our addresses as they stand in Via and From.
    addresses: Vec<(ListenerId, String)>,
    text: Vec<u8>,
}

impl Keeper {
    /// What these settings ask for.
    pub(super) fn of(settings: &Settings) -> Option<Self> {
        let asked = settings.keepalive?;
        let (worker, workers) = (settings.worker.0.into(), settings.workers.into());
        let written = |listener: &Listener| (listener.id, listener.address.to_string());
        Some(Self {
            keepalive: asked.keepalive,
            policy: KeepalivePolicy {
                nat_only: asked.nat_only,
                is_answered: asked.keepalive == Keepalive::Options,
                silent_max: asked.silent_max,
            },
            wheel: KeepaliveWheel::new(worker, workers, asked.cycle),
            due: DueContacts::new(),
            addresses: settings.listeners.iter().map(written).collect(),
            text: Vec::with_capacity(TEXT_LEN),
        })
    }

    /// When a contact has its turn, or the hand is to move on.
    pub(super) const fn next_deadline(&self) -> Instant {
        self.wheel.next_deadline()
    }
}

impl Proxy {
    /// Sends what is due to the contacts whose turn it is, and sees those go that were silent for too long.
    pub(super) fn keep_alive(&mut self, now: Instant, out: &mut impl Output) {
        let Some(mut keeper) = self.keeper.take() else {
            return;
        };
        if !self.is_draining && keeper.next_deadline() <= now {
            let Keeper {
                policy, wheel, due, ..
            } = &mut *keeper;
            self.location.due_contacts(now, wheel, policy, due);
            for (aor, contact) in keeper.due.removed() {
                self.counters.increment(Counter::ContactsRemovedSilent);
                debug!(
                    aor = %aor.escape_ascii(),
                    contact = %contact.escape_ascii(),
                    "a contact that answers no OPTIONS is removed"
                );
            }
            let mut text = std::mem::take(&mut keeper.text);
            for contact in keeper.due.iter() {
                let counter = self.send_keepalive(now, &keeper, &contact, &mut text, out);
                self.counters.increment(counter);
                // What the phone had no chance to answer does not count against it.
                if matches!(
                    counter,
                    Counter::KeepalivesFull | Counter::KeepalivesNoAddress
                ) {
                    self.location.is_answered_by(now, contact.contact);
                }
            }
            keeper.text = text;
        }
        self.keeper = Some(keeper);
    }

    /// Sends one, and gives what to count.
    fn send_keepalive(
        &self,
        now: Instant,
        keeper: &Keeper,
        due: &DueContact<'_>,
        text: &mut Vec<u8>,
        out: &mut impl Output,
    ) -> Counter {
        let Some((uri, flow)) = way_to(&self.identity, due) else {
            return Counter::KeepalivesNoAddress;
        };
        if flow.transport == Transport::Tcp && !out.is_connected(&flow) {
            return Counter::KeepalivesNotConnected;
        }
        let own = keeper.addresses.iter().find(|(id, _)| *id == flow.listener);
        let Some((_, own)) = own else {
            return Counter::KeepalivesNoAddress;
        };
        let (bytes, counter): (&[u8], _) = match keeper.keepalive {
            Keepalive::Crlf => (PING, Counter::KeepalivesSentCrlf),
            Keepalive::Options => {
                let branch = self.branches.encode(name(due.contact), second(now));
                compose(text, uri.without_headers(), flow.transport, own, &branch);
                (text, Counter::KeepalivesSentOptions)
            }
        };
        match out.send(&flow, bytes.len(), |buffer| buffer.copy_from_slice(bytes)) {
            Ok(()) => counter,
            Err(SendError::Full) => Counter::KeepalivesFull,
            Err(SendError::Unreachable) => Counter::KeepalivesUnreachable,
            Err(SendError::TooLarge | SendError::NoListener) => Counter::KeepalivesNoAddress,
        }
    }

    /// Takes the answer to an OPTIONS of ours: it goes no further. Whatever its final status says, somebody is there.
    pub(super) fn on_kept_alive(&self, now: Instant, response: &Message<'_>, branch: &Branch) {
        if response.status() < 200 {
            return;
        }
        let contact = KeptContact {
            place: branch.id.slot,
            hash: branch.id.generation.0,
        };
        let age_s = second(now).wrapping_sub(branch.loop_hash);
        let is_in_time = u64::from(age_s) <= KEEPALIVE_ANSWER_TIME.as_secs();
        let is_ours = self.keeper.is_some() && response.cseq().method == METHOD;
        let is_heard = is_ours && is_in_time && self.location.is_answered_by(now, contact);
        self.counters.increment(if is_heard {
            Counter::KeepalivesAnswered
        } else {
            Counter::DropStrayResponse
        });
    }
}

/// Whether a branch of ours names a contact, and no transaction.
pub(super) fn is_keepalive(branch: &Branch) -> bool {
    branch.id.worker == KEEPER
}

/// The contact's name in a branch, where that of a transaction stands otherwise.
const fn name(contact: KeptContact) -> TransactionId {
    TransactionId {
        worker: KEEPER,
        slot: contact.place,
        generation: Generation(contact.hash),
    }
}

/// The way that calls to a contact take, where it leads to a phone and no name has to be looked up for it.
fn way_to<'a>(identity: &Identity, due: &DueContact<'a>) -> Option<(Uri<'a>, Flow)> {
    let uri = Uri::parse(due.uri).ok();
    let uri = uri.filter(|uri| uri.scheme == Scheme::Sip)?;
    if due.received {
        return Some((uri, due.flow));
    }
    // A contact at our own address is no phone, but another AoR's.
    if identity.is_ours(&uri) {
        return None;
    }
    match identity.next_hop(&uri, due.flow.listener)? {
        NextHop::Flow(flow) => Some((uri, flow)),
        NextHop::Name(_) => None,
    }
}

/// Writes the OPTIONS. The branch, new each time, is its Call-ID and its From tag as well.
fn compose(
    text: &mut Vec<u8>,
    uri: &[u8],
    transport: Transport,
    own: &str,
    branch: &[u8; BRANCH_LEN],
) {
    let letters = branch.get(COOKIE.len()..).unwrap_or_default();
    let tag = letters
        .get(letters.len().saturating_sub(TAG_LEN)..)
        .unwrap_or_default();
    text.clear();
    for part in [
        b"OPTIONS ",
        uri,
        b" SIP/2.0\r\nVia: SIP/2.0/",
        transport.as_str().as_bytes(),
        b" ",
        own.as_bytes(),
        b";rport;branch=",
        branch,
        b"\r\nFrom: <sip:",
        own.as_bytes(),
        b">;tag=",
        tag,
        b"\r\nTo: <",
        uri,
        b">\r\nCall-ID: ",
        letters,
    ] {
        text.extend_from_slice(part);
    }
    let _ = write!(
        text,
        "\r\nCSeq: 1 OPTIONS\r\nMax-Forwards: {MAX_FORWARDS_DEFAULT}\r\nContent-Length: 0\r\n\r\n"
    );
}

/// The second, as a branch has room for it.
fn second(now: Instant) -> u32 {
    u32::try_from(now.unix_s() & u64::from(u32::MAX)).unwrap_or_default()
}

/// The number of no worker: a branch with it names a contact.
const KEEPER: WorkerId = WorkerId(u8::MAX);
const METHOD: &[u8] = b"OPTIONS";
/// RFC 5626 3.5.1.
const PING: &[u8] = b"\r\n\r\n";
/// The letters of a From tag: those of the branch's MAC.
const TAG_LEN: usize = 13;
/// What an OPTIONS usually takes.
const TEXT_LEN: usize = 1_024;

const _: () = assert!(
    WORKERS_MAX <= KEEPER.0 as usize,
    "no worker has this number"
);
