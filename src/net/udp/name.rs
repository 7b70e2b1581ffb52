//! Socket addresses as the kernel reads and writes them: `sockaddr_in` and `sockaddr_in6`, byte by byte.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

/// Room for an address of either family.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C, align(4))]
pub(super) struct Name([u8; LEN]);

/// `struct sockaddr_in6`, the longer of the two.
const LEN: usize = 28;
/// `struct sockaddr_in`.
const LEN_V4: usize = 16;

impl Name {
    /// Writes an address, and says how many bytes it takes.
    pub(super) fn of(address: SocketAddr) -> (Self, libc::socklen_t) {
        let mut name = Self::default();
        let [family, port, rest @ ..] = name.0.as_chunks_mut::<2>().0 else {
            return (name, 0);
        };
        *port = address.port().to_be_bytes();
        match address {
            SocketAddr::V4(address) => {
                *family = AF_INET.to_ne_bytes();
                let ip = rest.as_flattened_mut().iter_mut();
                ip.zip(address.ip().octets())
                    .for_each(|(to, from)| *to = from);
                (name, LEN_V4 as libc::socklen_t)
            }
            SocketAddr::V6(address) => {
                *family = AF_INET6.to_ne_bytes();
                // The flow label that stands before the address is zero.
                let ip = rest.as_flattened_mut().iter_mut().skip(4);
                let bytes = address
                    .ip()
                    .octets()
                    .into_iter()
                    .chain(address.scope_id().to_ne_bytes());
                ip.zip(bytes).for_each(|(to, from)| *to = from);
                (name, LEN as libc::socklen_t)
            }
        }
    }

    /// Reads the address that the kernel wrote in `len` bytes.
    pub(super) fn read(&self, len: libc::socklen_t) -> Option<SocketAddr> {
        let bytes = self.0.get(..usize::try_from(len).ok()?.min(LEN))?;
        let (family, rest) = bytes.split_first_chunk::<2>()?;
        let (port, rest) = rest.split_first_chunk::<2>()?;
        let port = u16::from_be_bytes(*port);
        match u16::from_ne_bytes(*family) {
            AF_INET => {
                let ip = rest.first_chunk::<4>()?;
                Some(SocketAddr::new(Ipv4Addr::from(*ip).into(), port))
            }
            AF_INET6 => {
                let (_, rest) = rest.split_first_chunk::<4>()?;
                let (ip, rest) = rest.split_first_chunk::<16>()?;
                let scope = u32::from_ne_bytes(*rest.first_chunk::<4>()?);
                Some(SocketAddrV6::new(Ipv6Addr::from(*ip), port, 0, scope).into())
            }
            _ => None,
        }
    }

    /// Where the kernel is to read or write.
    pub(super) const fn as_mut_ptr(&mut self) -> *mut libc::c_void {
        self.0.as_mut_ptr().cast()
    }

    /// How many bytes the kernel may write.
    pub(super) const ROOM: libc::socklen_t = LEN as libc::socklen_t;
}

const AF_INET: u16 = libc::AF_INET as u16;
const AF_INET6: u16 = libc::AF_INET6 as u16;

const _: () = assert!(size_of::<libc::sockaddr_in>() == LEN_V4);
const _: () = assert!(size_of::<libc::sockaddr_in6>() == LEN);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for text in ["192.0.2.1:5060", "[2001:db8::1]:65535", "[fe80::1%7]:1"] {
            let address: SocketAddr = text.parse().expect("an address");
            let (name, len) = Name::of(address);
            assert_eq!(name.read(len), Some(address));
        }
    }

    #[test]
    fn it_is_the_layout_of_the_kernel() {
        let (name, _) = Name::of("192.0.2.1:5060".parse().expect("an address"));
        assert_eq!(name.0[2..8], [0x13, 0xC4, 192, 0, 2, 1]);
        let (name, _) = Name::of("[2001:db8::1%5]:5060".parse().expect("an address"));
        assert_eq!(name.0[8..10], [0x20, 0x01]);
        assert_eq!(name.0[24..28], 5_u32.to_ne_bytes());
    }

    #[test]
    fn what_is_short_or_of_another_family_is_no_address() {
        let (name, _) = Name::of("[2001:db8::1]:5060".parse().expect("an address"));
        for len in 0..LEN {
            assert_eq!(name.read(len as libc::socklen_t), None);
        }
        assert_eq!(Name::default().read(Name::ROOM), None);
    }
}
