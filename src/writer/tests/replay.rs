//! A crash at every step, with all that was not flushed lost.

use std::sync::{Arc, Mutex};

use super::*;
use crate::table::Table;

/// An operation, kept.
#[derive(Debug, Clone)]
enum Step {
    Write {
        offset: usize,
        bytes: Vec<u8>,
    },
    /// Changes the temporary in another way.
    Change,
    SyncFile,
    Rename,
    SyncDirectory,
    Unlink,
    /// Touches neither the temporary nor the destination.
    Aside,
}

fn step_of(operation: Operation<'_>) -> Step {
    match operation {
        Operation::Write { offset, bytes } => {
            Step::Write { offset: usize::try_from(offset).unwrap(), bytes: bytes.to_vec() }
        }
        Operation::Allocate | Operation::SetMode => Step::Change,
        Operation::SyncFile => Step::SyncFile,
        Operation::Rename => Step::Rename,
        Operation::SyncDirectory => Step::SyncDirectory,
        Operation::Unlink => Step::Unlink,
        Operation::CreateTemporary | Operation::CreateSpool | Operation::WriteSpool { .. } => {
            Step::Aside
        }
    }
}

/// What a file holds after a power cut.
#[derive(Debug, Clone, PartialEq)]
enum Content {
    Absent,
    Whole(Vec<u8>),
    /// Anything: not all of it was flushed.
    Torn,
}

/// What may stand at the destination after a power cut that follows these steps.
fn after_power_cut(steps: &[Step], old: &Content) -> Vec<Content> {
    let mut temporary = Vec::new();
    let mut durable = Content::Torn;
    let mut destinations = vec![old.clone()];
    for step in steps {
        match step {
            Step::Write { offset, bytes } => {
                let end = offset + bytes.len();
                temporary.resize(temporary.len().max(end), 0);
                temporary[*offset..end].copy_from_slice(bytes);
                durable = Content::Torn;
            }
            Step::Change => durable = Content::Torn,
            Step::SyncFile => durable = Content::Whole(temporary.clone()),
            Step::Rename => destinations.push(durable.clone()),
            Step::SyncDirectory => destinations = vec![durable.clone()],
            Step::Unlink | Step::Aside => {}
        }
    }
    destinations
}

/// Runs a writer, looking at the real destination before every step.
fn record(old: Option<&[u8]>, run: impl FnOnce(&Path, Operations)) -> Vec<Step> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("table.emb");
    if let Some(old) = old {
        std::fs::write(&path, old).unwrap();
    }
    let steps = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&steps);
    let (looked_at, old, new) = (path.clone(), old.map(<[u8]>::to_vec), sample());
    let operations = hooked(move |operation| {
        let found = std::fs::read(&looked_at).ok();
        assert!(found == old || found.is_some_and(|found| found == new), "{operation:?}");
        kept.lock().unwrap().push(step_of(operation));
        Ok(usize::MAX)
    });
    run(&path, operations);
    steps.lock().unwrap().clone()
}

fn check_every_prefix(old: Option<&[u8]>) {
    let steps = record(old, |path, operations| {
        write_sample(path, old.is_some(), operations).unwrap();
    });
    let old = old.map_or(Content::Absent, |old| Content::Whole(old.to_vec()));
    let new = Content::Whole(sample());
    for end in 0..=steps.len() {
        for found in after_power_cut(&steps[..end], &old) {
            assert!(found == old || found == new, "after {end} of {} steps", steps.len());
        }
    }
    assert!(after_power_cut(&steps, &old) == [new], "what was reported written is durable");
}

#[test]
fn a_power_cut_at_any_step_leaves_the_old_file_or_the_new_one() {
    check_every_prefix(Some(b"the old file"));
}

#[test]
fn a_power_cut_at_any_step_leaves_nothing_or_the_new_file() {
    check_every_prefix(None);
}

