"""t.embed: vectors of texts beside the mean of their tokens' rows."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import FIXTURES

import embmap

TEXTS = ["the cat sat on the mat", "", "a dog", "the price of oil, in dollars"]


@pytest.mark.parametrize("access", ["map", "read"])
def test_a_vector_is_the_mean_of_the_rows(access: str) -> None:
    table = embmap.open(FIXTURES / "minilm-2k", access=access)
    rows = np.asarray(table).astype(np.float32)
    vectors = table.embed(TEXTS)
    assert vectors.shape == (4, 384) and vectors.dtype == np.float32 and vectors.flags.writeable
    for text, vector in zip(TEXTS, vectors):
        ids = table.encode(text, special_tokens=False)
        expected = rows[ids].mean(axis=0) if ids else np.zeros(384, np.float32)
        np.testing.assert_allclose(vector, expected, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(table.embed(text), vector)
    np.testing.assert_array_equal(table.embed(tuple(TEXTS)), vectors)
    np.testing.assert_array_equal(table.embed(np.array(TEXTS)), vectors)
    assert table.embed([]).shape == (0, 384)


def test_many_texts_are_the_same_on_several_threads() -> None:
    table = embmap.open(FIXTURES / "minilm-2k", threads=2)
    texts = [f"{word} and {other}" for word in TEXTS for other in TEXTS] * 200
    vectors = table.embed(texts)
    np.testing.assert_array_equal(vectors, embmap.open(table.path, threads=1).embed(texts))
    np.testing.assert_array_equal(vectors[:16], vectors[-16:])


def test_what_are_no_texts(table: embmap.Table) -> None:
    full = embmap.open(FIXTURES / "minilm-2k")
    for wrong, found in [(5, "int"), ([1, 2], "int"), (["a", None], "NoneType"), (b"cat", "int")]:
        with pytest.raises(TypeError, match=f"expected a str, or several, found a value of type {found}"):
            full.embed(wrong)
    with pytest.raises((ValueError, KeyError, OSError), match="tokenizer"):
        table.embed("no tokenizer here")
    full.close()
    with pytest.raises(ValueError, match="closed"):
        full.embed("cat")
