//! Requests as they come: those that we answer ourselves, those that come again, those that get a transaction.

use super::answer::{self, Response, reply_flow};
use super::authenticate::Verdict;
use super::challenge::Asks;
use super::output::Output;
use super::route::Unrouted;
use super::{Bench, Proxy};
use crate::counters::Counter;
use crate::datagram::{Datagram, Flow};
use crate::sip::error::SipError;
use crate::sip::message::Message;
use crate::sip::method::Method;
use crate::sip::name::HeaderName;
use crate::sip::reply::Reply;
use crate::sip::uri::Uri;
use crate::time::Instant;
use crate::transaction::key::ServerKey;
use crate::transaction::server::{ServerEvent, ServerSlot};
use crate::transaction::step::{Emit, Tell};

impl Proxy {
    pub(super) fn on_request(
        &mut self,
        now: Instant,
        request: &Message<'_>,
        datagram: &Datagram<'_>,
        bench: &mut Bench,
        out: &mut impl Output,
    ) {
        let is_refusing = std::mem::take(&mut self.is_refusing);
        let is_answered_here = matches!(request.method(), Method::Register | Method::Options);
        if is_answered_here && self.is_for_us(request) {
            let flow = &datagram.flow;
            if is_refusing {
                return self.refuse_overload(request, flow, out);
            }
            if request.method() == Method::Register {
                return self.on_register(now, request, flow, bench, out);
            }
            return self.on_options(request, flow, bench, out);
        }
        let owner = self.steering.owner(request.call_id());
        if owner != self.settings.worker && !datagram.handed_off {
            return self.hand_off(owner, datagram, out);
        }
        if self.waited.is_none() {
            self.count_request(request.method());
        }
        if request.method() == Method::Ack {
            self.on_ack(now, request, &datagram.flow, bench, out);
        } else if request.method() == Method::Cancel {
            let invite = self.server_key(request, b"INVITE");
            self.on_cancel(now, request, (&datagram.flow, invite), bench, out);
        } else {
            if is_refusing {
                let key = self.server_key(request, request.method_bytes());
                if self.table.find_server(key).is_none() {
                    return self.refuse_overload(request, &datagram.flow, out);
                }
            }
            self.on_new_or_repeated(now, request, &datagram.flow, bench, out);
        }
    }

    /// A request that has, or gets, a server transaction.
    fn on_new_or_repeated(
        &mut self,
        now: Instant,
        request: &Message<'_>,
        source: &Flow,
        bench: &mut Bench,
        out: &mut impl Output,
    ) {
        let key = self.server_key(request, request.method_bytes());
        if let Some(server) = self.table.find_server(key) {
            return self.on_repeated(now, request, server, out);
        }
        if self.is_draining && request.method() == Method::Invite && request.to_tag().is_none() {
            return self.refuse_draining(request, source, out);
        }
        if self.waits.has(key) {
            return self.counters.increment(Counter::RetransmitRequestReceived);
        }
        let uri = request.read_request_uri();
        let mut headers = std::mem::take(&mut bench.text);
        let admitted = self.admit(now, (request, &uri), (source, key), &mut headers, out);
        bench.text = headers;
        let Some(is_trusted) = admitted else { return };
        let from = (source, is_trusted);
        match self.route(now, (request, &uri), from, &mut bench.targets) {
            Ok(plan) => self.forward(now, request, (source, key), &plan, bench, out),
            Err(Unrouted::Refused(refusal)) => {
                self.count_refusal(refusal.counter);
                self.refuse(request, source, &refusal.response, out);
            }
            Err(Unrouted::NotLoaded(user, host)) => {
                if self.wait_for_rows(now, request, (source, key), (user, &host), out) {
                    return self.send_waiting(request, source, out);
                }
                let refusal = self.refuse_loading();
                self.count_refusal(refusal.counter);
                self.refuse(request, source, &refusal.response, out);
            }
        }
    }

