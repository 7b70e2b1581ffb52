//! Who we are: our listen addresses, our domains, and the peers that we trust by address.

use std::net::SocketAddr;

use super::domains::Domains;
use super::settings::{Listener, Settings};
use crate::datagram::{Flow, ListenerId, Transport};
use crate::sip::uri::{Scheme, Uri};

/// The port that a SIP URI means when it names none (RFC 3261 19.1.2).
pub(super) const PORT_DEFAULT: u16 = 5060;

/// The part of the settings that tells ours from others'.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    listeners: Vec<Listener>,
    domains: Domains,
    peers: Vec<ipnet::IpNet>,
}

impl Identity {
    /// Takes what it needs from the settings.
    #[must_use]
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            listeners: settings.listeners.clone(),
            domains: Domains::new(settings.domains.iter().map(String::as_str), []),
            peers: settings.peers.clone(),
        }
    }

    /// The listener that a URI's host and port name, if it is one of ours.
    #[must_use]
    pub(super) fn listener_named(&self, uri: &Uri<'_>) -> Option<ListenerId> {
        let ip = uri.host.ip()?;
        let address = SocketAddr::new(ip, uri.port.unwrap_or(PORT_DEFAULT));
        self.listeners
            .iter()
            .find(|listener| listener.address == address)
            .map(|listener| listener.id)
    }

    /// Whether we are responsible for a URI: its host is a domain of ours, or an address that we listen on.
    #[must_use]
    pub(super) fn is_ours(&self, uri: &Uri<'_>) -> bool {
        if self.listener_named(uri).is_some() {
            return true;
        }
        let port = uri.port.unwrap_or(PORT_DEFAULT);
        let port_is_ours = port == PORT_DEFAULT
            || self
                .listeners
                .iter()
                .any(|listener| listener.address.port() == port);
        port_is_ours && self.domains.owns(&uri.host)
    }

    /// Whether a source address is a peer's.
    #[must_use]
    pub(super) fn is_peer(&self, source: SocketAddr) -> bool {
        let ip = source.ip().to_canonical();
        self.peers.iter().any(|network| network.contains(&ip))
    }

    /// The address of a listener.
    #[must_use]
    pub(super) fn address_of(&self, id: ListenerId) -> Option<SocketAddr> {
        self.listeners
            .iter()
            .find(|listener| listener.id == id)
            .map(|listener| listener.address)
    }

    /// The flow to a URI that names an address: by `listener` if that speaks the address's family, else by the first that
    /// does. `None` for a host name, and for a transport that we do not speak.
    #[must_use]
    pub(super) fn flow_to(&self, uri: &Uri<'_>, listener: ListenerId) -> Option<Flow> {
        let speaks_udp = match uri.param(b"transport") {
            None => true,
            Some(value) => value.is_some_and(|value| value.eq_ignore_ascii_case(b"udp")),
        };
        if !speaks_udp || uri.scheme != Scheme::Sip {
            return None;
        }
        let ip = uri.host.ip()?;
        let port = uri.port.unwrap_or(PORT_DEFAULT);
        self.flow_from(listener, SocketAddr::new(ip, port))
    }

    /// The flow to an address, by `listener` if that speaks its family, else by the first that does.
    #[must_use]
    pub(super) fn flow_from(&self, listener: ListenerId, peer: SocketAddr) -> Option<Flow> {
        let speaks = |listener: &&Listener| listener.address.is_ipv4() == peer.is_ipv4();
        let preferred = self
            .listeners
            .iter()
            .find(|other| other.id == listener)
            .filter(speaks);
        let chosen = preferred.or_else(|| self.listeners.iter().find(speaks))?;
        Some(Flow {
            listener: chosen.id,
            transport: Transport::Udp,
            peer,
        })
    }
}
