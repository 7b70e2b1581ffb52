//! Rules about responses: those that a node received, and those that it sent.

use std::rc::Rc;

use super::super::ledger::Ledger;
use super::super::message::{Message, Name, Via};
use super::super::node::Sent;
use super::untouched;
use super::{Cause, CoreCall, LATE, Monitor, T1, T2, server_key};

impl Monitor {
    pub(super) fn response_arrived(
        &mut self,
        call: &CoreCall<'_>,
        response: &Message<'_>,
        ledger: &Ledger,
    ) {
        let number = ledger.call_of(response.bytes).unwrap_or_default();
        let (status, method) = (response.status(), response.method());
        let top = response.top_via();
        let mut name = top
            .and_then(|via| via.branch())
            .unwrap_or_default()
            .to_owned();
        if method == "CANCEL" {
            name.push_str(" CANCEL");
        }
        let view = &self.nodes[call.node];
        let known = view
            .branches
            .get(&name)
            .filter(|branch| branch.method == method);
        let Some(branch) = known else {
            if !call.sent.is_empty() {
                let what = format!("{} was acted upon", response.start);
                self.fail(
                    "a response that matches nothing is dropped",
                    Some(number),
                    what,
                );
            }
            return;
        };
        let lives = branch.surely_lives(call.now, view.timer_c);
        let (server, had_ended) = (branch.server.clone(), branch.ended);
        let is_answered = view
            .servers
            .get(&server)
            .is_none_or(|server| !server.finals.is_empty());
        let upward = count(call, |sent| !sent.is_request() && sent.status() == status);
        let must = match status {
            _ if method == "CANCEL" || status == 100 => Some(0),
            101..=199 if method != "INVITE" => Some(0),
            101..=199 => (lives && !is_answered && had_ended.is_none()).then_some(1),
            200..=299 if method == "INVITE" => lives.then_some(1),
            200..=299 => (lives && !is_answered && had_ended.is_none()).then_some(1),
            _ => None,
        };
        if upward > 1 || must.is_some_and(|must| must != upward) {
            let what = format!(
                "{} for {method} was sent on {upward} times instead of {must:?}",
                response.start
            );
            self.fail(
                "a response is sent on once, where it is to be",
                Some(number),
                what,
            );
        }
        self.check_repeated_in_time(call, &name, number);
        self.note_response(call, &name, status, lives);
        if status >= 300 && method == "INVITE" {
            self.check_acknowledged(call, &name, had_ended, lives, number);
        }
        if method == "INVITE" && (status >= 600 || (200..300).contains(&status)) {
            self.want_cancels(call.node, &server, lives);
        }
        self.observe_sent(call, Some(response), ledger);
        self.check_cancelled(call, &server, number);
        if status >= 200 && method != "CANCEL" {
            self.check_concluded(call, &server, number);
        }
    }

    fn note_response(&mut self, call: &CoreCall<'_>, name: &str, status: u16, lives: bool) {
        let Some(branch) = self.nodes[call.node].branches.get_mut(name) else {
            return;
        };
        // It may have come after the end, or before it: from now on nothing is sure of this branch.
        branch.is_broken |= !lives && branch.ended.is_none();
        if status >= 200 {
            branch.ended.get_or_insert((status, call.now));
            return;
        }
        branch.has_provisional = true;
        branch.first_heard.get_or_insert(call.now);
        if status > 100 {
            branch.rang = Some(call.now);
        }
    }

    /// Until something came back, the request was to be repeated.
    fn check_repeated_in_time(&mut self, call: &CoreCall<'_>, name: &str, number: usize) {
        let Some(branch) = self.nodes[call.node].branches.get(name) else {
            return;
        };
        let is_sent_once = self.nodes[call.node].is_tight && branch.method == "CANCEL";
        let is_over =
            branch.ended.is_some() || branch.is_broken || branch.is_reliable() || is_sent_once;
        let is_proceeding = branch.method == "INVITE" && branch.has_provisional;
        let is_due = !is_over
            && !is_proceeding
            && call.now < branch.opened + super::T1_64
            && call.now.since(branch.last_sent) > branch.interval + LATE;
        if is_due {
            let what = format!(
                "{} was not repeated for {:?}",
                branch.method,
                call.now.since(branch.last_sent)
            );
            self.fail(
                "Timers A and E repeat what is unanswered",
                Some(number),
                what,
            );
        }
    }

    /// RFC 3261 17.1.1.2: each copy of a failure is acknowledged.
    fn check_acknowledged(
        &mut self,
        call: &CoreCall<'_>,
        name: &str,
        had_ended: Option<(u16, strowger::time::Instant)>,
        lives: bool,
        number: usize,
    ) {
        let acks = count(call, |sent| sent.is_request() && sent.method() == "ACK");
        let must = match had_ended {
            None => lives,
            Some((status, at)) => {
                let is_reliable = self.nodes[call.node].branches[name].is_reliable();
                let is_broken = self.nodes[call.node].branches[name].is_broken;
                status >= 300 && !is_reliable && !is_broken && call.now + LATE < at + super::T1_64
            }
        };
        if acks > 1 || (must && acks == 0) {
            let what = format!("{acks} ACKs");
            self.fail(
                "a failure is acknowledged, each copy of it",
                Some(number),
                what,
            );
        }
    }

