//! Files appear whole or not at all, whatever happens to their writer.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use embmap::{DType, Error, Table, WriteOptions};

use super::sample::{self, DIM, Random, Sample};
use super::score::Score;

/// The rows of the tables that are converted while somebody kills: 4 MiB.
const ROWS: u64 = 65_536;

/// A conversion over a file is killed at random moments: the old file or the new one is there.
pub(super) fn atomic(sample: &Sample, score: &mut Score) -> Result<()> {
    let sources = ["first.emb", "second.emb"].map(|name| sample.path(name));
    for (seed, source) in (1..).zip(&sources) {
        sample::write_table(source, ROWS, seed)?;
    }
    let folder = sample.path("published");
    fs::create_dir(&folder)?;
    let target = folder.join("table.emb");
    let program = std::env::current_exe()?;
    let convert = |source: &Path| {
        let mut command = Command::new(&program);
        command.arg("convert").arg(source).arg("-o").arg(&target).args(["--force", "-q"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    };
    let started = Instant::now();
    ensure!(convert(&sources[0]).status()?.success(), "a conversion that nobody killed failed");
    let whole = u64::try_from(started.elapsed().as_nanos())?.max(1);

    let mut random = Random(whole);
    let mut standing = 1;
    for kill in 0..sample.kills {
        let seed = u64::from((kill + 1) % 2) + 1;
        let mut child = convert(&sources[usize::try_from(seed - 1)?]).spawn()?;
        std::thread::sleep(Duration::from_nanos(random.below(whole / 4 * 5 + 1)));
        child.kill()?;
        child.wait()?;
        let found = Table::load(&target);
        let is = |seed: u64| {
            found.as_ref().is_ok_and(|table| {
                sample::holds(table, ROWS, seed)
                    && table.verify().is_ok_and(|found| found.is_sound())
            })
        };
        score.case(
            || format!("kill {kill}: neither the old file nor the new one"),
            || is(standing) || is(seed),
        );
        if is(seed) {
            standing = seed;
        }
        for name in others(&folder)? {
            let told = name.starts_with(".table.emb.") && name.ends_with(".embmap-tmp");
            score.case(|| format!("kill {kill}: {name} is left behind"), || told);
            fs::remove_file(folder.join(name))?;
        }
    }
    fs::remove_dir_all(folder)?;
    sources.iter().try_for_each(fs::remove_file).context("cannot clean up")
}

/// The names beside the published file.
fn others(folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name != "table.emb" {
            names.push(name);
        }
    }
    Ok(names)
}

/// A write that says it is done has flushed the file and its directory, which this file system
/// allows, and reads back as what was written.
pub(super) fn durable(sample: &Sample, score: &mut Score) -> Result<()> {
    let path = sample.path("durable.emb");
    for seed in 1..=10 {
        let written = sample::write_table(&path, 300, seed);
        score.case(
            || format!("write {seed}: {:?}", written.as_ref().err()),
            || {
                written.is_ok()
                    && Table::load(&path).is_ok_and(|table| sample::holds(&table, 300, seed))
            },
        );
    }
    fs::remove_file(path)?;
    Ok(())
}

/// What goes wrong before a file is published leaves what stands there, and nothing besides.
pub(super) fn inert(sample: &Sample, score: &mut Score) -> Result<()> {
    type Failing = fn(WriteOptions, &Path) -> Result<(), Error>;
    let row = [0.5f32; DIM];
    let failing: [(&str, Failing); 7] = [
        ("dropped", |options, path| options.create(path).map(drop)),
        ("a row too long", |options, path| options.create(path)?.push(&[0.5f32; DIM + 1])),
        ("another dtype", |options, path| options.create(path)?.push(&[0.5f64; DIM])),
        ("too few rows", |options, path| options.vocab(3).create(path)?.finish().map(drop)),
        ("too many rows", |options, path| options.vocab(1).create(path)?.push(&[0.5f32; 2 * DIM])),
        ("more than any disk has", |options, path| options.vocab(1 << 50).create(path).map(drop)),
        ("metadata that is too long", |options, path| {
            let mut writer = options.metadata("x".repeat(2 << 20)).create(path)?;
            writer.push(&[0.5f32; DIM])?;
            writer.finish().map(drop)
        }),
    ];
    let folder = sample.path("inert");
    fs::create_dir(&folder)?;
    let path = folder.join("table.emb");
    for stands in [false, true] {
        if stands {
            sample::write_table(&path, 10, 1)?;
        }
        let before = fs::read(&path).ok();
        for (what, fail) in &failing {
            let answer = fail(WriteOptions::new(DIM, DType::F32).replace(true), &path);
            let names = others(&folder)?;
            score.case(
                || format!("{what}: {answer:?}, {names:?} left behind"),
                || {
                    (answer.is_err() || *what == "dropped")
                        && names.is_empty()
                        && fs::read(&path).ok() == before
                },
            );
        }
    }
    // A writer that failed stays failed, and "create new" replaces nothing.
    let mut writer = WriteOptions::new(DIM, DType::F32).replace(true).create(&path)?;
    _ = writer.push(&[0.5f32; 1]);
    score.case(
        || "a writer that failed goes on".to_owned(),
        || {
            matches!(writer.push(&row), Err(Error::WriterPoisoned { .. }))
                && writer.finish().is_err()
        },
    );
    let created = WriteOptions::new(DIM, DType::F32).create(&path);
    score.case(
        || "a file that is there is replaced".to_owned(),
        || matches!(created, Err(Error::Exists { .. })),
    );
    fs::remove_dir_all(folder)?;
    Ok(())
}
