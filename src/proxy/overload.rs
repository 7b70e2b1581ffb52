//! Overload: where more comes than can be done, new work is turned away before it costs anything, so that what was begun is ended.
//!
//! A queue that never empties and loses what comes says it. From then on requests that begin something (a REGISTER, an INVITE without
//! To-tag) are let in a few at a time, each time that the queue has been emptied; requests within dialogs, ACK, CANCEL and responses always
//! pass. So what was begun goes first, nothing of it is lost, and the processor is never without work while there is any: nothing is guessed
//! of what a request will cost. How many are let in at once is found by trying: as many as the queue is emptied after in a few milliseconds,
//! since a kernel thread on the same core, or a host that lends it out, brings what came in heaps. A call counts as several, since most of
//! its messages come only after the queue has been emptied of its INVITE. A few of those that are turned away hear 503 with Retry-After, in
//! proportion to those let in; the others are not answered, as if the network had lost them, since an answer costs more than to look at their To.

use memchr::memmem::Finder;

use crate::limits::{
    OVERLOAD_AFTER, OVERLOAD_CALL, OVERLOAD_CALM, OVERLOAD_DELAY, OVERLOAD_FEW, OVERLOAD_LEAST,
    OVERLOAD_LET_IN, OVERLOAD_REFUSALS,
};
use crate::time::{Duration, Instant};

/// What is to become of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// It is taken as ever.
    Taken,
    /// If it is new work it is answered 503.
    Refused,
    /// It is dropped.
    Dropped,
}

/// What a worker found when it last looked at its queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backlog {
    /// All that waited was taken.
    Short,
    /// More waits.
    Full,
    /// More waits, and for want of room some was lost.
    Overflowing,
}

/// What is worth a line of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// From now on new work is turned away.
    Begun,
    /// It is taken as ever again.
    Ended(Account),
}

/// What became of new work in an overload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// How long it lasted.
    pub span: Duration,
    /// Requests that were let in.
    pub let_in: u64,
    /// Those that were answered 503.
    pub refused: u64,
    /// Those that were dropped.
    pub dropped: u64,
}

impl Account {
    const fn turned_away(&self) -> u64 {
        self.refused + self.dropped
    }
}

/// Whether there is overload, and how much new work may be let in.
#[derive(Debug)]
pub(super) struct Overload {
    /// Since when the queues have lost something, and were not empty since.
    lossy_since: Option<Instant>,
    /// None: there is no overload.
    strain: Option<Strain>,
    glance: Glance,
}

/// An overload.
#[derive(Debug)]
struct Strain {
    since: Instant,
    /// Requests that are let in each time that the queue is found empty; a call counts as [`OVERLOAD_CALL`].
    allowance: u32,
    /// Of them, those that may be let in until it is found empty again.
    credit: u32,
    /// When the last credit was given.
    given_at: Instant,
    /// Since when the queue has not been empty.
    full_since: Option<Instant>,
    /// Whether the last credit was too little.
    is_wanting: bool,
    /// Of [`OVERLOAD_REFUSALS`], answers that may be given.
    answers: u32,
    account: Account,
    /// The account as it was when it was last asked whether this is over, and when that was.
    judged: (Account, Instant),
}

impl Overload {
    pub(super) fn new() -> Self {
        Self {
            lossy_since: None,
            strain: None,
            glance: Glance::new(),
        }
    }

    /// Whether there is overload.
    pub(super) const fn is_there(&self) -> bool {
        self.strain.is_some()
    }

    /// Takes what was found when the queues were last looked at.
    pub(super) fn observe(&mut self, now: Instant, backlog: Backlog) -> Option<Turn> {
        if let Some(strain) = &mut self.strain {
            strain.observe(now, backlog);
            if !strain.is_over(now) {
                return None;
            }
            let span = now.since(strain.since);
            let account = Account {
                span,
                ..strain.account
            };
            self.strain = None;
            self.lossy_since = None;
            return Some(Turn::Ended(account));
        }
        match backlog {
            Backlog::Short => self.lossy_since = None,
            Backlog::Full => {}
            Backlog::Overflowing => {
                let since = *self.lossy_since.get_or_insert(now);
                if now.since(since) >= OVERLOAD_AFTER {
                    self.strain = Some(Strain::new(now));
                    return Some(Turn::Begun);
                }
            }
        }
        None
    }

