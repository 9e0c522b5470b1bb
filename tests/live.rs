//! What happens to a file, or to the process, while a table is open: each call's outcome is the
//! documented one. Each case runs in a child process, because some outcomes are signals and some
//! limits are the process's.

#![cfg(target_os = "linux")]
#![allow(
    unsafe_code,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::float_cmp,
    clippy::print_stderr,
    clippy::print_stdout
)]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use embmap::{Access, ConvertOptions, DType, Metric, OpenOptions, Table, WriteOptions, convert};

const CASE: &str = "EMBMAP_TEST_CASE";
const FOLDER: &str = "EMBMAP_TEST_FOLDER";
const VOCAB: u64 = 1 << 14;
const DIM: usize = 16;

/// What came of a case: `signal 7`, or what the child said.
fn outcome(case: &str, folder: &Path) -> String {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "child", "--nocapture"])
        .env(CASE, case)
        .env(FOLDER, folder)
        .output()
        .unwrap();
    if let Some(signal) = output.status.signal() {
        return format!("signal {signal}");
    }
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let answer =
        said.lines().find_map(|line| line.split_once("OUTCOME ").map(|(_, it)| it.to_owned()));
    answer.unwrap_or_else(|| format!("{said}{}", String::from_utf8_lossy(&output.stderr)))
}

