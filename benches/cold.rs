//! Gathers of rows that are not in memory, beside other ways to read them, interleaved in one
//! run; and what looking for cold rows costs where all are warm.
//!
//! `cargo bench --no-default-features --bench cold [-- ROUNDS PART... in=DIRECTORY]` writes files
//! of 600 MB, below `target` unless said, and prints medians; the parts are `cold`, `steps`, `warm`
//! and `start`, all of them unless said. `-- larger=BYTES` is about a single file of so many bytes,
//! of which no page is dropped: for one that is larger than memory. `-- --test` is a quick run on
//! small files. What is read is compared with what was written, each time.

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
    use std::num::NonZero;
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::{FileExt, OpenOptionsExt};
    use std::path::{Path, PathBuf};
    use std::sync::Mutex;
    use std::time::Instant;

    use embmap::format::ROWS_OFFSET;
    use embmap::{Access, DType, GatherOptions, OpenOptions, Table, Temperature};
    use io_uring::{IoUring, opcode, types};
    use memmap2::{Advice, MmapMut, MmapOptions};

    use super::support::{self, Random};

    /// What everything else is told as a share of: a loop over `io_uring` that reads the blocks
    /// of the rows past the page cache, and does nothing with them.
    const LIMIT: &str = "io_uring, O_DIRECT, depth 128";

    const COLD: [&str; 15] = [
        LIMIT,
        "planned, 1 thread",
        "planned, 2 threads",
        "planned, read access",
        "direct, 1 thread",
        "direct, 2 threads",
        "direct without io_uring, 1 thread",
        "always asked ahead",
        "asked ahead by prefetch",
        "windows of posix_fadvise",
        "windows of madvise",
        "default mapping",
        "RANDOM alone",
        "RANDOM, 32 threads",
        "O_DIRECT, 32 threads",
    ];

    /// The reads in flight of the limit.
    const DEPTH: usize = 128;

    /// The rows that a window of hints is about.
    const WINDOW: usize = 512;

    pub(super) fn main() {
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        let quick = arguments.iter().any(|argument| argument == "--test");
        let rounds = arguments.iter().find_map(|argument| argument.parse().ok());
        let rounds: usize = rounds.unwrap_or(if quick { 1 } else { 7 });
        let option = |name| arguments.iter().find_map(|argument| argument.strip_prefix(name));
        let below = PathBuf::from(option("in=").unwrap_or(env!("CARGO_TARGET_TMPDIR")));
        let directory = tempfile::tempdir_in(below).unwrap();
        let path = directory.path().join("table.emb");
        if let Some(bytes) = option("larger=") {
            let rows = bytes.parse::<u64>().unwrap() / 3072;
            write_large(&path, rows);
            Bench::new(&path, 3072, rows, rounds, Vec::new()).larger();
            return;
        }
        for row in [3072usize, 512] {
            let rows = if quick { 1 << 20 } else { 600 << 20 } / row as u64;
            let dim = row / 4;
            let encoded = support::write_random(&path, rows, dim, DType::F32, None);
            let bench = Bench::new(&path, row, rows, rounds, encoded);
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
        /// The rows as they were written; empty where they would not fit.
        encoded: Vec<u8>,
        direct: Table,
        threads: Table,
        limit: Mutex<Limit>,
    }

    /// What one reading of a batch took.
    #[derive(Clone, Copy)]
    struct Cost {
        seconds: f64,
        faults: u64,
        device_bytes: u64,
        processor: f64,
    }

    impl<'a> Bench<'a> {
        fn new(path: &'a Path, row: usize, rows: u64, rounds: usize, encoded: Vec<u8>) -> Self {
            let open = |io_uring| {
                let options = OpenOptions::new().access(Access::Direct).io_uring(io_uring);
                options.open(path).unwrap()
            };
            let (direct, threads) = (open(true), open(false));
            let limit = Mutex::new(Limit::new(path, row, &direct));
            Bench { path, row, rows, rounds, encoded, direct, threads, limit }
        }

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
                    // A small batch is over too soon for one figure.
                    for _ in 0..(64 / size).clamp(1, 4) {
                        let ids = self.ids(&mut random, size);
                        self.drop_pages();
                        costs[way].push(self.one(COLD[way], &ids));
                    }
                }
            }
            self.tell(&format!("{size} cold rows"), size, &COLD, &costs);
        }

        /// Batches of a table that does not fit in memory: what is there is as it comes.
        fn larger(&self) {
            const WAYS: [&str; 8] = [
                LIMIT,
                "planned, 1 thread",
                "planned, 2 threads",
                "planned, read access",
                "direct, 1 thread",
                "default mapping",
                "RANDOM alone",
                "RANDOM, 32 threads",
            ];
            let table = self.map(Temperature::Measured);
            let found = table.residency().unwrap();
            let cached = found.cached_bytes.unwrap_or(0) as f64 / found.total_bytes as f64;
            println!("\n{} bytes, {:.0} % of them cached", found.total_bytes, cached * 100.0);
            for size in [16, 4096] {
                let mut random = Random(3);
                let mut costs = vec![Vec::new(); WAYS.len()];
                for round in 0..self.rounds {
                    for turn in 0..WAYS.len() {
                        let way = (turn + round) % WAYS.len();
                        let ids = self.ids(&mut random, size);
                        costs[way].push(self.one(WAYS[way], &ids));
                    }
                }
                self.tell(&format!("{size} rows"), size, &WAYS, &costs);
            }
        }

        fn tell(&self, title: &str, size: usize, ways: &[&str], costs: &[Vec<Cost>]) {
            println!(
                "  {title:34}      rows/s  of the limit     ms  faults  CPU us/row  amplification"
            );
            let middle =
                |way: usize, pick: fn(&Cost) -> f64| median(costs[way].iter().map(pick).collect());
            let limit = middle(0, |cost| cost.seconds);
            for (way, name) in ways.iter().enumerate().filter(|(way, _)| !costs[*way].is_empty()) {
                let seconds = middle(way, |cost| cost.seconds);
                println!(
                    "    {name:34} {:9.0} {:13.2} {:7.2} {:7.0} {:11.2} {:14.1}",
                    size as f64 / seconds,
                    limit / seconds,
                    seconds * 1e3,
                    middle(way, |cost| cost.faults as f64),
                    middle(way, |cost| cost.processor) * 1e6 / size as f64,
                    middle(way, |cost| cost.device_bytes as f64) / (size * self.row) as f64
                );
            }
        }

        fn one(&self, way: &str, ids: &[u64]) -> Cost {
            let mut out = vec![1u8; ids.len() * self.row];
            let cost = match way {
                LIMIT => return self.limit.lock().unwrap().read(ids),
                "planned, 1 thread" => self.gather(Temperature::Measured, 1, ids, &mut out),
                "planned, 2 threads" => self.gather(Temperature::Measured, 2, ids, &mut out),
                "always asked ahead" => self.gather(Temperature::Cold, 1, ids, &mut out),
                "direct, 1 thread" => gathered(&self.direct, 1, ids, &mut out),
                "direct, 2 threads" => gathered(&self.direct, 2, ids, &mut out),
                "direct without io_uring, 1 thread" => gathered(&self.threads, 1, ids, &mut out),
                "planned, read access" => {
                    let table = OpenOptions::new().access(Access::Read).open(self.path).unwrap();
                    gathered(&table, 1, ids, &mut out)
                }
                "asked ahead by prefetch" => {
                    let table = self.map(Temperature::Measured);
                    let options = GatherOptions::new().threads(1);
                    timed(|| {
                        table.prefetch(ids).unwrap();
                        table.gather_bytes_into_with(ids, &mut out, &options).unwrap();
                    })
                }
                "windows of posix_fadvise" | "windows of madvise" => {
                    self.hinted(way.ends_with("posix_fadvise"), ids, &mut out)
                }
                "default mapping" => self.by_faults(None, 1, ids, &mut out),
                "RANDOM alone" => self.by_faults(Some(Advice::Random), 1, ids, &mut out),
                "RANDOM, 32 threads" => self.by_faults(Some(Advice::Random), 32, ids, &mut out),
                "O_DIRECT, 32 threads" => self.direct(32, ids, &mut out),
                _ => panic!("no way is called {way}"),
            };
            if !self.encoded.is_empty() {
                for (id, out) in ids.iter().zip(out.chunks(self.row)) {
                    assert!(out == &self.encoded[*id as usize * self.row..][..self.row], "{way}");
                }
            }
            cost
        }

        /// What the plan does where `process_madvise` is not allowed: one call a range.
        fn hinted(&self, by_file: bool, ids: &[u64], out: &mut [u8]) -> Cost {
            let file = File::open(self.path).unwrap();
            // SAFETY: the bench's own file, which nothing writes to while it is mapped.
            let map = unsafe { MmapOptions::new().map(&file).unwrap() };
            map.advise(Advice::Random).unwrap();
            let start_of = |id: u64| ROWS_OFFSET + id * self.row as u64;
            let ask = |ids: &[u64]| {
                let mut pages: Vec<(u64, u64)> = ids
                    .iter()
                    .map(|id| {
                        let start = start_of(*id);
                        (start / 4096, (start + self.row as u64).div_ceil(4096))
                    })
                    .collect();
                pages.sort_unstable();
                pages.dedup();
                for (start, end) in pages {
                    let (start, bytes) = (start * 4096, (end - start) * 4096);
                    if by_file {
                        let advice = rustix::fs::Advice::WillNeed;
                        rustix::fs::fadvise(&file, start, NonZero::new(bytes), advice).unwrap();
                    } else {
                        let (start, bytes) = (start as usize, bytes as usize);
                        map.advise_range(Advice::WillNeed, start, bytes).unwrap();
                    }
                }
            };
            timed(|| {
                let windows: Vec<&[u64]> = ids.chunks(WINDOW).collect();
                let mut outs = out.chunks_mut(WINDOW * self.row);
                ask(windows[0]);
                for (index, ids) in windows.iter().enumerate() {
                    if let Some(next) = windows.get(index + 1) {
                        ask(next);
                    }
                    let out = outs.next().unwrap();
                    for (id, out) in ids.iter().zip(out.chunks_mut(self.row)) {
                        out.copy_from_slice(&map[start_of(*id) as usize..][..self.row]);
                    }
                }
            })
        }

        fn gather(&self, how: Temperature, threads: usize, ids: &[u64], out: &mut [u8]) -> Cost {
            gathered(&self.map(how), threads, ids, out)
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

    /// A tight loop of reads at a constant depth.
    struct Limit {
        row: u64,
        block: u64,
        file: File,
        ring: IoUring,
        buffers: MmapMut,
    }

    impl Limit {
        fn new(path: &Path, row: usize, direct: &Table) -> Self {
            let block = direct.direct_io().unwrap().unwrap().alignment;
            let flag = rustix::fs::OFlags::DIRECT.bits().cast_signed();
            let file = File::options().read(true).custom_flags(flag).open(path).unwrap();
            let ring = IoUring::builder().setup_coop_taskrun().build(DEPTH as u32).unwrap();
            let most = row + 2 * block as usize;
            let buffers = MmapMut::map_anon(DEPTH * most.next_multiple_of(4096)).unwrap();
            Limit { row: row as u64, block, file, ring, buffers }
        }

        fn read(&mut self, ids: &[u64]) -> Cost {
            let block = self.block;
            timed(|| {
                let blocks_of = |id: &u64| {
                    let start = ROWS_OFFSET + id * self.row;
                    let first = start / block * block;
                    (first, ((start + self.row).next_multiple_of(block) - first) as u32)
                };
                let mut reads: Vec<(u64, u32)> = ids.iter().map(blocks_of).collect();
                reads.sort_unstable();
                reads.dedup();
                let slot_bytes = self.buffers.len() / DEPTH;
                let mut free: Vec<usize> = (0..DEPTH).collect();
                let (mut next, mut done) = (0, 0);
                while done < reads.len() {
                    while let Some(slot) = (next < reads.len()).then(|| free.pop()).flatten() {
                        let (offset, bytes) = reads[next];
                        let place = self.buffers[slot * slot_bytes..].as_mut_ptr();
                        let fd = types::Fd(self.file.as_raw_fd());
                        let read = opcode::Read::new(fd, place, bytes).offset(offset);
                        let entry = read.build().user_data(slot as u64);
                        // SAFETY: the slot's buffer lives on, and is used by no other read.
                        unsafe { self.ring.submission().push(&entry).unwrap() };
                        next += 1;
                    }
                    self.ring.submit_and_wait((next - done).min(16)).unwrap();
                    for entry in self.ring.completion() {
                        assert!(entry.result() > 0);
                        free.push(entry.user_data() as usize);
                        done += 1;
                    }
                }
            })
        }
    }

    /// A table of random bits that is never in memory as a whole.
    fn write_large(path: &Path, rows: u64) {
        const CHUNK: u64 = 1 << 15;
        let mut random = Random(rows);
        let mut writer = embmap::WriteOptions::new(768, DType::F32).create(path).unwrap();
        for start in (0..rows).step_by(CHUNK as usize) {
            let bytes = CHUNK.min(rows - start) as usize * 3072;
            writer.push_encoded(&random.bytes(bytes)).unwrap();
        }
        writer.finish().unwrap();
    }

    fn gathered(table: &Table, threads: usize, ids: &[u64], out: &mut [u8]) -> Cost {
        let options = GatherOptions::new().threads(threads);
        timed(|| table.gather_bytes_into_with(ids, out, &options).unwrap())
    }

    fn timed(work: impl FnOnce()) -> Cost {
        let before = (major_faults(), device_bytes(), processor_seconds());
        let start = Instant::now();
        work();
        Cost {
            seconds: start.elapsed().as_secs_f64(),
            faults: major_faults() - before.0,
            device_bytes: device_bytes() - before.1,
            processor: processor_seconds() - before.2,
        }
    }

    /// The time of all threads of this process, in user and in kernel mode.
    fn processor_seconds() -> f64 {
        let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
        // SAFETY: `usage` has the room of one `rusage`.
        let status = unsafe { libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr()) };
        assert_eq!(status, 0);
        // SAFETY: zeroed, which is valid, and then filled.
        let usage = unsafe { usage.assume_init() };
        let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
        seconds(usage.ru_utime) + seconds(usage.ru_stime)
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

    fn median(mut values: Vec<f64>) -> f64 {
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    }
}
