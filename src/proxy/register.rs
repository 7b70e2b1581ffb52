//! REGISTER (RFC 3261 10.3): what it asks of the location, and the answer.
//!
//! A pure function of the request, the time and the location: there is no transaction. That is why a retransmission must get the
//! same answer without a second effect; [`Location::apply`] sees to it. It answers whatever REGISTER it is given: that the
//! Request-URI is ours (step 1), that the sender may do it (steps 3 and 4), and how the answer goes back are the
//! caller's business.

use std::sync::Arc;

use super::domains::Domains;
use crate::counters::Counter;
use crate::datagram::{Flow, Transport};
use crate::limits::{
    AOR_LEN_MAX, BINDING_TEXT_LEN_MAX, CONTACT_LEN_MAX, PATH_LEN_MAX, REGISTER_CONTACTS_MAX,
};
use crate::location::storable;
use crate::location::{Access, Change, Location, Refusal, Registration, Targets};
use crate::scan;
use crate::sip::uri::canonical_aor;
use crate::sip::{Contact, ContactAddress, HeaderName, Message, Scheme, Sink, Uri, Via};
use crate::time::{Duration, Instant};

/// Answers REGISTERs.
#[derive(Clone, Debug)]
pub struct Registrar {
    location: Arc<Location>,
    domains: Arc<Domains>,
    settings: RegistrarSettings,
    /// Whether what no row of the store can hold is refused.
    must_store: bool,
}

/// What the operator may set of a registrar.
#[derive(Clone, Copy, Debug)]
pub struct RegistrarSettings {
    /// The expiry of a contact that asks for none.
    pub expires_default_s: u32,
    /// The shortest: less is answered 423.
    pub expires_min_s: u32,
    /// The longest: more is cut to it.
    pub expires_max_s: u32,
    /// Whether an AoR is `user@domain`; otherwise it is the user alone.
    pub use_domain: bool,
}

/// A worker's scratch for REGISTERs. Once it has grown to its greatest use it allocates nothing.
#[derive(Debug, Default)]
pub struct RegisterScratch {
    headers: Vec<u8>,
    path: Vec<u8>,
    targets: Targets,
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
}

/// Why a REGISTER is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    Extension,
    BadTo,
    ToScheme,
    UnknownAor,
    BadContact,
    ContactScheme,
    ContactTooLong,
    ManyContactValues,
    BadStar,
    BadPath,
    PathTooLong,
    CallIdTooLong,
    TooBrief,
    Unstorable,
    Location(Refusal),
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
        let mut lines = Lines(&mut scratch.headers);
        match result {
            Ok(()) => {
                list(now, &scratch.targets, &mut lines);
                if !scratch.path.is_empty() && supports_path(message) {
                    // RFC 3327 5.3: so that the phone sees by what way it will be reached.
                    lines.put_line(b"Path: ", &scratch.path);
                }
            }
            Err(Cause::Extension) => put_unsupported(message, &mut lines),
            Err(Cause::TooBrief) => {
                // RFC 3261 10.3 step 7: with it the phone knows what to ask for.
                lines.put(b"Min-Expires: ");
                lines.put_decimal(u64::from(self.settings.expires_min_s));
                lines.put(b"\r\n");
            }
            Err(Cause::Location(Refusal::Full)) => lines.put(RETRY_AFTER),
            Err(_) => {}
        }
        let (status, reason, counted) = match result {
            Ok(()) => (200, "OK", None),
            Err(cause) => (cause.status(), cause.reason(), cause.counter()),
        };
        Answer {
            status,
            reason,
            headers: &scratch.headers,
            counted,
            access,
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
    ) -> Result<(), Cause> {
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
        copy_path(message, &mut scratch.path)?;
        let mut changes = [NO_CHANGE; REGISTER_CONTACTS_MAX];
        let asked = self.read_contacts(message, source, !scratch.path.is_empty(), &mut changes)?;
        let cseq = message.cseq().number;
        let targets = &mut scratch.targets;
        let (result, touched) = match asked {
            Asked::Nothing => (Ok(()), self.location.contacts(now, aor, targets).1),
            Asked::RemoveAll => self.location.remove_all(now, aor, call_id, cseq, targets),
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
                self.check_storable(aor, &registration, changes)?;
                self.location
                    .apply(now, aor, &registration, changes, targets)
            }
        };
        *access = Some(touched);
        result.map_err(Cause::Location)
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

    /// Reads all Contacts before anything is changed (RFC 3261 10.3 steps 6 and 7).
    fn read_contacts<'m>(
        &self,
        message: &Message<'m>,
        source: &Flow,
        has_path: bool,
        changes: &mut [Change<'m>; REGISTER_CONTACTS_MAX],
    ) -> Result<Asked, Cause> {
        let is_direct = !has_path && message.values(HeaderName::Via).nth(1).is_none();
        let mut count = 0;
        let mut has_star = false;
        for contact in message.contacts() {
            match contact.map_err(|_| Cause::BadContact)? {
                Contact::Star if has_star => return Err(Cause::BadStar),
                Contact::Star => has_star = true,
                Contact::Address(contact) => {
                    let change = changes.get_mut(count).ok_or(Cause::ManyContactValues)?;
                    *change = self.change(message, &contact, source, is_direct)?;
                    count += 1;
                }
            }
        }
        // RFC 3261 10.3 step 6: `*` stands alone and with `Expires: 0`.
        match (has_star, count) {
            (true, 0) if message.expires() == Some(0) => Ok(Asked::RemoveAll),
            (true, _) => Err(Cause::BadStar),
            (false, 0) => Ok(Asked::Nothing),
            (false, _) => Ok(Asked::Changes(count)),
        }
    }

    fn change<'m>(
        &self,
        message: &Message<'m>,
        contact: &ContactAddress<'m>,
        source: &Flow,
        is_direct: bool,
    ) -> Result<Change<'m>, Cause> {
        let uri = contact.address.uri().map_err(|_| Cause::BadContact)?;
        if !uri.is_sip() {
            return Err(Cause::ContactScheme);
        }
        if uri.bytes().len() > CONTACT_LEN_MAX {
            return Err(Cause::ContactTooLong);
        }
        let expires_s = self.expires_s(contact.expires_s.or(message.expires()))?;
        Ok(Change {
            uri: uri.bytes(),
            expires: Duration::from_secs(u64::from(expires_s)),
            q: contact.q,
            received: is_direct
                && !self.is_back_to_us(&uri)
                && is_elsewhere(&uri, &message.top_via(), source),
            instance: contact
                .instance
                .filter(|text| first_line(text) == *text)
                .unwrap_or_default(),
            reg_id: contact.reg_id.unwrap_or(0),
        })
    }

    /// Whether a contact names an address of ours: it forwards to another AoR, and is no phone behind a NAT.
    fn is_back_to_us(&self, uri: &Uri<'_>) -> bool {
        uri.host.ip().is_some() && self.domains.owns(&uri.host)
    }

    /// What is granted to a contact that asks for so much.
    fn expires_s(&self, asked_s: Option<u32>) -> Result<u32, Cause> {
        let settings = &self.settings;
        match asked_s {
            None => Ok(settings.expires_default_s),
            Some(0) => Ok(0),
            // RFC 3261 10.3 step 7: only what is less than an hour may be refused as too brief.
            Some(asked) if asked < settings.expires_min_s && asked < HOUR_S => Err(Cause::TooBrief),
            Some(asked) => Ok(asked.min(settings.expires_max_s)),
        }
    }
}

