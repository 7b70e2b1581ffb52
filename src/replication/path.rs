//! The Path that a Kamailio is told of a phone which nobody reaches but the Strowger that it registered at: so its `lookup()` sends calls there,
//! whatever it is configured to, and a token in it says by which flow they go on (RFC 5626 5.1).
//!
//! It is written for Kamailios alone, and taken off what comes back from them, so that the nodes of our kind hold one content.

use super::contact::Reception;
use crate::location::{Delta, Standing};
use crate::sip::{Address, Span};

impl Reception {
    /// The value of Path for a contact; none where it is reached without, or is not at home at a node of our kind.
    pub(super) fn path_home(&self, delta: &Delta<'_>) -> Option<String> {
        let row = &delta.row;
        let is_wanted = self.tells_paths && !delta.is_removal();
        if !is_wanted || !row.received || !row.path.is_empty() {
            return None;
        }
        let standing = || self.homes.standing(delta.facts.home);
        if !row.is_ours && standing() != Standing::Strowger {
            return None;
        }
        // Where phones come by TCP, nodes come by UDP: each listener has both.
        let (_, socket) = self.socket_of(delta)?;
        let token = self.flows.encode_named(&row.flow);
        let token = std::str::from_utf8(token.as_bytes()).ok()?;
        Some(format!("<sip:{token}@{socket};lr>"))
    }

    /// What is told of a phone's Path, without what a node of ours told of it.
    pub(super) fn path_told<'a>(&self, path: &'a [u8]) -> &'a [u8] {
        if self.is_path_home(path) { b"" } else { path }
    }

    /// Whether a Path is such a one, of whichever node.
    fn is_path_home(&self, path: &[u8]) -> bool {
        let end = u16::try_from(path.len()).unwrap_or(u16::MAX);
        let address = Address::parse(path, Span { start: 0, end });
        let uri = address.and_then(|address| address.uri());
        uri.is_ok_and(|uri| uri.user.is_some_and(|user| self.flows.is_named(user)))
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::sync::Arc;

    use super::*;
    use crate::datagram::{Flow, ListenerId, Transport};
    use crate::flow_token::FlowCodec;
    use crate::location::{Facts, Home, HomeId, Homes, Row};

    fn reception(tells_paths: bool) -> Reception {
        Reception {
            server_id: 1,
            homes: Arc::new(Homes::new(1)),
            ip: IpAddr::from([192, 0, 2, 1]),
            listeners: vec![(ListenerId(0), ([0, 0, 0, 0], 5_060).into())],
            use_domain: false,
            domains: Vec::new(),
            flows: FlowCodec::new(vec![[1; 16]]),
            tells_paths,
        }
    }

    fn delta(is_ours: bool, home: HomeId) -> Delta<'static> {
        Delta {
            row: Row {
                contact: b"sip:bob@10.0.0.9",
                flow: Flow {
                    listener: ListenerId(0),
                    transport: Transport::Udp,
                    peer: ([198, 51, 100, 7], 40_000).into(),
                },
                received: true,
                is_ours,
                ..Row::complete(b"bob")
            },
            facts: Facts {
                home,
                ..Facts::own(1, 1, 0)
            },
        }
    }

    #[test]
    fn it_leads_to_the_listener_and_is_known_for_what_it_is() {
        let reception = reception(true);
        let path = reception
            .path_home(&delta(true, HomeId::NONE))
            .expect("one");
        assert!(path.starts_with("<sip:flow.") && path.ends_with("@192.0.2.1:5060;lr>"));
        assert!(reception.is_path_home(path.as_bytes()));
        let edge = path.replace("flow.", "");
        for other in [
            "",
            "<sip:edge.example.com;lr>",
            &edge,
            &path.replace(";lr>", ""),
        ] {
            assert!(!reception.is_path_home(other.as_bytes()), "{other}");
        }
    }

    #[test]
    fn none_is_told_where_it_is_not_wanted_or_leads_nowhere() {
        let own = delta(true, HomeId::NONE);
        assert_eq!(self::reception(false).path_home(&own), None);
        let reception = reception(true);
        let mut open = delta(true, HomeId::NONE);
        open.row.received = false;
        let mut by_edge = delta(true, HomeId::NONE);
        by_edge.row.path = b"<sip:edge.example.com;lr>";
        for delta in [open, by_edge] {
            assert_eq!(reception.path_home(&delta), None);
        }
        // Of another node's contact only while that is a Strowger, and is there.
        let home = reception.homes.id_of(Home {
            server_id: 2,
            socket: Some((Transport::Udp, ([192, 0, 2, 2], 5_060).into())),
            is_told: true,
        });
        let elsewhere = delta(false, home);
        let path_while = |standing| {
            reception.homes.publish(&[1], |_| standing);
            reception.path_home(&elsewhere)
        };
        assert_eq!(path_while(Standing::Kamailio), None);
        assert_eq!(path_while(Standing::Gone), None);
        let path = path_while(Standing::Strowger).expect("one");
        assert!(path.ends_with("@192.0.2.2:5060;lr>"), "{path}");
    }
}