    /// Checks a new request and its sender; says whether that one may go anywhere. `None`: it was answered, or waits.
    fn admit(
        &mut self,
        now: Instant,
        (request, uri): (&Message<'_>, &Result<Uri<'_>, SipError>),
        (source, key): (&Flow, ServerKey),
        headers: &mut Vec<u8>,
        out: &mut impl Output,
    ) -> Option<bool> {
        let is_peer = self.identity.is_peer(source.peer);
        let refusal = match self.validate(request, uri, headers) {
            Err(refusal) => refusal,
            Ok(()) if is_peer || !self.must_prove(request, source) => return Some(is_peer),
            Ok(()) => {
                match self.authenticate(now, request, (source, key, Asks::Proxy), headers, out) {
                    Verdict::Proven => return Some(true),
                    Verdict::Waits => {
                        self.send_waiting(request, source, out);
                        return None;
                    }
                    Verdict::Refused(refusal) => refusal,
                }
            }
        };
        self.count_refusal(refusal.counter);
        self.refuse(request, source, &refusal.response, out);
        None
    }

    /// Whether the sender of a request must prove who it is: it speaks for one of our users, outside of any dialog that we know, and no node
    /// of the cluster has let its call in.
    fn must_prove(&self, request: &Message<'_>, source: &Flow) -> bool {
        let is_ours = || {
            let from = request.from().uri();
            from.is_ok_and(|from| self.identity.is_ours(&from))
        };
        self.authenticator.is_some() && is_ours() && !self.is_vouched_for(request, source)
    }

    /// An INVITE that waits for the slow path hears of it at once, so that it does not come again.
    fn send_waiting(&self, request: &Message<'_>, source: &Flow, out: &mut impl Output) {
        if request.method() == Method::Invite {
            let reply = Reply::new(request, 100, "Trying").received(source.peer);
            let sent = answer::send(&reply, &reply_flow(request, source), out);
            answer::count_unsent(&self.counters, sent);
        }
    }

    /// A retransmission (RFC 3261 17.2): answered with what was answered last, or absorbed.
    fn on_repeated(
        &mut self,
        now: Instant,
        request: &Message<'_>,
        server: ServerSlot,
        out: &mut impl Output,
    ) {
        self.counters.increment(Counter::RetransmitRequestReceived);
        let outcome = self.table.server_event(now, server, ServerEvent::Request);
        if outcome.is_some_and(|outcome| outcome.emit == Emit::Again) {
            let Some(entry) = self.table.server(server) else {
                return;
            };
            if self.table.response_of(entry).is_some() {
                self.send_response_again(server, out);
            } else if entry.state().is_pending() {
                self.send_trying(request, server, out);
            }
        }
    }

    /// An ACK: of a failed INVITE it ends here, of a 2xx it goes on, without a transaction.
    fn on_ack(
        &mut self,
        now: Instant,
        request: &Message<'_>,
        source: &Flow,
        bench: &mut Bench,
        out: &mut impl Output,
    ) {
        let key = self.server_key(request, b"INVITE");
        if let Some(server) = self.table.find_server(key) {
            let outcome = self.table.server_event(now, server, ServerEvent::Ack);
            let is_absorbed = outcome.is_none_or(|outcome| outcome.tell != Tell::Message);
            self.close_server_if_over(server);
            if is_absorbed {
                return;
            }
        }
        if self.tags.is_ours(request) {
            return self.counters.increment(Counter::AcksAbsorbed);
        }
        let uri = request.read_request_uri();
        let is_valid = {
            let mut headers = std::mem::take(&mut bench.text);
            let is_valid = self.validate(request, &uri, &mut headers).is_ok();
            bench.text = headers;
            is_valid
        };
        let is_peer = self.identity.is_peer(source.peer);
        // An ACK is never answered: what may not go on is dropped (RFC 3261 16.3).
        let from = (source, is_peer);
        match self.route(now, (request, &uri), from, &mut bench.targets) {
            Ok(plan) if is_valid => self.forward_statelessly(request, source, &plan, bench, out),
            Ok(_) | Err(_) => self.counters.increment(Counter::DropUnroutableAck),
        }
    }

