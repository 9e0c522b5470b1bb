//! What an order of rows saves: the pages that cold batches read from the device, and the time they
//! take, of tables whose rows lie by their ids, by their use, and together.
//!
//! `cargo bench --no-default-features --bench order [-- ROUNDS]` writes tables of 200 MB below
//! `target`, makes orders from 2,000 batches of a trace, gathers fresh batches of the same kind
//! from cold files, all orders in turn, and prints means. `-- --test` is a quick run on small
//! tables.

#![allow(
    unsafe_code,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::print_stdout
)]

#[cfg(not(target_os = "linux"))]
fn main() {}

#[cfg(target_os = "linux")]
fn main() {
    linux::main();
}

#[cfg(target_os = "linux")]
#[path = "../tests/support/mod.rs"]
mod support;

#[cfg(target_os = "linux")]
mod linux {
    use std::collections::HashSet;
    use std::path::{Path, PathBuf};
    use std::time::Instant;

    use embmap::{AccessTrace, DType, Placement, Table, WriteOptions};

    use super::support::Random;

    const BATCH: usize = 1024;

    /// Where the ids of a batch come from.
    #[derive(Debug, Clone, Copy)]
    enum Kind {
        /// Each from all rows, with the probability 1 / rank^s.
        Zipf(f64),
        /// Seven of ten from eight topics of 200 rows, the topics and the rows in them with the
        /// probability 1 / rank; the others from all rows.
        Topics,
        Uniform,
    }

    const KINDS: [Kind; 4] = [Kind::Zipf(0.8), Kind::Zipf(1.1), Kind::Topics, Kind::Uniform];

    /// Ranks with the probability 1 / rank^s, exactly.
    struct Ranks(Vec<f64>);

    impl Ranks {
        fn new(count: u64, s: f64) -> Self {
            let mut sum = 0.0;
            let sums = (1..=count).map(|rank| {
                sum += (rank as f64).powf(-s);
                sum
            });
            Ranks(sums.collect())
        }

        fn next(&self, random: &mut Random) -> u64 {
            let unit = (random.next() >> 11) as f64 / (1u64 << 53) as f64;
            let wanted = unit * self.0.last().unwrap();
            self.0.partition_point(|sum| *sum <= wanted) as u64
        }
    }

    struct Source {
        kind: Kind,
        vocab: u64,
        /// The row of each rank: hot rows are no neighbours.
        rows: Vec<u64>,
        all: Ranks,
        topics: Ranks,
        within: Ranks,
        random: Random,
    }

    impl Source {
        fn new(kind: Kind, vocab: u64) -> Self {
            let mut random = Random(vocab);
            let mut rows: Vec<u64> = (0..vocab).collect();
            for at in (1..rows.len()).rev() {
                rows.swap(at, random.below(at as u64 + 1) as usize);
            }
            let s = if let Kind::Zipf(s) = kind { s } else { 1.0 };
            let all = Ranks::new(vocab, s);
            let (topics, within) = (Ranks::new(vocab / 200, 1.0), Ranks::new(200, 1.0));
            Source { kind, vocab, rows, all, topics, within, random }
        }

        fn batch(&mut self) -> Vec<u64> {
            let random = &mut self.random;
            let topics: Vec<u64> = (0..8).map(|_| self.topics.next(random)).collect();
            (0..BATCH)
                .map(|_| match self.kind {
                    Kind::Uniform => random.below(self.vocab),
                    Kind::Topics if random.below(10) < 7 => {
                        let topic = topics[random.below(8) as usize];
                        let row = topic * 200 + self.within.next(random);
                        // Topics are of rows here and there, whatever their rank.
                        row * 48_271 % self.vocab
                    }
                    Kind::Topics | Kind::Zipf(_) => self.rows[self.all.next(random) as usize],
                })
                .collect()
        }
    }

    /// What batches cost in one order.
    #[derive(Default, Clone, Copy)]
    struct Cost {
        pages: f64,
        milliseconds: f64,
        /// Where the order itself was in memory.
        pages_of_rows: f64,
    }

    pub(super) fn main() {
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        let quick = arguments.iter().any(|argument| argument == "--test");
        let rounds = arguments.iter().find_map(|argument| argument.parse().ok());
        let rounds: usize = rounds.unwrap_or(if quick { 1 } else { 20 });
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        for row in [160usize, 512, 3072] {
            let vocab = if quick { 1 << 21 } else { 200 << 20 } / row as u64;
            println!("\n{vocab} rows of {row} bytes, batches of {BATCH}, {rounds} rounds");
            for kind in KINDS {
                measure(directory.path(), kind, vocab, row, rounds, quick);
            }
        }
    }

