//! Bags: rows summed, averaged or their largest elements, without a gather in between.

use std::ops::Range;

use super::ids::{Id, check_ids, check_ids_but};
use super::into::check_output;
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
        let mut position = range.start;
        while let Some(bag) = self.bag() {
            let until = bag.end.min(range.end);
            bag.take(work, rows, start, position..until)?;
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
    fn take<I: Id, B: Id>(
        &mut self,
        work: &Bags<'_, I, B>,
        rows: &impl BatchRows,
        start: usize,
        range: Range<usize>,
    ) -> Result<()> {
        let ahead = rows.ahead();
        let mut group = [RowParts::of(&[]); GROUP];
        let mut coming = [&[][..]; GROUP];
        let mut weights = [0.0; GROUP];
        let mut filled = 0;
        for position in range {
            let id = work.ids[position].row();
            if work.padding == Some(id) {
                continue;
            }
            let later = work.ids.get(position + ahead);
            coming[filled] = later.map_or(&[][..], |id| rows.coming(id.row()));
            let Some(row) = rows.row(position - start, id) else {
                return Err(work.out_of_range(position));
            };
            group[filled] = row;
            if let Some(weight) = work.weights.get(position) {
                weights[filled] = *weight;
            }
            filled += 1;
            self.count += 1;
            if filled == GROUP {
                let group = Group { rows: &group, weights: &weights, coming: &coming };
                work.joiner.join(work.join, group, self.sums);
                filled = 0;
            }
        }
        let group = Group {
            rows: &group[..filled],
            weights: &weights[..filled],
            coming: &coming[..filled],
        };
        work.joiner.join(work.join, group, self.sums);
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

/// A checked offset as an index.
fn index<B: Id>(offset: B) -> usize {
    usize::try_from(offset.row()).unwrap_or(usize::MAX)
}

/// Divides the bags into parts, each of about as many ids and bags as the others, with what
/// it fills of the output.
fn divide<'a, B: Id>(
    offsets: &[B],
    most: usize,
    stride: usize,
    mut out: &'a mut [f32],
) -> Vec<(Range<usize>, &'a mut [f32])> {
    let bags = offsets.len() - 1;
    // A bag costs its rows, and one row of output.
    let cost = |bag: usize| index(offsets[bag]) as u128 + bag as u128;
    let mut parts = Vec::with_capacity(most.min(bags));
    let mut start = 0;
    for part in 1..=most as u128 {
        let share = cost(bags) * part / most as u128;
        let end = start + partition_point(start..bags, |bag| cost(bag + 1) <= share);
        if end > start {
            let length = (end - start).saturating_mul(stride).min(out.len());
            let (part, rest) = out.split_at_mut(length);
            parts.push((start..end, part));
            (start, out) = (end, rest);
        }
    }
    parts
}

/// The number of values at the start of a range for which `before` holds.
fn partition_point(range: Range<usize>, before: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (range.start, range.end);
    while low < high {
        let middle = low + (high - low) / 2;
        if before(middle) { low = middle + 1 } else { high = middle }
    }
    low - range.start
}

fn check_offsets<B: Id>(offsets: &[B], ids: usize) -> Result<()> {
    let wrong = |reason| Err(Error::InvalidOption { option: "offsets", reason });
    let (Some(first), Some(last)) = (offsets.first(), offsets.last()) else {
        return wrong("expected one more than there are bags, found none".to_owned());
    };
    if first.row() != 0 {
        let first: i128 = (*first).into();
        return wrong(format!("expected the first to be 0, found {first}"));
    }
    if let Some(at) = offsets.windows(2).position(|pair| pair[1].row() < pair[0].row()) {
        let (before, after): (i128, i128) = (offsets[at].into(), offsets[at + 1].into());
        let place = at + 1;
        return wrong(format!("expected none to fall, found {after} after {before} at {place}"));
    }
    // Negative ones read as more than any length.
    if last.row() != ids as u64 {
        let last: i128 = (*last).into();
        return wrong(format!(
            "expected the last to be the number of ids, {ids}, found {last}; end the offsets with it"
        ));
    }
    Ok(())
}

fn check_weights(weights: Option<&[f32]>, ids: usize, pooling: Pooling) -> Result<()> {
    let Some(weights) = weights else { return Ok(()) };
    let wrong = |reason| Err(Error::InvalidOption { option: "weights", reason });
    if pooling == Pooling::Max {
        return wrong("expected none with Pooling::Max, which adds nothing up".to_owned());
    }
    if weights.len() != ids {
        return wrong(format!("expected one for each of {ids} ids, found {}", weights.len()));
    }
    Ok(())
}
