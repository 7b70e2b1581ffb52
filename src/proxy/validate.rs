//! Request validation (RFC 3261 16.3): scheme, Max-Forwards, loops, Proxy-Require.

use super::Proxy;
use super::answer::Response;
use crate::counters::Counter;
use crate::sip::error::SipError;
use crate::sip::message::Message;
use crate::sip::name::HeaderName;
use crate::sip::uri::{Scheme, Uri};
use crate::sip::via::Via;

/// Why a request is not relayed: the answer, and what counts it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Refusal<'a> {
    /// The answer.
    pub(super) response: Response<'a>,
    /// The counter, where the answer's class alone does not tell enough.
    pub(super) counter: Option<Counter>,
}

impl<'a> Refusal<'a> {
    /// A refusal that only its class counts.
    #[must_use]
    pub(super) const fn new(status: u16) -> Self {
        Self {
            response: Response::new(status),
            counter: None,
        }
    }

    /// A refusal with a counter of its own.
    #[must_use]
    pub(super) const fn counted(status: u16, counter: Counter) -> Self {
        Self {
            response: Response::new(status),
            counter: Some(counter),
        }
    }

    /// The same with header lines.
    #[must_use]
    pub(super) const fn with_headers(mut self, headers: &'a [u8]) -> Self {
        self.response = self.response.with_headers(headers);
        self
    }
}

impl Proxy {
    /// Checks what must hold before a request, whose Request-URI is `uri`, is routed; `headers` takes the header lines of a refusal.
    pub(super) fn validate<'h>(
        &self,
        request: &Message<'_>,
        uri: &Result<Uri<'_>, SipError>,
        headers: &'h mut Vec<u8>,
    ) -> Result<(), Refusal<'h>> {
        // 16.3 step 2. `sips` asks for a security that this node cannot give without TLS.
        match uri {
            Ok(uri) if uri.scheme == Scheme::Sip => {}
            Ok(_) => return Err(Refusal::new(416)),
            Err(_) => return Err(Refusal::new(400)),
        }
        // 16.3 step 3.
        if request.max_forwards() == Some(0) {
            return Err(Refusal::counted(483, Counter::RefusedMaxForwards));
        }
        // RFC 5393 5.3.3: no breadth is left to forward it with.
        if request
            .header(HeaderName::MaxBreadth)
            .is_some_and(|header| header.value == b"0")
        {
            return Err(Refusal::counted(440, Counter::RefusedMaxBreadth));
        }
        // 16.3 step 4, with the hash of RFC 5393 4.2.
        if self.has_looped(request) {
            return Err(Refusal::counted(482, Counter::RefusedLoop));
        }
        // 16.3 step 5: we speak no extension that a proxy can be required to.
        if request.header(HeaderName::ProxyRequire).is_some() {
            headers.clear();
            for required in request.values(HeaderName::ProxyRequire) {
                headers.extend_from_slice(b"Unsupported: ");
                headers.extend_from_slice(required.bytes());
                headers.extend_from_slice(b"\r\n");
            }
            return Err(Refusal::new(420).with_headers(headers));
        }
        Ok(())
    }

    /// The hash of all that decides where a request goes (RFC 5393 4.2.1): the same hash in a Via of ours is a loop.
    pub(super) fn loop_hash(&self, request: &Message<'_>) -> u32 {
        let cseq = request.cseq();
        let texts = [
            request.request_uri(),
            request.call_id(),
            request.from_tag().unwrap_or_default(),
            request.to_tag().unwrap_or_default(),
            &cseq.number.to_le_bytes(),
            cseq.method,
        ];
        let first = self.quick.hash(&texts);
        let further = [
            HeaderName::Route,
            HeaderName::ProxyRequire,
            HeaderName::ProxyAuthorization,
        ];
        let further = further.into_iter().flat_map(|name| request.headers(name));
        fold(further.fold(first, |hash, header| {
            self.quick.hash(&[header.value, &hash.to_le_bytes()])
        }))
    }

    fn has_looped(&self, request: &Message<'_>) -> bool {
        let mut own_hash = None;
        let mut is_ours = |via: &Via<'_>| {
            let Some(branch) = via
                .branch()
                .and_then(|branch| self.branches.decode(branch).ok())
            else {
                return false;
            };
            branch.server_id == self.settings.server_id
                && branch.loop_hash == *own_hash.get_or_insert_with(|| self.loop_hash(request))
        };
        // The topmost has been read already.
        let top = request.top_via();
        if is_ours(&top) {
            return true;
        }
        if request.has_one_via() {
            return false;
        }
        let mut further = request.values(HeaderName::Via).skip(1);
        further.any(|value| value.via().is_ok_and(|via| is_ours(&via)))
    }
}

/// Folds a hash to the width that a branch has room for.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the low half of a uniform hash is a hash"
)]
pub(super) const fn fold(hash: u64) -> u32 {
    hash as u32
}
