//! A phone's registration (RFC 3261 10.2): refreshed in time, now and then ended; and what the phone may rely on.

use strowger::time::{Duration, Instant};

use super::super::message::{Message, Name, param, uri_of};
use super::compose::Request;
use super::{Agent, Context, Purpose, Timer};

/// What a phone knows of its binding.
#[derive(Default)]
pub(crate) struct Registration {
    call: Option<(usize, String, String)>,
    cseq: u32,
    /// The REGISTER under way.
    pending: Option<usize>,
    /// Until when it is bound, as far as the registrar has told it.
    pub(crate) bound_until: Option<Instant>,
    /// Since when it is not bound, as far as the registrar has told it and nothing was sent since.
    pub(crate) unbound_since: Option<Instant>,
    wants_removal: bool,
    /// The last REGISTER that the registrar may have answered before it lost all: the answer may be on its way still, and says nothing.
    forgotten: Option<u32>,
    /// Until when it was bound before the last REGISTER.
    was_bound_until: Option<Instant>,
    /// The q of its contact.
    pub(crate) q: Option<&'static str>,
}

impl Agent {
    /// Registers, or refreshes.
    pub(crate) fn refresh(&mut self, ctx: &mut Context<'_>) {
        if ctx.is_closing || self.registration.pending.is_some() {
            return;
        }
        let removes = self.registration.bound_until.is_some() && ctx.random.chance(300);
        self.register(removes, ctx);
    }

    fn register(&mut self, removes: bool, ctx: &mut Context<'_>) {
        if self.registration.call.is_none() {
            let call = ctx.ledger.open("REGISTER");
            let call_id = Self::call_id(call, ctx);
            let tag = self.new_tag();
            self.registration.call = Some((call, call_id, tag));
        }
        let (call, call_id, tag) = self.registration.call.clone().expect("set above");
        self.registration.cseq += 1;
        let cseq = self.registration.cseq;
        let aor = format!("<sip:{}@example.com>", self.user);
        let expires = if removes { 0 } else { ctx.random.range(20, 90) };
        let q = self
            .registration
            .q
            .map_or(String::new(), |q| format!(";q={q}"));
        let via = self.via();
        let proof = self.proof("Authorization", "REGISTER", "sip:example.com");
        let text = self.request(
            &Request {
                method: "REGISTER",
                uri: "sip:example.com",
                via: &via,
                from: &format!("{aor};tag={tag}"),
                to: &aor,
                call_id: &call_id,
                cseq,
                routes: &[],
                extra: &format!(
                    "Contact: <{}>{q};expires={expires}\r\n{proof}",
                    self.contact()
                ),
                body: Vec::new(),
            },
            ctx.random,
        );
        // It may be done though no answer to it arrives.
        let at_least = ctx.now + Duration::from_secs(expires.saturating_sub(1));
        self.registration.was_bound_until = self.registration.bound_until;
        let known = self.registration.bound_until.filter(|_| !removes);
        self.registration.bound_until = known.map(|until| until.min(at_least));
        self.registration.unbound_since = None;
        self.registration.wants_removal = removes;
        let to = self.first_hop;
        let place = self.open_client(
            (call, "REGISTER", Purpose::Register),
            (via, call_id, cseq),
            to,
            text,
            ctx,
        );
        self.registration.pending = Some(place);
        // Now and then at once, while copies of this one are still on their way.
        let span = if ctx.random.chance(200) {
            ctx.random.millis(50, 2_000)
        } else {
            ctx.random.secs(10, 40)
        };
        ctx.wait(span, Timer::Refresh);
        ctx.wait(Duration::from_secs(33), Timer::Refresh);
    }

    /// The answer to a REGISTER.
    pub(super) fn on_registered(
        &mut self,
        place: usize,
        response: &Message<'_>,
        ctx: &mut Context<'_>,
    ) {
        if response.status() == 401 && self.learn(place, response) {
            let span = ctx.random.millis(1, 50);
            ctx.wait(span, Timer::Refresh);
        }
        let client = &self.clients[place];
        if response.status() != 200 || client.cseq != self.registration.cseq {
            return;
        }
        let own = self.contact();
        let listed = response
            .values(Name::Contact)
            .find(|value| uri_of(value) == own);
        let after = listed.map(|value| value.rfind('>').map_or(value, |at| &value[at..]));
        let expires = after.and_then(|after| param(after, "expires").flatten());
        let call = client.call;
        let is_trusted = !ctx.ledger.record(call).is_tainted;
        if is_trusted
            && self
                .prover
                .as_ref()
                .is_some_and(|prover| prover.is_impostor)
        {
            let what = "a wrong password was believed".to_owned();
            ctx.complain("an impostor is refused", call, what);
        }
        // One that was on its way when the registrar lost all is held to what it says, and nothing is relied on.
        let is_forgotten = self.registration.forgotten == Some(client.cseq);
        match (self.registration.wants_removal, expires) {
            (false, Some(_)) | (true, None) if is_forgotten => {}
            (false, Some(expires)) => {
                // From when it was asked, and the seconds are rounded up: so it lasts at least.
                let secs: u64 = expires.parse().unwrap_or(1);
                let granted = Duration::from_secs(secs.saturating_sub(1));
                self.registration.bound_until = Some(client.started + granted);
            }
            // Of a binding that had ended by itself nobody remembers the removal.
            (true, None) => {
                let was_bound = self.registration.was_bound_until;
                if was_bound.is_some_and(|until| until > ctx.now) {
                    self.registration.unbound_since = Some(ctx.now);
                }
            }
            (removes, _) if is_trusted => {
                let what = format!("removes: {removes}, listed: {listed:?}");
                ctx.complain("a 200 to REGISTER says what was asked", call, what);
            }
            _ => {}
        }
    }

    pub(super) fn end_registering(&mut self, place: usize) {
        if self.registration.pending == Some(place) {
            self.registration.pending = None;
        }
    }

    /// The registrar is known to have lost all.
    pub(crate) fn forget_registration(&mut self) {
        self.registration.bound_until = None;
        self.registration.unbound_since = None;
        self.registration.forgotten = Some(self.registration.cseq);
    }

    /// Whether a REGISTER is under way that may change the binding at any time.
    pub(crate) fn is_registering(&self) -> bool {
        self.registration.pending.is_some()
    }

    /// The call of its REGISTERs.
    pub(crate) fn registration_call(&self) -> Option<usize> {
        self.registration.call.as_ref().map(|(call, ..)| *call)
    }
}
