//! Sixteen bytes looked at together: one comparison, and a bit for each byte that it holds for.
//!
//! On x86-64 these are the SSE2 instructions that every such processor has, so that nothing has to be asked at run time; elsewhere the
//! same is said byte by byte, and left to the compiler. `unsafe` is here since the compiler counts each such instruction as unsafe
//! outside functions that name SSE2, which would not be inlined.
#![cfg_attr(
    target_arch = "x86_64",
    expect(unsafe_code, reason = "SSE2's instructions")
)]

#[cfg(target_arch = "x86_64")]
use core::arch::x86_64::{
    __m128i, _mm_andnot_si128, _mm_cmpeq_epi8, _mm_loadu_si128, _mm_min_epu8, _mm_movemask_epi8,
    _mm_or_si128, _mm_set1_epi8, _mm_setzero_si128, _mm_sub_epi8, _mm_subs_epu8,
};

/// How many bytes are looked at together.
pub(super) const LEN: usize = 16;

/// Sixteen bytes, or what is said of each of them: all ones where it holds.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(super) struct Lanes(__m128i);

#[cfg(target_arch = "x86_64")]
impl Lanes {
    /// The bytes in their order.
    #[inline]
    pub(super) fn of(bytes: &[u8; LEN]) -> Self {
        // SAFETY: sixteen bytes can be read there, at any alignment; every x86-64 processor has SSE2.
        Self(unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) })
    }

    /// Which bytes are `byte`.
    #[inline]
    pub(super) fn equal(self, byte: u8) -> Self {
        // SAFETY: every x86-64 processor has SSE2.
        Self(unsafe { _mm_cmpeq_epi8(self.0, _mm_set1_epi8(byte.cast_signed())) })
    }

    /// Which bytes are the other's.
    #[inline]
    pub(super) fn same(self, other: Self) -> Self {
        // SAFETY: every x86-64 processor has SSE2.
        Self(unsafe { _mm_cmpeq_epi8(self.0, other.0) })
    }

    /// Which bytes are `first` to `last`.
    #[inline]
    pub(super) fn within(self, first: u8, last: u8) -> Self {
        // SAFETY: every x86-64 processor has SSE2.
        Self(unsafe {
            let above = _mm_sub_epi8(self.0, _mm_set1_epi8(first.cast_signed()));
            let width = _mm_set1_epi8((last - first).cast_signed());
            _mm_cmpeq_epi8(_mm_min_epu8(above, width), above)
        })
    }

    /// Which bytes are at most `last`.
    #[inline]
    pub(super) fn up_to(self, last: u8) -> Self {
        // SAFETY: every x86-64 processor has SSE2.
        Self(unsafe {
            let beyond = _mm_subs_epu8(self.0, _mm_set1_epi8(last.cast_signed()));
            _mm_cmpeq_epi8(beyond, _mm_setzero_si128())
        })
    }

    /// What holds by one or the other.
    #[inline]
    pub(super) fn or(self, other: Self) -> Self {
        // SAFETY: every x86-64 processor has SSE2.
        Self(unsafe { _mm_or_si128(self.0, other.0) })
    }

    /// What holds by this and not by the other.
    #[inline]
    pub(super) fn but(self, other: Self) -> Self {
        // SAFETY: every x86-64 processor has SSE2.
        Self(unsafe { _mm_andnot_si128(other.0, self.0) })
    }

    /// A bit for each byte, the first byte's the lowest.
    #[inline]
    pub(super) fn bits(self) -> u32 {
        // SAFETY: every x86-64 processor has SSE2.
        unsafe { _mm_movemask_epi8(self.0) }.cast_unsigned()
    }
}

/// Sixteen bytes, or what is said of each of them: all ones where it holds.
#[cfg(not(target_arch = "x86_64"))]
#[derive(Clone, Copy)]
pub(super) struct Lanes([u8; LEN]);

#[cfg(not(target_arch = "x86_64"))]
impl Lanes {
    /// The bytes in their order.
    pub(super) fn of(bytes: &[u8; LEN]) -> Self {
        Self(*bytes)
    }

    /// Which bytes are `byte`.
    pub(super) fn equal(self, byte: u8) -> Self {
        self.within(byte, byte)
    }

    /// Which bytes are `first` to `last`.
    pub(super) fn within(self, first: u8, last: u8) -> Self {
        Self(self.0.map(|byte| {
            if (first..=last).contains(&byte) {
                u8::MAX
            } else {
                0
            }
        }))
    }

    /// Which bytes are the other's.
    pub(super) fn same(self, other: Self) -> Self {
        Self(std::array::from_fn(|place| {
            if self.0[place] == other.0[place] {
                u8::MAX
            } else {
                0
            }
        }))
    }

    /// Which bytes are at most `last`.
    pub(super) fn up_to(self, last: u8) -> Self {
        self.within(0, last)
    }

    /// What holds by one or the other.
    pub(super) fn or(self, other: Self) -> Self {
        Self(std::array::from_fn(|place| self.0[place] | other.0[place]))
    }

    /// What holds by this and not by the other.
    pub(super) fn but(self, other: Self) -> Self {
        Self(std::array::from_fn(|place| self.0[place] & !other.0[place]))
    }

    /// A bit for each byte, the first byte's the lowest.
    pub(super) fn bits(self) -> u32 {
        let bit = |(place, byte): (usize, &u8)| u32::from(byte & 1) << place;
        self.0.iter().enumerate().map(bit).sum()
    }
}
