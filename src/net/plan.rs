//! Which interface serves which listener, by which queues: decided before anything is opened.

use std::net::SocketAddr;
use std::sync::Arc;

use super::device::Device;
use super::error::NetError;
use super::ethtool;
use super::listener::{BackendChoice, ListenerSpec, Mode};
use super::netlink::{LinkState, Requests};
use crate::datagram::ListenerId;

/// What is to be opened on one interface.
#[derive(Debug)]
pub(super) struct DevicePlan {
    pub(super) device: Arc<Device>,
    pub(super) listeners: Vec<(SocketAddr, ListenerId)>,
    /// The i-th is worker i's.
    pub(super) queues: Vec<u32>,
    pub(super) mode: Option<Mode>,
    pub(super) busy_poll: bool,
    /// Whether a listener insists on AF_XDP, so that a failure is an error.
    pub(super) is_required: bool,
}

/// Why listeners that may have either backend do not get AF_XDP.
pub(super) type Refusals = Vec<(ListenerId, String)>;

/// Plans the interfaces.
///
/// # Errors
/// Where a listener that insists on AF_XDP cannot be served so.
pub(super) fn plan(
    listeners: &[ListenerSpec],
    workers: usize,
) -> Result<(Vec<DevicePlan>, Refusals), NetError> {
    let mut plans = Vec::new();
    let mut refusals = Vec::new();
    let wants: Vec<_> = listeners
        .iter()
        .filter(|listener| listener.backend != BackendChoice::Udp)
        .collect();
    if wants.is_empty() {
        return Ok((plans, refusals));
    }
    let system = |source| NetError::System {
        what: "netlink does not answer",
        source,
    };
    let mut requests = Requests::new().map_err(system)?;
    let links = requests.links().map_err(system)?;

    // The listeners of each interface, in the order of their first.
    let mut groups: Vec<(&LinkState, Vec<&ListenerSpec>)> = Vec::new();
    for listener in wants {
        match choose(listener, &links, &mut requests) {
            Ok(link) => match groups
                .iter_mut()
                .find(|(other, _)| other.index == link.index)
            {
                Some((_, members)) => members.push(listener),
                None => groups.push((link, vec![listener])),
            },
            Err(error) if insists(listener) => return Err(error),
            Err(error) => refusals.push((listener.id, error.to_string())),
        }
    }
    for (link, members) in groups {
        match plan_device(link, &members, workers) {
            Ok(plan) => plans.push(plan),
            Err(error) if members.iter().any(|listener| insists(listener)) => return Err(error),
            Err(error) => {
                let why = error.to_string();
                refusals.extend(members.iter().map(|listener| (listener.id, why.clone())));
            }
        }
    }
    Ok((plans, refusals))
}

/// Whether a listener must have AF_XDP.
fn insists(listener: &ListenerSpec) -> bool {
    listener.backend == BackendChoice::AfXdp
}

/// The interface of a listener: the one that it names, or the one that carries its address.
fn choose<'a>(
    listener: &ListenerSpec,
    links: &'a [LinkState],
    requests: &mut Requests,
) -> Result<&'a LinkState, NetError> {
    let address = listener.address;
    if address.ip().is_unspecified() {
        return Err(NetError::Wildcard { address });
    }
    if let Some(name) = &listener.interface {
        return links.iter().find(|link| link.name == *name).ok_or_else(|| {
            NetError::UnknownInterface {
                interface: name.clone(),
            }
        });
    }
    let index = requests
        .interface_of(address.ip())
        .map_err(|source| NetError::System {
            what: "netlink does not answer",
            source,
        })?;
    let link = links
        .iter()
        .find(|link| Some(link.index) == index)
        .ok_or(NetError::NoInterface { address })?;
    if link.is_loopback {
        Err(NetError::Loopback { address })
    } else {
        Ok(link)
    }
}

/// Puts what the listeners of an interface ask for together.
fn plan_device(
    link: &LinkState,
    members: &[&ListenerSpec],
    workers: usize,
) -> Result<DevicePlan, NetError> {
    let interface = || link.name.clone();
    let has = ethtool::queues(&link.name).map_err(|source| NetError::System {
        what: "ethtool does not say the queues",
        source,
    })?;
    let mode = agreed(members, |listener| listener.mode).ok_or_else(|| NetError::Conflict {
        interface: interface(),
        setting: "mode",
    })?;
    let queues = agreed(members, |listener| listener.queues.clone())
        .ok_or_else(|| NetError::Conflict {
            interface: interface(),
            setting: "queues",
        })?
        .unwrap_or_else(|| (0..has).collect());
    for (place, queue) in queues.iter().enumerate() {
        if *queue >= has || queues.iter().take(place).any(|earlier| earlier == queue) {
            return Err(NetError::NoSuchQueue {
                interface: interface(),
                queue: *queue,
                last: has - 1,
            });
        }
    }
    if queues.is_empty() {
        return Err(NetError::Arguments(
            "queues = [] serves nothing: name queues, or none for all",
        ));
    }
    if queues.len() > workers {
        return Err(NetError::TooManyQueues {
            interface: interface(),
            queues: queues.len(),
            workers,
        });
    }
    Ok(DevicePlan {
        device: Arc::new(Device::new(link, has)),
        listeners: members
            .iter()
            .map(|listener| (listener.address, listener.id))
            .collect(),
        queues,
        mode,
        busy_poll: members.iter().any(|listener| listener.busy_poll),
        is_required: members.iter().any(|listener| insists(listener)),
    })
}

