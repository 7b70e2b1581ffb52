//! The usrloc channel's body, as it is read: contacts as JSON, one flat or several in `multi`, as Kamailio's dmq_usrloc writes them.
//!
//! What comes is checked as strictly as a REGISTER: a node may be hostile or broken, and a contact becomes part of messages.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use super::json::{Malformed, Reader};
use crate::datagram::{Flow, ListenerId, Transport};
use crate::flow_token::FlowCodec;
use crate::limits::{
    AOR_LEN_MAX, BINDING_TEXT_LEN_MAX, CONTACT_LEN_MAX, KDMQ_CONTACTS_MAX, PATH_LEN_MAX,
};
use crate::location::{Delta, Deltas, Facts, Home, HomeId, Homes, METHODS_ALL, Row, Work};
use crate::sip::{Address, Span, Uri};
use crate::time::Instant;

/// Who is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Kamailio: seconds alone, and no key that its 5.6 does not know.
    Kamailio,
    /// A node of our kind: versions, too.
    Strowger,
}

/// What a body asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// Changes, which stand in the buffer; so many contacts were refused.
    Changes {
        /// Contacts that no location could hold.
        refused: usize,
        /// Whether they came as `multi`, which Kamailio sends only in answer to SYNC.
        is_multi: bool,
        /// Whether each bears a version.
        is_versioned: bool,
    },
    /// Everything of at least this version.
    Sync {
        /// 0: simply everything.
        since: u64,
    },
    /// Nothing.
    Nothing,
}

/// What is needed to tell whether a contact may be ours, and how we would reach it.
#[derive(Clone, Debug)]
pub struct Reception {
    /// Our number.
    pub server_id: u16,
    /// Where contacts are at home.
    pub homes: Arc<Homes>,
    /// The address that nodes know us by: it stands for listeners on all addresses.
    pub ip: IpAddr,
    /// Our listeners.
    pub listeners: Vec<(ListenerId, SocketAddr)>,
    /// Whether an AoR is user@domain.
    pub use_domain: bool,
    /// Our domains, in lower case.
    pub domains: Vec<String>,
    /// Makes the tokens of phones' flows.
    pub flows: FlowCodec,
    /// Whether Kamailios are told a Path to phones behind a NAT.
    pub tells_paths: bool,
}

/// The keys of one contact as they are read.
#[derive(Default)]
struct Keys<'a> {
    action: f64,
    aor: Cow<'a, [u8]>,
    ruid: Cow<'a, [u8]>,
    contact: Cow<'a, [u8]>,
    received: Cow<'a, [u8]>,
    socket: Cow<'a, [u8]>,
    path: Cow<'a, [u8]>,
    call_id: Cow<'a, [u8]>,
    user_agent: Cow<'a, [u8]>,
    instance: Cow<'a, [u8]>,
    expires: f64,
    cseq: f64,
    flags: f64,
    cflags: f64,
    q: f64,
    modified: f64,
    methods: Option<f64>,
    reg_id: f64,
    server_id: f64,
    version: Option<f64>,
    since: f64,
}

impl Reception {
    /// Reads a body into `out`.
    pub(super) fn read(&self, body: &[u8], out: &mut Deltas) -> Result<Asked, Malformed> {
        let mut reader = Reader::new(body);
        let (mut keys, mut asked) = (Keys::new(), None);
        let mut is_first = true;
        reader.object(|key, reader| {
            if std::mem::take(&mut is_first) && key == b"multi" {
                asked = Some(self.read_several(reader, out)?);
                return Ok(());
            }
            keys.read(key, reader)
        })?;
        if is_first || !reader.is_at_end() {
            return Err(Malformed);
        }
        match asked {
            Some(asked) => Ok(asked),
            None => self.take(&keys, out).map(|taken| match taken {
                Taken::Sync => Asked::Sync {
                    since: whole(keys.since),
                },
                Taken::Nothing => Asked::Nothing,
                Taken::Contact | Taken::Refused => Asked::Changes {
                    refused: usize::from(taken == Taken::Refused),
                    is_multi: false,
                    is_versioned: keys.version.is_some(),
                },
            }),
        }
    }

