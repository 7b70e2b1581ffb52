//! Frames as they are on the wire: made, sent and received by a packet socket.
#![expect(unsafe_code, reason = "packet sockets have no wrapper in std")]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use strowger::wire::checksum::Sum;
use strowger::wire::ethernet::{Mac, Tag, Tags};
use strowger::wire::packet::Headers;

use crate::bed;

/// Headers from a station that is none of the peers' to a MAC address of the server.
pub(crate) fn headers(to: Mac, source: &str, destination: &str, tags: Tags) -> Headers {
    Headers {
        destination_mac: to,
        source_mac: Mac([2, 0, 0, 0, 0, 99]),
        tags,
        source: source.parse().expect("an address"),
        destination: destination.parse().expect("an address"),
        identification: 1,
    }
}

/// What a router says to whoever sent an IPv6 frame that is too long for it (RFC 4443 3.2).
pub(crate) fn packet_too_big(frame: &[u8], mtu: u32) -> Vec<u8> {
    let (ethernet, packet) = frame.split_at(14);
    let quoted = &packet[..packet.len().min(1_000)];
    let mut icmp = vec![2, 0, 0, 0];
    icmp.extend(mtu.to_be_bytes());
    icmp.extend(quoted);
    let len = u16::try_from(icmp.len()).expect("short");
    let (source, destination) = (&packet[24..40], &packet[8..24]);
    let sum = Sum::new()
        .bytes(source)
        .bytes(destination)
        .number(len)
        .number(58)
        .bytes(&icmp);
    icmp[2..4].copy_from_slice(&sum.finish().to_be_bytes());
    let mut answer = [&ethernet[6..12], &ethernet[..6], &ethernet[12..14]].concat();
    answer.extend([0x60, 0, 0, 0]);
    answer.extend(len.to_be_bytes());
    answer.extend([58, 64]);
    answer.extend([source, destination, &icmp].concat());
    answer
}

/// The frame with these headers and this payload.
pub(crate) fn frame(headers: &Headers, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; headers.len() + payload.len()];
    headers
        .write(&mut bytes, |buffer| buffer.copy_from_slice(payload))
        .expect("a lawful packet");
    bytes
}

/// An interface's MAC address.
pub(crate) fn mac(namespace: &str, interface: &str) -> Mac {
    let text = bed::run(&format!("ip -n {namespace} -br link show dev {interface}"));
    let text = text.split_whitespace().nth(2).expect("state, then address");
    let mut mac = [0; 6];
    for (to, from) in mac.iter_mut().zip(text.split(':')) {
        *to = u8::from_str_radix(from, 16).expect("two hexadecimal digits");
    }
    Mac(mac)
}

/// A packet socket on an interface of the calling thread's namespace.
pub(crate) struct Raw(OwnedFd);

impl Raw {
    /// Opens one.
    pub(crate) fn new(interface: &str) -> Self {
        let name = CString::new(interface).expect("a name");
        let all = u16::try_from(libc::ETH_P_ALL)
            .expect("a number of 16 bits")
            .to_be();
        // SAFETY: neither call takes a pointer but to the name, which is live and ends in zero.
        let (fd, index) = unsafe {
            let kind = libc::SOCK_RAW | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
            (
                libc::socket(libc::AF_PACKET, kind, i32::from(all)),
                libc::if_nametoindex(name.as_ptr()),
            )
        };
        assert!(fd >= 0 && index > 0, "{}", io::Error::last_os_error());
        // SAFETY: the descriptor was just made, and nobody else owns it.
        let socket = Self(unsafe { OwnedFd::from_raw_fd(fd) });
        // SAFETY: numbers all, so zeroed is a valid value.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = u16::try_from(libc::AF_PACKET).expect("a small number");
        address.sll_protocol = all;
        address.sll_ifindex = i32::try_from(index).expect("a small number");
        let on: libc::c_int = 1;
        // SAFETY: the address and the value are live for the calls, with their true lengths.
        let results = unsafe {
            [
                libc::bind(
                    fd,
                    (&raw const address).cast(),
                    size_of_val(&address) as libc::socklen_t,
                ),
                libc::setsockopt(
                    fd,
                    libc::SOL_PACKET,
                    libc::PACKET_AUXDATA,
                    (&raw const on).cast(),
                    size_of_val(&on) as libc::socklen_t,
                ),
            ]
        };
        assert_eq!(results, [0, 0], "{}", io::Error::last_os_error());
        socket
    }

    /// Sends a frame.
    pub(crate) fn send(&self, frame: &[u8]) {
        // SAFETY: the frame is live for the call, and its length is what is said.
        let sent = unsafe { libc::send(self.0.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
        assert_eq!(
            usize::try_from(sent).ok(),
            Some(frame.len()),
            "{}",
            io::Error::last_os_error()
        );
    }

    /// Waits for a frame that `is_it`, and gives it with the outermost VLAN tag, which the kernel takes out of it.
    pub(crate) fn receive(&self, is_it: impl Fn(&[u8]) -> bool) -> (Vec<u8>, Option<Tag>) {
        let until = Instant::now() + Duration::from_secs(5);
        while Instant::now() < until {
            match self.take() {
                Some((frame, tag)) if is_it(&frame) => return (frame, tag),
                Some(_) => {}
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        }
        panic!("no such frame within 5 s");
    }

    /// Takes a frame, if there is one.
    fn take(&self) -> Option<(Vec<u8>, Option<Tag>)> {
        let mut frame = vec![0; 65_536];
        let mut control = [0_u64; 32];
        let mut vector = libc::iovec {
            iov_base: frame.as_mut_ptr().cast(),
            iov_len: frame.len(),
        };
        // SAFETY: numbers and pointers all, so zeroed is a valid value.
        let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
        header.msg_iov = &raw mut vector;
        header.msg_iovlen = 1;
        header.msg_control = control.as_mut_ptr().cast();
        header.msg_controllen = size_of_val(&control) as _;
        // SAFETY: the header points to a vector and a control buffer that are live for the call, with their true lengths.
        let len = unsafe { libc::recvmsg(self.0.as_raw_fd(), &raw mut header, 0) };
        frame.truncate(usize::try_from(len).ok()?);
        // SAFETY: the header is as the kernel left it, and its control buffer is live.
        let message = unsafe { libc::CMSG_FIRSTHDR(&raw const header) };
        assert!(!message.is_null(), "the socket asked for auxiliary data");
        // SAFETY: the first control message is the auxiliary data, the only kind that was asked for.
        let data: libc::tpacket_auxdata = unsafe {
            libc::CMSG_DATA(message)
                .cast::<libc::tpacket_auxdata>()
                .read_unaligned()
        };
        let is_tagged = data.tp_status & libc::TP_STATUS_VLAN_VALID != 0;
        let tag = Tag {
            protocol: data.tp_vlan_tpid,
            control: data.tp_vlan_tci,
        };
        Some((frame, is_tagged.then_some(tag)))
    }
}
