//! From a path to a table: what it is, and how its bytes are to be reached.

use std::path::Path;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::format::MAGIC;
use crate::layout::Layout;
use crate::source::{self, SourceOptions, TensorInfo};
use crate::storage::{Direct, MapPolicy, StoredFile};
use crate::table::{Access, Budget, Table, Temperature};

mod describe;

use describe::{from_emb, from_source};

/// How long the threads of large gathers wait for the next one, where nothing was said: about
/// what it costs to wake one.
const SPIN: Duration = Duration::from_micros(50);

/// How to open a table.
///
/// A path is an `.emb`, `.safetensors`, `.gguf`, `.npy` or `.npz` file or a model directory. What
/// it is shows from its content, not from its name. What is no path may be the name of a model on
/// the Hugging Face hub, `org/name` or `org/name@revision`, and is found in the hub's local cache.
///
/// ```
/// use embmap::{Access, OpenOptions};
///
/// # fn main() -> Result<(), embmap::Error> {
/// let table = OpenOptions::new()
///     .tensor("lm_head.weight")
///     .access(Access::Read)
///     .threads(2)
///     .open("fixtures/sharded")?;
/// assert_eq!((table.vocab(), table.dim()), (256, 64));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default)]
pub struct OpenOptions {
    source: SourceOptions,
    access: Option<Access>,
    threads: Option<usize>,
    spin: Option<Duration>,
    temperature: Temperature,
    rss_budget: Option<u64>,
    allow_network_map: bool,
    no_io_uring: bool,
}

impl OpenOptions {
    /// The defaults: the tensor is found by its name, links stay inside the model directory,
    /// network file systems are not mapped, a thread for each core.
    #[must_use]
    pub fn new() -> Self {
        OpenOptions::default()
    }

    /// The tensor of a checkpoint that is the table, where it is not to be found by itself.
    ///
    /// Of a table in pieces, the name with `{}` in place of the number: the rows of
    /// `ngram_embedding.shard_{}.weight` are those of `shard_0`, then those of `shard_1`, up
    /// to the last, in whatever files they lie. Where pieces count from 1, it is `{1}`.
    ///
    /// Of an `.npz` archive, the name of the array.
    #[must_use]
    pub fn tensor(mut self, name: impl Into<String>) -> Self {
        self.source.tensor = Some(name.into());
        self
    }

    /// The tensor that holds the scales of a quantized one, where its name does not tell:
    /// one for the whole table or, with `{}` in place of the number, one for each piece.
    /// `none` reads the values without scales.
    #[must_use]
    pub fn scales(mut self, name: impl Into<String>) -> Self {
        self.source.scales = Some(name.into());
        self
    }

    /// The tensor that holds the biases of a quantized one, as [`scales`](OpenOptions::scales).
    #[must_use]
    pub fn biases(mut self, name: impl Into<String>) -> Self {
        self.source.biases = Some(name.into());
        self
    }

    /// What is asked of a foreign format.
    #[cfg(feature = "import")]
    pub(crate) fn source(&self) -> &SourceOptions {
        &self.source
    }

