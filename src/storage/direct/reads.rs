//! Windows of stretches that are being read.

use std::collections::VecDeque;
use std::fmt;
use std::io;

use super::arena::Arena;
use super::arrange::Arrangement;
use super::engine::Completion;
use super::kept::{Direct, Reader, Tools};
use crate::error::{Error, Result};
use crate::storage::StoredFile;

/// The most stretches of a window, and the bytes from which one is large: two windows are
/// several times what is in flight, and fit in a cache.
pub(crate) const WINDOW_STRETCHES: usize = 1024;
pub(crate) const WINDOW_BYTES: usize = 4 << 20;

/// The windows that are read at a time: while the last reads of one are waited for, those of
/// the next are in flight.
const WINDOWS: usize = 2;

/// Completions that are worth waking up for, where more are waited for.
const WAKE: usize = 16;

/// Arenas that are kept are no larger.
const LARGEST_KEPT: usize = 4 * WINDOW_BYTES;

/// A window: its stretches, their reads, and the memory that they end in.
#[derive(Default)]
pub(super) struct Window {
    arrangement: Arrangement,
    arena: Option<Arena>,
    /// What its reads are told from those of another window by.
    slot: u32,
    /// The next piece to be read, and how many are not here yet.
    next: usize,
    missing: usize,
}

/// A window that was read.
pub(crate) struct Filled(Window);

impl Filled {
    /// `bytes` bytes from the start of a stretch, by its number in the count.
    #[inline]
    pub(crate) fn get(&self, index: usize, bytes: usize) -> Option<&[u8]> {
        let start = self.0.arrangement.place(index)?;
        if bytes == 0 {
            return Some(&[]);
        }
        let arena = self.0.arena.as_ref()?;
        // SAFETY: `DirectReads::finish`, which alone makes a `Filled`, saw every read of the
        // window complete; and none is started before it is given back by value.
        let arena = unsafe { arena.as_slice() };
        arena.get(start..start.checked_add(bytes)?)
    }
}

/// Reads of one thread: windows that were begun and are not finished, oldest first.
///
/// An arena is freed, seen or given away only when no read into it is in flight: a window
/// leaves `windows` with nothing missing, or after all reads were waited for.
pub(crate) struct DirectReads<'a> {
    files: &'a [StoredFile],
    reader: Reader<'a>,
    /// Taken where this is dropped.
    tools: Option<Tools>,
    windows: VecDeque<Window>,
    slots: u32,
    failure: Option<Error>,
    /// Nothing is started any more.
    failed: bool,
}

impl<'a> DirectReads<'a> {
    pub(crate) fn new(files: &'a [StoredFile], direct: &'a Direct) -> Result<Self> {
        let (tools, reader) = direct.take()?;
        Ok(DirectReads {
            files,
            reader,
            tools: Some(tools),
            windows: VecDeque::with_capacity(WINDOWS),
            slots: 0,
            failure: None,
            failed: false,
        })
    }

    /// True where another window can be begun.
    pub(crate) fn has_room(&self) -> bool {
        self.windows.len() < WINDOWS
    }

    /// Begins to read the stretches that `want` adds.
    pub(crate) fn begin(&mut self, want: impl FnOnce(&mut Arrangement)) -> Result<()> {
        let spare = self.tools.as_mut().and_then(|tools| tools.windows.pop());
        let mut window = spare.unwrap_or_default();
        window.arrangement.clear();
        want(&mut window.arrangement);
        window.arrangement.arrange(|file| self.files.get(file).map_or(1, StoredFile::alignment));
        let bytes = window.arrangement.arena_bytes;
        if window.arena.as_ref().is_none_or(|arena| arena.bytes() < bytes) {
            window.arena = None;
            let fresh = Arena::new(bytes.max(WINDOW_BYTES));
            window.arena = Some(fresh.map_err(|_| Error::OutputMemory { bytes: bytes as u128 })?);
        }
        window.next = 0;
        window.missing = window.arrangement.pieces.len();
        window.slot = self.slots;
        self.slots = self.slots.wrapping_add(1);
        self.windows.push_back(window);
        self.top_up();
        self.go_on(0)
    }

