//! Which of a host's addresses is to be tried first: RFC 6724 6, as RFC 7984 4.2 wants it for SIP.
//!
//! The candidates for a source are our listeners' addresses: a destination of a family that none of them is of cannot be
//! reached. Of the rules, 3, 4 and 7 concern addresses that a listener has not; 9 is left out, since the longest common
//! prefix would undo what a name's owner spreads over several addresses; what 10 leaves as it was is put in random order, since
//! a cached answer does not turn as a server's answers do.

use std::net::{IpAddr, Ipv6Addr};

/// How an address compares with others of the same host: the least is tried first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    /// Rule 2: its source has another scope.
    is_scope_foreign: bool,
    /// Rule 5: its source has another label.
    is_label_foreign: bool,
    /// Rule 6: the policy table's precedence, taken from its highest.
    precedence_lack: u8,
    /// Rule 8.
    scope: u8,
}

/// The addresses that we send from.
#[derive(Clone, Debug)]
pub(super) struct Sources {
    scopes_and_labels: Vec<(bool, u8, u8)>,
}

impl Sources {
    pub(super) fn new(addresses: &[IpAddr]) -> Self {
        let of = |address: &IpAddr| {
            let (_, label) = policy(mapped(*address));
            (address.is_ipv4(), scope(*address), label)
        };
        let mut scopes_and_labels: Vec<_> = addresses.iter().map(of).collect();
        scopes_and_labels.dedup();
        Self { scopes_and_labels }
    }

    /// Whether we can send to addresses of IPv4, or else IPv6.
    pub(super) fn speak(&self, ipv4: bool) -> bool {
        self.scopes_and_labels
            .iter()
            .any(|(is_4, _, _)| *is_4 == ipv4)
    }

    /// The rank of an address; `None`: nothing can be sent there.
    pub(super) fn rank(&self, address: IpAddr) -> Option<Rank> {
        let is_broadcast = matches!(address, IpAddr::V4(ip) if ip.is_broadcast());
        if address.is_unspecified() || address.is_multicast() || is_broadcast {
            return None;
        }
        let (precedence, label) = policy(mapped(address));
        let scope = scope(address);
        // RFC 6724 5, rules 2 and 6: the source that we would send from has the least scope that suffices, then the label.
        let (_, its_scope, its_label) = self
            .scopes_and_labels
            .iter()
            .filter(|(is_4, _, _)| *is_4 == address.is_ipv4())
            .min_by_key(|(_, its_scope, its_label)| {
                let is_short = *its_scope < scope;
                (is_short, its_scope.abs_diff(scope), *its_label != label)
            })?;
        Some(Rank {
            is_scope_foreign: *its_scope != scope,
            is_label_foreign: *its_label != label,
            precedence_lack: PRECEDENCE_MAX - precedence,
            scope,
        })
    }
}

fn mapped(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    }
}

/// The scope of a unicast address (RFC 6724 3.1 and 3.2; RFC 4291 2.7's numbers).
fn scope(address: IpAddr) -> u8 {
    let is_link_local = match address {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unicast_link_local(),
    };
    let is_site_local = matches!(address, IpAddr::V6(ip) if ip.segments()[0] & 0xffc0 == 0xfec0);
    match (is_link_local, is_site_local) {
        (true, _) => LINK_LOCAL,
        (_, true) => SITE_LOCAL,
        (false, false) => GLOBAL,
    }
}

/// Precedence and label (RFC 6724 2.1): those of the longest prefix that fits.
fn policy(address: Ipv6Addr) -> (u8, u8) {
    let bits = address.to_bits();
    let fits =
        |prefix: Ipv6Addr, len: u32| len == 0 || (bits ^ prefix.to_bits()) >> (128 - len) == 0;
    POLICIES
        .iter()
        .find(|(prefix, len, _, _)| fits(*prefix, *len))
        .map_or((40, 1), |(_, _, precedence, label)| (*precedence, *label))
}

/// The default policy table, its longest prefixes first.
const POLICIES: [(Ipv6Addr, u32, u8, u8); 9] = [
    (Ipv6Addr::LOCALHOST, 128, PRECEDENCE_MAX, 0),
    (Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96, 35, 4),
    (Ipv6Addr::UNSPECIFIED, 96, 1, 3),
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 32, 5, 5),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16, 30, 2),
    (Ipv6Addr::new(0x3ffe, 0, 0, 0, 0, 0, 0, 0), 16, 1, 12),
    (Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 0), 10, 1, 11),
    (Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7, 3, 13),
    (Ipv6Addr::UNSPECIFIED, 0, 40, 1),
];
const PRECEDENCE_MAX: u8 = 50;
const LINK_LOCAL: u8 = 0x2;
const SITE_LOCAL: u8 = 0x5;
const GLOBAL: u8 = 0xe;

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn first(sources: &[&str], one: &str, other: &str) -> IpAddr {
        let sources: Vec<IpAddr> = sources.iter().map(|text| ip(text)).collect();
        let sources = Sources::new(&sources);
        let mut both = [ip(one), ip(other)];
        both.sort_by_key(|address| sources.rank(*address));
        both[0]
    }

    #[test]
    fn the_examples_of_rfc_6724_10_2_hold() {
        // Prefer matching scope.
        let dual = ["2001:db8:1::2", "fe80::1", "169.254.13.78"];
        assert_eq!(
            first(&dual, "198.51.100.121", "2001:db8:1::1"),
            ip("2001:db8:1::1")
        );
        let local = ["fe80::1", "198.51.100.117"];
        assert_eq!(
            first(&local, "2001:db8:1::1", "198.51.100.121"),
            ip("198.51.100.121")
        );
        // Prefer higher precedence.
        let dual = ["2001:db8:1::2", "fe80::1", "10.1.2.4"];
        assert_eq!(
            first(&dual, "10.1.2.3", "2001:db8:1::1"),
            ip("2001:db8:1::1")
        );
        // Prefer smaller scope.
        let both = ["2001:db8:1::2", "fe80::2"];
        assert_eq!(first(&both, "2001:db8:1::1", "fe80::1"), ip("fe80::1"));
        // Prefer matching label.
        let six_to_four = ["2002:c633:6401::2", "fe80::2"];
        assert_eq!(
            first(&six_to_four, "2001:db8:1::1", "2002:c633:6401::1"),
            ip("2002:c633:6401::1")
        );
    }

    #[test]
    fn a_private_ipv6_does_not_draw_what_has_a_public_ipv4() {
        let sources = ["fd77::1", "192.0.2.1"];
        assert_eq!(
            first(&sources, "2001:db8::7", "198.51.100.7"),
            ip("198.51.100.7")
        );
        assert_eq!(
            first(&sources, "fd77::7", "198.51.100.7"),
            ip("198.51.100.7")
        );
    }

    #[test]
    fn what_cannot_be_sent_to_has_no_rank() {
        let sources = Sources::new(&[ip("192.0.2.1")]);
        assert!(sources.speak(true) && !sources.speak(false));
        assert!(sources.rank(ip("127.0.0.1")).is_some());
        for nowhere in ["2001:db8::1", "0.0.0.0", "224.0.0.1", "255.255.255.255"] {
            assert_eq!(sources.rank(ip(nowhere)), None, "{nowhere}");
        }
    }
}