    fn on_register(
        &mut self,
        now: Instant,
        request: &Message<'_>,
        source: &Flow,
        bench: &mut Bench,
        out: &mut impl Output,
    ) {
        if self.waited.is_none() {
            self.count_request(Method::Register);
        }
        if self.waits.len() > 0 {
            let key = self.server_key(request, request.method_bytes());
            if self.waits.has(key) {
                return self.counters.increment(Counter::RetransmitRequestReceived);
            }
        }
        if self.is_draining && self.waited.is_none() {
            return self.refuse_draining(request, source, out);
        }
        if self.authenticator.is_some() {
            let mut headers = std::mem::take(&mut bench.text);
            let is_proven = self.is_registrant(now, request, source, &mut headers, out);
            bench.text = headers;
            if !is_proven {
                return;
            }
        }
        if self.location.is_loading() {
            let key = self.server_key(request, request.method_bytes());
            if self.wait_to_register(now, request, (source, key), out) {
                return;
            }
        }
        let answer = self
            .registrar
            .register(now, request, source, &mut bench.register);
        self.count_refusal(answer.counted);
        self.counters
            .add(Counter::BindingsReplaced, u64::from(answer.replaced));
        if let Some(access) = answer.access
            && answer.status == 200
            && self.settings.commit.is_some()
            && !self.location.is_committed(access)
        {
            let key = self.server_key(request, request.method_bytes());
            let withheld = (access, answer.headers);
            return self.wait_for_commit(now, request, (source, key), withheld, out);
        }
        if answer.status == 200 && self.is_refused_by_store(now, request) {
            return self.refuse_unstorable(request, source, out);
        }
        let response = Response {
            status: answer.status,
            phrase: Some(answer.reason),
            headers: answer.headers,
        };
        answer::stateless(request, source, &response, &self.tags, &self.counters, out);
    }

    /// Whether the sender of a REGISTER has proven that it may; if not, it was answered, or waits.
    fn is_registrant(
        &mut self,
        now: Instant,
        request: &Message<'_>,
        source: &Flow,
        headers: &mut Vec<u8>,
        out: &mut impl Output,
    ) -> bool {
        let key = self.server_key(request, request.method_bytes());
        match self.authenticate(now, request, (source, key, Asks::Registrar), headers, out) {
            Verdict::Proven => true,
            Verdict::Waits => false,
            Verdict::Refused(refusal) => {
                self.count_refusal(refusal.counter);
                self.refuse(request, source, &refusal.response, out);
                false
            }
        }
    }

    /// RFC 3261 11: OPTIONS to ourselves, which is also how peers see that we live.
    fn on_options(
        &self,
        request: &Message<'_>,
        source: &Flow,
        bench: &mut Bench,
        out: &mut impl Output,
    ) {
        self.count_request(Method::Options);
        bench.text.clear();
        let mut status = 200;
        for required in request
            .values(HeaderName::Require)
            .chain(request.values(HeaderName::ProxyRequire))
        {
            // RFC 3261 8.2.2.3: we speak no extension that OPTIONS could require.
            status = 420;
            bench.text.extend_from_slice(b"Unsupported: ");
            bench.text.extend_from_slice(required.bytes());
            bench.text.extend_from_slice(b"\r\n");
        }
        if status == 200 {
            bench.text.extend_from_slice(OPTIONS_HEADERS);
        }
        let response = Response::new(status).with_headers(&bench.text);
        answer::stateless(request, source, &response, &self.tags, &self.counters, out);
    }