    /// Takes what is completed and starts what is next, without waiting.
    pub(crate) fn pump(&mut self) -> Result<()> {
        self.take_completed();
        self.top_up();
        self.go_on(0)
    }

    /// Waits for the oldest window, while the others are read on.
    pub(crate) fn finish(&mut self) -> Result<Option<Filled>> {
        loop {
            self.take_completed();
            if let Some(failure) = self.failure.take() {
                return Err(failure);
            }
            self.top_up();
            let Some(oldest) = self.windows.front() else { return Ok(None) };
            if oldest.missing == 0 {
                self.go_on(0)?;
                return Ok(self.windows.pop_front().map(Filled));
            }
            let missing = oldest.missing;
            self.go_on(missing.min(WAKE))?;
        }
    }

    /// Takes a window back, for its memory to be used again.
    pub(crate) fn give_back(&mut self, filled: Filled) {
        let Some(tools) = &mut self.tools else { return };
        if filled.0.arena.as_ref().is_some_and(|arena| arena.bytes() <= LARGEST_KEPT) {
            tools.windows.push(filled.0);
        }
    }

    /// Starts reads until as many are in flight as may be.
    fn top_up(&mut self) {
        let depth = self.reader.depth();
        let Some(tools) = self.tools.as_mut().filter(|_| !self.failed) else { return };
        for window in &mut self.windows {
            while window.next < window.arrangement.pieces.len() {
                if tools.engine.in_flight() >= depth
                    || !window.start(tools, self.files, window.next)
                {
                    return;
                }
                window.next += 1;
            }
        }
    }

    /// Lets the engine work, and waits for a number of completions.
    fn go_on(&mut self, completions: usize) -> Result<()> {
        let Some(tools) = &mut self.tools else { return Ok(()) };
        let completions = completions.min(tools.engine.in_flight());
        let Err(source) = tools.engine.wait(completions) else { return Ok(()) };
        self.failed = true;
        let path = self.files.first().map(StoredFile::path).unwrap_or("".as_ref());
        Err(Error::io("read", path, source))
    }

    fn take_completed(&mut self) {
        while let Some(completion) = self.tools.as_mut().and_then(|tools| tools.engine.completed())
        {
            self.completed(completion);
        }
    }

    fn completed(&mut self, completion: Completion) {
        let Some(tools) = &mut self.tools else { return };
        let slot = completion.id >> 32;
        let index = usize::try_from(completion.id & 0xffff_ffff).unwrap_or(usize::MAX);
        let windows = &mut self.windows;
        let Some(window) = windows.iter_mut().find(|window| u64::from(window.slot) == slot) else {
            return;
        };
        match window.settle(index, completion.result, self.files) {
            Ok(true) => window.missing -= 1,
            // The rest of it; where none can be started now, it is read plainly.
            Ok(false) if self.failed || window.start(tools, self.files, index) => {}
            Ok(false) => match window.read_plainly(index, self.files) {
                Ok(()) => window.missing -= 1,
                Err(error) => self.fail(error),
            },
            Err(error) => self.fail(error),
        }
    }

    fn fail(&mut self, error: Error) {
        self.failed = true;
        self.failure.get_or_insert(error);
    }
}

impl Window {
    /// Starts a read, or what is left of one; false where the engine is full.
    fn start(&mut self, tools: &mut Tools, files: &[StoredFile], index: usize) -> bool {
        let Some(piece) = self.arrangement.pieces.get(index) else { return false };
        let direct = files.get(piece.file).and_then(StoredFile::direct);
        let (Some(direct), Some(arena)) = (direct, &self.arena) else { return false };
        let left = piece.bytes - piece.done;
        let place = arena.place(piece.at + piece.done, left);
        let id = u64::from(self.slot) << 32 | index as u64;
        let offset = piece.offset + piece.done as u64;
        // SAFETY: the place lies within the arena, which is initialised; no other piece ends
        // there, for pieces do not overlap; and `DirectReads` keeps the arena, and lets
        // nobody see it, until the completion was taken.
        unsafe { tools.engine.start(direct.file(), offset, place, left, id) }
    }