    fn read_several<'a>(
        &self,
        reader: &mut Reader<'a>,
        out: &mut Deltas,
    ) -> Result<Asked, Malformed> {
        let (mut refused, mut is_versioned, mut count) = (0, true, 0);
        let mut syncs = false;
        reader.object(|_, reader| {
            count += 1;
            if count > KDMQ_CONTACTS_MAX {
                return Err(Malformed);
            }
            let mut keys = Keys::new();
            reader.object(|key, reader| keys.read(key, reader))?;
            is_versioned &= keys.version.is_some();
            // What a newer node may ask is no reason to leave out what we know.
            match self.take(&keys, out).unwrap_or(Taken::Refused) {
                Taken::Contact | Taken::Nothing => {}
                Taken::Refused => refused += 1,
                Taken::Sync => syncs = true,
            }
            Ok(())
        })?;
        Ok(if syncs && out.is_empty() {
            Asked::Sync { since: 0 }
        } else {
            Asked::Changes {
                refused,
                is_multi: true,
                is_versioned,
            }
        })
    }

    fn take(&self, keys: &Keys<'_>, out: &mut Deltas) -> Result<Taken, Malformed> {
        let work = match keys.action {
            0.0 => return Ok(Taken::Nothing),
            1.0 => Work::Update,
            2.0 => Work::Delete,
            3.0 => return Ok(Taken::Sync),
            _ => return Err(Malformed),
        };
        let named = self.may_hold(&keys.aor) && is_line(&keys.ruid) && !keys.ruid.is_empty();
        if !named || keys.ruid.len() > RUID_LEN_MAX {
            return Ok(Taken::Refused);
        }
        let server_id = small(keys.server_id).try_into().unwrap_or(0);
        let socket = std::str::from_utf8(&keys.socket).ok().and_then(socket_of);
        let own = self.own_listener(server_id, socket);
        let facts = Facts {
            version: whole(keys.version.unwrap_or(0.0)),
            server_id,
            home: if own.is_some() {
                HomeId::NONE
            } else {
                self.home(server_id, socket)
            },
            flags: small(keys.flags),
            cflags: small(keys.cflags),
            methods: keys.methods.map_or(METHODS_ALL, small),
        };
        let bare = Row {
            work,
            ruid: &keys.ruid,
            ..Row::complete(&keys.aor)
        };
        let is_contact = Uri::parse(&keys.contact).is_ok_and(|uri| uri.is_sip())
            && keys.contact.len() <= CONTACT_LEN_MAX;
        if work == Work::Delete {
            let contact = if is_contact { &*keys.contact } else { b"" };
            let row = Row { contact, ..bare };
            out.push(&Delta { row, facts });
            return Ok(Taken::Contact);
        }
        let is_good = is_contact && is_path(&keys.path) && is_line(&keys.call_id);
        // 0 says that it never ends.
        let is_good = is_good && keys.expires >= 0.0;
        if !is_good || !is_line(&keys.instance) {
            return Ok(Taken::Refused);
        }
        let peer = std::str::from_utf8(&keys.received).ok().and_then(peer_of);
        let row = Row {
            contact: &keys.contact,
            path: self.path_told(&keys.path),
            call_id: cut(&keys.call_id),
            user_agent: if is_line(&keys.user_agent) {
                cut(&keys.user_agent)
            } else {
                b""
            },
            instance: cut(&keys.instance),
            flow: self.flow(peer, own.flatten()),
            received: peer.is_some(),
            is_ours: own.is_some(),
            expires: expiry(whole(keys.expires)),
            modified: Instant::from_micros(whole(keys.modified).min(NEVER.unix_s()) * 1_000_000),
            q: thousandths(keys.q),
            cseq: small(keys.cseq),
            reg_id: small(keys.reg_id),
            ..bare
        };
        out.push(&Delta { row, facts });
        Ok(Taken::Contact)
    }

    /// Whether an AoR may be one of ours.
    fn may_hold(&self, aor: &[u8]) -> bool {
        let is_text = !aor.is_empty() && aor.len() <= AOR_LEN_MAX && is_line(aor);
        if !is_text || !self.use_domain {
            return is_text;
        }
        let at = aor.iter().rposition(|byte| *byte == b'@');
        let domain = at.and_then(|at| aor.get(at + 1..)).unwrap_or_default();
        let mut domains = self.domains.iter();
        domains.any(|own| own.as_bytes() == domain)
    }

    /// The listener of ours that a contact registered at, if it did so with us, before our restart say: then it is ours again. A listener
    /// that is not told is any that can reach it.
    fn own_listener(&self, server_id: u16, socket: Socket) -> Option<Option<ListenerId>> {
        if server_id != self.server_id || server_id == 0 {
            return None;
        }
        let Some((_, address)) = socket else {
            return Some(None);
        };
        let mut listeners = self.listeners.iter();
        let listener = listeners.find(|(_, own)| self.known(*own) == address);
        listener.map(|(id, _)| Some(*id))
    }

    fn home(&self, server_id: u16, socket: Socket) -> HomeId {
        if server_id == 0 && socket.is_none() {
            return HomeId::NONE;
        }
        self.homes.id_of(Home {
            server_id,
            socket,
            is_told: true,
        })
    }

    /// A listener's address as other nodes know it.
    fn known(&self, own: SocketAddr) -> SocketAddr {
        if own.ip().is_unspecified() {
            SocketAddr::new(self.ip, own.port())
        } else {
            own
        }
    }

    /// The socket that a contact registered at, for a node of our kind, which reaches it by that.
    pub(super) fn socket_of(&self, delta: &Delta<'_>) -> Socket {
        let row = &delta.row;
        if !row.is_ours {
            let home = self.homes.home(delta.facts.home)?;
            return home.socket.filter(|_| home.is_told);
        }
        let mut listeners = self.listeners.iter();
        let listener = listeners.find(|(id, _)| *id == row.flow.listener);
        listener.map(|(_, own)| (row.flow.transport, self.known(*own)))
    }

    /// The flow of a contact: by the listener that it registered at, or by one of ours that can reach it.
    fn flow(&self, peer: Option<(SocketAddr, Transport)>, own: Option<ListenerId>) -> Flow {
        let is_alike =
            |own: &SocketAddr| peer.is_none_or(|(peer, _)| peer.is_ipv4() == own.is_ipv4());
        let mut listeners = self.listeners.iter();
        let listener = listeners.find(|(_, own)| is_alike(own));
        Flow {
            listener: own.unwrap_or_else(|| listener.map_or(ListenerId(0), |(id, _)| *id)),
            transport: peer.map_or(Transport::Udp, |(_, transport)| transport),
            peer: peer.map_or(NOBODY, |(peer, _)| peer),
        }
    }
}

