//! Client transactions (RFC 3261 17.1 with RFC 6026), and the caller above them.

use std::net::SocketAddr;

use strowger::time::{Duration, Instant};

use super::super::message::{Message, Name, param};
use super::compose::{Request, body};
use super::{Agent, Context, T1, T1_64, T2, T4, Timer};

/// A client transaction. It is never removed, so that whatever comes late is known.
pub(crate) struct Client {
    pub(crate) call: usize,
    pub(crate) method: &'static str,
    pub(crate) state: ClientState,
    pub(crate) purpose: Purpose,
    pub(crate) started: Instant,
    pub(crate) ended: Option<Instant>,
    /// The final responses that came, each once: status and To tag.
    pub(crate) finals: Vec<(u16, String)>,
    /// When the caller gave up, if it did.
    pub(crate) cancelled: Option<Instant>,
    /// Whether it was a provisional response short of a CANCEL.
    wants_cancel: bool,
    pub(super) via: String,
    pub(super) call_id: String,
    pub(super) cseq: u32,
    /// The From tag of its request, and its To tag.
    local_tag: Option<String>,
    remote_tag: Option<String>,
    to: SocketAddr,
    pub(super) request: Vec<u8>,
    interval: Duration,
}

/// Where a client transaction stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClientState {
    Calling,
    Proceeding,
    Completed,
    Accepted,
    /// Over, with a final response or with nothing more to come of one.
    Over,
    /// Over without one: Timer B or F.
    TimedOut,
    /// Given up after a provisional response, without a final one.
    Abandoned,
}

/// What a client transaction is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A call, which the caller may give up.
    Call,
    /// A request outside any dialog.
    Plain,
    /// A request within a dialog, by its place.
    InDialog(usize),
    /// The CANCEL of a call, by its place.
    Cancel(usize),
    /// A REGISTER.
    Register,
}

impl Agent {
    /// Begins a request outside a dialog; gives its place.
    pub(crate) fn begin(
        &mut self,
        method: &'static str,
        uri: &str,
        ctx: &mut Context<'_>,
    ) -> usize {
        let call = ctx.ledger.open(method);
        let call_id = Self::call_id(call, ctx);
        let tag = self.new_tag();
        let from = format!("<sip:{}@example.com>;tag={tag}", self.user);
        let via = self.via();
        let contact = self.contact();
        let proof = self.proof("Proxy-Authorization", method, uri);
        let text = self.request(
            &Request {
                method,
                uri,
                via: &via,
                from: &from,
                to: &format!("<{uri}>"),
                call_id: &call_id,
                cseq: 1,
                routes: &[],
                extra: &format!("Contact: <{contact}>\r\n{proof}"),
                body: body(ctx.random),
            },
            ctx.random,
        );
        let purpose = if method == "INVITE" {
            Purpose::Call
        } else {
            Purpose::Plain
        };
        let to = self.first_hop;
        let client = self.open_client((call, method, purpose), (via, call_id, 1), to, text, ctx);
        if purpose == Purpose::Call {
            if ctx.random.chance(250) {
                let span = ctx.random.millis(0, 20_000);
                ctx.wait(span, Timer::Cancel(client));
            }
            ctx.wait(PATIENCE, Timer::Impatient(client));
        }
        client
    }

