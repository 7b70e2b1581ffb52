//! A binding as a row of Kamailio's `location` table (version 9), and back.
//!
//! `username` is the AoR, or with `use_domain` its user, and `domain` the rest; `received` is a URI, `socket` the listener as
//! `udp:192.0.2.1:5060`; q is -1 where there is none. flags, cflags, methods, keepalive and partition are Kamailio's own: they stay
//! as they are.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use crate::datagram::{Flow, ListenerId, Transport};
use crate::location::storable::{self, Unstorable, text};
use crate::location::{Home, HomeId, Homes, Row, Work};
use crate::time::Instant;

/// What is needed to tell rows and bindings apart: who we are.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Our listeners.
    pub listeners: Vec<(ListenerId, SocketAddr)>,
    /// Whether an AoR is user@domain.
    pub use_domain: bool,
    /// The node's number.
    pub server_id: u16,
    /// Where the contacts of other nodes are at home, where there is a cluster.
    pub homes: Option<Arc<Homes>>,
}

/// The columns of one row, as both engines write them.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Columns<'a> {
    pub(super) ruid: &'a str,
    pub(super) username: &'a str,
    pub(super) domain: Option<&'a str>,
    pub(super) contact: &'a str,
    pub(super) received: Option<String>,
    pub(super) path: Option<&'a str>,
    /// Seconds since 1970; 0: it never ends.
    pub(super) expires_s: i64,
    pub(super) q: f32,
    pub(super) call_id: &'a str,
    pub(super) cseq: i32,
    pub(super) modified_s: i64,
    pub(super) user_agent: &'a str,
    pub(super) socket: Option<String>,
    pub(super) instance: Option<&'a str>,
    pub(super) reg_id: i32,
    /// The node that wrote the row; those that we write get our own number by the statement.
    pub(super) server_id: i32,
}

impl Frame {
    /// The columns of a binding.
    pub(super) fn columns<'a>(&self, row: &Row<'a>) -> Result<Columns<'a>, Unstorable> {
        storable::check(row.aor, self.use_domain, &[])?;
        let (username, domain) = self.split(text(row.aor)?);
        let number = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
        Ok(Columns {
            ruid: text(row.ruid)?,
            username,
            domain,
            contact: text(row.contact)?,
            received: row.received.then(|| received(&row.flow)),
            path: some(text(row.path)?),
            expires_s: if row.expires >= NEVER {
                0
            } else {
                seconds(row.expires)
            },
            q: row.q.map_or(-1.0, |q| f32::from(q) / 1_000.0),
            call_id: text(row.call_id)?,
            cseq: number(row.cseq),
            modified_s: seconds(row.modified),
            // What a phone calls itself is no name by which anything is found.
            user_agent: text(row.user_agent).unwrap_or_default(),
            socket: self.socket(row),
            instance: some(text(row.instance)?),
            reg_id: number(row.reg_id),
            server_id: i32::from(self.server_id),
        })
    }

    /// The binding of these columns.
    pub(super) fn row<'a>(&self, columns: &Columns<'a>, aor: &'a mut Vec<u8>) -> Row<'a> {
        aor.clear();
        aor.extend_from_slice(columns.username.as_bytes());
        if let Some(domain) = columns.domain.filter(|_| self.use_domain) {
            aor.push(b'@');
            aor.extend(domain.bytes().map(|byte| byte.to_ascii_lowercase()));
        }
        let peer = columns.received.as_deref().and_then(peer_of);
        let number = |number: i32| u32::try_from(number).unwrap_or(0);
        let moment = |seconds: i64| {
            Instant::from_micros(
                u64::try_from(seconds)
                    .unwrap_or(0)
                    .saturating_mul(1_000_000),
            )
        };
        Row {
            work: Work::Load,
            ruid: columns.ruid.as_bytes(),
            aor,
            contact: columns.contact.as_bytes(),
            path: columns.path.unwrap_or_default().as_bytes(),
            call_id: columns.call_id.as_bytes(),
            user_agent: columns.user_agent.as_bytes(),
            instance: columns.instance.unwrap_or_default().as_bytes(),
            flow: self.flow(columns.socket.as_deref(), peer),
            received: peer.is_some(),
            is_ours: self.owns(columns),
            home: self.home(columns),
            expires: if columns.expires_s <= 0 {
                NEVER
            } else {
                moment(columns.expires_s)
            },
            modified: moment(columns.modified_s),
            q: thousandths(columns.q),
            cseq: number(columns.cseq),
            reg_id: number(columns.reg_id),
        }
    }

    /// User and domain of an AoR, as their columns have them.
    pub(super) fn split<'a>(&self, aor: &'a str) -> (&'a str, Option<&'a str>) {
        storable::split(aor, self.use_domain)
    }

    fn socket(&self, row: &Row<'_>) -> Option<String> {
        let flow = &row.flow;
        let home = self.homes.as_ref().and_then(|homes| homes.home(row.home));
        if let Some((transport, address)) = home.and_then(|home| home.socket) {
            return Some(format!("{}:{address}", protocol(transport)));
        }
        let (_, address) = self.listeners.iter().find(|(id, _)| *id == flow.listener)?;
        Some(format!("{}:{address}", protocol(flow.transport)))
    }

    /// The other node that a row is of.
    fn home(&self, columns: &Columns<'_>) -> HomeId {
        let Some(homes) = self.homes.as_ref().filter(|_| !self.owns(columns)) else {
            return HomeId::NONE;
        };
        let socket = columns.socket.as_deref().and_then(socket_of);
        homes.id_of(Home {
            // A row with a socket may have been written by who has taken it over.
            server_id: if socket.is_some() {
                0
            } else {
                u16::try_from(columns.server_id).unwrap_or(0)
            },
            socket,
            is_told: true,
        })
    }

    /// Whether the phone of a row is on a listener of ours. The socket tells; of a row without one, the number of the node.
    fn owns(&self, columns: &Columns<'_>) -> bool {
        let Some(socket) = &columns.socket else {
            return columns.server_id == i32::from(self.server_id);
        };
        let address = socket.split_once(':').map(|(_, address)| address);
        let address: Option<SocketAddr> = address.and_then(|address| address.parse().ok());
        self.listeners.iter().any(|(_, own)| Some(*own) == address)
    }

    /// The flow that a row tells of. A socket that is not ours (any more) becomes one of ours that can reach the phone.
    fn flow(&self, socket: Option<&str>, peer: Option<(SocketAddr, Transport)>) -> Flow {
        let (protocol, address) = socket
            .and_then(|socket| socket.split_once(':'))
            .unwrap_or_default();
        let address: Option<SocketAddr> = address.parse().ok();
        let by_socket = if protocol.eq_ignore_ascii_case("tcp") {
            Transport::Tcp
        } else {
            Transport::Udp
        };
        let family = peer.map(|(peer, _)| peer).or(address);
        let same = self.listeners.iter().find(|(_, own)| Some(*own) == address);
        let alike = || {
            let is_alike =
                |own: &SocketAddr| family.is_none_or(|family| family.is_ipv4() == own.is_ipv4());
            self.listeners.iter().find(|(_, own)| is_alike(own))
        };
        let listener = same.or_else(alike).map_or(ListenerId(0), |(id, _)| *id);
        Flow {
            listener,
            transport: peer.map_or(by_socket, |(_, transport)| transport),
            peer: peer.map_or(NOBODY, |(peer, _)| peer),
        }
    }
}

