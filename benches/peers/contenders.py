"""Who gathers: each takes ids in the form that suits it, and one call is one batch."""

from __future__ import annotations

import ctypes
import functools
import mmap
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from native import check, handle, native, pointer
from tables import Table


@dataclass
class Contender:
    name: str
    # One batch: the ids in the contender's form; what it gives is kept until the next is there.
    call: Callable[[Any], Any]
    # The ids in that form, which is not timed.
    prepare: Callable[[np.ndarray], Any] = lambda ids: ids
    # The rows of a call, for the check: those of a shared output unless said.
    rows: Callable[[Any], np.ndarray] | None = None
    # What is done before its turn.
    begin: Callable[[], None] = lambda: None
    # What is done after its turn.
    end: Callable[[], None] = lambda: None


def pointed(ids: np.ndarray) -> tuple[int, int, np.ndarray]:
    """Ids for the Rust side; the array lives on."""
    return pointer(ids), len(ids), ids


def at(place: int, rows: int, dim: int) -> np.ndarray:
    """Rows that lie on the Rust side."""
    start = ctypes.cast(place, ctypes.POINTER(ctypes.c_float))
    return np.ctypeslib.as_array(start, (rows, dim))


class Ours:
    """embmap on a file, through one C call a batch."""

    def __init__(self, table: Table, access: int = 0, suffix: str = ".emb"):
        self.handle = handle(native().ours_open(bytes(table.file(suffix)), access))
        self.dim = table.dim

    def warm(self) -> None:
        check(native().ours_warm(self.handle))

    def into(self, name: str, out: np.ndarray, threads: int) -> Contender:
        gather, place, size = native().ours_gather, pointer(out), out.size

        def call(ids):
            check(gather(self.handle, ids[0], ids[1], place, size, threads))

        return Contender(name, call, pointed)

    def fresh(self, name: str, recycled: bool = False) -> Contender:
        gather = native().ours_recycled if recycled else native().ours_fresh
        return Contender(
            name,
            lambda ids: (handle(gather(self.handle, ids[0], ids[1])), ids[1]),
            pointed,
            lambda rows: at(*rows, self.dim),
            end=lambda: native().ours_drop_fresh(self.handle),
        )

    def bag(self, name: str, out: np.ndarray, offsets: np.ndarray, threads: int) -> Contender:
        bag, place, size = native().ours_bag, pointer(out), out.size

        def call(ids):
            check(bag(self.handle, ids[0], ids[1], pointer(offsets), len(offsets), place, size, threads))

        return Contender(name, call, pointed)


@functools.lru_cache(1)
def rows_in_memory(path: Path) -> Any:
    """A copy of a table's rows. It is freed when another one is asked for."""

    class Rows:
        _as_parameter_ = handle(native().limit_open(bytes(path)))

        def __del__(self):
            native().limit_close(self)

    return Rows()


def limit(table: Table, out: np.ndarray) -> list[Contender]:
    """Copies from memory in large pages, by each loop, on one thread and on two."""
    of_memory = rows_in_memory(table.file(".emb"))
    gather, place, size = native().limit_gather, pointer(out), out.nbytes

    def contender(threads: int, way: int) -> Contender:
        def call(ids):
            check(gather(of_memory, ids[0], ids[1], place, size, threads, way))

        return Contender(f"limit {threads}t #{way}", call, pointed)

    return [contender(threads, way) for threads in (1, 2) for way in range(native().limit_loops())]