/// What the listeners that say anything say, if they say the same.
fn agreed<T: PartialEq>(
    members: &[&ListenerSpec],
    setting: impl Fn(&ListenerSpec) -> Option<T>,
) -> Option<Option<T>> {
    let mut said = members.iter().filter_map(|listener| setting(listener));
    let first = said.next();
    said.all(|other| Some(&other) == first.as_ref())
        .then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listener(number: u8, queues: Option<Vec<u32>>) -> ListenerSpec {
        let address = SocketAddr::from(([192, 0, 2, 1], 5060 + u16::from(number)));
        ListenerSpec {
            queues,
            ..ListenerSpec::new(ListenerId(number), address)
        }
    }

    fn plan_lo(members: &[&ListenerSpec], workers: usize) -> Result<DevicePlan, NetError> {
        let link = LinkState {
            index: 1,
            name: "lo".to_owned(),
            mac: None,
            mtu: 1_500,
            is_loopback: true,
            is_up: true,
        };
        plan_device(&link, members, workers)
    }

    #[test]
    fn all_queues_are_served_unless_some_are_named() {
        let plan = plan_lo(&[&listener(0, None)], 2).expect("one queue for two workers");
        assert_eq!(plan.queues, [0]);
        let plan = plan_lo(&[&listener(0, None), &listener(1, Some(vec![0]))], 1);
        assert_eq!(plan.expect("they agree").queues, [0]);
    }

    #[test]
    fn mistakes_are_named() {
        let wrong =
            |queues: Vec<u32>| plan_lo(&[&listener(0, Some(queues))], 4).expect_err("a fault");
        assert!(matches!(
            wrong(vec![1]),
            NetError::NoSuchQueue {
                queue: 1,
                last: 0,
                ..
            }
        ));
        assert!(matches!(
            wrong(vec![0, 0]),
            NetError::NoSuchQueue { queue: 0, .. }
        ));
        assert!(matches!(wrong(vec![]), NetError::Arguments(_)));
        let mut driver = listener(0, None);
        driver.mode = Some(Mode::Driver);
        let mut generic = listener(1, None);
        generic.mode = Some(Mode::Generic);
        let conflict = plan_lo(&[&driver, &generic], 1).expect_err("a fault");
        assert!(matches!(
            conflict,
            NetError::Conflict {
                setting: "mode",
                ..
            }
        ));
        let none = plan_lo(&[&listener(0, None)], 0).expect_err("a fault");
        assert!(matches!(
            none,
            NetError::TooManyQueues {
                queues: 1,
                workers: 0,
                ..
            }
        ));
    }

    #[test]
    fn a_wildcard_and_the_loopback_are_left_to_the_kernel_and_why_is_said() {
        let mut wildcard = listener(0, None);
        wildcard.address = "0.0.0.0:5060".parse().expect("an address");
        let mut localhost = listener(1, None);
        localhost.address = "127.0.0.1:5060".parse().expect("an address");
        let mut elsewhere = listener(2, None);
        elsewhere.address = "203.0.113.77:5060".parse().expect("an address");
        let specs = [wildcard.clone(), localhost, elsewhere];
        let (plans, refusals) = plan(&specs, 1).expect("any may have the kernel's sockets");
        assert!(plans.is_empty());
        assert_eq!(refusals.len(), 3);
        assert!(
            refusals
                .iter()
                .any(|(id, why)| *id == ListenerId(0) && why.contains("wildcard"))
        );
        assert!(
            refusals
                .iter()
                .any(|(id, why)| *id == ListenerId(1) && why.contains("loopback"))
        );
        assert!(
            refusals
                .iter()
                .any(|(id, why)| *id == ListenerId(2) && why.contains("no interface"))
        );
        wildcard.backend = BackendChoice::AfXdp;
        assert!(matches!(
            plan(&[wildcard], 1),
            Err(NetError::Wildcard { .. })
        ));
    }
}
