//! Bags: rows summed, averaged or their largest elements, without a gather in between.

use std::ops::Range;

use super::ids::{Id, check_ids, check_ids_but};
use super::into::check_output;
use super::offsets::{check_offsets, check_weights, divide, index};
use super::options::{BagOptions, kernels};
use super::places::PADDING;
use super::pool::Crew;
use super::rows::{BatchRows, ResidentRows, View};
use crate::codec::{GROUP, Group, Join, Joiner, RowParts};
use crate::error::{Error, Result};
use crate::table::Table;

/// How the rows of a bag become one.
///
/// ```
/// use embmap::Pooling;
///
/// # fn main() -> Result<(), embmap::Error> {
/// let table = embmap::Table::load("fixtures/minilm-2k")?;
/// let mut mean = vec![0f32; table.dim()];
/// table.embedding_bag_into(&[7u32, 1811], &[0u32, 2], None, Pooling::Mean, &mut mean)?;
/// let (a, b): (&[half::f16], &[half::f16]) = (table.row(7)?, table.row(1811)?);
/// assert_eq!(mean[0], (a[0].to_f32() + b[0].to_f32()) / 2.0);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Pooling {
    /// The sum of the rows.
    Sum,
    /// The sum of the rows over their number, padding not counted.
    Mean,
    /// The largest of each column; NaN where one is.
    Max,
}

/// What one thread does of a call: all but the bags and the output.
struct Bags<'a, I, B> {
    vocab: u64,
    ids: &'a [I],
    offsets: &'a [B],
    weights: &'a [f32],
    padding: Option<u64>,
    pooling: Pooling,
    join: Join,
    joiner: Joiner,
    stride: usize,
}

impl<'a, I, B> Bags<'a, I, B> {
    /// The same of other ids.
    fn with_ids<J>(&self, ids: &'a [J], padding: Option<u64>) -> Bags<'a, J, B> {
        let Bags { vocab, offsets, weights, pooling, join, joiner, stride, .. } = *self;
        Bags { vocab, ids, offsets, weights, padding, pooling, join, joiner, stride }
    }
}

impl Table {
    /// Pools the rows of each bag of ids into one: bag `i` is `ids[offsets[i]..offsets[i + 1]]`
    /// and goes to `out[i * dim..][..dim]`.
    ///
    /// There is one offset more than there are bags: the first is 0, the last `ids.len()`, as the
    /// `embedding_bag` of `PyTorch` has it with `include_last_offset=True`. Any dtype is added up
    /// in `f32`, in the order of the ids. With weights, which go with [`Pooling::Sum`] and
    /// [`Pooling::Mean`], each row is multiplied by its own and then added, in two roundings; a
    /// mean is still over the number of rows. An empty bag gives zeros. The result does not
    /// depend on the number of threads or on the CPU, but for the payload of a NaN.
    ///
    /// # Errors
    ///
    /// [`Error::RowOutOfRange`] names the first id that is not below `vocab`,
    /// [`Error::OutputLength`] an output that is not `dim` long for each bag, and
    /// [`Error::InvalidOption`] `offsets` that do not rise from 0 to `ids.len()`, `weights` that
    /// are not one for each id, and weights with [`Pooling::Max`]; nothing is written then.
    /// [`Error::Io`] and [`Error::FileChanged`] with [`Access::Read`], where the output is
    /// written in part.
    ///
    /// [`Access::Read`]: crate::Access::Read
    ///
    /// ```
    /// use embmap::Pooling;
    ///
    /// # fn main() -> Result<(), embmap::Error> {
    /// let table = embmap::Table::load("fixtures/minilm-2k")?;
    /// let (ids, offsets) = ([391u32, 1009, 391], [0u64, 2, 2, 3]);
    /// let mut out = vec![0f32; 3 * table.dim()];
    /// table.embedding_bag_into(&ids, &offsets, None, Pooling::Sum, &mut out)?;
    /// assert_eq!(out[384..768], [0.0; 384], "the second bag is empty");
    /// assert_eq!(out[768], table.row::<half::f16>(391)?[0].to_f32());
    ///
    /// let weights = [0.5, 2.0, 1.0];
    /// table.embedding_bag_into(&ids, &offsets, Some(&weights), Pooling::Sum, &mut out)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn embedding_bag_into<I: Id, B: Id>(
        &self,
        ids: &[I],
        offsets: &[B],
        weights: Option<&[f32]>,
        pooling: Pooling,
        out: &mut [f32],
    ) -> Result<()> {
        self.embedding_bag_into_with(ids, offsets, weights, pooling, out, &BagOptions::new())
    }

