//! Gathers of rows that are not in memory, beside other ways to read them, interleaved in one
//! run; and what looking for cold rows costs where all are warm.
//!
//! `cargo bench --no-default-features --bench cold [-- ROUNDS PART...]` writes files of 300 MB
//! below `target` and prints medians; the parts are `cold`, `steps`, `warm` and `start`, all
//! of them unless said. `-- --test` is a quick run on small files.

#![allow(
    unsafe_code,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
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
    use std::fs::File;
    use std::hint::black_box;
    use std::os::unix::fs::{FileExt, OpenOptionsExt};
    use std::path::Path;
    use std::time::Instant;

    use embmap::format::ROWS_OFFSET;
    use embmap::{Access, DType, GatherOptions, OpenOptions, Table, Temperature};
    use memmap2::{Advice, MmapOptions};

    use super::support::{self, Random};

    const COLD: [&str; 9] = [
        "planned, 1 thread",
        "planned, 2 threads",
        "planned, read access",
        "always asked ahead",
        "asked ahead by prefetch",
        "default mapping",
        "RANDOM alone",
        "RANDOM, 32 threads",
        "O_DIRECT, 32 threads",
    ];

    pub(super) fn main() {
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        let quick = arguments.iter().any(|argument| argument == "--test");
        let rounds = arguments.iter().find_map(|argument| argument.parse().ok());
        let rounds: usize = rounds.unwrap_or(if quick { 1 } else { 7 });
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        for row in [3072usize, 512] {
            let rows = if quick { 1 << 20 } else { 300 << 20 } / row as u64;
            let path = directory.path().join("table.emb");
            let dim = row / 4;
            support::write_random(&path, rows, dim, DType::F32, None);
            let bench = Bench { path: &path, row, rows, rounds };
            println!("\nrows of {row} bytes, {rows} of them, {rounds} rounds");
            let sizes: &[usize] = if quick { &[16, 256] } else { &[16, 4096, 65_536] };
            let all = !["cold", "steps", "warm", "start"]
                .iter()
                .any(|part| arguments.iter().any(|argument| argument == part));
            let wanted = |part| all || arguments.iter().any(|argument| argument == part);
            for size in sizes.iter().filter(|_| wanted("cold")) {
                bench.cold(*size);
            }
            if wanted("steps") {
                bench.steps();
            }
            let sizes: &[usize] = if quick { &[16] } else { &[1, 16, 64, 4096, 65_536] };
            for size in sizes.iter().filter(|_| wanted("warm")) {
                bench.warm(*size, quick);
            }
            if !quick && wanted("start") {
                bench.start();
            }
        }
    }

    struct Bench<'a> {
        path: &'a Path,
        row: usize,
        rows: u64,
        rounds: usize,
    }

    /// What one reading of a batch took.
    #[derive(Clone, Copy)]
    struct Cost {
        seconds: f64,
        faults: u64,
        device_bytes: u64,
    }

    impl Bench<'_> {
        fn ids(&self, random: &mut Random, count: usize) -> Vec<u64> {
            (0..count).map(|_| random.below(self.rows)).collect()
        }

        fn drop_pages(&self) {
            let file = File::open(self.path).unwrap();
            file.sync_all().unwrap();
            rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
            let table = OpenOptions::new().access(Access::Read).open(self.path).unwrap();
            let cached = table.residency().unwrap().cached_bytes;
            if cached != Some(0) {
                println!("  (not cold: {cached:?} bytes are cached)");
            }
        }

        fn map(&self, temperature: Temperature) -> Table {
            let options = OpenOptions::new().temperature(temperature);
            // SAFETY: the bench's own file, which nothing writes to while it is mapped.
            unsafe { options.map(self.path).unwrap() }
        }

        /// Cold batches, every way in every round.
        fn cold(&self, size: usize) {
            let mut random = Random(size as u64);
            let mut costs = vec![Vec::new(); COLD.len()];
            for round in 0..self.rounds {
                for turn in 0..COLD.len() {
                    // No way always comes after the same other one.
                    let way = (turn * (1 + round % 2) + round) % COLD.len();
                    let heavy = size > 4096 && matches!(COLD[way], "default mapping");
                    if heavy {
                        continue;
                    }
                    let ids = self.ids(&mut random, size);
                    self.drop_pages();
                    costs[way].push(self.one(COLD[way], &ids));
                }
            }
            println!("  {size} cold rows{:32}rows/s     ms  faults  amplification", "");
            for (way, costs) in COLD.iter().zip(&costs) {
                if costs.is_empty() {
                    continue;
                }
                let cost = |pick: fn(&Cost) -> f64| median(costs.iter().map(pick).collect());
                let seconds = cost(|cost| cost.seconds);
                println!(
                    "    {way:40} {:10.0} {:8.2} {:6.0} {:8.1}",
                    size as f64 / seconds,
                    seconds * 1e3,
                    cost(|cost| cost.faults as f64),
                    cost(|cost| cost.device_bytes as f64) / (size * self.row) as f64
                );
            }
        }

        fn one(&self, way: &str, ids: &[u64]) -> Cost {
            let mut out = vec![1u8; ids.len() * self.row];
            match way {
                "planned, 1 thread" => self.gather(Temperature::Measured, 1, ids, &mut out),
                "planned, 2 threads" => self.gather(Temperature::Measured, 2, ids, &mut out),
                "always asked ahead" => self.gather(Temperature::Cold, 1, ids, &mut out),
                "planned, read access" => {
                    let table = OpenOptions::new().access(Access::Read).open(self.path).unwrap();
                    let options = GatherOptions::new().threads(1);
                    timed(|| table.gather_bytes_into_with(ids, &mut out, &options).unwrap())
                }
                "asked ahead by prefetch" => {
                    let table = self.map(Temperature::Measured);
                    let options = GatherOptions::new().threads(1);
                    timed(|| {
                        table.prefetch(ids).unwrap();
                        table.gather_bytes_into_with(ids, &mut out, &options).unwrap();
                    })
                }
                "default mapping" => self.by_faults(None, 1, ids, &mut out),
                "RANDOM alone" => self.by_faults(Some(Advice::Random), 1, ids, &mut out),
                "RANDOM, 32 threads" => self.by_faults(Some(Advice::Random), 32, ids, &mut out),
                _ => self.direct(32, ids, &mut out),
            }
        }

        fn gather(&self, how: Temperature, threads: usize, ids: &[u64], out: &mut [u8]) -> Cost {
            let table = self.map(how);
            let options = GatherOptions::new().threads(threads);
            timed(|| table.gather_bytes_into_with(ids, out, &options).unwrap())
        }

        fn by_faults(
            &self,
            advice: Option<Advice>,
            threads: usize,
            ids: &[u64],
            out: &mut [u8],
        ) -> Cost {
            let file = File::open(self.path).unwrap();
            // SAFETY: as above.
            let map = unsafe { MmapOptions::new().map(&file).unwrap() };
            if let Some(advice) = advice {
                map.advise(advice).unwrap();
            }
            timed(|| {
                self.on_threads(threads, ids, out, |id, out| {
                    let start = ROWS_OFFSET as usize + id as usize * self.row;
                    out.copy_from_slice(&map[start..start + self.row]);
                });
            })
        }

        fn direct(&self, threads: usize, ids: &[u64], out: &mut [u8]) -> Cost {
            let flag = rustix::fs::OFlags::DIRECT.bits().cast_signed();
            let file = File::options().read(true).custom_flags(flag).open(self.path).unwrap();
            timed(|| {
                self.on_threads(threads, ids, out, |id, out| {
                    let mut buffer = [0u8; 4 * 4096];
                    let aligned = buffer.as_ptr().align_offset(4096);
                    let start = ROWS_OFFSET + id * self.row as u64;
                    let first = start / 4096 * 4096;
                    let bytes = (start + self.row as u64).next_multiple_of(4096) - first;
                    let buffer = &mut buffer[aligned..][..bytes as usize];
                    file.read_exact_at(buffer, first).unwrap();
                    out.copy_from_slice(&buffer[(start - first) as usize..][..self.row]);
                });
            })
        }

        fn on_threads(
            &self,
            threads: usize,
            ids: &[u64],
            out: &mut [u8],
            copy: impl Fn(u64, &mut [u8]) + Sync,
        ) {
            let copy = &copy;
            let work = |ids: &[u64], out: &mut [u8]| {
                ids.iter().zip(out.chunks_mut(self.row)).for_each(|(id, out)| copy(*id, out));
            };
            if threads == 1 {
                return work(ids, out);
            }
            let chunk = ids.len().div_ceil(threads);
            std::thread::scope(|scope| {
                for (ids, out) in ids.chunks(chunk).zip(out.chunks_mut(chunk * self.row)) {
                    scope.spawn(move || work(ids, out));
                }
            });
        }

        /// Decode steps of 16 cold rows each, with and without memory of the step before.
        fn steps(&self) {
            let mut random = Random(16);
            let mut out = vec![1u8; 16 * self.row];
            let names = ["remembered", "a new table each", "always asked ahead"];
            let mut costs = [const { Vec::new() }; 3];
            for _ in 0..self.rounds {
                self.drop_pages();
                let kept = self.map(Temperature::Measured);
                let always = self.map(Temperature::Cold);
                // The first step finds out.
                kept.gather_bytes_into(&self.ids(&mut random, 16), &mut out).unwrap();
                for _ in 0..40 {
                    for (way, costs) in costs.iter_mut().enumerate() {
                        let fresh = self.map(Temperature::Measured);
                        let table = [&kept, &fresh, &always][way];
                        let ids = self.ids(&mut random, 16);
                        let cost = timed(|| table.gather_bytes_into(&ids, &mut out).unwrap());
                        costs.push(cost.seconds * 1e6);
                    }
                }
            }
            println!("  steps of 16 cold rows{:30}us", "");
            for (name, costs) in names.iter().zip(costs) {
                println!("    {name:40} {:10.0}", median(costs));
            }
        }

        /// Warm batches: looking for cold rows against not looking.
        fn warm(&self, size: usize, quick: bool) {
            let mut random = Random(99);
            // The same map for both, so that both see the same pages.
            let tables = [
                self.map(Temperature::Measured),
                self.map(Temperature::Warm),
                self.map(Temperature::Cold),
            ];
            tables[0].warm(..).unwrap();
            for table in &tables {
                table.prefault(..).unwrap();
            }
            let mut out = vec![1u8; size * self.row];
            let options = GatherOptions::new().threads(1);
            let batches = if quick { 1 } else { (20_000 / size).clamp(1, 400) };
            let repeats = if quick { 1 } else { (10 * self.rounds).max(21) };
            let mut costs = [const { Vec::new() }; 3];
            for round in 0..repeats {
                for turn in 0..3 {
                    let way = (turn + round) % 3;
                    let ids: Vec<_> = (0..batches).map(|_| self.ids(&mut random, size)).collect();
                    let start = Instant::now();
                    for ids in &ids {
                        tables[way].gather_bytes_into_with(ids, &mut out, &options).unwrap();
                        black_box(&out);
                    }
                    let rows = (size * batches) as f64;
                    costs[way].push(start.elapsed().as_secs_f64() * 1e9 / rows);
                }
            }
            let [measured, stated, always] = costs.map(median);
            println!(
                "  {size} warm rows, ns a row: {measured:.1} looking, {stated:.1} not looking ({:+.1} %), {always:.1} always asked ahead",
                (measured / stated - 1.0) * 100.0
            );
        }

        /// A table that fits in memory, started cold: what a hundred batches take.
        fn start(&self) {
            let size = 4096;
            let mut random = Random(7);
            println!("  100 batches of {size}, started cold{:9}first ms   all ms  then ns/row", "");
            for way in ["planned", "default mapping", "warm() first", "warm_in_background()"] {
                let mut figures = [const { Vec::new() }; 3];
                for _ in 0..self.rounds.min(3) {
                    self.drop_pages();
                    let stated = if way == "default mapping" {
                        Temperature::Warm
                    } else {
                        Temperature::Measured
                    };
                    let table = std::sync::Arc::new(self.map(stated));
                    let mut out = vec![1u8; size * self.row];
                    let start = Instant::now();
                    let warming = match way {
                        "warm() first" => {
                            table.warm(..).unwrap();
                            None
                        }
                        "planned" | "default mapping" => None,
                        _ => Some(table.warm_in_background(..).unwrap()),
                    };
                    let mut gather = || {
                        let ids = self.ids(&mut random, size);
                        table.gather_bytes_into(&ids, &mut out).unwrap();
                    };
                    gather();
                    figures[0].push(start.elapsed().as_secs_f64() * 1e3);
                    (1..100).for_each(|_| gather());
                    figures[1].push(start.elapsed().as_secs_f64() * 1e3);
                    drop(warming.map(embmap::Warming::wait));
                    (0..20).for_each(|_| gather());
                    let start = Instant::now();
                    (0..50).for_each(|_| gather());
                    let rows = (50 * size) as f64;
                    figures[2].push(start.elapsed().as_secs_f64() * 1e9 / rows);
                }
                let [first, all, then] = figures.map(median);
                println!("    {way:40} {first:9.1} {all:8.0} {then:8.0}");
            }
        }
    }

    fn timed(work: impl FnOnce()) -> Cost {
        let (faults, device_bytes) = (major_faults(), device_bytes());
        let start = Instant::now();
        work();
        Cost {
            seconds: start.elapsed().as_secs_f64(),
            faults: major_faults() - faults,
            device_bytes: device_bytes_since(device_bytes),
        }
    }

    fn major_faults() -> u64 {
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
        let fields = stat.rsplit_once(')').unwrap().1;
        fields.split_ascii_whitespace().nth(9).unwrap().parse().unwrap()
    }

    fn device_bytes() -> u64 {
        let io = std::fs::read_to_string("/proc/self/io").unwrap();
        let line = io.lines().find_map(|line| line.strip_prefix("read_bytes: "));
        line.unwrap().parse().unwrap()
    }

    fn device_bytes_since(before: u64) -> u64 {
        device_bytes() - before
    }

    fn median(mut values: Vec<f64>) -> f64 {
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    }
}
