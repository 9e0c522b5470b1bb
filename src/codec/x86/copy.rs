//! Prefetches and copies past the caches.
//!
//! A store to a line that is not in a cache reads the line first; a non-temporal store of a
//! whole line does not (Intel, "Optimization Reference Manual"; AMD, "Software Optimization
//! Guide for Zen 4"). So only whole lines are written that way, and the ends of a row as usual.

use std::arch::x86_64::{__m128i, _MM_HINT_T0, _mm_prefetch, _mm_sfence, _mm_stream_si128};

use bytemuck::{Pod, Zeroable};

/// The bytes of a cache line.
pub(super) const LINE: usize = 64;

/// One cache line of an output.
#[repr(C, align(64))]
#[derive(Clone, Copy)]
struct Line([__m128i; 4]);

// SAFETY: a `Line` is four vectors of 16 bytes in 64 bytes, so it has no padding; all bit
// patterns are valid for `__m128i`, all zeros included, and it is `Copy`.
#[allow(unsafe_code)]
unsafe impl Zeroable for Line {}
// SAFETY: as above.
#[allow(unsafe_code)]
unsafe impl Pod for Line {}

#[inline]
pub(in crate::codec) fn prefetch(row: &[u8], lines: usize) {
    for at in (0..row.len().min(lines * LINE)).step_by(LINE) {
        let line = &raw const row[at];
        // SAFETY: a prefetch reads nothing that the program sees and cannot fault. SSE is
        // part of x86-64.
        #[allow(unsafe_code)]
        unsafe {
            _mm_prefetch::<_MM_HINT_T0>(line.cast());
        }
    }
}

/// Asks for the cache line that lies so many bytes behind the start of what is read now.
#[inline]
pub(super) fn prefetch_behind(reading: &[u8], bytes: usize) {
    let line = reading.as_ptr().wrapping_add(bytes);
    // SAFETY: a prefetch reads nothing that the program sees and cannot fault, whatever lies
    // there. SSE is part of x86-64.
    #[allow(unsafe_code)]
    unsafe {
        _mm_prefetch::<_MM_HINT_T0>(line.cast());
    }
}

/// Asks for lines from a place on, which need not lie within the bytes.
#[inline]
pub(in crate::codec) fn prefetch_at(bytes: &[u8], start: usize, lines: usize) {
    let first = bytes.as_ptr().wrapping_add(start);
    for line in 0..lines {
        // SAFETY: a prefetch reads nothing that the program sees and cannot fault, whatever the
        // address. SSE is part of x86-64.
        #[allow(unsafe_code)]
        unsafe {
            _mm_prefetch::<_MM_HINT_T0>(first.wrapping_add(line * LINE).cast());
        }
    }
}

pub(in crate::codec) fn stream_copy(from: &[u8], to: &mut [u8]) {
    let (head, lines, tail) = bytemuck::pod_align_to_mut::<u8, Line>(to);
    let (from_head, from) = from.split_at(head.len());
    let (from_lines, from_tail) = from.split_at(lines.len() * LINE);
    head.copy_from_slice(from_head);
    for (from, line) in from_lines.chunks_exact(LINE).zip(lines) {
        let Line(vectors) = bytemuck::pod_read_unaligned(from);
        for (vector, place) in vectors.into_iter().zip(&mut line.0) {
            // SAFETY: `place` is a `&mut __m128i`, so it may be written and lies at a
            // multiple of 16. SSE2 is part of x86-64. `stream_fence` orders the store.
            #[allow(unsafe_code)]
            unsafe {
                _mm_stream_si128(place, vector);
            }
        }
    }
    tail.copy_from_slice(from_tail);
}

#[inline]
pub(in crate::codec) fn stream_fence() {
    // SAFETY: SSE, all that the instruction asks for, is part of x86-64.
    #[allow(unsafe_code)]
    unsafe {
        _mm_sfence();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_place_and_length_is_copied_and_nothing_else() {
        let from: Vec<u8> = (0..400u32).map(|i| (i * 7 + i / 5) as u8).collect();
        for start in 0..70 {
            for length in [0, 1, 15, 16, 63, 64, 65, 128, 200, 259] {
                for skip in [0, 1, 3] {
                    let mut to = vec![0xee; 400];
                    let (before, after) = (start, start + length);
                    stream_copy(&from[skip..skip + length], &mut to[before..after]);
                    stream_fence();
                    assert_eq!(to[before..after], from[skip..skip + length]);
                    assert!(to[..before].iter().chain(&to[after..]).all(|byte| *byte == 0xee));
                }
            }
        }
    }

    #[test]
    fn a_prefetch_may_ask_for_more_than_there_is() {
        for length in [0, 1, 64, 65] {
            prefetch(&vec![1; length], 4);
            prefetch_at(&vec![1; length], length + 7, 4);
            prefetch_at(&[], usize::MAX, 4);
        }
    }
}
