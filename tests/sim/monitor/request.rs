//! Rules about requests: those that a node received, and those that it sent.

use std::net::SocketAddr;
use std::rc::Rc;

use strowger::datagram::Flow;
use strowger::proxy::SendError;
use strowger::time::Duration;

use super::super::ledger::Ledger;
use super::super::message::{Message, Name};
use super::super::node::{Packet, Sent};
use super::untouched;
use super::{BranchView, Cause, CoreCall, LATE, Monitor, ServerView, T1, T2, server_key};

impl Monitor {
    pub(super) fn request_arrived(
        &mut self,
        call: &CoreCall<'_>,
        request: &Message<'_>,
        packet: &Packet,
        number: usize,
        ledger: &Ledger,
    ) {
        let method = request.method();
        let invite = server_key(request, 0, "INVITE").unwrap_or_default();
        match method {
            "ACK" => {
                if call.sent.len() > 1 {
                    self.fail(
                        "a datagram is sent on once a branch",
                        Some(number),
                        "ACK".into(),
                    );
                }
                if call.questions > 0 {
                    let waiting = (Rc::clone(&packet.bytes), packet.from);
                    self.nodes[call.node].waiting.push(waiting);
                }
                let server = self.nodes[call.node].servers.get_mut(&invite);
                if let Some(server) =
                    server.filter(|server| server.finals.iter().any(|(status, _)| *status >= 300))
                {
                    server.acked.get_or_insert(call.now);
                    // One that was refused without a transaction, with the tag of its dialog, cannot be told from that of a 2xx.
                    let may_go_on = (server.branches.is_empty() && server.is_in_dialog())
                        || server.may_be_over(call.now);
                    if !call.sent.is_empty() && !may_go_on {
                        self.fail(
                            "the ACK of a failure ends at the next hop",
                            Some(number),
                            String::new(),
                        );
                    }
                }
            }
            "CANCEL" => self.cancel_arrived(call.node, &invite),
            _ => {
                let key = server_key(request, 0, method).unwrap_or_default();
                self.take_up(call, &key, request, packet, number);
            }
        }
        self.observe_sent(call, Some(request), ledger);
        if method == "CANCEL" {
            self.check_cancelled(call, &invite, number);
        } else if method != "ACK" {
            self.check_breadth(call, request, number);
        }
    }

    /// A request begins a transaction, unless it is a copy of one that has.
    fn take_up(
        &mut self,
        call: &CoreCall<'_>,
        key: &str,
        request: &Message<'_>,
        packet: &Packet,
        number: usize,
    ) {
        let servers = &mut self.nodes[call.node].servers;
        let known = servers.get(key);
        if known.is_some_and(|known| !known.may_be_over(call.now)) {
            return;
        }
        let server = ServerView {
            call: number,
            method: request.method().to_owned(),
            request: Rc::clone(&packet.bytes),
            flow: Flow {
                listener: packet.listener,
                transport: packet.transport,
                peer: packet.from,
            },
            opened: call.now,
            finals: Vec::new(),
            repeated: None,
            answered: None,
            acked: None,
            is_cancelled: false,
            has_asked: call.questions > 0,
            branches: Vec::new(),
        };
        servers.insert(key.to_owned(), server);
    }

    /// The caller gave up: what rings is to be cancelled, and the rest once it rings.
    fn cancel_arrived(&mut self, node: usize, invite: &str) {
        if let Some(server) = self.nodes[node].servers.get_mut(invite)
            && server.finals.is_empty()
        {
            server.is_cancelled = true;
            self.want_cancels(node, invite, true);
        }
    }

    /// From now on every branch of this transaction without a final response is to be cancelled.
    pub(super) fn want_cancels(&mut self, node: usize, server: &str, surely: bool) {
        let view = &mut self.nodes[node];
        let Some(server) = view.servers.get(server) else {
            return;
        };
        for branch in &server.branches {
            if let Some(branch) = view.branches.get_mut(branch)
                && branch.ended.is_none()
            {
                branch.wants_cancel |= surely;
                branch.may_cancel = true;
            }
        }
    }

    /// RFC 3261 16.7 step 10, 16.10: a branch that is wanted no more and rings is cancelled at once.
    pub(super) fn check_cancelled(&mut self, call: &CoreCall<'_>, server: &str, number: usize) {
        let view = &self.nodes[call.node];
        let Some(server) = view.servers.get(server) else {
            return;
        };
        let forgotten = server.branches.iter().any(|branch| {
            view.branches.get(branch).is_some_and(|branch| {
                branch.wants_cancel
                    && branch.has_provisional
                    && branch.ended.is_none()
                    && branch.cancelled.is_none()
                    && branch.surely_lives(call.now, view.timer_c)
            })
        });
        if forgotten {
            self.fail(
                "a branch that is wanted no more is cancelled",
                Some(number),
                String::new(),
            );
        }
    }

