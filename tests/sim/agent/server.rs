//! Server transactions (RFC 3261 17.2 with RFC 6026), and the callee above them.

use std::net::SocketAddr;

use strowger::time::{Duration, Instant};

use super::super::message::{Message, Name, uri_of};
use super::{Agent, Context, T1, T1_64, T2, T4, Timer};

/// A server transaction. It is never removed; one that is over matches nothing.
pub(super) struct Server {
    call: usize,
    key: String,
    is_invite: bool,
    state: ServerState,
    request: Vec<u8>,
    from: SocketAddr,
    response: Option<Vec<u8>>,
    to_tag: String,
    /// What it will answer, and how long after what came before.
    plan: Vec<(Duration, u16)>,
    interval: Duration,
    dialog: Option<usize>,
    accepted: Option<Instant>,
    heeds_cancel: bool,
    is_acked: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ServerState {
    Proceeding,
    Completed,
    Confirmed,
    Accepted,
    Over,
}

impl Agent {
    /// A request arrives.
    pub(super) fn on_request(
        &mut self,
        request: &Message<'_>,
        from: SocketAddr,
        ctx: &mut Context<'_>,
    ) {
        let Some(call) = ctx.ledger.call_of(request.bytes) else {
            // A keepalive is of no call.
            if request.method() == "OPTIONS" {
                let status = ctx.random.pick(&[200, 404, 486]);
                let answer = self.response(request, status, "alive", "", ctx);
                ctx.send(from, &answer);
            }
            return;
        };
        let is_trusted = !ctx.ledger.record(call).is_tainted;
        if is_trusted && !ctx.ledger.has_tainted_bindings && request.uri() != self.contact() {
            let what = format!("{} came to {}", request.start, self.contact());
            ctx.complain("a request reaches the contact that it names", call, what);
        }
        let method = request.method();
        let known = self.server_of(request, method);
        match (method, known) {
            ("ACK", _) => self.on_ack(request, ctx),
            (_, Some(place)) => self.on_repeated(place, ctx),
            ("CANCEL", None) => self.on_cancel(call, request, from, ctx),
            ("INVITE", None) => self.on_invite(call, request, from, ctx),
            (_, None) => self.on_other(call, request, from, ctx),
        }
    }

    fn server_of(&self, request: &Message<'_>, method: &str) -> Option<usize> {
        let key = key(request, method);
        let mut servers = self.servers.iter();
        servers.position(|server| server.key == key && server.state != ServerState::Over)
    }

    fn on_repeated(&self, place: usize, ctx: &mut Context<'_>) {
        let server = &self.servers[place];
        if matches!(
            server.state,
            ServerState::Proceeding | ServerState::Completed
        ) && let Some(response) = &server.response
        {
            ctx.send(server.from, response);
        }
    }

    fn on_invite(
        &mut self,
        call: usize,
        request: &Message<'_>,
        from: SocketAddr,
        ctx: &mut Context<'_>,
    ) {
        let dialog = self.dialog_of(request);
        // RFC 3261 8.2.2.2: the same request by another way.
        let is_merged = request.tag(Name::To).is_none()
            && self.servers.iter().any(|server| {
                server.is_invite
                    && Message::parse(&server.request).is_some_and(|other| {
                        other.call_id() == request.call_id()
                            && other.cseq() == request.cseq()
                            && other.tag(Name::From) == request.tag(Name::From)
                            && other.tag(Name::To).is_none()
                            && server.state != ServerState::Over
                    })
            });
        let plan = if request.tag(Name::To).is_some() {
            let status = match dialog {
                Some(_) => ctx.random.pick(&[200, 200, 200, 488]),
                None => 481,
            };
            vec![(ctx.random.millis(0, 3_000), status)]
        } else if is_merged {
            vec![(Duration::ZERO, 482)]
        } else {
            self.plan_of_call(ctx)
        };
        if plan.last().is_none_or(|(_, status)| *status < 200) {
            ctx.ledger.record_mut(call).is_silent = true;
        }
        let place = self.open_server(call, request, from, plan, ctx);
        self.servers[place].dialog = dialog;
    }

    /// What an INVITE outside a dialog will be answered.
    fn plan_of_call(&self, ctx: &mut Context<'_>) -> Vec<(Duration, u16)> {
        let lot = ctx.random.below(1_000);
        let habits = &self.habits;
        let mut plan = Vec::new();
        if lot < habits.silent_permille {
            return plan;
        }
        if ctx.random.chance(300) {
            plan.push((ctx.random.millis(0, 100), 100));
        }
        for _ in 0..ctx.random.below(3) {
            let status = ctx.random.pick(&[180, 183, 181]);
            plan.push((ctx.random.millis(1, 2_000), status));
        }
        let lot = lot - habits.silent_permille;
        if lot < habits.ring_permille {
            plan.push((ctx.random.millis(1, 2_000), 180));
            return plan;
        }
        if ctx.random.chance(50) {
            // Rings for minutes, and says so every minute (RFC 3261 13.3.1.1).
            plan.push((ctx.random.millis(1, 2_000), 180));
            for _ in 0..ctx.random.range(1, 5) {
                plan.push((Duration::from_secs(55), 180));
            }
        }
        let lot = lot - habits.ring_permille;
        let status = if lot < habits.refuse_permille {
            ctx.random.pick(REFUSALS)
        } else {
            200
        };
        // Several phones of one user answer at the same moment now and then.
        let span = if ctx.random.chance(300) {
            Duration::from_secs(1)
        } else {
            ctx.random.millis(0, 12_000)
        };
        plan.push((span, status));
        plan
    }

