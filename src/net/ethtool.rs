//! What ethtool tells of an interface: queues, rings, coalescing, the spread of flows, rules, offloads. Unsafe: ethtool is an ioctl.
#![expect(unsafe_code, reason = "SIOCETHTOOL has no wrapper")]

use std::io;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;

/// How many receive queues an interface uses: one where it has no notion of queues.
///
/// # Errors
/// Whatever the kernel says but "not supported".
pub(super) fn queues(interface: &str) -> io::Result<u32> {
    let mut request = Request::new(ETHTOOL_GCHANNELS);
    match request.ask(interface) {
        Ok(()) => Ok((request.word(CHANNELS_RX) + request.word(CHANNELS_COMBINED)).max(1)),
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(1),
        Err(error) => Err(error),
    }
}

/// The lengths of the rings: what is, and the most that the device offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rings {
    /// Of a receive ring.
    pub(crate) rx: u32,
    /// The longest receive ring.
    pub(crate) rx_max: u32,
    /// Of a transmit ring.
    pub(crate) tx: u32,
    /// The longest transmit ring.
    pub(crate) tx_max: u32,
}

/// Asks for the rings.
///
/// # Errors
/// Whatever the kernel says.
pub(crate) fn rings(interface: &str) -> io::Result<Rings> {
    let mut request = Request::new(ETHTOOL_GRINGPARAM);
    request.ask(interface)?;
    Ok(Rings {
        rx_max: request.word(1),
        tx_max: request.word(4),
        rx: request.word(5),
        tx: request.word(8),
    })
}

/// When a device interrupts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Coalescing {
    /// How long a packet may wait for others, in microseconds.
    pub(crate) rx_usecs: u32,
    /// Whether the device chooses that by itself.
    pub(crate) is_adaptive: bool,
}

/// Asks for the receive side's coalescing.
///
/// # Errors
/// Whatever the kernel says.
pub(crate) fn coalescing(interface: &str) -> io::Result<Coalescing> {
    let mut request = Request::new(ETHTOOL_GCOALESCE);
    request.ask(interface)?;
    Ok(Coalescing {
        rx_usecs: request.word(1),
        is_adaptive: request.word(10) != 0,
    })
}

/// How a device spreads flows over its queues.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Spread {
    /// The queue of each hash value, modulo the table's length.
    pub(crate) table: Vec<u32>,
    /// The key of the hash.
    pub(crate) key: Vec<u8>,
}

/// Asks for the table and the key of RSS.
///
/// # Errors
/// Whatever the kernel says; a table beyond what a request holds.
pub(crate) fn spread(interface: &str) -> io::Result<Spread> {
    let mut sizes = Request::new(ETHTOOL_GRSSH);
    sizes.ask(interface)?;
    let (table_len, key_len) = (sizes.index(RSS_TABLE_LEN), sizes.index(RSS_KEY_LEN));
    let words = RSS_CONFIG
        .saturating_add(table_len)
        .saturating_add(key_len.div_ceil(4));
    if words > WORDS {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let mut request = Request::new(ETHTOOL_GRSSH);
    request.words[RSS_TABLE_LEN] = sizes.word(RSS_TABLE_LEN);
    request.words[RSS_KEY_LEN] = sizes.word(RSS_KEY_LEN);
    request.ask(interface)?;
    let config = request.words.get(RSS_CONFIG..words).unwrap_or_default();
    let (table, key) = config.split_at(table_len.min(config.len()));
    let mut key: Vec<u8> = key.iter().flat_map(|word| word.to_ne_bytes()).collect();
    key.truncate(key_len);
    Ok(Spread {
        table: table.to_vec(),
        key,
    })
}

/// A kind of flow whose hash has fields of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    /// UDP over IPv4.
    Udp4,
    /// UDP over IPv6.
    Udp6,
}