fn some(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

fn seconds(moment: Instant) -> i64 {
    i64::try_from(moment.unix_s()).unwrap_or(i64::MAX)
}

const fn protocol(transport: Transport) -> &'static str {
    match transport {
        Transport::Udp => "udp",
        Transport::Tcp => "tcp",
    }
}

/// The way back as a URI, as Kamailio's nathelper writes it.
fn received(flow: &Flow) -> String {
    match flow.transport {
        Transport::Udp => format!("sip:{}", flow.peer),
        Transport::Tcp => format!("sip:{};transport=tcp", flow.peer),
    }
}

/// The socket that such a column tells of.
fn socket_of(text: &str) -> Option<(Transport, SocketAddr)> {
    let (protocol, address) = text.split_once(':')?;
    let transport = match protocol {
        "udp" => Transport::Udp,
        "tcp" => Transport::Tcp,
        _ => return None,
    };
    Some((transport, address.parse().ok()?))
}

/// The way back that such a URI tells of; none where we do not speak its transport.
fn peer_of(uri: &str) -> Option<(SocketAddr, Transport)> {
    let rest = uri.strip_prefix("sip:")?;
    let (address, parameters) = rest.split_once(';').unwrap_or((rest, ""));
    let peer = match address.parse::<SocketAddr>() {
        Ok(peer) => peer,
        Err(_) => SocketAddr::new(
            address.trim_matches(['[', ']']).parse::<IpAddr>().ok()?,
            5060,
        ),
    };
    let transport = parameters
        .split(';')
        .find_map(|parameter| parameter.strip_prefix("transport="));
    match transport {
        None => Some((peer, Transport::Udp)),
        Some(name) if name.eq_ignore_ascii_case("udp") => Some((peer, Transport::Udp)),
        Some(name) if name.eq_ignore_ascii_case("tcp") => Some((peer, Transport::Tcp)),
        Some(_) => None,
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "it was cut to a range that fits"
)]
fn thousandths(q: f32) -> Option<u16> {
    (q >= 0.0).then(|| (q.min(1.0) * 1_000.0).round() as u16)
}