    /// RFC 3261 16.7 steps 5 and 6: when every branch has ended, the request is answered, and with the best there is.
    fn check_concluded(&mut self, call: &CoreCall<'_>, key: &str, number: usize) {
        let view = &self.nodes[call.node];
        let Some(server) = view.servers.get(key) else {
            return;
        };
        let statuses: Option<Vec<u16>> = server
            .branches
            .iter()
            .map(|branch| view.branches.get(branch).filter(|branch| !branch.is_broken))
            .map(|branch| Some(branch?.ended?.0))
            .collect();
        let Some(statuses) = statuses else {
            return;
        };
        let is_invite = server.method == "INVITE";
        let all_silent = !is_invite && statuses.iter().all(|status| *status == 408);
        if server.finals.is_empty() && !all_silent && !server.has_asked {
            let what = format!("the branches ended with {statuses:?}");
            self.fail(
                "a request whose branches have ended is answered",
                Some(number),
                what,
            );
        }
    }

    pub(super) fn response_sent(
        &mut self,
        call: &CoreCall<'_>,
        cause: Option<&Message<'_>>,
        response: &Message<'_>,
        sent: &Sent,
        number: usize,
    ) {
        let (status, method) = (response.status(), response.method());
        let forwarded = cause.filter(|cause| !cause.is_request() && cause.status() == status);
        if let Some(received) = forwarded {
            self.seen.responses_forwarded += 1;
            self.seen.successes_forwarded += u64::from(method == "INVITE" && status / 100 == 2);
            let key = server_key(response, 0, method).unwrap_or_default();
            let server = self.nodes[call.node].servers.get(&key);
            // Of several failures another one may be the best.
            let is_only =
                server.is_some_and(|server| server.branches.len() == 1 && !server.has_asked);
            if let Err(what) = untouched::response(received, response)
                && (status < 300 || is_only)
            {
                self.fail("what need not change leaves as it came", Some(number), what);
            }
        }
        if status == 408 && method != "INVITE" {
            self.fail(
                "no 408 to a request other than INVITE",
                Some(number),
                String::new(),
            );
        }
        if method == "ACK" {
            self.fail("an ACK is not answered", Some(number), String::new());
        }
        self.check_way_back(call, response, sent, number);
        self.check_to_tag(call, cause, response, number);
        if status >= 200 {
            self.final_sent(call, response, sent, number);
        }
    }

    /// A response goes where the topmost Via says, with the Vias that its request had.
    fn check_way_back(
        &mut self,
        call: &CoreCall<'_>,
        response: &Message<'_>,
        sent: &Sent,
        number: usize,
    ) {
        let key = server_key(response, 0, response.method()).unwrap_or_default();
        let Some(top) = response.top_via() else {
            return self.fail("a response has a Via", Some(number), String::new());
        };
        let view = &self.nodes[call.node];
        let Some(server) = view.servers.get(&key) else {
            if response.method() != "CANCEL" {
                let what = response.start.to_owned();
                self.fail("a response answers what was received", Some(number), what);
            }
            return;
        };
        let request = Message::parse(&server.request).expect("it was read before");
        let asked: Vec<String> = request
            .values(Name::Via)
            .map(|via| Via::new(via).bare())
            .collect();
        let given: Vec<String> = response
            .values(Name::Via)
            .map(|via| Via::new(via).bare())
            .collect();
        if asked != given {
            let what = format!("{asked:?} {given:?}");
            return self.fail("a response has the Vias of its request", Some(number), what);
        }
        // A phone that hides behind a NAT is answered there though it did not ask for it.
        let is_back = sent.flow.peer == server.flow.peer;
        if !is_back && top.response_address() != Some(sent.flow.peer) {
            let what = format!("to {}", sent.flow.peer);
            self.fail(
                "a response goes back where its request came from",
                Some(number),
                what,
            );
        }
    }

    fn check_to_tag(
        &mut self,
        call: &CoreCall<'_>,
        cause: Option<&Message<'_>>,
        response: &Message<'_>,
        number: usize,
    ) {
        if response.status() == 100 {
            return;
        }
        let key = server_key(response, 0, response.method()).unwrap_or_default();
        let Some(server) = self.nodes[call.node].servers.get(&key) else {
            return;
        };
        let request = Message::parse(&server.request).expect("it was read before");
        let (asked, given) = (request.tag(Name::To), response.tag(Name::To));
        let received = cause
            .filter(|cause| !cause.is_request())
            .and_then(|cause| cause.tag(Name::To));
        let is_other = received.is_some()
            && cause.is_some_and(|cause| cause.status() == response.status())
            && received != given;
        if given.is_none()
            || (asked.is_some() && asked != given)
            || (is_other && response.status() < 300)
        {
            let what = format!("asked {asked:?}, given {given:?}, received {received:?}");
            self.fail("the To tag is the one that it must be", Some(number), what);
        }
    }