/// A socket of a node's, where it is known.
pub(super) type Socket = Option<(Transport, SocketAddr)>;

/// What one contact's keys came to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Taken {
    Contact,
    Refused,
    Sync,
    Nothing,
}

impl<'a> Keys<'a> {
    fn new() -> Self {
        Self {
            q: -1.0,
            ..Self::default()
        }
    }

    fn read(&mut self, key: &[u8], reader: &mut Reader<'a>) -> Result<(), Malformed> {
        match key {
            b"action" => self.action = reader.number()?,
            b"aor" => self.aor = reader.text()?,
            b"ruid" => self.ruid = reader.text()?,
            b"c" => self.contact = reader.text()?,
            b"received" => self.received = reader.text()?,
            b"sock" => self.socket = reader.text()?,
            b"path" => self.path = reader.text()?,
            b"callid" => self.call_id = reader.text()?,
            b"user_agent" => self.user_agent = reader.text()?,
            b"instance" => self.instance = reader.text()?,
            b"expires" => self.expires = reader.number()?,
            b"cseq" => self.cseq = reader.number()?,
            b"flags" => self.flags = reader.number()?,
            b"cflags" => self.cflags = reader.number()?,
            b"q" => self.q = reader.number()?,
            b"last_modified" => self.modified = reader.number()?,
            b"methods" => self.methods = Some(reader.number()?),
            b"reg_id" => self.reg_id = reader.number()?,
            b"server_id" => self.server_id = reader.number()?,
            b"v" => self.version = Some(reader.number()?),
            b"since" => self.since = reader.number()?,
            // Newer nodes tell more.
            _ => reader.skip()?,
        }
        Ok(())
    }
}

