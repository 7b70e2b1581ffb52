//! Who a sender is (RFC 3261 22, RFC 7616): the check of credentials, and the wait for a user's secrets.
//!
//! A user who is not known and a wrong password get the same answer, after the same work and after the same questions: whoever fails
//! is answered only once the store was asked for it, be the user's secrets at hand or not. What was right is right once: the count of
//! each nonce is remembered, and only the same message again passes a second time.

use core::hash::Hasher;

use siphasher::sip::SipHasher13;
use subtle::ConstantTimeEq;

use super::challenge::{Asks, Authenticator, Naming, Presented};
use super::output::{Output, SubscriberQuestion};
use super::parked::Waiting;
use super::validate::Refusal;
use super::waits::Waited;
use super::{Proxy, StoreSilent};
use crate::auth::{Algorithm, Hex, Nonce};
use crate::counters::Counter;
use crate::datagram::Flow;
use crate::limits::{
    AOR_LEN_MAX, FAILURES_SUSPECT, PARKED_MAX, REFUTATION_TIME, SECRETS_TIME, SECRETS_TIME_SILENT,
};
use crate::location::{
    FailureKind, Ha1s, Known, NonceUse, Noted, PresentedNonce, Refuted, Secrets,
};
use crate::sip::equivalent;
use crate::sip::host::Host;
use crate::sip::message::Message;
use crate::sip::uri::{Uri, canonical_aor};
use crate::time::Instant;
use crate::transaction::key::ServerKey;

/// What became of the check.
#[derive(Debug)]
pub(super) enum Verdict<'h> {
    /// The sender is who it says.
    Proven,
    /// It is not, or has not said: the answer.
    Refused(Refusal<'h>),
    /// The user's secrets are being asked for; the request waits, or joins itself.
    Waits,
}

/// What the check of credentials found.
enum Finding {
    Right,
    /// They prove nothing.
    Failed(FailureKind),
    /// The digest is right, the nonce is too old.
    Stale,
    /// The store must be asked.
    Unknown,
    /// It was, and cannot say.
    Silent,
}

/// Whom the credentials of a request are to prove.
struct Claim<'a> {
    /// The AoR.
    aor: &'a [u8],
    /// Its user, without escapes.
    user: &'a [u8],
    /// The name in the credentials, without escapes.
    name: &'a [u8],
    naming: Naming,
}