    /// RFC 5393 5: the breadth that a request has is shared out among its branches.
    fn check_breadth(&mut self, call: &CoreCall<'_>, request: &Message<'_>, number: usize) {
        let Some(breadth) = request.number(Name::MaxBreadth) else {
            return;
        };
        let sum: u32 = call
            .sent
            .iter()
            .filter(|sent| sent.error.is_none_or(|error| error == SendError::Full))
            .filter_map(|sent| Message::parse(&sent.bytes))
            .filter(|sent| sent.is_request() && sent.method() == request.method())
            .filter_map(|sent| sent.number(Name::MaxBreadth))
            .sum();
        if sum > breadth {
            let what = format!("{breadth} came, {sum} went");
            self.fail("Max-Breadth is conserved", Some(number), what);
        }
    }

    pub(super) fn request_sent(
        &mut self,
        call: &CoreCall<'_>,
        cause: Option<&Message<'_>>,
        request: &Message<'_>,
        sent: &Sent,
        number: usize,
    ) {
        let Some(top) = request.top_via() else {
            return self.fail("a request has a Via", Some(number), String::new());
        };
        let branch = top.branch().unwrap_or_default().to_owned();
        if !self.nodes[call.node].is_own(top.sent_by) {
            let what = top.sent_by.to_owned();
            self.fail("our Via is on top of what we send on", Some(number), what);
        }
        let view = &mut self.nodes[call.node];
        let known = view.branches.get(&branch);
        if known.is_some_and(|known| known.is_broken && known.opened == call.now) {
            // What could not be sent to one destination at all goes to the next with the same name.
            view.branches.remove(&branch);
        }
        match request.method() {
            "ACK" => self.ack_sent(call, cause, request, sent, &branch, number),
            "CANCEL" => self.cancel_sent(call, request, sent, &branch, number),
            method if self.nodes[call.node].branches.contains_key(&branch) => {
                self.request_repeated(call, method, sent, &branch, number);
            }
            method => self.request_forwarded(call, request, method, sent, branch, number),
        }
    }

    fn request_forwarded(
        &mut self,
        call: &CoreCall<'_>,
        request: &Message<'_>,
        method: &str,
        sent: &Sent,
        branch: String,
        number: usize,
    ) {
        self.seen.requests_forwarded += 1;
        let key = server_key(request, 1, method).unwrap_or_default();
        let view = &mut self.nodes[call.node];
        let Some(server) = view.servers.get_mut(&key) else {
            let what = request.start.to_owned();
            return self.fail("what is sent on was received", Some(number), what);
        };
        if server.branches.is_empty() {
            // Refused without a transaction, while there was no contact or no room; and now there is.
            (server.answered, server.acked, server.repeated) = (None, None, None);
            server.finals.clear();
        }
        let others = server.branches.clone();
        if !others.contains(&branch) {
            server.branches.push(branch.clone());
        }
        let (stored, source) = (Rc::clone(&server.request), server.flow.peer);
        let is_answered = !server.finals.is_empty();
        let is_fork = server.branches.len() > 1;
        let wants_cancel = server.is_cancelled;
        let addresses = view.addresses.clone();
        for other in &others {
            // The contacts of the next q, or another destination: these have had their time.
            let wait = view.ring.min(view.failover);
            if let Some(other) = view.branches.get_mut(other)
                && call.now + Duration::from_millis(1) >= other.opened + wait
            {
                other.may_cancel = true;
                // A request other than INVITE cannot be cancelled: it may have been given up.
                other.is_broken |= method != "INVITE" && !other.has_provisional;
            }
        }
        view.branches.insert(
            branch,
            BranchView {
                server: key,
                method: method.to_owned(),
                flow: sent.flow,
                request: Rc::clone(&sent.bytes),
                opened: call.now,
                last_sent: call.now,
                interval: T1,
                rang: None,
                has_provisional: false,
                first_heard: None,
                ended: None,
                cancelled: None,
                wants_cancel,
                may_cancel: false,
                is_broken: sent.error.is_some(),
            },
        );
        self.seen.forks += u64::from(is_fork);
        if is_answered {
            let what = request.start.to_owned();
            self.fail(
                "a request that was answered is not sent on",
                Some(number),
                what,
            );
        }
        self.check_forwarded(&stored, request, &addresses, source, number);
    }