    fn measure(directory: &Path, kind: Kind, vocab: u64, row: usize, rounds: usize, quick: bool) {
        let mut source = Source::new(kind, vocab);
        let mut trace = AccessTrace::new(vocab);
        for _ in 0..if quick { 50 } else { 2000 } {
            trace.push(&source.batch()).unwrap();
        }
        let started = Instant::now();
        let arranged = trace.arrange(row as u64, row as u64).unwrap();
        let taken = started.elapsed().as_secs_f64();
        // Each way is measured where it is not the best one too.
        let by = |placement| trace.arrange_by(placement, row as u64, row as u64).unwrap().ids;
        let orders = [vec![], by(Placement::ByUse), by(Placement::Together)];
        let paths: Vec<PathBuf> = (0..)
            .zip(&orders)
            .map(|(index, order)| {
                let path = directory.join(format!("{index}.emb"));
                write(&path, vocab, row, order);
                path
            })
            .collect();
        let mut costs = [Cost::default(); 3];
        for round in 0..rounds {
            let ids = source.batch();
            for turn in 0..3 {
                let order = (turn + round) % 3;
                let cost = gather(&paths[order], &ids, row);
                costs[order].pages += cost.pages / rounds as f64;
                costs[order].pages_of_rows += cost.pages_of_rows / rounds as f64;
                costs[order].milliseconds += cost.milliseconds / rounds as f64;
            }
        }
        println!(
            "  {kind:?}: {} of {} rows placed in {taken:.1} s, chosen {}",
            arranged.ids.len(),
            vocab,
            arranged.placement.name()
        );
        let by_id = costs[0];
        for (name, (order, cost)) in
            ["by id", "by use", "together"].iter().zip(orders.iter().zip(costs))
        {
            println!(
                "    {name:<9} {:>7} placed, {:>7.1} pages (x {:.2}), {:>6.2} ms (x {:.2}); {:>7.1} pages (x {:.2}) with the order in memory",
                order.len(),
                cost.pages,
                by_id.pages / cost.pages,
                cost.milliseconds,
                by_id.milliseconds / cost.milliseconds,
                cost.pages_of_rows,
                by_id.pages_of_rows / cost.pages_of_rows,
            );
        }
    }

    /// Rows that hold their ids, in an order.
    fn write(path: &Path, vocab: u64, row: usize, order: &[u64]) {
        let placed: HashSet<u64> = order.iter().copied().collect();
        let options = WriteOptions::new(row, DType::U8).vocab(vocab).order(order).replace(true);
        let mut writer = options.create(path).unwrap();
        let mut bytes = vec![0; row];
        let rest = (0..vocab).filter(|id| !placed.contains(id));
        for id in order.iter().copied().chain(rest) {
            bytes.copy_from_slice(&Random(id).bytes(row));
            bytes[..8].copy_from_slice(&id.to_le_bytes());
            writer.push_encoded(&bytes).unwrap();
        }
        writer.finish().unwrap();
    }

    /// Gathers a batch from a cold file, and checks it.
    fn gather(path: &Path, ids: &[u64], row: usize) -> Cost {
        // SAFETY: the bench's own file, which nothing writes to while it is mapped.
        let table = unsafe { Table::map(path).unwrap() };
        let left = table.evict().unwrap();
        if left.cached_bytes != Some(0) {
            println!("    (not cold: {:?} bytes are cached)", left.cached_bytes);
        }
        let mut out = vec![0; ids.len() * row];
        let mut read = || {
            let before = device_bytes();
            let started = Instant::now();
            table.gather_bytes_into(ids, &mut out).unwrap();
            let milliseconds = started.elapsed().as_secs_f64() * 1e3;
            for (id, row) in ids.iter().zip(out.chunks(row)) {
                assert_eq!(row[..8], id.to_le_bytes());
            }
            ((device_bytes() - before) as f64 / 4096.0, milliseconds)
        };
        let (pages, milliseconds) = read();
        table.evict().unwrap();
        // No rows, and the order that tells where they lie.
        table.prefetch::<u64>(&[]).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(50));
        let (pages_of_rows, _) = read();
        Cost { pages, milliseconds, pages_of_rows }
    }

    fn device_bytes() -> u64 {
        let io = std::fs::read_to_string("/proc/self/io").unwrap();
        let line = io.lines().find(|line| line.starts_with("read_bytes:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}