    /// Whether a REGISTER or an OPTIONS is for this element rather than to be passed on: its Request-URI is ours and names
    /// no user, and so is every Route. A request that may go no further is answered here, too (RFC 3261 11).
    fn is_for_us(&mut self, request: &Message<'_>) -> bool {
        let is_last_hop = request.max_forwards() == Some(0) && request.method() == Method::Options;
        if !self.home_uri.is_empty() && self.home_uri == request.request_uri() {
            return is_last_hop || self.are_ours(request);
        }
        let Ok(uri) = request.read_request_uri() else {
            return false;
        };
        let has_user = uri.user.is_some_and(|user| !user.is_empty());
        let names_no_user = !has_user || request.method() == Method::Register;
        let is_ours = names_no_user && self.identity.is_ours(&uri);
        if is_ours && !has_user && uri.bytes().len() <= HOME_URI_LEN_MAX {
            self.home_uri.clear();
            self.home_uri.extend_from_slice(uri.bytes());
        }
        is_last_hop || (is_ours && self.are_ours(request))
    }

    /// Whether all Route values of a request are ours.
    fn are_ours(&self, request: &Message<'_>) -> bool {
        request.header(HeaderName::Route).is_none()
            || request.addresses(HeaderName::Route).all(|address| {
                address
                    .and_then(|address| address.uri())
                    .is_ok_and(|uri| self.identity.is_ours(&uri))
            })
    }

    /// RFC 3261 17.2.3: branch, sent-by and method; of an RFC 2543 client, the fields that stand in for the branch.
    fn server_key(&self, request: &Message<'_>, method: &[u8]) -> ServerKey {
        let via = request.top_via();
        match via.branch() {
            Some(branch) if via.is_rfc3261() => {
                self.server_keys.rfc3261(branch, via.sent_by(), method)
            }
            _ => self.server_keys.rfc2543(&[
                request.request_uri(),
                request.from_tag().unwrap_or_default(),
                request.call_id(),
                &request.cseq().number.to_le_bytes(),
                via.bytes(),
                method,
            ]),
        }
    }

    fn refuse_draining(&self, request: &Message<'_>, source: &Flow, out: &mut impl Output) {
        self.counters.increment(Counter::RefusedDraining);
        let response = Response::new(503).with_headers(b"Retry-After: 10\r\n");
        self.refuse(request, source, &response, out);
    }

    fn refuse_overload(&self, request: &Message<'_>, source: &Flow, out: &mut impl Output) {
        self.counters.increment(Counter::RefusedOverload);
        let response = Response::new(503).with_headers(b"Retry-After: 2\r\n");
        self.refuse(request, source, &response, out);
    }

    /// Answers without a transaction; an ACK is dropped instead.
    pub(super) fn refuse(
        &self,
        request: &Message<'_>,
        source: &Flow,
        response: &Response<'_>,
        out: &mut impl Output,
    ) {
        if request.method() == Method::Ack {
            return self.counters.increment(Counter::DropMalformedAck);
        }
        answer::stateless(request, source, response, &self.tags, &self.counters, out);
    }

    fn count_request(&self, method: Method) {
        self.counters.increment(match method {
            Method::Invite => Counter::RequestInvite,
            Method::Ack => Counter::RequestAck,
            Method::Bye => Counter::RequestBye,
            Method::Cancel => Counter::RequestCancel,
            Method::Register => Counter::RequestRegister,
            Method::Options => Counter::RequestOptions,
            Method::Prack
            | Method::Update
            | Method::Info
            | Method::Subscribe
            | Method::Notify
            | Method::Refer
            | Method::Message
            | Method::Publish
            | Method::Kdmq
            | Method::Other => Counter::RequestOther,
        });
    }
}

/// Longer than the names of most domains.
pub(super) const HOME_URI_LEN_MAX: usize = 128;

/// What we say of ourselves.
const OPTIONS_HEADERS: &[u8] = b"Accept: */*\r\nAllow: INVITE, ACK, CANCEL, BYE, OPTIONS, REGISTER, PRACK, UPDATE, INFO, SUBSCRIBE, NOTIFY, REFER, MESSAGE, PUBLISH\r\nSupported: path, outbound, gruu\r\n";
