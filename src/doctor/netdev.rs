//! What the driver says that it can do with XDP: the `netdev` family of generic netlink (kernel 6.3 and later).

use std::io;

use netlink_sys::protocols::NETLINK_GENERIC;

use super::netlink::{GENERIC_HEADER_LEN, Netlink, Request, find, u64_at};

/// The features of a device (`linux/netdev.h`, `enum netdev_xdp_act`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Features(u64);

impl Features {
    /// Asks for the device of `index`.
    pub(super) fn query(index: u32) -> io::Result<Self> {
        let netlink = Netlink::open(NETLINK_GENERIC)?;
        let mut request = Request::generic(netlink.family("netdev")?, NETDEV_CMD_DEV_GET, 1);
        request.attribute(NETDEV_A_DEV_IFINDEX, &index.to_ne_bytes());
        let answer = netlink.ask(request)?;
        let attributes = answer.get(GENERIC_HEADER_LEN..).unwrap_or_default();
        let bits = find(attributes, NETDEV_A_DEV_XDP_FEATURES).and_then(|value| u64_at(value, 0));
        bits.map(Self).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Whether a program runs in the driver and may redirect to a socket.
    pub(super) const fn is_native(self) -> bool {
        self.0 & (NETDEV_XDP_ACT_BASIC | NETDEV_XDP_ACT_REDIRECT)
            == NETDEV_XDP_ACT_BASIC | NETDEV_XDP_ACT_REDIRECT
    }

    /// Whether the device writes into a socket's memory itself.
    pub(super) const fn is_zero_copy(self) -> bool {
        self.0 & NETDEV_XDP_ACT_XSK_ZEROCOPY != 0
    }

    /// Whether packets beyond a page reach the program.
    pub(super) const fn takes_fragments(self) -> bool {
        self.0 & NETDEV_XDP_ACT_RX_SG != 0
    }

    #[cfg(test)]
    pub(super) const fn of(is_native: bool, is_zero_copy: bool) -> Self {
        let native = if is_native {
            NETDEV_XDP_ACT_BASIC | NETDEV_XDP_ACT_REDIRECT
        } else {
            0
        };
        Self(
            native
                | if is_zero_copy {
                    NETDEV_XDP_ACT_XSK_ZEROCOPY
                } else {
                    0
                },
        )
    }
}

const NETDEV_CMD_DEV_GET: u8 = 1;
const NETDEV_A_DEV_IFINDEX: u16 = 1;
const NETDEV_A_DEV_XDP_FEATURES: u16 = 3;
const NETDEV_XDP_ACT_BASIC: u64 = 1;
const NETDEV_XDP_ACT_REDIRECT: u64 = 2;
const NETDEV_XDP_ACT_XSK_ZEROCOPY: u64 = 8;
const NETDEV_XDP_ACT_RX_SG: u64 = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_has_no_xdp_in_its_driver() {
        // A kernel before 6.3 has no such family: then there is nothing to hold it against.
        if let Ok(features) = Features::query(1) {
            assert!(!features.is_native() && !features.is_zero_copy());
        }
    }
}
