//! numpy's .npz files: .npy files in a zip archive, in place where they are stored unpacked.

use super::npy;
use super::zip::{self, Member, Packing};
use super::{FoundTable, TensorInfo};
use crate::error::{Error, Result};
use crate::storage::{StoredFile, Stretch};

/// The format's name in `info`.
pub(crate) const FORMAT: &str = "npz";

/// The array that is asked for by its name, with or without `.npy`, or the only one.
pub(crate) fn choose(file: &StoredFile, asked: Option<&str>) -> Result<Member> {
    zip::choose(file, asked, ".npy files", is_array)
}

/// True where the archive holds an array.
#[cfg(feature = "import")]
pub(crate) fn has_arrays(file: &StoredFile) -> Result<bool> {
    let mut found = false;
    zip::visit(file, &mut |member| {
        found |= is_array(&member);
        Ok(())
    })?;
    Ok(found)
}

fn is_array(member: &Member) -> bool {
    array_name(member) != member.name
}

/// The name of an array, as numpy shows it.
pub(crate) fn array_name(member: &Member) -> &str {
    member.name.strip_suffix(".npy").unwrap_or(&member.name)
}

/// The table that an array of the archive is.
pub(super) fn find(file: StoredFile, asked: Option<&str>) -> Result<FoundTable> {
    let member = choose(&file, asked)?;
    if let Some(how) = packed(member.packing) {
        let reason = format!(
            "its array {:?} is {how}, and is not read in place; convert it (embmap convert), or \
             save it with np.savez",
            array_name(&member)
        );
        return Err(Error::NoTable { path: file.path().to_path_buf(), reason });
    }
    let at = Stretch { offset: zip::place(&file, &member)?, bytes: member.bytes };
    let array = npy::read(&file, at)?;
    let found = npy::in_place(file, at, &array, FORMAT)?;
    Ok(FoundTable { tensor: Some(array_name(&member).to_owned()), ..found })
}

/// How a member is packed, where it does not lie in the archive as it is.
pub(crate) fn packed(packing: Packing) -> Option<String> {
    match packing {
        Packing::Stored => None,
        Packing::Deflated => Some("deflated".to_owned()),
        Packing::Other(method) => Some(format!("packed by method {method}")),
        Packing::Encrypted => Some("encrypted".to_owned()),
    }
}

/// Lists the arrays of the archive. Of one that is not stored, only the size is known.
pub(super) fn list(file: &StoredFile) -> Result<Vec<TensorInfo>> {
    let mut list = Vec::new();
    zip::visit(file, &mut |member| {
        if !is_array(&member) {
            return Ok(());
        }
        let array = match member.packing {
            Packing::Stored => {
                let at = Stretch { offset: zip::place(file, &member)?, bytes: member.bytes };
                npy::read(file, at).ok()
            }
            _ => None,
        };
        list.push(TensorInfo {
            name: array_name(&member).to_owned(),
            dtype: array.as_ref().map_or("unknown", |array| array.dtype.name()).to_owned(),
            shape: array.as_ref().map(|array| vec![array.vocab, array.dim]).unwrap_or_default(),
            bytes: member.bytes,
            file: file.path().to_path_buf(),
            picked: false,
            candidate: array.is_some_and(|array| array.obstacle().is_none()),
        });
        Ok(())
    })?;
    if let [only] = list.as_mut_slice() {
        only.picked = true;
    }
    Ok(list)
}
