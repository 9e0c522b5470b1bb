"""The blocks of docs/python.md and of the READMEs, run as they stand."""

from __future__ import annotations

import doctest
import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NEEDS = {"": ["ml_dtypes"], " torch": ["torch"], " arrow": ["pyarrow"]}
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def blocks(path: Path, language: str) -> list[tuple[int, str, str]]:
    """The line, the words after the language, and the text of each block of a language."""
    text = path.read_text()
    found = re.finditer(rf"^```{language}\b([^\n]*)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [(text[: block.start()].count("\n") + 1, block[1], block[2]) for block in found]


def test_the_guide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "fixtures").symlink_to(ROOT / "fixtures")
    names: dict[str, object] = {}
    told: list[str] = []
    runner = doctest.DocTestRunner(optionflags=FLAGS)
    skipped = 0
    for line, needs, text in blocks(ROOT / "docs" / "python.md", "pycon"):
        if any(importlib.util.find_spec(module) is None for module in NEEDS[needs]):
            skipped += 1
            continue
        test = doctest.DocTestParser().get_doctest(text, names, f"docs/python.md:{line}", None, line)
        runner.run(test, out=told.append, clear_globs=False)
        names.update(test.globs)
    tried, failed = runner.tries, runner.failures
    assert failed == 0, "".join(told)
    assert tried > 40
    if skipped:
        pytest.skip(f"{tried} lines were run; {skipped} blocks were not: torch is not installed")


@pytest.mark.parametrize("readme", ["README.md", "python/README.md"])
def test_the_readmes(readme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "fixtures").symlink_to(ROOT / "fixtures")
    found = blocks(ROOT / readme, "python")
    assert found
    for _, _, text in found:
        exec(compile(text, readme, "exec"), {})
