"""The tables that are measured: the same random rows as a file of each system."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np

from native import check, native, pointer

# Where the rows of an .emb file start.
ROWS_OFFSET = 65_536

# The rows that are made at a time.
CHUNK = 1 << 14

# bf16 has no name in numpy: it is the upper half of an f32.
STORED = {"f32": np.float32, "f16": np.float16, "bf16": np.uint16}
SAFETENSORS = {"f32": "F32", "f16": "F16", "bf16": "BF16"}


class Table:
    """A table of random rows in several files below a folder."""

    def __init__(self, folder: Path, dtype: str, row_bytes: int, table_bytes: int):
        self.dtype = dtype
        self.row_bytes = row_bytes
        self.dim = row_bytes // np.dtype(STORED[dtype]).itemsize
        self.vocab = table_bytes // row_bytes
        self.stem = folder / f"{dtype}-{row_bytes}-{self.vocab}"

    def file(self, suffix: str) -> Path:
        return self.stem.with_name(self.stem.name + suffix)

    def chunks(self):
        """Its rows, some at a time: numbers of a normal distribution, no two alike."""
        random = np.random.default_rng([self.vocab, self.row_bytes])
        for start in range(0, self.vocab, CHUNK):
            rows = random.standard_normal((min(CHUNK, self.vocab - start), self.dim), np.float32)
            if self.dtype == "bf16":
                rows = (rows.view(np.uint32) >> 16).astype(np.uint16)
            yield rows.astype(STORED[self.dtype], copy=False)

    def make(self) -> None:
        """Writes the rows as a safetensors file, and that as an .emb file."""
        if not self.file(".emb").exists():
            self._write_safetensors(self.file(".safetensors"))
            source, target = self.file(".safetensors"), self.file(".emb")
            check(native().ours_convert(bytes(source), bytes(target)))

    def drop_safetensors(self) -> None:
        self.file(".safetensors").unlink(missing_ok=True)

    def _write_safetensors(self, path: Path) -> None:
        size = self.vocab * self.row_bytes
        tensor = {"dtype": SAFETENSORS[self.dtype], "shape": [self.vocab, self.dim], "data_offsets": [0, size]}
        header = json.dumps({"wte.weight": tensor}).encode()
        header += b" " * (-(len(header) + 8) % 64)
        with path.open("wb") as file:
            file.write(len(header).to_bytes(8, "little") + header)
            for rows in self.chunks():
                file.write(rows.tobytes())

    def mapped(self) -> np.memmap:
        """The rows of the .emb file, mapped anew."""
        shape = (self.vocab, self.dim)
        return np.memmap(self.file(".emb"), STORED[self.dtype], "r", ROWS_OFFSET, shape)

    def make_others(self) -> None:
        """Writes the files of the systems that have their own."""
        rows = self.mapped()
        if not self.file(".safetensors").exists():
            self._write_safetensors(self.file(".safetensors"))
        if not self.file(".fifu").exists():
            path = bytes(self.file(".fifu"))
            check(native().finalfusion_write(path, pointer(rows), self.vocab, self.dim))
        if not self.file(".lmdb").exists():
            self.file(".lmdb").mkdir()
            path = bytes(self.file(".lmdb"))
            check(native().lmdb_write(path, pointer(rows), self.vocab, self.row_bytes))
        if not self.file(".lance").exists():
            self._write_lance(rows)

    def _write_lance(self, rows: np.memmap) -> None:
        import lance
        import pyarrow as pa

        schema = pa.schema([("vector", pa.list_(pa.float32(), self.dim))])

        def batches():
            for start in range(0, self.vocab, CHUNK):
                values = pa.array(np.ascontiguousarray(rows[start : start + CHUNK]).reshape(-1))
                vectors = pa.FixedSizeListArray.from_arrays(values, self.dim)
                yield pa.record_batch([vectors], schema=schema)

        reader = pa.RecordBatchReader.from_batches(schema, batches())
        lance.write_dataset(reader, str(self.file(".lance")), max_rows_per_file=self.vocab)

    def remove(self) -> None:
        for path in self.stem.parent.glob(self.stem.name + ".*"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


class Ids:
    """Fresh random ids for every batch: uniform, or Zipf's with the ranks spread over the table."""

    def __init__(self, kind: str, vocab: int, seed: int):
        self.random = np.random.default_rng(seed)
        self.vocab = vocab
        self.sums = None
        if kind.startswith("zipf:"):
            weights = np.arange(1, vocab + 1, dtype=np.float64) ** -float(kind[5:])
            self.sums = np.cumsum(weights / weights.sum())
            self.places = np.random.default_rng(0).permutation(vocab)

    def batch(self, count: int) -> np.ndarray:
        if self.sums is None:
            return self.random.integers(0, self.vocab, count)
        ranks = np.searchsorted(self.sums, self.random.random(count))
        return self.places[np.minimum(ranks, self.vocab - 1)]