    /// [`embedding_bag_into`](Table::embedding_bag_into) with padding, an output row stride or
    /// a number of threads.
    ///
    /// # Errors
    ///
    /// As [`embedding_bag_into`](Table::embedding_bag_into); [`Error::OutputStride`] where the
    /// stride is shorter than a row, [`Error::Threads`] where the threads cannot be started.
    pub fn embedding_bag_into_with<I: Id, B: Id>(
        &self,
        ids: &[I],
        offsets: &[B],
        weights: Option<&[f32]>,
        pooling: Pooling,
        out: &mut [f32],
        options: &BagOptions,
    ) -> Result<()> {
        match options.padding {
            None => check_ids(ids, self.vocab())?,
            padding => check_ids_but(ids, self.vocab(), padding)?,
        }
        check_offsets(offsets, ids.len())?;
        check_weights(weights, ids.len(), pooling)?;
        let bags = offsets.len() - 1;
        let stride = options.row_stride.unwrap_or(self.dim());
        check_output(bags, out.len(), self.dim(), stride, options.row_stride.is_some())?;
        let crew = self.crew(options.threads)?;
        let join = match (pooling, weights) {
            (Pooling::Max, _) => Join::Max,
            (_, Some(_)) => Join::AddWeighted,
            _ => Join::Add,
        };
        let work = Bags {
            vocab: self.vocab(),
            ids,
            offsets,
            weights: weights.unwrap_or(&[]),
            padding: options.padding,
            pooling,
            join,
            joiner: Joiner::of(self.encoding(), kernels(options.portable)),
            stride,
        };
        match self.places_of(ids, options.padding, crew)? {
            None => self.pool_checked(&work, crew, out),
            Some(places) => {
                let padding = options.padding.map(|_| PADDING);
                self.pool_checked(&work.with_ids(&places, padding), crew, out)
            }
        }
    }

    /// Pools checked bags by one thread or several.
    fn pool_checked<I: Id, B: Id>(
        &self,
        work: &Bags<'_, I, B>,
        crew: Crew,
        out: &mut [f32],
    ) -> Result<()> {
        let Bags { ids, offsets, stride, .. } = *work;
        let bags = offsets.len() - 1;
        let read = (ids.len() as u64).saturating_mul(self.row_bytes());
        let bytes = usize::try_from(read).unwrap_or(usize::MAX).max(size_of_val(out));
        if bags < 2 || !crew.pays_for(bytes)? {
            return self.pool_bags(work, 0..bags, out);
        }
        let parts = divide(offsets, self.parts(crew, bytes), stride, out);
        crew.work(parts, |(bags, out)| self.pool_bags(work, bags, out))
    }

    /// Pools the rows of checked bags, in order, on this thread.
    fn pool_bags<I: Id, B: Id>(
        &self,
        work: &Bags<'_, I, B>,
        bags: Range<usize>,
        out: &mut [f32],
    ) -> Result<()> {
        let resident = ResidentRows::of(self, View::Parts);
        let (first, last) = (index(work.offsets[bags.start]), index(work.offsets[bags.end]));
        let outs = out.chunks_mut(work.stride.max(1)).map(|out| &mut out[..self.dim()]);
        let mut pooling = Pool { work, bags, outs, open: None };
        let ids = &work.ids[first..last];
        self.copy_by_plan(ids, |range| match &resident {
            Some(ResidentRows::Run(rows)) => {
                pooling.take(rows, first, first + range.start..first + range.end)
            }
            Some(ResidentRows::Together(rows)) => {
                pooling.take(rows, first, first + range.start..first + range.end)
            }
            Some(ResidentRows::Parted(rows)) => {
                pooling.take(rows, first, first + range.start..first + range.end)
            }
            None => {
                let start = first + range.start;
                self.each_window(&ids[range], View::Parts, |range, rows| {
                    pooling.take(rows, start, start + range.start..start + range.end)
                })
            }
        })?;
        pooling.finish();
        Ok(())
    }
}

impl<I: Id, B: Id> Bags<'_, I, B> {
    #[cold]
    fn out_of_range(&self, position: usize) -> Error {
        let id = self.ids[position].into();
        Error::RowOutOfRange { id, position: Some(position), vocab: self.vocab }
    }
}

/// Bags that are being pooled, in order, on one thread.
struct Pool<'a, I, B, Outs> {
    work: &'a Bags<'a, I, B>,
    /// Those that are not begun.
    bags: Range<usize>,
    outs: Outs,
    /// The plan hands out rows, not bags: one that is begun stays open to the next range.
    open: Option<OpenBag<'a>>,
}

