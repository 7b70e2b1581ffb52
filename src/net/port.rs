//! What the worker sees of this layer: datagrams come by a [`Receiver`] and leave by [`super::Transmitters`].
//!
//! The two are apart so that a message received by one port can be sent by another while its frame is still borrowed.

use std::fmt;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;

use crate::datagram::Datagram;
use crate::limits::WORTH_ANNOUNCING;
use crate::time::Instant;
use crate::wire::ethernet::{Mac, Tags};

/// The way back to whoever sent a packet that came by AF_XDP: the swapped addresses of its frame.
///
/// It answers for that peer by that listener alone. It is plain data: a datagram handed to another worker may take it along,
/// and where that worker has no queue of the interface, the message goes by the kernel's socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// The station that sent the frame: the sender's own, or the last router's.
    pub(super) peer: Mac,
    /// Our MAC address, as the frame addressed it.
    pub(super) own: Mac,
    /// The VLAN tags, as received.
    pub(super) tags: Tags,
    /// The kernel's index of the interface it came by.
    pub(super) interface: u32,
}

/// What carries a datagram, for the counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// An AF_XDP socket.
    AfXdp,
    /// A socket of the kernel.
    Udp,
}

/// Whoever takes what was received. A closure is one that does nothing but take.
pub trait Intake {
    /// Passes a datagram of this batch on, where it is not for this taker: true, and it is neither announced nor taken.
    fn pass_on(&mut self, datagram: &Datagram<'_>, link: Option<Link>) -> bool {
        let _ = (datagram, link);
        false
    }

    /// A datagram of this batch, which will be taken, in turn.
    fn announce(&mut self, bytes: &[u8]) {
        let _ = bytes;
    }

    /// All of the batch were announced.
    fn look_ahead(&mut self) {}

    /// Takes a datagram, with the way back where it came by AF_XDP; its bytes are borrowed.
    fn take(&mut self, datagram: Datagram<'_>, link: Option<Link>);
}

/// Gives a batch to `intake`. Of one that is worth it each datagram is announced before the first of them is taken, so that the memory
/// that they need can be asked for together.
pub(super) fn present<'a>(
    intake: &mut dyn Intake,
    batch: &mut [Option<(Datagram<'a>, Option<Link>)>],
) {
    let mut left = 0;
    for slot in &mut *batch {
        slot.take_if(|(datagram, link)| intake.pass_on(datagram, *link));
        left += usize::from(slot.is_some());
    }
    let own = || batch.iter().flatten();
    if left >= WORTH_ANNOUNCING {
        own().for_each(|(datagram, _)| intake.announce(datagram.bytes));
        intake.look_ahead();
    }
    for (datagram, link) in own() {
        intake.take(*datagram, *link);
    }
}

impl<F: FnMut(Datagram<'_>, Option<Link>)> Intake for F {
    fn take(&mut self, datagram: Datagram<'_>, link: Option<Link>) {
        self(datagram, link);
    }
}

/// Where a worker's datagrams come from: the AF_XDP socket of a queue, or the kernel's socket of a listener.
pub trait Receiver {
    /// Takes up to [`crate::limits::BATCH`] packets and gives every datagram among them to `intake`, while its frame is
    /// borrowed; then gives the frames back. Returns how many packets were taken: fewer than a batch means that none is left.
    ///
    /// Datagrams that are no packets of ours are dropped and counted here; what `intake` is given is for the caller to count.
    fn receive(&mut self, now: Instant, intake: &mut dyn Intake) -> usize;

    /// Takes what ICMP said about datagrams that we sent, and calls `each` for every one that could not be delivered.
    /// Returns how many reports were taken. To be called when `poll` says `POLLERR`; AF_XDP sockets have none to give.
    fn receive_errors(&mut self, each: &mut dyn FnMut(Unreachable<'_>)) -> usize {
        let _ = each;
        0
    }

    /// How many UMEM frames are neither in the kernel nor on their way to it between two calls: more than none is a leak.
    fn frames_missing(&self) -> usize {
        0
    }

    /// How many packets the kernel has dropped so far because this queue had no room for them.
    fn packets_lost(&self) -> u64 {
        0
    }

    /// The descriptor to `poll` for `POLLIN` and `POLLERR`.
    fn fd(&self) -> BorrowedFd<'_>;

    /// What carries these datagrams.
    fn backend(&self) -> Backend;
}

/// A datagram of ours that did not arrive, as ICMP reports it (RFC 3261 18.4).
#[derive(Clone, Copy, Debug)]
pub struct Unreachable<'a> {
    /// Whither it was sent.
    pub peer: SocketAddr,
    /// As much of its payload as the report quotes: at least nothing, often the first 500 bytes.
    pub payload: &'a [u8],
}

/// Why a message was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendError {
    /// Longer than a UDP datagram may be.
    TooLarge,
    /// Neither a frame nor the kernel's buffer is free: as if the network had lost it.
    Full,
    /// No such listener, another transport or address family than its own, or a destination that is no destination.
    Unsendable,
}

impl SendError {
    /// The name of the cause.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TooLarge => "too_large",
            Self::Full => "transmit_full",
            Self::Unsendable => "unsendable",
        }
    }
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::error::Error for SendError {}