#[test]
fn a_dropped_writer_removes_its_temporary_and_nothing_else() {
    let old = b"the old file";
    let steps = record(Some(old), |path, operations| {
        let mut writer = sample_options(true, operations).create(path).unwrap();
        push_sample(&mut writer).unwrap();
        let parent = path.parent().unwrap();
        assert_eq!(others(parent, "table.emb").len(), 1);
        drop(writer);
        assert!(others(parent, "table.emb").is_empty());
        assert_eq!(std::fs::read(path).unwrap(), old);
    });
    assert!(matches!(steps.last(), Some(Step::Unlink)));
    assert!(!steps.iter().any(|step| matches!(step, Step::Rename)));
}

#[test]
fn until_the_header_is_written_no_reader_accepts_the_file() {
    let steps = record(None, |path, operations| {
        write_sample(path, false, operations).unwrap();
    });
    let headers: Vec<usize> = (0..steps.len())
        .filter(|at| {
            matches!(&steps[*at], Step::Write { offset, bytes }
                if *offset < 4096 && bytes.iter().any(|byte| *byte != 0))
        })
        .collect();
    let last_write = steps.iter().rposition(|step| matches!(step, Step::Write { .. })).unwrap();
    assert_eq!(headers, [last_write]);
}

/// A file as a power cut may leave it, of writes that were not flushed: whole pages of them are
/// lost, and the length that the lost ones gave it may be kept.
fn torn(writes: &[(usize, Vec<u8>)], sized: bool, kept: impl Fn(usize, usize) -> bool) -> Vec<u8> {
    const PAGE: usize = 4096;
    let mut file = Vec::new();
    for (index, (offset, bytes)) in writes.iter().enumerate() {
        if sized {
            file.resize(file.len().max(offset + bytes.len()), 0);
        }
        for (page, bytes) in bytes.chunks(PAGE).enumerate() {
            if kept(index, page) {
                let at = offset + page * PAGE;
                file.resize(file.len().max(at + bytes.len()), 0);
                file[at..at + bytes.len()].copy_from_slice(bytes);
            }
        }
    }
    file
}

/// What is left of a temporary, which somebody may rename by hand, is not taken for a table
/// unless nothing is lost or `verify` finds what is.
#[test]
fn no_loss_that_the_page_cache_allows_goes_unseen() {
    let steps = record(None, |path, operations| {
        write_sample(path, false, operations).unwrap();
    });
    let mut writes = Vec::new();
    let whole = sample();
    let (mut states, mut opened, mut found) = (0u32, 0, 0);
    let mut look = |file: &[u8]| {
        states += 1;
        let Ok(table) = Table::from_bytes(file) else { return };
        opened += 1;
        if file != whole {
            assert!(!table.verify().unwrap().is_sound(), "a torn file verifies");
            found += 1;
        }
    };
    for step in &steps {
        match step {
            Step::Write { offset, bytes } => writes.push((*offset, bytes.clone())),
            Step::SyncFile => break,
            _ => continue,
        }
        // Every set of lost writes; of many, those that lose few of the last ones or keep few.
        let last = writes.len().saturating_sub(11);
        for lost in 0u32..1 << (writes.len() - last) {
            for sized in [false, true] {
                look(&torn(&writes, sized, |write, _| {
                    write < last || lost >> (write - last) & 1 == 0
                }));
            }
        }
    }
    // And by single pages.
    for case in 0..1200u64 {
        let one_in = [2, 8, 30, 100][case as usize % 4];
        let seed = case.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        look(&torn(&writes, true, |write, page| {
            let mixed =
                (seed ^ (write as u64) << 32 ^ page as u64).wrapping_mul(0xd6e8_feb8_6659_fd93);
            !(mixed ^ mixed >> 32).is_multiple_of(one_in)
        }));
    }
    eprintln!(
        "{states} states after {} writes: {opened} opened, of which {found} were torn and found by verify",
        writes.len()
    );
    assert!(states > 1000 && opened > found && found > 0);
}
