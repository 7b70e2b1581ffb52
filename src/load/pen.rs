//! Who writes the agents' requests: from what an operation is about, and what its phone knows.

use super::agent::Settings;
use super::compose::{Branch, Draft, Request, put_address, session_description};
use super::operation::{Operation, Step};
use super::phones::Phones;
use super::tally::Kind;
use crate::sip::Sink;

/// Writes requests.
pub(super) struct Pen {
    pub(super) settings: Settings,
    /// The session description of each source.
    offers: Vec<Vec<u8>>,
    headers: Draft,
}

impl Pen {
    pub(super) fn new(settings: Settings) -> Self {
        let offers = settings.sources.iter();
        Self {
            offers: offers.map(|source| session_description(*source)).collect(),
            headers: Draft::default(),
            settings,
        }
    }

    /// The session description of each source.
    pub(super) fn offers(&self) -> &[Vec<u8>] {
        &self.offers
    }

    /// Says who and whom a new attempt is from and for.
    pub(super) fn address(&self, operation: &mut Operation, phones: &mut Phones) {
        let Branch {
            run,
            slot,
            generation,
            ..
        } = operation.branch;
        let domain = self.settings.domain.as_bytes();
        let mut from = Draft(std::mem::take(&mut operation.from));
        let mut to = Draft(std::mem::take(&mut operation.to));
        let mut call_id = Draft(std::mem::take(&mut operation.call_id));
        let mut uri = Draft(std::mem::take(&mut operation.uri));
        for draft in [&mut from, &mut to, &mut call_id, &mut uri] {
            draft.0.clear();
        }
        let caller = phones.at(operation.phone);
        let caller = caller.map_or(&b""[..], |phone| &phone.user);
        put_name_addr(caller, domain, &mut from);
        from.put(b";tag=");
        from.put_hex(u64::from(slot), 8);
        from.put_hex(u64::from(generation), 8);
        if operation.kind == Kind::Register {
            // RFC 3261 10.2: a phone's registrations share a Call-ID.
            call_id.put_hex(u64::from(operation.phone), 8);
            call_id.put(b"r");
        } else {
            call_id.put_hex(u64::from(slot), 8);
            call_id.put_hex(u64::from(generation), 8);
        }
        call_id.put_hex(u64::from(run), 8);
        call_id.put(b"@load");
        match (operation.kind, &self.settings.callee) {
            (Kind::Register, _) => {
                put_name_addr(caller, domain, &mut to);
                uri.put(b"sip:");
                uri.put(domain);
            }
            (Kind::Options, _) if self.settings.is_through => {
                self.put_phone(phones, phones.callee_of(operation.phone), &mut uri);
                to.put(b"<");
                to.put(&uri.0);
                to.put(b">");
            }
            (Kind::Options, _) => {
                uri.put(b"sip:");
                put_address(self.settings.target, &mut uri);
                to.put(b"<");
                to.put(&uri.0);
                to.put(b">");
            }
            (Kind::Invite, Some(callee)) => {
                uri.put(callee.as_bytes());
                to.put(b"<");
                to.put(&uri.0);
                to.put(b">");
            }
            (Kind::Invite, None) => {
                let callee = phones.at(phones.callee_of(operation.phone));
                let callee = callee.map_or(&b""[..], |phone| &phone.user);
                put_name_addr(callee, domain, &mut to);
                uri.put(b"sip:");
                uri.put(callee);
                uri.put(b"@");
                uri.put(domain);
            }
        }
        (operation.from, operation.to) = (from.0, to.0);
        (operation.call_id, operation.uri) = (call_id.0, uri.0);
        operation.routes.clear();
        operation.cseq = Self::next_cseq(operation, phones);
    }

    /// A phone at its own address: a proxy that keeps no location finds it too.
    fn put_phone(&self, phones: &Phones, place: u32, out: &mut Draft) {
        let (user, source) = phones
            .at(place)
            .map_or((&b""[..], 0), |phone| (&phone.user, phone.source));
        let address = self.settings.sources.get(usize::from(source));
        out.put(b"sip:");
        out.put(user);
        out.put(b"@");
        put_address(address.copied().unwrap_or(self.settings.target), out);
    }

    /// The CSeq of the next request: a phone's registrations count on from each other.
    pub(super) fn next_cseq(operation: &Operation, phones: &mut Phones) -> u32 {
        if operation.kind != Kind::Register {
            let is_first = operation.challenges == 0 && operation.step == Step::Asking;
            return if is_first { 1 } else { operation.cseq + 1 };
        }
        phones.at_mut(operation.phone).map_or(1, |phone| {
            phone.cseq += 1;
            phone.cseq
        })
    }

    /// Writes the request that the operation's step wants.
    pub(super) fn compose(&mut self, operation: &mut Operation, phones: &mut Phones) {
        let method = match operation.step {
            Step::Asking | Step::Holding => operation.kind.method(),
            Step::Ending => "BYE",
        };
        self.write(operation, phones, method);
    }

    /// Writes a request of an operation.
    pub(super) fn write(&mut self, operation: &mut Operation, phones: &mut Phones, method: &str) {
        let headers = &mut self.headers;
        headers.0.clear();
        let source = phones.at(operation.phone).map_or(0, |phone| phone.source);
        let address = self.settings.sources.get(usize::from(source));
        let address = address.copied().unwrap_or(self.settings.target);
        headers.put(&operation.routes);
        if let Some(phone) = phones.at_mut(operation.phone) {
            if matches!(method, "REGISTER" | "INVITE") {
                headers.put(b"Contact: <sip:");
                headers.put(&phone.user);
                headers.put(b"@");
                put_address(address, headers);
                headers.put(b">\r\n");
            }
            if method == "REGISTER" {
                headers.put(b"Expires: ");
                headers.put_decimal(u64::from(self.settings.expires_s));
                headers.put(b"\r\n");
            }
            let place = usize::from(method != "REGISTER");
            let credentials = phone.credentials.get_mut(place).and_then(Option::as_mut);
            if let Some(credentials) = credentials.filter(|_| !matches!(method, "ACK" | "CANCEL")) {
                credentials.prove(&phone.user, method, &operation.uri, headers);
            }
        }
        let body = match method {
            "INVITE" => self
                .offers
                .get(usize::from(source))
                .map_or(&b""[..], |offer| offer),
            _ => b"",
        };
        let request = Request {
            method,
            uri: &operation.uri,
            source: address,
            branch: operation.branch,
            from: &operation.from,
            to: &operation.to,
            call_id: &operation.call_id,
            cseq: operation.cseq,
            headers: &headers.0,
            body,
        };
        request.write(&mut operation.message);
    }
}

fn put_name_addr(user: &[u8], domain: &[u8], out: &mut Draft) {
    out.put(b"<sip:");
    out.put(user);
    out.put(b"@");
    out.put(domain);
    out.put(b">");
}
