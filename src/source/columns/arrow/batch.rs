//! The rows of a record batch, one after the other.

use std::io;

use arrow_ipc::{CompressionType, FieldNode, MetadataVersion, RecordBatch};
use arrow_schema::{DataType, Schema, UnionMode};

use super::super::super::stream::Batch;
use super::super::choose::Chosen;
use super::buffers::{Bits, Body, Buffer, RowFault};
use super::dictionary::Dictionary;
use super::tokens::Tokens;
use crate::dtype::DType;

/// What a column that was found starts with.
type Reason = &'static str;

/// The rows of a record batch that are left.
pub(super) struct BatchRows {
    left: u64,
    vectors: Vectors,
    tokens: Option<Tokens>,
}

impl BatchRows {
    /// Finds the buffers of the columns. An error is a reason.
    pub(super) fn open(
        mut columns: Columns,
        schema: &Schema,
        chosen: Chosen,
    ) -> Result<Self, Reason> {
        let rows = columns.rows;
        let (mut vectors, mut tokens) = (None, None);
        for (place, field) in schema.fields().iter().enumerate() {
            if place == chosen.vectors {
                vectors = Some(Vectors::open(&mut columns, field.data_type(), chosen.dtype)?);
            } else if Some(place) == chosen.tokens {
                tokens = Some(Tokens::open(&mut columns, field.data_type())?);
            } else {
                columns.pass(field.data_type())?;
            }
        }
        let vectors = vectors.ok_or("the schema has lost its column of vectors")?;
        Ok(BatchRows { left: rows, vectors, tokens })
    }

    /// The rows that are left.
    pub(super) fn left(&self) -> u64 {
        self.left
    }

    /// The length of the first vector, of which nothing was read yet.
    pub(super) fn first_length(&mut self) -> Result<u64, RowFault> {
        self.vectors.peek_length()
    }

    /// Adds the next row; `texts` are those that tokens may be numbers of.
    pub(super) fn push_next(
        &mut self,
        dim: usize,
        texts: &Dictionary,
        batch: &mut Batch,
    ) -> Result<(), RowFault> {
        self.vectors.push_next(dim, &mut batch.rows)?;
        if let Some(tokens) = &mut self.tokens {
            let token = tokens.next(texts)?;
            batch.tokens.push(token);
        }
        self.left -= 1;
        Ok(())
    }
}

/// The columns of a record batch, one after the other.
pub(super) struct Columns {
    body: Body,
    packed: Option<CompressionType>,
    /// The number of rows.
    pub(super) rows: u64,
    /// The length and the number of nulls of each field.
    nodes: std::vec::IntoIter<FieldNode>,
    /// Where each buffer lies, and its length.
    places: std::vec::IntoIter<(i64, i64)>,
    /// The number of the buffers of text of each column of views.
    views: std::vec::IntoIter<i64>,
    version: MetadataVersion,
}

impl Columns {
    pub(super) fn of(
        batch: RecordBatch<'_>,
        version: MetadataVersion,
        body: Body,
    ) -> Result<Self, Reason> {
        let rows = u64::try_from(batch.length()).map_err(|_| "a negative number of rows")?;
        let nodes: Vec<FieldNode> = batch.nodes().iter().flatten().copied().collect();
        let places: Vec<_> =
            batch.buffers().iter().flatten().map(|it| (it.offset(), it.length())).collect();
        let views: Vec<i64> = batch.variadicBufferCounts().iter().flatten().collect();
        Ok(Columns {
            body,
            packed: batch.compression().map(|compression| compression.codec()),
            rows,
            nodes: nodes.into_iter(),
            places: places.into_iter(),
            views: views.into_iter(),
            version,
        })
    }

    /// The next field, which is to have so many rows, or any number.
    pub(super) fn node(&mut self, rows: Option<u64>) -> Result<FieldNode, Reason> {
        let node = self.nodes.next().ok_or("a record batch has fewer fields than its schema")?;
        let fits = rows.is_none_or(|rows| u64::try_from(node.length()) == Ok(rows));
        fits.then_some(node).ok_or("a column has another number of rows than its record batch")
    }

    /// The next buffer.
    pub(super) fn buffer(&mut self) -> Result<Buffer, Reason> {
        let (offset, length) = self.place()?;
        let buffer = self.body.buffer(offset, length, self.packed);
        buffer.ok_or("a buffer lies outside its record batch")
    }

    /// The bits of a field that tell which values are there.
    pub(super) fn validity(&mut self, node: FieldNode) -> Result<Bits, Reason> {
        let (offset, length) = self.place()?;
        if node.null_count() == 0 || length == 0 {
            return Ok(Bits::new(None));
        }
        let buffer = self.body.buffer(offset, length, self.packed);
        Ok(Bits::new(Some(buffer.ok_or("a buffer lies outside its record batch")?)))
    }

    /// The number of the buffers of text of a column of views.
    pub(super) fn view_buffers(&mut self) -> Result<usize, Reason> {
        let count = self.views.next().and_then(|count| usize::try_from(count).ok());
        count
            .filter(|count| *count <= self.places.len())
            .ok_or("a record batch has fewer buffers than its schema")
    }

    fn place(&mut self) -> Result<(i64, i64), Reason> {
        self.places.next().ok_or("a record batch has fewer buffers than its schema")
    }

