#!/usr/bin/env python3
"""embmap from Python beside numpy and torch, on the same mapped file.

    python3 python/benchmarks/gather.py [PART...] [--rounds 15] [--rust libembmap_peers.so]

The parts, all unless said:

calls    what a call costs: a row, a slice, one id
warm     batches of rows that are in memory, into memory that is there (out=) and into fresh memory
cold     batches of rows that are not, each from an empty page cache
sharing  what 4 worker processes that read every row hold in memory, all in all

Every contender takes its turn in every round, with ids that are new in every call, after a pause
in which the threads of the one before fall asleep, and first calls that are not counted; what is
told are medians, as tables in Markdown, in which a missed target is bold. `torch` is
index_select(out=) or F.embedding on the file's rows as a tensor, `numpy` take(out=, mode="clip")
or memmap[ids]. Where torch is not installed its columns are left out. --rust adds the library
without Python, through the C calls of benches/peers, whose run.sh builds them:

    benches/peers/run.sh python [PART...]     all of this, with torch, --rust and nothing to install
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
from others import Rust, drop, share

import embmap

try:
    import torch
except ImportError:
    torch = None

# Where the rows of an .emb file start.
ROWS_OFFSET = 65_536

# Seconds between two turns: longer than OpenMP's threads, and embmap's, wait without sleeping.
PAUSE = 0.02

# Seconds of calls at the start of a turn that are not counted: a core that slept has to find its
# speed again, and threads their work. Of fresh outputs two are alive at a time, so that it takes two
# calls until memory is used again.
RUN_UP, RUN_UP_CALLS = 0.003, 2

# How many times as fast as who else ours is to be, from how many rows.
TARGETS = {"out=": [("torch", 64, 1.0)], "fresh": [("torch", 65_536, 3.0), ("numpy", 65_536, 5.0)]}

SIZES = [64, 1024, 4096, 16_384, 65_536, 262_144, 1_048_576]
PARTS = ["calls", "warm", "cold", "sharing"]

Call = Callable[[np.ndarray], object]


class Table:
    """Random rows in a file, and everybody's way to them."""

    def __init__(self, directory: Path, dim: int, table_bytes: int):
        self.dim, self.vocab = dim, table_bytes // (4 * dim)
        self.path = directory / f"{self.vocab}x{dim}.emb"
        if not self.path.exists():
            with embmap.Writer(self.path, dim, "f32", vocab=self.vocab) as writer:
                random = np.random.default_rng(dim)
                for start in range(0, self.vocab, 1 << 14):
                    rows = min(1 << 14, self.vocab - start)
                    writer.write(random.standard_normal((rows, dim), np.float32))
        self.ours = embmap.open(self.path)
        self.mapped = np.memmap(self.path, np.float32, "r", ROWS_OFFSET, (self.vocab, dim))
        some = [0, self.vocab // 2, self.vocab - 1]
        assert np.array_equal(self.mapped[some], self.ours[some])
        self.weight = None
        if torch:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self.weight = torch.from_numpy(np.asarray(self.mapped))

    def warm(self) -> None:
        self.ours.warm()
        self.ours.prefault()
        # In numpy's and torch's page tables too, as in ours.
        assert np.isfinite(self.mapped.sum())

    def reused(self, out: np.ndarray, rust: Rust | None) -> dict[str, Call]:
        calls: dict[str, Call] = {
            "ours": lambda ids: self.ours.gather(ids, out=out),
            "numpy": lambda ids: np.take(self.mapped, ids, axis=0, out=out, mode="clip"),
        }
        if torch:
            target = torch.from_numpy(out)
            calls["torch"] = lambda ids: torch.index_select(self.weight, 0, torch.from_numpy(ids), out=target)
        if rust:
            calls["rust"] = rust.gather(self.path, out)
        return calls

    def fresh(self) -> dict[str, Call]:
        calls: dict[str, Call] = {"ours": lambda ids: self.ours[ids], "numpy": lambda ids: self.mapped[ids]}
        if torch:
            calls["torch"] = lambda ids: torch.nn.functional.embedding(torch.from_numpy(ids), self.weight)
        return calls


def rotate(calls: dict[str, Call], rows: int, vocab: int, rounds: int) -> dict[str, float]:
    """Median seconds of each contender's call."""
    random = np.random.default_rng(rows)
    # Small batches are repeated, each time with other ids, so that a clock tick is little.
    repeats = max(2, min(128, 16_384 // rows))
    times: dict[str, list[float]] = {name: [] for name in calls}
    names = list(calls)
    for round in range(rounds + 1):
        order = names[round % len(names) :] + names[: round % len(names)]
        for name in order if round % 2 else order[::-1]:
            batches = [random.integers(0, vocab, rows) for _ in range(repeats)]
            run_up = [random.integers(0, vocab, rows) for _ in range(repeats)]
            call = calls[name]
            time.sleep(PAUSE)
            start = time.perf_counter()
            turn = 0
            while turn < RUN_UP_CALLS or time.perf_counter() - start < RUN_UP:
                # As a loop would have it: the last output goes when the next is there.
                kept = call(run_up[turn % repeats])
                turn += 1
            start = time.perf_counter()
            for ids in batches:
                kept = call(ids)
            taken = (time.perf_counter() - start) / repeats
            del kept
            if round > 0:
                times[name].append(taken)
    return {name: statistics.median(taken) for name, taken in times.items()}


def told(seconds: float) -> str:
    for unit, scale in [("us", 1e6), ("ms", 1e3)]:
        if seconds * scale < 1000:
            break
    value = seconds * scale
    return f"{value:.0f} {unit}" if value >= 100 else f"{value:.{2 if value < 1 else 1}f} {unit}"


def ratio(cells: dict[str, float], other: str, target: float = 0) -> str:
    """How many times as fast ours is; bold where less than a target."""
    if other not in cells:
        return "-"
    found = cells[other] / cells["ours"]
    return f"{found:.2f}" if found >= target - 0.005 else f"**{found:.2f}**"


def line(*cells: str) -> None:
    print(f"| {' | '.join(cells)} |", flush=True)


def head(*cells: str) -> None:
    line(*cells)
    line(*["---"] * len(cells))


def warm(table: Table, rust: Rust | None, options: argparse.Namespace) -> None:
    table.warm()
    if rust:
        rust.warm(table.path)
    print(f"\nWarm rows of {table.dim} f32, of {table.vocab:,}:\n")
    head("rows", "`gather(out=)`", "torch", "numpy", "Rust", "`t[ids]`", "torch", "numpy")
    for rows in options.sizes:
        size = rows * table.dim * 4
        if size > options.most:
            continue
        turns = max(5, min(options.rounds, (3 << 30) // size))
        out = np.zeros((rows, table.dim), np.float32)
        cells = [f"{rows:,}"]
        for kind, calls in [("out=", table.reused(out, rust)), ("fresh", table.fresh())]:
            found = rotate(calls, rows, table.vocab, turns)
            least = {name: target for name, start, target in TARGETS[kind] if rows >= start}
            others = ["torch", "numpy", "rust"] if kind == "out=" else ["torch", "numpy"]
            cells += [told(found["ours"]), *(ratio(found, other, least.get(other, 0)) for other in others)]
        line(*cells)


def cold(table: Table, rust: Rust | None, options: argparse.Namespace) -> None:
    print(f"\nCold rows of {table.dim} f32, of {table.vocab:,}:\n")
    head("rows", "`gather(out=)`", "torch", "numpy", "Rust")
    random = np.random.default_rng(5)
    for rows in [16, 4096, 65_536]:
        out = np.zeros((rows, table.dim), np.float32)
        calls = table.reused(out, rust)
        # The default mapping reads ahead of every row, and takes minutes for the larger ones.
        if rows > 16:
            calls = {name: call for name, call in calls.items() if name in ("ours", "rust")}
        times: dict[str, list[float]] = {name: [] for name in calls}
        for round in range(max(5, min(options.rounds, 60_000 // rows))):
            order = list(calls) if round % 2 else list(calls)[::-1]
            for name in order:
                ids = random.integers(0, table.vocab, rows)
                drop(table.path)
                start = time.perf_counter()
                calls[name](ids)
                times[name].append(time.perf_counter() - start)
        found = {name: statistics.median(taken) for name, taken in times.items()}
        line(f"{rows:,}", told(found["ours"]), *(ratio(found, other) for other in ["torch", "numpy", "rust"]))


def calls(directory: Path, rounds: int) -> None:
    array = np.random.default_rng(1).standard_normal((1000, 128), np.float32)
    table = embmap.from_numpy(array, directory / "small.emb")
    mapped = np.memmap(directory / "small.emb", np.float32, "r", ROWS_OFFSET, array.shape)
    one, out = np.array([7]), np.zeros((1, 128), np.float32)
    parts: dict[str, dict[str, Callable[[], object]]] = {
        "`t[7]`": {"ours": lambda: table[7], "ndarray": lambda: array[7], "memmap": lambda: mapped[7]},
        "`t[2:9]`": {"ours": lambda: table[2:9], "ndarray": lambda: array[2:9], "memmap": lambda: mapped[2:9]},
        "`t[[7]]`": {"ours": lambda: table[[7]], "ndarray": lambda: array[[7]], "memmap": lambda: mapped[[7]]},
        "`t[ids]`, one id": {"ours": lambda: table[one], "ndarray": lambda: array[one], "memmap": lambda: mapped[one]},
        "`gather(out=)`, one id": {
            "ours": lambda: table.gather(one, out=out),
            "take": lambda: np.take(array, one, axis=0, out=out, mode="clip"),
        },
    }
    if torch:
        weight, id, target = torch.from_numpy(array), torch.tensor([7]), torch.zeros(1, 128)
        parts["`t[tensor]`, one id"] = {
            "ours": lambda: table[id],
            "torch": lambda: torch.nn.functional.embedding(id, weight),
        }
        parts["`gather(tensor, out=)`, one id"] = {
            "ours": lambda: table.gather(id, out=target),
            "torch": lambda: torch.index_select(weight, 0, id, out=target),
        }
        module, theirs = embmap_torch().Embedding(table), torch.nn.Embedding.from_pretrained(weight)
        parts["`Embedding(...)(tensor)`, one id"] = {"ours": lambda: module(id), "torch": lambda: theirs(id)}
    print("\nWhat a call costs:\n")
    head("call", "embmap", "as numpy's or torch's own", "as through a memmap")
    for title, contenders in parts.items():
        times: dict[str, list[float]] = {name: [] for name in contenders}
        for _ in range(rounds):
            for name, call in contenders.items():
                start = time.perf_counter()
                for _ in range(2000):
                    call()
                times[name].append((time.perf_counter() - start) / 2000)
        found = {name: f"{statistics.median(taken) * 1e6:.2f} us" for name, taken in times.items()}
        own = next(found[name] for name in ("ndarray", "take", "torch") if name in found)
        line(title, found["ours"], own, found.get("memmap", "-"))


def embmap_torch():
    import embmap.torch

    return embmap.torch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--dims", default="128,768")
    parser.add_argument("--bytes", type=int, default=1_000_000_000, help="of each table")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)))
    parser.add_argument("--most", type=int, default=1 << 30, help="bytes of an output")
    parser.add_argument("--directory", help="for the tables, which are kept there; a temporary one unless said")
    parser.add_argument("--rust", help="libembmap_peers.so, for the library without Python")
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"no part is called {', '.join(unknown)}; there are {', '.join(PARTS)}")
    options.parts = options.parts or PARTS
    options.sizes = [int(size) for size in options.sizes.split(",")]
    rust = Rust(options.rust) if options.rust else None
    gc.disable()
    torch_version = f"torch {torch.__version__}, {torch.get_num_threads()} threads" if torch else "no torch"
    print(f"embmap {embmap.__version__}, numpy {np.__version__}, {torch_version}")
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(options.directory or temporary)
        if "calls" in options.parts:
            calls(Path(temporary), options.rounds)
        for dim in options.dims.split(","):
            table = Table(directory, int(dim), options.bytes)
            if "warm" in options.parts:
                warm(table, rust, options)
            if "cold" in options.parts:
                cold(table, rust, options)
        if "sharing" in options.parts:
            share(table.path, 4)


if __name__ == "__main__":
    main()
