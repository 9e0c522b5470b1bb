//! Direct reads beside a tight loop over `io_uring` that reads the same blocks and copies
//! nothing, and beside the plan for cold rows of a map; interleaved in one run.
//!
//! `cargo bench --no-default-features --bench direct [-- ROUNDS] [in=DIRECTORY]` writes a file
//! of 600 MB, below `target` unless said, and prints medians of ROUNDS rounds and the
//! processor's time. `-- --test` is a quick run on a small file.

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
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::OpenOptionsExt;
    use std::path::{Path, PathBuf};
    use std::time::Instant;

    use embmap::format::ROWS_OFFSET;
    use embmap::{Access, DType, GatherOptions, OpenOptions, Table};
    use io_uring::{IoUring, opcode, types};
    use memmap2::MmapMut;

    use super::support::{self, Random};

    const DEPTH: usize = 128;

    const WAYS: [&str; 7] = [
        "tight io_uring loop, as asked",
        "tight io_uring loop, sorted",
        "direct, 1 thread",
        "direct, 2 threads",
        "direct without io_uring, 1 thread",
        "map, planned, 1 thread",
        "map, planned, 2 threads",
    ];

    pub(super) fn main() {
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        let quick = arguments.iter().any(|argument| argument == "--test");
        let rounds = arguments.iter().find_map(|argument| argument.parse().ok());
        let rounds: usize = rounds.unwrap_or(if quick { 1 } else { 7 });
        let below = arguments.iter().find_map(|argument| argument.strip_prefix("in="));
        let below = PathBuf::from(below.unwrap_or(env!("CARGO_TARGET_TMPDIR")));
        let directory = tempfile::tempdir_in(below).unwrap();
        for row in [3072usize, 512] {
            let rows = if quick { 1 << 20 } else { 600 << 20 } / row as u64;
            let path = directory.path().join("table.emb");
            let encoded = support::write_random(&path, rows, row / 4, DType::F32, None);
            File::open(&path).unwrap().sync_all().unwrap();
            let mut bench = Bench::new(path, row, rows, encoded);
            let told = bench.direct.direct_io().unwrap().unwrap();
            println!("\nrows of {row} bytes, {rows} of them, {rounds} rounds, {told:?}");
            let sizes: &[usize] = if quick { &[16, 256] } else { &[16, 4096, 65_536] };
            for size in sizes {
                bench.run(*size, rounds);
            }
        }
    }

    struct Bench {
        path: PathBuf,
        row: usize,
        rows: u64,
        encoded: Vec<u8>,
        direct: Table,
        threads: Table,
        file: File,
        alignment: u64,
        ring: IoUring,
        buffers: MmapMut,
    }

    /// What one reading of a batch took.
    #[derive(Clone, Copy)]
    struct Cost {
        seconds: f64,
        processor: f64,
        device_bytes: u64,
    }

    impl Bench {
        fn new(path: PathBuf, row: usize, rows: u64, encoded: Vec<u8>) -> Self {
            let open = |io_uring| {
                let options = OpenOptions::new().access(Access::Direct).io_uring(io_uring);
                options.open(&path).unwrap()
            };
            let (direct, threads) = (open(true), open(false));
            let alignment = direct.direct_io().unwrap().unwrap().alignment;
            let flag = rustix::fs::OFlags::DIRECT.bits().cast_signed();
            let file = File::options().read(true).custom_flags(flag).open(&path).unwrap();
            let most = row + 2 * alignment as usize;
            let ring = IoUring::builder().setup_coop_taskrun().build(DEPTH as u32).unwrap();
            let buffers = MmapMut::map_anon(DEPTH * most.next_multiple_of(4096)).unwrap();
            Bench { path, row, rows, encoded, direct, threads, file, alignment, ring, buffers }
        }

        fn run(&mut self, size: usize, rounds: usize) {
            let mut random = Random(size as u64);
            let mut out = vec![1u8; size * self.row];
            let mut costs = vec![Vec::new(); WAYS.len()];
            // A small batch is over too soon for one figure.
            let repeats = (256 / size).clamp(1, 16);
            for round in 0..=rounds {
                for turn in 0..WAYS.len() {
                    let way = (turn * (1 + round % 2) + round) % WAYS.len();
                    let mut sum = Cost { seconds: 0.0, processor: 0.0, device_bytes: 0 };
                    for _ in 0..repeats {
                        let ids: Vec<u64> = (0..size).map(|_| random.below(self.rows)).collect();
                        let cost = self.one(WAYS[way], &ids, &mut out);
                        sum.seconds += cost.seconds / repeats as f64;
                        sum.processor += cost.processor / repeats as f64;
                        sum.device_bytes += cost.device_bytes / repeats as u64;
                    }
                    // The first round sets up what is kept.
                    if round > 0 {
                        costs[way].push(sum);
                    }
                }
            }
            let median = |way: usize, pick: fn(&Cost) -> f64| {
                let mut values: Vec<f64> = costs[way].iter().map(pick).collect();
                values.sort_by(f64::total_cmp);
                values[values.len() / 2]
            };
            println!("  {size} rows{:30}rows/s      ms  of tight  CPU us/row  amplification", "");
            let tight = median(0, |cost| cost.seconds).min(median(1, |cost| cost.seconds));
            for (way, name) in WAYS.iter().enumerate() {
                let seconds = median(way, |cost| cost.seconds);
                println!(
                    "    {name:34} {:10.0} {:7.2} {:9.2} {:11.2} {:14.2}",
                    size as f64 / seconds,
                    seconds * 1e3,
                    tight / seconds,
                    median(way, |cost| cost.processor) * 1e6 / size as f64,
                    median(way, |cost| cost.device_bytes as f64) / (size * self.row) as f64,
                );
            }
        }

        fn one(&mut self, way: &str, ids: &[u64], out: &mut [u8]) -> Cost {
            let gather = |table: &Table, threads: usize, out: &mut [u8]| {
                let options = GatherOptions::new().threads(threads);
                timed(|| table.gather_bytes_into_with(ids, out, &options).unwrap())
            };
            let cost = match way {
                "tight io_uring loop, as asked" => return self.tight(ids, false),
                "tight io_uring loop, sorted" => return self.tight(ids, true),
                "direct, 1 thread" => gather(&self.direct, 1, out),
                "direct, 2 threads" => gather(&self.direct, 2, out),
                "direct without io_uring, 1 thread" => gather(&self.threads, 1, out),
                _ => {
                    drop_pages(&self.path);
                    // SAFETY: the bench's own file, which nothing writes to while it is mapped.
                    let map = unsafe { OpenOptions::new().map(&self.path).unwrap() };
                    gather(&map, if way.ends_with("1 thread") { 1 } else { 2 }, out)
                }
            };
            for (id, out) in ids.iter().zip(out.chunks(self.row)) {
                assert!(out == &self.encoded[*id as usize * self.row..][..self.row], "{way}");
            }
            cost
        }

        /// The blocks of the rows at a constant depth, and nothing else.
        fn tight(&mut self, ids: &[u64], sorted: bool) -> Cost {
            let block = self.alignment;
            let mut reads: Vec<(u64, u32)> = ids
                .iter()
                .map(|id| {
                    let start = ROWS_OFFSET + id * self.row as u64;
                    let first = start / block * block;
                    (first, ((start + self.row as u64).next_multiple_of(block) - first) as u32)
                })
                .collect();
            timed(|| {
                if sorted {
                    reads.sort_unstable();
                    reads.dedup();
                }
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
                    let wait = (next - done).min(16);
                    self.ring.submit_and_wait(wait).unwrap();
                    for entry in self.ring.completion() {
                        assert!(entry.result() > 0);
                        free.push(entry.user_data() as usize);
                        done += 1;
                    }
                }
            })
        }
    }

    fn drop_pages(path: &Path) {
        let file = File::open(path).unwrap();
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
    }

    fn timed(work: impl FnOnce()) -> Cost {
        let (before, processor) = (device_bytes(), processor_seconds());
        let start = Instant::now();
        work();
        let seconds = start.elapsed().as_secs_f64();
        Cost {
            seconds,
            processor: processor_seconds() - processor,
            device_bytes: device_bytes() - before,
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

    fn device_bytes() -> u64 {
        let io = std::fs::read_to_string("/proc/self/io").unwrap();
        let line = io.lines().find_map(|line| line.strip_prefix("read_bytes: "));
        line.unwrap().parse().unwrap()
    }
}
