//! `ul.*`: the bindings, read and changed by errands to the workers.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};

use super::params::Params;
use super::{FORBIDDEN, Fault, INTERNAL_ERROR, NOT_FOUND, RPC_ANSWER_LEN, UNAVAILABLE};
use crate::admin::{Registry, State};
use crate::datagram::{Flow, ListenerId, Transport};
use crate::limits::{
    AOR_LEN_MAX, CONTACT_LEN_MAX, DUMP_AORS_DEFAULT, DUMP_AORS_MAX, LOCATION_SHARDS, PATH_LEN_MAX,
};
use crate::location::{
    Change, Lookup, Page, PageCursor, PagedAor, PagedContact, Refusal, Registration, Targets,
};
use crate::sip::{Address, Scheme, Span, Uri};
use crate::time::{Duration, Instant};

/// The way to the location.
pub(super) fn registry(state: &State) -> Result<&Registry, Fault> {
    let absent = || Fault::new(INTERNAL_ERROR, "there are no workers to ask");
    state.registry.as_ref().ok_or_else(absent)
}

/// `ul.dump`: a page of AoRs, collected slice by slice.
pub(super) async fn dump(state: &State, params: &Params<'_>) -> Result<Value, Fault> {
    let registry = registry(state)?;
    let limit = params.number("limit", 1..=u64::MAX)?;
    let limit = limit.map_or(DUMP_AORS_DEFAULT, |limit| {
        usize::try_from(limit)
            .unwrap_or(DUMP_AORS_MAX)
            .min(DUMP_AORS_MAX)
    });
    let mut cursor = match params.text("cursor")? {
        Some(text) => Some(cursor_of(&text)?),
        None => Some(PageCursor::START),
    };
    let (mut aors, mut page, mut len) = (Vec::new(), Page::new(), 0);
    while let Some(from) = cursor
        && aors.len() < limit
        && len < RPC_ANSWER_LEN
    {
        let wanted = limit - aors.len();
        page.clear();
        let slice = move |now, location: &crate::location::Location| {
            let next = location.page(now, from, wanted, &mut page);
            (now, next, page)
        };
        let (now, next, filled) = registry.errands.run(slice).await?;
        aors.extend(filled.aors().map(|aor| shown(now, &aor)));
        len += filled.text_len();
        (page, cursor) = (filled, next);
    }
    Ok(json!({ "aors": aors, "next": cursor.map(text_of) }))
}

/// `ul.lookup`: the contacts of one AoR.
pub(super) async fn lookup(state: &State, params: &Params<'_>) -> Result<Value, Fault> {
    let registry = registry(state)?;
    let names = registry.names(&params.required("aor")?);
    let mut page = Page::new();
    let work = move |now, location: &crate::location::Location| {
        for name in names {
            if location.page_of(now, &name, &mut page) != Lookup::Unknown {
                break;
            }
        }
        (now, page)
    };
    let (now, page) = registry.errands.run(work).await?;
    let aor = page.aors().next().map(|aor| shown(now, &aor));
    aor.ok_or_else(no_aor)
}

/// `ul.rm`: removes the contacts of an AoR, or one of them.
pub(super) async fn remove(state: &State, params: &Params<'_>) -> Result<Value, Fault> {
    let registry = registry(state)?;
    let names = registry.names(&params.required("aor")?);
    let contact = params.text("contact")?;
    if let Some(contact) = &contact {
        contact_uri(contact)?;
    }
    let contact = contact.map(|contact| contact.as_bytes().to_owned());
    let work = move |now, location: &crate::location::Location| {
        let mut found = (Lookup::Unknown, 0);
        for name in names {
            found = location.evict(now, &name, contact.as_deref());
            if found.0 != Lookup::Unknown {
                break;
            }
        }
        found
    };
    match registry.errands.run(work).await? {
        (Lookup::Unknown | Lookup::NoContacts | Lookup::NotLoaded, _) => Err(no_aor()),
        (Lookup::Found, 0) => Err(Fault::new(NOT_FOUND, "Contact not found")),
        (Lookup::Found, removed) => Ok(json!({ "removed": removed })),
    }
}

/// `ul.add`: binds a contact as a REGISTER with a new Call-ID would.
pub(super) async fn add(state: &State, params: &Params<'_>) -> Result<Value, Fault> {
    let registry = registry(state)?;
    let added = Added::read(registry, params)?;
    let (aor, expires_s) = (added.aor.clone(), added.expires.as_secs());
    let mut targets = Targets::new();
    let work = move |now: Instant, location: &crate::location::Location| {
        // Never the same twice, or it would be taken for a retransmission.
        let number = ADDED.fetch_add(1, Ordering::Relaxed);
        let call_id = format!("ctl-{:x}-{number:x}@strowger", now.as_micros());
        let registration = Registration {
            call_id: call_id.as_bytes(),
            cseq: 1,
            user_agent: USER_AGENT,
            path: &added.path,
            flow: added.flow,
        };
        let change = Change {
            uri: &added.contact,
            expires: added.expires,
            q: added.q,
            received: added.received,
            instance: b"",
            reg_id: 0,
        };
        let (result, _) = location.apply(now, &added.aor, &registration, &[change], &mut targets);
        result
    };
    match registry.errands.run(work).await? {
        Ok(()) => Ok(json!({ "aor": text(&aor), "expires": expires_s })),
        Err(refusal @ Refusal::TooManyContacts) => Err(Fault::new(FORBIDDEN, refusal.as_str())),
        Err(refusal @ Refusal::Full) => Err(Fault::new(UNAVAILABLE, refusal.as_str())),
        Err(refusal @ Refusal::OutOfOrder) => Err(Fault::new(INTERNAL_ERROR, refusal.as_str())),
    }
}

