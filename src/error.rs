//! What can go wrong, with the data a caller needs to act on it.

use std::io;
use std::path::PathBuf;

use crate::dtype::DType;

mod format;
mod place;
mod show;
mod system;

pub use format::FormatError;
pub use place::Place;
use show::{At, Candidates, RowCount, Shown, Token};

/// The crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong in embmap.
///
/// Each variant carries its data, and its message is one sentence that says what was
/// expected, what was found and what to do.
///
/// ```
/// use embmap::{Error, Table};
///
/// let error = Table::load("no/such/table.emb").unwrap_err();
/// assert!(matches!(error, Error::Io { operation: "open", .. }));
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A system call failed.
    #[error("cannot {operation} {}: {source}", Shown(path))]
    Io {
        /// What was attempted, as a verb: `open`, `read`, `map`, ...
        operation: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the system answered.
        #[source]
        source: io::Error,
    },

    /// An `.emb` file is damaged, cut, or of a version that this library does not know.
    #[error("{}: {source}", Shown(path))]
    Format {
        /// The `.emb` file.
        path: PathBuf,
        /// The exact finding.
        #[source]
        source: FormatError,
    },

    /// A file of a foreign format breaks that format's rules.
    #[error("{}: not a valid {format} file: {reason} (at {place})", Shown(path))]
    Foreign {
        /// The file.
        path: PathBuf,
        /// The format's name: `safetensors`, `model.safetensors.index.json`, ...
        format: &'static str,
        /// Where in the file.
        place: Place,
        /// What was expected and what was found.
        reason: String,
    },

    /// The path is neither a table nor a model directory that embmap can read.
    #[error("{}: no embedding table here: {reason}", Shown(path))]
    NoTable {
        /// The path that was asked for.
        path: PathBuf,
        /// What was looked for, what was found, and the way out.
        reason: String,
    },

    /// No tensor has the name that was asked for, or none could be picked as the embedding.
    #[error(
        "{}: {reason}; name one with --tensor (`OpenOptions::tensor`). {}",
        Shown(path),
        Candidates(candidates)
    )]
    Tensor {
        /// The file or model directory.
        path: PathBuf,
        /// Why no tensor was picked.
        reason: String,
        /// What there is to pick from, each as `name [shape] dtype`.
        candidates: Vec<String>,
    },

    /// The tensor is there but is not a table that embmap reads.
    #[error("{}: tensor {tensor:?} {reason}", Shown(path))]
    TensorForm {
        /// The file or model directory.
        path: PathBuf,
        /// The tensor's name.
        tensor: String,
        /// Its shape or dtype, what was expected, and what to do.
        reason: String,
    },

    /// The path is not a regular file.
    #[error(
        "{}: expected a regular file, found {kind}; give the path of a table or a model directory",
        Shown(path)
    )]
    NotRegularFile {
        /// The path.
        path: PathBuf,
        /// What it is instead.
        kind: &'static str,
    },

    /// The path leads out of the model directory through a link or a name.
    #[error(
        "{}: leads to {}, outside the model's directory; copy the file there, or allow it with --follow-links (`OpenOptions::follow_links`)",
        Shown(path),
        Shown(target)
    )]
    Outside {
        /// The path inside the model directory.
        path: PathBuf,
        /// Where it leads.
        target: PathBuf,
    },

    /// The file lies on a network file system, where a map can kill the process.
    #[error(
        "{}: lies on a network file system ({file_system}), where a lost connection kills a process that reads a map; use `Access::Read`, or allow it with `OpenOptions::allow_network_map`",
        Shown(path)
    )]
    NetworkFileSystem {
        /// The file.
        path: PathBuf,
        /// The file system's name.
        file_system: &'static str,
    },

    /// The file cannot be mapped safely: it is neither sealed nor under fs-verity.
    #[error(
        "{}: cannot be proven immutable ({reason}); use `Table::load`, `Access::Read`, or the unsafe `Table::map`",
        Shown(path)
    )]
    NotSealed {
        /// The file.
        path: PathBuf,
        /// What the system answered.
        reason: String,
    },

    /// The file shrank, grew or was written to since it was opened.
    #[error(
        "{}: changed while open: {reason}; rows read from it may be wrong, reopen it",
        Shown(path)
    )]
    FileChanged {
        /// The file.
        path: PathBuf,
        /// What was seen.
        reason: String,
    },

    /// The memory for a table could not be had.
    #[error(
        "{}: cannot allocate {bytes} bytes to hold it; map it instead (`Table::map`), or read it with `Access::Read`",
        Shown(path)
    )]
    OutOfMemory {
        /// The file.
        path: PathBuf,
        /// The number of bytes asked for.
        bytes: u64,
    },

    /// A map was refused for lack of address space or of map slots.
    #[error(
        "{}: cannot map {bytes} bytes: {source}; raise the limit on address space (ulimit -v) or on maps (vm.max_map_count), or use `Access::Read`",
        Shown(path)
    )]
    MapLimit {
        /// The file.
        path: PathBuf,
        /// The number of bytes to be mapped.
        bytes: u64,
        /// What the system answered.
        #[source]
        source: io::Error,
    },

    /// The process has too many files open.
    #[error(
        "{}: cannot be opened: {source}; raise the limit on open files (ulimit -n)",
        Shown(path)
    )]
    TooManyFiles {
        /// The file.
        path: PathBuf,
        /// What the system answered.
        #[source]
        source: io::Error,
    },

    /// A call that hands out memory was made on a table that is not in memory.
    #[error(
        "{operation} needs a table in memory, and this one is read at each call; use gather_into, or open it with `Table::map` or `Table::load`"
    )]
    NotMapped {
        /// The call.
        operation: &'static str,
    },

    /// The bytes of a row were asked for in one piece, and they lie in several places.
    #[error(
        "the scales of this table lie apart from its values, so no row is one piece of bytes; use gather_bytes_into, or convert the table to .emb, which keeps them together"
    )]
    RowApart,

    /// A run of rows was asked for, and rows lie in another order than that of their ids.
    #[error(
        "the rows of this table lie in an order of their own, so that no run of ids is one piece of bytes; use row, rows or gather_into, or convert the table with rows by their ids"
    )]
    RowsOrdered,

    /// An id is negative or not below `vocab`.
    #[error("id {id}{} is out of range: the table has {}", At(*position), RowCount(*vocab))]
    RowOutOfRange {
        /// The id that was asked for.
        id: i128,
        /// Its position in the batch, where it came in one.
        position: Option<usize>,
        /// The number of rows of the table.
        vocab: u64,
    },

    /// A typed row was asked for in another dtype than the stored one.
    #[error(
        "the table stores {stored}, and {requested} was asked for; ask for {stored}, or convert with gather_into"
    )]
    DTypeMismatch {
        /// The dtype of the request.
        requested: DType,
        /// The dtype of the table.
        stored: DType,
    },

    /// The rows do not start at multiples of the element's alignment.
    #[error(
        "rows lie at offset {offset} of the file, not a multiple of the {alignment} bytes that {dtype} needs: no typed slice can be handed out; use gather_into or encoded_row, or convert the table to .emb"
    )]
    Misaligned {
        /// The table's dtype.
        dtype: DType,
        /// The offset of the first row that is misaligned.
        offset: u64,
        /// The alignment that the dtype needs, in bytes.
        alignment: usize,
    },

    /// An output buffer has the wrong length.
    #[error("the output holds {got} elements, and {rows} rows of {row} elements need {expected}")]
    OutputLength {
        /// Rows asked for.
        rows: usize,
        /// Elements from one row to the next.
        row: usize,
        /// Elements needed.
        expected: u128,
        /// Elements there.
        got: usize,
    },

    /// The memory for an output could not be had.
    #[error("cannot allocate {bytes} bytes for the output; gather fewer rows at a time")]
    OutputMemory {
        /// The number of bytes asked for.
        bytes: u128,
    },

    /// The row stride of an output is shorter than a row.
    #[error("an output row stride of {got} elements is shorter than a row of {dim}")]
    OutputStride {
        /// Elements in a row.
        dim: u64,
        /// The stride asked for.
        got: usize,
    },

    /// A row handed to a writer has the wrong length.
    #[error(
        "{got} {unit} were handed to the writer, expected a whole number of rows of {expected}"
    )]
    RowLength {
        /// The length of a row.
        expected: u64,
        /// The length that was handed over.
        got: usize,
        /// What is counted: `elements` or `bytes`.
        unit: &'static str,
    },

    /// Rows of another dtype than the table's were handed to a writer.
    #[error(
        "rows of {got} were handed to the writer of a table of {expected}; convert them first, or create the table with {got}"
    )]
    RowDType {
        /// The dtype of the table.
        expected: DType,
        /// The dtype of the rows.
        got: DType,
    },

    /// A token is too long to be stored.
    #[error(
        "token {id} has {bytes} bytes, expected at most {longest}; shorten it, or leave it absent"
    )]
    TokenLength {
        /// The row that the token was for.
        id: u64,
        /// The length of the token.
        bytes: u64,
        /// The longest length.
        longest: u64,
    },

    /// A token cannot be written in the format of an export.
    #[error("row {id}: {} cannot be written to {format}: {reason}; {way_out}", Token(token.as_deref()))]
    UnfitToken {
        /// The row.
        id: u64,
        /// Its token; `None` where it has none.
        token: Option<String>,
        /// What it was to be written to.
        format: &'static str,
        /// Why it cannot.
        reason: &'static str,
        /// What to do.
        way_out: &'static str,
    },

    /// The writer was told another number of rows than it was handed.
    #[error("the writer was told to expect {expected} rows and was handed {got}")]
    RowCount {
        /// Rows announced with `TableWriter`'s `vocab`.
        expected: u64,
        /// Rows handed over.
        got: u64,
    },

    /// A table of this shape cannot be described: a size does not fit in 64 bits.
    #[error(
        "a table of {vocab} rows x {dim} columns of {dtype} is too large to describe: its size overflows 64 bits"
    )]
    TooLarge {
        /// Rows.
        vocab: u64,
        /// Columns.
        dim: u64,
        /// Element type.
        dtype: DType,
    },

    /// A request that cannot be carried out, whatever the data.
    #[error("{option}: {reason}")]
    InvalidOption {
        /// The option's name.
        option: &'static str,
        /// What was expected and what was found.
        reason: String,
    },

    /// The destination exists and replacing it was not allowed.
    #[error(
        "{}: already exists; allow it to be replaced with --force (`WriteOptions::replace`)",
        Shown(path)
    )]
    Exists {
        /// The destination.
        path: PathBuf,
    },

    /// The destination is something a table cannot be published as.
    #[error("{}: cannot be written: {reason}", Shown(path))]
    Destination {
        /// The destination.
        path: PathBuf,
        /// What stands there and what to do.
        reason: String,
    },

    /// The writer met an error before; nothing more can be written and nothing was published.
    #[error(
        "{}: an earlier write failed, so nothing was published; start the write again",
        Shown(path)
    )]
    WriterPoisoned {
        /// The destination.
        path: PathBuf,
    },

    /// The new file is in place, but the directory entry may not survive a power cut.
    #[error(
        "{}: published, but its directory could not be flushed, so a power cut may lose it: {source}",
        Shown(path)
    )]
    PublishedNotDurable {
        /// The destination.
        path: PathBuf,
        /// What the system answered.
        #[source]
        source: io::Error,
    },

    /// The table has no tokens, or no tokenizer.
    #[error("{}: has no {what}; {way_out}", Shown(path))]
    Missing {
        /// The table.
        path: PathBuf,
        /// What is missing.
        what: &'static str,
        /// How to add it.
        way_out: &'static str,
    },

    /// The tokenizer could not be read or failed on a text.
    #[error("{}: tokenizer: {reason}", Shown(path))]
    Tokenizer {
        /// The table or tokenizer file.
        path: PathBuf,
        /// What the tokenizer library answered.
        reason: String,
    },

    /// The caller's progress function asked to stop; nothing was published.
    #[error("interrupted: nothing was published")]
    Interrupted,

    /// The threads for a parallel gather could not be started.
    #[error("cannot start {threads} threads: {reason}; ask for fewer with `threads`")]
    Threads {
        /// Threads asked for.
        threads: usize,
        /// What the system answered.
        reason: String,
    },
}
