//! `embmap bench`: each configuration, prepared, checked and measured.

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use embmap::{Access, OpenOptions, Table};

use super::super::Outcome;
use super::super::console::Console;
use super::super::failure::Finding;
use super::super::interrupt;
use super::super::output::Output;
use super::super::progress::{Progress, Unit};
use super::super::trace::Recorder;
use super::args::{BenchArgs, State};
use super::cap::Cap;
use super::check::check;
use super::figures::Figures;
use super::ids::IdSource;
use super::limit::Limit;
use super::measure::{Bench, milliseconds};
use super::report::Report;
use super::state::{self, Reason};
use super::work::{Memory, Work};
use super::{plot, report};

pub(crate) fn run(args: &BenchArgs, console: &Console) -> Outcome {
    args.check()?;
    let table = args.opening.open(&args.path, args.opening.options(), console)?;
    let table = Arc::new(table);
    let plotted = |path: &Path| Output::create(path, args.force);
    let threads = args.threads();
    let configurations = args.state.len() * threads.len() * args.batch.len();
    let mut bench = Bench {
        table: &table,
        ids: IdSource::new(&args.ids, table.vocab())?,
        limit_ids: IdSource::others(&args.ids, table.vocab())?,
        memory: Memory::for_batches(&table, args.largest_batch())?,
        record: Recorder::create(args.record.as_deref(), args.force)?,
        seconds: args.seconds,
        progress: Progress::new(Unit::Work, console),
        all: milliseconds(args.seconds) * configurations as u64,
        over: 0,
    };
    let plot = args.plot.as_deref().map(plotted).transpose()?;
    interrupt::defer();
    check_all(args, &threads, &mut bench)?;
    let mut report = Report::new(args, &table);
    for state in &args.state {
        measure_state(args, *state, &threads, &mut bench, &mut report)?;
    }
    let Bench { record, progress, .. } = bench;
    drop(progress);
    interrupt::stop()?;
    report.finish()?;
    record.finish()?;
    if let Some(out) = plot {
        plot::write(out, &report)?;
    }
    Ok(verdict(&report, console))
}

/// Compares rows of a batch of each size with those of the file, before anything is measured.
fn check_all(args: &BenchArgs, threads: &[usize], bench: &mut Bench<'_>) -> Result<()> {
    let reader = reach(args, Access::Read)?;
    // Not those that will be measured, for those are to be read for the first time then.
    let mut source = IdSource::others(&args.ids, reader.vocab())?;
    for batch in &args.batch {
        let mut ids = vec![0; batch.get()];
        source.fill(&mut ids)?;
        for threads in threads {
            interrupt::stop()?;
            let work = Work::new(bench.table, args.out, *threads, batch.get());
            check(&work, &ids, &mut bench.memory, &reader)?;
        }
    }
    Ok(())
}

/// The same table, reached in another way.
fn reach(args: &BenchArgs, access: Access) -> Result<Table> {
    let options: OpenOptions = args.opening.options();
    Ok(options.access(access).open(&args.path)?)
}

/// Measures all configurations of a state.
fn measure_state(
    args: &BenchArgs,
    state: State,
    threads: &[usize],
    bench: &mut Bench<'_>,
    report: &mut Report<'_>,
) -> Result<()> {
    let table = Arc::clone(bench.table);
    let limit = match state {
        State::Warm => Limit::of_memory(&table)?,
        State::Cold | State::Capped(_) => Limit::of_device(reach(args, Access::Direct)?)?,
    };
    let prepared = prepare(state, &table)?;
    for threads in threads {
        for batch in &args.batch {
            let work = Work::new(&table, args.out, *threads, batch.get());
            let found = match &prepared {
                Ok(_) => bench.measure(state, &work, &limit)?,
                Err(reason) => Err(reason.clone()),
            };
            report.push(Figures { state, threads: *threads, batch: batch.get(), found })?;
        }
    }
    Ok(())
}

/// Brings the table into a state that lasts over batches. What is handed back keeps it.
fn prepare(state: State, table: &Arc<Table>) -> Result<Result<Option<Cap>, Reason>> {
    Ok(match state {
        State::Warm => state::warm(table)?.map(|()| None),
        State::Cold => Ok(None),
        State::Capped(bytes) => match state::evict(table)? {
            Ok(()) => Cap::impose(bytes).map(Some),
            Err(reason) => Err(reason),
        },
    })
}

/// Tells each state that could not be had: such a run has failed.
fn verdict(report: &Report<'_>, console: &Console) -> Finding {
    let mut told = Vec::new();
    for figures in &report.figures {
        if let Err(reason) = &figures.found
            && !told.contains(&(figures.state, reason))
        {
            told.push((figures.state, reason));
            console.error(&report::refusal(figures.state, reason));
        }
    }
    if told.is_empty() { Finding::Sound } else { Finding::Damage }
}
