//! The XDP program of an interface: loading it, its maps, attaching it, running it on one packet. Unsafe: bpf_link_create and
//! the test run are plain calls into libbpf.
//!
//! It is attached by a `bpf_link`, which the kernel takes off when its descriptor is closed: also by `kill -9`.
#![expect(
    unsafe_code,
    reason = "libbpf-rs attaches without flags, and the mode is a flag"
)]

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::Once;

use libbpf_rs::{
    Map, MapCore, MapFlags, MapHandle, MapImpl, ObjectBuilder, PrintLevel, libbpf_sys,
};

use crate::datagram::ListenerId;
use crate::limits::PACKET_LEN_MAX;
use crate::net::error::NetError;
use crate::net::listener::Mode;
use crate::net::privilege;

/// The compiled program.
static OBJECT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/strowger.bpf.o"));

/// What became of a packet. The order is that of `enum verdict` in bpf/strowger.bpf.c.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Verdict {
    /// It went to the AF_XDP socket.
    Redirected,
    /// Neither IPv4 nor IPv6.
    NotIp,
    /// IPv4 options, a fragment, or an IPv6 extension header.
    NotPlain,
    /// Another protocol than UDP.
    NotUdp,
    /// Not to one of our (address, port) pairs.
    OtherPort,
    /// Ours, but no AF_XDP socket serves the queue.
    NoSocket,
    /// A header ends after the packet does.
    Truncated,
    /// Ours, but longer than a frame.
    TooLong,
}

impl Verdict {
    /// All of them, in order.
    pub const ALL: [Self; 8] = [
        Self::Redirected,
        Self::NotIp,
        Self::NotPlain,
        Self::NotUdp,
        Self::OtherPort,
        Self::NoSocket,
        Self::Truncated,
        Self::TooLong,
    ];
}

/// How many packets got each verdict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdicts([u64; Verdict::ALL.len()]);

impl Verdicts {
    /// How many packets got this one.
    #[must_use]
    pub const fn of(&self, verdict: Verdict) -> u64 {
        self.0[verdict as usize]
    }

    /// How many packets went to the kernel, for whatever reason.
    #[must_use]
    pub fn passed(&self) -> u64 {
        self.0.iter().sum::<u64>() - self.of(Verdict::Redirected)
    }

    /// Adds another program's.
    pub(in crate::net) fn add(&mut self, other: &Self) {
        for (sum, more) in self.0.iter_mut().zip(other.0) {
            *sum += more;
        }
    }
}

/// A loaded program with its maps, and its link once it is attached.
#[derive(Debug)]
pub struct Program {
    program: OwnedFd,
    listeners: MapHandle,
    sockets: MapHandle,
    verdicts: MapHandle,
    link: Option<OwnedFd>,
}

impl Program {
    /// Loads the program for an interface of so many queues. It serves nobody yet.
    ///
    /// # Errors
    /// `Privilege` or `Load`.
    pub fn load(queues: u32) -> Result<Self, NetError> {
        route_libbpf_output();
        Self::load_object(queues).map_err(|error| {
            if error.kind() == libbpf_rs::ErrorKind::PermissionDenied {
                return NetError::Privilege {
                    what: "the XDP program cannot be loaded".to_owned(),
                    advice: privilege::advice(),
                    source: io::Error::from_raw_os_error(libc::EPERM),
                };
            }
            NetError::Load(error)
        })
    }

    /// Attaches it to an interface. `name` is for the message of a failure.
    ///
    /// # Errors
    /// `Busy`, `Privilege` or `Attach`.
    pub fn attach(&mut self, interface: u32, name: &str, mode: Mode) -> Result<(), NetError> {
        let failed = |source: io::Error| match source.raw_os_error() {
            Some(libc::EBUSY | libc::EEXIST) => NetError::Busy {
                interface: name.to_owned(),
            },
            _ if NetError::refused(&source) => NetError::Privilege {
                what: format!("the XDP program cannot be attached to {name}"),
                advice: privilege::advice(),
                source,
            },
            _ => NetError::Attach {
                interface: name.to_owned(),
                mode,
                source,
            },
        };
        let link = self.create_link(interface, mode).map_err(failed)?;
        self.link = Some(link);
        Ok(())
    }

    /// Makes packets to this (address, port) pair ours.
    ///
    /// # Errors
    /// What the kernel says: the map is full, or was taken away.
    pub fn serve(&self, address: SocketAddr, listener: ListenerId) -> Result<(), libbpf_rs::Error> {
        self.listeners.update(
            &listener_key(address),
            &u32::from(listener.0).to_ne_bytes(),
            MapFlags::ANY,
        )
    }

    /// Sends what is ours and comes by this queue to an AF_XDP socket.
    ///
    /// # Errors
    /// What the kernel says: there is no such queue, or the descriptor is not an AF_XDP socket.
    pub fn register(&self, queue: u32, socket: BorrowedFd<'_>) -> Result<(), libbpf_rs::Error> {
        let fd = socket.as_raw_fd().cast_unsigned();
        self.sockets
            .update(&queue.to_ne_bytes(), &fd.to_ne_bytes(), MapFlags::ANY)
    }

