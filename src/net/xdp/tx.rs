//! The sending half of an AF_XDP socket: its TX ring and its completion ring. Unsafe: the rings trust their descriptors.
#![expect(
    unsafe_code,
    reason = "xsk-rs cannot know which frames the kernel was lent; the ledger does"
)]

use xsk_rs::{CompQueue, FrameDesc, TxQueue};

use super::frame::{Frame, Ledger};
use super::umem::Region;
use crate::limits::{BATCH, FRAMES_TO_SEND};

/// The rings by which packets leave, and the frames that go round in them.
#[derive(Debug)]
pub(in crate::net) struct TxHalf {
    tx: TxQueue,
    completion: CompQueue,
    region: Region,
    ledger: Ledger,
    free: Vec<Frame>,
    completed: Box<[FrameDesc]>,
    is_zero_copy: bool,
    /// Descriptors in the TX ring that the kernel has not taken yet, when last looked at.
    waiting: usize,
    /// Flushes, one after the other, that moved nothing.
    stalls: u32,
}

impl TxHalf {
    /// Takes charge of `frames`, which are of `region`'s UMEM, as are the rings.
    pub(super) fn new(
        tx: TxQueue,
        completion: CompQueue,
        region: Region,
        frames: &[FrameDesc],
        is_zero_copy: bool,
    ) -> Self {
        let (ledger, free) = Ledger::new(frames);
        let completed = vec![FrameDesc::default(); BATCH].into();
        Self {
            tx,
            completion,
            region,
            ledger,
            free,
            completed,
            is_zero_copy,
            waiting: 0,
            stalls: 0,
        }
    }

    /// A free frame, if there is one.
    pub(super) fn acquire(&mut self) -> Option<Frame> {
        if self.free.is_empty() {
            self.reclaim();
        }
        self.free.pop()
    }

    /// Sends a packet of `len` bytes that `write` puts into `frame`. `None`, with nothing sent, where `write` says so or the
    /// frame is too short.
    pub(super) fn send(
        &mut self,
        mut frame: Frame,
        len: usize,
        write: impl FnOnce(&mut [u8]) -> Option<()>,
    ) -> Option<()> {
        if self
            .region
            .write(&mut frame, len, write)
            .flatten()
            .is_none()
        {
            let frame = self.ledger.blank(frame);
            self.free.push(frame);
            return None;
        }
        let descriptor = self.ledger.lend(frame);
        // SAFETY: the token has just been given up, so the kernel alone has the frame.
        if unsafe { self.tx.produce_one(&descriptor) } == 0 {
            // The ring has as many entries as there are frames, so this does not come to pass.
            self.free.extend(self.ledger.take_back(descriptor));
            return None;
        }
        self.waiting += 1;
        Some(())
    }

    /// Makes the kernel send what is in the TX ring, and takes back the frames that it is done with.
    pub(super) fn flush(&mut self) {
        self.reclaim();
        self.look();
        if self.waiting == 0 {
            self.stalls = 0;
            return;
        }
        if self.is_zero_copy {
            if self.tx.needs_wakeup() {
                let _ = self.tx.wakeup();
            }
            self.reclaim();
            self.look();
            return;
        }
        // In copy mode one call sends about 32 packets, and a full queue of the device looks no different from success.
        for _ in 0..KICKS_MAX {
            let before = self.waiting;
            let _ = self.tx.wakeup();
            self.look();
            if self.waiting == before {
                self.stalls = self.stalls.saturating_add(1);
                break;
            }
            self.stalls = 0;
            if self.waiting == 0 {
                break;
            }
        }
        self.reclaim();
    }

    /// Whether nothing waits for [`TxHalf::flush`]. What the kernel does not take although it is asked again and again (the
    /// interface is down) waits for its next turn and not for the next moment.
    pub(super) fn is_idle(&self) -> bool {
        if self.waiting == 0 || self.stalls >= STALLS_MAX {
            return true;
        }
        self.is_zero_copy && !self.tx.needs_wakeup()
    }

    /// How many frames are not free.
    pub(super) fn outstanding(&self) -> usize {
        self.ledger.len() - self.free.len()
    }

    /// Takes back what the kernel has sent.
    fn reclaim(&mut self) {
        if self.ledger.lent() == 0 {
            return;
        }
        loop {
            // SAFETY: the descriptors are written here before they are read, and each is checked below.
            let done = unsafe { self.completion.consume(&mut self.completed) };
            for descriptor in self.completed.iter().take(done) {
                if let Some(frame) = self.ledger.take_back(*descriptor) {
                    let frame = self.ledger.blank(frame);
                    self.free.push(frame);
                }
            }
            if done < self.completed.len() {
                return;
            }
        }
    }

    /// Looks how much the kernel has not taken yet.
    fn look(&mut self) {
        let free = usize::try_from(self.tx.nb_free_exact()).unwrap_or(0);
        self.waiting = FRAMES_TO_SEND.saturating_sub(free);
    }
}

/// Calls that one flush may make: enough for a full ring at 32 packets a call.
const KICKS_MAX: usize = FRAMES_TO_SEND / 32 + 4;

/// Flushes that moved nothing, one after the other, after which the ring counts as idle.
const STALLS_MAX: u32 = 16;
