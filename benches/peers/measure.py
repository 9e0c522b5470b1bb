"""How it is measured: everybody in turn in every round, and what the system says of the pages."""

from __future__ import annotations

import ctypes
import itertools
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from contenders import Contender
from tables import Ids

# Seconds between two turns: longer than OpenMP's threads, and embmap's, wait without sleeping.
PAUSE = 0.008

# Seconds of calls at the start of a turn that are not counted: a core that slept has to find its
# speed again, and threads their work.
RUN_UP = 0.003

# The rows of a turn at least, and the most batches: a clock tick is little then.
TURN_ROWS = 16_384
TURN_BATCHES = 128

_libc = ctypes.CDLL(None, use_errno=True)
_libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
_DONTNEED = 4
_CACHESTAT = 451


def warm(contenders: list[Contender], ids: Ids, rows: int, rounds: int) -> dict[str, list[float]]:
    """The seconds that a batch took each contender in each round. Ids are new in every call, and
    the first calls of each turn are not counted."""
    batches = max(1, min(TURN_BATCHES, TURN_ROWS // rows))
    times: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    for round in range(rounds + 1):
        # Nobody always comes after the same other one.
        order = contenders[round % len(contenders) :] + contenders[: round % len(contenders)]
        for contender in order if round % 2 else order[::-1]:
            prepared = [contender.prepare(ids.batch(rows)) for _ in range(batches)]
            run_up = [contender.prepare(ids.batch(rows)) for _ in range(batches)]
            contender.begin()
            time.sleep(PAUSE)
            start = time.perf_counter()
            for turn in itertools.count():
                kept = contender.call(run_up[turn % len(run_up)])
                if time.perf_counter() - start > RUN_UP:
                    break
            start = time.perf_counter()
            for form in prepared:
                # As a loop would have it: the last output goes when the next is there.
                kept = contender.call(form)
            taken = (time.perf_counter() - start) / batches
            del kept
            contender.end()
            if round > 0:
                times[contender.name].append(taken)
    return times


def cold(
    contenders: list[tuple[Contender, Path]],
    ids: Ids,
    rows: int,
    rounds: int,
    most_seconds: float,
    drop: Callable[[Path], None] | None = None,
) -> dict[str, dict[str, list[float]]]:
    """Single batches, each after the contender's file was dropped from the page cache: seconds,
    and the bytes that a device read. Who takes longer than `most_seconds` has one turn."""
    drop = drop or drop_all
    found: dict[str, dict[str, list[float]]] = {}
    for round in range(rounds):
        for contender, path in contenders if round % 2 else contenders[::-1]:
            cell = found.setdefault(contender.name, {"seconds": [], "device_bytes": []})
            if cell["seconds"] and max(cell["seconds"]) > most_seconds:
                continue
            form = contender.prepare(ids.batch(rows))
            contender.begin()
            drop(path)
            before = device_bytes()
            start = time.perf_counter()
            kept = contender.call(form)
            cell["seconds"].append(time.perf_counter() - start)
            cell["device_bytes"].append(device_bytes() - before)
            del kept
            contender.end()
    return found


def files_of(path: Path) -> list[Path]:
    return [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]


def drop_all(path: Path) -> None:
    """Takes the files at a path out of this process's page tables and out of the page cache."""
    for file in files_of(path):
        for _ in range(50):
            for line in Path("/proc/self/maps").read_text().splitlines():
                fields = line.split(maxsplit=5)
                if len(fields) == 6 and fields[5] == str(file):
                    start, end = (int(place, 16) for place in fields[0].split("-"))
                    _libc.madvise(start, end - start, _DONTNEED)
            descriptor = os.open(file, os.O_RDONLY)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            left = cached(descriptor)
            os.close(descriptor)
            if left == 0:
                break
            # Pages that are just being read cannot be dropped.
            time.sleep(0.002)
        else:
            raise RuntimeError(f"{file}: {left} pages stay in the page cache")


def keep_some(path: Path, share: float, random: np.random.Generator) -> None:
    """Leaves about that share of a file in the page cache, in pieces at random, and nothing of it
    in this process's page tables."""
    piece = 1 << 16
    drop_all(path)
    descriptor = os.open(path, os.O_RDONLY)
    # Nothing is read ahead of the pieces.
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)
    pieces = os.fstat(descriptor).st_size // piece
    for place in np.flatnonzero(random.random(pieces) < share):
        os.pread(descriptor, piece, int(place) * piece)
    os.close(descriptor)
    found = share_cached(path)
    if abs(found - share) > 0.03:
        raise RuntimeError(f"{path}: {found:.1%} of it are in the page cache, and {share:.1%} should be")


def cached(descriptor: int) -> int:
    """The pages of a file that are in the page cache."""
    whole, found = (ctypes.c_uint64 * 2)(0, 0), (ctypes.c_uint64 * 5)()
    if _libc.syscall(_CACHESTAT, descriptor, whole, found, 0) != 0:
        raise OSError(ctypes.get_errno(), "cachestat")
    return found[0]


def share_cached(path: Path) -> float:
    """How much of the files at a path is in the page cache."""
    pages, size = 0, 0
    for file in files_of(path):
        descriptor = os.open(file, os.O_RDONLY)
        pages += cached(descriptor)
        size += file.stat().st_size
        os.close(descriptor)
    return pages * os.sysconf("SC_PAGE_SIZE") / size


def read_through(path: Path) -> None:
    """Reads files in their order, which brings them in large pages."""
    for file in files_of(path):
        with file.open("rb", buffering=0) as reader:
            buffer = bytearray(1 << 20)
            while reader.readinto(buffer):
                pass


def device_bytes() -> int:
    for line in Path("/proc/self/io").read_text().splitlines():
        if line.startswith("read_bytes:"):
            return int(line.split()[1])
    raise RuntimeError("/proc/self/io has no read_bytes")


def summary(values: list[float]) -> dict[str, float]:
    """The median and the quartiles."""
    low, middle, high = np.percentile(values, [25, 50, 75])
    return {"low": float(low), "median": float(middle), "high": float(high), "rounds": len(values)}
