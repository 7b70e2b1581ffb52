//! The memory that a queue's socket shares with the kernel. Unsafe: the bytes of a frame are reached through a pointer.
#![expect(
    unsafe_code,
    reason = "frames are parts of one mapping, told apart by their tokens alone"
)]

use std::io;
use std::num::NonZeroU32;
use std::sync::Once;

use xsk_rs::FrameDesc;
use xsk_rs::Umem;
use xsk_rs::config::{FrameSize, QueueSize, UmemConfig};

use super::frame::Frame;
use crate::limits::{FRAME_LEN, FRAMES_AT_HAND, FRAMES_PER_QUEUE, FRAMES_TO_SEND};

/// A way to the bytes of one UMEM's frames.
#[derive(Clone, Debug)]
pub(super) struct Region(Umem);

/// A UMEM and the descriptors of its frames.
pub(super) struct NewUmem {
    pub(super) umem: Umem,
    pub(super) frames: Vec<FrameDesc>,
    /// Whether it lies on huge pages.
    pub(super) huge_pages: bool,
}

/// Makes a UMEM of [`FRAMES_PER_QUEUE`] frames: on huge pages where the host has some, else on small ones.
pub(super) fn make() -> io::Result<NewUmem> {
    raise_memory_lock_limit();
    match make_on(true) {
        Ok((umem, frames)) => Ok(NewUmem {
            umem,
            frames,
            huge_pages: true,
        }),
        Err(_) => make_on(false).map(|(umem, frames)| NewUmem {
            umem,
            frames,
            huge_pages: false,
        }),
    }
}

impl Region {
    /// The region of a UMEM. Only tokens of that UMEM's frames may be shown to it.
    pub(super) const fn new(umem: Umem) -> Self {
        Self(umem)
    }

    /// The packet in a frame.
    pub(super) fn packet<'a>(&'a self, frame: &'a Frame) -> &'a [u8] {
        // SAFETY: the token says that the kernel does not have the frame, its borrow that nobody writes to it, and the ledger
        // that made it that the packet lies within the frame.
        unsafe { self.0.data(&frame.descriptor) }.contents()
    }

    /// Makes the packet in a frame `len` bytes long and lets `write` fill it; `None` where the frame is too short for it.
    pub(super) fn write<R>(
        &self,
        frame: &mut Frame,
        len: usize,
        write: impl FnOnce(&mut [u8]) -> R,
    ) -> Option<R> {
        if frame.descriptor.addr() % FRAME_LEN + len > FRAME_LEN {
            return None;
        }
        // SAFETY: the token says that the kernel does not have the frame, and its exclusive borrow that nobody else does. The
        // room reaches from the descriptor's address to the frame's end, which is within the region.
        let mut data = unsafe { self.0.data_mut(&mut frame.descriptor) };
        data.cursor().set_pos(len);
        Some(write(data.contents_mut()))
    }
}

/// One attempt.
fn make_on(huge_pages: bool) -> io::Result<(Umem, Vec<FrameDesc>)> {
    let count = NonZeroU32::new(FRAMES_PER_QUEUE as u32).expect("limits.rs says that it is not 0");
    let invalid = |_| io::Error::from(io::ErrorKind::InvalidInput);
    let ring = |frames| QueueSize::new(frames as u32).map_err(|error| invalid(error.to_string()));
    let frame = FrameSize::new(FRAME_LEN as u32).map_err(|error| invalid(error.to_string()))?;
    let config = UmemConfig::builder()
        .frame_size(frame)
        .fill_queue_size(ring(FRAMES_AT_HAND)?)
        .comp_queue_size(ring(FRAMES_TO_SEND)?)
        .build()
        .map_err(|error| invalid(error.to_string()))?;
    Umem::new(config, count, huge_pages).map_err(|error| super::cause(&error))
}

/// Lets the process pin as much memory as it may: without CAP_IPC_LOCK a UMEM counts against RLIMIT_MEMLOCK.
fn raise_memory_lock_limit() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let mut limit = libc::rlimit {
            rlim_cur: 0,
            rlim_max: 0,
        };
        // SAFETY: the structure is live for the call.
        if unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &raw mut limit) } != 0 {
            return;
        }
        limit.rlim_cur = limit.rlim_max;
        // A refusal shows when the UMEM is made.
        // SAFETY: as above.
        let _ = unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const limit) };
    });
}