/// What the Contacts of a REGISTER ask.
enum Asked {
    /// There is none: it is a query.
    Nothing,
    /// `*`.
    RemoveAll,
    /// So many changes.
    Changes(usize),
}

impl RegisterScratch {
    /// Makes a scratch with room for what most answers hold.
    #[must_use]
    pub fn new() -> Self {
        Self {
            headers: Vec::with_capacity(HEADERS_LEN),
            path: Vec::with_capacity(PATH_LEN_MAX),
            targets: Targets::new(),
        }
    }
}

impl Cause {
    const fn status(self) -> u16 {
        match self {
            Self::Extension => 420,
            Self::UnknownAor => 404,
            Self::TooBrief => 423,
            Self::Location(Refusal::OutOfOrder) => 500,
            // Kamailio answers 503, which makes a proxy before us take the whole registrar for dead (RFC 3261 21.5.4);
            // but the fault is one user's, and a retry does not help.
            Self::Location(Refusal::TooManyContacts) => 403,
            Self::Location(Refusal::Full) => 503,
            Self::BadTo
            | Self::ToScheme
            | Self::BadContact
            | Self::ContactScheme
            | Self::ContactTooLong
            | Self::ManyContactValues
            | Self::BadStar
            | Self::BadPath
            | Self::PathTooLong
            | Self::Unstorable
            | Self::CallIdTooLong => 400,
        }
    }

    const fn reason(self) -> &'static str {
        match self {
            Self::Extension => "Bad Extension",
            Self::BadTo => "Bad To",
            Self::ToScheme => "Unsupported Scheme In To",
            Self::UnknownAor => "Not Found",
            Self::BadContact => "Bad Contact",
            Self::ContactScheme => "Unsupported Scheme In Contact",
            Self::ContactTooLong => "Contact Too Long",
            Self::ManyContactValues => "Too Many Contacts",
            Self::BadStar => "Contact * Needs Expires 0 And No Other Contact",
            Self::BadPath => "Bad Path",
            Self::PathTooLong => "Path Too Long",
            Self::CallIdTooLong => "Call-ID Too Long",
            Self::TooBrief => "Interval Too Brief",
            Self::Unstorable => "Cannot Be Stored",
            Self::Location(Refusal::OutOfOrder) => "CSeq Out Of Order",
            Self::Location(Refusal::TooManyContacts) => "Too Many Registered Contacts",
            Self::Location(Refusal::Full) => "Service Unavailable",
        }
    }

    const fn counter(self) -> Option<Counter> {
        match self {
            Self::Location(Refusal::OutOfOrder) => Some(Counter::RefusedOutOfOrder),
            Self::Location(Refusal::TooManyContacts) => Some(Counter::RefusedContacts),
            Self::Location(Refusal::Full) => Some(Counter::RefusedBindings),
            Self::Unstorable => Some(Counter::RefusedUnstorable),
            Self::Extension
            | Self::BadTo
            | Self::ToScheme
            | Self::UnknownAor
            | Self::BadContact
            | Self::ContactScheme
            | Self::ContactTooLong
            | Self::ManyContactValues
            | Self::BadStar
            | Self::BadPath
            | Self::PathTooLong
            | Self::CallIdTooLong
            | Self::TooBrief => None,
        }
    }
}