    /// Says what is to become of a datagram; its bytes are looked at in overload alone. `is_ours` knows whether what follows a Request-URI's user
    /// makes it an AoR of ours.
    #[inline]
    pub(super) fn admit(&mut self, bytes: &[u8], is_ours: impl FnOnce(&[u8]) -> bool) -> Admission {
        match &mut self.strain {
            Some(strain) if self.glance.is_of_new_work(bytes, is_ours) => {
                strain.admit(credit_for(bytes))
            }
            Some(_) | None => Admission::Taken,
        }
    }
}

impl Strain {
    fn new(now: Instant) -> Self {
        Self {
            since: now,
            allowance: *OVERLOAD_LET_IN.start(),
            credit: 0,
            given_at: now,
            full_since: Some(now),
            is_wanting: false,
            answers: 0,
            account: Account::default(),
            judged: (Account::default(), now),
        }
    }

    fn observe(&mut self, now: Instant, backlog: Backlog) {
        if backlog == Backlog::Short {
            self.adjust(now);
            (self.credit, self.given_at) = (self.allowance, now);
            (self.full_since, self.is_wanting) = (None, false);
            return;
        }
        self.full_since.get_or_insert(now);
        if now.since(self.given_at) >= OVERLOAD_LEAST {
            (self.credit, self.given_at) = (self.credit.max(1), now);
        }
    }

    /// Learns from how long the queue took to be emptied since the last credit.
    fn adjust(&mut self, now: Instant) {
        let is_late = |since: Instant| now.since(since) > OVERLOAD_DELAY;
        let (least, most) = OVERLOAD_LET_IN.into_inner();
        if self.full_since.is_some_and(is_late) {
            self.allowance = (self.allowance / 2).max(least);
        } else if self.is_wanting {
            self.allowance = (self.allowance * 2).min(most);
        }
    }

    /// Whether lately next to nothing was turned away: what is left the queue has room for.
    fn is_over(&mut self, now: Instant) -> bool {
        let (before, at) = self.judged;
        if now.since(at) < OVERLOAD_CALM {
            return false;
        }
        self.judged = (self.account, now);
        let let_in = self.account.let_in - before.let_in;
        (self.account.turned_away() - before.turned_away()) * OVERLOAD_FEW <= let_in
    }

    fn admit(&mut self, credit: u32) -> Admission {
        if self.credit > 0 {
            self.credit = self.credit.saturating_sub(credit);
            self.account.let_in += 1;
            self.answers = (self.answers + 1).min(OVERLOAD_REFUSALS * ANSWERS_KEPT);
            return Admission::Taken;
        }
        self.is_wanting = true;
        if self.answers >= OVERLOAD_REFUSALS {
            self.answers -= OVERLOAD_REFUSALS;
            self.account.refused += 1;
            return Admission::Refused;
        }
        self.account.dropped += 1;
        Admission::Dropped
    }
}

/// Tells new work by its first line where that suffices, else by its To, and looks at nothing else.
#[derive(Debug)]
struct Glance {
    /// Where the To of a request begins, in either form.
    to: [Finder<'static>; 2],
}

impl Glance {
    fn new() -> Self {
        Self {
            to: [Finder::new(b"\nTo:"), Finder::new(b"\nt:")],
        }
    }

    /// Whether these bytes look like a request outside of any dialog that is work to serve. In doubt they do not.
    fn is_of_new_work(&self, bytes: &[u8], is_ours: impl FnOnce(&[u8]) -> bool) -> bool {
        let Some(word) = bytes.first_chunk() else {
            return false;
        };
        // RFC 3261 10.2: a REGISTER is never within a dialog.
        if word == REGISTER {
            return true;
        }
        if !METHODS.contains(word) && !word.starts_with(b"INVITE ") {
            return false;
        }
        after_user(bytes).is_some_and(is_ours) || self.is_without_to_tag(bytes)
    }

