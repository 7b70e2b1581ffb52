//! Asking the processor for memory before it is needed, so that a batch's cache misses are waited for together and not one after the other.
//!
//! A hint and nothing more: it changes nothing, and where there is no such instruction it does nothing. Unsafe: the intrinsic and the system call take
//! an address.
#![expect(unsafe_code, reason = "prefetches take raw addresses, and harm none")]

/// Asks for all that a value has in itself.
#[inline]
pub(crate) fn value<T>(value: &T) {
    lines(std::ptr::from_ref(value).cast(), size_of::<T>());
}

/// Asks for all bytes of a text.
#[inline]
pub(crate) fn bytes(bytes: &[u8]) {
    lines(bytes.as_ptr(), bytes.len());
}

/// Has the kernel give all whole pages of fresh memory at one go (`MADV_POPULATE_WRITE`, Linux 5.14), where it would give them one by one, each
/// by a fault of its own.
pub(crate) fn pages<T>(fresh: &mut [T]) {
    advise(fresh, libc::MADV_POPULATE_WRITE);
}

/// The same, in huge pages where the system has transparent ones (`MADV_HUGEPAGE`; `always` or `madvise` in
/// `/sys/kernel/mm/transparent_hugepage/enabled`).
pub(crate) fn huge_pages<T>(fresh: &mut [T]) {
    advise(fresh, libc::MADV_HUGEPAGE);
    pages(fresh);
}

fn advise<T>(fresh: &mut [T], advice: libc::c_int) {
    let range = fresh.as_mut_ptr_range();
    let start = range.start.addr().next_multiple_of(PAGE);
    let len = range.end.addr().saturating_sub(start) / PAGE * PAGE;
    if len > 0 {
        let start = range.start.wrapping_byte_add(start - range.start.addr());
        // SAFETY: the pages lie within the slice, which nobody else has; what stands in them stays. A refusal changes nothing.
        let _ = unsafe { libc::madvise(start.cast(), len, advice) };
    }
}

#[inline]
fn lines(start: *const u8, len: usize) {
    let mut offset = 0;
    while offset < len {
        line(start.wrapping_add(offset));
        offset += LINE;
    }
    // What does not begin with a line may end in one more.
    line(start.wrapping_add(len.saturating_sub(1)));
}

#[inline]
#[cfg(target_arch = "x86_64")]
fn line(address: *const u8) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    // SAFETY: a prefetch of any address, even of one that is not mapped, neither faults nor changes anything.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) };
}

#[inline]
#[cfg(not(target_arch = "x86_64"))]
const fn line(_: *const u8) {}

/// Bytes of a page, or a part of one.
const PAGE: usize = 4_096;
/// Bytes of a cache line.
const LINE: usize = 64;
