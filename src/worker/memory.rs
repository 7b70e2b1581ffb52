//! Memory that is taken before anything is served: in huge pages, cleared by the workers' processors. Which
//! worker grows into which part is the allocator's choice.
//!
//! A transaction, and a binding, is a dozen places in memory that were last touched long ago. With pages of 4 KiB each of them is a miss of
//! the TLB, too, which in a virtual machine costs more than the memory itself; but a page of 2 MiB is cleared when it is first touched, and
//! the calls of a worker that grows wait for that. So the pages are made at the start, and what is taken later comes in small ones.
#![expect(
    unsafe_code,
    reason = "an option of the allocator is set by a call of C"
)]

use std::thread;
use std::time::Instant;

use core_affinity::CoreId;
use libmimalloc_sys::{mi_option_set, mi_option_t};
use tracing::{info, warn};

use crate::prefetch;

/// Takes `bytes` of memory by a thread for each of these places, on its processor where it has one; has the kernel make its pages, and
/// leaves it to the allocator, which keeps it.
pub fn prefault(bytes: u64, places: &[Option<CoreId>]) {
    let start = Instant::now();
    keep_what_is_freed();
    let share = bytes / places.len().max(1) as u64;
    // None is freed before all are made: it would be made twice.
    let blocks: Vec<_> = thread::scope(|scope| {
        let makers = places
            .iter()
            .map(|place| scope.spawn(move || blocks(share, *place)));
        let makers: Vec<_> = makers.collect();
        makers
            .into_iter()
            .map(thread::ScopedJoinHandle::join)
            .collect()
    });
    if blocks.iter().any(Result::is_err) {
        warn!("not all memory was made ready");
    }
    drop(blocks);
    info!(
        mib = bytes >> 20,
        "memory is ready in {:.2} s",
        start.elapsed().as_secs_f64()
    );
}

/// Has the kernel make pages of 4 KiB where memory is touched for the first time from now on: one of 2 MiB is cleared then and there, and
/// the calls of a worker that grows wait for it. UMEMs have huge pages of their own. A refusal costs that tail alone.
pub fn touch_small_pages() {
    let _ = rustix::thread::disable_transparent_huge_pages(true);
}

fn blocks(bytes: u64, place: Option<CoreId>) -> Vec<Vec<u8>> {
    place.map(core_affinity::set_for_current);
    let block = |from| {
        let len = usize::try_from(bytes - from).map_or(BLOCK_LEN, |rest| rest.min(BLOCK_LEN));
        let mut block = Vec::with_capacity(len);
        prefetch::huge_pages(block.spare_capacity_mut());
        block
    };
    (0..bytes).step_by(BLOCK_LEN).map(block).collect()
}

/// The allocator gives freed memory back to the kernel a second later, by default.
fn keep_what_is_freed() {
    // SAFETY: it sets a number that the allocator reads, and may be called at any time.
    unsafe { mi_option_set(PURGE_DELAY, -1) };
}

/// `mi_option_purge_delay` of mimalloc.h: milliseconds, negative for never.
const PURGE_DELAY: mi_option_t = 15;
/// Of the size that the allocator still takes out of its arenas.
const BLOCK_LEN: usize = 16 << 20;
