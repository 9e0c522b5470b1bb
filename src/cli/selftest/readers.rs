//! A reader keeps the rows that it opened, and needs to read and nothing else.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Result;
use embmap::{Access, ConvertOptions, OpenOptions, Table};

use super::sample::{self, DIM, Sample};
use super::score::Score;
use crate::cli::open;

const ROWS: u64 = 2000;

/// Every way to open a table that the system allows here.
fn opened(path: &Path) -> Vec<(&'static str, embmap::Result<Table>)> {
    let open = |access| OpenOptions::new().access(access).open(path);
    let mut ways = vec![("read", open(Access::Read)), ("memory", open(Access::Memory))];
    let mapped = open::map(path, OpenOptions::new());
    if !matches!(mapped, Err(embmap::Error::NetworkFileSystem { .. })) {
        ways.push(("map", mapped));
    }
    // Not every file system reads past its cache.
    if let Ok(table) = open(Access::Direct) {
        ways.push(("direct", Ok(table)));
    }
    ways
}

/// A file is replaced, saved over itself and removed under its readers.
pub(super) fn stable(sample: &Sample, score: &mut Score) -> Result<()> {
    let path = sample.path("stable.emb");
    for seed in 1..=5 {
        sample::write_table(&path, ROWS, seed)?;
        let readers = opened(&path);
        sample::write_table(&path, 7, seed + 100)?;
        keep(&readers, seed, "replaced", score);
        fs::remove_file(&path)?;
        keep(&readers, seed, "removed", score);
    }
    for (way, seed) in [("map", 6), ("read", 7), ("memory", 8)] {
        sample::write_table(&path, ROWS, seed)?;
        let readers = opened(&path);
        let Some((_, Ok(source))) = readers.iter().find(|(name, _)| *name == way) else { continue };
        let options = ConvertOptions::new().replace(true).align(128);
        let saved = embmap::convert(source, &path, &options);
        score.case(
            || format!("saved over its own source, {way}: {:?}", saved.as_ref().err()),
            || saved.is_ok() && Table::load(&path).is_ok_and(|new| sample::holds(&new, ROWS, seed)),
        );
        keep(&readers, seed, "saved over", score);
    }
    fs::remove_file(path)?;
    Ok(())
}

fn keep(readers: &[(&str, embmap::Result<Table>)], seed: u64, what: &str, score: &mut Score) {
    for (way, reader) in readers {
        score.case(
            || format!("{what}, {way}: {:?}", reader.as_ref().err()),
            || reader.as_ref().is_ok_and(|table| sample::holds(table, ROWS, seed)),
        );
    }
}

/// A file that nobody may write, in many threads and in other processes at once.
pub(super) fn read_only(sample: &Sample, score: &mut Score) -> Result<()> {
    let path = sample.path("read-only.emb");
    sample::write_table(&path, ROWS, 3)?;
    let mut permissions = fs::metadata(&path)?.permissions();
    permissions.set_readonly(true);
    fs::set_permissions(&path, permissions)?;
    let before = fs::read_dir(&sample.folder)?.count();
    let program = std::env::current_exe()?;
    let mut children = Vec::new();
    for _ in 0..3 {
        let mut command = Command::new(&program);
        command.arg("verify").arg(&path).arg("-q");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        children.push(command.spawn()?);
    }
    for (way, table) in opened(&path) {
        score.case(
            || format!("{way}: {:?}", table.as_ref().err()),
            || {
                let Ok(table) = &table else { return false };
                std::thread::scope(|scope| {
                    let reader = || sample::holds(table, ROWS, 3) && table.dim() == DIM;
                    let threads: Vec<_> = (0..4).map(|_| scope.spawn(reader)).collect();
                    threads.into_iter().all(|thread| thread.join().unwrap_or(false))
                })
            },
        );
    }
    for mut child in children {
        let status = child.wait()?;
        score.case(|| format!("another process: {status}"), || status.success());
    }
    let after = fs::read_dir(&sample.folder)?.count();
    score.case(|| "readers leave files behind".to_owned(), || before == after);
    // Windows removes no file that is read-only.
    #[cfg(not(unix))]
    {
        let mut permissions = fs::metadata(&path)?.permissions();
        permissions.set_readonly(false);
        fs::set_permissions(&path, permissions)?;
    }
    fs::remove_file(path)?;
    Ok(())
}