    fn on_other(
        &mut self,
        call: usize,
        request: &Message<'_>,
        from: SocketAddr,
        ctx: &mut Context<'_>,
    ) {
        let dialog = self.dialog_of(request);
        let method = request.method();
        let mut plan = Vec::new();
        let is_in_dialog = request.tag(Name::To).is_some();
        if is_in_dialog && dialog.is_none() {
            plan.push((Duration::ZERO, 481));
        } else if method == "BYE" || ctx.random.below(1_000) >= self.habits.silent_permille {
            if ctx.random.chance(100) {
                // RFC 4320 4.1 forbids the second to be sent on.
                plan.push((ctx.random.millis(0, 5_000), ctx.random.pick(&[100, 183])));
            }
            let status = if method != "BYE" && ctx.random.chance(self.habits.refuse_permille) {
                ctx.random.pick(PLAIN_REFUSALS)
            } else {
                200
            };
            // RFC 4320 4.2: no proxy sends that on.
            ctx.ledger.record_mut(call).is_silent |= status == 408;
            plan.push((ctx.random.millis(0, 1_500), status));
        } else {
            ctx.ledger.record_mut(call).is_silent = true;
        }
        if let Some(dialog) = dialog.filter(|_| method == "BYE") {
            self.end_dialog(dialog);
        }
        self.open_server(call, request, from, plan, ctx);
    }

    fn on_cancel(
        &mut self,
        call: usize,
        request: &Message<'_>,
        from: SocketAddr,
        ctx: &mut Context<'_>,
    ) {
        let invite = self.server_of(request, "INVITE");
        if let Some(invite) = invite
            && !self.servers[invite].heeds_cancel
        {
            ctx.ledger.record_mut(call).is_silent = true;
            return;
        }
        let status = if invite.is_some() { 200 } else { 481 };
        let place = self.open_server(call, request, from, Vec::new(), ctx);
        if let Some(invite) = invite {
            self.servers[place].to_tag = self.servers[invite].to_tag.clone();
        }
        self.respond(place, status, ctx);
        if let Some(invite) = invite
            && self.servers[invite].state == ServerState::Proceeding
        {
            // Someone may have answered in that very moment.
            let status = if ctx.random.chance(100) { 200 } else { 487 };
            self.servers[invite].plan.clear();
            self.respond(invite, status, ctx);
        }
    }

    fn on_ack(&mut self, request: &Message<'_>, ctx: &mut Context<'_>) {
        if let Some(place) = self.server_of(request, "INVITE") {
            let server = &mut self.servers[place];
            if server.state == ServerState::Completed {
                server.state = ServerState::Confirmed;
                ctx.wait(T4, Timer::Close(place));
            }
            return;
        }
        let Some(dialog) = self.dialog_of(request) else {
            return;
        };
        let acked = self.servers.iter_mut().find(|server| {
            server.dialog == Some(dialog)
                && server.accepted.is_some()
                && Message::parse(&server.request)
                    .is_some_and(|invite| invite.cseq() == request.cseq())
        });
        if let Some(server) = acked {
            server.is_acked = true;
        }
    }

    fn open_server(
        &mut self,
        call: usize,
        request: &Message<'_>,
        from: SocketAddr,
        mut plan: Vec<(Duration, u16)>,
        ctx: &mut Context<'_>,
    ) -> usize {
        let place = self.servers.len();
        plan.reverse();
        if let Some((span, _)) = plan.last() {
            ctx.wait(*span, Timer::Answer(place));
        }
        let to_tag = self.new_tag();
        let method = request.method();
        self.servers.push(Server {
            call,
            key: key(request, method),
            is_invite: method == "INVITE",
            state: ServerState::Proceeding,
            request: request.bytes.to_vec(),
            from,
            response: None,
            to_tag,
            plan,
            interval: T1,
            dialog: None,
            accepted: None,
            heeds_cancel: !ctx.random.chance(70),
            is_acked: false,
        });
        place
    }

    pub(super) fn answer_next(&mut self, place: usize, ctx: &mut Context<'_>) {
        let server = &mut self.servers[place];
        let Some((_, status)) = server.plan.pop() else {
            return;
        };
        if let Some((span, _)) = server.plan.last() {
            ctx.wait(*span, Timer::Answer(place));
        }
        if server.state == ServerState::Proceeding {
            self.respond(place, status, ctx);
        }
    }