impl Registry {
    /// What an AoR may be meant by: the text as `ul.dump` shows it, then the user that it names as a URI or an address.
    fn names(&self, given: &str) -> Vec<Vec<u8>> {
        let exact = given.as_bytes().to_owned();
        let named = self.user(given).filter(|named| *named != exact);
        std::iter::once(exact).chain(named).collect()
    }

    /// The AoR of the user of ours that a URI or `user@domain` names.
    fn user(&self, given: &str) -> Option<Vec<u8>> {
        let with_scheme = format!("sip:{given}");
        let uri = Uri::parse(given.as_bytes())
            .ok()
            .filter(Uri::is_sip)
            .or_else(|| Uri::parse(with_scheme.as_bytes()).ok())?;
        let mut room = [0; AOR_LEN_MAX];
        self.registrar.aor(&uri, &mut room).map(<[u8]>::to_vec)
    }

    /// The AoR that a contact is added to.
    fn aor_to_add_to(&self, given: &str) -> Result<Vec<u8>, Fault> {
        if let Some(aor) = self.user(given) {
            return Ok(aor);
        }
        let is_plain = !given.contains(['@', ':']) && !self.use_domain;
        if is_plain && !given.is_empty() && given.len() <= AOR_LEN_MAX {
            return Ok(given.as_bytes().to_owned());
        }
        let text = if self.use_domain {
            "aor is user@domain, with a domain of ours"
        } else {
            "aor is a user, or user@domain with a domain of ours"
        };
        Err(Fault::params(text))
    }

    /// Our listener of a family: by which a contact is reached.
    fn listener_of(&self, ip: IpAddr) -> ListenerId {
        let mut listeners = self.listeners.iter();
        let fitting = listeners.find(|(_, address)| address.is_ipv4() == ip.is_ipv4());
        fitting.map_or(ListenerId(0), |(id, _)| *id)
    }
}

/// A contact to be added.
struct Added {
    aor: Vec<u8>,
    contact: Vec<u8>,
    expires: Duration,
    q: Option<u16>,
    path: Vec<u8>,
    flow: Flow,
    received: bool,
}

impl Added {
    fn read(registry: &Registry, params: &Params<'_>) -> Result<Self, Fault> {
        let contact = params.required("contact")?;
        let named = contact_uri(&contact)?;
        let received = params.text("received")?;
        let seen = received.as_deref().map(received_from).transpose()?;
        // Where it was seen; else the flow tells no more than by which listener to reach it.
        let (transport, peer) = seen.unwrap_or((Transport::Udp, named.unwrap_or(NOWHERE)));
        let listener = registry.listener_of(peer.ip());
        let expires_s = params.number("expires", 1..=EXPIRES_S_MAX)?;
        Ok(Self {
            aor: registry.aor_to_add_to(&params.required("aor")?)?,
            expires: Duration::from_secs(
                expires_s.unwrap_or_else(|| u64::from(registry.expires_default_s)),
            ),
            q: params.text("q")?.as_deref().map(thousandths).transpose()?,
            path: params
                .text("path")?
                .as_deref()
                .map_or(Ok(Vec::new()), path)?,
            flow: Flow {
                listener,
                transport,
                peer,
            },
            received: seen.is_some(),
            contact: contact.as_bytes().to_owned(),
        })
    }
}

/// Checks a contact; gives its host and port, where that is an address.
fn contact_uri(text: &str) -> Result<Option<SocketAddr>, Fault> {
    let uri = Uri::parse(text.as_bytes()).ok().filter(Uri::is_sip);
    let is_short = text.len() <= CONTACT_LEN_MAX;
    match uri.filter(|uri| is_short && uri.headers.is_none()) {
        Some(uri) => Ok(uri.host.ip().map(|ip| SocketAddr::new(ip, port_of(&uri)))),
        None => Err(Fault::params(format!(
            "contact is a SIP URI of at most {CONTACT_LEN_MAX} bytes"
        ))),
    }
}

