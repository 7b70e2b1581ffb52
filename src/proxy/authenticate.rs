//! Who a sender is (RFC 3261 22, RFC 7616): challenges, the check of credentials, and the wait for a user's secrets.
//!
//! A user who is not known and a wrong password get the same answer, after the same work. What was right is right once: the count of
//! each nonce is remembered, and only the same message again passes a second time.

use core::hash::Hasher;

use siphasher::sip::SipHasher13;
use subtle::ConstantTimeEq;

use super::output::{Output, SubscriberQuestion};
use super::parked::Waiting;
use super::settings::Settings;
use super::validate::Refusal;
use super::waits::Waited;
use super::{Proxy, StoreSilent};
use crate::auth::{Algorithm, Hex, Nonce, NonceCodec, Proof, Qop};
use crate::counters::Counter;
use crate::datagram::Flow;
use crate::limits::{AOR_LEN_MAX, SECRETS_TIME, SECRETS_TIME_ABSENT};
use crate::location::{Known, NonceUse, PresentedNonce, Secrets};
use crate::sip::auth::Credentials;
use crate::sip::host::Host;
use crate::sip::message::Message;
use crate::sip::name::HeaderName;
use crate::sip::uri::{Uri, canonical_aor, equivalent};
use crate::time::{Duration, Instant};
use crate::transaction::key::ServerKey;

/// What an operator may set of authentication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthSettings {
    /// The realm of our challenges.
    pub realm: String,
    /// The algorithms that a challenge offers, the one preferred first.
    pub algorithms: Vec<Algorithm>,
    /// How long a nonce may be used.
    pub nonce_lifetime: Duration,
}

/// Challenges and their nonces, of one worker.
#[derive(Clone, Debug)]
pub(super) struct Authenticator {
    settings: AuthSettings,
    nonces: NonceCodec,
    next_number: u64,
}

/// Who asks: a user agent of the registrar, or one that wants something passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asks {
    /// 401, WWW-Authenticate, Authorization; it speaks for its To.
    Registrar,
    /// 407, Proxy-Authenticate, Proxy-Authorization; it speaks for its From.
    Proxy,
}

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
    Wrong,
    /// The digest is right, the nonce is not to be used any more.
    Stale,
    Unknown,
}

impl Authenticator {
    /// The one that the settings ask for, if any.
    pub(super) fn of(settings: &Settings) -> Option<Self> {
        let auth = settings.auth.clone()?;
        Some(Self {
            nonces: NonceCodec::new(settings.keys.nonces.clone(), auth.nonce_lifetime),
            settings: auth,
            // Each worker of each start numbers from elsewhere.
            next_number: settings.epoch ^ (u64::from(settings.worker.0) << 56),
        })
    }

    /// Our realm.
    pub(super) fn realm(&self) -> &str {
        &self.settings.realm
    }

    /// Writes a challenge for each algorithm, all with one new nonce (RFC 8760 2.4).
    fn challenge(&mut self, now: Instant, asks: Asks, is_stale: bool, out: &mut Vec<u8>) {
        let nonce = self.nonces.make(now, self.next_number);
        self.next_number = self.next_number.wrapping_add(1);
        out.clear();
        for algorithm in &self.settings.algorithms {
            out.extend_from_slice(asks.challenge_name());
            out.extend_from_slice(b": Digest realm=\"");
            out.extend_from_slice(self.settings.realm.as_bytes());
            out.extend_from_slice(b"\", nonce=\"");
            out.extend_from_slice(&nonce);
            out.extend_from_slice(b"\", algorithm=");
            out.extend_from_slice(algorithm.as_str().as_bytes());
            out.extend_from_slice(b", qop=\"auth\"");
            if is_stale {
                out.extend_from_slice(b", stale=true");
            }
            out.extend_from_slice(b"\r\n");
        }
    }

