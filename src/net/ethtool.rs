//! How many queues an interface has. Unsafe: ethtool is an ioctl.
#![expect(unsafe_code, reason = "SIOCETHTOOL has no wrapper")]

use std::io;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;

/// `struct ethtool_channels` of linux/ethtool.h.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Channels {
    command: u32,
    rx_max: u32,
    tx_max: u32,
    other_max: u32,
    combined_max: u32,
    rx: u32,
    tx: u32,
    other: u32,
    combined: u32,
}

/// How many receive queues an interface uses: one where it has no notion of queues.
///
/// # Errors
/// Whatever the kernel says but "not supported".
pub(super) fn queues(interface: &str) -> io::Result<u32> {
    // Any socket of this network namespace carries the request.
    let socket = UdpSocket::bind(("0.0.0.0", 0))?;
    let mut channels = Channels {
        command: ETHTOOL_GCHANNELS,
        ..Channels::default()
    };
    // SAFETY: a zeroed ifreq is a valid one.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    let name = interface.as_bytes();
    if name.len() >= request.ifr_name.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name) {
        *to = from.cast_signed() as libc::c_char;
    }
    request.ifr_ifru.ifru_data = (&raw mut channels).cast();
    // SAFETY: both structures are live for the call, have the layout that the command asks for, and the name ends in zero.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL, &raw mut request) };
    if result < 0 {
        let error = io::Error::last_os_error();
        return match error.raw_os_error() {
            Some(libc::EOPNOTSUPP) => Ok(1),
            _ => Err(error),
        };
    }
    Ok((channels.rx + channels.combined).max(1))
}

/// The ioctl, of linux/sockios.h.
const SIOCETHTOOL: libc::Ioctl = 0x8946;

/// The command that asks for channels, of linux/ethtool.h.
const ETHTOOL_GCHANNELS: u32 = 0x3C;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_without_queues_has_one_and_none_is_an_error() {
        assert_eq!(queues("lo").expect("lo exists"), 1);
        assert!(queues("no-such-if").is_err());
        assert!(queues("a-name-that-is-too-long").is_err());
    }
}
