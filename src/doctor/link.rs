//! What rtnetlink tells of a device beyond `/sys`: its kind, and whether an XDP program is attached.

use std::io;

use netlink_sys::protocols::NETLINK_ROUTE;

use super::netlink::{Netlink, Request, find, text, u32_at};

/// A device as RTM_GETLINK shows it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Link {
    /// The kind of a virtual device, as `veth`; `None` for hardware.
    pub(super) kind: Option<String>,
    /// The id of the XDP program that is attached.
    pub(super) program: Option<u32>,
}

impl Link {
    /// Asks for the device of `index`.
    pub(super) fn query(index: u32) -> io::Result<Self> {
        let mut header = [0; IFINFOMSG_LEN];
        header[4..8].copy_from_slice(&index.to_ne_bytes());
        let answer = Netlink::open(NETLINK_ROUTE)?.ask(Request::new(RTM_GETLINK, &header))?;
        Ok(Self::parse(answer.get(IFINFOMSG_LEN..).unwrap_or_default()))
    }

    fn parse(attributes: &[u8]) -> Self {
        let kind = find(attributes, IFLA_LINKINFO)
            .and_then(|info| find(info, IFLA_INFO_KIND))
            .map(text);
        let xdp = find(attributes, IFLA_XDP);
        let is_attached = xdp
            .and_then(|xdp| find(xdp, IFLA_XDP_ATTACHED))
            .is_some_and(|attached| attached.first().is_some_and(|mode| *mode != 0));
        let id = xdp
            .and_then(|xdp| find(xdp, IFLA_XDP_PROG_ID))
            .and_then(|id| u32_at(id, 0));
        Self {
            kind,
            program: is_attached.then_some(id.unwrap_or(0)),
        }
    }
}

/// `linux/rtnetlink.h`, `linux/if_link.h`.
const RTM_GETLINK: u16 = 18;
const IFINFOMSG_LEN: usize = 16;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_XDP: u16 = 43;
const IFLA_XDP_ATTACHED: u16 = 2;
const IFLA_XDP_PROG_ID: u16 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_no_virtual_kind_and_has_no_program() {
        assert_eq!(Link::query(1).expect("lo"), Link::default());
    }

    #[test]
    fn a_device_that_is_not_there_is_the_kernels_error() {
        assert_eq!(
            Link::query(999_999).expect_err("none").raw_os_error(),
            Some(libc::ENODEV)
        );
    }
}
