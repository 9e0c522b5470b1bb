#!/usr/bin/env python3
"""Gathers from Python beside numpy and torch, on the same mapped file.

    python3 python/benchmarks/gather.py [--dims 128,768] [--bytes 1000000000] [--rounds 15]

Every contender takes its turn in every round, with ids that are new in every call, after a
pause in which the threads of the one before fall asleep, and a first call that is not counted;
what is told are medians. `ours` is embmap, `torch` index_select(out=) or F.embedding on the
file's rows as a tensor, `numpy` take(out=, mode="clip") or memmap[ids]. Rows are warm. Where
torch is not installed, its columns are left out.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np

import embmap

try:
    import torch
except ImportError:
    torch = None

# Where the rows of an .emb file start.
ROWS_OFFSET = 65_536

# Seconds between two turns: longer than OpenMP's threads, and embmap's, wait without sleeping.
PAUSE = 0.02

SIZES = [64, 1024, 4096, 16_384, 65_536, 262_144, 1_048_576]


def rotate(
    contenders: dict[str, Callable[[np.ndarray], object]], rows: int, vocab: int, rounds: int
) -> dict[str, float]:
    """Median seconds of each contender's call."""
    random = np.random.default_rng(rows)
    # Small batches are repeated, each time with other ids, so that a clock tick is little.
    repeats = max(2, 32_768 // rows)
    times: dict[str, list[float]] = {name: [] for name in contenders}
    names = list(contenders)
    for round in range(rounds + 1):
        for name in names[round % len(names) :] + names[: round % len(names)]:
            batches = [random.integers(0, vocab, rows) for _ in range(repeats)]
            call = contenders[name]
            # The threads of the one before stop waiting for work, and this one's begin to.
            time.sleep(PAUSE)
            kept = call(random.integers(0, vocab, rows))
            start = time.perf_counter()
            for ids in batches:
                # As a loop would have it: the last output goes when the next is there.
                kept = call(ids)
            taken = (time.perf_counter() - start) / repeats
            del kept
            if round > 0:
                times[name].append(taken)
    return {name: statistics.median(taken) for name, taken in times.items()}


def tell(title: str, unit: str, scale: float, cells: dict[str, float]) -> None:
    ours = cells["ours"]
    others = {name: value for name, value in cells.items() if name != "ours"}
    words = [f"{title:24}  ours {ours * scale:9.3f} {unit}"]
    words += [f"{name} {value * scale:9.3f} ({value / ours:4.2f} x)" for name, value in others.items()]
    print("  ".join(words), flush=True)


def gathers(directory: Path, dim: int, table_bytes: int, rounds: int, sizes: list[int], most: int) -> None:
    vocab = table_bytes // (4 * dim)
    path = directory / f"{dim}.emb"
    with embmap.Writer(path, dim, "f32", vocab=vocab) as writer:
        random = np.random.default_rng(dim)
        for start in range(0, vocab, 1 << 14):
            writer.write(random.standard_normal((min(1 << 14, vocab - start), dim), np.float32))
    table = embmap.open(path)
    table.warm()
    table.prefault()
    mapped = np.memmap(path, np.float32, "r", ROWS_OFFSET, (vocab, dim))
    assert np.array_equal(mapped[[0, vocab - 1]], table[[0, vocab - 1]])
    # In the page tables too, as ours is.
    assert np.isfinite(mapped.sum())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        weight = torch and torch.from_numpy(np.asarray(mapped))
    print(f"# f32, {vocab:,} rows of {dim}, {vocab * dim * 4 / 1e9:.2f} GB")
    for rows in sizes:
        if rows * dim * 4 > most:
            continue
        out = np.zeros((rows, dim), np.float32)
        reused: dict[str, Callable[[np.ndarray], object]] = {
            "ours": lambda ids: table.gather(ids, out=out),
            "numpy": lambda ids: np.take(mapped, ids, axis=0, out=out, mode="clip"),
        }
        fresh: dict[str, Callable[[np.ndarray], object]] = {
            "ours": lambda ids: table[ids],
            "numpy": lambda ids: mapped[ids],
        }
        if torch:
            out_tensor = torch.from_numpy(out)
            reused["torch"] = lambda ids: torch.index_select(weight, 0, torch.from_numpy(ids), out=out_tensor)
            fresh["torch"] = lambda ids: torch.nn.functional.embedding(torch.from_numpy(ids), weight)
        turns = max(5, min(rounds, (2 << 30) // (rows * dim * 4)))
        tell(f"{rows:>9,} rows, out=", "ms", 1e3, rotate(reused, rows, vocab, turns))
        del out
        tell(f"{rows:>9,} rows, fresh", "ms", 1e3, rotate(fresh, rows, vocab, turns))


def overhead(directory: Path, rounds: int) -> None:
    array = np.zeros((1000, 128), np.float32)
    table = embmap.from_numpy(array, directory / "small.emb")
    mapped = np.memmap(directory / "small.emb", np.float32, "r", ROWS_OFFSET, array.shape)
    one, out = np.array([7]), np.zeros((1, 128), np.float32)
    calls: dict[str, dict[str, Callable[[], object]]] = {
        "t[7]": {"ours": lambda: table[7], "ndarray": lambda: array[7], "memmap": lambda: mapped[7]},
        "t[2:9]": {"ours": lambda: table[2:9], "ndarray": lambda: array[2:9], "memmap": lambda: mapped[2:9]},
        "t[ids], one id": {"ours": lambda: table[one], "ndarray": lambda: array[one], "memmap": lambda: mapped[one]},
        "gather(out=), one id": {
            "ours": lambda: table.gather(one, out=out),
            "take": lambda: np.take(array, one, axis=0, out=out, mode="clip"),
        },
    }
    print("# what a call costs")
    for title, contenders in calls.items():
        times: dict[str, list[float]] = {name: [] for name in contenders}
        for _ in range(rounds):
            for name, call in contenders.items():
                start = time.perf_counter()
                for _ in range(2000):
                    call()
                times[name].append((time.perf_counter() - start) / 2000)
        tell(title, "us", 1e6, {name: statistics.median(taken) for name, taken in times.items()})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dims", default="128,768")
    parser.add_argument("--bytes", type=int, default=1_000_000_000, help="of each table")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)))
    parser.add_argument("--most", type=int, default=1 << 30, help="bytes of an output")
    parser.add_argument("--directory", help="for the tables; a temporary one unless said")
    options = parser.parse_args()
    sizes = [int(size) for size in options.sizes.split(",")]
    gc.disable()
    torch_version = f"torch {torch.__version__}, {torch.get_num_threads()} threads" if torch else "no torch"
    print(f"# embmap {embmap.__version__}, numpy {np.__version__}, {torch_version}")
    with tempfile.TemporaryDirectory(dir=options.directory) as directory:
        overhead(Path(directory), options.rounds)
        for dim in options.dims.split(","):
            gathers(Path(directory), int(dim), options.bytes, options.rounds, sizes, options.most)


if __name__ == "__main__":
    main()
