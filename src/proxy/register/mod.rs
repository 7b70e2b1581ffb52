//! REGISTER (RFC 3261 10.3): what it asks of the location, and the answer.
//!
//! A pure function of the request, the time and the location: there is no transaction. That is why a retransmission must get the
//! same answer without a second effect; [`Location::apply`] sees to it. It answers whatever REGISTER it is given: that the
//! Request-URI is ours (step 1), that the sender may do it (steps 3 and 4), and how the answer goes back are the
//! caller's business.

mod cause;
mod contacts;
mod extensions;
mod ok;
mod outbound;
mod settings;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use self::cause::Cause;
use self::contacts::{Asked, NO_CHANGE, first_line};
pub(super) use self::extensions::has_tag;
use self::extensions::{PATH, copy_path, unsupported};
use self::ok::{Date, Lines, put_unsupported};
pub use self::settings::RegistrarSettings;
use super::domains::Domains;
use super::gruu::GruuCodec;
use crate::counters::Counter;
use crate::datagram::Flow;
use crate::limits::{AOR_LEN_MAX, BINDING_TEXT_LEN_MAX, PATH_LEN_MAX, REGISTER_CONTACTS_MAX};
use crate::location::storable;
use crate::location::{Access, Change, Location, Refusal, Registration, Targets};
use crate::sip::uri::canonical_aor;
use crate::sip::{HeaderName, Message, Scheme, Sink, Uri};
use crate::time::Instant;

/// Answers REGISTERs.
#[derive(Clone, Debug)]
pub struct Registrar {
    location: Arc<Location>,
    domains: Arc<Domains>,
    gruus: GruuCodec,
    settings: RegistrarSettings,
    /// Whether what no row of the store can hold is refused.
    must_store: bool,
}

/// A worker's scratch for REGISTERs. Once it has grown to its greatest use it allocates nothing.
#[derive(Debug, Default)]
pub struct RegisterScratch {
    headers: Vec<u8>,
    path: Vec<u8>,
    targets: Targets,
    date: Date,
}

/// What to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer<'s> {
    /// The status code.
    pub status: u16,
    /// The reason phrase.
    pub reason: &'static str,
    /// The header fields that this answer has beside those of any: whole lines, each with its CRLF.
    pub headers: &'s [u8],
    /// What this refusal is to be counted as.
    pub counted: Option<Counter>,
    /// The location's shard that was asked, and its number, for the recorder; `None` where it did not come to that.
    pub access: Option<Access>,
    /// Bindings that were removed to make room.
    pub replaced: u32,
}

impl Registrar {
    /// Makes a registrar over `location`, which the workers share.
    #[must_use]
    pub fn new(
        location: Arc<Location>,
        domains: Arc<Domains>,
        settings: RegistrarSettings,
    ) -> Self {
        Self {
            location,
            domains,
            gruus: GruuCodec::new(settings.keys.clone()),
            settings,
            must_store: false,
        }
    }

    /// The same, which refuses what no row of the store can hold.
    #[must_use]
    pub const fn that_stores(mut self, must_store: bool) -> Self {
        self.must_store = must_store;
        self
    }