    /// Opens the raw rows of a model2vec table whose tokens' rows are made of them by a mapping or
    /// by weights, which is an error else: `StaticModel` looks tokens up.
    /// Any other table opens as it does without.
    ///
    /// ```
    /// # fn main() -> Result<(), embmap::Error> {
    /// let table = embmap::OpenOptions::new().static_model(true).open("fixtures/minilm-2k")?;
    /// assert_eq!(table.vocab(), 2003);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn static_model(mut self, yes: bool) -> Self {
        self.source.static_model = yes;
        self
    }

    /// How [`open`](OpenOptions::open) reaches the bytes; [`Access::Read`] unless said.
    #[must_use]
    pub fn access(mut self, access: Access) -> Self {
        self.access = Some(access);
        self
    }

    /// The threads that large gathers use; one for each core unless said.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = Some(threads);
        self
    }

    /// How long the threads of large gathers wait for the next one before they sleep; 50
    /// microseconds unless said.
    ///
    /// Waking a thread costs as much, so that gathers in close succession are faster, and
    /// those of 100 KiB and more can be shared at all. While they wait, threads use their cores;
    /// zero lets them sleep at once.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// # fn main() -> Result<(), embmap::Error> {
    /// let table = embmap::OpenOptions::new().spin(Duration::ZERO).open("fixtures/minilm-2k")?;
    /// # assert_eq!(table.vocab(), 2003);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn spin(mut self, time: Duration) -> Self {
        self.spin = Some(time);
        self
    }

    /// States whether rows are in memory or have to be read first; found out unless said.
    #[must_use]
    pub fn temperature(mut self, temperature: Temperature) -> Self {
        self.temperature = temperature;
        self
    }

    /// Keeps a mapped table's share of the process's resident set near or under a number of
    /// bytes: where gathers have mapped more, the map is [released](Table::release).
    ///
    /// The page cache is not evicted, so that what is released costs no read when it comes
    /// back, yet a minor fault. For processes whose resident set is limited or watched.
    /// Between two looks a gather may go over the budget, by an eighth on each thread, or by
    /// 32 MB where that is more. What is touched through slices counts when the next gather looks. Without effect
    /// where the system does not tell what is mapped.
    #[must_use]
    pub fn rss_budget(mut self, bytes: u64) -> Self {
        self.rss_budget = Some(bytes);
        self
    }

    /// Maps files on network file systems too, where a lost connection raises a signal.
    #[must_use]
    pub fn allow_network_map(mut self, yes: bool) -> Self {
        self.allow_network_map = yes;
        self
    }

    /// Whether [`Access::Direct`] may use `io_uring`; it does unless said, where the system
    /// has it and lets us. Else a pool of threads reads, which is somewhat slower.
    ///
    /// For sandboxes that end a process which tries; `EMBMAP_NO_IO_URING=1` does the same.
    #[must_use]
    pub fn io_uring(mut self, yes: bool) -> Self {
        self.no_io_uring = !yes;
        self
    }

    /// Follows links that lead out of a model directory.
    #[must_use]
    pub fn follow_links(mut self, yes: bool) -> Self {
        self.source.follow_links = yes;
        self
    }

    /// Opens a table without mapping it.
    ///
    /// # Errors
    ///
    /// Whatever [`Error`] says: the path cannot be read, is not a table, is damaged.
    /// [`Error::InvalidOption`] with [`Access::Map`], which asks for a promise: see
    /// [`map`](OpenOptions::map).
    pub fn open(self, path: impl AsRef<Path>) -> Result<Table> {
        match self.access.unwrap_or(Access::Read) {
            Access::Read => self.describe(path.as_ref()),
            Access::Direct => {
                let io_uring = !self.no_io_uring;
                open_direct(self.describe(path.as_ref())?, io_uring)
            }
            Access::Memory => load(self.describe(path.as_ref())?),
            Access::Map => Err(Error::InvalidOption {
                option: "access",
                reason: "mapping asks for a promise: call the unsafe `OpenOptions::map` (or \
                         `map_if_safe` for a sealed file)"
                    .to_owned(),
            }),
        }
    }

    /// Opens a table and maps its files: microseconds, whatever their size.
    ///
    /// # Safety
    ///
    /// As long as the table lives, nothing may write to its files or cut them, in this
    /// process or another. Replacing a file by rename, as [`TableWriter`](crate::TableWriter)
    /// does, is fine. A broken promise is undefined behaviour: rows that change under a
    /// slice, or a `SIGBUS` where the file ends early. [`Table::check_alive`] helps to notice.
    ///
    /// # Errors
    ///
    /// Whatever [`Error`] says; [`Error::NetworkFileSystem`] where the files lie on one.
    #[allow(unsafe_code)]
    pub unsafe fn map(self, path: impl AsRef<Path>) -> Result<Table> {
        let policy = MapPolicy::Promised { allow_network: self.allow_network_map };
        let table = self.describe(path.as_ref())?;
        // SAFETY: the caller's promise is the one that `map_files` asks for.
        unsafe { map_files(table, policy) }
    }

    /// Maps a table whose files the system proves immutable: sealed memfds, and files under
    /// fs-verity. Safe, and refused for any other file.
    ///
    /// # Errors
    ///
    /// [`Error::NotSealed`] where a file may be changed by someone, else as
    /// [`map`](OpenOptions::map).
    #[allow(unsafe_code)]
    pub fn map_if_safe(self, path: impl AsRef<Path>) -> Result<Table> {
        let table = self.describe(path.as_ref())?;
        // SAFETY: `MapPolicy::Immutable` asks for no promise: each file is mapped only where
        // memmap2 has seen that it cannot change.
        unsafe { map_files(table, MapPolicy::Immutable) }
    }

    /// Every tensor of a checkpoint, for choosing one with
    /// [`tensor`](OpenOptions::tensor).
    ///
    /// # Errors
    ///
    /// Whatever [`Error`] says: the path cannot be read, or its headers are damaged.
    ///
    /// ```
    /// # fn main() -> Result<(), embmap::Error> {
    /// let tensors = embmap::OpenOptions::new().list_tensors("fixtures/sharded")?;
    /// let norm = tensors.iter().find(|tensor| tensor.name == "model.norm.weight").unwrap();
    /// assert_eq!(norm.shape, [64]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn list_tensors(&self, path: impl AsRef<Path>) -> Result<Vec<TensorInfo>> {
        source::list_tensors(&source::locate(path.as_ref())?, self.source.follow_links)
    }

    fn refuse_names(&self) -> Result<()> {
        let SourceOptions { tensor, scales, biases, .. } = &self.source;
        for (option, name) in [("tensor", tensor), ("scales", scales), ("biases", biases)] {
            if let Some(name) = name {
                let reason = format!("an .emb file holds one table, and {name:?} was asked for");
                return Err(Error::InvalidOption { option, reason });
            }
        }
        Ok(())
    }

    /// Finds out what a path is and where its rows lie; reads headers alone.
    fn describe(self, path: &Path) -> Result<Table> {
        let path = &*source::locate(path)?;
        let status = std::fs::metadata(path).map_err(|error| Error::io("open", path, error))?;
        let file = if status.is_dir() { None } else { Some(StoredFile::open(path)?) };
        let mut table = match file {
            Some(file) if is_emb(&file)? => {
                self.refuse_names()?;
                from_emb(file)?
            }
            // A checkpoint may have its tokens beside it, so its path is needed.
            _ => from_source(source::open(path, &self.source)?, path)?,
        };
        table.threads = self.threads;
        table.spin = self.spin.unwrap_or(SPIN);
        table.temperature = self.temperature;
        table.budget = self.rss_budget.map(Budget::new);
        Ok(table)
    }
}

