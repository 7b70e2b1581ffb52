//! What this host could do, without serving anybody: for `strowger doctor`.

use std::sync::Arc;

use super::device::Device;
use super::error::NetError;
use super::ethtool;
use super::netlink::{LinkState, Requests};
use super::open::open_device;
use super::plan::DevicePlan;
use super::report::DeviceReport;

/// An interface of the calling thread's network namespace.
#[derive(Clone, Debug)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Receive queues in use: that many workers serve it.
    pub queues: u32,
    /// The longest IP packet that it carries.
    pub mtu: u32,
    /// Whether it is switched on and has a carrier.
    pub is_up: bool,
    /// Whether it is `lo`.
    pub is_loopback: bool,
}

/// Lists the interfaces.
///
/// # Errors
/// `System`, where netlink or ethtool do not answer.
pub fn interfaces() -> Result<Vec<Interface>, NetError> {
    let interface = |link: LinkState| {
        Ok(Interface {
            queues: queues(&link.name)?,
            name: link.name,
            mtu: link.mtu,
            is_up: link.is_up,
            is_loopback: link.is_loopback,
        })
    };
    links()?.into_iter().map(interface).collect()
}

/// Opens AF_XDP on every queue of an interface and closes it again: says what a server would get. No packet is redirected
/// meanwhile, but some drivers drop packets while a program is attached or taken off, and sockets that are open there keep
/// theirs from being had.
///
/// # Errors
/// As [`super::open()`] with a listener that insists on AF_XDP.
pub fn probe(interface: &str) -> Result<DeviceReport, NetError> {
    let link = links()?
        .into_iter()
        .find(|link| link.name == interface)
        .ok_or_else(|| NetError::UnknownInterface {
            interface: interface.to_owned(),
        })?;
    let queues = queues(interface)?;
    let plan = DevicePlan {
        device: Arc::new(Device::new(&link, queues)),
        listeners: Vec::new(),
        queues: (0..queues).collect(),
        mode: None,
        busy_poll: false,
        is_required: true,
    };
    open_device(&plan).map(|opened| opened.report)
}

/// All interfaces, as the kernel has them.
fn links() -> Result<Vec<LinkState>, NetError> {
    let links = Requests::new().and_then(|mut requests| requests.links());
    links.map_err(|source| NetError::System {
        what: "netlink does not answer",
        source,
    })
}

/// The queues of one.
fn queues(interface: &str) -> Result<u32, NetError> {
    let what = "ethtool does not say the queues";
    ethtool::queues(interface).map_err(|source| NetError::System { what, source })
}
