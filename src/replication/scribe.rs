//! The usrloc channel's body, as it is written: contacts as JSON, one flat or several in `multi`, as Kamailio's dmq_usrloc writes them.
//!
//! What goes has all keys, always, in Kamailio's order: its 5.6 takes a missing text for that of the message before.

use std::net::SocketAddr;

use super::contact::{Dialect, NEVER, Reception};
use super::json::write_text;
use crate::datagram::{Flow, Transport};
use crate::location::Delta;
use crate::time::Instant;

/// Writes one contact; only a node of our kind is told its socket, and its version: both would hurt a Kamailio, which may be told a Path
/// instead.
pub(super) fn write(reception: &Reception, delta: &Delta<'_>, dialect: Dialect, out: &mut Vec<u8>) {
    let (row, facts) = (&delta.row, &delta.facts);
    let path_home = match dialect {
        Dialect::Kamailio => reception.path_home(delta),
        Dialect::Strowger => None,
    };
    let action = if delta.is_removal() { 2 } else { 1 };
    out.extend_from_slice(b"{\"action\":");
    put_number(action, out);
    let received = if row.received {
        received(&row.flow)
    } else {
        String::new()
    };
    for (key, text) in [
        ("aor", row.aor),
        ("ruid", row.ruid),
        ("c", row.contact),
        ("received", received.as_bytes()),
        ("path", path_home.as_deref().map_or(row.path, str::as_bytes)),
        ("callid", row.call_id),
        ("user_agent", row.user_agent),
        ("instance", row.instance),
    ] {
        put_key(key, out);
        write_text(text, out);
    }
    let q = row.q.map_or(-1, i64::from);
    let seconds = |moment: Instant| i64::try_from(moment.unix_s()).unwrap_or(i64::MAX);
    let expires = if row.expires >= NEVER {
        0
    } else {
        seconds(row.expires)
    };
    for (key, number) in [
        ("expires", expires),
        ("cseq", i64::from(row.cseq)),
        ("flags", i64::from(facts.flags)),
        ("cflags", i64::from(facts.cflags)),
        ("q", q),
        ("last_modified", seconds(row.modified)),
        ("methods", i64::from(facts.methods)),
        ("reg_id", i64::from(row.reg_id)),
        ("server_id", i64::from(facts.server_id)),
    ] {
        put_key(key, out);
        put_number(number, out);
    }
    if dialect == Dialect::Strowger {
        put_key("v", out);
        put_number(i64::try_from(facts.version).unwrap_or(i64::MAX), out);
        if let Some((transport, address)) = reception.socket_of(delta) {
            put_key("sock", out);
            write_text(socket_name(transport, address).as_bytes(), out);
        }
    }
    out.push(b'}');
}

/// Writes a body of contacts that are written already: one as it is, several as `multi`.
pub(super) fn gather<'a>(contacts: impl ExactSizeIterator<Item = &'a [u8]>, out: &mut Vec<u8>) {
    if contacts.len() == 1 {
        contacts.for_each(|contact| out.extend_from_slice(contact));
        return;
    }
    out.extend_from_slice(b"{\"multi\":{");
    for (n, contact) in contacts.enumerate() {
        if n > 0 {
            out.push(b',');
        }
        out.push(b'"');
        put_number(i64::try_from(n + 1).unwrap_or(i64::MAX), out);
        out.extend_from_slice(b"\":");
        out.extend_from_slice(contact);
    }
    out.extend_from_slice(b"}}");
}

fn put_key(key: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(key.as_bytes());
    out.extend_from_slice(b"\":");
}

fn put_number(number: i64, out: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let (mut rest, mut at) = (number.unsigned_abs(), digits.len());
    loop {
        at -= 1;
        digits[at] = b'0' + u8::try_from(rest % 10).unwrap_or(0);
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if number < 0 {
        out.push(b'-');
    }
    out.extend_from_slice(&digits[at..]);
}

/// A socket's name, as Kamailio has it.
fn socket_name(transport: Transport, address: SocketAddr) -> String {
    match transport {
        Transport::Udp => format!("udp:{address}"),
        Transport::Tcp => format!("tcp:{address}"),
    }
}

/// The way back as a URI, as Kamailio's nathelper writes it.
fn received(flow: &Flow) -> String {
    match flow.transport {
        Transport::Udp => format!("sip:{}", flow.peer),
        Transport::Tcp => format!("sip:{};transport=tcp", flow.peer),
    }
}

#[cfg(test)]
mod tests {
    use super::super::contact::Asked;
    use super::super::json::Malformed;
    use super::*;
    use crate::location::{Deltas, Facts, HomeId};

    fn read(body: &str) -> (Result<Asked, Malformed>, Deltas) {
        let mut deltas = Deltas::default();
        (
            Reception::example(false).read(body.as_bytes(), &mut deltas),
            deltas,
        )
    }

    fn written(deltas: &Deltas) -> String {
        let items = deltas.iter().map(|delta| {
            let mut json = Vec::new();
            write(
                &Reception::example(false),
                &delta,
                Dialect::Kamailio,
                &mut json,
            );
            json
        });
        let (items, mut body): (Vec<Vec<u8>>, _) = (items.collect(), Vec::new());
        gather(items.iter().map(Vec::as_slice), &mut body);
        String::from_utf8(body).expect("text")
    }

    /// Without the key that is never sent.
    fn without_socket(body: &str) -> String {
        let mut parts = body.splitn(2, "\"sock\":\"");
        let (before, behind) = (parts.next().unwrap_or_default(), parts.next());
        behind.map_or(body.to_owned(), |behind| {
            let rest = behind.split_once("\",").map_or("", |(_, rest)| rest);
            format!("{before}{rest}")
        })
    }

    #[test]
    fn what_kamailio_wrote_is_written_again_octet_by_octet() {
        for body in [
            include_str!("../../tests/cluster/captures/escapes.json"),
            include_str!("../../tests/cluster/captures/path_instance_q.json"),
            include_str!("../../tests/cluster/captures/multi.json"),
        ] {
            let (asked, deltas) = read(body);
            let is_multi = body.starts_with("{\"multi\"");
            assert_eq!(
                asked,
                Ok(Asked::Changes {
                    refused: 0,
                    is_multi,
                    is_versioned: false
                })
            );
            assert_eq!(written(&deltas), without_socket(body));
        }
    }

    #[test]
    fn a_version_is_for_those_who_know_it() {
        let (_, mut deltas) = read(include_str!("../../tests/cluster/captures/escapes.json"));
        let delta = deltas.delta(0).expect("one");
        let facts = Facts {
            version: 1_795_333_252_123_456,
            home: HomeId::NONE,
            ..delta.facts
        };
        let mut json = Vec::new();
        write(
            &Reception::example(false),
            &Delta { facts, ..delta },
            Dialect::Strowger,
            &mut json,
        );
        deltas.clear();
        let asked = Reception::example(false).read(&json, &mut deltas);
        assert!(
            matches!(
                asked,
                Ok(Asked::Changes {
                    is_versioned: true,
                    ..
                })
            ),
            "{asked:?}"
        );
        assert_eq!(deltas.delta(0).expect("one").facts, facts);
    }
}