    /// The credentials for our realm, with an algorithm that we offer; `None` where there are none.
    fn credentials<'m>(
        &self,
        request: &Message<'m>,
        asks: Asks,
    ) -> Result<Option<(Credentials<'m>, Algorithm)>, Refusal<'static>> {
        for header in request.headers(asks.credentials_name()) {
            let credentials = match Credentials::parse(header.value) {
                Some(Ok(credentials)) => credentials,
                Some(Err(_)) => return Err(Refusal::new(400)),
                None => continue,
            };
            let algorithm = Algorithm::parse(credentials.algorithm.unwrap_or(b"MD5"));
            let offered = algorithm.filter(|known| self.settings.algorithms.contains(known));
            if let Some(algorithm) = offered
                && credentials.realm == self.settings.realm.as_bytes()
            {
                return Ok(Some((credentials, algorithm)));
            }
        }
        Ok(None)
    }
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
        let (credentials, algorithm) = match authenticator.credentials(request, asks) {
            Ok(Some(found)) => found,
            Ok(None) => return self.challenge(now, asks, false, headers),
            Err(refusal) => return Verdict::Refused(refusal),
        };
        let nonce = authenticator.nonces.read(now, credentials.nonce);
        let mut buffer = [0; AOR_LEN_MAX];
        let speaks_for = self.speaks_for(request, asks);
        let Some((user, host)) = speaks_for else {
            return Verdict::Refused(Refusal::new(403));
        };
        let Ok(aor) = canonical_aor(user, &host, self.settings.use_domain, &mut buffer) else {
            return Verdict::Refused(Refusal::new(403));
        };
        // A user speaks for itself alone; that says nothing of whether there is such a user.
        if !is_name_of(credentials.username, user, authenticator.realm().as_bytes()) {
            return Verdict::Refused(Refusal::counted(403, Counter::RefusedIdentity));
        }
        let nonce = match nonce {
            Some(nonce) => nonce,
            // Not ours: tampered with, or of keys that are gone.
            None => return self.challenge(now, asks, false, headers),
        };
        match self.check(now, request, aor, (&credentials, algorithm), &nonce) {
            Finding::Right => {
                self.counters.increment(Counter::Authenticated);
                Verdict::Proven
            }
            Finding::Stale => self.challenge(now, asks, true, headers),
            Finding::Wrong => {
                self.counters.increment(Counter::AuthenticationFailed);
                self.challenge(now, asks, false, headers)
            }
            Finding::Unknown => self.wait_for_secrets(now, request, (source, key), aor, user, out),
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
            Ok(secrets) => {
                let span = if secrets.is_some() {
                    SECRETS_TIME
                } else {
                    SECRETS_TIME_ABSENT
                };
                users.learn(aor, secrets, now + span);
            }
            // A dead database stops no phone that was here before.
            Err(StoreSilent) => {
                if users.prolong(aor, now + SECRETS_TIME_ABSENT) {
                    self.counters.increment(Counter::AuthenticatedFromMemory);
                }
            }
        }
        let reason = self.reason(aor);
        while let Some(waiting) = self.waits.secrets.take_for(reason) {
            self.take_up_anew(now, waiting, Waited::ForSecrets, out);
        }
    }

    fn check(
        &self,
        now: Instant,
        request: &Message<'_>,
        aor: &[u8],
        (credentials, algorithm): (&Credentials<'_>, Algorithm),
        nonce: &Nonce,
    ) -> Finding {
        let secrets = match self.location.users().known(now, aor) {
            Known::Secrets(secrets) => Some(secrets),
            Known::Absent => None,
            Known::Unknown => return Finding::Unknown,
        };
        let Some((qop, count)) = protection(credentials) else {
            return Finding::Wrong;
        };
        let proof = Proof {
            method: request.method_bytes(),
            uri: credentials.uri,
            nonce: credentials.nonce,
            qop,
        };
        let ha1 = secrets.as_ref().and_then(|secrets| ha1(secrets, algorithm));
        // Of nobody the same work is done as of somebody.
        let stand_in = Hex::of(&[0; 32][..algorithm.hash_len()]);
        let expected = algorithm.response(ha1.as_ref().unwrap_or(&stand_in).as_bytes(), &proof);
        let is_right = is_same_hex(expected.as_bytes(), credentials.response);
        if !is_right || ha1.is_none() || !self.is_for(request, credentials.uri) {
            return Finding::Wrong;
        }
        if !nonce.is_fresh {
            return Finding::Stale;
        }
        let presented = PresentedNonce {
            id: nonce.id,
            made_ms: nonce.made_ms,
            count,
            request: self.fingerprint(request),
        };
        match self.location.users().use_nonce(aor, &presented) {
            NonceUse::Good | NonceUse::Again => Finding::Right,
            NonceUse::Replayed => {
                self.counters.increment(Counter::NonceReplayed);
                Finding::Stale
            }
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
        aor: &[u8],
        user: &[u8],
        out: &mut impl Output,
    ) -> Verdict<'h> {
        let reason = self.reason(aor);
        // One that has waited already does not wait again: the store had no answer.
        let is_asked = self.may_wait(Waited::ForSecrets)
            && (self.waits.secrets.has_reason(reason)
                || self.authenticator.as_ref().is_some_and(|authenticator| {
                    let question = SubscriberQuestion {
                        aor,
                        user,
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
        let unavailable = Refusal::counted(503, Counter::RefusedWaiting).with_headers(RETRY_AFTER);
        let Some(stored) = stored else {
            return Verdict::Refused(unavailable);
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
                Verdict::Refused(unavailable)
            }
        }
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

    /// Whether the digest-uri is that of this request, or ours (RFC 7616 3.4.6): what was meant for elsewhere is no proof here. Ours
    /// must do, since there are clients who write whom they send to, whatever the Request-URI; each proof is good once anyway.
    fn is_for(&self, request: &Message<'_>, uri: &[u8]) -> bool {
        let (Ok(asked), Ok(said)) = (Uri::parse(request.request_uri()), Uri::parse(uri)) else {
            return request.request_uri() == uri;
        };
        equivalent(&asked, &said) || self.identity.is_ours(&said)
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

impl Asks {
    const fn status(self) -> u16 {
        match self {
            Self::Registrar => 401,
            Self::Proxy => 407,
        }
    }

    const fn challenge_name(self) -> &'static [u8] {
        match self {
            Self::Registrar => b"WWW-Authenticate",
            Self::Proxy => b"Proxy-Authenticate",
        }
    }

    const fn credentials_name(self) -> HeaderName {
        match self {
            Self::Registrar => HeaderName::Authorization,
            Self::Proxy => HeaderName::ProxyAuthorization,
        }
    }
}

/// The quality of protection of credentials, and their count: 1 of an RFC 2069 client, whose nonce is good once. `None`: one
/// that we do not offer, or no count.
fn protection<'c>(credentials: &Credentials<'c>) -> Option<(Option<Qop<'c>>, u32)> {
    let Some(name) = credentials.qop else {
        return Some((None, 1));
    };
    let digits = str::from_utf8(credentials.nc).ok()?;
    let count = u32::from_str_radix(digits, 16).ok()?;
    let qop = Qop {
        name,
        nc: credentials.nc,
        cnonce: credentials.cnonce,
    };
    name.eq_ignore_ascii_case(b"auth")
        .then_some((Some(qop), count))
}

fn ha1(secrets: &Secrets, algorithm: Algorithm) -> Option<Hex> {
    match algorithm {
        Algorithm::Md5 => secrets.md5.map(|ha1| Hex::of(&ha1)),
        Algorithm::Sha256 => secrets.sha256.map(|ha1| Hex::of(&ha1)),
        Algorithm::Sha512_256 => secrets.sha512_256.map(|ha1| Hex::of(&ha1)),
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

/// Whether a username, with `@` and the realm or without, is that of a user.
fn is_name_of(username: &[u8], user: &[u8], realm: &[u8]) -> bool {
    let bare = username
        .strip_suffix(realm)
        .and_then(|name| name.strip_suffix(b"@"))
        .unwrap_or(username);
    bare == user
}

/// When the database may have come back.
const RETRY_AFTER: &[u8] = b"Retry-After: 5\r\n";
