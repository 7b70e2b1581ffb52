//! The order in which a plan's destinations are tried: RFC 2782's priorities and weights. Pure; lots come from a seed.

use super::desk::Answer;
use super::lots::Lots;
use super::plan::{Service, Target};
use crate::datagram::Destination;
use std::net::SocketAddr;

/// Puts every destination of the services into the answer, as far as there is room.
pub(super) fn arrange(services: &[Service], lots: &mut Lots, answer: &mut Answer) {
    for service in services {
        let mut targets: Vec<&Target> = service.targets.iter().collect();
        draw(&mut targets, lots);
        for target in targets {
            let mut addresses = target.addresses.clone();
            for equals in addresses.chunk_by_mut(|(one, _), (other, _)| one == other) {
                lots.shuffle(equals);
            }
            for (_, ip) in addresses {
                let destination = Destination {
                    transport: service.transport,
                    address: SocketAddr::new(ip, target.port),
                };
                if !answer.add(destination) {
                    return;
                }
            }
        }
    }
}

/// Orders targets by priority and, among equals, by lots that weigh.
fn draw(targets: &mut [&Target], lots: &mut Lots) {
    // Equal in priority and weight, none is to be favoured by its place.
    lots.shuffle(targets);
    targets.sort_by_key(|target| target.priority);
    for equals in targets.chunk_by_mut(|one, other| one.priority == other.priority) {
        // RFC 2782: those with weight 0 are placed at the beginning of the list.
        equals.sort_by_key(|target| target.weight != 0);
        for first in 0..equals.len() {
            let Some(rest) = equals.get_mut(first..) else {
                break;
            };
            let sum: u32 = rest.iter().map(|target| u32::from(target.weight)).sum();
            let drawn = lots.up_to(sum);
            let mut running = 0;
            let chosen = rest.iter().position(|target| {
                running += u32::from(target.weight);
                running >= drawn
            });
            // Those before the chosen one keep their places, weight 0 in front.
            if let Some(passed) = rest.get_mut(..=chosen.unwrap_or(0)) {
                passed.rotate_right(1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::net::{IpAddr, Ipv4Addr};

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::super::preference::Sources;
    use super::*;
    use crate::datagram::Transport;
    use crate::limits::DESTINATIONS_MAX;
    use crate::proxy::QuestionId;

    fn target(priority: u16, weight: u16, addresses: &[IpAddr], port: u16) -> Target {
        let sources = Sources::new(&["192.0.2.1", "2001:db8::1"].map(|ip| ip.parse().expect("ip")));
        let mut addresses: Vec<_> = addresses
            .iter()
            .map(|ip| (sources.rank(*ip).expect("usable"), *ip))
            .collect();
        addresses.sort();
        Target {
            priority,
            weight,
            port,
            addresses,
        }
    }

    fn service(targets: Vec<Target>) -> Service {
        Service {
            transport: Transport::Udp,
            targets,
        }
    }

    fn ports(services: &[Service], lots: &mut Lots) -> Vec<u16> {
        let mut answer = Answer::nowhere(QuestionId(0));
        arrange(services, lots, &mut answer);
        answer
            .destinations()
            .iter()
            .map(|destination| destination.address.port())
            .collect()
    }

    const IP: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 7));

    #[test]
    fn weights_are_shares_of_the_first_place_and_of_the_second() {
        let set = [service(vec![
            target(10, 60, &[IP], 60),
            target(10, 30, &[IP], 30),
            target(10, 10, &[IP], 10),
            target(20, 1_000, &[IP], 99),
        ])];
        let mut lots = Lots::new(1);
        let mut firsts: BTreeMap<u16, u32> = BTreeMap::new();
        let mut seconds_after_60: BTreeMap<u16, u32> = BTreeMap::new();
        for _ in 0..100_000 {
            let order = ports(&set, &mut lots);
            assert_eq!(order[3], 99, "priority goes before weight");
            *firsts.entry(order[0]).or_default() += 1;
            if order[0] == 60 {
                *seconds_after_60.entry(order[1]).or_default() += 1;
            }
        }
        // The draw is from 0 to the sum, both included (RFC 2782): hence shares of 101.
        for (port, share) in [(60, 59_900_u32), (30, 29_900), (10, 10_200)] {
            assert!(firsts[&port].abs_diff(share) < 1_000, "{firsts:?}");
        }
        let after = f64::from(seconds_after_60[&30]) / f64::from(seconds_after_60[&10]);
        assert!((2.7..3.3).contains(&after), "{seconds_after_60:?}");
    }

    #[test]
    fn weight_0_has_a_very_small_chance_beside_others_and_an_equal_one_among_its_own() {
        let mut lots = Lots::new(2);
        let mixed = [service(vec![
            target(1, 99, &[IP], 99),
            target(1, 0, &[IP], 1),
        ])];
        let firsts = (0..100_000)
            .filter(|_| ports(&mixed, &mut lots)[0] == 1)
            .count();
        assert!((800..1_200).contains(&firsts), "one in a hundred: {firsts}");
        let zeros = [service(vec![
            target(1, 0, &[IP], 1),
            target(1, 0, &[IP], 2),
        ])];
        let firsts = (0..10_000)
            .filter(|_| ports(&zeros, &mut lots)[0] == 1)
            .count();
        assert!((4_700..5_300).contains(&firsts), "{firsts}");
    }

    #[test]
    fn all_addresses_of_a_target_come_before_the_next_target_ipv6_first() {
        let six: IpAddr = "2001:db8::7".parse().expect("an address");
        let set = [service(vec![
            target(2, 0, &[IP], 2),
            target(1, 0, &[IP, six], 1),
        ])];
        let mut answer = Answer::nowhere(QuestionId(0));
        arrange(&set, &mut Lots::new(3), &mut answer);
        let order: Vec<String> = answer
            .destinations()
            .iter()
            .map(|destination| destination.address.to_string())
            .collect();
        assert_eq!(
            order,
            ["[2001:db8::7]:1", "198.51.100.7:1", "198.51.100.7:2"]
        );
    }

    proptest! {
        #[test]
        fn whatever_the_set_priorities_rise_and_every_target_stands_once(
            set in vec((0_u16..4, prop_oneof![Just(0_u16), 0_u16..=u16::MAX]), 0..DESTINATIONS_MAX), seed: u64,
        ) {
            let targets: Vec<Target> = (1..)
                .zip(&set)
                .map(|(port, (priority, weight))| target(*priority, *weight, &[IP], port))
                .collect();
            let order = ports(&[service(targets)], &mut Lots::new(seed));
            let priorities: Vec<u16> = order.iter().map(|port| set[usize::from(*port) - 1].0).collect();
            prop_assert!(priorities.is_sorted());
            let mut once = order.clone();
            once.sort_unstable();
            prop_assert_eq!(once, (1..=u16::try_from(set.len()).expect("few")).collect::<Vec<_>>());
            // The same seed, the same order.
            let targets: Vec<Target> = (1..)
                .zip(&set)
                .map(|(port, (priority, weight))| target(*priority, *weight, &[IP], port))
                .collect();
            prop_assert_eq!(order, ports(&[service(targets)], &mut Lots::new(seed)));
        }

        #[test]
        fn an_answer_is_never_longer_than_it_may_be_and_repeats_nothing(
            set in vec((0_u16..3, 0_u16..9, vec(any::<u8>(), 0..6)), 0..12), seed: u64,
        ) {
            let targets: Vec<Target> = set
                .iter()
                .map(|(priority, weight, hosts)| {
                    let ips: Vec<IpAddr> = hosts.iter().map(|host| Ipv4Addr::new(198, 51, 100, *host).into()).collect();
                    target(*priority, *weight, &ips, 5_060)
                })
                .collect();
            let mut answer = Answer::nowhere(QuestionId(0));
            arrange(&[service(targets)], &mut Lots::new(seed), &mut answer);
            let list = answer.destinations();
            let mut distinct: Vec<u8> = set.iter().flat_map(|(_, _, hosts)| hosts.clone()).collect();
            distinct.sort_unstable();
            distinct.dedup();
            prop_assert_eq!(list.len(), distinct.len().min(DESTINATIONS_MAX));
            for (place, one) in list.iter().enumerate() {
                prop_assert!(!list[..place].contains(one));
            }
        }
    }
}
