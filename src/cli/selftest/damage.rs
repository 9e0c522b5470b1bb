//! Damage of every kind is found: at the open, or by `verify`.

use anyhow::Result;
use embmap::Table;
use embmap::format::ROWS_OFFSET;

use super::sample::{self, Random, Sample};
use super::score::Score;

/// Bytes in which a bit is flipped, and lengths that a file is cut to.
const FLIPPED: usize = 2000;
const CUT: usize = 500;

/// The bytes that one sum is over.
const BLOCK: usize = 65_536;

pub(super) fn found(sample: &Sample, score: &mut Score) -> Result<()> {
    let file = &sample.emb;
    score.case(|| "a good file is found damaged".to_owned(), || is_sound(file));
    let mut random = Random(5);
    for _ in 0..FLIPPED {
        let (at, bit) = (random.index(file.len()), random.below(8));
        let mut damaged = file.clone();
        damaged[at] ^= 1 << bit;
        score.case(|| format!("unseen: bit {bit} of byte {at}"), || !is_sound(&damaged));
    }
    for _ in 0..CUT {
        let length = random.index(file.len());
        score.case(|| format!("unseen: cut to {length} bytes"), || !is_sound(&file[..length]));
    }
    blocks(sample, score)
}

/// Blocks that are swapped, turned to zeros, or another file's.
fn blocks(sample: &Sample, score: &mut Score) -> Result<()> {
    let path = sample.path("blocks.emb");
    let mut files = Vec::new();
    for seed in [1, 2] {
        sample::write_table(&path, 5000, seed)?;
        files.push(std::fs::read(&path)?);
    }
    std::fs::remove_file(&path)?;
    let start = usize::try_from(ROWS_OFFSET)?;
    let block = |index: usize| start + index * BLOCK..start + (index + 1) * BLOCK;
    let whole = (files[0].len().min(files[1].len()) - start) / BLOCK;
    for index in 0..whole {
        let changed = |name: &str, with: &[u8], score: &mut Score| {
            let mut file = files[0].clone();
            file[block(index)].copy_from_slice(with);
            // Two blocks of one content, as of zeros, are no damage.
            if file != files[0] {
                score.case(|| format!("unseen: block {index} {name}"), || !is_sound(&file));
            }
        };
        changed("of zeros", &vec![0; BLOCK], score);
        changed("of another file", &files[1][block(index)], score);
        changed("of another place", &files[0][block((index + 1) % whole)], score);
    }
    Ok(())
}

fn is_sound(file: &[u8]) -> bool {
    Table::from_bytes(file).and_then(|table| table.verify()).is_ok_and(|found| found.is_sound())
}
