#!/usr/bin/env python3
"""The step loop of a language model with an n-gram table: 16 rows a token, by hash.

    python3 python/examples/ngram_steps.py [TABLE] [--steps N]

Such tables are larger than memory and lie in many pieces of a checkpoint, in FP8 with a scale.
They are read where they lie: TABLE is the model's directory, by default a small one of that kind
that the repository carries. Rows come decoded, into memory that is used for every step, and those
of the next step are asked for while this one is computed.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import numpy as np

import embmap

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures"

# Two, three, four and five tokens, four hashes of each.
ORDERS, HASHES = (2, 3, 4, 5), 4


def rows_of(tokens: list[int], vocab: int) -> np.ndarray:
    """The rows of the n-grams that end a text."""
    seeds = np.arange(1, HASHES + 1, dtype=np.uint64) * np.uint64(0x9E37_79B9_7F4A_7C15)
    rows = []
    for order in ORDERS:
        hashes = seeds.copy()
        for token in tokens[-order:]:
            hashes = (hashes ^ np.uint64(token)) * np.uint64(0x100_0000_01B3)
            hashes ^= hashes >> np.uint64(29)
        rows.append(hashes % np.uint64(vocab))
    return np.concatenate(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", nargs="?", default=str(FIXTURES / "pieces"))
    parser.add_argument("--steps", type=int, default=200)
    options = parser.parse_args()
    table = embmap.open(options.table)
    print(f"{table!r}")
    out = np.empty((len(ORDERS) * HASHES, table.dim), np.float32)
    random = np.random.default_rng(1)
    tokens = random.integers(0, 100_000, max(ORDERS)).tolist()
    ids = rows_of(tokens, table.vocab)
    state = np.zeros(table.dim, np.float32)
    times = []
    for _ in range(options.steps):
        start = time.perf_counter()
        table.gather(ids, out=out)
        times.append(time.perf_counter() - start)
        # What a model would do with the rows, and the token that it would choose.
        state = np.tanh(state + out.sum(axis=0))
        tokens.append(int(np.abs(state).argmax() * 1009 + random.integers(0, 1000)))
        ids = rows_of(tokens, table.vocab)
        # Known before they are needed: the reads start now, and take no time of this loop.
        table.prefetch(ids)
    print(f"{options.steps} steps of {len(ids)} rows: {statistics.median(times) * 1e6:.1f} us a gather")
    print(f"state {float(np.linalg.norm(state)):.4f}")


if __name__ == "__main__":
    main()