    /// Opens a client transaction and sends its request.
    pub(super) fn open_client(
        &mut self,
        (call, method, purpose): (usize, &'static str, Purpose),
        (via, call_id, cseq): (String, String, u32),
        to: SocketAddr,
        request: Vec<u8>,
        ctx: &mut Context<'_>,
    ) -> usize {
        let place = self.clients.len();
        ctx.send(to, &request);
        if !self.transport.is_reliable() {
            ctx.wait(T1, Timer::Resend(place));
        }
        ctx.wait(T1_64, Timer::GiveUp(place));
        let message = Message::parse(&request).expect("an agent writes good requests");
        let local_tag = message.tag(Name::From).map(str::to_owned);
        let remote_tag = message.tag(Name::To).map(str::to_owned);
        self.clients.push(Client {
            call,
            method,
            state: ClientState::Calling,
            purpose,
            started: ctx.now,
            ended: None,
            finals: Vec::new(),
            cancelled: None,
            wants_cancel: false,
            via,
            call_id,
            cseq,
            local_tag,
            remote_tag,
            to,
            request,
            interval: T1,
        });
        place
    }

    pub(super) fn resend(&mut self, place: usize, ctx: &mut Context<'_>) {
        let client = &mut self.clients[place];
        let is_invite = client.method == "INVITE";
        match client.state {
            ClientState::Calling => {
                client.interval = client.interval.doubled();
                if !is_invite {
                    client.interval = client.interval.min(T2);
                }
            }
            ClientState::Proceeding if !is_invite => client.interval = T2,
            ClientState::Proceeding
            | ClientState::Completed
            | ClientState::Accepted
            | ClientState::Over
            | ClientState::TimedOut
            | ClientState::Abandoned => return,
        }
        ctx.send(client.to, &client.request);
        ctx.wait(client.interval, Timer::Resend(place));
    }

    pub(super) fn give_up(&mut self, place: usize, ctx: &mut Context<'_>) {
        let client = &mut self.clients[place];
        let waits = client.state == ClientState::Calling
            || (client.state == ClientState::Proceeding && client.method != "INVITE");
        if waits {
            client.state = ClientState::TimedOut;
            client.ended = Some(ctx.now);
            self.on_end(place, ctx);
        }
    }

    pub(super) fn forget(&mut self, place: usize) {
        let state = &mut self.clients[place].state;
        if matches!(state, ClientState::Completed | ClientState::Accepted) {
            *state = ClientState::Over;
        }
    }

    /// The caller gives up: at once where there was a provisional response, else when there is one (RFC 3261 9.1).
    pub(super) fn cancel(&mut self, place: usize, ctx: &mut Context<'_>) {
        let state = self.clients[place].state;
        self.clients[place].wants_cancel |= state == ClientState::Calling;
        if state == ClientState::Proceeding {
            self.send_cancel(place, ctx);
        }
    }

    fn send_cancel(&mut self, place: usize, ctx: &mut Context<'_>) {
        if self.clients[place].cancelled.is_some() {
            return;
        }
        let client = &mut self.clients[place];
        client.cancelled = Some(ctx.now);
        let ids = (client.via.clone(), client.call_id.clone(), client.cseq);
        let (call, to) = (client.call, client.to);
        let text = Self::hop_by_hop("CANCEL", client, None);
        ctx.wait(AFTER_CANCEL, Timer::Impatient(place));
        self.open_client((call, "CANCEL", Purpose::Cancel(place)), ids, to, text, ctx);
    }

    pub(super) fn lose_patience(&mut self, place: usize, ctx: &mut Context<'_>) {
        let client = &mut self.clients[place];
        if client.state != ClientState::Proceeding {
            return;
        }
        let long = client
            .cancelled
            .is_some_and(|at| ctx.now.since(at) >= AFTER_CANCEL);
        if long {
            client.state = ClientState::Abandoned;
            client.ended = Some(ctx.now);
        } else if client.cancelled.is_none() {
            let (call, span) = (client.call, PATIENCE.as_secs());
            let record = ctx.ledger.record(call);
            if !record.is_disturbed && !record.is_tainted && record.lost_finals < FINALS_LOST_MAX {
                let what = format!("no final response to INVITE after {span} s");
                ctx.complain("every INVITE ends", call, what);
            }
            self.send_cancel(place, ctx);
        }
    }

    /// A response arrives.
    pub(super) fn on_response(&mut self, response: &Message<'_>, ctx: &mut Context<'_>) {
        let Some(call) = ctx.ledger.call_of(response.bytes) else {
            return;
        };
        let is_trusted = !ctx.ledger.record(call).is_tainted;
        let (method, cseq) = (response.method(), response.cseq());
        let found = self.clients.iter().position(|client| {
            client.call_id == response.call_id()
                && client.method == method
                && client.cseq == cseq
                && client.local_tag.as_deref() == response.tag(Name::From)
                && (client.remote_tag.is_none()
                    || client.remote_tag.as_deref() == response.tag(Name::To))
        });
        let branch = response.top_via().and_then(|via| via.branch());
        let place = found.filter(|place| {
            let own = &self.clients[*place].via;
            param(own, "branch").flatten() == branch && response.values(Name::Via).count() == 1
        });
        let Some(place) = place else {
            if is_trusted {
                let what = format!("{} is no answer to anything sent", response.start);
                ctx.complain("a response reaches whom it is for", call, what);
            }
            return;
        };
        let status = response.status();
        match (status, method) {
            (..=199, _) => self.on_provisional(place, ctx),
            (200..=299, "INVITE") => self.on_success(place, response, ctx),
            (_, "INVITE") => self.on_failure(place, response, ctx),
            _ => self.on_final(place, response, ctx),
        }
    }

    fn on_provisional(&mut self, place: usize, ctx: &mut Context<'_>) {
        let client = &mut self.clients[place];
        if client.state == ClientState::Calling {
            client.state = ClientState::Proceeding;
            if client.wants_cancel {
                self.send_cancel(place, ctx);
            }
        }
    }

    fn on_success(&mut self, place: usize, response: &Message<'_>, ctx: &mut Context<'_>) {
        let is_new = self.note_final(place, response, ctx);
        let client = &mut self.clients[place];
        if matches!(
            client.state,
            ClientState::Calling | ClientState::Proceeding | ClientState::Abandoned
        ) {
            client.state = ClientState::Accepted;
            client.ended.get_or_insert(ctx.now);
            ctx.wait(T1_64, Timer::Forget(place));
        }
        self.acknowledge(place, response, is_new, ctx);
    }

    fn on_failure(&mut self, place: usize, response: &Message<'_>, ctx: &mut Context<'_>) {
        self.note_final(place, response, ctx);
        let client = &mut self.clients[place];
        if client.state == ClientState::Accepted {
            return;
        }
        let ack = Self::hop_by_hop("ACK", client, response.first(Name::To));
        ctx.send(client.to, &ack);
        if matches!(
            client.state,
            ClientState::Calling | ClientState::Proceeding | ClientState::Abandoned
        ) {
            client.state = ClientState::Completed;
            client.ended.get_or_insert(ctx.now);
            ctx.wait(T1_64, Timer::Forget(place));
            self.on_end(place, ctx);
            self.on_challenge(place, response, ctx);
        }
    }

    fn on_final(&mut self, place: usize, response: &Message<'_>, ctx: &mut Context<'_>) {
        let client = &mut self.clients[place];
        if !matches!(client.state, ClientState::Calling | ClientState::Proceeding) {
            return;
        }
        let tag = response.tag(Name::To).unwrap_or_default().to_owned();
        client.finals.push((response.status(), tag));
        client.state = ClientState::Completed;
        client.ended = Some(ctx.now);
        ctx.wait(T4, Timer::Forget(place));
        if client.purpose == Purpose::Register {
            self.on_registered(place, response, ctx);
        }
        self.on_end(place, ctx);
        self.on_challenge(place, response, ctx);
    }

    /// A proxy asks who it is: the request is begun anew, with the answer.
    fn on_challenge(&mut self, place: usize, response: &Message<'_>, ctx: &mut Context<'_>) {
        let client = &self.clients[place];
        let is_new = matches!(client.purpose, Purpose::Call | Purpose::Plain);
        if response.status() != 407 || !is_new || ctx.is_closing {
            return;
        }
        let method = client.method;
        let request = Message::parse(&client.request).expect("an agent writes good requests");
        let uri = request.uri().to_owned();
        if self.learn(place, response) {
            self.begin(method, &uri, ctx);
        }
    }

    /// The line that proves who it is; none where that was not asked for.
    pub(super) fn proof(&mut self, name: &str, method: &str, uri: &str) -> String {
        let prover = self.prover.as_mut();
        prover.map_or(String::new(), |prover| {
            prover.line(name, &self.user, method, uri)
        })
    }

    /// Takes a challenge; says whether to try again.
    pub(super) fn learn(&mut self, place: usize, response: &Message<'_>) -> bool {
        let request = &self.clients[place].request;
        let prover = self.prover.as_mut();
        prover.is_some_and(|prover| prover.learn(request, response))
    }

    /// Notes a final response to INVITE; says whether it is new.
    fn note_final(&mut self, place: usize, response: &Message<'_>, ctx: &mut Context<'_>) -> bool {
        let client = &mut self.clients[place];
        let tag = response.tag(Name::To).unwrap_or_default().to_owned();
        let status = response.status();
        let is_new = !client.finals.contains(&(status, tag.clone()));
        if is_new {
            client.finals.push((status, tag));
            let failures = client.finals.iter().filter(|(status, _)| *status >= 300);
            let record = ctx.ledger.record(client.call);
            // No other's 503 is passed on: it is a node's own, made without a transaction, and a later copy may be served after all.
            // Outside of a dialog its tag tells so, and the call is excused; within one, this transaction alone.
            let is_turned_away = client.finals.iter().any(|(status, _)| *status == 503);
            let is_excused =
                record.is_disturbed || record.is_tainted || record.is_refused || is_turned_away;
            if failures.count() > 1 && !is_excused {
                let what = format!("the caller got {:?}", client.finals);
                ctx.complain("one final response to INVITE but 2xx", client.call, what);
            }
        }
        is_new
    }

    /// The ACK of a failure, or a CANCEL: what the transaction itself sends (RFC 3261 17.1.1.3, 9.1).
    fn hop_by_hop(method: &str, client: &Client, to: Option<&str>) -> Vec<u8> {
        let request = Message::parse(&client.request).expect("an agent writes good requests");
        let field = |name| request.first(name).unwrap_or_default();
        let mut text = format!(
            "{method} {} SIP/2.0\r\nVia: {}\r\n",
            request.uri(),
            client.via
        );
        for route in request.values(Name::Route) {
            text.push_str(&format!("Route: {route}\r\n"));
        }
        text.push_str(&format!(
            "Max-Forwards: 70\r\nFrom: {}\r\nTo: {}\r\nCall-ID: {}\r\nCSeq: {} {method}\r\nContent-Length: 0\r\n\r\n",
            field(Name::From),
            to.unwrap_or(field(Name::To)),
            client.call_id,
            client.cseq
        ));
        text.into_bytes()
    }
}

/// How long a caller waits for the end of a call that rings.
const PATIENCE: Duration = Duration::from_secs(900);
/// How long it waits after its CANCEL: 64*T1 for the CANCEL to arrive, as much for its proxy to give the branch up.
const AFTER_CANCEL: Duration = Duration::from_secs(75);
/// So many losses of final responses excuse a call without an end.
pub(crate) const FINALS_LOST_MAX: u32 = 7;
