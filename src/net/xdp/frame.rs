//! Frames of a UMEM, as tokens: who has a [`Frame`] may touch its bytes, and nobody else has one for it.
//!
//! A token is moved, never copied. It is lent to the kernel through a [`Ledger`] and comes back through it; a descriptor that
//! the kernel was not lent, or one that lies outside its frame, yields no token.

use xsk_rs::FrameDesc;

use crate::limits::FRAME_LEN;

/// A frame that is ours and not the kernel's. Losing one leaves the ledger's count of lent frames too low for ever, which
/// tests see.
#[derive(Debug)]
#[must_use = "a frame that is dropped is lost"]
pub(super) struct Frame {
    pub(super) descriptor: FrameDesc,
    index: usize,
}

/// Which frames of one half of a UMEM the kernel has.
#[derive(Debug)]
pub(super) struct Ledger {
    /// The index, within the UMEM, of the half's first frame.
    first: usize,
    /// The descriptors as the UMEM was made with.
    blank: Box<[FrameDesc]>,
    is_lent: Box<[bool]>,
    lent: usize,
}

impl Ledger {
    /// Takes charge of consecutive frames, and gives out the token of each. Each descriptor must be handed in only once.
    pub(super) fn new(frames: &[FrameDesc]) -> (Self, Vec<Frame>) {
        let first = frames.first().map_or(0, |frame| frame.addr() / FRAME_LEN);
        let tokens = frames
            .iter()
            .enumerate()
            .map(|(index, frame)| Frame {
                descriptor: *frame,
                index,
            })
            .collect();
        let ledger = Self {
            first,
            blank: frames.into(),
            is_lent: vec![false; frames.len()].into(),
            lent: 0,
        };
        (ledger, tokens)
    }

    /// Lends a frame to the kernel: the descriptor is to be put into a ring.
    pub(super) fn lend(&mut self, frame: Frame) -> FrameDesc {
        if let Some(is_lent) = self.is_lent.get_mut(frame.index) {
            *is_lent = true;
            self.lent += 1;
        }
        frame.descriptor
    }

    /// Takes a frame back with the packet that the kernel put into it. `None`, and the frame stays lent, where the descriptor
    /// is not one that the kernel was lent or says that the packet ends outside it.
    pub(super) fn take_back(&mut self, descriptor: FrameDesc) -> Option<Frame> {
        let index = (descriptor.addr() / FRAME_LEN).checked_sub(self.first)?;
        let end = (descriptor.addr() % FRAME_LEN).checked_add(descriptor.lengths().data())?;
        let is_lent = self.is_lent.get_mut(index)?;
        if !*is_lent || end > FRAME_LEN {
            return None;
        }
        *is_lent = false;
        self.lent -= 1;
        Some(Frame { descriptor, index })
    }

    /// The frame with the descriptor that it was made with: no packet, and the full room for one.
    pub(super) fn blank(&self, frame: Frame) -> Frame {
        let descriptor = self
            .blank
            .get(frame.index)
            .copied()
            .unwrap_or(frame.descriptor);
        Frame {
            descriptor,
            index: frame.index,
        }
    }

    /// How many frames the kernel has.
    pub(super) const fn lent(&self) -> usize {
        self.lent
    }

    /// How many frames there are.
    pub(super) const fn len(&self) -> usize {
        self.blank.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_comes_back_once_and_only_when_it_was_lent() {
        let descriptor = FrameDesc::default();
        let (mut ledger, mut frames) = Ledger::new(&[descriptor]);
        assert!(ledger.take_back(descriptor).is_none(), "never lent");
        let frame = frames.pop().expect("one token");
        let lent = ledger.lend(frame);
        assert_eq!(ledger.lent(), 1);
        let frame = ledger.take_back(lent).expect("lent");
        assert_eq!(ledger.lent(), 0);
        assert!(ledger.take_back(lent).is_none(), "twice");
        let _ = ledger.lend(ledger.blank(frame));
        assert_eq!(ledger.lent(), 1);
    }

    #[test]
    fn a_frame_of_another_half_is_refused() {
        let (mut ledger, _) = Ledger::new(&[]);
        assert!(ledger.take_back(FrameDesc::default()).is_none());
    }
}