/// Header lines under way.
struct Lines<'a>(&'a mut Vec<u8>);

impl Lines<'_> {
    fn put_line(&mut self, name: &[u8], value: &[u8]) {
        self.put(name);
        self.put(value);
        self.put(b"\r\n");
    }
}

impl Sink for Lines<'_> {
    fn put(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }
}

/// Lists the contacts that the AoR has now (RFC 3261 10.3 step 8).
fn list(now: Instant, targets: &Targets, lines: &mut Lines<'_>) {
    for target in targets.iter() {
        lines.put(b"Contact: <");
        lines.put(target.uri);
        lines.put(b">");
        if let Some(q) = target.q {
            lines.put(b";q=");
            lines.put_decimal(u64::from(q / 1_000));
            let decimals = q % 1_000;
            if decimals > 0 {
                let digits = [decimals / 100, decimals / 10 % 10, decimals % 10];
                let len = digits
                    .iter()
                    .rposition(|digit| *digit > 0)
                    .map_or(0, |last| last + 1);
                lines.put(b".");
                digits
                    .iter()
                    .take(len)
                    .for_each(|digit| lines.put_decimal(u64::from(*digit)));
            }
        }
        // Rounded up: a retransmission within the second gets the very same answer, and a live contact never a 0.
        lines.put(b";expires=");
        lines.put_decimal(target.expires.since(now).as_micros().div_ceil(1_000_000));
        lines.put(b"\r\n");
    }
}

/// The option tags of Require that we do not have.
fn unsupported<'m>(message: &Message<'m>) -> impl Iterator<Item = &'m [u8]> {
    let tags = message
        .values(HeaderName::Require)
        .map(|value| value.bytes());
    tags.filter(|tag| !tag.eq_ignore_ascii_case(PATH))
}

fn supports_path(message: &Message<'_>) -> bool {
    let mut tags = message
        .values(HeaderName::Supported)
        .chain(message.values(HeaderName::Require));
    tags.any(|tag| tag.bytes().eq_ignore_ascii_case(PATH))
}

/// Names all that was required in vain (RFC 3261 8.2.2.3).
fn put_unsupported(message: &Message<'_>, lines: &mut Lines<'_>) {
    for tag in unsupported(message) {
        // What is no token is told as far as it is one: nothing of it may pass for a header field of ours.
        let token = tag
            .get(..scan::skip(tag, 0, scan::TOKEN))
            .unwrap_or_default();
        if !token.is_empty() {
            lines.put_line(b"Unsupported: ", token);
        }
    }
}

/// Copies the values of Path, comma-separated and on one line (RFC 3327 5.3).
fn copy_path(message: &Message<'_>, path: &mut Vec<u8>) -> Result<(), Cause> {
    path.clear();
    for value in message.values(HeaderName::Path) {
        let is_sip = value
            .address()
            .and_then(|address| address.uri())
            .map(|uri| uri.is_sip());
        if is_sip != Ok(true) {
            return Err(Cause::BadPath);
        }
        let comma = usize::from(!path.is_empty());
        if path.len() + comma + value.bytes().len() > PATH_LEN_MAX {
            return Err(Cause::PathTooLong);
        }
        path.extend_from_slice(&b","[..comma]);
        path.extend(value.bytes().iter().map(|byte| {
            if matches!(byte, b'\r' | b'\n') {
                b' '
            } else {
                *byte
            }
        }));
    }
    Ok(())
}

/// Whether the packet's source is another place than the one that the contact names: then the phone is behind a NAT, or
/// on a connection, and is reached by the flow alone. A phone that names another port of its own address listens there,
/// unless its Via shows that a NAT stands between.
fn is_elsewhere(uri: &Uri<'_>, via: &Via<'_>, source: &Flow) -> bool {
    let is_same_host = uri.host.ip() == Some(source.peer.ip());
    // RFC 3261 19.1.2: a port that is not written is the scheme's.
    let port = uri.port.unwrap_or(if uri.scheme == Scheme::Sips {
        5061
    } else {
        5060
    });
    let asks_otherwise = uri.param(b"transport").flatten().is_some_and(|transport| {
        !transport.eq_ignore_ascii_case(source.transport.as_str().as_bytes())
    });
    match source.transport {
        // Over a connection the source port says nothing: a phone that names UDP is to be reached so, where it can.
        Transport::Tcp if asks_otherwise => !is_same_host,
        Transport::Tcp => true,
        Transport::Udp if !is_same_host => true,
        Transport::Udp => port != source.peer.port() && is_rewritten(via, source),
    }
}

