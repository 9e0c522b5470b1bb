//! What a conversion did, or would do.

use std::path::{Path, PathBuf};
use std::time::Duration;

use embmap::{DType, Loss, Planned, Source, Written};
use serde_json::{Value, json};

use super::order::Ordered;
use crate::cli::console::{Console, size};
use crate::cli::escape::printable_path;
use crate::cli::json::{Object, hex};

/// What is told at the end.
pub(super) struct Report {
    output: PathBuf,
    format: &'static str,
    dim: usize,
    /// The types of the source and of the file.
    from: DType,
    dtype: DType,
    outcome: Outcome,
    pub(super) ordered: Option<Ordered>,
    pub(super) taken: Duration,
}

enum Outcome {
    Nothing,
    Planned(Planned),
    Written(Box<Written>),
}

impl Report {
    /// What is known before.
    pub(super) fn of(source: &Source, stored: Option<DType>, output: &Path) -> Self {
        Report {
            output: output.to_path_buf(),
            format: source.format(),
            dim: source.dim(),
            from: source.dtype(),
            dtype: stored.unwrap_or(source.dtype()),
            outcome: Outcome::Nothing,
            ordered: None,
            taken: Duration::ZERO,
        }
    }

    pub(super) fn planned(&mut self, planned: Planned) {
        self.outcome = Outcome::Planned(planned);
    }

    pub(super) fn written(&mut self, written: Written) {
        self.outcome = Outcome::Written(Box::new(written));
    }

    fn per_second(&self, count: u64) -> u64 {
        let per_second = u128::from(count) * 1_000_000 / self.taken.as_micros().max(1);
        u64::try_from(per_second).unwrap_or(u64::MAX)
    }

    pub(super) fn summarize(&self, console: &Console) {
        let Report { dim, dtype, .. } = self;
        let output = printable_path(&self.output);
        if let Some(ordered) = &self.ordered {
            ordered.summarize(console);
        }
        match &self.outcome {
            Outcome::Nothing => {}
            Outcome::Planned(planned) => {
                let Planned { vocab, tokens, file_bytes, at_most, .. } = planned;
                let at_most = if *at_most { "at most " } else { "" };
                console.summary(&format!(
                    "would write {output}: {vocab} x {dim} {dtype}, {tokens} tokens, {at_most}{} ({file_bytes} bytes)",
                    size(*file_bytes)
                ));
                note_non_finite(planned.non_finite, console);
            }
            Outcome::Written(written) => {
                let Written { file_bytes, vocab, tokens, duplicates, .. } = &**written;
                console.summary(&format!(
                    "wrote {output}: {vocab} x {dim} {dtype}, {tokens} tokens, {} in {:.2} s ({} rows/s, {}/s)",
                    size(*file_bytes),
                    self.taken.as_secs_f64(),
                    self.per_second(*vocab),
                    size(self.per_second(*file_bytes)),
                ));
                if *duplicates > 0 {
                    console.summary(&format!("left out {duplicates} rows whose token another has"));
                }
                if let missing @ 1.. = written.missing_tokens {
                    console.note(&format!("the source has no rows of {missing} of the tokens"));
                }
                note_non_finite(written.non_finite, console);
                if let Some(loss) = &written.loss {
                    console.summary(&format!(
                        "quantized from {}: error {:.3e} at most, {:.3e} RMS; cosine {:.6} in the mean, {:.6} at least",
                        self.from,
                        loss.max_error,
                        loss.rms_error,
                        loss.mean_cosine,
                        loss.min_cosine,
                    ));
                }
            }
        }
    }

    pub(super) fn object(&self) -> Object {
        let object = Object::new()
            .with("output", self.output.to_string_lossy())
            .with("format", self.format)
            .with("dry_run", matches!(self.outcome, Outcome::Planned(_)));
        match &self.outcome {
            Outcome::Nothing => object,
            Outcome::Planned(planned) => object
                .with("vocab", planned.vocab)
                .with("dim", planned.dim)
                .with("dtype", planned.dtype.name())
                .with("row_stride", planned.row_stride)
                .with("file_bytes", planned.file_bytes)
                .with("file_bytes_at_most", planned.at_most)
                .with("non_finite", planned.non_finite)
                .with("order", self.ordered.as_ref().map(Ordered::object))
                .with("tokens", planned.tokens)
                .with("seconds", self.taken.as_secs_f64()),
            Outcome::Written(written) => object
                .with("vocab", written.vocab)
                .with("dim", self.dim)
                .with("dtype", self.dtype.name())
                .with("row_stride", written.row_stride)
                .with("file_bytes", written.file_bytes)
                .with("quantization", written.loss.as_ref().map(quantization))
                .with("duplicates", written.duplicates)
                .with("missing_tokens", written.missing_tokens)
                .with("non_finite", written.non_finite)
                .with("order", self.ordered.as_ref().map(Ordered::object))
                .with("tokens", written.tokens)
                .with("file_id", hex(&written.file_id))
                .with("seconds", self.taken.as_secs_f64())
                .with("rows_per_second", self.per_second(written.vocab))
                .with("bytes_per_second", self.per_second(written.file_bytes)),
        }
    }
}

fn note_non_finite(count: Option<u64>, console: &Console) {
    if let Some(count @ 1..) = count {
        console.note(&format!("{count} numbers are NaN or infinite, as the text has them"));
    }
}

fn quantization(loss: &Loss) -> Value {
    json!({
        "max_error": loss.max_error,
        "rms_error": loss.rms_error,
        "mean_cosine": loss.mean_cosine,
        "min_cosine": loss.min_cosine,
    })
}