    fn is_without_to_tag(&self, bytes: &[u8]) -> bool {
        let found = self.to.iter().find_map(|name| name.find(bytes));
        let rest = found.and_then(|at| bytes.get(at + 1..)).unwrap_or_default();
        let line = memchr::memchr(b'\n', rest).and_then(|end| rest.get(..end));
        // Most have no sign of equality at all, which is quicker to see.
        line.is_some_and(|line| {
            memchr::memchr(b'=', line).is_none() || memchr::memmem::find(line, b"tag=").is_none()
        })
    }
}

/// Of the credit, what new work takes.
const fn credit_for(bytes: &[u8]) -> u32 {
    match bytes {
        [b'I', ..] => OVERLOAD_CALL,
        _ => 1,
    }
}

/// What follows the user of the Request-URI, where it has one: a host and more.
fn after_user(bytes: &[u8]) -> Option<&[u8]> {
    let head = bytes.get(..bytes.len().min(FIRST_LINE_LEN))?;
    head.get(memchr::memchr(b'@', head)? + 1..)
}

/// So far a user's end is looked for; without one it is the To that tells.
const FIRST_LINE_LEN: usize = 128;
/// Answers that are saved up.
const ANSWERS_KEPT: u32 = 64;
const REGISTER: &[u8; 8] = b"REGISTER";
/// The first octets of requests that are work, where they begin something; beside INVITE, whose eighth octet is its URI's.
const METHODS: [[u8; 8]; 4] = [*b"OPTIONS ", *b"SUBSCRIB", *b"MESSAGE ", *b"PUBLISH "];

#[cfg(test)]
mod tests {
    use super::*;

    const CALL: &[u8] = b"INVITE sip:b@x SIP/2.0\r\nTo: <sip:b@x>\r\nFrom: <sip:a@x>;tag=1\r\n\r\n";
    const REFRESH: &[u8] =
        b"REGISTER sip:x SIP/2.0\r\nTo: <sip:a@x>\r\nFrom: <sip:a@x>;tag=1\r\n\r\n";

    fn is_ours(rest: &[u8]) -> bool {
        rest.starts_with(b"example.com SIP/2.0\r\n")
    }

    fn at(ms: u64) -> Instant {
        Instant::from_micros(1_000_000 + ms * 1_000)
    }

    /// One that has lost something for so long, at each millisecond.
    fn overflowing_for(ms: u64) -> Overload {
        let mut overload = Overload::new();
        for now in 0..=ms {
            overload.observe(at(now), Backlog::Overflowing);
        }
        overload
    }

    /// How many of `count` refreshes that come at once are taken, refused, dropped.
    fn fates(overload: &mut Overload, count: u32) -> [u32; 3] {
        fates_of(REFRESH, overload, count)
    }

    fn fates_of(text: &[u8], overload: &mut Overload, count: u32) -> [u32; 3] {
        let mut fates = [0; 3];
        for _ in 0..count {
            fates[overload.admit(text, is_ours) as usize] += 1;
        }
        fates
    }

    #[test]
    fn a_burst_is_no_overload() {
        let mut overload = overflowing_for(OVERLOAD_AFTER.as_millis_ceil() - 1);
        assert_eq!(overload.admit(CALL, is_ours), Admission::Taken);
        overload.observe(at(200), Backlog::Short);
        overload.observe(at(201), Backlog::Overflowing);
        assert!(!overload.is_there());
    }

    #[test]
    fn what_waits_and_is_not_lost_is_no_overload() {
        let mut overload = Overload::new();
        for ms in 0..5_000 {
            assert_eq!(overload.observe(at(ms), Backlog::Full), None);
        }
        assert!(!overload.is_there());
    }

    #[test]
    fn what_is_begun_always_passes() {
        let mut overload = overflowing_for(200);
        let texts: [&[u8]; 7] = [
            b"INVITE sip:b@example.com;gr=1 SIP/2.0\r\nTo: <sip:b@x>;tag=2\r\n\r\n",
            b"ACK sip:b@x SIP/2.0\r\nTo: <sip:b@x>\r\n\r\n",
            b"BYE sip:b@x SIP/2.0\r\nTo: <sip:b@x>;tag=2\r\n\r\n",
            b"INVITE sip:b@x SIP/2.0\r\nt: <sip:b@x;y=z>;tag=2\r\n\r\n",
            b"SUBSCRIBE sip:b@x SIP/2.0\r\nTo: <sip:b@x>;tag=2\r\n\r\n",
            b"SIP/2.0 200 OK\r\nTo: <sip:b@x>\r\n\r\n",
            b"\r\n\r\n",
        ];
        for text in texts {
            for _ in 0..1_000 {
                assert_eq!(overload.admit(text, is_ours), Admission::Taken);
            }
        }
    }