    /// Takes note of what came: true where it is all that was needed, false where the rest
    /// is to be read.
    fn settle(
        &mut self,
        index: usize,
        result: io::Result<usize>,
        files: &[StoredFile],
    ) -> Result<bool> {
        let Some(piece) = self.arrangement.pieces.get_mut(index) else { return Ok(true) };
        let Some(file) = files.get(piece.file) else { return Ok(true) };
        let came = match result {
            Ok(came) => came,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            // A file system that wants other multiples than it said, or has direct reads but at
            // the end of a file.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported
                ) =>
            {
                let end = piece.offset + piece.bytes as u64;
                if end <= file.bytes()
                    && let Some(direct) = file.direct()
                {
                    direct.give_up();
                }
                0
            }
            Err(source) => {
                let at = piece.offset + piece.done as u64;
                let source = io::Error::new(source.kind(), FailedAt { at, source });
                return Err(Error::io("read", file.path(), source));
            }
        };
        if piece.done + came >= piece.needed {
            return Ok(true);
        }
        // On from a whole block, as long as it gets on.
        let block = usize::try_from(file.alignment()).unwrap_or(1);
        let done = (piece.done + came) / block * block;
        if done > piece.done {
            piece.done = done;
            return Ok(false);
        }
        self.read_plainly(index, files).map(|()| true)
    }

    /// Reads a piece through the page cache, which every file system can do, and which tells
    /// what is wrong with a file that ends early.
    fn read_plainly(&mut self, index: usize, files: &[StoredFile]) -> Result<()> {
        let Some(piece) = self.arrangement.pieces.get(index) else { return Ok(()) };
        let (Some(file), Some(arena)) = (files.get(piece.file), &self.arena) else { return Ok(()) };
        let place = arena.place(piece.at, piece.needed);
        // SAFETY: the place lies within the arena, which is initialised. The piece's own read
        // is complete, and no other one ends there.
        let out = unsafe { std::slice::from_raw_parts_mut(place, piece.needed) };
        file.read_at(piece.offset, out)
    }
}

impl Drop for DirectReads<'_> {
    fn drop(&mut self) {
        let Some(mut tools) = self.tools.take() else { return };
        while tools.engine.in_flight() > 0 {
            let in_flight = tools.engine.in_flight();
            if tools.engine.wait(in_flight).is_err() {
                // What is in flight may still arrive: its memory must never be used again.
                std::mem::forget(std::mem::take(&mut self.windows));
                std::mem::forget(tools);
                return;
            }
            while tools.engine.completed().is_some() {}
        }
        let windows = self.windows.drain(..).filter(|window| {
            window.arena.as_ref().is_some_and(|arena| arena.bytes() <= LARGEST_KEPT)
        });
        tools.windows.extend(windows);
        tools.windows.truncate(WINDOWS);
        self.reader.keep(tools);
    }
}

/// Where in a file a read failed.
#[derive(Debug)]
struct FailedAt {
    at: u64,
    source: io::Error,
}

impl fmt::Display for FailedAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (at byte {})", self.source, self.at)
    }
}

impl std::error::Error for FailedAt {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    /// Bytes that tell where they are from.
    fn content(file: usize, bytes: usize) -> Vec<u8> {
        (0..bytes).map(|at| (at * 7 + at / 251 + file * 91) as u8).collect()
    }

    fn stored(directory: &std::path::Path, file: usize, bytes: usize) -> StoredFile {
        let path = directory.join(format!("{file}"));
        std::fs::write(&path, content(file, bytes)).unwrap();
        StoredFile::open(&path).unwrap()
    }