impl Proxy {
    /// Checks that the sender of `request` is the user for whom it speaks. `headers` takes the header lines of a refusal.
    pub(super) fn authenticate<'h>(
        &mut self,
        now: Instant,
        request: &Message<'_>,
        (source, key, asks): (&Flow, ServerKey, Asks),
        headers: &'h mut Vec<u8>,
        out: &mut impl Output,
    ) -> Verdict<'h> {
        let Some(authenticator) = &self.authenticator else {
            return Verdict::Proven;
        };
        let presented = match authenticator.credentials(request, asks) {
            Ok(Some(presented)) => presented,
            Ok(None) => return self.challenge(now, asks, false, headers),
            Err(refusal) => return Verdict::Refused(refusal),
        };
        let nonce = authenticator.nonce(now, presented.credentials.nonce);
        let mut buffers = [[0; AOR_LEN_MAX]; 3];
        // A user speaks for itself alone; that says nothing of whether there is such a user.
        let claim = match self.claim(request, &presented, asks, &mut buffers) {
            Some(Some(claim)) => claim,
            Some(None) => {
                self.note_failure(now, source, FailureKind::Identity);
                return Verdict::Refused(Refusal::counted(403, Counter::RefusedIdentity));
            }
            None => return Verdict::Refused(Refusal::new(403)),
        };
        // RFC 7616 3.4.6: what was meant for elsewhere is a bad request here, whatever it proves.
        if !self.is_for(request, asks, presented.credentials.uri) {
            return Verdict::Refused(Refusal::counted(400, Counter::FailedMalformed));
        }
        let Some(nonce) = nonce else {
            // Not ours: tampered with, or of keys that are gone.
            self.note_failure(now, source, FailureKind::Nonce);
            return self.challenge(now, asks, false, headers);
        };
        match self.check(now, request, &claim, &presented, &nonce) {
            Finding::Right => {
                self.counters.increment(Counter::Authenticated);
                Verdict::Proven
            }
            Finding::Stale => self.challenge(now, asks, true, headers),
            Finding::Failed(kind) => {
                self.note_failure(now, source, kind);
                // A phone whose answer was overtaken by its own must learn that its password is right.
                self.challenge(now, asks, kind == FailureKind::Replayed, headers)
            }
            Finding::Unknown => self.wait_for_secrets(now, request, (source, key), &claim, out),
            Finding::Silent => Verdict::Refused(unavailable()),
        }
    }

    /// Our realm, where there is authentication.
    pub(super) fn realm(&self) -> Option<&str> {
        self.authenticator.as_ref().map(Authenticator::realm)
    }

    /// Takes what the store says of a user, and takes up anew the requests that waited for it.
    pub(super) fn on_subscriber(
        &mut self,
        now: Instant,
        aor: &[u8],
        found: Result<Option<Secrets>, StoreSilent>,
        out: &mut impl Output,
    ) {
        let users = self.location.users();
        match found {
            Ok(secrets) => users.learn(aor, secrets, now + SECRETS_TIME),
            // A dead database stops no phone that was here before.
            Err(StoreSilent) => {
                if users.prolong(aor, now + SECRETS_TIME_SILENT) {
                    self.counters.increment(Counter::AuthenticatedFromMemory);
                }
            }
        }
        let reason = self.reason(aor);
        self.store_said = Some(found.map(|_| ()));
        while let Some(waiting) = self.waits.secrets.take_for(reason) {
            self.take_up_anew(now, waiting, Waited::ForSecrets, out);
        }
        self.store_said = None;
    }

    /// Whom the credentials are to prove. Nothing: nobody of ours; nothing inside: they are somebody else's.
    fn claim<'b>(
        &self,
        request: &Message<'_>,
        presented: &Presented<'_>,
        asks: Asks,
        [aor, bare, name]: &'b mut [[u8; AOR_LEN_MAX]; 3],
    ) -> Option<Option<Claim<'b>>> {
        let authenticator = self.authenticator.as_ref()?;
        let (user, host) = self.speaks_for(request, asks)?;
        let aor = canonical_aor(user, &host, self.settings.use_domain, aor).ok()?;
        let user = canonical_aor(user, &host, false, bare).ok()?;
        let Some(name) = presented.credentials.name(name) else {
            return Some(None);
        };
        let host = match host {
            Host::Name(host) => host,
            Host::V4(_) | Host::V6(_) => b"",
        };
        let naming = authenticator.naming(presented, user, host, name);
        Some(naming.map(|naming| Claim {
            aor,
            user,
            name,
            naming,
        }))
    }

    fn check(
        &self,
        now: Instant,
        request: &Message<'_>,
        claim: &Claim<'_>,
        presented: &Presented<'_>,
        nonce: &Nonce,
    ) -> Finding {
        let is_right = match claim.naming {
            Naming::Ephemeral(until_s) => {
                if !self.is_right_for_a_time(request, claim, presented) {
                    return Finding::Failed(FailureKind::Wrong);
                }
                if until_s < now.unix_s() {
                    return Finding::Failed(FailureKind::Expired);
                }
                true
            }
            Naming::Bare | Naming::WithDomain => {
                let secrets = match self.location.users().known(now, claim.aor) {
                    Known::Secrets(secrets) => Some(secrets),
                    Known::Unknown => None,
                };
                let is_right = self.is_right(request, claim, presented, secrets.as_ref());
                if !is_right && let Some(finding) = self.refute(now, claim.aor, secrets.is_some()) {
                    return finding;
                }
                is_right
            }
        };
        if !is_right {
            return Finding::Failed(FailureKind::Wrong);
        }
        if !nonce.is_fresh {
            return Finding::Stale;
        }
        let used = PresentedNonce {
            id: nonce.id,
            made_ms: nonce.made_ms,
            count: presented.count,
            request: self.fingerprint(request),
        };
        match self.location.users().use_nonce(claim.aor, &used) {
            NonceUse::Good | NonceUse::Again => Finding::Right,
            NonceUse::Replayed => Finding::Failed(FailureKind::Replayed),
        }
    }

    /// What becomes of one who has failed, where that is not known yet: be there such a user or not, the store must have been asked.
    fn refute(&self, now: Instant, aor: &[u8], is_user: bool) -> Option<Finding> {
        let users = self.location.users();
        match self.store_said {
            Some(Ok(())) => {
                users.refute(aor, !is_user, now + REFUTATION_TIME);
                None
            }
            Some(Err(StoreSilent)) => Some(Finding::Silent),
            None => match (users.refuted(now, aor), is_user) {
                (Refuted::User, true) | (Refuted::Nobody, false) => None,
                (Refuted::User, false) | (Refuted::Nobody, true) | (Refuted::No, _) => {
                    if is_user {
                        self.counters.increment(Counter::StoreAskedAgain);
                    }
                    Some(Finding::Unknown)
                }
            },
        }
    }

    /// Whether the response is that of the user's secrets. Of nobody the same work is done as of somebody.
    fn is_right(
        &self,
        request: &Message<'_>,
        claim: &Claim<'_>,
        presented: &Presented<'_>,
        secrets: Option<&Secrets>,
    ) -> bool {
        let algorithm = presented.algorithm;
        let ha1 = secrets.and_then(|secrets| match claim.naming {
            Naming::WithDomain => ha1(&secrets.with_domain, algorithm),
            Naming::Bare | Naming::Ephemeral(_) => ha1(&secrets.bare, algorithm),
        });
        if secrets.is_some() && ha1.is_none() {
            self.counters.increment(Counter::HashMissing);
        }
        let stand_in = [0; 32];
        let stand_in = Hex::of(stand_in.get(..algorithm.hash_len()).unwrap_or_default());
        let proof = presented.proof(request.method_bytes());
        let expected = algorithm.response(ha1.as_ref().unwrap_or(&stand_in).as_bytes(), &proof);
        let is_same = is_same_hex(expected.as_bytes(), presented.credentials.response);
        is_same && ha1.is_some()
    }

    /// Whether the response is that of a time-limited name under any secret: all are tried.
    fn is_right_for_a_time(
        &self,
        request: &Message<'_>,
        claim: &Claim<'_>,
        presented: &Presented<'_>,
    ) -> bool {
        let Some(authenticator) = &self.authenticator else {
            return false;
        };
        let realm = authenticator.realm().as_bytes();
        let algorithm = presented.algorithm;
        let proof = presented.proof(request.method_bytes());
        let ha1s = authenticator
            .ephemeral()
            .map(|ephemeral| ephemeral.ha1s(algorithm, claim.name, realm));
        ha1s.into_iter().flatten().fold(false, |is_right, ha1| {
            let expected = algorithm.response(ha1.as_bytes(), &proof);
            is_right | is_same_hex(expected.as_bytes(), presented.credentials.response)
        })
    }

    /// Counts a failure, and where it came from.
    fn note_failure(&self, now: Instant, source: &Flow, kind: FailureKind) {
        let (failed, outcome) = match kind {
            FailureKind::Wrong => (Counter::FailedWrong, Some(Counter::AuthenticationFailed)),
            FailureKind::Replayed => (Counter::FailedReplayed, Some(Counter::NonceReplayed)),
            FailureKind::Nonce => (Counter::FailedNonce, None),
            FailureKind::Identity => (Counter::FailedIdentity, None),
            FailureKind::Expired => (Counter::FailedExpired, None),
        };
        self.counters.increment(failed);
        self.count_refusal(outcome);
        let failures = self.location.users().failures();
        match failures.note(now, source.peer.ip(), kind) {
            Noted::Known => {}
            Noted::New => self.counters.increment(Counter::FailureSources),
            Noted::Evicted => self.counters.increment(Counter::FailureSourcesEvicted),
        }
    }

    fn challenge<'h>(
        &mut self,
        now: Instant,
        asks: Asks,
        is_stale: bool,
        headers: &'h mut Vec<u8>,
    ) -> Verdict<'h> {
        if let Some(authenticator) = &mut self.authenticator {
            authenticator.challenge(now, asks, is_stale, headers);
        }
        self.counters.increment(Counter::Challenged);
        Verdict::Refused(Refusal::new(asks.status()).with_headers(headers))
    }

    fn wait_for_secrets<'h>(
        &mut self,
        now: Instant,
        request: &Message<'_>,
        (source, key): (&Flow, ServerKey),
        claim: &Claim<'_>,
        out: &mut impl Output,
    ) -> Verdict<'h> {
        let reason = self.reason(claim.aor);
        // One that has waited for what is asked for later does not wait again.
        let is_asked = self.may_wait(Waited::ForSecrets)
            && self.has_room(now, source)
            && (self.waits.secrets.has_reason(reason)
                || self.authenticator.as_ref().is_some_and(|authenticator| {
                    let question = SubscriberQuestion {
                        aor: claim.aor,
                        user: claim.user,
                        realm: authenticator.realm().as_bytes(),
                    };
                    out.ask_subscriber(&question).is_ok()
                }));
        let bytes = request.bytes().get(..request.end()).unwrap_or_default();
        let stored = if is_asked {
            self.table.arena_mut().store(bytes)
        } else {
            None
        };
        let Some(stored) = stored else {
            return Verdict::Refused(unavailable());
        };
        let waiting = Waiting {
            request: stored,
            source: *source,
            key,
            reason,
            answer: None,
        };
        match self.waits.secrets.park(now, waiting) {
            Ok(()) => Verdict::Waits,
            Err(waiting) => {
                self.table.arena_mut().release(waiting.request);
                Verdict::Refused(unavailable())
            }
        }
    }

    /// Whether there is room to wait for this sender: who guesses may not take the room of those who do not.
    fn has_room(&self, now: Instant, source: &Flow) -> bool {
        let is_half_full = self.waits.secrets.len() >= PARKED_MAX as usize / 2;
        let failures = self.location.users().failures();
        !is_half_full || failures.score(now, source.peer.ip()) < FAILURES_SUSPECT
    }

    /// The user and host of the AoR that a request speaks for, where that is one of ours.
    fn speaks_for<'m>(&self, request: &Message<'m>, asks: Asks) -> Option<(&'m [u8], Host<'m>)> {
        let address = match asks {
            Asks::Registrar => request.to(),
            Asks::Proxy => request.from(),
        };
        let uri = address
            .uri()
            .ok()
            .filter(|uri| self.identity.is_ours(uri))?;
        Some((uri.user?, uri.host))
    }

    /// Whether the digest-uri is that of this request, or ours (RFC 7616 3.4.6). Ours must do, since there are clients who write whom they
    /// send to, whatever the Request-URI: a registrant any that is ours, a caller none that names another callee.
    fn is_for(&self, request: &Message<'_>, asks: Asks, uri: &[u8]) -> bool {
        let (Ok(asked), Ok(said)) = (request.read_request_uri(), Uri::parse(uri)) else {
            return request.request_uri() == uri;
        };
        let is_to_us = asks == Asks::Registrar || said.user.is_none();
        equivalent(&asked, &said) || (is_to_us && self.identity.is_ours(&said))
    }

    /// What stands for waiting for a user's secrets.
    pub(super) fn reason(&self, aor: &[u8]) -> u64 {
        let mut hasher = SipHasher13::new_with_key(&self.settings.keys.transactions);
        hasher.write(aor);
        hasher.finish()
    }

    /// What tells a message from every other: a retransmission is the same to the octet.
    fn fingerprint(&self, request: &Message<'_>) -> u64 {
        let mut hasher = SipHasher13::new_with_key(&self.settings.keys.transactions);
        hasher.write(request.bytes().get(..request.end()).unwrap_or_default());
        hasher.finish()
    }
}

fn ha1(ha1s: &Ha1s, algorithm: Algorithm) -> Option<Hex> {
    match algorithm {
        Algorithm::Md5 => ha1s.md5.map(|ha1| Hex::of(&ha1)),
        Algorithm::Sha256 => ha1s.sha256.map(|ha1| Hex::of(&ha1)),
        Algorithm::Sha512_256 => ha1s.sha512_256.map(|ha1| Hex::of(&ha1)),
    }
}

/// Compares digests in a time that tells nothing of where they differ.
fn is_same_hex(expected: &[u8], given: &[u8]) -> bool {
    let mut lower = [0; 64];
    let Some(lower) = lower.get_mut(..given.len()) else {
        return false;
    };
    lower.copy_from_slice(given);
    lower.make_ascii_lowercase();
    expected.ct_eq(lower).into()
}

/// The store cannot say now, or there is no room to wait for it.
const fn unavailable() -> Refusal<'static> {
    // When the database may have come back.
    Refusal::counted(503, Counter::RefusedWaiting).with_headers(b"Retry-After: 5\r\n")
}