/// `sip:192.0.2.7:5062;transport=tcp`, as Kamailio writes where a phone was seen.
fn received_from(text: &str) -> Result<(Transport, SocketAddr), Fault> {
    let wrong = || Fault::params("received is sip:ADDRESS:PORT, ;transport=tcp for TCP");
    let uri = Uri::parse(text.as_bytes()).map_err(|_| wrong())?;
    let ip = uri.host.ip().filter(|_| uri.is_sip()).ok_or_else(wrong)?;
    let transport = match uri.param(b"transport").flatten() {
        Some(name) if name.eq_ignore_ascii_case(b"tcp") => Transport::Tcp,
        Some(name) if !name.eq_ignore_ascii_case(b"udp") => return Err(wrong()),
        Some(_) | None => Transport::Udp,
    };
    Ok((transport, SocketAddr::new(ip, port_of(&uri))))
}

/// RFC 3261 19.1.2: a port that is not written is the scheme's.
fn port_of(uri: &Uri<'_>) -> u16 {
    let usual = if uri.scheme == Scheme::Sips {
        5_061
    } else {
        5_060
    };
    uri.port.unwrap_or(usual)
}

/// The values of Path, each an address in brackets, comma-separated.
fn path(text: &str) -> Result<Vec<u8>, Fault> {
    let is_hop = |hop: &str| {
        let hop = hop.trim();
        let end = u16::try_from(hop.len()).unwrap_or(u16::MAX);
        let address = Address::parse(hop.as_bytes(), Span { start: 0, end });
        let uri = address.and_then(|address| address.uri());
        hop.starts_with('<') && uri.is_ok_and(|uri| uri.is_sip())
    };
    let is_one_line = text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    let is_good = text.len() <= PATH_LEN_MAX && is_one_line && text.split(',').all(is_hop);
    if text.is_empty() || is_good {
        Ok(text.as_bytes().to_owned())
    } else {
        Err(Fault::params(
            "path is <sip:..>, or several, comma-separated",
        ))
    }
}

/// A q value (RFC 3261 25.1, `qvalue`).
fn thousandths(text: &str) -> Result<u16, Fault> {
    let q = text.parse().ok().filter(|q: &f64| (0.0..=1.0).contains(q));
    let wrong = || Fault::params("q is a number from 0 to 1");
    q.map(|q| (q * 1_000.0).round() as u16).ok_or_else(wrong)
}

/// An AoR as it is shown.
fn shown(now: Instant, aor: &PagedAor<'_>) -> Value {
    let contacts = aor.contacts().map(|contact| shown_contact(now, &contact));
    json!({ "aor": text(aor.text()), "contacts": contacts.collect::<Vec<Value>>() })
}

fn shown_contact(now: Instant, contact: &PagedContact<'_>) -> Value {
    let received = contact.received.map(|flow| match flow.transport {
        Transport::Udp => format!("sip:{}", flow.peer),
        Transport::Tcp => format!("sip:{};transport=tcp", flow.peer),
    });
    let mut shown = json!({
        "address": text(contact.uri),
        "expires": contact.expires.since(now).as_micros().div_ceil(1_000_000),
        "q": contact.q.map(|q| f64::from(q) / 1_000.0),
        "callid": text(contact.call_id),
        "cseq": contact.cseq,
        "user_agent": text(contact.user_agent),
        "received": received,
        "path": text(contact.path),
        "ruid": text(contact.ruid),
        "instance": text(contact.instance),
        "reg_id": (contact.reg_id > 0).then_some(contact.reg_id),
    });
    if let (Some(facts), Some(shown)) = (contact.facts, shown.as_object_mut()) {
        for (key, number) in [
            ("flags", u64::from(facts.flags)),
            ("cflags", u64::from(facts.cflags)),
            ("methods", u64::from(facts.methods)),
            ("server_id", u64::from(facts.server_id)),
            ("last_modified", contact.modified.unix_s()),
        ] {
            shown.insert(key.to_owned(), number.into());
        }
    }
    shown
}

/// A text of the wire; null where it is empty.
fn text(bytes: &[u8]) -> Value {
    if bytes.is_empty() {
        Value::Null
    } else {
        json!(String::from_utf8_lossy(bytes))
    }
}

fn text_of(cursor: PageCursor) -> String {
    format!("{:x}.{:x}", cursor.shard, cursor.place)
}

fn cursor_of(text: &str) -> Result<PageCursor, Fault> {
    let parts = text.split_once('.').and_then(|(shard, place)| {
        let shard = u16::from_str_radix(shard, 16).ok()?;
        let place = u32::from_str_radix(place, 16).ok()?;
        Some(PageCursor { shard, place })
    });
    parts
        .filter(|cursor| usize::from(cursor.shard) < LOCATION_SHARDS)
        .ok_or_else(|| Fault::params("cursor is the \"next\" of the page before"))
}

/// As Kamailio says it.
fn no_aor() -> Fault {
    Fault::new(NOT_FOUND, "AOR not found")
}

/// The peer of a contact whose host is a name.
const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
/// Contacts added so far.
static ADDED: AtomicU64 = AtomicU64::new(0);
/// What bindings show that were made by `ul.add`.
const USER_AGENT: &[u8] = b"strowger ctl";
/// The longest that a contact may be added for: ten years.
const EXPIRES_S_MAX: u64 = 315_360_000;
