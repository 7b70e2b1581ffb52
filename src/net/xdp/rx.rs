//! The receiving half of an AF_XDP socket: its RX ring and its fill ring. Unsafe: the rings trust their descriptors.
#![expect(
    unsafe_code,
    reason = "xsk-rs cannot know which frames the kernel was lent; the ledger does"
)]

use std::os::fd::{AsRawFd, BorrowedFd};

use xsk_rs::{FillQueue, FrameDesc, RxQueue};

use super::frame::{Frame, Ledger};
use super::umem::Region;
use crate::limits::BATCH;

/// The rings by which packets come, and the frames that go round in them.
#[derive(Debug)]
pub(in crate::net) struct RxHalf {
    rx: RxQueue,
    fill: FillQueue,
    region: Region,
    ledger: Ledger,
    received: Box<[FrameDesc]>,
    /// The frames of the batch at hand.
    taken: Vec<Frame>,
    /// Frames that the kernel does not need now; who was taken last is lent first, while it is in the caches.
    spare: Vec<Frame>,
    busy_poll: bool,
}

impl RxHalf {
    /// Fills the fill ring with some of `frames`, which are of `region`'s UMEM, as are the rings.
    pub(super) fn new(
        rx: RxQueue,
        fill: FillQueue,
        region: Region,
        frames: &[FrameDesc],
        busy_poll: bool,
    ) -> Self {
        let (ledger, spare) = Ledger::new(frames);
        let received = vec![FrameDesc::default(); BATCH].into();
        let mut half = Self {
            rx,
            fill,
            region,
            ledger,
            received,
            taken: Vec::with_capacity(BATCH),
            spare,
            busy_poll,
        };
        half.give_back();
        half
    }

    /// Takes up to [`BATCH`] packets, which are [`Self::packets`] until they are given back. Returns how many it took, those too
    /// that were not what the kernel may give.
    pub(super) fn take(&mut self) -> usize {
        if self.busy_poll {
            self.drive();
        } else if self.fill.needs_wakeup() {
            self.wake();
        }
        // SAFETY: the descriptors are written here before they are read, and each is checked below.
        let count = unsafe { self.rx.consume(&mut self.received) };
        let Self {
            received,
            ledger,
            taken,
            ..
        } = self;
        let descriptors = received.iter().take(count);
        taken.extend(descriptors.filter_map(|descriptor| ledger.take_back(*descriptor)));
        count
    }

    /// The packets of the batch at hand.
    pub(super) fn packets(&self) -> impl Iterator<Item = &[u8]> {
        self.taken.iter().map(|frame| self.region.packet(frame))
    }

    /// How many frames are neither in the kernel nor on their way to it.
    pub(super) fn missing(&self) -> usize {
        self.ledger.len() - self.ledger.lent() - self.spare.len() - self.taken.len()
    }

    /// The socket's descriptor.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor is open as long as the ring, which outlives the borrow of self.
        unsafe { BorrowedFd::borrow_raw(self.rx.fd().as_raw_fd()) }
    }

    /// Takes the frames of the batch back, fills the fill ring up, and wakes the driver if it sleeps for want of frames.
    ///
    /// While packets wait in the RX ring the fill ring lacks as many, so that it takes spare frames as long as there are any.
    pub(super) fn give_back(&mut self) {
        self.spare.append(&mut self.taken);
        while let Some(frame) = self.spare.pop() {
            let frame = self.ledger.blank(frame);
            let descriptor = self.ledger.lend(frame);
            // SAFETY: the token has just been given up, so the kernel alone has the frame.
            let given = unsafe { self.fill.produce_one(&descriptor) };
            if given == 0 {
                self.spare.extend(self.ledger.take_back(descriptor));
                break;
            }
        }
        if self.fill.needs_wakeup() {
            self.wake();
        }
    }

    /// Wakes a driver that waits for frames. A failure shows at the next try.
    fn wake(&mut self) {
        let _ = self.fill.wakeup(self.rx.fd_mut(), 0);
    }

    /// Lets the kernel poll the device for us now (SO_BUSY_POLL).
    fn drive(&self) {
        // SAFETY: a receive of nothing into nowhere; AF_XDP sockets take such calls as a wake-up.
        let _ = unsafe {
            libc::recvfrom(
                self.fd().as_raw_fd(),
                std::ptr::null_mut(),
                0,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
                std::ptr::null_mut(),
            )
        };
    }
}