/// Whether the addresses and the ports of `flow` both count for its queue.
///
/// # Errors
/// Whatever the kernel says.
pub(crate) fn hashes_ports(interface: &str, flow: Flow) -> io::Result<bool> {
    let mut request = Request::new(ETHTOOL_GRXFH);
    request.words[1] = match flow {
        Flow::Udp4 => UDP_V4_FLOW,
        Flow::Udp6 => UDP_V6_FLOW,
    };
    request.ask(interface)?;
    Ok(request.word(RULE_DATA) & RXH_PORTS == RXH_PORTS)
}

/// A rule that sends a flow to a queue of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    /// Where it stands in the device's table.
    pub(crate) location: u32,
    /// The destination port of a UDP flow, where the rule names one.
    pub(crate) udp_port: Option<u16>,
    /// The queue; `None`: it is dropped, or goes to a virtual function.
    pub(crate) queue: Option<u32>,
}

/// Asks for the rules, of which it gives at most [`RULES_MAX`].
///
/// # Errors
/// Whatever the kernel says.
pub(crate) fn rules(interface: &str) -> io::Result<Vec<Rule>> {
    let mut request = Request::new(ETHTOOL_GRXCLSRLCNT);
    request.ask(interface)?;
    let count = request.index(RULE_COUNT).min(RULES_MAX);
    if count == 0 {
        return Ok(Vec::new());
    }
    let mut request = Request::new(ETHTOOL_GRXCLSRLALL);
    request.words[RULE_COUNT] = u32::try_from(count).unwrap_or(0);
    request.ask(interface)?;
    let count = count.min(request.index(RULE_COUNT));
    let places = request.words.get(RULE_PLACES..RULE_PLACES + count);
    let rules = places
        .unwrap_or_default()
        .iter()
        .map(|place| rule(interface, *place));
    rules.collect()
}

fn rule(interface: &str, location: u32) -> io::Result<Rule> {
    let mut request = Request::new(ETHTOOL_GRXCLSRULE);
    request.words[RULE_LOCATION] = location;
    request.ask(interface)?;
    let is_udp = [UDP_V4_FLOW, UDP_V6_FLOW].contains(&(request.word(RULE_FLOW) & FLOW_MASK));
    // The destination port lies behind the addresses and the source port, in network order.
    let place = if request.word(RULE_FLOW) & FLOW_MASK == UDP_V6_FLOW {
        RULE_FLOW + 1 + 8
    } else {
        RULE_FLOW + 1 + 2
    };
    let [_, _, high, low] = request.word(place).to_ne_bytes();
    let port = u16::from_be_bytes([high, low]);
    let (cookie_low, cookie_high) = (request.word(RULE_COOKIE), request.word(RULE_COOKIE + 1));
    Ok(Rule {
        location,
        udp_port: (is_udp && port != 0).then_some(port),
        queue: (cookie_high == 0).then_some(cookie_low),
    })
}

/// The offloads that matter to XDP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Offloads {
    /// Whether the device merges packets of a connection (LRO).
    pub(crate) lro: bool,
    /// Whether the device takes VLAN tags out of packets.
    pub(crate) rx_vlan: bool,
}

/// Asks for the offloads.
///
/// # Errors
/// Whatever the kernel says.
pub(crate) fn offloads(interface: &str) -> io::Result<Offloads> {
    let mut request = Request::new(ETHTOOL_GFLAGS);
    request.ask(interface)?;
    let flags = request.word(1);
    Ok(Offloads {
        lro: flags & ETH_FLAG_LRO != 0,
        rx_vlan: flags & ETH_FLAG_RXVLAN != 0,
    })
}

/// A request and the answer that the kernel writes over it: 32-bit words, more than any structure of linux/ethtool.h has, and as many
/// table entries as the counts written into it admit.
struct Request {
    words: Box<[u32; WORDS]>,
}

impl Request {
    fn new(command: u32) -> Self {
        let mut words = Box::new([0; WORDS]);
        words[0] = command;
        Self { words }
    }

    fn word(&self, at: usize) -> u32 {
        self.words.get(at).copied().unwrap_or(0)
    }