    /// Reads the counters, summed over the CPUs.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn verdicts(&self) -> Result<Verdicts, libbpf_rs::Error> {
        let mut verdicts = Verdicts::default();
        for (index, sum) in (0_u32..).zip(&mut verdicts.0) {
            let cpus = self
                .verdicts
                .lookup_percpu(&index.to_ne_bytes(), MapFlags::ANY)?;
            for bytes in cpus.iter().flatten() {
                let value = bytes
                    .first_chunk()
                    .map_or(0, |bytes| u64::from_ne_bytes(*bytes));
                *sum = sum.wrapping_add(value);
            }
        }
        Ok(verdicts)
    }

    /// Runs the program on one packet as if it had come by queue 0 of `lo`, and says whether the packet would be redirected.
    ///
    /// # Errors
    /// What the kernel says: it refuses packets shorter than an Ethernet header.
    pub fn run(&self, packet: &[u8]) -> io::Result<bool> {
        let len = u32::try_from(packet.len()).map_err(io::Error::other)?;
        // SAFETY: numbers and pointers all, so zeroed is a valid value.
        let mut options: libbpf_sys::bpf_test_run_opts = unsafe { std::mem::zeroed() };
        options.sz = size_of_val(&options) as _;
        options.data_in = packet.as_ptr().cast();
        options.data_size_in = len;
        options.repeat = 1;
        // SAFETY: the options and the packet are live for the call, and no output is asked for.
        let result = unsafe {
            libbpf_sys::bpf_prog_test_run_opts(self.program.as_raw_fd(), &raw mut options)
        };
        if result < 0 {
            return Err(io::Error::from_raw_os_error(-result));
        }
        Ok(options.retval == libbpf_sys::XDP_REDIRECT)
    }

    /// Opens the object, sizes its maps, and loads it.
    fn load_object(queues: u32) -> Result<Self, libbpf_rs::Error> {
        let mut object = ObjectBuilder::default().open_memory(OBJECT)?;
        for mut map in object.maps_mut() {
            if map.name() == "xsks" {
                map.set_max_entries(queues.max(1))?;
            } else if map.name().to_string_lossy().ends_with(".rodata") {
                // The only constant of the program: `packet_len_max`.
                map.set_initial_value(&(PACKET_LEN_MAX as u32).to_ne_bytes())?;
            }
        }
        let object = object.load()?;
        let map = |name: &str| -> Result<MapHandle, libbpf_rs::Error> {
            let map = object.maps().find(|map| map.name() == name);
            map.as_ref().map_or_else(|| Err(missing()), handle)
        };
        let program = object.progs().next().ok_or_else(missing)?;
        let program = program
            .as_fd()
            .try_clone_to_owned()
            .map_err(libbpf_rs::Error::from)?;
        Ok(Self {
            program,
            listeners: map("listeners")?,
            sockets: map("xsks")?,
            verdicts: map("verdicts")?,
            link: None,
        })
    }

    /// Makes the link.
    fn create_link(&self, interface: u32, mode: Mode) -> io::Result<OwnedFd> {
        let mut options = libbpf_sys::bpf_link_create_opts {
            sz: size_of::<libbpf_sys::bpf_link_create_opts>() as _,
            ..Default::default()
        };
        options.flags = match mode {
            Mode::Driver => libbpf_sys::XDP_FLAGS_DRV_MODE,
            Mode::Generic => libbpf_sys::XDP_FLAGS_SKB_MODE,
        };
        let interface = libc::c_int::try_from(interface).map_err(io::Error::other)?;
        // SAFETY: the options are live for the call, and their size is what is said.
        let fd = unsafe {
            libbpf_sys::bpf_link_create(
                self.program.as_raw_fd(),
                interface,
                libbpf_sys::BPF_XDP,
                &raw const options,
            )
        };
        if fd < 0 {
            return Err(io::Error::from_raw_os_error(-fd));
        }
        // SAFETY: the descriptor was just made, and nobody else owns it.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }
}

/// A map of its own descriptor, which outlives the object.
fn handle(map: &Map<'_>) -> Result<MapHandle, libbpf_rs::Error> {
    let map: &MapImpl<'_> = map;
    MapHandle::try_from(map)
}

/// The object that was built in lacks what the sources have.
fn missing() -> libbpf_rs::Error {
    libbpf_rs::Error::from(io::Error::from(io::ErrorKind::NotFound))
}

/// `struct listener` of bpf/strowger.bpf.c.
fn listener_key(address: SocketAddr) -> [u8; 20] {
    let (octets, family) = match address.ip() {
        IpAddr::V4(ip) => (ip.to_ipv6_mapped().octets(), 4_u16),
        IpAddr::V6(ip) => (ip.octets(), 6),
    };
    let mut key = [0; 20];
    let (ip, rest) = key.split_at_mut(16);
    ip.copy_from_slice(&octets);
    let (port, rest) = rest.split_at_mut(2);
    port.copy_from_slice(&address.port().to_be_bytes());
    rest.copy_from_slice(&family.to_ne_bytes());
    key
}

/// Takes libbpf's own words, which it would write to standard error, into our log.
fn route_libbpf_output() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        libbpf_rs::set_print(Some((PrintLevel::Warn, |_, text| {
            tracing::debug!(target: "libbpf", "{}", text.trim_end());
        })));
    });
}
