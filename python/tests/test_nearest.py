"""t.nearest against a search by numpy."""

from __future__ import annotations

import numpy as np
import pytest

import embmap


def naive(rows: np.ndarray, query: np.ndarray, k: int, metric: str, without: list[int]) -> list[int]:
    scores = rows.astype(np.float64) @ query
    if metric == "cosine":
        scores = scores / np.linalg.norm(rows.astype(np.float64), axis=1)
    scores[without] = -np.inf
    return np.argsort(-scores, kind="stable")[:k].tolist()


@pytest.mark.parametrize("metric", ["cosine", "dot"])
def test_vectors_find_what_numpy_finds(table: embmap.Table, vectors: np.ndarray, metric: str) -> None:
    queries = np.random.default_rng(3).standard_normal((5, 24))
    found = table.nearest(queries, 7, metric=metric)
    assert found.ids.shape == found.scores.shape == (5, 7)
    assert (found.ids.dtype, found.scores.dtype) == (np.int64, np.float32)
    for query, ids, scores in zip(queries, found.ids, found.scores):
        assert ids.tolist() == naive(vectors, query, 7, metric, [])
        assert (np.diff(scores) <= 0).all()
        one = table.nearest(query.tolist(), 7, metric=metric, threads=1)
        assert one.ids.shape == (7,)
        np.testing.assert_array_equal(one.ids, ids)
        np.testing.assert_array_equal(one.scores, scores)


def test_rows_are_no_answers_to_themselves(table: embmap.Table, vectors: np.ndarray) -> None:
    for query in [5, np.int64(5), -995]:
        assert table.nearest(query, 3).ids.tolist() == naive(vectors, vectors[5], 3, "cosine", [5])
    several = table.nearest(np.array([5, -1]), 3, exclude=[7, 8])
    for id, ids in zip([5, 999], several.ids):
        assert ids.tolist() == naive(vectors, vectors[id], 3, "cosine", [id, 7, 8])
    assert table.nearest(vectors[5], 1).ids.tolist() == [5], "a vector is no row"


def test_tokens(minilm: embmap.Table) -> None:
    found = minilm.nearest("cat", 3)
    assert [minilm.token(id) for id in found.ids][:2] == ["cats", "kitten"]
    assert found.scores[0] == pytest.approx(0.815, abs=5e-4)
    both = minilm.nearest(["cat", "king"], 1, exclude="cats")
    assert [minilm.token(id) for id in both.ids[:, 0]] == ["kitten", "kings"]
    with pytest.raises(KeyError, match="no such token"):
        minilm.nearest(["cat", "no such token"])


def test_fewer_answers_end_with_no_ids(tmp_path) -> None:
    rows = np.array([[1, 0], [np.nan, 1], [0, 1]], np.float32)
    table = embmap.from_numpy(rows, tmp_path / "t.emb")
    found = table.nearest([1.0, 1.0], 3)
    assert found.ids.tolist() == [0, 2, -1]
    assert np.isnan(found.scores[2])


@pytest.mark.parametrize(
    ("query", "options", "error"),
    [
        (np.zeros(23), {}, ValueError), (np.ones((2, 2, 24)), {}, ValueError), (np.zeros(24), {}, ValueError),
        (np.ones(24), {"k": 0}, ValueError), (np.ones(24), {"k": 1001}, ValueError),
        (np.ones(24), {"metric": "l2"}, ValueError), (1000, {}, IndexError), ([[1, 2]], {}, ValueError),
        (np.ones(24), {"exclude": [1000]}, IndexError), (np.ones(24), {"exclude": [1.0]}, TypeError),
        (np.ones(24, bool), {}, TypeError), (object(), {}, TypeError), (np.full(24, np.nan), {}, ValueError),
    ],
)  # fmt: skip
def test_queries_that_cannot_be(table: embmap.Table, query: object, options: dict, error: type) -> None:
    with pytest.raises(error):
        table.nearest(query, **options)


def test_a_search_can_be_stopped(table: embmap.Table) -> None:
    def stop(done: int, total: int) -> None:
        raise LookupError("enough")

    with pytest.raises(LookupError, match="enough"):
        table.nearest(0, progress=stop)
    told: list[tuple[int, int]] = []
    table.nearest(0, progress=lambda *step: told.append(step))
    assert told[-1] == (1000, 1000)
