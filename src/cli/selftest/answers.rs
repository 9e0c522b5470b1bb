//! Any bytes are answered, and what could mean two things is refused.

use anyhow::Result;
use embmap::{Metric, Table};

use super::sample::{self, DIM, Random, Sample};
use super::score::Score;

/// Changed files of each format that are tried.
const CHANGED: u64 = 1000;

/// Files of every format, damaged at random: a table or an error, and no panic.
pub(super) fn total(sample: &Sample, score: &mut Score) -> Result<()> {
    let mut random = Random(11);
    for (name, file) in
        [("emb", &sample.emb), ("safetensors", &sample.safetensors), ("npy", &sample.npy)]
    {
        for _ in 0..CHANGED {
            let start = random.0;
            let mut changed = file.clone();
            change(&mut changed, &mut random);
            if name == "emb" && changed.len() > 4096 {
                sample::seal(&mut changed)?;
            }
            score.case(
                || format!("{name}, case {start}"),
                || {
                    used(&changed);
                    true
                },
            );
        }
    }
    Ok(())
}

fn change(file: &mut Vec<u8>, random: &mut Random) {
    for _ in 0..=random.below(4) {
        // What matters lies in the first bytes.
        let most = if random.below(4) > 0 { file.len().min(480) } else { file.len() };
        let at = random.index(most);
        match random.below(8) {
            0 => file.truncate(at + 1),
            1 => _ = file.drain(at..(at + 9).min(file.len())),
            2 => file[at] = random.next().to_le_bytes()[0],
            3 => file[at] = file[at].wrapping_add(1),
            _ => {
                let value = match random.below(3) {
                    0 => random.below(300),
                    1 => u64::MAX >> random.below(64),
                    _ => random.next(),
                };
                let at = at / 8 * 8;
                let end = (at + 8).min(file.len());
                file[at..end].copy_from_slice(&value.to_le_bytes()[..end - at]);
            }
        }
    }
}

/// Opens bytes and uses what they are; whether that fails is no matter.
fn used(file: &[u8]) {
    let Ok(table) = Table::from_bytes(file) else { return };
    _ = table.verify();
    let ids = [0, table.vocab() / 2, table.vocab()];
    _ = table.token(0).map(|token| token.map(|token| table.id_of(&token).is_ok()));
    if table.dim() <= 1 << 12 {
        _ = table.gather_into(&ids, &mut vec![0f32; ids.len() * table.dim()]);
        _ = table.nearest(&vec![0.5; table.dim()], 1, Metric::Cosine);
    }
}

/// Files that two readers could read as different tables.
pub(super) fn one_meaning(sample: &Sample, score: &mut Score) -> Result<()> {
    let row = 4 * DIM;
    let tensor = |name: &str, rows: usize, start: usize| {
        let end = start + rows * row;
        format!(
            r#""{name}":{{"dtype":"F32","shape":[{rows},{DIM}],"data_offsets":[{start},{end}]}}"#
        )
    };
    let (first, second) = (tensor("wte.weight", 2, 0), tensor("wte.weight", 2, 2 * row));
    let other = |start| tensor("lm_head.weight", 2, start);
    let cases = [
        ("a tensor that is there twice", format!("{{{first},{second}}}"), 4 * row),
        ("tensors that overlap", format!("{{{first},{}}}", other(row)), 3 * row),
        ("a gap between tensors", format!("{{{first},{}}}", other(3 * row)), 5 * row),
        ("bytes behind the last tensor", format!("{{{first}}}"), 2 * row + 1),
        ("a tensor that is cut", format!("{{{first}}}"), 2 * row - 1),
        (
            "a key that is there twice",
            format!("{{{}}}", first.replace("\"dtype\"", "\"dtype\":\"F16\",\"dtype\"")),
            2 * row,
        ),
    ];
    for (what, header, data) in &cases {
        let file = sample::safetensors(header, &vec![7; *data]);
        score.case(|| format!("accepted: {what}"), || Table::from_bytes(&file).is_err());
    }
    let good = sample::safetensors(&format!("{{{first}}}"), &vec![7; 2 * row]);
    score.case(|| "refused: a good file".to_owned(), || Table::from_bytes(&good).is_ok());

    for (field, value) in [
        ("reserved_0", 1),
        ("reserved_1", 1),
        ("reserved_2", 1),
        ("rows_offset", 4096),
        ("rows_bytes", 64),
        ("row_stride", 60),
        ("bits", 8),
        ("section_count", 0),
        ("file_bytes", 1 << 20),
    ] {
        let mut file = sample.emb.clone();
        sample::set(&mut file, field, value)?;
        score.case(|| format!("accepted: {field} = {value}"), || Table::from_bytes(&file).is_err());
    }
    for more in [1, 64, 4096] {
        let mut file = sample.emb.clone();
        file.resize(file.len() + more, 0);
        score.case(|| format!("accepted: {more} bytes more"), || Table::from_bytes(&file).is_err());
    }
    let mut npy = sample.npy.clone();
    npy.push(0);
    score.case(|| "accepted: an array and a byte".to_owned(), || Table::from_bytes(&npy).is_err());
    Ok(())
}
