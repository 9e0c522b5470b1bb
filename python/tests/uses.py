"""What a type checker has to understand of embmap: checked by it, and not run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, assert_type

import numpy as np
import numpy.typing as npt

import embmap
import embmap.torch


def rows(table: embmap.Table) -> Iterator[npt.NDArray[Any]]:
    assert_type(table[5], npt.NDArray[Any])
    assert_type(table[np.int64(5)], npt.NDArray[Any])
    assert_type(table[2:9], npt.NDArray[Any])
    assert_type(table[[3, 4]], npt.NDArray[Any])
    assert_type(table[table.encode("the cat")], npt.NDArray[Any])
    assert_type(table[np.arange(6).reshape(2, 3)], npt.NDArray[Any])
    assert_type(table.shape, tuple[int, int])
    assert_type(np.asarray(table), npt.NDArray[Any])
    assert_type(list(table), list[npt.NDArray[Any]])
    yield from table


def batches(table: embmap.Table) -> None:
    table.gather([3, 4], out=np.empty((2, 8), np.float32), threads=2)
    table.gather(np.array([3, 4], np.uint8), dtype=np.float16, from_end=False)
    table.bag([3, 4], [0, 2], "sum", [0.5, 1.0])
    table.prefetch(range(5))
    assert_type(table.nearest(["king", "queen"], k=3).ids, npt.NDArray[np.int64])
    assert_type(table.nearest(table[5], metric="dot").scores, npt.NDArray[np.float32])
    assert_type(table.residency().mapped_bytes, int | None)
    assert_type(table.embed(["the cat", "a dog"]), npt.NDArray[np.float32])
    assert_type(table.token(5), str | None)
    assert_type(table.id_of("cat"), int | None)


def files() -> None:
    with embmap.open("table.emb", access="read", threads=1) as table:
        assert_type(table, embmap.Table)
    with embmap.Writer("written.emb", dim=3, dtype=np.float16, metadata={"of": ["what", 1]}) as writer:
        writer.write(np.zeros((2, 3)), tokens=["a", None])
    assert_type(embmap.from_numpy(np.zeros((2, 3)), "written.emb", replace=True), embmap.Table)
    loss = embmap.convert("model", "small.emb", dtype="i8").loss
    assert_type(loss, embmap.Loss | None)
    embmap.torch.EmbeddingBag("model", mode="sum", access="direct").to_nn()
