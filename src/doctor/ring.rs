//! The rings of a device: how long they are, when the device interrupts for them, and what it does to packets on the way.

use super::finding::Finding;
use super::mend::{Mend, quoted};
use super::parameter::Parameters;
use crate::net::ethtool::{Coalescing, Offloads, Rings};

/// Looks at rings, coalescing and offloads.
pub(super) fn examine(name: &str, parameters: &Parameters) -> Vec<Finding> {
    let name = &quoted(name);
    vec![
        match &parameters.rings {
            Ok(rings) => lengths(name, *rings),
            Err(reason) => Finding::unknown(RINGS, reason.clone()),
        },
        match &parameters.coalescing {
            Ok(coalescing) => interrupts(name, *coalescing),
            Err(reason) => Finding::unknown(COALESCING, reason.clone()),
        },
        match &parameters.offloads {
            Ok(offloads) => packets(name, *offloads),
            Err(reason) => Finding::unknown(OFFLOADS, reason.clone()),
        },
    ]
}

fn lengths(name: &str, rings: Rings) -> Finding {
    let wanted = |max: u32| max.min(RING_LEN);
    let text = format!(
        "receive {} of {}, transmit {} of {}",
        rings.rx, rings.rx_max, rings.tx, rings.tx_max
    );
    if rings.rx >= wanted(rings.rx_max) && rings.tx >= wanted(rings.tx_max) {
        return Finding::ok(RINGS, text);
    }
    let set = |rx: u32, tx: u32| format!("ethtool -G {name} rx {rx} tx {tx}");
    // A longer ring than is wanted stays as it is.
    let run = set(
        wanted(rings.rx_max).max(rings.rx),
        wanted(rings.tx_max).max(rings.tx),
    );
    Finding::amiss(
        RINGS,
        text,
        "a burst that is longer than the ring while the worker is at its batch is lost, and sent again after 500 ms",
        vec![Mend::Command(run, set(rings.rx, rings.tx))],
    )
}

fn interrupts(name: &str, coalescing: Coalescing) -> Finding {
    let Coalescing {
        rx_usecs,
        is_adaptive,
    } = coalescing;
    let adaptive = |is_on: bool| if is_on { "on" } else { "off" };
    let text = format!("adaptive {}, {rx_usecs} us", adaptive(is_adaptive));
    if !is_adaptive && rx_usecs <= COALESCE_US {
        return Finding::ok(COALESCING, text);
    }
    let set = |is_adaptive: bool, usecs: u32| {
        format!(
            "ethtool -C {name} adaptive-rx {} rx-usecs {usecs}",
            adaptive(is_adaptive)
        )
    };
    Finding::amiss(
        COALESCING,
        text,
        "a packet waits so long for others before anybody hears of it; adaptive settles at 100 us and more under load",
        vec![Mend::Command(
            set(false, COALESCE_US.min(rx_usecs.max(1))),
            set(is_adaptive, rx_usecs),
        )],
    )
}

fn packets(name: &str, offloads: Offloads) -> Finding {
    let mut mends = Vec::new();
    let mut wrong = Vec::new();
    for (is_on, feature, what) in [
        (offloads.lro, "lro", "packets are merged (lro)"),
        (
            offloads.rx_vlan,
            "rxvlan",
            "VLAN tags are taken out of packets (rxvlan)",
        ),
    ] {
        if is_on {
            wrong.push(what);
            mends.push(Mend::Command(
                format!("ethtool -K {name} {feature} off"),
                format!("ethtool -K {name} {feature} on"),
            ));
        }
    }
    if mends.is_empty() {
        return Finding::ok(
            OFFLOADS,
            "packets are neither merged nor stripped of VLAN tags".to_owned(),
        );
    }
    let cost = "the XDP program sees packets as they come: merged ones it cannot take, and a tag that was taken out it cannot put into the reply";
    Finding::amiss(OFFLOADS, wrong.join(", "), cost, mends)
}

const RINGS: &str = "rings";
const COALESCING: &str = "coalescing";
const OFFLOADS: &str = "offloads";
/// Descriptors a ring should have: longer ones add delay and no room that matters.
const RING_LEN: u32 = 4_096;
/// The longest that a packet should wait for others.
const COALESCE_US: u32 = 20;

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    const SHORT: Rings = Rings {
        rx: 512,
        rx_max: 8_192,
        tx: 512,
        tx_max: 2_048,
    };

    #[test]
    fn short_rings_are_told_with_the_command_and_the_way_back() {
        let finding = lengths("eth0", SHORT);
        assert_eq!(finding.level, Level::Warn);
        let there = "ethtool -G eth0 rx 4096 tx 2048".to_owned();
        let back = "ethtool -G eth0 rx 512 tx 512".to_owned();
        assert_eq!(finding.mends, [Mend::Command(there, back)]);
        let long = Rings {
            rx: 4_096,
            tx: 2_048,
            ..SHORT
        };
        assert_eq!(lengths("eth0", long).level, Level::Ok);
    }

    #[test]
    fn a_device_that_waits_or_decides_by_itself_is_amiss() {
        let of = |is_adaptive, rx_usecs| {
            interrupts(
                "eth0",
                Coalescing {
                    rx_usecs,
                    is_adaptive,
                },
            )
        };
        assert_eq!(of(false, 20).level, Level::Ok);
        assert_eq!(
            of(true, 8).cure.as_deref(),
            Some("ethtool -C eth0 adaptive-rx off rx-usecs 8")
        );
        assert_eq!(
            of(false, 50).cure.as_deref(),
            Some("ethtool -C eth0 adaptive-rx off rx-usecs 20")
        );
    }

    #[test]
    fn offloads_that_change_packets_are_amiss_and_unknown_is_not_good() {
        assert_eq!(packets("eth0", Offloads::default()).level, Level::Ok);
        let both = Offloads {
            lro: true,
            rx_vlan: true,
        };
        assert_eq!(packets("eth0", both).mends.len(), 2);
        let findings = examine("eth0", &Parameters::unknown("nobody tells"));
        assert!(
            findings
                .iter()
                .all(|finding| finding.level == Level::Unknown)
        );
    }
}