/// Looks at many cases, each in a folder of its own, and shows all that came out otherwise.
fn check(cases: &[(&str, &str)]) {
    let wrong: Vec<String> = cases
        .iter()
        .filter_map(|(case, expected)| {
            let folder = tempfile::tempdir().unwrap();
            let found = outcome(case, folder.path());
            (found != *expected).then(|| format!("{case}: expected {expected}, found {found}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    eprintln!("{} cases", cases.len());
}

#[test]
fn a_file_cut_under_a_map_is_a_signal_where_documented_and_an_error_elsewhere() {
    check(&[
        // The promise of `map` is broken: what touches the map is a signal.
        ("cut map row", "signal 7"),
        ("cut map encoded_row", "signal 7"),
        ("cut map gather", "signal 7"),
        ("cut map bag", "signal 7"),
        ("cut map token", "signal 7"),
        // What asks the system first is an error.
        ("cut map prefault", "FileChanged"),
        ("cut map check_alive", "FileChanged"),
        ("cut map verify", "FileChanged"),
        ("cut map convert", "FileChanged"),
        ("cut map nearest", "FileChanged"),
        ("cut map warm", "FileChanged"),
        // Rows before the cut are as they were.
        ("cut map first", "value"),
        ("cut read gather", "FileChanged"),
        ("cut read bag", "FileChanged"),
        ("cut read token", "FileChanged"),
        ("cut read prefault", "FileChanged"),
        ("cut read check_alive", "FileChanged"),
        ("cut read verify", "FileChanged"),
        ("cut read convert", "FileChanged"),
        ("cut read nearest", "FileChanged"),
        ("cut read first", "value"),
        ("cut direct gather", "FileChanged"),
        ("cut direct bag", "FileChanged"),
        ("cut direct verify", "FileChanged"),
        ("cut direct first", "value"),
        ("cut load gather", "value"),
        ("cut load token", "value"),
        ("cut load verify", "value"),
        ("cut load check_alive", "value"),
    ]);
}

#[test]
fn a_file_that_is_changed_in_place_is_noticed() {
    check(&[
        ("zeros map check_alive", "FileChanged"),
        ("zeros map verify", "FileChanged"),
        ("zeros read verify", "FileChanged"),
        ("zeros read check_alive", "FileChanged"),
        ("zeros load verify", "value"),
        ("zeros load gather", "value"),
    ]);
}

#[test]
fn a_file_that_is_removed_or_replaced_keeps_its_rows() {
    let mut cases = Vec::new();
    for way in ["removed", "replaced"] {
        for access in ["map", "read", "direct", "load"] {
            for call in ["gather", "token", "verify", "check_alive"] {
                cases.push(format!("{way} {access} {call}"));
            }
        }
    }
    check(&cases.iter().map(|case| (case.as_str(), "value")).collect::<Vec<_>>());
    check(&[("over-itself map none", "value"), ("over-itself read none", "value")]);
}

#[test]
fn limits_of_the_process_are_errors_that_name_them() {
    check(&[
        ("memory map none", "MapLimit"),
        ("memory load none", "OutOfMemory"),
        ("memory read none", "value"),
        ("files read none", "TooManyFiles"),
        ("files map none", "TooManyFiles"),
        ("shards read none", "value"),
        ("shards map none", "value"),
    ]);
}

#[test]
fn what_may_not_be_read_or_written_is_an_error() {
    check(&[
        ("nobody read none", "Io"),
        ("nobody map none", "Io"),
        ("nobody folder none", "value"),
        ("nobody write none", "Io"),
    ]);
}

#[test]
fn a_read_only_file_system_is_read_and_not_written() {
    let folder = tempfile::tempdir().unwrap();
    support::write_random(&folder.path().join("table.emb"), 100, DIM, DType::F32, None);
    fs::create_dir(folder.path().join("mounted")).unwrap();
    let script = "mount -t tmpfs none \"$F/mounted\" && cp \"$F/table.emb\" \"$F/mounted/\" && \
                  mount -o remount,ro \"$F/mounted\" || exit 77; exec \"$0\" --ignored --exact child --nocapture";
    let run = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", script])
        .arg(std::env::current_exe().unwrap())
        .env("F", folder.path())
        .env(CASE, "read-only map none")
        .env(FOLDER, folder.path().join("mounted"))
        .output();
    match run {
        Ok(run) if run.status.success() => {
            let said = String::from_utf8_lossy(&run.stdout).into_owned();
            assert!(said.contains("OUTCOME value"), "{said}");
        }
        other => eprintln!("skipped: no file system can be mounted here: {other:?}"),
    }
}

#[test]
#[ignore = "run by the others, in a process of its own"]
fn child() {
    let (Ok(case), Ok(folder)) = (std::env::var(CASE), std::env::var(FOLDER)) else { return };
    let folder = PathBuf::from(folder);
    let mut words = case.split(' ');
    let mut word = || words.next().unwrap();
    let (fault, access, call) = (word(), word(), word());
    let answer = match fault {
        "cut" | "zeros" | "removed" | "replaced" => changed(&folder, fault, access, call),
        "over-itself" => over_itself(&folder, access),
        "memory" => little_memory(&folder, access),
        "files" => few_files(&folder, access),
        "shards" => many_shards(&folder, access),
        "nobody" => as_nobody(&folder, access),
        "read-only" => read_only(&folder),
        other => panic!("{other}"),
    };
    println!("\nOUTCOME {}", told(answer));
}

/// A value, or the name of the error's variant.
fn told(answer: embmap::Result<&'static str>) -> String {
    match answer {
        Ok(value) => value.to_owned(),
        Err(error) => {
            let debug = format!("{error:?}");
            debug.split([' ', '{', '(']).next().unwrap_or_default().to_owned()
        }
    }
}

fn open(path: &Path, access: &str) -> embmap::Result<Table> {
    match access {
        // SAFETY: the promise is broken on purpose, in a child that may die of it.
        "map" => unsafe { Table::map(path) },
        "read" => OpenOptions::new().access(Access::Read).open(path),
        "direct" => OpenOptions::new().access(Access::Direct).open(path),
        "load" => Table::load(path),
        other => panic!("{other}"),
    }
}

/// A table of 1 MiB with a token for each row.
fn write(path: &Path) -> Vec<u8> {
    let rows = support::Random(3).bytes((VOCAB as usize) * DIM * 4);
    let mut writer = WriteOptions::new(DIM, DType::F32).replace(true).create(path).unwrap();
    writer.push_encoded(&rows).unwrap();
    for id in 0..VOCAB {
        writer.push_token(Some(&format!("token {id}"))).unwrap();
    }
    writer.finish().unwrap();
    rows
}

fn changed(folder: &Path, fault: &str, access: &str, call: &str) -> embmap::Result<&'static str> {
    // Direct reads want a disk and no memory file system.
    let path = folder.join("table.emb");
    let rows = write(&path);
    let table = open(&path, access)?;
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    match fault {
        "cut" => file.set_len(200_000).unwrap(),
        "zeros" => {
            use std::os::unix::fs::FileExt;
            // The clock of a file system may stand still for some milliseconds.
            std::thread::sleep(std::time::Duration::from_millis(30));
            file.write_all_at(&vec![0; 1 << 18], 1 << 19).unwrap();
        }
        "removed" => fs::remove_file(&path).unwrap(),
        _ => drop(support::write_random(&path, 7, 3, DType::F64, Some(64))),
    }
    let last = VOCAB - 1;
    let mut out = vec![0f32; DIM];
    let expected = |id: u64| &rows[id as usize * DIM * 4..][..DIM * 4];
    match call {
        "row" => _ = std::hint::black_box(table.row::<f32>(last)?[0]),
        "encoded_row" => assert_eq!(table.encoded_row(last)?, expected(last)),
        "gather" => {
            let mut bytes = vec![0; DIM * 4];
            table.gather_bytes_into(&[last], &mut bytes)?;
            assert_eq!(bytes, expected(last));
        }
        "first" => {
            let mut bytes = vec![0; DIM * 4];
            table.gather_bytes_into(&[0u64], &mut bytes)?;
            assert_eq!(bytes, expected(0));
        }
        "bag" => table.embedding_bag_into(
            &[0, last],
            &[0u64, 2],
            None,
            embmap::Pooling::Sum,
            &mut out,
        )?,
        "token" => assert_eq!(table.token(last)?.as_deref(), Some(&*format!("token {last}"))),
        "prefault" => table.prefault(..)?,
        "warm" => table.warm(..)?,
        "check_alive" => table.check_alive()?,
        "verify" => {
            return table.verify().map(|found| if found.is_sound() { "value" } else { "damage" });
        }
        "nearest" => _ = table.nearest(&[0.5; DIM], 1, Metric::Dot)?,
        "convert" => {
            let target = folder.join("converted.emb");
            let converted = convert(&table, &target, &ConvertOptions::new());
            assert_eq!(target.exists(), converted.is_ok());
            converted?;
        }
        other => panic!("{other}"),
    }
    Ok("value")
}

/// A table is converted onto the very file that it is read from.
fn over_itself(folder: &Path, access: &str) -> embmap::Result<&'static str> {
    let path = folder.join("table.emb");
    let rows = write(&path);
    let table = open(&path, access)?;
    convert(&table, &path, &ConvertOptions::new().replace(true).align(128))?;
    let new = Table::load(&path)?;
    assert_eq!(new.row_stride(), 128);
    for table in [&table, &new] {
        let mut out = vec![0; rows.len()];
        table.gather_bytes_into(&(0..VOCAB).collect::<Vec<_>>(), &mut out)?;
        assert!(out == rows);
    }
    Ok("value")
}

fn set_limit(limit: libc::__rlimit_resource_t, to: u64) {
    let value = libc::rlimit { rlim_cur: to, rlim_max: to };
    // SAFETY: `value` outlives the call.
    assert_eq!(unsafe { libc::setrlimit(limit, &raw const value) }, 0);
}

/// Address space for the process as it is and 32 MiB more; the table has 64.
fn little_memory(folder: &Path, access: &str) -> embmap::Result<&'static str> {
    let path = folder.join("table.emb");
    support::write_random(&path, 1 << 18, 64, DType::F32, None);
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let size = status.lines().find_map(|line| line.strip_prefix("VmSize:")).unwrap();
    let size: u64 = size.trim().trim_end_matches(" kB").parse().unwrap();
    set_limit(libc::RLIMIT_AS, (size << 10) + (32 << 20));
    let table = open(&path, access)?;
    let mut out = vec![0f32; 64];
    table.gather_into(&[(1u64 << 18) - 1], &mut out)?;
    Ok("value")
}

/// A model of so many shards, each with a piece of two rows.
fn shards(folder: &Path, count: usize) {
    let mut map = Vec::new();
    for shard in 0..count {
        let tensor = format!("model.ngram_embedding.shard_{shard}.weight");
        let name = format!("model-{shard:05}.safetensors");
        let header =
            format!(r#"{{"{tensor}":{{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]}}}}"#);
        let mut file = (header.len() as u64).to_le_bytes().to_vec();
        file.extend(header.as_bytes());
        file.extend((0..4).flat_map(|i| ((shard * 4 + i) as f32).to_le_bytes()));
        fs::write(folder.join(&name), file).unwrap();
        map.push(format!(r#""{tensor}":"{name}""#));
    }
    let index = format!(r#"{{"weight_map":{{{}}}}}"#, map.join(","));
    fs::write(folder.join("model.safetensors.index.json"), index).unwrap();
}

fn few_files(folder: &Path, access: &str) -> embmap::Result<&'static str> {
    shards(folder, 200);
    set_limit(libc::RLIMIT_NOFILE, 100);
    open(folder, access).map(|_| "value")
}

fn many_shards(folder: &Path, access: &str) -> embmap::Result<&'static str> {
    shards(folder, 2000);
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` outlives the call.
    assert_eq!(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) }, 0);
    if limit.rlim_cur < 2100 {
        if limit.rlim_max < 2100 {
            return Ok("value");
        }
        set_limit(libc::RLIMIT_NOFILE, limit.rlim_max);
    }
    let table = open(folder, access)?;
    assert_eq!(table.vocab(), 4000);
    let mut out = vec![0f32; 2 * 4000];
    table.gather_into(&(0..4000u64).collect::<Vec<_>>(), &mut out)?;
    assert!((0..8000).all(|i| out[i] == i as f32));
    Ok("value")
}

/// As a user who owns nothing. Where the process is one already, as it is.
fn as_nobody(folder: &Path, what: &str) -> embmap::Result<&'static str> {
    let path = folder.join("table.emb");
    support::write_random(&path, 10, DIM, DType::F32, None);
    let file_mode = if what == "folder" { 0o444 } else { 0 };
    fs::set_permissions(&path, PermissionsExt::from_mode(file_mode)).unwrap();
    fs::set_permissions(folder, PermissionsExt::from_mode(0o555)).unwrap();
    if rustix::process::geteuid().is_root() {
        // SAFETY: changes this process alone, which ends soon.
        assert_eq!(unsafe { libc::setuid(65_534) }, 0);
    }
    match what {
        "write" => {
            WriteOptions::new(1, DType::F32).create(folder.join("new.emb"))?;
        }
        // Read permission is enough, in a folder that nobody may write to.
        "folder" => {
            let table = open(&path, "map")?;
            let mut out = vec![0f32; DIM];
            table.gather_into(&[9u32], &mut out)?;
            assert!(table.verify()?.is_sound());
        }
        access => _ = open(&path, access)?,
    }
    Ok("value")
}

fn read_only(folder: &Path) -> embmap::Result<&'static str> {
    for access in ["map", "read", "load"] {
        let table = open(&folder.join("table.emb"), access)?;
        assert!(table.verify()?.is_sound());
        let error = convert(&table, folder.join("new.emb"), &ConvertOptions::new()).unwrap_err();
        assert!(matches!(error, embmap::Error::Io { .. }), "{error}");
    }
    Ok("value")
}