    fn read_all(files: &[StoredFile], direct: &Direct, stretches: &[(usize, u64, u64)]) {
        let mut reads = DirectReads::new(files, direct).unwrap();
        for part in stretches.chunks(50) {
            reads
                .begin(|wanted| {
                    part.iter()
                        .for_each(|(file, offset, bytes)| wanted.add(*file, *offset, *bytes));
                })
                .unwrap();
            let filled = reads.finish().unwrap().unwrap();
            for (index, (file, offset, bytes)) in part.iter().enumerate() {
                let (start, length) = (*offset as usize, *bytes as usize);
                let expected = &content(*file, start + length)[start..];
                assert_eq!(filled.get(index, length).unwrap(), expected, "{file} {offset} {bytes}");
            }
            assert_eq!(filled.get(part.len(), 1), None);
            reads.give_back(filled);
        }
    }

    /// Stretches of three files, the ends of the files among them.
    const STRETCHES: [(usize, u64, u64); 9] = [
        (0, 0, 10_001),
        (1, 700_000, 77),
        (2, 5, 6),
        (0, 9999, 2),
        (1, 0, 700_077),
        (2, 8000, 0),
        (2, 0, 9216),
        (1, 131_071, 2),
        (0, 4096, 4096),
    ];

    fn three(directory: &std::path::Path) -> Vec<StoredFile> {
        [10_001, 700_077, 9216]
            .iter()
            .enumerate()
            .map(|(file, bytes)| stored(directory, file, *bytes))
            .collect()
    }

    #[test]
    fn stretches_of_several_files_come_whole_by_rings_and_by_threads() {
        let directory = tempfile::tempdir_in(".").unwrap();
        let mut files = three(directory.path());
        files.iter_mut().for_each(|file| file.open_direct().unwrap());
        for io_uring in [true, false] {
            let direct = Direct::new(io_uring);
            read_all(&files, &direct, &STRETCHES);
            read_all(&files, &direct, &STRETCHES[..1]);
            read_all(&files, &direct, &[]);
        }
    }

    #[test]
    fn a_file_system_that_refuses_the_reads_is_read_plainly() {
        let directory = tempfile::tempdir_in(".").unwrap();
        for io_uring in [true, false] {
            let mut files = three(directory.path());
            files.iter_mut().for_each(StoredFile::open_misaligned);
            let refusing = files[0].direct().unwrap().bypasses();
            read_all(&files, &Direct::new(io_uring), &STRETCHES);
            read_all(&files, &Direct::new(io_uring), &STRETCHES);
            let bypasses = |file: &StoredFile| file.direct().unwrap().bypasses();
            if refusing && cfg!(target_os = "linux") {
                assert!(!bypasses(&files[1]), "it was learnt");
            }
        }
    }

    #[test]
    fn what_is_dropped_in_flight_is_waited_for() {
        let directory = tempfile::tempdir_in(".").unwrap();
        let mut files = three(directory.path());
        files.iter_mut().for_each(|file| file.open_direct().unwrap());
        for io_uring in [true, false] {
            let direct = Direct::new(io_uring);
            for _ in 0..20 {
                let mut reads = DirectReads::new(&files, &direct).unwrap();
                reads.begin(|wanted| wanted.add(1, 3, 700_000)).unwrap();
                reads.begin(|wanted| wanted.add(0, 3, 9000)).unwrap();
                assert!(!reads.has_room());
                drop(reads);
                read_all(&files, &direct, &STRETCHES);
            }
        }
    }

    #[test]
    fn a_failed_read_names_its_file_and_place() {
        let directory = tempfile::tempdir_in(".").unwrap();
        let mut files = three(directory.path());
        for io_uring in [true, false] {
            // A descriptor of a directory: every read fails, and not for want of alignment.
            files[1].open_another(&File::open(directory.path()).unwrap());
            let direct = Direct::new(io_uring);
            let mut reads = DirectReads::new(&files, &direct).unwrap();
            reads.begin(|wanted| wanted.add(1, 5000, 300_000)).unwrap();
            let Err(error) = reads.finish() else { panic!("a directory was read") };
            let Error::Io { operation: "read", path, source } = &error else { panic!("{error}") };
            assert!(path.ends_with("1"), "{error}");
            assert_eq!(source.kind(), io::ErrorKind::IsADirectory);
            assert!(error.to_string().contains("(at byte "), "{error}");
        }
    }
}