def tensor(rows: np.ndarray, dtype: str) -> torch.Tensor:
    """A mapped array as a tensor, without a copy."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        weight = torch.from_numpy(np.asarray(rows))
    return weight.view(torch.bfloat16) if dtype == "bf16" else weight


def numpy_take(rows: np.ndarray, out: np.ndarray) -> Contender:
    return Contender("numpy take", lambda ids: np.take(rows, ids, axis=0, out=out, mode="clip"))


def numpy_converted(rows: np.ndarray, out: np.ndarray) -> Contender:
    """Two steps: numpy has no gather that converts."""

    def call(ids):
        out[...] = rows[ids]

    return Contender("numpy two steps", call)


def numpy_fancy(rows: np.ndarray) -> Contender:
    return Contender("numpy [ids]", lambda ids: rows[ids], rows=lambda rows: rows)


def torch_select(weight: torch.Tensor, out: np.ndarray, threads: int) -> Contender:
    target = torch.from_numpy(out)
    return Contender(
        f"torch {threads}t",
        lambda ids: torch.index_select(weight, 0, ids, out=target),
        torch.from_numpy,
        begin=lambda: torch.set_num_threads(threads),
    )


def torch_converted(weight: torch.Tensor, out: np.ndarray, threads: int) -> Contender:
    """Two steps, both into memory that is used again."""
    target = torch.from_numpy(out)
    between = torch.empty(out.shape, dtype=weight.dtype)

    def call(ids):
        torch.index_select(weight, 0, ids, out=between)
        target.copy_(between)

    return Contender(f"torch {threads}t", call, torch.from_numpy, begin=lambda: torch.set_num_threads(threads))


def torch_embedding(weight: torch.Tensor, threads: int) -> Contender:
    return Contender(
        f"F.embedding {threads}t",
        lambda ids: torch.nn.functional.embedding(ids, weight),
        torch.from_numpy,
        rows=lambda rows: rows.numpy(),
        begin=lambda: torch.set_num_threads(threads),
    )


def torch_bag(weight: torch.Tensor, offsets: np.ndarray, threads: int) -> Contender:
    starts = torch.from_numpy(offsets)

    def call(ids):
        return torch.nn.functional.embedding_bag(ids, weight, starts, mode="sum", include_last_offset=True)

    return Contender(
        f"F.embedding_bag {threads}t",
        call,
        torch.from_numpy,
        rows=lambda rows: rows.numpy(),
        begin=lambda: torch.set_num_threads(threads),
    )


def safetensors_slice(table: Table) -> Contender:
    from safetensors import safe_open

    file = safe_open(str(table.file(".safetensors")), "pt")
    weight = file.get_slice("wte.weight")
    # The file lives as long as the slice.
    return Contender("safetensors", lambda ids, _file=file: weight[ids], torch.from_numpy, lambda rows: rows.numpy())


def finalfusion_view(table: Table, out: np.ndarray) -> Contender:
    mapped = handle(native().finalfusion_open(bytes(table.file(".fifu"))))
    gather, place, size = native().finalfusion_gather, pointer(out), out.size
    return Contender("finalfusion", lambda ids: check(gather(mapped, ids[0], ids[1], place, size)), pointed)


def finalfusion_select(table: Table) -> Contender:
    mapped = handle(native().finalfusion_open(bytes(table.file(".fifu"))))
    select = native().finalfusion_fresh
    return Contender(
        "finalfusion",
        lambda ids: (handle(select(mapped, ids[0], ids[1])), ids[1]),
        pointed,
        lambda rows: at(*rows, table.dim),
    )


@functools.cache
def lmdb_opened(path: Path) -> int:
    """It may be opened once."""
    return handle(native().lmdb_open(bytes(path)))


def lmdb_get(table: Table, out: np.ndarray) -> Contender:
    opened = lmdb_opened(table.file(".lmdb"))
    gather, place, size = native().lmdb_gather, pointer(out), out.nbytes
    return Contender("LMDB", lambda ids: check(gather(opened, ids[0], ids[1], place, size)), pointed)


def lance_take(table: Table) -> Contender:
    import lance

    dataset = lance.dataset(str(table.file(".lance")))

    def rows(taken) -> np.ndarray:
        return taken.column(0).combine_chunks().flatten().to_numpy().reshape(-1, table.dim)

    return Contender("Lance take", lambda ids: dataset.take(ids), lambda ids: ids.tolist(), rows)


def random_advice(rows: np.memmap) -> np.memmap:
    """The same mapping, of which the system is told that it is read in no order."""
    rows._mmap.madvise(mmap.MADV_RANDOM)
    return rows


# The rows that are compared at a time: a copy of a large output would not fit.
COMPARED = 1 << 16


def compare(
    contenders: list[Contender],
    ids: np.ndarray,
    expected: Callable[[np.ndarray], np.ndarray],
    out: np.ndarray,
    outputs: np.ndarray | None = None,
) -> None:
    """Nobody is timed whose rows are wrong. `expected` gives the rows of some ids, or of some of
    the `outputs` where a row of the output is not one of the table."""
    places = ids if outputs is None else outputs
    for contender in contenders:
        out.view(np.uint8)[...] = 0xAA
        contender.begin()
        given = (contender.rows or (lambda _: out))(contender.call(contender.prepare(ids)))
        for start in range(0, len(places), COMPARED):
            end = start + COMPARED
            if not np.array_equal(given[start:end], expected(places[start:end])):
                raise RuntimeError(f"{contender.name}: wrong rows")
        if len(given) != len(places):
            raise RuntimeError(f"{contender.name}: {len(given)} rows for {len(places)}")
        contender.end()


def renamed(contender: Contender, name: str) -> Contender:
    contender.name = name
    return contender
