#!/usr/bin/env python3
"""Measures embmap beside other systems on the same rows, part by part, and writes what was found.

    compare.py PART...        one part after the other, or `all`
    compare.py report         docs/benchmarks.md's tables and plots from what was found

Run it through run.sh, which installs what it needs.
"""

from __future__ import annotations

import argparse
import gc
import importlib.metadata
import json
import os
import platform
import time
from pathlib import Path

import numpy as np
import torch

import contenders as of
import measure
from tables import Ids, Table

ROOT = Path(__file__).resolve().parents[2]
ROW_BYTES = [128, 512, 3072, 8192]
BATCHES = [64, 512, 4096, 65_536, 1 << 20]

# What a part takes at most of memory for an output.
MOST_OUTPUT = 4 << 30


class Run:
    def __init__(self, options: argparse.Namespace):
        self.options = options
        self.data = Path(options.directory or ROOT / "target" / "peers" / "data").resolve()
        self.data.mkdir(parents=True, exist_ok=True)
        self.results = ROOT / "target" / "peers" / "results"
        self.results.mkdir(parents=True, exist_ok=True)
        self.lines: list[dict] = []

    def table(self, dtype: str, row_bytes: int, table_bytes: int | None = None) -> Table:
        table = Table(self.data, dtype, row_bytes, table_bytes or self.options.bytes)
        table.make()
        return table

    def rounds(self, rows: int, row_bytes: int) -> int:
        """Fewer of what takes long."""
        return max(3, min(self.options.rounds, (3 << 30) // (rows * row_bytes)))

    def tell(self, cell: dict, times: dict[str, list[float]]) -> None:
        for who, taken in times.items():
            self.lines.append({**cell, "who": who, **measure.summary(taken)})
        shown = "  ".join(f"{who} {np.median(taken) * 1e6:.1f}" for who, taken in best_loops(times).items())
        print(f"{cell}: us: {shown}", flush=True)

    def finish(self, part: str) -> None:
        header = {"machine": machine(), "versions": versions(), "time": time.strftime("%Y-%m-%d")}
        path = self.results / f"{part}.json"
        path.write_text(json.dumps({**header, "part": part, "cells": self.lines}, indent=1))
        self.lines = []


def best_loops(times: dict[str, list[float]]) -> dict[str, list[float]]:
    """The limit is what the best of its loops does."""
    best: dict[str, list[float]] = {}
    for who, taken in times.items():
        who = who.split(" #")[0]
        if who not in best or np.median(taken) < np.median(best[who]):
            best[who] = taken
    return best


def machine() -> dict[str, str]:
    cpu = next(line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name"))
    memory = int(Path("/proc/meminfo").read_text().split()[1]) >> 20
    return {
        "cpu": f"{len(os.sched_getaffinity(0))} cores, {cpu.split(':')[1].strip()}",
        "memory": f"{memory} GiB",
        "kernel": platform.release().split("-")[0],
    }


def versions() -> dict[str, str]:
    names = ["numpy", "torch", "safetensors", "pylance"]
    return {"Python": platform.python_version()} | {name: importlib.metadata.version(name) for name in names}


def ready(table: Table, ours: of.Ours) -> np.memmap:
    """The rows in the page cache, in large pages, and in everybody's page tables."""
    measure.drop_all(table.file(".emb"))
    ours.warm()
    mapped = table.mapped()
    mapped.view(np.uint8).reshape(-1)[:: 1 << 12].sum()
    return mapped


def still_warm(table: Table) -> None:
    share = measure.share_cached(table.file(".emb"))
    if share < 0.99:
        raise RuntimeError(f"{share:.1%} of the table are still in memory: these figures are not of warm rows")


def warm(run: Run, dtype: str, row_bytes: int, kinds: list[str], batches: list[int]) -> None:
    """Rows of one size as f32, into an output that is used again."""
    table = run.table(dtype, row_bytes)
    if row_bytes != 3072 or dtype != "f32":
        table.drop_safetensors()
    ours = of.Ours(table)
    mapped = ready(table, ours)
    weight = of.tensor(mapped, dtype)
    for kind in kinds:
        ids = Ids(kind, table.vocab, seed=len(kind))
        for rows in batches:
            if rows * table.dim * 4 > MOST_OUTPUT:
                continue
            out = np.zeros((rows, table.dim), np.float32)
            contenders = [ours.into(f"embmap {threads}t", out, threads) for threads in (1, 2)]
            if dtype == "f32":
                contenders += [of.numpy_take(mapped, out)]
                contenders += [of.torch_select(weight, out, threads) for threads in (1, 2)]
                contenders += of.limit(table, out)
            else:
                if dtype == "f16":
                    contenders += [of.numpy_converted(mapped, out)]
                contenders += [of.torch_converted(weight, out, threads) for threads in (1, 2)]
            few = ids.batch(rows)
            of.compare(contenders, few, lambda ids: weight[torch.from_numpy(ids)].to(torch.float32).numpy(), out)
            times = measure.warm(contenders, ids, rows, run.rounds(rows, table.dim * 4))
            cell = {"dtype": dtype, "row_bytes": row_bytes, "ids": kind, "rows": rows}
            run.tell(cell, times)
            del out, contenders
    still_warm(table)


def fresh(run: Run) -> None:
    """The same into outputs that are new each time; and the systems that offer nothing else."""
    table = run.table("f32", 3072)
    table.make_others()
    ours = of.Ours(table)
    mapped = ready(table, ours)
    weight = of.tensor(mapped, "f32")
    others = [table.file(suffix) for suffix in (".safetensors", ".fifu", ".lmdb", ".lance")]
    for path in others:
        measure.drop_all(path)
        measure.read_through(path)
    ids = Ids("uniform", table.vocab, seed=5)
    for rows in (64, 4096, 65_536):
        out = np.zeros((rows, table.dim), np.float32)
        contenders = [
            ours.into("embmap, reused", out, 2),
            ours.fresh("embmap, fresh"),
            ours.fresh("embmap, recycled", recycled=True),
            of.torch_embedding(weight, 2),
            of.numpy_fancy(mapped),
            of.finalfusion_select(table),
            of.renamed(of.finalfusion_view(table, out), "finalfusion, view"),
            of.lmdb_get(table, out),
        ]
        if rows < 65_536:
            contenders += [of.safetensors_slice(table), of.lance_take(table)]
        few = ids.batch(rows)
        of.compare(contenders, few, lambda ids: mapped[ids], out)
        run.tell({"rows": rows}, measure.warm(contenders, ids, rows, run.rounds(rows, table.row_bytes)))
    still_warm(table)


def bags(run: Run) -> None:
    """Sums of bags of 32 rows, 65,536 ids and 4,096 ids a call."""
    for row_bytes in (512, 3072):
        table = run.table("f32", row_bytes)
        ours = of.Ours(table)
        mapped = ready(table, ours)
        weight = of.tensor(mapped, "f32")
        ids = Ids("uniform", table.vocab, seed=7)
        for rows in (4096, 65_536):
            offsets = np.arange(0, rows + 1, 32)
            out = np.zeros((rows // 32, table.dim), np.float32)
            contenders = [ours.bag(f"embmap {threads}t", out, offsets, threads) for threads in (1, 2)]
            contenders += [of.torch_bag(weight, offsets, threads) for threads in (1, 2)]
            few = ids.batch(rows)
            expected = np.zeros_like(out)
            # In the order of the ids, as both promise.
            for step in range(32):
                expected += mapped[few[step::32]]
            of.compare(contenders[:2], few, expected.__getitem__, out, np.arange(len(expected)))
            close = contenders[2].call(contenders[2].prepare(few)).numpy()
            if not np.allclose(close, expected, rtol=1e-4, atol=1e-4):
                raise RuntimeError("F.embedding_bag: wrong sums")
            cell = {"row_bytes": row_bytes, "rows": rows}
            run.tell(cell, measure.warm(contenders, ids, rows, run.options.rounds))
        still_warm(table)


def cold(run: Run) -> None:
    """Rows that have to be read from the device."""
    table = run.table("f32", 3072, run.options.cold_bytes)
    table.make_others()
    mapped, random = table.mapped(), of.random_advice(table.mapped())
    weight = of.tensor(mapped, "f32")
    planned, direct = of.Ours(table), of.Ours(table, access=2)
    ids = Ids("uniform", table.vocab, seed=11)
    for rows in (16, 4096, 65_536):
        out = np.zeros((rows, table.dim), np.float32)
        emb = table.file(".emb")
        entrants = [
            (planned.into("embmap", out, 2), emb),
            (direct.into("embmap, direct", out, 2), emb),
            (of.numpy_take(mapped, out), emb),
            (of.renamed(of.numpy_take(random, out), "numpy take, MADV_RANDOM"), emb),
            (of.torch_select(weight, out, 2), emb),
            (of.safetensors_slice(table), table.file(".safetensors")),
            (of.finalfusion_view(table, out), table.file(".fifu")),
            (of.lmdb_get(table, out), table.file(".lmdb")),
            (of.lance_take(table), table.file(".lance")),
        ]
        few = ids.batch(rows)
        # Read in order first: who reads by faults would take minutes.
        for path in {path for _, path in entrants}:
            measure.read_through(path)
        of.compare([contender for contender, _ in entrants], few, lambda ids: mapped[ids], out)
        found = measure.cold(entrants, ids, rows, run.options.cold_rounds, most_seconds=4)
        for who, cell in found.items():
            device = float(np.median(cell["device_bytes"]))
            line = {"rows": rows, "who": who, "device_bytes": device, **measure.summary(cell["seconds"])}
            run.lines.append(line)
            seconds = line["median"]
            amplification = device / (rows * table.row_bytes)
            print(f"{rows} cold, {who}: {seconds * 1e3:.2f} ms, {rows / seconds:.0f} rows/s, {amplification:.1f} x", flush=True)


def partly(run: Run) -> None:
    """Rows of which some are in memory and some are not, as of a table larger than it."""
    table = run.table("f32", 3072, run.options.cold_bytes)
    table.drop_safetensors()
    mapped, random = table.mapped(), of.random_advice(table.mapped())
    planned, direct = of.Ours(table), of.Ours(table, access=2)
    path = table.file(".emb")
    ids = Ids("uniform", table.vocab, seed=13)
    for rows in (16, 4096, 65_536):
        out = np.zeros((rows, table.dim), np.float32)
        entrants = [
            planned.into("embmap", out, 2),
            direct.into("embmap, direct", out, 2),
            of.numpy_take(mapped, out),
            of.renamed(of.numpy_take(random, out), "numpy take, MADV_RANDOM"),
        ]
        measure.read_through(path)
        of.compare(entrants, ids.batch(rows), lambda ids: mapped[ids], out)
        pieces = np.random.default_rng(17)
        found = measure.cold(
            [(entrant, path) for entrant in entrants],
            ids,
            rows,
            run.options.cold_rounds,
            most_seconds=4,
            drop=lambda path: measure.keep_some(path, run.options.kept, pieces),
        )
        for who, cell in found.items():
            device = float(np.median(cell["device_bytes"]))
            line = {"rows": rows, "who": who, "device_bytes": device, "kept": run.options.kept}
            run.lines.append({**line, **measure.summary(cell["seconds"])})
            print(f"{rows} partly cold, {who}: {np.median(cell['seconds']) * 1e3:.2f} ms", flush=True)


PARTS = {}
for _row_bytes in ROW_BYTES:
    PARTS[f"f32-{_row_bytes}"] = lambda run, size=_row_bytes: warm(run, "f32", size, ["uniform"], BATCHES)
for _row_bytes in ROW_BYTES:
    PARTS[f"f16-{_row_bytes}"] = lambda run, size=_row_bytes: warm(run, "f16", size, ["uniform"], BATCHES)
PARTS["bf16"] = lambda run: [warm(run, "bf16", size, ["uniform"], BATCHES) for size in ROW_BYTES]
PARTS["zipf"] = lambda run: [warm(run, "f32", size, ["zipf:1.1"], BATCHES) for size in ROW_BYTES]
PARTS["zipf-f16"] = lambda run: [warm(run, "f16", size, ["zipf:1.1"], BATCHES) for size in ROW_BYTES]
PARTS |= {"fresh": fresh, "bags": bags, "cold": cold, "partly": partly}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="+", choices=[*PARTS, "all", "report", "data"], metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--bytes", type=int, default=1_000_000_000, help="of each warm table")
    parser.add_argument("--cold-bytes", type=int, default=1_500_000_000, help="of the cold table")
    parser.add_argument("--kept", type=float, default=0.73, help="the share in memory of the table of `partly`")
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--cold-rounds", type=int, default=5)
    parser.add_argument("--directory", help="for the tables [default: target/peers/data]")
    options = parser.parse_args()
    gc.disable()
    run = Run(options)
    for part in PARTS if "all" in options.parts else options.parts:
        if part == "report":
            import report

            report.write(ROOT, run.results)
        elif part == "data":
            for dtype in ("f32", "f16", "bf16"):
                for row_bytes in ROW_BYTES:
                    run.table(dtype, row_bytes)
            run.table("f32", 3072).make_others()
        else:
            PARTS[part](run)
            run.finish(part)


if __name__ == "__main__":
    main()
