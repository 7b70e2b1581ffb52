//! Asking the processor for memory before it is needed, so that a batch's cache misses are waited for together and not one after the other.
//!
//! A hint and nothing more: it changes nothing, and where there is no such instruction it does nothing. Unsafe: the intrinsic takes an address.
#![expect(
    unsafe_code,
    reason = "the prefetch intrinsics take raw addresses, and harm none"
)]

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

#[inline]
fn lines(start: *const u8, len: usize) {
    // From the beginning of the first line, so that the last one is not missed.
    let lead = start.addr() % LINE;
    let first = start.wrapping_sub(lead);
    for offset in (0..lead + len).step_by(LINE) {
        line(first.wrapping_add(offset));
    }
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

/// Bytes of a cache line.
const LINE: usize = 64;
