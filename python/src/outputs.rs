//! Memory for fresh outputs: in large pages, and used again when Python lets it go.
//!
//! A page that is new to a process costs more than the rows that are copied into it, so a
//! block that an array has given up is kept for the next output. A block leaves Python only
//! when the last array over it is gone, and none is handed out twice. What is kept is the
//! system's to take back when it runs short.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use memmap2::MmapMut;
use pyo3::prelude::*;

use crate::view;

/// The bytes below which an output is a small block of the allocator, and is not kept.
const SMALL: usize = 16 << 10;

/// The bytes from which a block is mapped by itself, in large pages where the system has them.
const MAPPED: usize = 1 << 20;

/// A large page, and what mapped blocks are multiples of.
const PAGE: usize = 2 << 20;

/// Where outputs start: at a cache line. Copies of whole rows are slower to a place 16 bytes behind
/// one, where allocators put their blocks.
const LINE: usize = 64;

/// The most blocks that are kept; looking through them costs next to nothing.
const MOST_KEPT: usize = 16;

/// The bytes that are kept where nothing was said.
const KEPT_BYTES: usize = 1 << 30;

static LIMIT: AtomicUsize = AtomicUsize::new(KEPT_BYTES);
static KEPT: Mutex<Kept> = Mutex::new(Kept { blocks: Vec::new(), bytes: 0 });

/// Blocks that nobody uses, the longest unused first.
struct Kept {
    blocks: Vec<Block>,
    bytes: usize,
}

enum Block {
    Heap(Vec<u64>),
    Mapped(MmapMut),
}

/// Memory of an output: `bytes` bytes, aligned for every dtype, of unknown content that may
/// change until it is written: who has one writes all of it before anybody reads.
pub(crate) struct Output {
    /// Taken when it is dropped.
    block: Option<Block>,
    bytes: usize,
}

impl Block {
    fn fresh(bytes: usize) -> Option<Block> {
        if bytes >= MAPPED {
            let length = bytes.checked_next_multiple_of(PAGE)?;
            let map = MmapMut::map_anon(length).ok()?;
            // Where there are no large pages it stays as it is.
            #[cfg(target_os = "linux")]
            let _ = map.advise(memmap2::Advice::HugePage);
            return Some(Block::Mapped(map));
        }
        Some(Block::Heap(bytemuck::try_zeroed_vec((bytes + LINE).div_ceil(size_of::<u64>())).ok()?))
    }

    /// How long an output may be that lies in it.
    fn bytes(&self) -> usize {
        match self {
            Block::Heap(words) => size_of_val(&words[start_of(words)..]),
            Block::Mapped(map) => map.len(),
        }
    }

    fn as_mut_slice(&mut self) -> &mut [u8] {
        match self {
            Block::Heap(words) => {
                let start = start_of(words);
                bytemuck::cast_slice_mut(&mut words[start..])
            }
            Block::Mapped(map) => map,
        }
    }
}

/// The first word at the start of a line.
fn start_of(words: &[u64]) -> usize {
    words.as_ptr().align_offset(LINE).min(words.len())
}

impl Output {
    /// Memory of a length, or `None` where there is not that much.
    pub(crate) fn take(bytes: usize) -> Option<Output> {
        let block = match if bytes < SMALL { None } else { kept(bytes) } {
            Some(block) => block,
            None => Block::fresh(bytes)?,
        };
        Some(Output { block: Some(block), bytes })
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The memory, to be filled before Python sees it.
    pub(crate) fn as_mut_slice(&mut self) -> &mut [u8] {
        self.block.as_mut().map_or(&mut [], |block| &mut block.as_mut_slice()[..self.bytes])
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if let Some(block) = self.block.take().filter(|block| block.bytes() >= SMALL) {
            keep(block);
        }
    }
}

/// A kept block that is long enough, and at most twice as long as it has to be.
fn kept(bytes: usize) -> Option<Block> {
    // Never waited for: a fork may have copied a lock that nobody will open.
    let mut kept = KEPT.try_lock().ok()?;
    let fits = |block: &Block| block.bytes() >= bytes && block.bytes() / 2 <= bytes;
    let index = kept.blocks.iter().rposition(fits)?;
    let block = kept.blocks.remove(index);
    kept.bytes -= block.bytes();
    Some(block)
}

fn keep(block: Block) {
    let limit = LIMIT.load(Ordering::Relaxed);
    if block.bytes() > limit {
        return;
    }
    if let Block::Mapped(map) = &block {
        let _ = view::offer_back(map);
    }
    let mut dropped = Vec::new();
    if let Ok(mut kept) = KEPT.try_lock() {
        kept.bytes += block.bytes();
        kept.blocks.push(block);
        while kept.bytes > limit || kept.blocks.len() > MOST_KEPT {
            let oldest = kept.blocks.remove(0);
            kept.bytes -= oldest.bytes();
            dropped.push(oldest);
        }
    }
    // Unmapping takes its time: without the lock.
    drop(dropped);
}

/// Reads or sets how many bytes of unused output memory are kept for the next outputs.
///
/// Returns the limit that was in force. 0 switches it off and frees what is kept.
#[pyfunction]
#[pyo3(signature = (limit=None))]
pub(crate) fn output_cache(limit: Option<usize>) -> usize {
    let Some(limit) = limit else { return LIMIT.load(Ordering::Relaxed) };
    let before = LIMIT.swap(limit, Ordering::Relaxed);
    let mut dropped = Vec::new();
    if let Ok(mut kept) = KEPT.try_lock() {
        while kept.bytes > limit {
            let oldest = kept.blocks.remove(0);
            kept.bytes -= oldest.bytes();
            dropped.push(oldest);
        }
    }
    drop(dropped);
    before
}