    fn respond(&mut self, place: usize, status: u16, ctx: &mut Context<'_>) {
        let bytes = self.servers[place].request.clone();
        let request = Message::parse(&bytes).expect("it was read before");
        let (is_invite, tag) = (
            self.servers[place].is_invite,
            self.servers[place].to_tag.clone(),
        );
        let mut extra = String::new();
        if is_invite && (101..300).contains(&status) {
            extra = format!("Contact: <{}>\r\n", self.contact());
        } else if (300..400).contains(&status) {
            extra = "Contact: <sip:elsewhere@198.18.0.1>\r\n".to_owned();
        } else if status == 401 || status == 407 {
            let name = if status == 401 { "WWW" } else { "Proxy" };
            extra = format!(
                "{name}-Authenticate: Digest realm=\"{}\", nonce=\"{tag}\"\r\n",
                self.user
            );
        }
        if is_invite && (200..300).contains(&status) && self.servers[place].dialog.is_none() {
            let dialog = self.open_as_callee(self.servers[place].call, &request, &tag);
            self.servers[place].dialog = Some(dialog);
            if ctx.random.chance(400) {
                Self::talk_later(dialog, ctx);
            }
        }
        let response = self.response(&request, status, &tag, &extra, ctx);
        let server = &mut self.servers[place];
        ctx.send(server.from, &response);
        server.response = Some(response);
        let is_reliable = self.transport.is_reliable();
        match (is_invite, status) {
            (_, ..=199) => {}
            (true, ..=299) => {
                server.state = ServerState::Accepted;
                server.accepted = Some(ctx.now);
                ctx.wait(T1_64, Timer::Close(place));
                // RFC 3261 13.3.1.4: over any transport.
                ctx.wait(T1, Timer::RepeatSuccess(place));
            }
            (true, _) => {
                server.state = ServerState::Completed;
                ctx.wait(T1_64, Timer::Close(place));
                if !is_reliable {
                    ctx.wait(T1, Timer::Repeat(place));
                }
            }
            (false, _) => {
                server.state = ServerState::Completed;
                ctx.wait(T1_64, Timer::Close(place));
            }
        }
    }

    pub(super) fn repeat(&mut self, place: usize, ctx: &mut Context<'_>) {
        let server = &mut self.servers[place];
        if server.state == ServerState::Completed
            && let Some(response) = &server.response
        {
            ctx.send(server.from, response);
            server.interval = server.interval.doubled().min(T2);
            ctx.wait(server.interval, Timer::Repeat(place));
        }
    }

    pub(super) fn repeat_success(&mut self, place: usize, ctx: &mut Context<'_>) {
        let server = &mut self.servers[place];
        let (Some(accepted), Some(response)) = (server.accepted, &server.response) else {
            return;
        };
        if server.is_acked {
            return;
        }
        if ctx.now.since(accepted) < T1_64 {
            ctx.send(server.from, response);
            server.interval = server.interval.doubled().min(T2);
            return ctx.wait(server.interval, Timer::RepeatSuccess(place));
        }
        let record = ctx.ledger.record(server.call);
        let is_excused = record.is_tainted
            || record.is_disturbed
            || record.is_silent
            || record.is_refused
            || record.lost >= ACKS_LOST_MAX;
        let (call, dialog) = (server.call, server.dialog);
        if !is_excused {
            let contact = Message::parse(&server.request).map_or_else(String::new, |request| {
                uri_of(request.first(Name::From).unwrap_or_default()).to_owned()
            });
            let what = format!("a 2xx to {contact} was never acknowledged");
            ctx.complain("a 2xx and its ACK go from end to end", call, what);
        }
        // RFC 3261 13.3.1.4: the session is ended.
        if let Some(dialog) = dialog {
            self.hang_up(dialog, ctx);
        }
    }

    pub(super) fn close(&mut self, place: usize) {
        self.servers[place].state = ServerState::Over;
    }
}

/// RFC 3261 17.2.3.
fn key(request: &Message<'_>, method: &str) -> String {
    let via = request.top_via();
    let branch = via.and_then(|via| via.branch()).unwrap_or_default();
    let sent_by = via.map(|via| via.sent_by).unwrap_or_default();
    format!("{branch} {sent_by} {method}")
}

const REFUSALS: &[u16] = &[
    302, 401, 403, 404, 407, 408, 480, 486, 486, 488, 500, 503, 503, 600, 603, 606,
];
const PLAIN_REFUSALS: &[u16] = &[202, 302, 404, 405, 408, 481, 500, 503, 603];
/// So many losses excuse a 2xx without its ACK: those of its own copies, or those that made it come too late.
const ACKS_LOST_MAX: u32 = 5;