/// When a contact ends that never does: no number of seconds until then is longer than 32 bits.
pub(super) const NEVER: Instant = Instant::from_micros(u32::MAX as u64 * 1_000_000);
/// The other end, where a row does not tell it.
const NOBODY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(use_domain: bool) -> Frame {
        let listener = |id, address: &str| (ListenerId(id), address.parse().expect("an address"));
        Frame {
            listeners: vec![
                listener(0, "192.0.2.1:5060"),
                listener(1, "[2001:db8::1]:5060"),
            ],
            use_domain,
            server_id: 1,
            homes: None,
        }
    }

    fn row() -> Row<'static> {
        Row {
            work: Work::Load,
            ruid: b"uloc-1-a-1",
            aor: b"alice@example.com",
            contact: b"sip:alice@10.0.0.1",
            path: b"<sip:edge;lr>",
            call_id: b"call",
            user_agent: b"Phone",
            instance: b"<urn:uuid:1>",
            flow: Flow {
                listener: ListenerId(1),
                transport: Transport::Tcp,
                peer: "[2001:db8::7]:4000".parse().expect("an address"),
            },
            received: true,
            is_ours: true,
            home: HomeId::NONE,
            expires: Instant::from_micros(1_700_000_600_000_000),
            modified: Instant::from_micros(1_700_000_000_000_000),
            q: Some(700),
            cseq: 9,
            reg_id: 1,
        }
    }

    #[test]
    fn a_binding_is_what_it_was_when_it_comes_back() {
        for (use_domain, username) in [(true, "alice"), (false, "alice@example.com")] {
            let frame = frame(use_domain);
            let row = row();
            let columns = frame.columns(&row).expect("it can be stored");
            assert_eq!(columns.username, username);
            assert_eq!(
                columns.received.as_deref(),
                Some("sip:[2001:db8::7]:4000;transport=tcp")
            );
            assert_eq!(columns.socket.as_deref(), Some("tcp:[2001:db8::1]:5060"));
            let mut aor = Vec::new();
            let back = frame.row(&columns, &mut aor);
            assert_eq!(format!("{back:?}"), format!("{row:?}"));
        }
    }

    #[test]
    fn what_no_column_can_hold_is_told_apart() {
        let frame = frame(true);
        let long = format!("{}@example.com", "a".repeat(65));
        for (aor, contact, why) in [
            (&b"a\0@h"[..], &b"sip:a@h"[..], Unstorable::NotText),
            (b"a@h", b"sip:\xFF@h", Unstorable::NotText),
            (long.as_bytes(), b"sip:a@h", Unstorable::TooLong),
        ] {
            let row = Row {
                aor,
                contact,
                ..row()
            };
            assert_eq!(frame.columns(&row), Err(why));
        }
        let row = Row {
            user_agent: b"\xE9",
            ..row()
        };
        assert_eq!(
            frame.columns(&row).map(|columns| columns.user_agent),
            Ok("")
        );
    }

    #[test]
    fn a_row_of_another_server_is_reached_by_a_listener_that_can() {
        let frame = frame(false);
        let columns = |received: Option<&str>, socket: Option<&str>| Columns {
            received: received.map(str::to_owned),
            socket: socket.map(str::to_owned),
            ..frame
                .columns(&row())
                .map(|columns| Columns {
                    domain: None,
                    ..columns
                })
                .expect("good")
        };
        for (received, socket, listener, peer, is_ours) in [
            (None, Some("udp:192.0.2.1:5060"), 0, None, true),
            (None, Some("tcp:[2001:db8::1]:5060"), 1, None, true),
            (None, Some("udp:192.0.2.99:5060"), 0, None, false),
            (
                Some("sip:[2001:db8::9]:5070"),
                Some("udp:192.0.2.99:5060"),
                1,
                Some("[2001:db8::9]:5070"),
                false,
            ),
            (
                Some("sip:198.51.100.1:5070;transport=tls"),
                None,
                0,
                None,
                true,
            ),
            (
                Some("sip:198.51.100.1"),
                None,
                0,
                Some("198.51.100.1:5060"),
                true,
            ),
            (Some("nonsense"), Some("nonsense"), 0, None, false),
        ] {
            let columns = columns(received, socket);
            let mut aor = Vec::new();
            let row = frame.row(&columns, &mut aor);
            assert_eq!(
                row.flow.listener,
                ListenerId(listener),
                "{received:?} {socket:?}"
            );
            let found = row.received.then(|| row.flow.peer.to_string());
            assert_eq!(found.as_deref(), peer, "{received:?}");
            assert_eq!(row.is_ours, is_ours, "{socket:?}");
        }
        let others = Columns {
            server_id: 2,
            ..columns(None, None)
        };
        assert!(!frame.row(&others, &mut Vec::new()).is_ours);
    }

    #[test]
    fn a_contact_that_never_ends_is_kamailios_zero() {
        let frame = frame(false);
        let row = Row {
            expires: NEVER,
            ..row()
        };
        let columns = frame.columns(&row).expect("good");
        assert_eq!(columns.expires_s, 0);
        let mut aor = Vec::new();
        assert_eq!(frame.row(&columns, &mut aor).expires, NEVER);
    }
}
