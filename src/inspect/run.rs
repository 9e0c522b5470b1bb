//! `Table::inspect`: the pass, and what comes of it.

use std::ops::ControlFlow;
use std::sync::Mutex;

use super::costs::costs;
use super::directions::directions;
use super::duplicates::Seen;
use super::found::{Inspection, NormedRow, Norms, RowList, Values};
use super::options::InspectOptions;
use super::pass::{Found, InOrder, Shared, Sums, Worker, hash};
use super::sample::{Choice, Sample};
use super::tokens::tokens;
use crate::error::{Error, Result};
use crate::gather::{Crew, lock};
use crate::table::Table;

/// The rows whose copies are counted in any case, where not all rows can be told apart.
const WATCHED: u64 = 4096;

impl Table {
    /// Reads all rows once and says what is in them: lengths, rows of zeros and rows that are
    /// there several times, NaNs, how rows are spread over their space, what smaller dtypes
    /// would cost, and how tokens and rows fit together.
    ///
    /// Rows are read in order and decoded as they pass, on several threads. Memory does not
    /// grow with the table: 256 MiB for finding repeated rows, 128 MiB for a sample of rows, and
    /// as much again while that is looked at; [`InspectOptions`] changes both. The answer
    /// does not depend on the number of threads.
    ///
    /// # Errors
    ///
    /// A file that cannot be read, token sections that are damaged, [`Error::OutputMemory`]
    /// where there is not enough memory.
    ///
    /// ```
    /// use embmap::{InspectOptions, Table};
    ///
    /// # fn main() -> Result<(), embmap::Error> {
    /// let table = Table::load("fixtures/minilm-2k")?;
    /// let found = table.inspect(&InspectOptions::new())?;
    /// assert_eq!((found.rows, found.zero_rows.count, found.nan), (2003, 0, 0));
    /// assert_eq!(found.duplicates.rows, 0);
    /// assert!(found.directions.unwrap().effective_dim > 100.0);
    /// # Ok(())
    /// # }
    /// ```
    pub fn inspect(&self, options: &InspectOptions) -> Result<Inspection> {
        self.inspect_while(options, |_, _| ControlFlow::Continue(()))
    }

    /// [`inspect`](Table::inspect), telling `progress` the rows that were looked at and the rows
    /// there are. The sample and the tokens are looked at after the last row.
    ///
    /// # Errors
    ///
    /// As [`inspect`](Table::inspect); [`Error::Interrupted`] where `progress` breaks off.
    pub fn inspect_while(
        &self,
        options: &InspectOptions,
        progress: impl FnMut(u64, u64) -> ControlFlow<()> + Send,
    ) -> Result<Inspection> {
        self.check_alive()?;
        let (vocab, dim) = (self.vocab(), self.dim());
        let crew = self.crew(options.threads)?;
        let choice = Choice::of((options.sample / dim as u64).max(2), vocab, options.seed);
        let mut seen = Seen::new(options.memory);
        if seen.capacity() < vocab {
            self.watch(&mut seen, options)?;
        }
        let shared = Shared {
            table: self,
            choice,
            sample: Mutex::new(Sample::new(choice, dim)?),
            seen: Mutex::new(seen),
        };
        let progress = Mutex::new(progress);
        let (found, sums) = pass(&shared, crew, &progress)?;
        let goes_on = || lock(&progress)(vocab, vocab).is_continue();
        let duplicates = into_inner(shared.seen).finish(|place| self.id_at(place));
        let sample = into_inner(shared.sample).into_rows();
        let directions = directions(crew, dim, &sample, sums.rows, &found.units)?;
        if !goes_on() {
            return Err(Error::Interrupted);
        }
        let costs = costs(crew, dim, self.row_bytes(), &sample)?;
        let cost_rows = (sample.len() / dim) as u64;
        drop(sample);
        let tokens = tokens(self, options.memory, goes_on)?;
        self.check_alive()?;
        let ids = |list: RowList| self.ids(list);
        Ok(Inspection {
            rows: vocab,
            values: values(&found, &sums, dim),
            zero_rows: ids(found.zero_rows),
            non_finite_rows: ids(found.non_finite_rows),
            nan: found.nan,
            infinite: found.infinite,
            duplicates,
            directions,
            costs,
            cost_rows,
            tokens,
            norms: self.norms_of(found.norms.finish(), &sums),
        })
    }

