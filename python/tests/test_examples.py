"""The examples run, as a user would run them."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"

needs_torch = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None, reason="torch is not installed, and this example uses it"
)


def run(name: str, *arguments: str) -> str:
    command = [sys.executable, "-W", "error::RuntimeWarning", str(EXAMPLES / name), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_real_models_table() -> None:
    told = run("model_table.py")
    assert "2,003 rows of 384 f16, from safetensors" in told
    assert re.search(r"1811  cat +\[ 0\.0325 -0\.0329  0\.0621  0\.0304\]", told), told
    near = told.splitlines()[-1]
    assert near.startswith("near it: 'an' 0.466") and near.count("0.4") == 5


@needs_torch
def test_a_data_loader() -> None:
    told = run("data_loader.py", "--workers", "2")
    losses = [float(loss) for loss in re.findall(r"loss (\S+)", told)]
    assert len(losses) == 3
    assert losses[2] < losses[0] / 4, told


@needs_torch
def test_a_recommender() -> None:
    told = run("recommender_bag.py", "--steps", "100")
    losses = [float(loss) for loss in re.findall(r"loss (\S+)", told)]
    assert "50,000 items of 32 on disk, 2,113 parameters in memory" in told
    assert losses[0] > 0.65 and losses[-1] < 0.5, told


def test_the_steps_of_an_n_gram_table() -> None:
    told = run("ngram_steps.py", "--steps", "50")
    assert "671 x 40 f8_e4m3" in told
    assert "50 steps of 16 rows" in told
    assert told.splitlines()[-1] == run("ngram_steps.py", "--steps", "50").splitlines()[-1], "the same rows each time"
