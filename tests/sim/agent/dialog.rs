//! Dialogs (RFC 3261 12): made by a 2xx, used by re-INVITE, INFO and BYE.

use std::net::SocketAddr;

use strowger::time::Duration;

use super::super::message::{Message, Name, uri_address, uri_of};
use super::compose::{Request, body};
use super::{Agent, Context, Purpose, Timer};

/// One end of a dialog.
pub(super) struct Dialog {
    pub(super) call: usize,
    pub(super) call_id: String,
    /// From or To as this end writes it of itself, with its tag.
    local: String,
    remote: String,
    pub(super) local_tag: String,
    pub(super) remote_tag: String,
    target: String,
    routes: Vec<String>,
    cseq: u32,
    pub(super) is_over: bool,
    /// The ACKs sent, by CSeq: a 2xx that comes again gets the same.
    acks: Vec<(u32, Vec<u8>)>,
}

impl Agent {
    /// The caller's end: the 2xx to INVITE is acknowledged, each copy of it (RFC 3261 13.2.2.4).
    pub(super) fn acknowledge(
        &mut self,
        client: usize,
        response: &Message<'_>,
        is_new: bool,
        ctx: &mut Context<'_>,
    ) {
        let tag = response.tag(Name::To).unwrap_or_default();
        let call_id = response.call_id();
        let known = self
            .dialogs
            .iter()
            .position(|dialog| dialog.call_id == call_id && dialog.remote_tag == tag);
        let place = match known {
            Some(place) => place,
            None => self.open_as_caller(client, response),
        };
        let cseq = response.cseq();
        let sent = self.dialogs[place]
            .acks
            .iter()
            .find(|(number, _)| *number == cseq);
        if let Some((_, ack)) = sent {
            let ack = ack.clone();
            let to = self.next_hop(place);
            return ctx.send(to, &ack);
        }
        let ack = self.in_dialog_text(place, "ACK", cseq, ctx).1;
        let to = self.next_hop(place);
        ctx.send(to, &ack);
        self.dialogs[place].acks.push((cseq, ack));
        if known.is_some() || !is_new {
            return;
        }
        // The first answer is talked to; a further one, or one to a call that was given up, is hung up at once.
        let state = &self.clients[client];
        let answers = state.finals.len();
        if answers > 1 || state.cancelled.is_some() {
            self.hang_up(place, ctx);
        } else {
            Self::talk_later(place, ctx);
        }
    }

    pub(super) fn talk_later(place: usize, ctx: &mut Context<'_>) {
        if ctx.random.chance(300) {
            let span = ctx.random.millis(100, 20_000);
            ctx.wait(span, Timer::Talk(place));
        }
        if ctx.random.chance(700) {
            let span = ctx.random.millis(10, 40_000);
            ctx.wait(span, Timer::HangUp(place));
        }
    }

    fn open_as_caller(&mut self, client: usize, response: &Message<'_>) -> usize {
        let client = &self.clients[client];
        let field = |name| response.first(name).unwrap_or_default().to_owned();
        let mut routes: Vec<String> = response
            .values(Name::RecordRoute)
            .map(str::to_owned)
            .collect();
        routes.reverse();
        self.dialogs.push(Dialog {
            call: client.call,
            call_id: client.call_id.clone(),
            local: field(Name::From),
            remote: field(Name::To),
            local_tag: response.tag(Name::From).unwrap_or_default().to_owned(),
            remote_tag: response.tag(Name::To).unwrap_or_default().to_owned(),
            target: uri_of(&field(Name::Contact)).to_owned(),
            routes,
            cseq: client.cseq,
            is_over: false,
            acks: Vec::new(),
        });
        self.dialogs.len() - 1
    }

    /// The callee's end.
    pub(super) fn open_as_callee(&mut self, call: usize, invite: &Message<'_>, tag: &str) -> usize {
        let field = |name| invite.first(name).unwrap_or_default().to_owned();
        self.dialogs.push(Dialog {
            call,
            call_id: invite.call_id().to_owned(),
            local: format!("{};tag={tag}", field(Name::To)),
            remote: field(Name::From),
            local_tag: tag.to_owned(),
            remote_tag: invite.tag(Name::From).unwrap_or_default().to_owned(),
            target: uri_of(&field(Name::Contact)).to_owned(),
            routes: invite
                .values(Name::RecordRoute)
                .map(str::to_owned)
                .collect(),
            cseq: 0,
            is_over: false,
            acks: Vec::new(),
        });
        self.dialogs.len() - 1
    }