    fn final_sent(
        &mut self,
        call: &CoreCall<'_>,
        response: &Message<'_>,
        sent: &Sent,
        number: usize,
    ) {
        let (status, method) = (response.status(), response.method());
        // A REGISTER is answered without a transaction: how long a binding lasts still is said anew each time.
        if matches!(method, "REGISTER" | "CANCEL") {
            return;
        }
        let key = server_key(response, 0, method).unwrap_or_default();
        let Some(server) = self.nodes[call.node].servers.get_mut(&key) else {
            return;
        };
        let is_invite = method == "INVITE";
        let is_known = server.finals.iter().any(|(_, bytes)| *bytes == sent.bytes);
        let success = server.finals.iter().any(|(status, _)| *status < 300);
        let failure = server.finals.iter().any(|(status, _)| *status >= 300);
        if is_known {
            return self.final_repeated(call, &key, status, number);
        }
        server.finals.push((status, Rc::clone(&sent.bytes)));
        server.answered.get_or_insert(call.now);
        if server.branches.is_empty() {
            server.acked = None;
        }
        if is_invite && status >= 300 {
            server.repeated = Some((call.now, T1));
        }
        let is_second = match (is_invite, status) {
            (true, ..=299) => false,
            (true, _) => success || failure,
            (false, _) => success || failure,
        };
        // Without a branch each copy is answered anew, and a user may have come or gone in between.
        if is_second && !server.branches.is_empty() {
            let all: Vec<u16> = server.finals.iter().map(|(status, _)| *status).collect();
            let what = format!("{method}: {all:?}");
            self.fail(
                "one final response, but for 2xx to INVITE",
                Some(number),
                what,
            );
        }
        self.check_best(call, &key, status, number);
    }

    /// RFC 3261 17.2.1: a failure is repeated by Timer G until its ACK, and to each copy of the INVITE.
    fn final_repeated(&mut self, call: &CoreCall<'_>, key: &str, status: u16, number: usize) {
        let Some(server) = self.nodes[call.node].servers.get_mut(key) else {
            return;
        };
        if !matches!(call.cause, Cause::Timer) || status < 300 || server.method != "INVITE" {
            return;
        }
        let Some((at, interval)) = server.repeated else {
            return;
        };
        server.repeated = Some((call.now, interval.doubled().min(T2)));
        let waited = call.now.since(at);
        let is_reliable = server.flow.transport.is_reliable();
        if server.acked.is_some() || is_reliable {
            let what = format!("acknowledged: {:?}", server.acked);
            self.fail("Timer G ends with the ACK", Some(number), what);
        } else if waited + LATE < interval || waited > interval + LATE {
            let what = format!("after {waited:?} instead of {interval:?}");
            self.fail("Timer G keeps its intervals", Some(number), what);
        }
    }

    /// RFC 3261 16.7 step 6: a 6xx if there is one, else a response of the lowest class; 503 is not passed on.
    fn check_best(&mut self, call: &CoreCall<'_>, key: &str, status: u16, number: usize) {
        let view = &self.nodes[call.node];
        let Some(server) = view
            .servers
            .get(key)
            .filter(|server| !server.branches.is_empty())
        else {
            return;
        };
        if status < 300 {
            return;
        }
        let branches = || {
            server
                .branches
                .iter()
                .filter_map(|name| view.branches.get(name))
        };
        // RFC 4320 4.2: a 408 is no answer to a request other than INVITE.
        let counts = |status: u16| status != 408 || server.method == "INVITE";
        let statuses = |surely: bool| -> Vec<u16> {
            branches()
                .filter(|branch| !surely || !branch.is_broken)
                .filter_map(|branch| branch.ended.map(|(status, _)| status))
                .filter(|status| counts(*status))
                .collect()
        };
        let (sure, ended) = (statuses(true), statuses(false));
        let has_final = |class: u16| sure.iter().any(|status| status / 100 == class);
        let pending = branches()
            .any(|branch| branch.ended.is_none() && branch.surely_lives(call.now, view.timer_c));
        let best = if has_final(6) {
            Some(6)
        } else {
            (3..6).find(|class| has_final(*class))
        };
        // Beside what the branches said, we ourselves say 408 and 487 of a silent one, and 500 of one that cannot be reached.
        let is_said = ended.contains(&status) || matches!(status, 408 | 487 | 500);
        let is_best = match best {
            Some(6) => status / 100 == 6,
            Some(class) => is_said && (status / 100 <= class || status / 100 == 6),
            None => is_said,
        };
        if pending || status == 503 || !is_best {
            let what = format!("{status} of {ended:?}, others pending: {pending}");
            self.fail(
                "the best response is sent when all have come",
                Some(number),
                what,
            );
        }
    }
}

fn count(call: &CoreCall<'_>, matches: impl Fn(&Message<'_>) -> bool) -> usize {
    let messages = call
        .sent
        .iter()
        .filter_map(|sent| Message::parse(&sent.bytes));
    messages.filter(|message| matches(message)).count()
}
