"""gather(out=), dtypes, bags and prefetch, against numpy."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from conftest import FIXTURES

import embmap

DTYPES = {"f32": np.float32, "f16": np.float16, "bf16": ml_dtypes.bfloat16, "f64": np.float64}
NARROW = {
    "f8_e4m3": ml_dtypes.float8_e4m3fn, "f8_e5m2": ml_dtypes.float8_e5m2, "i8": np.int8, "u8": np.uint8,
    "f8_e4m3fnuz": ml_dtypes.float8_e4m3fnuz, "f8_e5m2fnuz": ml_dtypes.float8_e5m2fnuz,
}


@pytest.fixture(params=DTYPES | NARROW)
def stored(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[embmap.Table, np.ndarray]:
    """A table of each dtype, and the array that it was written from."""
    numbers = np.random.default_rng(3).standard_normal((300, 17))
    if request.param in ("i8", "u8"):
        numbers = numbers * 40 % 100
    array = numbers.astype((DTYPES | NARROW)[request.param])
    table = embmap.from_numpy(array, tmp_path / "t.emb")
    assert table.stored == request.param
    return table, array


def test_rows_keep_the_stored_dtype(stored: tuple[embmap.Table, np.ndarray]) -> None:
    table, array = stored
    ids = np.random.default_rng(4).integers(-300, 300, (6, 11))
    for found, expected in [(table[ids], array[ids]), (table[5], array[5]), (table[3:7], array[3:7])]:
        assert found.dtype == expected.dtype == table.dtype
        assert found.tobytes() == expected.tobytes()


@pytest.mark.parametrize("asked", ["f32", "f16", "bf16"])
def test_rows_in_another_dtype(stored: tuple[embmap.Table, np.ndarray], asked: str) -> None:
    table, array = stored
    ids = np.arange(299, -1, -1)
    expected = array[ids].astype(DTYPES[asked])
    if array.dtype.itemsize == 1:
        # By way of f32, which holds all of them; ml_dtypes casts not all of them directly.
        expected = array[ids].astype(np.float32).astype(DTYPES[asked])
    if table.stored == "f64" and asked != "f32":
        # Rounded once, where numpy's cast of another library may go through f32.
        expected = array[ids].astype(np.longdouble).astype(DTYPES[asked])
    np.testing.assert_array_equal(table.gather(ids, dtype=asked), expected)
    np.testing.assert_array_equal(table.gather(ids, dtype=DTYPES[asked]), expected)
    out = np.zeros((300, 17), DTYPES[asked])
    assert table.gather(ids, out=out) is out
    np.testing.assert_array_equal(out, expected)


def test_a_dtype_that_cannot_be(table: embmap.Table) -> None:
    for asked in ["int8", "f64", "q", np.int32, "q8_0", "f8_e4m3"]:
        with pytest.raises(ValueError):
            table.gather([1], dtype=asked)


def test_bf16_without_ml_dtypes_is_never_silent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    table = embmap.open(FIXTURES / "v1" / "bf16-align64.emb")
    for use in [lambda: table[0], lambda: table[[0]], lambda: table[0:1], lambda: table.dtype,
                lambda: np.asarray(table)]:
        with pytest.raises(ImportError, match="ml_dtypes"):
            use()
    assert table.gather([0], dtype="f32").dtype == np.float32


@pytest.mark.parametrize("name", NARROW)
def test_numbers_of_8_bits_come_as_they_are_stored(tmp_path: Path, name: str) -> None:
    array = np.arange(256, dtype=np.uint8).reshape(32, 8).view(NARROW[name])
    table = embmap.from_numpy(array, tmp_path / "t.emb")
    out = np.zeros((3, 8), NARROW[name])
    assert table.gather([5, 31, 0], out=out) is out
    for found in [out, table[[5, 31, 0]], table.gather([5, 31, 0], dtype=name)]:
        assert found.dtype == array.dtype
        assert found.tobytes() == array[[5, 31, 0]].tobytes()
    assert table[2:4].tobytes() == array[2:4].tobytes()
    assert not table[2:4].flags.writeable
    np.testing.assert_array_equal(table.gather([7, 20], dtype="f32"), array[[7, 20]].astype(np.float32))
    other = "u8" if name != "u8" else "i8"
    with pytest.raises(ValueError, match="dtype"):
        table.gather([1], dtype=other)


def test_fp8_without_ml_dtypes_is_never_silent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "t.emb"
    embmap.from_numpy(np.ones((3, 4), ml_dtypes.float8_e4m3fn), path)
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    table = embmap.open(path)
    for use in [lambda: table[0], lambda: table[[0]], lambda: table.dtype, lambda: np.asarray(table)]:
        with pytest.raises(ImportError, match="f8_e4m3.*ml_dtypes"):
            use()
    np.testing.assert_array_equal(table.gather([0], dtype="f32"), np.ones((1, 4), np.float32))


def test_a_table_with_scales_comes_multiplied() -> None:
    table = embmap.open(FIXTURES / "pieces")
    assert (table.stored, table.codec, table.dtype) == ("f8_e4m3", "scaled", np.float32)
    raw = embmap.open(FIXTURES / "pieces", scales="none")
    assert (raw.codec, raw.dtype) == ("plain", ml_dtypes.float8_e4m3fn)
    values = raw[:].astype(np.float32)
    found = table[np.arange(len(table))]
    scale = found[values != 0] / values[values != 0]
    assert len(np.unique(scale)) == 1 and scale[0] != 1, "one scale for the whole table"
    np.testing.assert_array_equal(found, values * scale[0])
    np.testing.assert_array_equal(table[3], found[3])
    np.testing.assert_array_equal(table[3:600:7], found[3:600:7])
    np.testing.assert_array_equal(np.asarray(table), found)
    assert table[3].flags.writeable, "a copy: there is no such row to look at"
    with pytest.raises(ValueError, match="dtype"):
        table.gather([1], dtype="f8_e4m3")


def test_blocks_of_gguf_come_as_f32() -> None:
    gguf = pytest.importorskip("gguf")
    path = FIXTURES / "gguf" / "model.gguf"
    table = embmap.open(path)
    (tensor,) = [it for it in gguf.GGUFReader(path).tensors if it.name == table.tensor]
    expected = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
    assert table.codec == "blocks" and table.dtype == np.float32
    np.testing.assert_array_equal(table[:], expected)
    np.testing.assert_array_equal(table[[7, 3]], expected[[7, 3]])


def test_out_may_have_its_rows_apart(table: embmap.Table, vectors: np.ndarray) -> None:
    ids = np.arange(12).reshape(3, 4) * 70
    wide = np.full((3, 4, 40), -1, np.float32)
    table.gather(ids, out=wide[:, :, 8:32])
    np.testing.assert_array_equal(wide[:, :, 8:32], vectors[ids])
    assert (wide[:, :, :8] == -1).all() and (wide[:, :, 32:] == -1).all()
    tall = np.full((3, 8, 24), -1, np.float32)
    table.gather(ids, out=tall.reshape(3, 2, 4, 24)[:, 0].reshape(3, 4, 24).copy())
    table.gather(ids[:, 0], out=tall[:, 5])
    np.testing.assert_array_equal(tall[:, 5], vectors[ids[:, 0]])
    assert (np.delete(tall, 5, axis=1) == -1).all()


def test_out_that_does_not_fit_is_refused(table: embmap.Table) -> None:
    ids = np.arange(6).reshape(2, 3)
    good = np.full((2, 3, 24), 7, np.float32)
    read_only = good.copy()
    read_only.flags.writeable = False
    unaligned = np.zeros(2 * 3 * 24 * 4 + 1, np.uint8)[1:].view(np.float32).reshape(2, 3, 24)
    for out in [
        good[:1], good.reshape(6, 24), good[:, :, :23], read_only, unaligned, good[::-1],
        good.transpose(2, 1, 0).copy().transpose(2, 1, 0), np.asarray(table)[:6].reshape(2, 3, 24),
        np.zeros((2, 6, 24), np.float32)[:, ::2], np.broadcast_to(good[:, :1], good.shape),
        np.zeros((2, 3, 48), np.float32)[:, :, ::2],
    ]:
        if out.shape == good.shape and out.flags.writeable and out.strides[1] == 192 and out.strides[2] == 4:
            table.gather(ids, out=out)
            continue
        with pytest.raises(ValueError, match="out"):
            table.gather(ids, out=out)
    for out in [good.astype(np.int32), good.astype(np.uint16), [1, 2], "out", good.astype(">f4")]:
        with pytest.raises(TypeError, match="out"):
            table.gather(ids, out=out)
    with pytest.raises(ValueError, match="dtype"):
        table.gather(ids, out=good, dtype="f16")
    assert (good == 7).all()


@pytest.mark.parametrize("access", ["map", "memory", "read", "direct"])
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_large_gathers_are_the_same_with_any_threads(
    tmp_path: Path, access: str, threads: int
) -> None:
    array = np.random.default_rng(5).standard_normal((5000, 96)).astype(np.float32)
    embmap.from_numpy(array, tmp_path / "t.emb")
    table = embmap.open(tmp_path / "t.emb", access=access, threads=threads)
    ids = np.random.default_rng(6).integers(0, 5000, 20_000)
    np.testing.assert_array_equal(table[ids], array[ids])
    np.testing.assert_array_equal(table.gather(ids, threads=2), array[ids])


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.uint64, np.uint32, np.int16, ">i8"])
def test_large_batches_mean_what_small_ones_mean(table: embmap.Table, vectors: np.ndarray, dtype: object) -> None:
    random = np.random.default_rng(1)
    ids = random.integers(0, 1000, (3, 5000)).astype(dtype)
    out = np.full((3, 5000, 24), 7, np.float32)
    for given in [ids, ids.T, ids[:, ::-2]]:
        np.testing.assert_array_equal(table[given], vectors[given])
    if np.dtype(dtype).kind == "i":
        ids[1, 4000], ids[2, 17] = -1, -1000
        np.testing.assert_array_equal(table[ids], vectors[ids])
        with pytest.raises(IndexError, match="id -1 at position 9000 "):
            table.gather(ids, out=out, from_end=False)
        ids[2, 4999] = -1001
        with pytest.raises(IndexError, match="id -1001 at position 14999 "):
            table.gather(ids, out=out)
    ids[0, 4321] = 1000
    with pytest.raises(IndexError, match="id 1000 at position 4321 "):
        table.gather(ids, out=out)
    assert (out == 7).all(), "nothing was written"


def test_ids_that_another_thread_writes_to_end_nothing(table: embmap.Table) -> None:
    ids = np.zeros(200_000, np.int64)
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            ids[:] = 2**62
            ids[:] = 999

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for _ in range(50):
            try:
                table.gather(ids, threads=2)
            except IndexError:
                pass
    finally:
        stop.set()
        thread.join()


def naive_bags(array, ids, offsets, mode, weights, padding):
    out = np.zeros((len(offsets) - 1, array.shape[1]), np.float32)
    for bag, (start, end) in enumerate(zip(offsets[:-1], offsets[1:])):
        rows = [
            array[ids[at]].astype(np.float32) * np.float32(1 if weights is None else weights[at])
            for at in range(start, end)
            if ids[at] != padding
        ]
        if not rows:
            continue
        if mode == "max":
            out[bag] = np.max(rows, axis=0)
            continue
        for row in rows:
            out[bag] += row
        if mode == "mean":
            out[bag] /= np.float32(len(rows))
    return out


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("padding", [None, 5, -1])
def test_bags(stored: tuple[embmap.Table, np.ndarray], mode: str, weighted: bool, padding: int | None) -> None:
    if mode == "max" and weighted:
        return
    table, array = stored
    random = np.random.default_rng(8)
    ids = random.integers(0, 20, 200)
    if padding is not None:
        ids[::3] = padding
    offsets = np.sort(np.concatenate([[0, 200], random.integers(0, 200, 30)]))
    weights = random.standard_normal(200).astype(np.float32) if weighted else None
    expected = naive_bags(array, ids, offsets, mode, weights, padding)
    found = table.bag(ids, offsets, mode, weights, padding_id=padding)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected)
    out = np.full((len(offsets) - 1, 20), 9, np.float32)
    table.bag(ids.tolist(), offsets.tolist(), mode, weights, padding_id=padding, out=out[:, :17])
    np.testing.assert_array_equal(out[:, :17], expected)
    assert (out[:, 17:] == 9).all()


def test_bags_of_one_length(table: embmap.Table, vectors: np.ndarray) -> None:
    ids = np.arange(24).reshape(2, 4, 3)
    assert table.bag(ids, mode="sum").shape == (2, 4, 24)
    np.testing.assert_allclose(table.bag(ids), vectors[ids].mean(axis=2), rtol=1e-5, atol=1e-6)
    assert table.bag([1, 2, 3]).shape == (24,)


def test_bags_that_cannot_be(table: embmap.Table) -> None:
    for arguments in [
        ([1, 2], [0, 1]), ([1, 2], [1, 2]), ([1, 2], [0, 2, 1, 2]), ([1, 2], [-1, 2]), ([1, 2], [[0, 2]]),
        ([[1, 2]], [0, 2]), ([1, 2], [0, 2], "median"), ([1, 2], [0, 2], "sum", [1.0]), ([1, 2], []), (1,),
    ]:
        with pytest.raises(ValueError):
            table.bag(*arguments)
    with pytest.raises(IndexError, match="id 1000"):
        table.bag([1, 1000], [0, 2])


def test_what_brings_rows_into_memory(table: embmap.Table) -> None:
    table.prefetch([[1, 2], [-3, 4]])
    table.warm()
    table.warm(0, 100)
    table.prefault(10, 20)
    residency = table.residency()
    assert residency.total_bytes == 1000 * 96
    assert residency.cached_bytes is None or residency.cached_bytes <= residency.total_bytes
    table.release()
    table.check_alive()
    with pytest.raises(IndexError):
        table.prefetch([1000])
    for wrong in [(0, 1001), (1001, None), (5, 2000)]:
        with pytest.raises(IndexError):
            table.warm(*wrong)
        with pytest.raises(IndexError):
            table.prefault(*wrong)
    table.warm(1000)


def test_warming_in_the_background(table: embmap.Table) -> None:
    warming = table.warm_in_background()
    warming.wait()
    assert warming.done and warming.progress is None
    warming = table.warm_in_background(0, 10)
    warming.cancel()
    warming.cancel()
    with pytest.raises(IndexError):
        table.warm_in_background(0, 1001)


def test_evicted_rows_come_back(table: embmap.Table, vectors: np.ndarray) -> None:
    table.warm()
    left = table.evict()
    assert left.total_bytes == 1000 * 96
    np.testing.assert_array_equal(table[np.arange(1000)], vectors)


def test_verifying(tmp_path: Path, vectors: np.ndarray) -> None:
    vectors[3, 4] = np.nan
    table = embmap.from_numpy(vectors, tmp_path / "t.emb")
    told: list[tuple[int, int]] = []
    found = table.verify(progress=lambda *step: told.append(step))
    assert found.sound and found.damage == []
    assert (found.nan, found.infinite, found.first_non_finite_row) == (1, 0, 3)
    assert told[-1][0] == told[-1][1] > 0
    with pytest.raises(LookupError):
        table.verify(progress=lambda *_: (_ for _ in ()).throw(LookupError))
    damaged = bytearray((tmp_path / "t.emb").read_bytes())
    damaged[65_536 + 96 * 500] ^= 1
    (tmp_path / "d.emb").write_bytes(damaged)
    found = embmap.open(tmp_path / "d.emb").verify()
    assert not found.sound
    assert "rows 0:683" in found.damage[0] and "does not match its sum" in found.damage[0]


def test_a_file_that_changed_is_noticed(tmp_path: Path, vectors: np.ndarray) -> None:
    table = embmap.from_numpy(vectors, tmp_path / "t.emb")
    with open(tmp_path / "t.emb", "ab") as file:
        file.write(b"more")
    with pytest.raises(OSError, match="changed"):
        table.check_alive()


def test_outputs_are_used_again_and_never_twice_at_once(tmp_path: Path) -> None:
    array = np.arange(4000 * 64, dtype=np.float32).reshape(4000, 64)
    table = embmap.from_numpy(array, tmp_path / "t.emb")
    before = embmap.output_cache(64 << 20)
    try:
        ids = np.arange(4000)
        first = table[ids]
        address = first.ctypes.data
        row = first[3]
        del first
        second = table[ids[::-1]]
        assert second.ctypes.data != address, "a row of the first is still in use"
        np.testing.assert_array_equal(row, array[3])
        del row
        third = table[ids]
        assert third.ctypes.data == address, "nobody used it"
        np.testing.assert_array_equal(third, array)
        np.testing.assert_array_equal(second, array[::-1])
        alive = [table[ids + shift - 4000] for shift in range(10)]
        assert len({rows.ctypes.data for rows in [second, third, *alive]}) == 12
        for shift, rows in enumerate(alive):
            np.testing.assert_array_equal(rows, np.roll(array, -shift, axis=0))
        assert embmap.output_cache(0) == 64 << 20
        assert embmap.output_cache() == 0
    finally:
        embmap.output_cache(before)


def test_other_threads_run_meanwhile(tmp_path: Path) -> None:
    array = np.random.default_rng(9).standard_normal((2000, 256)).astype(np.float32)
    table = embmap.from_numpy(array, tmp_path / "t.emb")
    wrong: list[int] = []

    def work(seed: int) -> None:
        random = np.random.default_rng(seed)
        for _ in range(30):
            ids = random.integers(0, 2000, 3000)
            if not np.array_equal(table[ids], array[ids]):
                wrong.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
