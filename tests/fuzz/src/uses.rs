//! Everything that can be done with a table, as a careless program would: nothing panics, and
//! what two ways say of the same row is the same.

use embmap::{
    BagOptions, ConvertOptions, DType, Error, ExportFormat, ExportOptions, GatherOptions, Metric,
    Pooling, Table,
};

/// The longest row that is read: decoding takes as much memory as a row declares.
const LONGEST_ROW: u64 = 1 << 16;

/// The most rows that are exported or searched.
const MOST_ROWS: u64 = 1 << 12;

/// Uses a table in every way that takes no file.
pub(crate) fn use_everything(table: &Table) {
    if table.row_bytes() <= LONGEST_ROW && (table.dim() as u64) < LONGEST_ROW {
        use_rows(table);
        use_all_rows(table);
    }
    use_tokens(table);
    let _ = table.check_alive();
    let _ = table.residency();
    let _ = table.metadata().map(|text| text.map(|text| text.len()));
    let _ = table.tokenizer_json().map(|text| text.map(|text| text.len()));
    let _ = table.verify().map(|found| found.is_sound());
}

fn use_rows(table: &Table) {
    let (vocab, dim) = (table.vocab(), table.dim());
    let mut ids = vec![0, 1, vocab / 2, vocab.saturating_sub(1)];
    ids.retain(|id| *id < vocab);
    let gather = |portable| {
        let mut out = vec![7f32; ids.len() * dim];
        let options = GatherOptions::new().portable(portable).threads(1);
        let gathered = table.gather_into_with(&ids, &mut out, &options);
        gathered.map(|()| bits(table, &out))
    };
    match (gather(false), gather(true)) {
        (Ok(fast), Ok(slow)) => assert!(fast == slow, "kernels and their twins"),
        (fast, slow) => assert_eq!(fast.is_ok(), slow.is_ok(), "{fast:?} {slow:?}"),
    }

    let row_bytes = usize::try_from(table.row_bytes()).unwrap();
    let mut encoded = vec![0; ids.len() * row_bytes];
    let gathered = table.gather_bytes_into(&ids, &mut encoded);
    for (id, bytes) in ids.iter().zip(encoded.chunks(row_bytes)) {
        if let (Ok(()), Ok(row)) = (&gathered, table.encoded_row(*id)) {
            assert_eq!(row, bytes, "two ways to row {id}");
        }
        if let (Ok(()), Ok(row)) = (&gathered, table.row::<f32>(*id)) {
            assert_eq!(row.len(), dim);
            let same = row.iter().zip(bytes.chunks(4)).all(|(a, b)| a.to_ne_bytes() == *b);
            assert!(same, "two ways to row {id}");
        }
    }
    let _ = table.rows::<f32>().map(|rows| rows.get(vocab).is_none());

    for id in [vocab, vocab.saturating_add(1), u64::MAX] {
        let mut out = vec![7f32; dim];
        let refused = table.gather_into(&[id], &mut out);
        assert!(matches!(refused, Err(Error::RowOutOfRange { .. })), "{id}: {refused:?}");
        assert!(out.iter().all(|value| *value == 7.0), "nothing is written");
        assert!(table.encoded_row(id).is_err());
    }
    let bags = [0, ids.len() as u64, ids.len() as u64];
    for pooling in [Pooling::Sum, Pooling::Mean, Pooling::Max] {
        let mut out = vec![7f32; 2 * dim];
        let options = BagOptions::new().threads(1);
        if table.embedding_bag_into_with(&ids, &bags, None, pooling, &mut out, &options).is_ok() {
            assert!(out[dim..].iter().all(|value| *value == 0.0), "an empty bag is zeros");
        }
    }
    let _ = table.load_rows(0..vocab.min(3)).map(|rows| rows.vocab());
}

/// The bits of decoded elements. A NaN that arithmetic makes is a NaN and nothing more: its sign
/// and its payload are the CPU's. One that is stored as f32 stays as it is.
fn bits(table: &Table, values: &[f32]) -> Vec<u32> {
    let kept = table.dtype() == DType::F32;
    let of = |value: &f32| if value.is_nan() && !kept { f32::NAN } else { *value };
    values.iter().map(|value| of(value).to_bits()).collect()
}

fn use_all_rows(table: &Table) {
    if table.vocab() > MOST_ROWS || table.vocab().saturating_mul(table.row_bytes()) > 1 << 20 {
        return;
    }
    let query = vec![0.5; table.dim()];
    if let Ok(found) = table.nearest(&query, 2, Metric::Cosine) {
        assert!(found.iter().all(|found| found.id < table.vocab() && !found.score.is_nan()));
    }
    for format in [ExportFormat::Npy, ExportFormat::Safetensors, ExportFormat::Glove] {
        let options = ExportOptions::new().format(format);
        let mut out = Vec::new();
        let exported =
            embmap::export_to(
                table,
                &mut out,
                &options,
                |_, _| std::ops::ControlFlow::Continue(()),
            );
        if exported.is_ok() && format == ExportFormat::Npy {
            let (header, _) = embmap::NpyHeader::parse(&out, "exported").unwrap();
            assert_eq!(header.shape.first(), Some(&table.vocab()));
        }
    }
}

fn use_tokens(table: &Table) {
    let count = table.token_count().unwrap_or(0);
    for id in [0, 1, 2, count / 2, count.saturating_sub(1), count, u64::MAX] {
        let Ok(Some(token)) = table.token(id) else { continue };
        assert!(id < count, "token {id} of {count}");
        // A damaged index may miss, and never lies.
        if let Ok(Some(found)) = table.id_of(&token) {
            assert_eq!(table.token(found).unwrap().as_deref(), Some(&*token));
        }
    }
    for token in ["cat", "", "Ġçà", "beyond", "[UNK]"] {
        if let Ok(Some(id)) = table.id_of(token) {
            assert_eq!(table.token(id).unwrap().as_deref(), Some(token));
        }
    }
}

/// Converts a table and looks whether the file holds its rows; leaves nothing behind where
/// that fails.
pub(crate) fn convert(table: &Table, folder: &std::path::Path) {
    let small = table.vocab().saturating_mul(table.row_bytes()) <= 1 << 16;
    if !small || table.row_bytes() > LONGEST_ROW {
        return;
    }
    let path = folder.join("converted.emb");
    let options = ConvertOptions::new().replace(true).file_id([7; 16]);
    if embmap::convert(table, &path, &options).is_ok() {
        let written = Table::load(&path).unwrap();
        assert_eq!((written.vocab(), written.dim()), (table.vocab(), table.dim()));
        assert!(written.verify().unwrap().is_sound());
        let ids: Vec<u64> = (0..table.vocab().min(8)).collect();
        let [theirs, ours] = [table, &written].map(|table| {
            let mut out = vec![0f32; ids.len() * table.dim()];
            let gathered = table.gather_into(&ids, &mut out);
            gathered.map(|()| bits(table, &out))
        });
        assert!(theirs.unwrap() == ours.unwrap(), "the file's rows are the table's");
        std::fs::remove_file(&path).unwrap();
    }
    let left = std::fs::read_dir(folder).unwrap();
    let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().contains("embmap-tmp")), "{left:?}");
}
