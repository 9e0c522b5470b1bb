//! A folder in memory that inputs are written to where a table is more than one file.

use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};

use embmap::{Error, OpenOptions, Table, TensorInfo};
use tempfile::TempDir;

/// A folder for one input at a time.
pub(crate) struct Place {
    folder: TempDir,
    written: Vec<PathBuf>,
}

impl Place {
    /// Runs something in this thread's folder, and empties it.
    pub(crate) fn with<R>(run: impl FnOnce(&mut Place) -> R) -> R {
        thread_local! {
            static PLACE: RefCell<Place> = RefCell::new(Place::new());
        }
        PLACE.with(|place| {
            let mut place = place.borrow_mut();
            let result = run(&mut place);
            place.clear();
            result
        })
    }

    /// One folder a thread. A fuzzer that crashes leaves it behind.
    fn new() -> Self {
        let parent = Path::new("/dev/shm");
        let parent = if parent.is_dir() { parent.to_path_buf() } else { std::env::temp_dir() };
        let folder = tempfile::Builder::new().prefix("embmap-fuzz-").tempdir_in(parent).unwrap();
        Place { folder, written: Vec::new() }
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn write(&mut self, name: &str, bytes: &[u8]) {
        let path = self.folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        self.written.push(path);
    }

    /// Three shards, which the fixture's index describes.
    pub(crate) fn shards(&mut self) {
        self.write(
            "model-00001-of-00003.safetensors",
            include_bytes!("../../../fixtures/sharded/model-00001-of-00003.safetensors"),
        );
        self.write(
            "model-00002-of-00003.safetensors",
            include_bytes!("../../../fixtures/sharded/model-00002-of-00003.safetensors"),
        );
        self.write(
            "model-00003-of-00003.safetensors",
            include_bytes!("../../../fixtures/sharded/model-00003-of-00003.safetensors"),
        );
    }

    /// A model of 12 rows with two tensors that may be its embedding.
    pub(crate) fn model(&mut self) {
        let header = r#"{"model.embed_tokens.weight":{"dtype":"U8","shape":[12,8],"data_offsets":[0,96]},"model.embed_tokens.weight_scale":{"dtype":"F32","shape":[12,1],"data_offsets":[96,144]},"lm_head.weight":{"dtype":"F32","shape":[12,2],"data_offsets":[144,240]}}"#;
        let mut file = (header.len() as u64).to_le_bytes().to_vec();
        file.extend_from_slice(header.as_bytes());
        file.extend(1..=240u8);
        self.write("model.safetensors", &file);
    }

    pub(crate) fn open(&self) -> Result<Table, Error> {
        OpenOptions::new().open(self.folder())
    }

    pub(crate) fn list(&self) -> Result<Vec<TensorInfo>, Error> {
        OpenOptions::new().list_tensors(self.folder())
    }

    fn clear(&mut self) {
        for path in self.written.drain(..) {
            _ = fs::remove_file(path);
        }
    }
}