    /// Has the copies of some rows counted in any case.
    fn watch(&self, seen: &mut Seen, options: &InspectOptions) -> Result<()> {
        let most = WATCHED.min(seen.watchable());
        let choice = Choice::of(most, self.vocab(), options.seed);
        let mut reader = self.window_reader(1);
        let mut hashes = Vec::new();
        for index in 0..choice.rows {
            let place = choice.place(index);
            reader.read(place..place + 1, |rows| {
                hashes.push(hash(rows.row(0)));
                Ok(())
            })?;
        }
        seen.watch(hashes.into_iter());
        Ok(())
    }

    /// Ids for places.
    fn ids(&self, mut list: RowList) -> RowList {
        list.first.iter_mut().for_each(|place| *place = self.id_at(*place));
        list.first.sort_unstable();
        list
    }

    fn norms_of(&self, norms: Norms, sums: &Sums) -> Norms {
        let named = |rows: Vec<NormedRow>| {
            let named = rows.into_iter().map(|row| NormedRow { id: self.id_at(row.id), ..row });
            named.collect()
        };
        let (mean, std) = moments(sums.norm, sums.norm_squares, sums.lengths);
        let (shortest, longest) = (named(norms.shortest), named(norms.longest));
        Norms { count: sums.rows, mean, std, shortest, longest, ..norms }
    }
}

/// Looks at all rows.
fn pass(
    shared: &Shared<'_>,
    crew: Crew,
    progress: &Mutex<impl FnMut(u64, u64) -> ControlFlow<()> + Send>,
) -> Result<(Found, Sums)> {
    let (table, vocab) = (shared.table, shared.table.vocab());
    let mut crew = crew;
    let bytes = table.row_bytes().saturating_mul(vocab);
    if !crew.pays_for(usize::try_from(bytes).unwrap_or(usize::MAX))? {
        crew.threads = 1;
    }
    let windows = Mutex::new(table.row_windows(0..vocab));
    let in_order = Mutex::new(InOrder::default());
    let done = Mutex::new((0, Vec::new()));
    let workers = (0..crew.threads).map(|_| Worker::new(table)).collect();
    crew.work(workers, |mut worker: Worker| {
        let mut reader = table.window_reader(crew.threads);
        // The lock is held for no longer than it takes to cut a window.
        let next = || lock(&windows).next();
        while let Some(window) = next() {
            let rows = window.end - window.start;
            let looked = reader.read(window, |rows| {
                let sums = worker.look_at(shared, rows)?;
                lock(&in_order).add(rows.first..rows.first + rows.count as u64, sums);
                Ok(())
            });
            let seen = {
                let (seen, _) = &mut *lock(&done);
                *seen += rows;
                *seen
            };
            let told = lock(progress)(seen, vocab);
            let told = if told.is_break() { Err(Error::Interrupted) } else { Ok(()) };
            if let Err(error) = looked.and(told) {
                // The other threads find nothing left to do.
                lock(&windows).stop();
                return Err(error);
            }
        }
        lock(&done).1.push(worker.found);
        Ok(())
    })?;
    let mut found = into_inner(done).1.into_iter();
    let mut all = found.next().unwrap_or_else(|| Worker::new(table).found);
    found.for_each(|found| all.join(found));
    Ok((all, into_inner(in_order).finish()))
}

fn values(found: &Found, sums: &Sums, dim: usize) -> Values {
    let count = sums.rows * dim as u64;
    if count == 0 {
        return Values::default();
    }
    let (mean, std) = moments(sums.value, sums.value_squares, count);
    Values {
        count,
        min: found.min,
        max: found.max,
        mean,
        std,
        smallest: if found.smallest.is_finite() { found.smallest } else { 0.0 },
        zeros: found.zeros,
        beyond_f16: found.beyond_f16,
    }
}

/// The mean and the standard deviation of numbers by their sum and the sum of their squares.
fn moments(sum: f64, squares: f64, count: u64) -> (f64, f64) {
    if count == 0 {
        return (0.0, 0.0);
    }
    #[expect(clippy::cast_precision_loss, reason = "means over the nearest f64")]
    let count = count as f64;
    let mean = sum / count;
    (mean, (squares / count - mean * mean).max(0.0).sqrt())
}

fn into_inner<T>(mutex: Mutex<T>) -> T {
    mutex.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)
}
