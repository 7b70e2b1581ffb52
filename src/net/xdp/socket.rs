//! The AF_XDP socket of one queue. Unsafe: xsk-rs leaves a condition of its constructor to us, and options are set by pointer.
#![expect(
    unsafe_code,
    reason = "Socket::new has a condition, and setsockopt takes pointers"
)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use xsk_rs::config::{BindFlags, Interface, LibxdpFlags, QueueSize, SocketConfig};
use xsk_rs::{CompQueue, FillQueue, RxQueue, TxQueue, Umem};

use super::rx::RxHalf;
use super::tx::TxHalf;
use super::umem::{self, Region};
use crate::limits::{FRAMES_TO_RECEIVE, FRAMES_TO_SEND};
use crate::net::listener::Mode;

/// A bound socket: two halves, and a descriptor for its statistics.
pub(in crate::net) struct QueueSocket {
    pub(in crate::net) rx: RxHalf,
    pub(in crate::net) tx: TxHalf,
    pub(in crate::net) statistics: Statistics,
    pub(in crate::net) is_zero_copy: bool,
    pub(in crate::net) huge_pages: bool,
}

/// The step that failed, and what the kernel said.
pub(in crate::net) struct SocketError {
    pub(in crate::net) what: &'static str,
    pub(in crate::net) source: io::Error,
}

/// Opens the socket of a queue: zero-copy where the driver can, else by copying.
pub(in crate::net) fn open(
    interface: &str,
    queue: u32,
    mode: Mode,
    busy_poll: bool,
) -> Result<QueueSocket, SocketError> {
    let failed = |what| move |source| SocketError { what, source };
    let umem::NewUmem {
        umem,
        frames,
        huge_pages,
    } = umem::make().map_err(failed("its memory (UMEM) cannot be registered"))?;
    let (tx, rx, fill, completion) =
        bind_best(interface, queue, mode, &umem).map_err(failed("it cannot be bound"))?;
    let fd = duplicate(rx.fd().as_raw_fd()).map_err(failed("its descriptor cannot be copied"))?;
    let is_zero_copy = is_zero_copy(fd.as_fd()).map_err(failed("it does not say what it got"))?;
    if busy_poll {
        prefer_busy_poll(fd.as_fd()).map_err(failed("it cannot be busy-polled"))?;
    }
    let (receiving, sending) = frames.split_at(FRAMES_TO_RECEIVE.min(frames.len()));
    let region = Region::new(umem);
    Ok(QueueSocket {
        rx: RxHalf::new(rx, fill, region.clone(), receiving, busy_poll),
        tx: TxHalf::new(tx, completion, region, sending, is_zero_copy),
        statistics: Statistics(fd),
        is_zero_copy,
        huge_pages,
    })
}

/// What the kernel counts of one socket.
#[derive(Debug)]
pub(in crate::net) struct Statistics(OwnedFd);

impl Statistics {
    /// The socket itself, for the program's map.
    pub(in crate::net) fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// Reads them.
    pub(in crate::net) fn read(&self) -> io::Result<libc::xdp_statistics> {
        statistics(self.fd())
    }
}

/// How many packets a socket had no room for: its ring was full, or it had no frame.
pub(super) fn packets_lost(fd: BorrowedFd<'_>) -> u64 {
    statistics(fd).map_or(0, |counts| {
        counts.rx_dropped + counts.rx_ring_full + counts.rx_fill_ring_empty_descs
    })
}

fn statistics(fd: BorrowedFd<'_>) -> io::Result<libc::xdp_statistics> {
    // SAFETY: numbers all, so zeroed is a valid value.
    let zeroed: libc::xdp_statistics = unsafe { std::mem::zeroed() };
    option(fd, libc::XDP_STATISTICS, zeroed)
}

type Rings = (TxQueue, RxQueue, FillQueue, CompQueue);

/// Binds as well as the driver allows. A driver that has no zero-copy says so only when it is asked for it.
fn bind_best(interface: &str, queue: u32, mode: Mode, umem: &Umem) -> io::Result<Rings> {
    if mode == Mode::Driver
        && let Ok(rings) = bind(interface, queue, BindFlags::XDP_ZEROCOPY, umem)
    {
        return Ok(rings);
    }
    bind(interface, queue, BindFlags::XDP_COPY, umem)
}

/// One attempt.
fn bind(interface: &str, queue: u32, copy: BindFlags, umem: &Umem) -> io::Result<Rings> {
    let interface: Interface = interface
        .parse()
        .map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let ring = |frames: usize| {
        QueueSize::new(frames as u32).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))
    };
    let config = SocketConfig::builder()
        .rx_queue_size(ring(FRAMES_TO_RECEIVE.next_power_of_two())?)
        .tx_queue_size(ring(FRAMES_TO_SEND)?)
        .bind_flags(copy | BindFlags::XDP_USE_NEED_WAKEUP)
        .libxdp_flags(LibxdpFlags::XSK_LIBXDP_FLAGS_INHIBIT_PROG_LOAD)
        .build();
    // SAFETY: the flag that keeps libxdp from loading a program of its own is set, which is the condition.
    let made = unsafe { xsk_rs::Socket::new(config, umem, &interface, queue) };
    let (tx, rx, rings) = made.map_err(|error| super::cause(&error))?;
    let (fill, completion) =
        rings.ok_or_else(|| io::Error::other("the UMEM is in use by another socket"))?;
    Ok((tx, rx, fill, completion))
}

/// Whether the bound socket got zero-copy.
fn is_zero_copy(fd: BorrowedFd<'_>) -> io::Result<bool> {
    let options = option(fd, libc::XDP_OPTIONS, libc::xdp_options { flags: 0 })?;
    Ok(options.flags & libc::XDP_OPTIONS_ZEROCOPY != 0)
}

/// Asks the kernel to leave the device to our polling while we poll it.
fn prefer_busy_poll(fd: BorrowedFd<'_>) -> io::Result<()> {
    for (name, value) in [
        (libc::SO_PREFER_BUSY_POLL, 1),
        (libc::SO_BUSY_POLL, BUSY_POLL_US),
        (libc::SO_BUSY_POLL_BUDGET, BUSY_POLL_BUDGET),
    ] {
        // SAFETY: the value is an int that is live for the call, and its length is what is said.
        let result = unsafe {
            libc::setsockopt(
                fd.as_raw_fd(),
                libc::SOL_SOCKET,
                name,
                (&raw const value).cast(),
                size_of::<libc::c_int>() as libc::socklen_t,
            )
        };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Reads an option of an AF_XDP socket that is a plain structure of numbers.
fn option<T: Copy>(fd: BorrowedFd<'_>, name: libc::c_int, mut value: T) -> io::Result<T> {
    let mut len = size_of::<T>() as libc::socklen_t;
    // SAFETY: the value is live for the call and the kernel writes at most `len` bytes; any bytes are numbers.
    let result = unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::SOL_XDP,
            name,
            (&raw mut value).cast(),
            &raw mut len,
        )
    };
    if result == 0 {
        Ok(value)
    } else {
        Err(io::Error::last_os_error())
    }
}

/// A second descriptor of the same socket.
fn duplicate(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: the socket that owns it is borrowed by the caller, so it is open.
    unsafe { BorrowedFd::borrow_raw(fd) }.try_clone_to_owned()
}

/// How long the kernel polls the device at one call, in microseconds.
const BUSY_POLL_US: libc::c_int = 20;

/// Packets that it takes at one call.
const BUSY_POLL_BUDGET: libc::c_int = 64;
