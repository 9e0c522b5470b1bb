"""What gather.py needs besides: the library without Python, an empty page cache, shares of memory."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import embmap

_libc = ctypes.CDLL(None, use_errno=True)
_libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
_DONTNEED = 4


class Rust:
    """The library through the C calls that benches/peers builds."""

    def __init__(self, path: str):
        self.library = ctypes.CDLL(str(Path(path).resolve()))
        pointer, size = ctypes.c_void_p, ctypes.c_size_t
        self.library.ours_open.restype = pointer
        self.library.ours_open.argtypes = [ctypes.c_char_p, ctypes.c_int]
        self.library.ours_warm.argtypes = [pointer]
        self.library.ours_gather.argtypes = [pointer, pointer, size, pointer, size, size]
        self.tables: dict[Path, int] = {}
        self.threads = len(os.sched_getaffinity(0))

    def open(self, path: Path) -> int:
        if path not in self.tables:
            # 0: mapped.
            self.tables[path] = self.library.ours_open(bytes(path), 0)
            assert self.tables[path], "see standard error"
        return self.tables[path]

    def warm(self, path: Path) -> None:
        assert self.library.ours_warm(self.open(path)) == 0, "see standard error"

    def gather(self, path: Path, out: np.ndarray) -> Callable[[np.ndarray], object]:
        table, place, size = self.open(path), out.ctypes.data, out.size

        def call(ids: np.ndarray) -> None:
            start = ids.__array_interface__["data"][0]
            if self.library.ours_gather(table, start, len(ids), place, size, self.threads) != 0:
                raise RuntimeError("see standard error")

        return call


def drop(path: Path) -> None:
    """Takes a file out of this process's page tables and out of the page cache."""
    for _ in range(100):
        for line in Path("/proc/self/maps").read_text().splitlines():
            fields = line.split(maxsplit=5)
            if len(fields) == 6 and fields[5] == str(path.resolve()):
                start, end = (int(place, 16) for place in fields[0].split("-"))
                _libc.madvise(start, end - start, _DONTNEED)
        descriptor = os.open(path, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)
        with embmap.open(path, access="read") as table:
            left = table.residency().cached_bytes
        if not left:
            return
        # Pages that are just being read cannot be dropped.
        time.sleep(0.005)
    raise RuntimeError(f"{path}: {left} bytes stay in the page cache")


def share(path: Path, workers: int) -> None:
    """What worker processes that have read every row hold of it, each and all in all."""
    table = embmap.open(path)
    table.warm()
    size = table.residency().total_bytes
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager:
        barrier = manager.Barrier(workers)
        with context.Pool(workers) as pool:
            held = pool.starmap(_held, [(table, barrier)] * workers, chunksize=1)
    print(f"\n{workers} workers, each of which has gathered every row of {size / 1e6:.0f} MB, in MB:\n")
    print("| | in all | each |\n| --- | --- | --- |")
    for name, of in [("resident", 0), ("proportional share", 1), ("private", 2)]:
        each = [worker[of] / 1e6 for worker in held]
        print(f"| {name} | {sum(each):.0f} | {', '.join(f'{megabytes:.0f}' for megabytes in each)} |")


def _held(table: embmap.Table, barrier: Any) -> tuple[int, int, int]:
    """The bytes of the table's map that this process has: resident, its share, its own."""
    for start in range(0, table.vocab, 1 << 16):
        table[np.arange(start, min(start + (1 << 16), table.vocab))]
    barrier.wait(120)
    found = {"Rss": 0, "Pss": 0, "Private_Clean": 0, "Private_Dirty": 0}
    here = False
    with open("/proc/self/smaps") as smaps:
        for line in smaps:
            name, _, rest = line.partition(":")
            if name in found and here:
                found[name] += int(rest.split()[0]) << 10
            elif "-" in line.split(" ")[0]:
                here = str(table.path.resolve()) in line
    barrier.wait(120)
    return found["Rss"], found["Pss"], found["Private_Clean"] + found["Private_Dirty"]
