//! The same bytes through the crates that others read them with: what embmap accepts they
//! accept, and the rows are the same.
//!
//! The other way round embmap may be stricter, and says so; the library's own tests list in
//! what, for safetensors.

use std::io::Read;

use embmap::{DType, Error, Table};
use npyz::NpyFile;
use safetensors::SafeTensors;

/// The tensor that was picked is there, and holds these rows.
pub(crate) fn safetensors(file: &[u8], table: &Result<Table, Error>) {
    let Ok(table) = table else { return };
    if table.info().format != "safetensors" {
        return;
    }
    let theirs = SafeTensors::deserialize(file).expect("accepted by embmap alone");
    let Some(name) = &table.info().tensor else { return };
    let Ok(tensor) = theirs.tensor(name) else { return };
    if let (Some(row), false) = (first_row(table), table.info().scales.is_some()) {
        assert_eq!(row, tensor.data()[..row.len()]);
    }
    assert_eq!(tensor.shape()[0] as u64, table.vocab());
}

/// `npyz` reads the same shape and the same first row.
pub(crate) fn npy(file: &[u8], table: &Result<Table, Error>) {
    let Ok(table) = table else { return };
    if table.info().format == "npy" {
        npy_rows(file, table);
    }
}

/// The member that was picked is there, unpacked by `zip`, and reads as the same rows.
pub(crate) fn npz(file: &[u8], table: &Result<Table, Error>) {
    let Ok(table) = table else { return };
    if table.info().format != "npz" {
        return;
    }
    // Names that are there twice and damaged neighbours are not compared: what `zip` keeps of
    // them is not what the directory lists.
    let Ok(mut archive) = zip::ZipArchive::new(std::io::Cursor::new(file)) else { return };
    let Some(name) = &table.info().tensor else { return };
    let Ok(mut member) = archive.by_name(&format!("{name}.npy")) else { return };
    let mut bytes = Vec::new();
    // A wrong CRC is an error there; embmap maps the rows and reads no CRC.
    if member.by_ref().take(1 << 20).read_to_end(&mut bytes).is_ok() {
        npy_rows(&bytes, table);
    }
}

fn npy_rows(file: &[u8], table: &Table) {
    // Types that numpy has no name for are opaque bytes there.
    if !matches!(table.dtype(), DType::F32 | DType::F16 | DType::F64 | DType::I8 | DType::U8) {
        return;
    }
    // numpy takes any white space of Python in a header, which npyz does not.
    let mut spaced = file.to_vec();
    let data = file.len() - usize::try_from(table.vocab() * table.row_bytes()).unwrap();
    for byte in &mut spaced[10..data] {
        if matches!(byte, b'\t' | b'\r' | b'\x0c' | b'\n') {
            *byte = b' ';
        }
    }
    spaced[data - 1] = b'\n';
    let theirs = NpyFile::new(spaced.as_slice()).expect("accepted by embmap alone");
    let shape = theirs.shape();
    assert_eq!(shape.first().copied(), Some(table.vocab()));
    let dim: u64 = shape[1..].iter().product();
    assert_eq!(dim, table.dim() as u64);
    if let (Some(row), npyz::Order::C) = (first_row(table), theirs.order()) {
        assert_eq!(row, file[data..][..row.len()]);
    }
}

fn first_row(table: &Table) -> Option<Vec<u8>> {
    let bytes = usize::try_from(table.row_bytes()).ok().filter(|bytes| *bytes < 1 << 20)?;
    let mut row = vec![0; bytes];
    table.gather_bytes_into(&[0u64], &mut row).ok().map(|()| row)
}
