//! What we ask of a sender who must prove who it is, and which of the credentials that it sends are an answer to that (RFC 3261 22,
//! RFC 7616 3.3 and 3.4, RFC 8760 2).

use super::settings::Settings;
use super::validate::Refusal;
use crate::auth::{Algorithm, Ephemeral, Nonce, NonceCodec, Proof, Qop};
use crate::counters::Counter;
use crate::sip::auth::Credentials;
use crate::sip::message::Message;
use crate::sip::name::HeaderName;
use crate::time::{Duration, Instant};

/// What an operator may set of authentication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthSettings {
    /// The realm of our challenges.
    pub realm: String,
    /// The algorithms that a challenge offers, the one preferred first.
    pub algorithms: Vec<Algorithm>,
    /// How long a nonce may be used.
    pub nonce_lifetime: Duration,
    /// Time-limited credentials, where they are good beside the store's users.
    pub ephemeral: Option<Ephemeral>,
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

/// Credentials that answer a challenge of ours, be they right or wrong.
#[derive(Clone, Copy, Debug)]
pub(super) struct Presented<'m> {
    /// As they are written.
    pub(super) credentials: Credentials<'m>,
    /// One that we offer.
    pub(super) algorithm: Algorithm,
    /// The quality of protection; none of an RFC 2069 client.
    qop: Option<Qop<'m>>,
    /// The nonce count: 1 of an RFC 2069 client, whose nonce is good once.
    pub(super) count: u32,
}

/// How credentials name their user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Naming {
    /// `alice`.
    Bare,
    /// `alice@example.com`.
    WithDomain,
    /// `1893456000:alice`: good until then, in seconds since the Unix epoch.
    Ephemeral(u64),
}

/// Why credentials for our realm are no answer.
enum Unfit {
    /// A parameter is missing or is none.
    Malformed,
    /// They use what we do not offer.
    NotOffered,
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

    /// Time-limited credentials, where they are good.
    pub(super) const fn ephemeral(&self) -> Option<&Ephemeral> {
        self.settings.ephemeral.as_ref()
    }

    /// Reads a nonce; `None` where it is none of ours.
    pub(super) fn nonce(&self, now: Instant, text: &[u8]) -> Option<Nonce> {
        self.nonces.read(now, text)
    }

    /// Writes a challenge for each algorithm, all with one new nonce (RFC 8760 2.4).
    pub(super) fn challenge(
        &mut self,
        now: Instant,
        asks: Asks,
        is_stale: bool,
        out: &mut Vec<u8>,
    ) {
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
            if *algorithm != Algorithm::Md5 {
                // RFC 7616 3.3; a phone that knows no more than MD5 is not troubled with it.
                out.extend_from_slice(b", charset=\"UTF-8\"");
            }
            if is_stale {
                out.extend_from_slice(b", stale=true");
            }
            out.extend_from_slice(b"\r\n");
        }
    }

    /// The credentials for our realm, with an algorithm and a quality of protection that we offer; `None` where there are none.
    /// Others' are not our business, unless they cannot be read and there are no better ones.
    pub(super) fn credentials<'m>(
        &self,
        request: &Message<'m>,
        asks: Asks,
    ) -> Result<Option<Presented<'m>>, Refusal<'static>> {
        let mut is_malformed = false;
        for header in request.headers(asks.credentials_name()) {
            let credentials = match Credentials::parse(header.value) {
                Some(Ok(credentials)) => credentials,
                Some(Err(_)) => {
                    is_malformed = true;
                    continue;
                }
                None => continue,
            };
            if credentials.realm != self.settings.realm.as_bytes() {
                continue;
            }
            match self.fit(credentials) {
                Ok(presented) => return Ok(Some(presented)),
                Err(Unfit::Malformed) => is_malformed = true,
                Err(Unfit::NotOffered) => {}
            }
        }
        // RFC 7616 3.4: an improper or missing parameter is a 4xx.
        if is_malformed {
            return Err(Refusal::counted(400, Counter::FailedMalformed));
        }
        Ok(None)
    }

    /// How credentials name `user` of `host`, without escapes; `None` where they name somebody else.
    pub(super) fn naming(
        &self,
        presented: &Presented<'_>,
        user: &[u8],
        host: &[u8],
        name: &[u8],
    ) -> Option<Naming> {
        if presented.credentials.is_hashed {
            return self.hashed_naming(presented, user);
        }
        if let Some(naming) = self.plain_naming(name, user, host) {
            return Some(naming);
        }
        let ephemeral = self.ephemeral()?.read(name)?;
        self.plain_naming(ephemeral.user, user, host)
            .map(|_| Naming::Ephemeral(ephemeral.until_s))
    }

    fn plain_naming(&self, name: &[u8], user: &[u8], host: &[u8]) -> Option<Naming> {
        let domain = match name.strip_prefix(user)? {
            [] => return Some(Naming::Bare),
            [b'@', domain @ ..] => domain,
            _ => return None,
        };
        let is_same = |own: &[u8]| domain.eq_ignore_ascii_case(own);
        (is_same(self.realm().as_bytes()) || is_same(host)).then_some(Naming::WithDomain)
    }

    /// RFC 7616 3.4.4. We do not ask for it, since To and From name the user anyway; who sends it is understood.
    fn hashed_naming(&self, presented: &Presented<'_>, user: &[u8]) -> Option<Naming> {
        let realm = self.realm().as_bytes();
        let hash = presented.algorithm.userhash(user, realm);
        let given = presented.credentials.username;
        given
            .eq_ignore_ascii_case(hash.as_bytes())
            .then_some(Naming::Bare)
    }

    fn fit<'m>(&self, credentials: Credentials<'m>) -> Result<Presented<'m>, Unfit> {
        let algorithm = Algorithm::parse(credentials.algorithm.unwrap_or(b"MD5"))
            .filter(|known| self.settings.algorithms.contains(known))
            .ok_or(Unfit::NotOffered)?;
        let (qop, count) = protection(&credentials)?;
        Ok(Presented {
            credentials,
            algorithm,
            qop,
            count,
        })
    }
}

impl<'m> Presented<'m> {
    /// What the response is computed of, beside HA1.
    pub(super) const fn proof(&self, method: &'m [u8]) -> Proof<'m> {
        Proof {
            method,
            uri: self.credentials.uri,
            nonce: self.credentials.nonce,
            qop: self.qop,
        }
    }
}

impl Asks {
    pub(super) const fn status(self) -> u16 {
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

/// The quality of protection of credentials, and their count. `auth-int` we do not offer, and RFC 7616 3.4 lets a client choose of
/// what is offered alone.
fn protection<'c>(credentials: &Credentials<'c>) -> Result<(Option<Qop<'c>>, u32), Unfit> {
    let Some(name) = credentials.qop else {
        return Ok((None, 1));
    };
    if !name.eq_ignore_ascii_case(b"auth") {
        return Err(Unfit::NotOffered);
    }
    // RFC 7616 3.4: with a qop both must be there, and nc is eight hexadecimal digits.
    let is_count = credentials.nc.len() == 8 && credentials.nc.iter().all(u8::is_ascii_hexdigit);
    let digits = str::from_utf8(credentials.nc).ok().filter(|_| is_count);
    let count = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok());
    let count = count.filter(|_| !credentials.cnonce.is_empty());
    let qop = Qop {
        name,
        nc: credentials.nc,
        cnonce: credentials.cnonce,
    };
    Ok((Some(qop), count.ok_or(Unfit::Malformed)?))
}
