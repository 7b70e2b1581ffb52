//! The notification channel's body: the nodes, one a line, each line ended by CRLF.
//!
//! What we write cannot hurt Kamailio 5.6, which locks up for ever at a last line without its end, at a status that it does not know
//! and at a body that is too long: only `active` and, of ourselves when we leave, `disabled` is written, and no more nodes than fit.

use super::address::NodeAddress;
use crate::limits::{KDMQ_ROSTER_LEN, NODES_MAX};
use crate::sip::Uri;

/// What a line says of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// It is there.
    Active,
    /// It leaves.
    Disabled,
}

/// Writes the list: ourselves, and the others as long as they fit.
pub(super) fn write(
    own: NodeAddress,
    others: impl Iterator<Item = NodeAddress>,
    out: &mut Vec<u8>,
) {
    for node in std::iter::once(own).chain(others) {
        let line = format!("sip:{node};status=active\r\n");
        if out.len() + line.len() <= KDMQ_ROSTER_LEN {
            out.extend_from_slice(line.as_bytes());
        }
    }
}

/// Writes that we leave.
pub(super) fn write_farewell(own: NodeAddress, out: &mut Vec<u8>) {
    out.extend_from_slice(format!("sip:{own};status=disabled\r\n").as_bytes());
}

/// The nodes of a list and what is said of them; what is no node of ours, or has a status that says nothing, is passed over.
pub(super) fn read(body: &[u8]) -> impl Iterator<Item = (NodeAddress, Said)> {
    let lines = body.split(|byte| *byte == b'\n').take(NODES_MAX);
    lines.filter_map(|line| {
        let uri = Uri::parse(line.trim_ascii()).ok().filter(Uri::is_sip)?;
        let said = match uri.param(b"status").flatten() {
            None => Said::Active,
            Some(status) if status.eq_ignore_ascii_case(b"active") => Said::Active,
            Some(status) if status.eq_ignore_ascii_case(b"disabled") => Said::Disabled,
            Some(_) => return None,
        };
        Some((NodeAddress::of(&uri, None)?, said))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datagram::Transport;

    fn node(text: &str) -> NodeAddress {
        NodeAddress::udp(text.parse().expect("an address"))
    }

    #[test]
    fn the_list_is_as_kamailio_writes_it() {
        let mut out = Vec::new();
        let (own, mut other) = (node("10.77.0.1:5060"), node("10.77.0.2:5060"));
        other.transport = Transport::Tcp;
        write(own, std::iter::once(other), &mut out);
        let text = "sip:10.77.0.1:5060;status=active\r\nsip:10.77.0.2:5060;transport=tcp;status=active\r\n";
        assert_eq!(out, text.as_bytes());
        let read: Vec<_> = read(&out).collect();
        assert_eq!(read, [(own, Said::Active), (other, Said::Active)]);
    }

    #[test]
    fn no_list_is_too_long_for_kamailio_and_every_line_is_ended() {
        let mut out = Vec::new();
        let others = (0..200).map(|n| NodeAddress::udp(([10, 0, 0, n], 5_060).into()));
        write(node("10.77.0.1:5060"), others, &mut out);
        assert!(out.len() <= KDMQ_ROSTER_LEN && out.ends_with(b"\r\n"));
        assert!(read(&out).count() > 20);
    }

    #[test]
    fn what_is_no_node_is_passed_over() {
        let body = b"sip:10.0.0.1:5060;status=disabled\r\nsip:10.0.0.2:5060;status=active\r\n\x00\xff\r\nsip:host.example:5060;status=active\r\nsip:10.0.0.3;status=activ\r\nsip:10.0.0.4:5062;transport=sctp;status=active\r\nsip:0.0.0.0:5060\r\nsip:10.0.0.6:5060;status=not_active\r\nsip:10.0.0.5:5060";
        let nodes: Vec<_> = read(body).collect();
        let (left, there, last) = ("10.0.0.1:5060", "10.0.0.2:5060", "10.0.0.5:5060");
        assert_eq!(
            nodes,
            [
                (node(left), Said::Disabled),
                (node(there), Said::Active),
                (node(last), Said::Active)
            ]
        );
    }
}
