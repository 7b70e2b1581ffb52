//! Who we are: our listen addresses, our domains, and the peers that we trust by address.

use std::net::SocketAddr;

use super::domains::Domains;
use super::settings::{Listener, Settings};
use crate::datagram::{Destination, ListenerId, Transport};
use crate::limits::UDP_REQUEST_LEN_MAX;
use crate::sip::host::Host;
use crate::sip::uri::Uri;

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
        // RFC 3261 16.4 and 16.5: a maddr that is not ours makes it somebody else's.
        if let Some(Some(maddr)) = uri.param(b"maddr") {
            let is_own = |host: &Host<'_>| self.domains.owns(host) || self.is_own_address(host);
            if !Host::parse(maddr).is_ok_and(|host| is_own(&host)) {
                return false;
            }
        }
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

    /// Whether a Request-URI is an AoR of ours, by what follows its user in the first line: a domain of ours, and nothing more. RFC 3261 12.2.1.1: within
    /// a dialog the Request-URI is a contact, so such a request begins something. In doubt it is not.
    #[must_use]
    pub(super) fn ends_aor(&self, rest: &[u8]) -> bool {
        let rest = self.domains.lead(rest);
        rest.is_some_and(|rest| rest.starts_with(b" SIP/2.0\r\n"))
    }

    fn is_own_address(&self, host: &Host<'_>) -> bool {
        host.ip().is_some_and(|ip| {
            self.listeners
                .iter()
                .any(|listener| listener.address.ip() == ip)
        })
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

    /// How long a request by UDP may be where the next hop is known to speak TCP.
    #[must_use]
    pub(super) fn udp_request_len_max(&self, id: ListenerId) -> usize {
        self.listeners
            .iter()
            .find(|listener| listener.id == id)
            .map_or(UDP_REQUEST_LEN_MAX, |listener| listener.udp_request_len_max)
    }

    /// The listener by which to send to a destination: `preferred` if it speaks that family and transport, else the first
    /// that does.
    #[must_use]
    pub(super) fn listener_for(
        &self,
        destination: &Destination,
        preferred: ListenerId,
    ) -> Option<ListenerId> {
        let speaks = |listener: &&Listener| {
            let is_of_family = listener.address.is_ipv4() == destination.address.is_ipv4();
            is_of_family && (listener.tcp || destination.transport == Transport::Udp)
        };
        let chosen = self
            .listeners
            .iter()
            .filter(speaks)
            .find(|listener| listener.id == preferred);
        chosen
            .or_else(|| self.listeners.iter().find(speaks))
            .map(|listener| listener.id)
    }
}