    /// Does what a REGISTER, received by the flow `source`, asks, and gives the answer.
    pub fn register<'s>(
        &self,
        now: Instant,
        message: &Message<'_>,
        source: &Flow,
        scratch: &'s mut RegisterScratch,
    ) -> Answer<'s> {
        scratch.headers.clear();
        let mut access = None;
        let result = self.serve(now, message, source, scratch, &mut access);
        let RegisterScratch {
            headers,
            path,
            targets,
            date,
        } = scratch;
        let mut lines = Lines(headers);
        match result {
            Ok(uses) => self.put_ok(now, message, (path, targets, uses), date, &mut lines),
            Err(Cause::UnaskedPath) => lines.put(b"Unsupported: path\r\n"),
            Err(Cause::Extension) => put_unsupported(message, &mut lines),
            Err(Cause::TooBrief) => {
                // RFC 3261 10.3 step 7: with it the phone knows what to ask for.
                lines.put(b"Min-Expires: ");
                lines.put_decimal(u64::from(self.settings.expires_min_s));
                lines.put(b"\r\n");
            }
            Err(Cause::Location(Refusal::Full)) => lines.put(RETRY_AFTER),
            Err(Cause::Location(Refusal::TooManyContacts)) if self.settings.is_full_unavailable => {
                lines.put(RETRY_AFTER);
            }
            Err(_) => {}
        }
        let (status, reason, counted) = match result {
            Ok(_) => (200, "OK", None),
            Err(cause @ Cause::Location(Refusal::TooManyContacts))
                if self.settings.is_full_unavailable =>
            {
                (503, cause.reason(), cause.counter())
            }
            Err(cause) => (cause.status(), cause.reason(), cause.counter()),
        };
        Answer {
            status,
            reason,
            headers,
            counted,
            access,
            replaced: targets.replaced(),
        }
    }

    /// The AoR that a To or a Request-URI names, in canonical form (RFC 3261 10.3 step 5), where it is a user of ours.
    ///
    /// `None` where the host is not ours, there is no user, or the AoR is longer than [`AOR_LEN_MAX`].
    #[must_use]
    pub fn aor<'o>(&self, uri: &Uri<'_>, out: &'o mut [u8; AOR_LEN_MAX]) -> Option<&'o [u8]> {
        let user = uri
            .user
            .filter(|_| uri.is_sip() && self.domains.owns(&uri.host))?;
        canonical_aor(user, &uri.host, self.settings.use_domain, out).ok()
    }

    fn serve(
        &self,
        now: Instant,
        message: &Message<'_>,
        source: &Flow,
        scratch: &mut RegisterScratch,
        access: &mut Option<Access>,
    ) -> Result<Uses, Cause> {
        // RFC 3261 10.3 step 2.
        if unsupported(message).next().is_some() {
            return Err(Cause::Extension);
        }
        let mut aor = [0; AOR_LEN_MAX];
        let aor = self.aor_of_to(message, &mut aor)?;
        let call_id = message.call_id();
        if call_id.len() > BINDING_TEXT_LEN_MAX {
            return Err(Cause::CallIdTooLong);
        }
        scratch.targets.clear();
        copy_path(message, &mut scratch.path)?;
        let has_path = !scratch.path.is_empty();
        if has_path && !self.settings.keeps_unasked_path && !has_tag(message, PATH) {
            return Err(Cause::UnaskedPath);
        }
        // Nearly all have one Contact.
        let mut one = [NO_CHANGE];
        let asked = self.read_contacts(message, source, has_path, &mut one)?;
        if !matches!(asked, Asked::Many) {
            return self.carry_out(now, message, source, (aor, asked, &one), scratch, access);
        }
        let mut many = [NO_CHANGE; REGISTER_CONTACTS_MAX];
        let asked = self.read_contacts(message, source, has_path, &mut many)?;
        self.carry_out(now, message, source, (aor, asked, &many), scratch, access)
    }

    /// Does what was read.
    fn carry_out(
        &self,
        now: Instant,
        message: &Message<'_>,
        source: &Flow,
        (aor, asked, changes): (&[u8], Asked, &[Change<'_>]),
        scratch: &mut RegisterScratch,
        access: &mut Option<Access>,
    ) -> Result<Uses, Cause> {
        let call_id = message.call_id();
        let has_path = !scratch.path.is_empty();
        let cseq = message.cseq().number;
        let targets = &mut scratch.targets;
        let mut uses = Uses::default();
        let (result, touched) = match asked {
            Asked::Nothing => (Ok(()), self.location.contacts(now, aor, targets).1),
            Asked::RemoveAll => self.location.remove_all(now, aor, call_id, cseq, targets),
            Asked::Many => return Err(Cause::ManyContactValues),
            Asked::Changes(count) => {
                let agent = message
                    .header(HeaderName::UserAgent)
                    .map_or(&b""[..], |field| field.value);
                let user_agent = first_line(agent);
                let registration = Registration {
                    call_id,
                    cseq,
                    user_agent,
                    path: &scratch.path,
                    flow: *source,
                };
                let changes = changes.get(..count).unwrap_or_default();
                uses.outbound = changes.iter().any(|change| change.reg_id > 0);
                uses.is_neighbour = !has_path;
                self.check_storable(aor, &registration, changes)?;
                self.location
                    .apply(now, aor, &registration, changes, targets)
            }
        };
        *access = Some(touched);
        result.map(|()| uses).map_err(Cause::Location)
    }

    /// A binding that lives in memory alone cannot be promised to outlive it.
    fn check_storable(
        &self,
        aor: &[u8],
        registration: &Registration<'_>,
        changes: &[Change<'_>],
    ) -> Result<(), Cause> {
        if !self.must_store {
            return Ok(());
        }
        let shared = [registration.call_id, registration.path];
        storable::check(aor, self.settings.use_domain, &shared).map_err(|_| Cause::Unstorable)?;
        let mut texts = changes
            .iter()
            .flat_map(|change| [change.uri, change.instance]);
        texts.try_for_each(|text| {
            storable::text(text)
                .map(drop)
                .map_err(|_| Cause::Unstorable)
        })
    }

    fn aor_of_to<'o>(
        &self,
        message: &Message<'_>,
        out: &'o mut [u8; AOR_LEN_MAX],
    ) -> Result<&'o [u8], Cause> {
        let uri = message.to().uri().map_err(|_| Cause::BadTo)?;
        // RFC 3261 10.3 step 5: an AoR that is not valid for our domains is 404. What cannot be an AoR at all is 400
        // (RFC 4475 3.3.4).
        if uri.scheme == Scheme::Other {
            return Err(Cause::ToScheme);
        }
        self.aor(&uri, out).ok_or(Cause::UnknownAor)
    }
}

/// What of the extensions a REGISTER made use of.
#[derive(Clone, Copy, Debug, Default)]
struct Uses {
    /// Flows (RFC 5626).
    outbound: bool,
    /// They end at us.
    is_neighbour: bool,
}

impl RegisterScratch {
    /// Makes a scratch with room for what most answers hold.
    #[must_use]
    pub fn new() -> Self {
        Self {
            headers: Vec::with_capacity(HEADERS_LEN),
            path: Vec::with_capacity(PATH_LEN_MAX),
            targets: Targets::new(),
            date: Date::default(),
        }
    }
}

/// When to come back where no more bindings may be held.
const RETRY_AFTER: &[u8] = b"Retry-After: 60\r\n";
/// Room for an answer's own header lines, to begin with.
const HEADERS_LEN: usize = 4_096;