/// The socket that a name tells of.
fn socket_of(name: &str) -> Socket {
    let (protocol, address) = name.split_once(':')?;
    let transport = match protocol {
        "udp" => Transport::Udp,
        "tcp" => Transport::Tcp,
        _ => return None,
    };
    let address: SocketAddr = address.parse().ok()?;
    (address.port() != 0 && !address.ip().is_unspecified()).then_some((transport, address))
}

/// The way back that such a URI tells of; none where we do not speak its transport.
fn peer_of(uri: &str) -> Option<(SocketAddr, Transport)> {
    let uri = Uri::parse(uri.as_bytes()).ok().filter(Uri::is_sip)?;
    let peer = SocketAddr::new(uri.host.ip()?, uri.port.unwrap_or(5_060));
    let transport = match uri.param(b"transport").flatten() {
        None => Transport::Udp,
        Some(name) if name.eq_ignore_ascii_case(b"udp") => Transport::Udp,
        Some(name) if name.eq_ignore_ascii_case(b"tcp") => Transport::Tcp,
        Some(_) => return None,
    };
    (peer.port() != 0 && !peer.ip().is_unspecified()).then_some((peer, transport))
}

/// Whether a text stands on one line.
fn is_line(text: &[u8]) -> bool {
    !text.iter().any(|byte| matches!(byte, 0..=0x1F | 0x7F))
}

/// Whether a text is empty or the values of Path: each an address in brackets, comma-separated.
fn is_path(text: &[u8]) -> bool {
    let is_hop = |hop: &[u8]| {
        let hop = hop.trim_ascii();
        let end = u16::try_from(hop.len()).unwrap_or(u16::MAX);
        let address = Address::parse(hop, Span { start: 0, end });
        let uri = address.and_then(|address| address.uri());
        hop.first() == Some(&b'<') && uri.is_ok_and(|uri| uri.is_sip())
    };
    let is_short = text.len() <= PATH_LEN_MAX && is_line(text);
    text.is_empty() || (is_short && text.split(|byte| *byte == b',').all(is_hop))
}

fn cut(text: &[u8]) -> &[u8] {
    text.get(..BINDING_TEXT_LEN_MAX).unwrap_or(text)
}

/// A number as the whole one that it should be.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "it was cut to a range that fits"
)]
fn whole(number: f64) -> u64 {
    number.clamp(0.0, 9_007_199_254_740_992.0) as u64
}

fn small(number: f64) -> u32 {
    u32::try_from(whole(number)).unwrap_or(u32::MAX)
}

/// When a contact ends that is told to end at a second; 0 is never, as Kamailio has it.
fn expiry(second: u64) -> Instant {
    if second == 0 || second >= NEVER.unix_s() {
        NEVER
    } else {
        Instant::from_micros(second * 1_000_000)
    }
}

fn thousandths(q: f64) -> Option<u16> {
    (q >= 0.0).then(|| u16::try_from(whole(q.min(1_000.0))).unwrap_or(1_000))
}

/// When a contact ends that never does.
pub(super) const NEVER: Instant = Instant::from_micros(u32::MAX as u64 * 1_000_000);
/// The other end, where it is not told.
const NOBODY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
/// The longest name of a contact, as in Kamailio's table.
const RUID_LEN_MAX: usize = 64;