    /// The dialog that a request belongs to.
    pub(super) fn dialog_of(&self, request: &Message<'_>) -> Option<usize> {
        let (local, remote) = (request.tag(Name::To)?, request.tag(Name::From)?);
        self.dialogs.iter().position(|dialog| {
            dialog.call_id == request.call_id()
                && dialog.local_tag == local
                && dialog.remote_tag == remote
        })
    }

    pub(super) fn end_dialog(&mut self, place: usize) {
        self.dialogs[place].is_over = true;
    }

    /// Says something within a dialog.
    pub(super) fn talk(&mut self, place: usize, ctx: &mut Context<'_>) {
        if !self.dialogs[place].is_over && !ctx.is_closing {
            let method = ctx.random.pick(&["INVITE", "INFO", "UPDATE", "MESSAGE"]);
            self.send_in_dialog(place, method, ctx);
        }
    }

    /// Ends a dialog with BYE.
    pub(super) fn hang_up(&mut self, place: usize, ctx: &mut Context<'_>) {
        if !self.dialogs[place].is_over {
            self.dialogs[place].is_over = true;
            self.send_in_dialog(place, "BYE", ctx);
        }
    }

    fn send_in_dialog(&mut self, place: usize, method: &'static str, ctx: &mut Context<'_>) {
        self.dialogs[place].cseq += 1;
        let cseq = self.dialogs[place].cseq;
        let (via, text) = self.in_dialog_text(place, method, cseq, ctx);
        let to = self.next_hop(place);
        let dialog = &self.dialogs[place];
        let (call, call_id) = (dialog.call, dialog.call_id.clone());
        let purpose = Purpose::InDialog(place);
        let client = self.open_client((call, method, purpose), (via, call_id, cseq), to, text, ctx);
        if method == "INVITE" {
            ctx.wait(REINVITE_PATIENCE, Timer::Impatient(client));
        }
    }

    fn in_dialog_text(
        &mut self,
        place: usize,
        method: &str,
        cseq: u32,
        ctx: &mut Context<'_>,
    ) -> (String, Vec<u8>) {
        let via = self.via();
        let contact = format!("Contact: <{}>\r\n", self.contact());
        let dialog = &self.dialogs[place];
        let text = self.request(
            &Request {
                method,
                uri: &dialog.target,
                via: &via,
                from: &dialog.local,
                to: &dialog.remote,
                call_id: &dialog.call_id,
                cseq,
                routes: &dialog.routes,
                extra: if method == "INVITE" { &contact } else { "" },
                body: body(ctx.random),
            },
            ctx.random,
        );
        (via, text)
    }

    fn next_hop(&self, place: usize) -> SocketAddr {
        let dialog = &self.dialogs[place];
        let first = dialog.routes.first().map(|route| uri_of(route));
        // An agent that knows no other way asks its proxy.
        uri_address(first.unwrap_or(&dialog.target)).unwrap_or(self.first_hop)
    }

    /// What follows from the end of a client transaction.
    pub(super) fn on_end(&mut self, place: usize, ctx: &mut Context<'_>) {
        let client = &self.clients[place];
        if client.purpose == Purpose::Register {
            return self.end_registering(place);
        }
        let Purpose::InDialog(dialog) = client.purpose else {
            return;
        };
        // RFC 3261 12.2.1.2: 481, 408 and silence end the dialog.
        let is_lost = match client.finals.last() {
            None => true,
            Some((status, _)) => matches!(status, 481 | 408),
        };
        if is_lost && client.method != "BYE" {
            self.hang_up(dialog, ctx);
        }
    }
}

/// How long the sender of a re-INVITE waits for its end.
const REINVITE_PATIENCE: Duration = Duration::from_secs(300);