    fn skip(&mut self, buffers: usize) -> Result<(), Reason> {
        (0..buffers).try_for_each(|_| self.place().map(drop))
    }

    /// Passes over a column: see "Columnar Format" of the Arrow documents, "Buffer Listing for
    /// Each Layout".
    fn pass(&mut self, column: &DataType) -> Result<(), Reason> {
        self.node(None)?;
        match column {
            DataType::Null => Ok(()),
            DataType::RunEndEncoded(ends, values) => {
                self.pass(ends.data_type())?;
                self.pass(values.data_type())
            }
            DataType::Union(fields, mode) => {
                let dense = usize::from(*mode == UnionMode::Dense);
                // Unions had a validity of their own up to version 4.
                let validity = usize::from(self.version < MetadataVersion::V5);
                self.skip(1 + dense + validity)?;
                fields.iter().try_for_each(|(_, field)| self.pass(field.data_type()))
            }
            DataType::Struct(fields) => {
                self.skip(1)?;
                fields.iter().try_for_each(|field| self.pass(field.data_type()))
            }
            DataType::FixedSizeList(item, _) => {
                self.skip(1)?;
                self.pass(item.data_type())
            }
            DataType::List(item) | DataType::LargeList(item) | DataType::Map(item, _) => {
                self.skip(2)?;
                self.pass(item.data_type())
            }
            DataType::ListView(item) | DataType::LargeListView(item) => {
                self.skip(3)?;
                self.pass(item.data_type())
            }
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Binary | DataType::LargeBinary => {
                self.skip(3)
            }
            DataType::Utf8View | DataType::BinaryView => {
                let more = self.view_buffers()?;
                self.skip(2 + more)
            }
            _ => self.skip(2),
        }
    }
}

/// How long the next list is.
enum Lengths {
    Fixed(u64),
    /// The offsets, and the one that was read last.
    Offsets {
        buffer: Buffer,
        wide: bool,
        last: Option<i64>,
    },
}

/// A column of vectors.
struct Vectors {
    validity: Bits,
    lengths: Lengths,
    /// The length of the next vector, where it was looked at.
    peeked: Option<u64>,
    number_validity: Bits,
    numbers: Buffer,
    number_bytes: usize,
}

impl Vectors {
    fn open(columns: &mut Columns, column: &DataType, dtype: DType) -> Result<Self, Reason> {
        let rows = columns.rows;
        let node = columns.node(Some(rows))?;
        let validity = columns.validity(node)?;
        let lengths = match column {
            DataType::FixedSizeList(_, length) => {
                Lengths::Fixed(u64::try_from(*length).map_err(|_| "lists of a negative length")?)
            }
            wide => {
                let wide = matches!(wide, DataType::LargeList(_));
                Lengths::Offsets { buffer: columns.buffer()?, wide, last: None }
            }
        };
        let node = columns.node(None)?;
        let number_validity = columns.validity(node)?;
        let numbers = columns.buffer()?;
        let number_bytes = dtype.block_bytes();
        Ok(Vectors { validity, lengths, peeked: None, number_validity, numbers, number_bytes })
    }

    /// The length of the next vector.
    fn peek_length(&mut self) -> Result<u64, RowFault> {
        if let Some(length) = self.peeked {
            return Ok(length);
        }
        if !self.validity.next()? {
            let reason = "there is no vector (null), expected one in each row";
            return Err(RowFault::Row(reason.to_owned()));
        }
        let length = match &mut self.lengths {
            Lengths::Fixed(length) => *length,
            Lengths::Offsets { buffer, wide, last } => {
                let mut next = || -> io::Result<i64> {
                    if *wide { buffer.long_number() } else { buffer.number().map(i64::from) }
                };
                let start = if let Some(start) = *last {
                    start
                } else {
                    let start = next()?;
                    // Of a part of a longer column the numbers before it may be there.
                    let skipped = u64::try_from(start).map_err(|_| ends_first())?;
                    let bytes = skipped.checked_mul(self.number_bytes as u64);
                    self.numbers.skip(bytes.unwrap_or(u64::MAX))?;
                    self.number_validity.skip(skipped)?;
                    start
                };
                let end = next()?;
                *last = Some(end);
                let length = end.checked_sub(start).and_then(|it| u64::try_from(it).ok());
                length.ok_or_else(ends_first)?
            }
        };
        self.peeked = Some(length);
        Ok(length)
    }

    fn push_next(&mut self, dim: usize, out: &mut Vec<u8>) -> Result<(), RowFault> {
        let length = self.peek_length()?;
        self.peeked = None;
        if length != dim as u64 {
            let reason =
                format!("the vector has {length} numbers, expected {dim} as in the first row");
            return Err(RowFault::Row(reason));
        }
        if !self.number_validity.are_all_set() {
            for column in 0..dim {
                if !self.number_validity.next()? {
                    return Err(format!("column {column} holds no number (null)").into());
                }
            }
        }
        let start = out.len();
        out.resize(start + dim * self.number_bytes, 0);
        Ok(self.numbers.fill(&mut out[start..])?)
    }
}

fn ends_first() -> RowFault {
    RowFault::Row("the vector ends before it starts".to_owned())
}