    /// What was changed on the way through: nothing but what must be.
    fn check_forwarded(
        &mut self,
        received: &[u8],
        sent: &Message<'_>,
        own: &[SocketAddr],
        source: SocketAddr,
        number: usize,
    ) {
        let Some(received) = Message::parse(received) else {
            return;
        };
        if let Err(what) = untouched::request(&received, sent, own, source) {
            self.fail("what need not change leaves as it came", Some(number), what);
        }
        let (before, after) = (
            received.number(Name::MaxForwards),
            sent.number(Name::MaxForwards),
        );
        let expected = before.map_or(Some(70), |hops| hops.checked_sub(1));
        if after != expected || after.is_none() {
            let what = format!("{before:?} came, {after:?} went");
            self.fail("Max-Forwards decreases", Some(number), what);
        }
    }

    fn request_repeated(
        &mut self,
        call: &CoreCall<'_>,
        method: &str,
        sent: &Sent,
        name: &str,
        number: usize,
    ) {
        self.seen.retransmissions += 1;
        let Some(branch) = self.nodes[call.node].branches.get_mut(name) else {
            return;
        };
        let waited = call.now.since(branch.last_sent);
        let expected = branch.interval;
        let is_late = waited > expected + LATE;
        let is_early = waited + LATE < expected;
        let is_same = branch.request == sent.bytes && branch.flow == sent.flow;
        let is_over = branch.ended.is_some() || (method == "INVITE" && branch.has_provisional);
        let is_reliable = branch.is_reliable();
        branch.last_sent = call.now;
        branch.interval = if method == "INVITE" {
            expected.doubled()
        } else if branch.has_provisional {
            T2
        } else {
            expected.doubled().min(T2)
        };
        if !matches!(call.cause, Cause::Timer) || is_reliable || is_over {
            let what = format!(
                "{method}: by a timer: {}, reliable: {is_reliable}, over: {is_over}",
                matches!(call.cause, Cause::Timer)
            );
            self.fail(
                "a request is repeated by Timer A or E alone",
                Some(number),
                what,
            );
        } else if is_late || is_early {
            let what = format!("{method} after {waited:?} instead of {expected:?}");
            self.fail("Timers A and E keep their intervals", Some(number), what);
        } else if !is_same {
            self.fail(
                "a retransmission is the same to the octet",
                Some(number),
                String::new(),
            );
        }
    }

    fn ack_sent(
        &mut self,
        call: &CoreCall<'_>,
        cause: Option<&Message<'_>>,
        ack: &Message<'_>,
        sent: &Sent,
        name: &str,
        number: usize,
    ) {
        let view = &self.nodes[call.node];
        if let Some(branch) = view.branches.get(name) {
            let is_answer = cause.is_some_and(|cause| {
                cause.status() >= 300
                    && cause.method() == "INVITE"
                    && cause.first(Name::To) == ack.first(Name::To)
            });
            if !is_answer || branch.flow != sent.flow || !is_of(ack, &branch.request) {
                let what = ack.start.to_owned();
                self.fail(
                    "an ACK belongs to its INVITE and its response",
                    Some(number),
                    what,
                );
            }
            return;
        }
        // That of a 2xx: sent on without a transaction, at once or when its next hop was found.
        let arrived = cause.filter(|cause| cause.is_request() && cause.method() == "ACK");
        let received = match (arrived, call.cause) {
            (Some(arrived), Cause::Datagram(packet, _)) => {
                Some((Rc::from(arrived.bytes), packet.from))
            }
            (_, Cause::Notice) => {
                let waiting = view.waiting.iter().position(|(bytes, _)| {
                    Message::parse(bytes).is_some_and(|waiting| {
                        server_key(&waiting, 0, "ACK") == server_key(ack, 1, "ACK")
                    })
                });
                waiting.map(|at| self.nodes[call.node].waiting.remove(at))
            }
            (_, Cause::Datagram(..) | Cause::Timer | Cause::Unreachable(_)) => None,
        };
        let Some((bytes, source)) = received else {
            let what = ack.start.to_owned();
            return self.fail(
                "an ACK to a 2xx is sent on when it comes",
                Some(number),
                what,
            );
        };
        let own = self.nodes[call.node].addresses.clone();
        self.check_forwarded(&bytes, ack, &own, source, number);
    }