    /// A word that is a count.
    fn index(&self, at: usize) -> usize {
        usize::try_from(self.word(at)).unwrap_or(usize::MAX)
    }

    fn ask(&mut self, interface: &str) -> io::Result<()> {
        // Any socket of this network namespace carries the request.
        let socket = UdpSocket::bind(("0.0.0.0", 0))?;
        // SAFETY: a zeroed ifreq is a valid one.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        let name = interface.as_bytes();
        if name.len() >= request.ifr_name.len() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        for (to, from) in request.ifr_name.iter_mut().zip(name) {
            *to = from.cast_signed() as libc::c_char;
        }
        request.ifr_ifru.ifru_data = self.words.as_mut_ptr().cast();
        // SAFETY: both structures are live for the call and the name ends in zero. The kernel writes a structure of fixed length, which is
        // shorter than the words, and behind it no more entries than the counts in the request, which its writer held to the words.
        let result = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL, &raw mut request) };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }
}

/// Room for a request: the longest table of RSS in the kernel's drivers has 4,096 entries.
const WORDS: usize = 16_384;
/// Rules that are looked at.
const RULES_MAX: usize = 1_024;

/// The ioctl, of linux/sockios.h.
const SIOCETHTOOL: libc::Ioctl = 0x8946;

/// The commands, of linux/ethtool.h.
const ETHTOOL_GCOALESCE: u32 = 0x0e;
const ETHTOOL_GRINGPARAM: u32 = 0x10;
const ETHTOOL_GFLAGS: u32 = 0x25;
const ETHTOOL_GRXFH: u32 = 0x29;
const ETHTOOL_GRXCLSRLCNT: u32 = 0x2e;
const ETHTOOL_GRXCLSRULE: u32 = 0x2f;
const ETHTOOL_GRXCLSRLALL: u32 = 0x30;
const ETHTOOL_GCHANNELS: u32 = 0x3c;
const ETHTOOL_GRSSH: u32 = 0x46;

/// Words of `struct ethtool_channels`.
const CHANNELS_RX: usize = 5;
const CHANNELS_COMBINED: usize = 8;
/// Words of `struct ethtool_rxfh`.
const RSS_TABLE_LEN: usize = 2;
const RSS_KEY_LEN: usize = 3;
const RSS_CONFIG: usize = 6;
/// Words of `struct ethtool_rxnfc`: a flow's fields; a rule (`struct ethtool_rx_flow_spec`), which begins at the fourth; and what is behind it.
const RULE_DATA: usize = 2;
const RULE_FLOW: usize = 4;
const RULE_COOKIE: usize = 42;
const RULE_LOCATION: usize = 44;
const RULE_COUNT: usize = 46;
const RULE_PLACES: usize = 47;
const FLOW_MASK: u32 = 0x1fff_ffff;
const UDP_V4_FLOW: u32 = 0x02;
const UDP_V6_FLOW: u32 = 0x06;
/// Addresses (RXH_IP_SRC, RXH_IP_DST) and ports (RXH_L4_B_0_1, RXH_L4_B_2_3).
const RXH_PORTS: u32 = 1 << 4 | 1 << 5 | 1 << 6 | 1 << 7;
const ETH_FLAG_RXVLAN: u32 = 1 << 8;
const ETH_FLAG_LRO: u32 = 1 << 15;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_without_queues_has_one_and_none_is_an_error() {
        assert_eq!(queues("lo").expect("lo exists"), 1);
        assert!(queues("no-such-if").is_err());
        assert!(queues("a-name-that-is-too-long").is_err());
    }

    #[test]
    fn what_a_device_does_not_tell_is_an_error_and_not_a_zero() {
        assert!(rings("lo").is_err() && coalescing("lo").is_err());
        assert!(spread("lo").is_err() && rules("lo").is_err());
        assert!(hashes_ports("lo", Flow::Udp4).is_err() && hashes_ports("lo", Flow::Udp6).is_err());
        assert!(offloads("lo").is_ok_and(|offloads| !offloads.lro && !offloads.rx_vlan));
    }
}
