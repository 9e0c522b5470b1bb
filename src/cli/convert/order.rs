//! The order of rows that a trace of their use asks for.

use std::num::NonZero;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use anyhow::{Result, bail};
use clap::Args;
use embmap::{AccessTrace, Arrangement, ConvertOptions, Placement, Source};
use serde_json::{Value, json};

use crate::cli::console::Console;
use crate::cli::escape::printable_path;
use crate::cli::interrupt;
use crate::cli::progress::{Progress, Unit};
use crate::cli::trace::Trace;

/// How rows are laid out.
#[derive(Args)]
pub(super) struct OrderArgs {
    /// Lay rows out by a text of ids as they are used, so that rows used together share pages;
    /// ids stay what they are
    #[arg(long, value_name = "TRACE", help_heading = "Order")]
    #[arg(conflicts_with_all = ["rows", "keep_tokens"])]
    order: Option<PathBuf>,
    /// The ids of the trace that were used together [default: those of a line]
    #[arg(long, value_name = "N", help_heading = "Order", requires = "order")]
    order_batch: Option<NonZero<usize>>,
}

/// An order, and what it is made from.
pub(super) struct Ordered {
    arrangement: Arrangement,
    ids: u64,
    batches: u64,
}

impl OrderArgs {
    /// The order that the trace asks for of the rows as they will be written.
    pub(super) fn arrange(
        &self,
        source: &Source,
        options: &ConvertOptions,
        console: &Console,
    ) -> Result<Option<Ordered>> {
        let Some(path) = &self.order else { return Ok(None) };
        let Some(table) = source.table() else {
            bail!(
                "--order places rows by their ids, and {} is read once, in its order: convert it \
                 without --order first, and then the .emb file with it",
                source.format()
            );
        };
        let (row_bytes, row_stride) = options.row_sizes(table)?;
        let mut trace = Trace::open(path, table.vocab())?;
        let ids = trace.count();
        let mut used = AccessTrace::new(table.vocab());
        trace.each_batch(self.order_batch, |batch| Ok(used.push(batch)?))?;
        console.detail(&format!(
            "arranging rows by {ids} ids in {} batches of {}",
            used.batches(),
            printable_path(path)
        ));
        let progress = Mutex::new(Progress::new(Unit::Work, console));
        let arrangement = used.arrange_with(row_bytes, row_stride, |done, all| {
            progress.lock().unwrap_or_else(PoisonError::into_inner).show(done, all);
            interrupt::check()
        })?;
        Ok(Some(Ordered { arrangement, ids, batches: used.batches() }))
    }
}

impl Ordered {
    /// Asks for the order.
    pub(super) fn apply(&self, options: ConvertOptions) -> ConvertOptions {
        options.order(self.arrangement.ids.as_slice())
    }

    pub(super) fn summarize(&self, console: &Console) {
        let Arrangement { ids, placement, pages_by_id, judged, .. } = &self.arrangement;
        let what = match placement {
            Placement::ByUse => "the most used first",
            Placement::Together => "those used together near each other",
            _ => {
                console.summary("rows lie by their ids: no order of the trace's saves pages");
                return;
            }
        };
        let gain = match self.pages() {
            Some(pages) => format!(
                "; a batch of {judged} that were kept apart touches {pages:.1} pages of 4 KiB \
                 instead of {pages_by_id:.1}"
            ),
            None => "; the trace has too few batches to tell what that saves".to_owned(),
        };
        console.summary(&format!("placed {} rows, {what}{gain}", ids.len()));
    }

    /// The pages of a batch, where that is known.
    fn pages(&self) -> Option<f64> {
        let Arrangement { placement, pages_by_id, pages_by_use, pages_together, judged, .. } =
            &self.arrangement;
        (*judged > 0).then_some(match placement {
            Placement::ByUse => *pages_by_use,
            Placement::Together => *pages_together,
            _ => *pages_by_id,
        })
    }

    pub(super) fn object(&self) -> Value {
        let Arrangement { ids, placement, pages_by_id, judged, .. } = &self.arrangement;
        json!({
            "placement": placement.name(),
            "placed_rows": ids.len(),
            "trace_ids": self.ids,
            "trace_batches": self.batches,
            "judged_batches": judged,
            "pages_per_batch": self.pages(),
            "pages_per_batch_by_id": (*judged > 0).then_some(pages_by_id),
        })
    }
}