/// Whether the topmost Via names another address than the packet came from. Loopback is what a host writes that does not
/// know its own name: it says nothing. Nor does the port: one may send from another than it listens on (RFC 3261 18.1.1).
fn is_rewritten(via: &Via<'_>, source: &Flow) -> bool {
    let sent_by = via.host().ok().and_then(|host| host.ip());
    sent_by.is_some_and(|ip| ip != source.peer.ip() && !ip.is_loopback())
}

/// A folded text as far as its first line.
fn first_line(text: &[u8]) -> &[u8] {
    let end = scan::find_line_break(text, 0).unwrap_or(text.len());
    text.get(..end).unwrap_or_default()
}

const NO_CHANGE: Change<'static> = Change {
    uri: b"",
    expires: Duration::ZERO,
    q: None,
    received: false,
    instance: b"",
    reg_id: 0,
};
/// The one extension that a registrar needs to know of and that is built (RFC 3327).
const PATH: &[u8] = b"path";
/// RFC 3261 10.3 step 7.
const HOUR_S: u32 = 3_600;
/// When to come back where no more bindings may be held.
const RETRY_AFTER: &[u8] = b"Retry-After: 60\r\n";
/// Room for an answer's own header lines, to begin with.
const HEADERS_LEN: usize = 4_096;

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use proptest::prelude::*;

    use super::*;
    use crate::datagram::ListenerId;
    use crate::location::{LocationSettings, Lookup};
    use crate::sip::{Index, Parsed, parse};

    const START: Instant = Instant::from_micros(1_700_000_000_000_000);
    const SETTINGS: RegistrarSettings = RegistrarSettings {
        expires_default_s: 3_600,
        expires_min_s: 60,
        expires_max_s: 7_200,
        use_domain: false,
    };

    struct Bed {
        registrar: Registrar,
        location: Arc<Location>,
        scratch: RegisterScratch,
        now: Instant,
        source: Flow,
    }

    /// An answer that has outlived its scratch.
    #[derive(Debug, PartialEq, Eq)]
    struct Got(u16, &'static str, String);

    impl Bed {
        fn new() -> Self {
            Self::with(SETTINGS, 1_000)
        }

        fn with(settings: RegistrarSettings, bindings_max: usize) -> Self {
            let location = LocationSettings {
                hash_key: [9; 16],
                bindings_max,
                contacts_max: 3,
            };
            let location = Arc::new(Location::new(&location));
            let ours = ["192.0.2.1".parse().expect("an address")];
            let domains = Arc::new(Domains::new(["example.com"], ours));
            let registrar = Registrar::new(Arc::clone(&location), domains, settings);
            let peer = "198.51.100.7:5060".parse().expect("an address");
            let source = Flow {
                listener: ListenerId(1),
                transport: Transport::Udp,
                peer,
            };
            Self {
                registrar,
                location,
                scratch: RegisterScratch::new(),
                now: START,
                source,
            }
        }

        fn pass(&mut self, secs: u64) -> &mut Self {
            self.now = self.now + Duration::from_secs(secs);
            self
        }

        fn send(&mut self, text: &str) -> Got {
            let mut index = Index::new();
            let text = text.replace('\n', "\r\n");
            let message = match parse(text.as_bytes(), &mut index) {
                Parsed::Good(message) => message,
                Parsed::Answerable(_, rejection) => {
                    return Got(rejection.status(), rejection.reason(), String::new());
                }
                Parsed::NotSip(cause) => panic!("{cause:?}"),
            };
            let answer =
                self.registrar
                    .register(self.now, &message, &self.source, &mut self.scratch);
            assert_eq!(
                answer.headers.is_empty(),
                !answer.headers.ends_with(b"\r\n")
            );
            Got(
                answer.status,
                answer.reason,
                String::from_utf8_lossy(answer.headers).into_owned(),
            )
        }

        /// A REGISTER of alice's with these further header lines.
        fn register(&mut self, cseq: u32, lines: &[&str]) -> Got {
            self.send(&request("sip:alice@example.com", "call-1", cseq, lines))
        }

        /// What alice has, each contact with its parameters.
        fn bindings(&mut self) -> Vec<String> {
            contacts(&self.register(999, &[]))
        }
    }

    fn request(to: &str, call_id: &str, cseq: u32, lines: &[&str]) -> String {
        let mut text = format!(
            "REGISTER sip:example.com SIP/2.0\nVia: SIP/2.0/UDP 198.51.100.7;branch=z9hG4bK{cseq}\nMax-Forwards: 70\n\
             From: <{to}>;tag=1\nTo: <{to}>\nCall-ID: {call_id}\nCSeq: {cseq} REGISTER\nUser-Agent: Phone/1\n"
        );
        for line in lines {
            writeln!(text, "{line}").expect("a string takes all");
        }
        text + "Content-Length: 0\n\n"
    }

    fn contacts(got: &Got) -> Vec<String> {
        assert_eq!(got.0, 200, "{got:?}");
        let lines = got.2.lines();
        lines
            .map(|line| {
                line.strip_prefix("Contact: ")
                    .expect("only contacts")
                    .to_owned()
            })
            .collect()
    }

    #[test]
    fn a_phone_registers_refreshes_asks_and_leaves() {
        let mut bed = Bed::new();
        let first = bed.register(1, &["Contact: <sip:alice@198.51.100.7:5060;ob>;q=0.7"]);
        assert_eq!(
            contacts(&first),
            ["<sip:alice@198.51.100.7:5060;ob>;q=0.7;expires=3600"]
        );
        bed.pass(600);
        assert_eq!(
            bed.bindings(),
            ["<sip:alice@198.51.100.7:5060;ob>;q=0.7;expires=3000"]
        );
        let second = bed.register(2, &["m: <sip:alice@198.51.100.7:5060;ob>", "Expires: 120"]);
        assert_eq!(
            contacts(&second),
            ["<sip:alice@198.51.100.7:5060;ob>;expires=120"]
        );
        assert_eq!(
            bed.register(3, &["Contact: <sip:alice@198.51.100.7:5060;ob>;expires=0"])
                .2,
            ""
        );
        assert_eq!(bed.location.bindings(), 0);
    }

    #[test]
    fn contacts_stand_in_one_line_or_in_several() {
        let mut bed = Bed::new();
        let lines = [
            "Contact: <sip:a@h.com>;expires=70 , \"b, c\" <sip:b@h.com>;q=0.25",
            "m: sip:c@h.com;expires=90",
        ];
        let got = bed.register(1, &lines);
        let expected = [
            "<sip:a@h.com>;expires=70",
            "<sip:b@h.com>;q=0.25;expires=3600",
            "<sip:c@h.com>;expires=90",
        ];
        assert_eq!(contacts(&got), expected);
        let got = bed.register(2, &["Contact: sip:d@h.com"]);
        assert_eq!((got.0, got.1), (403, "Too Many Registered Contacts"));
        assert_eq!(bed.bindings().len(), 3);
    }

    #[test]
    fn a_retransmission_gets_the_same_answer_and_a_late_request_500() {
        let mut bed = Bed::new();
        let lines = ["Contact: <sip:a@h.com>", "Expires: 100"];
        let first = bed.register(5, &lines);
        assert_eq!(bed.register(5, &lines), first);
        assert_eq!(
            bed.pass(10).register(5, &lines).2,
            "Contact: <sip:a@h.com>;expires=90\r\n"
        );
        assert_eq!(
            bed.register(4, &["Contact: <sip:a@h.com>, <sip:b@h.com>"])
                .0,
            500
        );
        assert_eq!(bed.bindings(), ["<sip:a@h.com>;expires=90"]);
        bed.register(6, &["Contact: <sip:a@h.com>;expires=0"]);
        assert_eq!(bed.register(5, &lines).0, 500, "it cannot come back");
        assert!(bed.bindings().is_empty());
    }

    #[test]
    fn star_removes_all_but_only_alone_and_with_expires_0() {
        let mut bed = Bed::new();
        bed.register(1, &["Contact: <sip:a@h.com>, <sip:b@h.com>"]);
        for lines in [
            &["Contact: *"][..],
            &["Contact: *", "Expires: 60"],
            &["Contact: *, <sip:a@h.com>", "Expires: 0"],
            &["Contact: <sip:a@h.com>", "Contact: *", "Expires: 0"],
            &["Contact: *, *", "Expires: 0"],
            &["Contact: *;expires=0", "Expires: 0"],
        ] {
            assert_eq!(bed.register(2, lines).0, 400, "{lines:?}");
        }
        assert_eq!(bed.bindings().len(), 2);
        assert_eq!(
            bed.register(2, &["Contact: *", "Expires: 0"]),
            Got(200, "OK", String::new())
        );
        assert_eq!(
            bed.register(2, &["Contact: *", "Expires: 0"]),
            Got(200, "OK", String::new())
        );
        assert_eq!(bed.register(1, &["Contact: *", "Expires: 0"]).0, 500);
        assert_eq!(bed.location.bindings(), 0);
    }

    #[test]
    fn expiry_is_asked_by_parameter_then_by_field_and_granted_within_bounds() {
        let mut bed = Bed::new();
        let granted =
            |bed: &mut Bed, cseq, lines: &[&str]| contacts(&bed.register(cseq, lines)).join("");
        assert_eq!(
            granted(
                &mut bed,
                1,
                &["Contact: <sip:a@h.com>;expires=80", "Expires: 90"]
            ),
            "<sip:a@h.com>;expires=80"
        );
        assert_eq!(
            granted(&mut bed, 2, &["Contact: <sip:a@h.com>;expires=99999999"]),
            "<sip:a@h.com>;expires=7200"
        );
        assert_eq!(
            granted(&mut bed, 3, &["Contact: <sip:a@h.com>;expires=60"]),
            "<sip:a@h.com>;expires=60"
        );
        let brief = bed.register(4, &["Contact: <sip:b@h.com>, <sip:a@h.com>;expires=59"]);
        assert_eq!(
            brief,
            Got(423, "Interval Too Brief", "Min-Expires: 60\r\n".into())
        );
        assert_eq!(
            bed.bindings(),
            ["<sip:a@h.com>;expires=60"],
            "all or nothing"
        );
        let long = RegistrarSettings {
            expires_min_s: 5_000,
            expires_max_s: 9_000,
            ..SETTINGS
        };
        let mut bed = Bed::with(long, 10);
        assert_eq!(
            bed.register(1, &["Contact: <sip:a@h.com>;expires=3599"]).0,
            423
        );
        assert_eq!(
            bed.register(1, &["Contact: <sip:a@h.com>;expires=3600"]).0,
            200,
            "an hour is never too brief"
        );
    }

    #[test]
    fn only_users_of_ours_have_bindings() {
        let mut bed = Bed::new();
        for (to, status) in [
            ("sip:alice@example.com", 200),
            ("sip:alice@EXAMPLE.com:5070;transport=udp", 200),
            ("sips:alice@192.0.2.1", 200),
            ("sip:alice@example.net", 404),
            ("sip:alice@192.0.2.9", 404),
            ("sip:example.com", 404),
            ("tel:+15551234", 404),
            ("isbn:2983792873", 400),
            ("sip:alice@exa mple.com", 400),
        ] {
            assert_eq!(bed.send(&request(to, "c", 1, &[])).0, status, "{to}");
        }
        let long = format!("sip:{}@example.com", "x".repeat(AOR_LEN_MAX + 1));
        assert_eq!(
            bed.send(&request(&long, "c", 1, &["Contact: <sip:a@h.com>"]))
                .0,
            404
        );
    }

    #[test]
    fn an_aor_is_the_user_alone_or_with_its_domain() {
        for (use_domain, aor) in [(false, "alice"), (true, "alice@example.com")] {
            let mut bed = Bed::with(
                RegistrarSettings {
                    use_domain,
                    ..SETTINGS
                },
                10,
            );
            let lines = ["Contact: <sip:a@h.com>"];
            bed.send(&request(
                "sip:%61lice@Example.COM:5060;user=phone",
                "c",
                1,
                &lines,
            ));
            let found = bed
                .location
                .lookup(bed.now, aor.as_bytes(), &mut Targets::new())
                .0;
            assert_eq!(found, Lookup::Found, "{aor}");
            let mut out = [0; AOR_LEN_MAX];
            let uri = Uri::parse(b"sip:alice@example.com").expect("a URI");
            assert_eq!(bed.registrar.aor(&uri, &mut out), Some(aor.as_bytes()));
        }
    }

    #[test]
    fn a_phone_behind_a_nat_is_reached_by_the_flow_it_came_by() {
        let nat = |contact: &str, via: &str, transport| {
            let mut bed = Bed::new();
            bed.source.transport = transport;
            let got = bed.register(1, &[via, &format!("Contact: {contact}")]);
            assert_eq!(got.0, 200, "{got:?}");
            let mut targets = Targets::new();
            bed.location.lookup(bed.now, b"alice", &mut targets);
            let target = targets.target(0).expect("it is registered");
            assert_eq!(target.listener, ListenerId(1));
            target.received == Some(bed.source)
        };
        const NONE: &str = "Subject: nothing";
        let (udp, tcp) = (Transport::Udp, Transport::Tcp);
        assert!(!nat("<sip:a@198.51.100.7>", NONE, udp));
        assert!(!nat("<sip:a@198.51.100.7:5060>", NONE, udp));
        assert!(!nat("<sip:a@198.51.100.7:5062>", NONE, udp));
        assert!(nat("<sip:a@10.0.0.5:5060>", NONE, udp));
        assert!(nat("<sip:a@phone.invalid>", NONE, udp));
        assert!(nat("<sip:a@198.51.100.7;transport=tcp>", NONE, tcp));
        assert!(!nat("<sip:a@198.51.100.7;transport=udp>", NONE, tcp));
        // What came through another proxy says nothing of where the phone is.
        assert!(!nat(
            "<sip:a@10.0.0.5>",
            "Via: SIP/2.0/UDP 10.0.0.5;branch=z9hG4bKx",
            udp
        ));
        assert!(!nat(
            "<sip:a@10.0.0.5>",
            "Path: <sip:edge.example.com;lr>",
            udp
        ));
    }

    #[test]
    fn another_port_of_the_same_address_is_believed_unless_the_via_shows_a_nat() {
        let is_received = |via: &str| {
            let mut bed = Bed::new();
            let lines = ["Contact: <sip:a@198.51.100.7:5062>"];
            let text = request("sip:alice@example.com", "call-1", 1, &lines);
            let got = bed.send(&text.replace("198.51.100.7;branch", &format!("{via};branch")));
            assert_eq!(got.0, 200, "{got:?}");
            let mut targets = Targets::new();
            bed.location.lookup(bed.now, b"alice", &mut targets);
            targets
                .target(0)
                .is_some_and(|target| target.received.is_some())
        };
        assert!(!is_received("198.51.100.7"), "a phone of two ports");
        assert!(!is_received("198.51.100.7:5062;rport"));
        assert!(!is_received("127.0.0.1:40000;rport"), "it knows no better");
        assert!(is_received("10.0.0.5;rport"));
        assert!(is_received("10.0.0.5"));
    }

    #[test]
    fn path_is_kept_and_told_and_other_extensions_are_refused() {
        let mut bed = Bed::new();
        let got = bed.register(
            1,
            &[
                "Require: path, Gruu",
                "Require: outbound",
                "Contact: <sip:a@h.com>",
            ],
        );
        assert_eq!(
            got,
            Got(
                420,
                "Bad Extension",
                "Unsupported: Gruu\r\nUnsupported: outbound\r\n".into()
            )
        );
        let path = [
            "Path: <sip:p2.example.com;lr>",
            "Path: <sip:p1.example.com;lr>, <sip:p0.example.com;lr>",
        ];
        let got = bed.register(
            1,
            &[
                "Supported: path",
                path[0],
                path[1],
                "Contact: <sip:a@h.com>",
            ],
        );
        let kept = "<sip:p2.example.com;lr>,<sip:p1.example.com;lr>,<sip:p0.example.com;lr>";
        assert_eq!(
            got.2,
            format!("Contact: <sip:a@h.com>;expires=3600\r\nPath: {kept}\r\n")
        );
        let mut targets = Targets::new();
        bed.location.lookup(bed.now, b"alice", &mut targets);
        assert_eq!(
            targets.target(0).map(|target| target.path),
            Some(kept.as_bytes())
        );
        assert_eq!(
            bed.register(2, &["Path: nonsense", "Contact: <sip:a@h.com>"])
                .1,
            "Bad Path"
        );
        let long = format!("Path: <sip:{}.example.com;lr>", "x".repeat(PATH_LEN_MAX));
        assert_eq!(
            bed.register(2, &[&long, "Contact: <sip:a@h.com>"]).1,
            "Path Too Long"
        );
        let got = bed.register(2, &["Require: a\n evil", "Contact: <sip:a@h.com>"]);
        assert_eq!(got.2, "Unsupported: a\r\n", "nothing that is no token");
    }

    #[test]
    fn what_is_too_long_or_too_much_is_refused_whole() {
        let mut bed = Bed::new();
        let contact = format!(
            "Contact: <sip:a@h.com>, <sip:{}@h.com>",
            "x".repeat(CONTACT_LEN_MAX)
        );
        assert_eq!(bed.register(1, &[&contact]).1, "Contact Too Long");
        let call_id = "c".repeat(BINDING_TEXT_LEN_MAX + 1);
        let got = bed.send(&request(
            "sip:alice@example.com",
            &call_id,
            1,
            &["Contact: <sip:a@h.com>"],
        ));
        assert_eq!(got.1, "Call-ID Too Long");
        let many = format!(
            "Contact: {}",
            vec!["<sip:a@h.com>"; REGISTER_CONTACTS_MAX + 1].join(",")
        );
        assert_eq!(bed.register(1, &[&many]).1, "Too Many Contacts");
        assert_eq!(
            bed.register(1, &["Contact: <sip:a@h.com>, <tel:+1555>"]).1,
            "Unsupported Scheme In Contact"
        );
        assert_eq!(
            bed.register(1, &["Contact: <sip:a@h.com>, <sip:b@h.com>;q=7"])
                .1,
            "Bad Contact"
        );
        assert!(bed.bindings().is_empty());
    }

    #[test]
    fn at_the_bound_a_new_phone_is_refused_with_retry_after_and_an_old_one_served() {
        let mut bed = Bed::with(SETTINGS, 1);
        bed.register(1, &["Contact: <sip:a@h.com>"]);
        let got = bed.send(&request(
            "sip:bob@example.com",
            "b",
            1,
            &["Contact: <sip:b@h.com>"],
        ));
        assert_eq!(
            got,
            Got(503, "Service Unavailable", "Retry-After: 60\r\n".into())
        );
        assert_eq!(bed.register(2, &["Contact: <sip:a@h.com>"]).0, 200);
    }

    #[test]
    fn q_is_written_as_shortly_as_it_can_be() {
        for (q, written) in [
            ("0", ";q=0"),
            ("1.0", ";q=1"),
            ("0.05", ";q=0.05"),
            ("0.125", ";q=0.125"),
            ("0.10", ";q=0.1"),
        ] {
            let got = Bed::new().register(1, &[&format!("Contact: <sip:a@h.com>;q={q}")]);
            assert_eq!(
                got.2,
                format!("Contact: <sip:a@h.com>{written};expires=3600\r\n")
            );
        }
    }

    const HEAD: &str = "Max-Forwards: 70\nVia: SIP/2.0/UDP host5.example.com;branch=z9hG4bKkdjuw\n";

    fn torture(bed: &mut Bed, to: &str, cseq: u32, contact: &str) -> Got {
        bed.send(&format!(
            "REGISTER sip:example.com SIP/2.0\nTo: {to}\nFrom: {to};tag=839923423\n{HEAD}Call-ID: {cseq}@x\n\
             CSeq: {cseq} REGISTER\n{contact}L:0\n\n"
        ))
    }

    #[test]
    fn rfc_4475_escaped_nuls_stay_distinct() {
        let mut bed = Bed::new();
        let contact =
            "Contact: <sip:%00@host5.example.com>\nContact: <sip:%00%00@host5.example.com>\n";
        let got = torture(
            &mut bed,
            "sip:null-%00-null@example.com",
            14_398_234,
            contact,
        );
        assert_eq!(contacts(&got).len(), 2);
        let mut targets = Targets::new();
        assert_eq!(
            bed.location
                .lookup(bed.now, b"null-\0-null", &mut targets)
                .0,
            Lookup::Found
        );
        assert_eq!(
            bed.location.lookup(bed.now, b"null--null", &mut targets).0,
            Lookup::Unknown
        );
    }

    #[test]
    fn rfc_4475_a_parameter_belongs_to_the_contact_or_to_its_uri() {
        let mut bed = Bed::new();
        let contact = "Contact: sip:+19725552222@gw1.example.net;unknownparam\n";
        let got = torture(&mut bed, "sip:watson@example.com", 2, contact);
        assert_eq!(
            contacts(&got),
            ["<sip:+19725552222@gw1.example.net>;expires=3600"]
        );
        let contact = "Contact: <sip:+19725552222@gw1.example.net;unknownparam>\n";
        let got = torture(&mut bed, "sip:watson@example.com", 3, contact);
        // RFC 3261 19.1.4: a parameter that only one of them has does not tell them apart.
        assert_eq!(
            contacts(&got),
            ["<sip:+19725552222@gw1.example.net;unknownparam>;expires=3600"]
        );
    }

    #[test]
    fn rfc_4475_an_escaped_route_stays_in_the_binding_and_needs_brackets() {
        let mut bed = Bed::new();
        let contact = "M: <sip:user@example.com?Route=%3Csip:sip.example.com%3E>\n";
        let got = torture(&mut bed, "sip:user@example.com", 14_398_234, contact);
        assert_eq!(
            contacts(&got),
            ["<sip:user@example.com?Route=%3Csip:sip.example.com%3E>;expires=3600"]
        );
        let contact = "Contact: sip:user@example.com?Route=%3Csip:sip.example.com%3E\n";
        assert_eq!(torture(&mut bed, "sip:user@example.com", 1, contact).0, 400);
        let got = torture(
            &mut bed,
            "isbn:2983792873",
            234_902,
            "Contact: <name:John_Smith>\n",
        );
        assert_eq!(got.0, 400, "RFC 4475 3.3.4");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn whatever_is_sent_the_answer_has_only_lines_of_ours(
            changes in prop::collection::vec((any::<prop::sample::Index>(), mutation()), 0..6),
        ) {
            let mut text = request("sip:alice@example.com", "call-1", 7, &[
                "Require: path,\r\n path",
                "Path: <sip:p2.example.com;lr>,\r\n \"x\"\r\n <sip:p1.example.com;lr>",
                "Contact: \"A\" <sip:alice@198.51.100.7;ob>;q=0.5;+sip.instance=\"<u>\", sip:b@h.com;expires=80",
                "Expires: 90",
            ]).replace("\r\n", "\n").replace('\n', "\r\n").into_bytes();
            for (place, mutation) in changes {
                mutation.apply(place.index(text.len()), &mut text);
            }
            let mut bed = Bed::new();
            let mut index = Index::new();
            if let Parsed::Good(message) = parse(&text, &mut index) {
                let answer = bed.registrar.register(START, &message, &bed.source, &mut bed.scratch);
                let lines = String::from_utf8_lossy(answer.headers).into_owned();
                prop_assert!(lines.is_empty() || lines.ends_with("\r\n"));
                for line in lines.split_terminator("\r\n") {
                    let names = ["Contact: <", "Path: ", "Min-Expires: ", "Unsupported: ", "Retry-After: "];
                    prop_assert!(names.iter().any(|name| line.starts_with(name)), "{line:?}");
                    prop_assert!(!line.contains(['\r', '\n']), "{line:?}");
                }
            }
        }
    }

    /// What may happen to a message at a place.
    #[derive(Clone, Debug)]
    enum Mutation {
        Set(u8),
        Cut(usize),
        Insert(&'static str),
    }

    fn mutation() -> impl Strategy<Value = Mutation> {
        let pieces = [
            "\r\n ",
            "\r",
            "\n",
            "\"",
            "<",
            ">",
            ",",
            ";",
            "*",
            "\r\nContact: *\r\n",
            "%00",
            "\0",
            "\r\nA: b",
        ];
        prop_oneof![
            any::<u8>().prop_map(Mutation::Set),
            (1..40_usize).prop_map(Mutation::Cut),
            prop::sample::select(pieces.to_vec()).prop_map(Mutation::Insert),
        ]
    }

    impl Mutation {
        fn apply(&self, at: usize, text: &mut Vec<u8>) {
            match self {
                Self::Set(byte) => text[at] = *byte,
                Self::Cut(len) if at + len < text.len() => drop(text.drain(at..at + len)),
                Self::Cut(_) => {}
                Self::Insert(piece) => drop(text.splice(at..at, piece.bytes())),
            }
        }
    }
}
