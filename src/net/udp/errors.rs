//! The error queue of a socket: what ICMP said about datagrams that we sent, by AF_XDP too. Unsafe: control messages are
//! found by pointer.
#![expect(
    unsafe_code,
    reason = "recvmsg and its control messages have no wrapper"
)]

use std::net::{IpAddr, SocketAddr};
use std::os::fd::RawFd;

use super::name::Name;
use crate::limits::BATCH;
use crate::net::port::Unreachable;

/// Takes up to [`BATCH`] reports, with `buffer` for the datagrams that they quote: calls `each` for what could not be
/// delivered, and `too_long` for a destination whose path is narrower than a datagram was. Returns how many there were.
pub(super) fn drain(
    fd: RawFd,
    buffer: &mut [u8],
    each: &mut dyn FnMut(Unreachable<'_>),
    too_long: impl Fn(IpAddr),
) -> usize {
    for taken in 0..BATCH {
        let Some(report) = receive(fd, buffer) else {
            return taken;
        };
        let payload = buffer.get(..report.len).unwrap_or_default();
        let Some(peer) = report.peer else { continue };
        match report.meaning {
            Meaning::Failure => each(Unreachable { peer, payload }),
            Meaning::TooLong => too_long(peer.ip()),
            Meaning::Nothing => {}
        }
    }
    BATCH
}

/// One report.
struct Report {
    peer: Option<SocketAddr>,
    len: usize,
    meaning: Meaning,
}

/// What a report means to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meaning {
    /// The datagram cannot be delivered.
    Failure,
    /// The datagram was longer than the path's MTU, which the kernel knows now.
    TooLong,
    /// Nothing that the sender could do anything about.
    Nothing,
}

/// Room for the control messages: an extended error and the address of who reported it, twice over.
#[repr(C, align(8))]
struct Control([u8; 256]);

/// Takes one report; `None` where there is none.
fn receive(fd: RawFd, buffer: &mut [u8]) -> Option<Report> {
    let mut name = Name::default();
    let mut control = Control([0; 256]);
    let mut vector = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    // SAFETY: a structure of numbers and pointers, so zeroed is a valid value.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_name = name.as_mut_ptr();
    header.msg_namelen = Name::ROOM;
    header.msg_iov = &raw mut vector;
    header.msg_iovlen = 1;
    header.msg_control = control.0.as_mut_ptr().cast();
    header.msg_controllen = control.0.len() as _;
    // SAFETY: the header points to an address, a vector and a control buffer that are live for the call, with their true
    // lengths.
    let len =
        unsafe { libc::recvmsg(fd, &raw mut header, libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT) };
    let len = usize::try_from(len).ok()?;
    Some(Report {
        peer: name.read(header.msg_namelen),
        len,
        meaning: extended_error(&header).map_or(Meaning::Nothing, |error| meaning(&error)),
    })
}

/// The extended error among the control messages.
fn extended_error(header: &libc::msghdr) -> Option<libc::sock_extended_err> {
    // SAFETY: the header is as the kernel left it, and its control buffer is live; so for the next messages.
    let mut message = unsafe { libc::CMSG_FIRSTHDR(header) };
    while !message.is_null() {
        // SAFETY: not null, so it points to a whole header within the control buffer, which is aligned for it.
        let control = unsafe { message.read() };
        let is_error = matches!(
            (control.cmsg_level, control.cmsg_type),
            (libc::IPPROTO_IP, libc::IP_RECVERR) | (libc::IPPROTO_IPV6, libc::IPV6_RECVERR)
        );
        // SAFETY: plain arithmetic.
        let needed = unsafe { libc::CMSG_LEN(size_of::<libc::sock_extended_err>() as u32) };
        if is_error && control.cmsg_len as usize >= needed as usize {
            // SAFETY: the message is long enough for the structure, which is numbers all.
            return Some(unsafe {
                libc::CMSG_DATA(message)
                    .cast::<libc::sock_extended_err>()
                    .read_unaligned()
            });
        }
        // SAFETY: as for the first.
        message = unsafe { libc::CMSG_NXTHDR(header, message) };
    }
    None
}

/// RFC 3261 18.4: destinations unreachable and parameter problems are failures of sending; source quench and time exceeded
/// are to be ignored. A packet too big is the kernel's to cut, next time.
const fn meaning(error: &libc::sock_extended_err) -> Meaning {
    match (error.ee_origin, error.ee_type, error.ee_code) {
        (libc::SO_EE_ORIGIN_ICMP, 3, 4) | (libc::SO_EE_ORIGIN_ICMP6, 2, _) => Meaning::TooLong,
        (libc::SO_EE_ORIGIN_ICMP, 3 | 12, _) | (libc::SO_EE_ORIGIN_ICMP6, 1 | 4, _) => {
            Meaning::Failure
        }
        _ => Meaning::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(ee_origin: u8, ee_type: u8, ee_code: u8) -> Meaning {
        meaning(&libc::sock_extended_err {
            ee_errno: 0,
            ee_origin,
            ee_type,
            ee_code,
            ee_pad: 0,
            ee_info: 0,
            ee_data: 0,
        })
    }

    #[test]
    fn unreachable_is_a_failure_and_time_exceeded_is_not() {
        let icmp = |kind, code| of(libc::SO_EE_ORIGIN_ICMP, kind, code);
        assert_eq!(icmp(3, 3), Meaning::Failure, "port unreachable");
        assert_eq!(icmp(3, 1), Meaning::Failure, "host unreachable");
        assert_eq!(icmp(12, 0), Meaning::Failure, "parameter problem");
        assert_eq!(icmp(3, 4), Meaning::TooLong, "fragmentation needed");
        assert_eq!(icmp(11, 0), Meaning::Nothing, "time exceeded");
        assert_eq!(icmp(4, 0), Meaning::Nothing, "source quench");
        let icmp6 = |kind, code| of(libc::SO_EE_ORIGIN_ICMP6, kind, code);
        assert_eq!(icmp6(1, 4), Meaning::Failure, "port unreachable");
        assert_eq!(icmp6(4, 0), Meaning::Failure, "parameter problem");
        assert_eq!(icmp6(2, 0), Meaning::TooLong, "packet too big");
        assert_eq!(icmp6(3, 0), Meaning::Nothing, "time exceeded");
        assert_eq!(of(libc::SO_EE_ORIGIN_LOCAL, 3, 3), Meaning::Nothing);
    }
}
