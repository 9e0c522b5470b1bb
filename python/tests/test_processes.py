"""Workers, pickles, leaks: what outlives a call."""

from __future__ import annotations

import copy
import gc
import multiprocessing
import os
import pickle
import subprocess
import sys
import weakref
from pathlib import Path

import numpy as np
import pytest

import embmap


def big(path: Path) -> embmap.Table:
    array = np.arange(20_000, dtype=np.float32)[:, None] + np.zeros((1, 256), np.float32)
    return embmap.from_numpy(array, path)


def work(table: embmap.Table, seed: int) -> bool:
    """A gather over several threads, in whatever process this is."""
    ids = np.random.default_rng(seed).integers(0, 20_000, 8000)
    return bool((table.gather(ids, threads=2)[:, 7] == ids).all())


def test_a_pickle_holds_the_path_alone(table: embmap.Table, vectors: np.ndarray) -> None:
    table = embmap.open(table.path, access="read", threads=3)
    pickled = pickle.dumps(table)
    assert len(pickled) < 1000
    for again in [pickle.loads(pickled), copy.copy(table), copy.deepcopy(table)]:
        assert again.access == "read"
        np.testing.assert_array_equal(again[:], vectors)
    table.close()
    with pytest.raises(ValueError, match="closed"):
        pickle.dumps(table)


def test_a_pickle_holds_wherever_the_process_goes(
    vectors: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    pickled = pickle.dumps(embmap.from_numpy(vectors, "here.emb"))
    monkeypatch.chdir("/")
    np.testing.assert_array_equal(pickle.loads(pickled)[5], vectors[5])


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_workers_of_every_kind_gather(tmp_path: Path, method: str) -> None:
    table = big(tmp_path / "t.emb")
    assert work(table, 0), "a gather over several threads comes before the fork"
    context = multiprocessing.get_context(method)
    with context.Pool(4) as pool:
        results = pool.starmap_async(work, [(table, seed) for seed in range(12)])
        assert results.get(timeout=120) == [True] * 12


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="Linux tells shares")
def test_workers_share_one_copy(tmp_path: Path) -> None:
    table = big(tmp_path / "t.emb")
    size = table.residency().total_bytes
    table.warm()
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(4)
    with context.Pool(4, initializer=_remember, initargs=(barrier,)) as pool:
        shares = pool.map(_share, [table] * 4, chunksize=1)
    assert all(resident >= size for resident, _ in shares), "each has all of it mapped"
    assert sum(share for _, share in shares) <= 1.1 * size, "and together they have it once"


def _remember(barrier: object) -> None:
    globals()["_barrier"] = barrier


def _share(table: embmap.Table) -> tuple[int, int]:
    """This process's resident bytes of the table, and its share of them."""
    assert float(np.asarray(table)[:, 0].sum()) > 0
    barrier = globals()["_barrier"]
    barrier.wait(60)
    rss = pss = 0
    here = False
    with open("/proc/self/smaps") as smaps:
        for line in smaps:
            if "-" in line.split(" ")[0]:
                here = str(table.path) in line
            elif here and line.startswith("Rss:"):
                rss += int(line.split()[1]) << 10
            elif here and line.startswith("Pss:"):
                pss += int(line.split()[1]) << 10
    barrier.wait(60)
    return rss, pss


def test_the_number_of_threads_comes_from_the_environment(table: embmap.Table) -> None:
    program = "import embmap, sys; embmap.open(sys.argv[1])[[1, 2]]"
    for told, good in [("1", True), ("", True), ("0", False), ("many", False)]:
        environment = {**os.environ, "EMBMAP_NUM_THREADS": told}
        run = subprocess.run(
            [sys.executable, "-c", program, str(table.path)], env=environment, capture_output=True, text=True
        )
        assert (run.returncode == 0) == good, run.stderr
        assert good or "EMBMAP_NUM_THREADS" in run.stderr


def test_one_thread_is_one_thread(tmp_path: Path) -> None:
    big(tmp_path / "t.emb")
    program = (
        "import embmap, os, sys, numpy as np\n"
        "before = len(os.listdir('/proc/self/task'))\n"
        "embmap.open(sys.argv[1])[np.arange(20000)]\n"
        "print(len(os.listdir('/proc/self/task')) - before)"
    )
    for told, threads in [("1", 0), ("3", 2)]:
        environment = {**os.environ, "EMBMAP_NUM_THREADS": told}
        run = subprocess.run(
            [sys.executable, "-c", program, str(tmp_path / "t.emb")],
            env=environment, capture_output=True, text=True, check=True,
        )
        assert int(run.stdout) == threads


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def maps(path: Path) -> int:
    return sum(str(path) in line for line in Path("/proc/self/maps").read_text().splitlines())


def test_opening_and_closing_leaves_nothing(table: embmap.Table) -> None:
    path = Path(table.path)
    table.close()
    gc.collect()
    before = descriptors()
    for round in range(1000):
        table = embmap.open(path, access="map" if round % 2 else "read")
        table[1], table[[1]]
        if round % 3:
            table.close()
    del table
    gc.collect()
    assert descriptors() == before
    assert maps(path) == 0


def test_a_view_holds_the_map_and_lets_it_go(vectors: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "t.emb"
    table = embmap.from_numpy(vectors, path)
    view = table[2:5][1]
    reference = weakref.ref(table)
    table.close()
    del table
    gc.collect()
    assert reference() is None
    assert maps(path) == 1
    del view
    gc.collect()
    assert maps(path) == 0


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_a_million_calls_leak_nothing(table: embmap.Table) -> None:
    ids, out = np.array([3, 5]), np.zeros((2, 24), np.float32)

    def calls(count: int) -> None:
        for _ in range(count):
            table[7]
            table[2:4]
            table[ids]
            table.gather(ids, out=out)
            try:
                table[1000]
            except IndexError:
                pass

    calls(20_000)
    gc.collect()
    before, objects = resident(), len(gc.get_objects())
    calls(200_000)
    gc.collect()
    assert resident() - before < 1 << 20
    assert len(gc.get_objects()) - objects < 100


def test_large_outputs_leak_nothing(tmp_path: Path) -> None:
    table = big(tmp_path / "t.emb")
    random = np.random.default_rng(0)
    sizes = random.integers(100, 20_000, 300)
    for rows in sizes[:50]:
        table[np.arange(rows)]
    before = resident()
    for rows in sizes:
        table[np.arange(rows)]
    assert resident() - before < 1100 << 20, "what is kept is bounded"
    limit = embmap.output_cache(0)
    try:
        gc.collect()
        assert resident() <= before
    finally:
        embmap.output_cache(limit)
