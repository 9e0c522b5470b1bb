//! Files that declare what they do not hold: each command answers within a second of work and
//! 64 MiB, whatever is declared.

#![cfg(all(feature = "cli", target_os = "linux"))]
#![allow(
    unsafe_code,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::float_cmp,
    clippy::zombie_processes,
    clippy::cast_sign_loss,
    clippy::type_complexity,
    clippy::too_many_lines,
    clippy::format_push_string,
    clippy::print_stderr
)]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use byteorder::{ByteOrder, LittleEndian};
use embmap::Table;

/// What a command may use beyond what it uses on a good small file and four times the file.
const MEMORY: u64 = 64 << 20;

/// The work that it may do. An unoptimised build is given more.
const WORK: Duration = Duration::from_secs(if cfg!(debug_assertions) { 4 } else { 1 });

/// What a run used.
struct Used {
    code: Option<i32>,
    peak: u64,
    work: Duration,
}

/// Runs the binary with so much address space as no sane answer needs, and waits for it.
fn run(arguments: &[&Path]) -> Used {
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -v 4000000; exec \"$0\" \"$@\""]).arg(env!("CARGO_BIN_EXE_embmap"));
    let child =
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let child = child.spawn().unwrap();
    let (mut status, mut usage) = (0, std::mem::MaybeUninit::<libc::rusage>::zeroed());
    // SAFETY: waits for the child that was just started, and nobody else does; both places
    // outlive the call.
    let waited =
        unsafe { libc::wait4(child.id().cast_signed(), &raw mut status, 0, usage.as_mut_ptr()) };
    assert_eq!(waited, child.id().cast_signed());
    // SAFETY: all zeros are an `rusage`, and `wait4` has filled it.
    let usage = unsafe { usage.assume_init() };
    let time = |it: libc::timeval| Duration::new(it.tv_sec as u64, it.tv_usec as u32 * 1000);
    Used {
        code: libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status)),
        peak: (usage.ru_maxrss as u64) << 10,
        work: time(usage.ru_utime) + time(usage.ru_stime),
    }
}

/// Every command that reads a file, with what it needs. `TABLE` is what is hostile, `GOOD` a table as
/// it should be, `OUT` a file that is not there.
const COMMANDS: [&[&str]; 21] = [
    &["info", "TABLE"],
    &["info", "TABLE", "--tensors"],
    &["get", "TABLE", "0"],
    &["get", "TABLE", "--token", "the"],
    &["gather", "TABLE", "--ids", "IDS", "-o", "OUT"],
    &["convert", "TABLE", "-o", "OUT"],
    &["convert", "TABLE", "-o", "OUT", "--dtype", "i8", "--norms"],
    &["export", "TABLE", "-o", "OUT", "--to", "glove"],
    &["verify", "TABLE"],
    &["inspect", "TABLE"],
    &["bench", "TABLE", "--batch", "4", "--seconds", "0.01", "--threads", "1", "--access", "read"],
    &["similar", "TABLE", "--id", "0"],
    &["analogy", "TABLE", "the", "cat", "mat"],
    &["tokenize", "TABLE", "the"],
    &["embed", "TABLE", "the"],
    &["plot", "TABLE", "-o", "OUT.svg", "--rows", "0:2"],
    // What is given beside a table.
    &["gather", "GOOD", "--ids", "TABLE", "-o", "OUT"],
    &["bench", "GOOD", "--batch", "4", "--seconds", "0.01", "--ids", "trace:TABLE"],
    &["convert", "GOOD", "-o", "OUT", "--order", "TABLE"],
    &["convert", "GOOD", "-o", "OUT", "--keep-tokens", "TABLE"],
    &["similar", "GOOD", "--vector", "TABLE"],
];

fn safetensors(header: &str, data: usize) -> Vec<u8> {
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.as_bytes());
    file.resize(file.len() + data, 7);
    file
}

fn npy(shape: &str) -> Vec<u8> {
    let mut header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}");
    while (10 + header.len() + 1) % 64 != 0 {
        header.push(' ');
    }
    header.push('\n');
    let mut file = b"\x93NUMPY\x01\0".to_vec();
    file.extend((header.len() as u16).to_le_bytes());
    file.extend(header.as_bytes());
    file.extend([7; 64]);
    file
}

