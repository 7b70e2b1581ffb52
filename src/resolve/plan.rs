//! What the DNS says of a name, before lots are drawn: services in the order in which they are tried, their targets, and the
//! addresses of each.

use std::net::IpAddr;
use std::time::Instant;

use super::preference::Rank;
use crate::datagram::Transport;

/// Where a name leads, and until when that holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) services: Vec<Service>,
    pub(super) expires: Instant,
}

/// One SRV set, or the addresses of a host as the only target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Service {
    pub(super) transport: Transport,
    pub(super) targets: Vec<Target>,
}

/// A server (RFC 2782).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) priority: u16,
    pub(super) weight: u16,
    pub(super) port: u16,
    /// The least rank first.
    pub(super) addresses: Vec<(Rank, IpAddr)>,
}

impl Plan {
    /// Whether it leads nowhere: the DNS knows nothing of the name.
    pub(super) fn is_empty(&self) -> bool {
        self.services.is_empty()
    }
}

impl Service {
    /// Whether no target has an address.
    pub(super) fn is_empty(&self) -> bool {
        self.targets
            .iter()
            .all(|target| target.addresses.is_empty())
    }
}