    #[test]
    fn new_work_is_known_by_its_method_and_its_uri_or_to() {
        let glance = Glance::new();
        let texts: [&[u8]; 6] = [
            CALL,
            b"INVITE sip:b@example.com SIP/2.0\r\nVia: SIP/2.0/UDP x\r\n\r\n",
            b"INVITE sip:b@x SIP/2.0\r\nt: <sip:b@x;y=z>\r\n\r\n",
            b"REGISTER sip:x SIP/2.0\r\nTo: <sip:b@x>\r\n\r\n",
            b"OPTIONS sip:x SIP/2.0\r\nTo: <sip:b@x>\r\n\r\n",
            b"SUBSCRIBE sip:x SIP/2.0\r\nTo: <sip:b@x>\r\n\r\n",
        ];
        assert!(
            texts
                .iter()
                .all(|text| glance.is_of_new_work(text, is_ours))
        );
    }

    #[test]
    fn a_few_are_let_in_each_time_that_the_queue_is_empty() {
        let mut overload = overflowing_for(200);
        assert_eq!(fates(&mut overload, 1), [1, 0, 0], "the least");
        assert_eq!(fates(&mut overload, 100), [0, 0, 100]);
        let (least, _) = OVERLOAD_LET_IN.into_inner();
        overload.observe(at(300), Backlog::Short);
        let refused = (least + 1) / OVERLOAD_REFUSALS;
        assert_eq!(
            fates(&mut overload, 1_000),
            [least, refused, 1_000 - least - refused]
        );
    }

    #[test]
    fn a_call_counts_as_several() {
        let mut overload = overflowing_for(200);
        let (least, _) = OVERLOAD_LET_IN.into_inner();
        overload.observe(at(300), Backlog::Short);
        let calls = least / OVERLOAD_CALL - 1;
        assert_eq!(fates_of(CALL, &mut overload, calls), [calls, 0, 0]);
        assert_eq!(fates(&mut overload, 1_000)[0], OVERLOAD_CALL);
        overload.observe(at(301), Backlog::Short);
        assert_eq!(fates_of(CALL, &mut overload, 1_000)[0], 2 * (calls + 1));
    }

    /// How many are let in of many that come at once, when the queue has taken so many milliseconds to be emptied.
    fn let_in_after(overload: &mut Overload, now: &mut u64, ms: u64) -> u32 {
        overload.observe(at(*now), Backlog::Full);
        *now += ms;
        overload.observe(at(*now), Backlog::Short);
        fates(overload, 10_000)[0]
    }

    #[test]
    fn more_are_let_in_until_the_queue_takes_too_long_to_be_emptied() {
        let (mut overload, mut now) = (overflowing_for(200), 300);
        let (least, most) = OVERLOAD_LET_IN.into_inner();
        let late = OVERLOAD_DELAY.as_millis_ceil() + 1;
        let first = let_in_after(&mut overload, &mut now, late);
        assert_eq!(first, least);
        assert_eq!(let_in_after(&mut overload, &mut now, 2), 2 * least);
        assert_eq!(let_in_after(&mut overload, &mut now, 2), 4 * least);
        assert_eq!(let_in_after(&mut overload, &mut now, late), 2 * least);
        for _ in 0..20 {
            assert!(let_in_after(&mut overload, &mut now, 1) <= most);
        }
        assert_eq!(let_in_after(&mut overload, &mut now, 1), most);
    }

    #[test]
    fn it_ends_when_next_to_nothing_is_turned_away() {
        let mut overload = overflowing_for(200);
        let (least, _) = OVERLOAD_LET_IN.into_inner();
        let begun = at(100);
        let few = least / u32::try_from(OVERLOAD_FEW).expect("few");
        overload.observe(at(210), Backlog::Short);
        let first = fates(&mut overload, least + few + 1);
        assert_eq!(first[0], least);

        // More than a few were turned away: it goes on, and more are let in.
        assert_eq!(
            overload.observe(begun + OVERLOAD_CALM, Backlog::Short),
            None
        );
        let then = fates(&mut overload, 2 * (least + few));
        assert_eq!(then[0], 2 * least);

        let end = begun + OVERLOAD_CALM + OVERLOAD_CALM;
        let Some(Turn::Ended(account)) = overload.observe(end, Backlog::Short) else {
            panic!("it has ended");
        };
        let fates = std::array::from_fn(|fate| u64::from(first[fate] + then[fate]));
        assert_eq!([account.let_in, account.refused, account.dropped], fates);
        assert_eq!(account.span, end.since(begun));
        assert_eq!(overload.admit(CALL, is_ours), Admission::Taken);
    }
}