impl Table {
    /// Maps a table: an `.emb`, `.safetensors`, `.gguf`, `.npy` or `.npz` file or a model directory.
    ///
    /// Microseconds for an `.emb` file of any size; a checkpoint costs the reading of its
    /// header. [`OpenOptions`] has the choices.
    ///
    /// # Safety
    ///
    /// As long as the table lives, nothing may write to its files or cut them; replacing
    /// them by rename is fine. See [`OpenOptions::map`].
    ///
    /// # Errors
    ///
    /// Whatever [`Error`] says: the path cannot be read, is not a table, is damaged, or lies
    /// on a network file system.
    ///
    /// ```
    /// # fn main() -> Result<(), embmap::Error> {
    /// // SAFETY: the fixture is not written to while it is mapped.
    /// let table = unsafe { embmap::Table::map("fixtures/minilm-2k")? };
    /// assert_eq!(table.row::<half::f16>(2002)?.len(), 384);
    /// # Ok(())
    /// # }
    /// ```
    #[allow(unsafe_code)]
    pub unsafe fn map(path: impl AsRef<Path>) -> Result<Table> {
        // SAFETY: the caller's promise is the one that `OpenOptions::map` asks for.
        unsafe { OpenOptions::new().map(path) }
    }

    /// Maps a table whose files the system proves immutable; see
    /// [`OpenOptions::map_if_safe`].
    ///
    /// # Errors
    ///
    /// [`Error::NotSealed`] where a file may be changed by someone, else as
    /// [`map`](Table::map).
    pub fn map_if_safe(path: impl AsRef<Path>) -> Result<Table> {
        OpenOptions::new().map_if_safe(path)
    }

