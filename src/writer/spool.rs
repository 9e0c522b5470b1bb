//! Bytes put aside until their place in the file comes: in memory up to a bound, then in a
//! file without a name, which no crash can leave behind.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use crate::publish::{Operations, read_exact_at};

/// The bytes read back at once.
const PIECE: usize = 1 << 20;

/// A growing run of bytes.
pub(crate) struct Spool {
    operations: Operations,
    directory: Arc<Path>,
    /// What follows the spilled bytes.
    memory: Vec<u8>,
    /// The bytes that are kept in memory before they are spilled.
    most: usize,
    file: Option<File>,
    spilled: u64,
}

impl Spool {
    /// An empty spool that spills into `directory` whenever it holds `most` bytes.
    pub(crate) fn new(operations: &Operations, directory: &Arc<Path>, most: usize) -> Self {
        Spool {
            operations: operations.clone(),
            directory: Arc::clone(directory),
            memory: Vec::new(),
            most,
            file: None,
            spilled: 0,
        }
    }

    /// Another empty spool that spills where this one does.
    pub(crate) fn sibling(&self) -> Self {
        Spool::new(&self.operations, &self.directory, self.most)
    }

    /// The number of bytes put aside.
    pub(crate) fn bytes(&self) -> u64 {
        self.spilled + self.memory.len() as u64
    }

    /// Fills `out` with the bytes from `offset` on.
    pub(crate) fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let left = self.spilled.saturating_sub(offset);
        let in_file = usize::try_from(left).unwrap_or(usize::MAX).min(out.len());
        let (file_part, memory_part) = out.split_at_mut(in_file);
        if let (Some(file), false) = (&self.file, file_part.is_empty()) {
            read_exact_at(file, file_part, offset)?;
        }
        if memory_part.is_empty() {
            return Ok(());
        }
        let start = usize::try_from(offset.saturating_sub(self.spilled)).unwrap_or(usize::MAX);
        let end = start.saturating_add(memory_part.len());
        let held = self.memory.get(start..end).ok_or(io::ErrorKind::UnexpectedEof)?;
        memory_part.copy_from_slice(held);
        Ok(())
    }

    /// Hands all bytes on, in order.
    pub(super) fn copy_to(&self, out: &mut impl Write) -> io::Result<()> {
        if let Some(file) = &self.file {
            let mut piece = vec![0; PIECE];
            let mut offset = 0;
            while offset < self.spilled {
                let left = usize::try_from(self.spilled - offset).unwrap_or(usize::MAX);
                let piece = &mut piece[..left.min(PIECE)];
                read_exact_at(file, piece, offset)?;
                out.write_all(piece)?;
                offset += piece.len() as u64;
            }
        }
        out.write_all(&self.memory)
    }

    fn spill(&mut self) -> io::Result<()> {
        let file = match self.file.take() {
            Some(file) => file,
            None => self.operations.create_spool(&self.directory)?,
        };
        self.operations.write_spool(&file, self.spilled, &self.memory)?;
        self.spilled += self.memory.len() as u64;
        self.memory.clear();
        self.file = Some(file);
        Ok(())
    }
}

impl Write for Spool {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.memory.extend_from_slice(bytes);
        if self.memory.len() >= self.most {
            self.spill()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
