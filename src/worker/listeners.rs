//! The listeners: of the configuration, as the network opens them, as the core knows them, and as they are shown.

use std::net::SocketAddr;

use tracing::{info, warn};

use super::ServeError;
use crate::admin;
use crate::config::{self, Config};
use crate::datagram::ListenerId;
use crate::limits::{LISTENERS_MAX, UDP_REQUEST_LEN_MAX};
use crate::net::tcp::Tcp;
use crate::net::{self, BackendChoice, Got, ListenerReport, ListenerSpec};
use crate::proxy::Listener;

/// The listeners of the configuration; a wildcard becomes one for each address of its family that the host has now, since a
/// proxy names its own address in every Via and Record-Route.
///
/// Each with whether it is served by TCP as well.
pub(super) fn listeners(config: &Config) -> Result<Vec<(ListenerSpec, bool)>, ServeError> {
    let mut specs: Vec<(ListenerSpec, bool)> = Vec::new();
    let mut total = 0_usize;
    for listen in &config.listen {
        for address in concrete(listen.address)? {
            total += 1;
            let Some(id) = u8::try_from(specs.len())
                .ok()
                .filter(|_| specs.len() < LISTENERS_MAX)
            else {
                continue;
            };
            specs.push((spec(config, listen, ListenerId(id), address), listen.tcp));
        }
    }
    if total > specs.len() {
        return Err(ServeError::TooManyAddresses(total));
    }
    Ok(specs)
}

fn spec(
    config: &Config,
    listen: &config::Listen,
    id: ListenerId,
    address: SocketAddr,
) -> ListenerSpec {
    let mut spec = ListenerSpec::new(id, address);
    let is_wildcard = listen.address.ip().is_unspecified();
    spec.backend = match listen.backend {
        _ if is_wildcard => BackendChoice::Udp,
        config::Backend::Auto => BackendChoice::Auto,
        config::Backend::AfXdp => BackendChoice::AfXdp,
        config::Backend::Udp => BackendChoice::Udp,
    };
    spec.interface.clone_from(&listen.interface);
    spec.queues = (!listen.queues.is_empty()).then(|| listen.queues.clone());
    spec.mode = listen.mode.map(|mode| match mode {
        config::Mode::Driver => net::Mode::Driver,
        config::Mode::Generic => net::Mode::Generic,
    });
    spec.busy_poll = config.workers.busy_poll;
    spec
}

fn concrete(address: SocketAddr) -> Result<Vec<SocketAddr>, ServeError> {
    if !address.ip().is_unspecified() {
        return Ok(vec![address]);
    }
    let own = net::local_addresses().map_err(|source| ServeError::System {
        what: "the host's addresses",
        source,
    })?;
    let of_family: Vec<SocketAddr> = own
        .into_iter()
        .filter(|ip| ip.is_ipv4() == address.is_ipv4())
        .map(|ip| SocketAddr::new(ip, address.port()))
        .collect();
    if of_family.is_empty() {
        Err(ServeError::NoAddress(address))
    } else {
        Ok(of_family)
    }
}

/// The listeners as the core knows them.
pub(super) fn spoken(
    listeners: &[(ListenerSpec, bool)],
    has_tcp_thread: bool,
) -> Result<Vec<Listener>, ServeError> {
    let interfaces = net::interfaces()?;
    let spoken = listeners.iter().map(|(spec, has_tcp)| Listener {
        tcp: *has_tcp && has_tcp_thread,
        udp_request_len_max: udp_request_len_max(spec, &interfaces),
        ..Listener::new(spec.id, spec.address)
    });
    Ok(spoken.collect())
}

/// RFC 3261 18.1.1: 1,300 bytes where the path's MTU is not known; no more than the link's less 200 in any case.
fn udp_request_len_max(spec: &ListenerSpec, interfaces: &[net::Interface]) -> usize {
    let link = interfaces
        .iter()
        .find(|interface| Some(&interface.name) == spec.interface.as_ref());
    link.map_or(UDP_REQUEST_LEN_MAX, |link| {
        let fitting = usize::try_from(link.mtu)
            .unwrap_or(usize::MAX)
            .saturating_sub(200);
        fitting.min(UDP_REQUEST_LEN_MAX)
    })
}

/// Says in the log what a listener got; loudly where it is not what it might have been.
pub(super) fn announce(report: &ListenerReport) {
    match &report.got {
        Got::Udp { why_not: Some(_) } => warn!("listening on {report}"),
        Got::Udp { why_not: None } | Got::AfXdp(_) => info!("listening on {report}"),
    }
}

/// The listeners' reports as the admin server shows them.
pub(super) fn shown(reports: &[ListenerReport], tcp: Option<&Tcp>) -> Vec<admin::ListenerReport> {
    let shown = reports.iter().map(|report| shown_one(report, tcp));
    shown.collect()
}

fn shown_one(report: &ListenerReport, tcp: Option<&Tcp>) -> admin::ListenerReport {
    let is_its = |(_, address): &(ListenerId, SocketAddr)| *address == report.address;
    let udp = admin::ListenerReport {
        address: report.address,
        backend: "udp",
        mode: None,
        zero_copy: false,
        interface: None,
        queues: Vec::new(),
        tcp: tcp.is_some_and(|tcp| tcp.addresses().iter().any(is_its)),
        reason: None,
    };
    match &report.got {
        Got::Udp { why_not } => admin::ListenerReport {
            reason: why_not.clone(),
            ..udp
        },
        Got::AfXdp(device) => admin::ListenerReport {
            backend: "af_xdp",
            mode: Some(device.mode.as_str()),
            zero_copy: device.queues.iter().all(|queue| queue.is_zero_copy),
            interface: Some(device.interface.clone()),
            queues: device.queues.iter().map(|queue| queue.queue).collect(),
            reason: device.why_not_driver.clone(),
            ..udp
        },
    }
}
