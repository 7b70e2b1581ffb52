//! Contacts that registered at another node and are behind a NAT, or on a connection: they are reached by way of that node, whose
//! socket alone their NAT lets in.
//!
//! A node of our kind is given the flow in a token that is good for this call and says that we have let it in; it goes by that flow and
//! looks nothing up, so that no request can go round. A Kamailio is given what its own Path would say (its module `path`).

use std::io::Write as _;
use std::net::SocketAddr;

use super::Proxy;
use crate::datagram::{Flow, Transport};
use crate::flow_token::FlowToken;
use crate::location::{Home, HomeId, RegisteredContact, Standing, Targets};
use crate::sip::uri::Uri;

/// The path to a node.
struct Way {
    node: (Transport, SocketAddr),
    through: Through,
}

/// How the node is told of the flow.
enum Through {
    Strowger(FlowToken),
    Kamailio(Flow),
}

impl Proxy {
    /// Has contacts that another node alone can reach reached by it.
    pub(super) fn lead_home(&self, call_id: &[u8], targets: &mut Targets) {
        for index in 0..targets.len() {
            let target = targets.target(index);
            let flow = target.and_then(|target| {
                let is_pathless = target.path.is_empty() && target.home.is_some();
                target
                    .received
                    .filter(|_| is_pathless)
                    .zip(Some(target.home))
            });
            let way = flow.and_then(|(flow, home)| self.way_home(call_id, home, &flow));
            if let Some(way) = way {
                targets.lead(index, |out| way.write(out));
            }
        }
    }

    /// Makes a registered contact that another node alone can reach the only target; says whether it is one.
    pub(super) fn leads_home(
        &self,
        call_id: &[u8],
        target: &Uri<'_>,
        contact: &RegisteredContact,
        targets: &mut Targets,
    ) -> bool {
        let flow = contact.received.filter(|_| contact.home.is_some());
        let way = flow.and_then(|flow| self.way_home(call_id, contact.home, &flow));
        let Some(way) = way else {
            return false;
        };
        targets.lead_to(target.bytes(), contact.listener, |out| way.write(out));
        true
    }

    fn way_home(&self, call_id: &[u8], home: HomeId, flow: &Flow) -> Option<Way> {
        let homes = self.location.homes()?;
        let Home {
            socket, is_told, ..
        } = *homes.home(home)?;
        let node = socket.filter(|_| is_told)?;
        let through = match homes.standing(home) {
            Standing::Strowger => Through::Strowger(self.flows.encode_call(flow, call_id)),
            Standing::Kamailio => Through::Kamailio(*flow),
            // Where its node is gone we are as good as any other.
            Standing::Unknown | Standing::Own | Standing::Gone => return None,
        };
        Some(Way { node, through })
    }
}

impl Way {
    /// Writes it as a value of Path.
    fn write(&self, out: &mut Vec<u8>) {
        let (transport, node) = self.node;
        // Nothing that is written to memory fails.
        let _ = match &self.through {
            Through::Strowger(token) => {
                out.extend_from_slice(b"<sip:");
                out.extend_from_slice(token.as_bytes());
                write!(out, "@{node};lr>")
            }
            Through::Kamailio(flow) => {
                let by = named(transport, ";transport=tcp");
                let back = named(flow.transport, "%3Btransport%3Dtcp");
                write!(out, "<sip:{node}{by};lr;received=sip:{}{back}>", flow.peer)
            }
        };
    }
}

fn named(transport: Transport, tcp: &'static str) -> &'static str {
    match transport {
        Transport::Udp => "",
        Transport::Tcp => tcp,
    }
}