    /// Copies a table into owned, aligned memory.
    ///
    /// # Errors
    ///
    /// Whatever [`Error`] says; [`Error::OutOfMemory`] where the table does not fit.
    ///
    /// ```
    /// # fn main() -> Result<(), embmap::Error> {
    /// let table = embmap::Table::load("fixtures/minilm-2k")?;
    /// assert_eq!(table.vocab(), 2003);
    /// # Ok(())
    /// # }
    /// ```
    pub fn load(path: impl AsRef<Path>) -> Result<Table> {
        OpenOptions::new().access(Access::Memory).open(path)
    }

    /// A table from the bytes of an `.emb`, `.safetensors`, `.gguf`, `.npy` or `.npz` file, copied.
    /// Of the formats that have tokens `.emb` alone keeps them.
    ///
    /// # Errors
    ///
    /// Whatever [`Error`] says about bytes that are not a table.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bytes = std::fs::read("fixtures/minilm-2k/model.safetensors")?;
    /// let table = embmap::Table::from_bytes(&bytes)?;
    /// assert_eq!((table.vocab(), table.token_count()?), (2003, 0));
    /// # Ok(())
    /// # }
    /// ```
    pub fn from_bytes(bytes: &[u8]) -> Result<Table> {
        let file = StoredFile::from_bytes(bytes, "(bytes)")?;
        let path = file.path().to_path_buf();
        let mut table = if is_emb(&file)? {
            from_emb(file)?
        } else if source::is_known(&bytes[..bytes.len().min(9)]) {
            from_source(source::from_stored(file, &SourceOptions::default())?, &path)?
        } else {
            let reason = "expected the bytes of an .emb, .safetensors, .gguf, .npy or .npz file, and they \
                          begin as none does";
            return Err(Error::NoTable { path, reason: reason.to_owned() });
        };
        table.access = Access::Memory;
        Ok(table)
    }
}

fn is_emb(file: &StoredFile) -> Result<bool> {
    let start = file.bytes_at(0, file.bytes().min(MAGIC.len() as u64))?;
    let named_emb = file.path().extension().is_some_and(|extension| extension == "emb");
    Ok(*start == MAGIC || named_emb)
}

/// Copies what the table needs into memory: an `.emb` file whole, of a checkpoint the rows.
fn load(mut table: Table) -> Result<Table> {
    let layout = &table.layout;
    for (index, file) in table.files.iter_mut().enumerate() {
        let (start, end) =
            if table.info.format == "emb" { (0, file.bytes()) } else { rows_within(layout, index) };
        file.load(start, end.saturating_sub(start))?;
    }
    table.access = Access::Memory;
    Ok(table)
}

/// From the first to the last byte that rows take of a file.
fn rows_within(layout: &Layout, file: usize) -> (u64, u64) {
    let extents = layout.planes().flat_map(|plane| {
        let here = plane.extents().iter().filter(move |extent| extent.file == file);
        here.map(|extent| (extent.offset, extent.offset + plane.extent_bytes(extent)))
    });
    extents.fold((u64::MAX, 0), |(start, end), (first, last)| (start.min(first), end.max(last)))
}

/// Opens every file of a table once more, for direct reads.
fn open_direct(mut table: Table, io_uring: bool) -> Result<Table> {
    table.files.iter_mut().try_for_each(StoredFile::open_direct)?;
    table.direct = Some(Direct::new(io_uring));
    table.access = Access::Direct;
    Ok(table)
}

/// Maps every file of a table.
///
/// # Safety
///
/// As `StoredFile::map` asks, for each file, as long as the table lives.
#[allow(unsafe_code)]
unsafe fn map_files(mut table: Table, policy: MapPolicy) -> Result<Table> {
    for file in &mut table.files {
        // SAFETY: the caller gives the promise that `policy` asks for.
        unsafe { file.map(policy)? };
        // Without rows being asked for ahead, faults that read one page each are too slow.
        if table.temperature != Temperature::Warm {
            file.expect_random();
        }
    }
    table.access = Access::Map;
    Ok(table)
}
