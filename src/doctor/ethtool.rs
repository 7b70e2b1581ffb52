//! How many channels a device has and could have: the `ethtool` family of generic netlink (kernel 5.7 and later).

use std::io;

use netlink_sys::protocols::NETLINK_GENERIC;

use super::netlink::{GENERIC_HEADER_LEN, Netlink, Request, find, u32_at};

/// Channels: each a receive queue with its interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Channels {
    /// In use for receiving.
    pub(super) count: u32,
    /// The most that the device offers.
    pub(super) max: u32,
    /// Whether `ethtool -L` calls them combined; rx otherwise.
    pub(super) is_combined: bool,
}

impl Channels {
    /// Asks for the device of `index`; many virtual devices have no answer.
    pub(super) fn query(index: u32) -> io::Result<Self> {
        let netlink = Netlink::open(NETLINK_GENERIC)?;
        let mut request = Request::generic(netlink.family("ethtool")?, ETHTOOL_MSG_CHANNELS_GET, 1);
        let mut header = vec![8, 0, 0, 0];
        header[2..4].copy_from_slice(&ETHTOOL_A_HEADER_DEV_INDEX.to_ne_bytes());
        header[..2].copy_from_slice(&8_u16.to_ne_bytes());
        header.extend_from_slice(&index.to_ne_bytes());
        request.attribute(ETHTOOL_A_CHANNELS_HEADER | NLA_F_NESTED, &header);
        let answer = netlink.ask(request)?;
        let attributes = answer.get(GENERIC_HEADER_LEN..).unwrap_or_default();
        let number = |kind| {
            find(attributes, kind)
                .and_then(|value| u32_at(value, 0))
                .unwrap_or(0)
        };
        let combined_max = number(ETHTOOL_A_CHANNELS_COMBINED_MAX);
        Ok(Self {
            count: number(ETHTOOL_A_CHANNELS_RX_COUNT) + number(ETHTOOL_A_CHANNELS_COMBINED_COUNT),
            max: combined_max.max(number(ETHTOOL_A_CHANNELS_RX_MAX)),
            is_combined: combined_max > 0,
        })
    }
}

/// `linux/ethtool_netlink.h`.
const ETHTOOL_MSG_CHANNELS_GET: u8 = 17;
const ETHTOOL_A_HEADER_DEV_INDEX: u16 = 1;
const ETHTOOL_A_CHANNELS_HEADER: u16 = 1;
const ETHTOOL_A_CHANNELS_RX_MAX: u16 = 2;
const ETHTOOL_A_CHANNELS_COMBINED_MAX: u16 = 5;
const ETHTOOL_A_CHANNELS_RX_COUNT: u16 = 6;
const ETHTOOL_A_CHANNELS_COMBINED_COUNT: u16 = 9;
const NLA_F_NESTED: u16 = 1 << 15;
