//! Where data goes: standard output, or a file that is there whole or not at all.

use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use embmap::Error;
use tempfile::TempPath;

use super::escape::printable_path;

/// True for the path that means standard output (or standard input).
pub(crate) fn is_dash(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// An output of a subcommand. What was written to a file shows only after
/// [`finish`](Output::finish).
pub(crate) struct Output {
    writer: BufWriter<Box<dyn Write>>,
    path: PathBuf,
    publish: Option<Publish>,
}

struct Publish {
    /// The file that is written to, once more.
    file: File,
    temporary: TempPath,
    replace: bool,
}

impl Output {
    /// Standard output, locked and buffered.
    pub(crate) fn stdout() -> Self {
        Output::stream(Box::new(io::stdout().lock()), PathBuf::from("standard output"))
    }

    fn stream(stream: Box<dyn Write>, path: PathBuf) -> Self {
        Output { writer: buffered(stream), path, publish: None }
    }

    /// Opens an output; `-` is standard output.
    pub(crate) fn create(path: &Path, replace: bool) -> anyhow::Result<Self> {
        if is_dash(path) {
            return Ok(Output::stdout());
        }
        // A link is followed, so that what it leads to is replaced and not the link.
        let path = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
        let failed = |error| Error::Io { operation: "create", path: path.clone(), source: error };
        if let Ok(status) = path.symlink_metadata() {
            if status.is_dir() {
                return Err(failed(io::ErrorKind::IsADirectory.into()).into());
            }
            if !status.is_file() {
                let file = File::options().write(true).open(&path).map_err(failed)?;
                return Ok(Output::stream(Box::new(file), path));
            }
            if !replace {
                return Err(exists(&path).into());
            }
        }
        let directory = path.parent().filter(|it| !it.as_os_str().is_empty());
        // Opened by ourselves: tempfile's own opener makes files private, and hides the
        // system's answer behind a name that nobody asked for.
        let temporary = tempfile::Builder::new()
            .prefix(".embmap-")
            .make_in(directory.unwrap_or(Path::new(".")), |path| File::create_new(path))
            .map_err(failed)?;
        let (file, temporary) = temporary.into_parts();
        let again = file.try_clone().map_err(failed)?;
        let publish = Some(Publish { file: again, temporary, replace });
        Ok(Output { writer: buffered(Box::new(file)), path, publish })
    }

    /// True where this is standard output, a pipe or a device.
    pub(crate) fn is_stream(&self) -> bool {
        self.publish.is_none()
    }

    /// Writes over the first bytes of a file, where what belongs there is known only at the end.
    pub(crate) fn rewrite_start(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.flush()?;
        let Some(Publish { file, .. }) = &mut self.publish else {
            return Err(io::ErrorKind::NotSeekable.into());
        };
        let written = file
            .seek(SeekFrom::Start(0))
            .and_then(|_| file.write_all(bytes))
            .and_then(|()| file.seek(SeekFrom::End(0)));
        written.map(|_| ()).map_err(|error| self.named(&error))
    }

    /// Ends the output and puts the file in its place.
    pub(crate) fn finish(mut self) -> anyhow::Result<()> {
        self.flush()?;
        let Some(Publish { temporary, replace, .. }) = self.publish else { return Ok(()) };
        let published = if replace {
            temporary.persist(&self.path)
        } else {
            temporary.persist_noclobber(&self.path)
        };
        published.map_err(|failed| match failed.error.kind() {
            io::ErrorKind::AlreadyExists => exists(&self.path),
            _ => Error::Io { operation: "rename", path: self.path.clone(), source: failed.error },
        })?;
        Ok(())
    }

    /// The path is added here: a full disk is told by whoever writes, far from any path.
    fn named(&self, error: &io::Error) -> io::Error {
        io::Error::new(
            error.kind(),
            format!("cannot write {}: {error}", printable_path(&self.path)),
        )
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writer.write(bytes).map_err(|error| self.named(&error))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush().map_err(|error| self.named(&error))
    }
}

fn buffered(writer: Box<dyn Write>) -> BufWriter<Box<dyn Write>> {
    BufWriter::with_capacity(1 << 16, writer)
}

fn exists(path: &Path) -> Error {
    Error::Exists { path: path.to_path_buf() }
}