#[cfg(test)]
impl Reception {
    /// Node 3 of example.com with two listeners, for tests.
    pub(super) fn example(use_domain: bool) -> Self {
        let listener = |id, address: &str| (ListenerId(id), address.parse().expect("an address"));
        Self {
            server_id: 3,
            homes: Arc::new(Homes::new(3)),
            ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
            listeners: vec![
                listener(0, "[2001:db8::1]:5060"),
                listener(1, "192.0.2.1:5060"),
            ],
            use_domain,
            domains: vec!["example.com".to_owned()],
            flows: FlowCodec::new(vec![[1; 16]]),
            tells_paths: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> (Result<Asked, Malformed>, Deltas) {
        let mut deltas = Deltas::default();
        (
            Reception::example(false).read(body.as_bytes(), &mut deltas),
            deltas,
        )
    }

    #[test]
    fn a_contact_comes_with_all_that_is_told_of_it() {
        let (_, deltas) = read(include_str!(
            "../../tests/cluster/captures/path_instance_q.json"
        ));
        let delta = deltas.delta(0).expect("one");
        assert_eq!(
            (delta.row.aor, delta.row.q, delta.row.reg_id),
            (&b"bob"[..], Some(700), 1)
        );
        assert_eq!((delta.facts.cflags, delta.facts.methods), (64, 13));
        assert_eq!(delta.row.flow.peer.to_string(), "10.77.0.9:6002");
        assert_eq!(
            (delta.row.flow.listener, delta.row.is_ours),
            (ListenerId(1), false)
        );
        let (_, deltas) = read(include_str!("../../tests/cluster/captures/removal.json"));
        let delta = deltas.delta(0).expect("one");
        assert!(delta.is_removal());
        assert_eq!(delta.row.ruid, b"uloc-6b029c7b-68b3-1");
    }

    #[test]
    fn what_no_location_could_hold_is_refused_and_what_is_no_json_is_an_error() {
        let contact = |aor: &str, uri: &str, path: &str| {
            format!(
                "{{\"action\":1,\"aor\":\"{aor}\",\"ruid\":\"r\",\"c\":\"{uri}\",\"path\":\"{path}\",\"expires\":0}}"
            )
        };
        for bad in [
            contact("", "sip:a@192.0.2.1", ""),
            contact("a\\r\\nb", "sip:a@192.0.2.1", ""),
            contact("a", "sip:a@192.0.2.1\\r\\nX: y", ""),
            contact("a", "mailto:a@example.com", ""),
            contact("a", "sip:a@192.0.2.1", "<sip:e;lr>\\r\\nX: y"),
            contact("a", "sip:a@192.0.2.1", "sip:e"),
            contact(&"a".repeat(AOR_LEN_MAX + 1), "sip:a@192.0.2.1", ""),
        ] {
            let (asked, deltas) = read(&bad);
            assert!(
                matches!(asked, Ok(Asked::Changes { refused: 1, .. })),
                "{bad}: {asked:?}"
            );
            assert!(deltas.is_empty());
        }
        for bad in [
            "",
            "{}",
            "[]",
            "{\"action\":",
            "{\"action\":9}",
            "{\"action\":3} x",
            "{\"multi\":{\"1\":3}}",
        ] {
            assert_eq!(read(bad).0, Err(Malformed), "{bad}");
        }
        assert_eq!(read("{\"action\":3}").0, Ok(Asked::Sync { since: 0 }));
        let partial = read("{\"action\":3,\"since\":77}").0;
        assert_eq!(partial, Ok(Asked::Sync { since: 77 }));
        assert_eq!(read("{\"action\":0}").0, Ok(Asked::Nothing));
        let many = (0..=KDMQ_CONTACTS_MAX).map(|n| format!("\"{n}\":{{\"action\":0}}"));
        let many = format!("{{\"multi\":{{{}}}}}", many.collect::<Vec<_>>().join(","));
        assert_eq!(read(&many).0, Err(Malformed));
    }

    #[test]
    fn with_domains_a_foreign_one_is_refused() {
        let contact = |aor: &str| {
            format!(
                "{{\"action\":1,\"aor\":\"{aor}\",\"ruid\":\"r\",\"c\":\"sip:a@192.0.2.1\",\"xavps\":{{\"a\":[1]}}}}"
            )
        };
        let mut deltas = Deltas::default();
        for (aor, count) in [("a@example.com", 1), ("a@example.net", 1), ("a", 1)] {
            let asked = Reception::example(true).read(contact(aor).as_bytes(), &mut deltas);
            assert!(asked.is_ok());
            assert_eq!(deltas.len(), count, "{aor}");
        }
    }
}
