//! The notification channel's body: the nodes, one a line, each line ended by CRLF.
//!
//! What we write cannot hurt Kamailio 5.6, which locks up for ever at a last line without its end, at a status that it does not know
//! and at a body that is too long: only `active` is written, and no more nodes than fit.

use std::net::SocketAddr;

use crate::limits::{KDMQ_ROSTER_LEN, NODES_MAX};
use crate::sip::Uri;

/// Writes the list: ourselves, and the others as long as they fit.
pub(super) fn write(own: SocketAddr, others: impl Iterator<Item = SocketAddr>, out: &mut Vec<u8>) {
    for node in std::iter::once(own).chain(others) {
        let line = format!("sip:{node};status=active\r\n");
        if out.len() + line.len() <= KDMQ_ROSTER_LEN {
            out.extend_from_slice(line.as_bytes());
        }
    }
}

/// The nodes of a list that are said to be active; what is no node of ours is passed over.
pub(super) fn read(body: &[u8]) -> impl Iterator<Item = SocketAddr> {
    let lines = body.split(|byte| *byte == b'\n').take(NODES_MAX);
    lines.filter_map(|line| {
        let uri = Uri::parse(line.trim_ascii()).ok().filter(Uri::is_sip)?;
        let status = uri.param(b"status").flatten();
        let is_udp = uri
            .param(b"transport")
            .flatten()
            .is_none_or(|name| name.eq_ignore_ascii_case(b"udp"));
        let is_active = status.is_none_or(|status| status.eq_ignore_ascii_case(b"active"));
        let node = SocketAddr::new(uri.host.ip()?, uri.port.unwrap_or(5_060));
        (is_active && is_udp && node.port() != 0).then_some(node)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn the_list_is_as_kamailio_writes_it() {
        let mut out = Vec::new();
        let (own, other) = (node("10.77.0.1:5060"), node("10.77.0.2:5060"));
        write(own, std::iter::once(other), &mut out);
        let text = "sip:10.77.0.1:5060;status=active\r\nsip:10.77.0.2:5060;status=active\r\n";
        assert_eq!(out, text.as_bytes());
        assert_eq!(read(&out).collect::<Vec<_>>(), [own, other]);
    }

    #[test]
    fn no_list_is_too_long_for_kamailio_and_every_line_is_ended() {
        let mut out = Vec::new();
        let others = (0..200).map(|n| SocketAddr::from(([10, 0, 0, n], 5_060)));
        write(node("10.77.0.1:5060"), others, &mut out);
        assert!(out.len() <= KDMQ_ROSTER_LEN && out.ends_with(b"\r\n"));
        assert!(read(&out).count() > 20);
    }

    #[test]
    fn what_is_no_node_is_passed_over() {
        let body = b"sip:10.0.0.1:5060;status=disabled\r\nsip:10.0.0.2:5060;status=active\r\n\x00\xff\r\nsip:host.example:5060;status=active\r\nsip:10.0.0.3;status=activ\r\nsip:10.0.0.4:5062;transport=tcp;status=active\r\nsip:10.0.0.5:5060";
        let nodes: Vec<SocketAddr> = read(body).collect();
        assert_eq!(nodes, [node("10.0.0.2:5060"), node("10.0.0.5:5060")]);
    }
}