    fn cancel_sent(
        &mut self,
        call: &CoreCall<'_>,
        cancel: &Message<'_>,
        sent: &Sent,
        name: &str,
        number: usize,
    ) {
        let key = format!("{name} CANCEL");
        if self.nodes[call.node].branches.contains_key(&key) {
            return self.request_repeated(call, "CANCEL", sent, &key, number);
        }
        self.seen.cancels += 1;
        let is_serial = self.is_replaced(call, name);
        let view = &mut self.nodes[call.node];
        let (timer_c, ring, failover) = (view.timer_c, view.ring, view.failover);
        let Some(branch) = view.branches.get_mut(name) else {
            return self.fail("a CANCEL belongs to an INVITE", Some(number), String::new());
        };
        let is_right = branch.flow == sent.flow && is_of(cancel, &branch.request);
        let silent_for = call.now.since(branch.rang.unwrap_or(branch.opened));
        let is_timer_c = silent_for + Duration::from_millis(1) >= timer_c;
        // Others were to be tried in its place while it was silent.
        let wait = ring.min(failover);
        let is_late = branch.first_heard == Some(call.now) && call.now >= branch.opened + wait;
        let is_wanted_no_more = branch.wants_cancel || branch.may_cancel || is_serial || is_late;
        let is_due = is_wanted_no_more || is_timer_c;
        let may_be = branch.has_provisional && branch.ended.is_none();
        branch.cancelled = Some(call.now);
        let server = branch.server.clone();
        view.branches.insert(
            key,
            BranchView {
                server,
                method: "CANCEL".to_owned(),
                flow: sent.flow,
                request: Rc::clone(&sent.bytes),
                opened: call.now,
                last_sent: call.now,
                interval: T1,
                rang: None,
                has_provisional: false,
                first_heard: None,
                ended: None,
                cancelled: None,
                wants_cancel: false,
                may_cancel: false,
                is_broken: sent.error.is_some(),
            },
        );
        self.seen.timer_c += u64::from(is_timer_c);
        if !is_right {
            let what = cancel.start.to_owned();
            self.fail("a CANCEL is like its INVITE", Some(number), what);
        } else if !may_be {
            let what = "before a provisional response, or after a final one".to_owned();
            self.fail("a CANCEL is sent when it may be", Some(number), what);
        } else if !is_due {
            let what = format!("{silent_for:?} after the last sign of life");
            self.fail("nothing is cancelled without a cause", Some(number), what);
        }
    }
}

impl Monitor {
    /// Whether other contacts or destinations are tried in the place of this branch, in this very call.
    fn is_replaced(&self, call: &CoreCall<'_>, name: &str) -> bool {
        let view = &self.nodes[call.node];
        let Some(branch) = view.branches.get(name) else {
            return false;
        };
        let is_new = |sent: &Sent| {
            Message::parse(&sent.bytes).is_some_and(|message| {
                let known = message.top_via().and_then(|via| via.branch());
                message.is_request()
                    && !matches!(message.method(), "CANCEL" | "ACK")
                    && known.is_some_and(|known| !view.branches.contains_key(known))
                    && server_key(&message, 1, "INVITE").as_ref() == Some(&branch.server)
            })
        };
        let wait = view.ring.min(view.failover);
        let has_rung_out = |other: &String| {
            view.branches.get(other).is_some_and(|other| {
                let since = call.now.since(other.first_heard.unwrap_or(other.opened));
                since + Duration::from_millis(1) >= view.ring && since <= view.ring + LATE
            })
        };
        let server = view.servers.get(&branch.server);
        matches!(call.cause, Cause::Timer)
            && call.now + Duration::from_millis(1) >= branch.opened + wait
            && (call.questions > 0
                || call.sent.iter().any(is_new)
                // What is next could not even be tried.
                || server.is_some_and(|server| server.branches.iter().any(has_rung_out)))
    }
}

/// RFC 3261 9.1 and 17.1.1.3: Request-URI, Call-ID, From, CSeq number, the topmost Via alone, and the Routes are the INVITE's.
fn is_of(request: &Message<'_>, invite: &[u8]) -> bool {
    Message::parse(invite).is_some_and(|invite| {
        let same = |name| request.first(name) == invite.first(name);
        request.uri() == invite.uri()
            && same(Name::CallId)
            && same(Name::From)
            && request.cseq() == invite.cseq()
            && request.values(Name::Via).next() == invite.values(Name::Via).next()
            && request.values(Name::Via).count() == 1
            && request.values(Name::Route).eq(invite.values(Name::Route))
            && (request.method() == "ACK" || same(Name::To))
    })
}