impl<'a, I: Id, B: Id, Outs: Iterator<Item = &'a mut [f32]>> Pool<'a, I, B, Outs> {
    /// Takes the rows at a range of positions, which follows the one before. `start` is the
    /// position where the count of `rows` begins.
    fn take(&mut self, rows: &impl BatchRows, start: usize, range: Range<usize>) -> Result<()> {
        let work = self.work;
        let mut joining = Joining::new();
        let mut position = range.start;
        while let Some(bag) = self.bag() {
            let until = bag.end.min(range.end);
            bag.take(work, rows, &mut joining, start, position..until)?;
            position = until;
            if until < bag.end {
                break;
            }
            self.close();
        }
        Ok(())
    }

    /// Finishes what has no rows left: empty bags at the end have none that would reach them.
    fn finish(&mut self) {
        while self.bag().is_some() {
            self.close();
        }
    }

    /// The bag that is open, or the next one, opened.
    fn bag(&mut self) -> Option<&mut OpenBag<'a>> {
        if self.open.is_none() {
            let bag = self.bags.next()?;
            let sums = self.outs.next()?;
            sums.fill(self.work.join.start());
            let end = index(self.work.offsets[bag + 1]);
            self.open = Some(OpenBag { sums, end, count: 0 });
        }
        self.open.as_mut()
    }

    fn close(&mut self) {
        if let Some(bag) = self.open.take() {
            bag.finish(self.work.pooling);
        }
    }
}

/// A bag that has begun to be pooled.
struct OpenBag<'a> {
    sums: &'a mut [f32],
    /// Where its positions end.
    end: usize,
    /// The rows that it holds so far.
    count: u32,
}

impl OpenBag<'_> {
    /// Joins the rows at a range of positions, a group at a time, and counts them.
    fn take<'r, I: Id, B: Id>(
        &mut self,
        work: &Bags<'_, I, B>,
        rows: &'r impl BatchRows,
        joining: &mut Joining<'r>,
        start: usize,
        range: Range<usize>,
    ) -> Result<()> {
        let ahead = rows.ahead();
        for position in range {
            let id = work.ids[position].row();
            if work.padding == Some(id) {
                continue;
            }
            let later = work.ids.get(position + ahead);
            let coming = later.map_or(&[][..], |id| rows.coming(id.row()));
            let Some(row) = rows.row(position - start, id) else {
                return Err(work.out_of_range(position));
            };
            joining.add(row, coming, work.weights.get(position).copied());
            self.count += 1;
            if joining.filled == GROUP {
                joining.join(work, self.sums);
            }
        }
        joining.join(work, self.sums);
        Ok(())
    }

    fn finish(self, pooling: Pooling) {
        if self.count == 0 {
            self.sums.fill(0.0);
        } else if pooling == Pooling::Mean {
            #[expect(clippy::cast_precision_loss, reason = "the mean is over the nearest f32")]
            let count = self.count as f32;
            for sum in &mut *self.sums {
                *sum /= count;
            }
        }
    }
}

/// The rows of a group, one by one until it is full.
struct Joining<'r> {
    values: [&'r [u8]; GROUP],
    scales: [&'r [u8]; GROUP],
    biases: [&'r [u8]; GROUP],
    coming: [&'r [u8]; GROUP],
    weights: [f32; GROUP],
    filled: usize,
}

impl<'r> Joining<'r> {
    fn new() -> Self {
        let none = [&[][..]; GROUP];
        Joining {
            values: none,
            scales: none,
            biases: none,
            coming: none,
            weights: [0.0; GROUP],
            filled: 0,
        }
    }

    #[inline]
    fn add(&mut self, row: RowParts<'r>, coming: &'r [u8], weight: Option<f32>) {
        let at = self.filled;
        (self.values[at], self.coming[at]) = (row.values, coming);
        // All rows of a table have them, or none has.
        if !row.scales.is_empty() {
            (self.scales[at], self.biases[at]) = (row.scales, row.biases);
        }
        if let Some(weight) = weight {
            self.weights[at] = weight;
        }
        self.filled += 1;
    }

    /// Joins what there is to the sums, and is empty again.
    fn join<I, B>(&mut self, work: &Bags<'_, I, B>, sums: &mut [f32]) {
        let filled = ..std::mem::take(&mut self.filled);
        let group = Group {
            values: &self.values[filled],
            scales: &self.scales[filled],
            biases: &self.biases[filled],
            weights: &self.weights[filled],
            coming: &self.coming[filled],
        };
        work.joiner.join(work.join, group, sums);
    }
}