/// A GGUF file whose counts are these, and whose one value is this.
fn gguf(tensors: u64, keys: u64, value: &[u8]) -> Vec<u8> {
    let mut file = b"GGUF\x03\0\0\0".to_vec();
    file.extend([tensors, keys].map(u64::to_le_bytes).concat());
    file.extend(1u64.to_le_bytes());
    file.extend(b"k");
    file.extend(value);
    file
}

fn emb(changes: &[(&str, u64)]) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let mut file = support::small_file(folder.path());
    for (name, value) in changes {
        let field = support::field(name);
        LittleEndian::write_uint(&mut file[field.range()], *value, field.bytes.min(8));
    }
    support::reseal(&mut file);
    file
}

/// Files, or folders of files, that declare more than they hold.
fn hostile() -> Vec<(&'static str, Vec<(&'static str, Vec<u8>)>)> {
    let deep = |open: &str, close: &str, count: usize| open.repeat(count) + &close.repeat(count);
    let good =
        safetensors(r#"{"wte.weight":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]}}"#, 16);
    let one = |name, file| (name, vec![(name, file)]);
    let mut many_tensors = String::from("{");
    for index in 0..60_000 {
        many_tensors += &format!(r#""{index}":{{"dtype":"I8","shape":[0],"data_offsets":[0,0]}},"#);
    }
    many_tensors.pop();
    many_tensors.push('}');
    let max = u64::MAX.to_le_bytes();
    vec![
        one(
            "length.safetensors",
            [&99_999_999u64.to_le_bytes()[..], b"{\"a\":", &[b' '; 100]].concat(),
        ),
        one(
            "shape.safetensors",
            safetensors(
                r#"{"wte.weight":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]}}"#,
                0,
            ),
        ),
        one(
            "wide.safetensors",
            safetensors(
                r#"{"wte.weight":{"dtype":"F32","shape":[0,18446744073709551615],"data_offsets":[0,0]}}"#,
                0,
            ),
        ),
        one("deep.safetensors", safetensors(&deep(r#"{"a":"#, "}", 200_000), 0)),
        one(
            "metadata.safetensors",
            safetensors(
                &format!(r#"{{"__metadata__":{{"k":"{}"}}}}"#, "\\u0041".repeat(300_000)),
                0,
            ),
        ),
        one("tensors.safetensors", safetensors(&many_tensors, 0)),
        one("rows.emb", emb(&[("vocab", 1 << 60), ("rows_bytes", 64 << 60)])),
        one("dim.emb", emb(&[("dim", 1 << 24), ("row_bytes", 4 << 24), ("row_stride", 4 << 24)])),
        one("bytes.emb", emb(&[("file_bytes", 1 << 62)])),
        one("sections.emb", emb(&[("section_count", u64::from(u32::MAX))])),
        one("shape.npy", npy("(4611686018427387904, 4)")),
        one("wide.npy", npy("(1, 18446744073709551615)")),
        one("dims.npy", npy(&format!("({})", "1, ".repeat(8000)))),
        one(
            "length.npy",
            [&b"\x93NUMPY\x02\0\xff\xff\xff\xff{'descr': '"[..], &[b' '; 400]].concat(),
        ),
        one("tensors.gguf", gguf(u64::MAX, 1, &[0, 0, 0, 0, 1])),
        one("keys.gguf", gguf(1, u64::MAX, &[0, 0, 0, 0, 1])),
        one("string.gguf", gguf(1, 1, &[&8u32.to_le_bytes()[..], &max].concat())),
        one(
            "array.gguf",
            gguf(1, 1, &[&9u32.to_le_bytes()[..], &0u32.to_le_bytes(), &max].concat()),
        ),
        one(
            "strings.gguf",
            gguf(
                1,
                1,
                &[
                    &9u32.to_le_bytes()[..],
                    &8u32.to_le_bytes(),
                    &(1u64 << 40).to_le_bytes(),
                    &[0; 64],
                ]
                .concat(),
            ),
        ),
        one(
            "directory.npz",
            [&b"PK\x05\x06\0\0\0\0"[..], &[0xff; 4], &[0xff; 8], &[0, 0]].concat(),
        ),
        one("vectors.txt", b"1000000000 300\nthe 0.1 0.2\n".to_vec()),
        one("line.txt", [&b"the "[..], &b"0.5 ".repeat(1 << 20)].concat()),
        one("nothing.bin", vec![0xa5; 1 << 20]),
        (
            "index",
            vec![
                ("model.safetensors", good.clone()),
                (
                    "model.safetensors.index.json",
                    format!(r#"{{"weight_map":{{"a":{}}}}}"#, deep("[", "]", 300_000)).into_bytes(),
                ),
            ],
        ),
        (
            "config",
            vec![
                ("model.safetensors", good.clone()),
                ("config.json", deep(r#"{"a":"#, "}", 200_000).into_bytes()),
            ],
        ),
        (
            "vocabulary",
            vec![("model.safetensors", good.clone()), ("vocab.txt", vec![b'\n'; 4 << 20])],
        ),
        (
            "tokenizer",
            vec![
                ("model.safetensors", good),
                (
                    "tokenizer.json",
                    br#"{"model":{"type":"WordPiece","vocab":{"a":4294967295,"b":4294967294}}}"#
                        .to_vec(),
                ),
            ],
        ),
    ]
}

#[test]
fn no_file_makes_a_command_use_more_than_its_bytes_justify() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let good = Path::new("fixtures/minilm-2k");
    fs::write(path("ids"), "0\n1\n").unwrap();
    fs::write(path("tokens"), "the\ncat\n").unwrap();
    fs::write(path("vector"), "0.5 ".repeat(Table::load(good).unwrap().dim()) + "\n").unwrap();
    let run = |command: &[&str], table: &Path| {
        let named = |word: &&str| match *word {
            "TABLE" => table.to_path_buf(),
            "trace:TABLE" => format!("trace:{}", table.display()).into(),
            "GOOD" => good.to_path_buf(),
            "IDS" => path("ids"),
            "OUT" => path("out"),
            "OUT.svg" => path("out.svg"),
            word => word.into(),
        };
        let arguments: Vec<PathBuf> = command.iter().map(named).collect();
        let used = run(&arguments.iter().map(PathBuf::as_path).collect::<Vec<_>>());
        let wrote = ["out", "out.svg"].map(|name| fs::remove_file(path(name)).is_ok());
        (used, wrote.contains(&true))
    };
    let usual = COMMANDS.map(|command| {
        let input = match command {
            [_, "GOOD", .., "--keep-tokens", _] => path("tokens"),
            [_, "GOOD", .., "--vector", _] => path("vector"),
            [_, "GOOD", ..] => path("ids"),
            _ => good.to_path_buf(),
        };
        let used = run(command, &input).0;
        assert_eq!(used.code, Some(0), "{command:?} on what is good");
        used.peak
    });

    let (mut runs, mut most, mut longest, mut wrong) = (0, 0, Duration::ZERO, Vec::new());
    for (name, files) in hostile() {
        let table = path(name);
        let mut bytes = 0;
        if files.len() == 1 {
            fs::write(&table, &files[0].1).unwrap();
            bytes += files[0].1.len() as u64;
        } else {
            fs::create_dir(&table).unwrap();
            for (file, content) in &files {
                fs::write(table.join(file), content).unwrap();
                bytes += content.len() as u64;
            }
        }
        for (command, usual) in COMMANDS.iter().zip(&usual) {
            let (used, wrote) = run(command, &table);
            let beyond = used.peak.saturating_sub(*usual);
            runs += 1;
            most = most.max(beyond.saturating_sub(4 * bytes));
            longest = longest.max(used.work);
            let answered = matches!(used.code, Some(0..=2));
            if !answered
                || beyond > MEMORY + 4 * bytes
                || used.work > WORK
                || (wrote && used.code != Some(0))
            {
                wrong.push(format!(
                    "{command:?} on {name}: exit {:?}, {} KiB more, {:?} of work, {bytes} bytes",
                    used.code,
                    beyond >> 10,
                    used.work
                ));
            }
        }
    }
    eprintln!("{runs} runs: at most {} KiB beyond 4 x the file, {longest:?} of work", most >> 10);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
