//! The batches of one configuration, in turn with their limit.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use embmap::Table;

use super::super::interrupt;
use super::super::progress::Progress;
use super::super::trace::Recorder;
use super::args::State;
use super::counters::Counters;
use super::figures::Numbers;
use super::ids::IdSource;
use super::limit::{Limit, Measured, distinct};
use super::samples::Samples;
use super::state::{self, Reason};
use super::work::{Memory, Work};

/// The rows that are gathered in a row before it is the limit's turn. Small batches go several
/// at a time: a look at the counters between any two would cool the caches.
const BURST_ROWS: usize = 4096;
const BURST: usize = 64;

/// The batches in sequence that may be in another state than asked for.
const PATIENCE: u32 = 3;

/// What all configurations share.
pub(super) struct Bench<'a> {
    pub(super) table: &'a Arc<Table>,
    pub(super) ids: IdSource,
    pub(super) limit_ids: IdSource,
    pub(super) record: Recorder,
    pub(super) memory: Memory,
    pub(super) seconds: Duration,
    pub(super) progress: Progress,
    /// The time that all configurations take, and what of it is over, in milliseconds.
    pub(super) all: u64,
    pub(super) over: u64,
}

/// What is added up over the batches of a configuration.
struct Tally {
    times: Samples,
    ways: Vec<Measured>,
    counted: Counters,
    discarded: u64,
}

impl Bench<'_> {
    /// Measures a configuration for its time, at least one batch; or says why the state could
    /// not be had.
    pub(super) fn measure(
        &mut self,
        state: State,
        work: &Work<'_>,
        limit: &Limit,
    ) -> Result<Result<Numbers, Reason>> {
        let mut tally = Tally {
            times: Samples::new(),
            ways: limit
                .ways
                .iter()
                .map(|way| Measured { way: *way, times: Samples::new() })
                .collect(),
            counted: Counters { faults: Some(0), device_bytes: Some(0) },
            discarded: 0,
        };
        self.settle(state, work)?;
        let start = Instant::now();
        let mut failures = 0;
        for round in 0u64.. {
            interrupt::stop()?;
            // Neither always comes after the other.
            if !round.is_multiple_of(2) {
                self.limit(state, work, limit, &mut tally)?;
            }
            match self.round(state, work, &mut tally)? {
                Ok(()) => failures = 0,
                Err(reason) => {
                    failures += 1;
                    tally.discarded += 1;
                    if failures == PATIENCE {
                        return Ok(Err(reason));
                    }
                }
            }
            if round.is_multiple_of(2) {
                self.limit(state, work, limit, &mut tally)?;
            }
            let over = start.elapsed();
            self.show(over);
            if over >= self.seconds && tally.times.count() > 0 {
                break;
            }
        }
        self.over += milliseconds(self.seconds);
        let Tally { times, ways, counted, discarded } = tally;
        let bytes = work.table.row_bytes();
        let asked = times.count() * work.batch as u64 * bytes;
        let held = match state {
            State::Warm => state::was_warm(counted, asked),
            State::Cold => Ok(()),
            State::Capped(cap) => state::was_capped(work.table, cap)?,
        };
        Ok(held.and_then(|()| {
            Numbers::of(&times, discarded, counted, &ways, work.batch, bytes)
                .ok_or_else(|| "no batch was measured".to_owned())
        }))
    }

    /// Lets first batches go by: threads are started, and a capped cache fills.
    fn settle(&mut self, state: State, work: &Work<'_>) -> Result<()> {
        let start = Instant::now();
        let time = match state {
            State::Cold => return Ok(()),
            State::Warm => self.seconds / 20,
            State::Capped(_) => self.seconds / 4,
        };
        let mut ids = vec![0; work.batch];
        while {
            interrupt::stop()?;
            self.ids.fill(&mut ids)?;
            self.record.record(&ids, work.batch)?;
            work.gather(&ids, &mut self.memory)?;
            start.elapsed() < time
        } {}
        Ok(())
    }

    /// A batch, or a burst of small ones.
    fn round(
        &mut self,
        state: State,
        work: &Work<'_>,
        tally: &mut Tally,
    ) -> Result<Result<(), Reason>> {
        let mut ids = vec![0; work.batch * burst(state, work.batch)];
        self.ids.fill(&mut ids)?;
        self.record.record(&ids, work.batch)?;
        if state == State::Cold
            && let Err(reason) = state::evict(self.table)?
        {
            return Ok(Err(reason));
        }
        let mut times = [0.0; BURST];
        let before = Counters::now();
        for (batch, time) in ids.chunks_exact(work.batch).zip(&mut times) {
            let start = Instant::now();
            work.gather(batch, &mut self.memory)?;
            *time = start.elapsed().as_secs_f64();
        }
        let counted = Counters::now().since(before);
        if state == State::Cold
            && let Err(reason) =
                state::was_cold(self.table, counted, distinct(&mut ids).len() as u64)?
        {
            return Ok(Err(reason));
        }
        times[..burst(state, work.batch)].iter().for_each(|time| tally.times.push(*time));
        tally.counted = tally.counted.plus(counted);
        Ok(Ok(()))
    }

    /// As many batches at the limit.
    fn limit(
        &mut self,
        state: State,
        work: &Work<'_>,
        limit: &Limit,
        tally: &mut Tally,
    ) -> Result<()> {
        for way in &mut tally.ways {
            let mut ids = vec![0; work.batch * burst(state, work.batch)];
            self.limit_ids.fill(&mut ids)?;
            // Where it cannot be cold, no batch will be measured either.
            if state == State::Cold && state::evict(self.table)?.is_err() {
                return Ok(());
            }
            for batch in ids.chunks_exact_mut(work.batch) {
                let time = limit.measure(way.way, batch, &mut self.memory, work.threads)?;
                way.times.push(time.as_secs_f64());
            }
        }
        Ok(())
    }

    fn show(&mut self, over: Duration) {
        let done = self.over + milliseconds(over.min(self.seconds));
        self.progress.show(done, self.all);
    }
}

/// The batches that are measured in a row.
fn burst(state: State, batch: usize) -> usize {
    if state == State::Cold { 1 } else { (BURST_ROWS / batch).clamp(1, BURST) }
}

pub(super) fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
