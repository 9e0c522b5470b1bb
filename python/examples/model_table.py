#!/usr/bin/env python3
"""A real model's embedding table, straight from its checkpoint.

    python3 python/examples/model_table.py [MODEL] [TEXT]

MODEL is a model directory, a checkpoint's file or an .emb file with a tokenizer; by default the
slice of all-MiniLM-L6-v2 that the repository carries.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

import embmap

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures"


def main(model: str, text: str) -> None:
    with embmap.open(model) as table:
        print(f"{table.vocab:,} rows of {table.dim} {table.stored}, from {table.format}")

        # Text becomes ids, ids become rows. Nothing was loaded: these rows alone were read.
        ids = table.encode(text, special_tokens=False)
        rows = table.gather(ids, dtype="f32")
        for id, row in zip(ids, rows):
            print(f"{id:>6}  {table.token(id):<12}  {np.array2string(row[:4], precision=4)}")

        # A sentence's vector is the mean of its rows.
        sentence = table.bag(ids)

        # Every row against it. The table is a matrix like any other, here as a view of the file.
        matrix = np.asarray(table).astype(np.float32)
        norms = np.linalg.norm(matrix, axis=1) * np.linalg.norm(sentence)
        closeness = matrix @ sentence / np.maximum(norms, 1e-12)
        closest = [id for id in np.argsort(-closeness).tolist() if id not in ids][:5]
        print("near it:", "  ".join(f"{table.token(id)!r} {closeness[id]:.3f}" for id in closest))


if __name__ == "__main__":
    main(
        sys.argv[1] if len(sys.argv) > 1 else str(FIXTURES / "minilm-2k"),
        sys.argv[2] if len(sys.argv) > 2 else "the cat sat on the mat",
    )
