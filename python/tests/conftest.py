"""What the tests share: small real tables, and tables of any dtype made on the spot."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import embmap

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures"


@pytest.fixture
def minilm() -> embmap.Table:
    """A slice of all-MiniLM-L6-v2: 2,003 rows of 384 f16 values, with a tokenizer."""
    return embmap.open(FIXTURES / "minilm-2k")


@pytest.fixture
def vectors() -> np.ndarray:
    return np.random.default_rng(7).standard_normal((1000, 24)).astype(np.float32)


@pytest.fixture
def table(vectors: np.ndarray, tmp_path: Path) -> embmap.Table:
    """1,000 rows of 24 f32 values: those of `vectors`."""
    return embmap.from_numpy(vectors, tmp_path / "table.emb")
