"""t[5], t[2:9] and t[ids] against numpy's own indexing."""

from __future__ import annotations

import ctypes
import gc
import itertools
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from conftest import FIXTURES

import embmap

INTEGERS = [np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64]


def test_a_table_tells_what_it_is(minilm: embmap.Table) -> None:
    assert len(minilm) == minilm.vocab == 2003
    assert minilm.shape == (2003, 384)
    assert minilm.dim == 384
    assert minilm.ndim == 2
    assert minilm.dtype == np.float16
    assert minilm.stored == "f16"
    assert minilm.codec == "plain"
    assert minilm.access == "map"
    assert minilm.format == "safetensors"
    assert minilm.tensor == "embeddings.word_embeddings.weight"
    assert minilm.metadata is None
    assert "2003 x 384 f16, safetensors" in repr(minilm)


@pytest.mark.parametrize("access", ["map", "memory", "read", "direct"])
def test_every_key_gives_what_numpy_gives(vectors: np.ndarray, table: embmap.Table, access: str) -> None:
    table = embmap.open(table.path, access=access)
    bounds = [None, 0, 1, 5, 999, 1000, 1001, -1, -7, -1000, -1001]
    keys: list = [0, 5, 999, -1, -1000, np.int64(3), np.uint8(200), np.int16(-2)]
    keys += [slice(a, b, s) for a, b, s in itertools.product(bounds, bounds, [None, 1, 3, -1, -4])]
    keys += [[1, 2, 3], [], [[1], [-2]], range(0), range(3, 9)] + [np.array(7), np.array([], np.int32)]
    keys += [np.arange(24).reshape(2, 3, 4), np.arange(0, 100, 7)[::-2], np.zeros((0, 3), int)]
    for key in keys:
        expected = vectors[key]
        found = table[key]
        assert found.shape == expected.shape, key
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("dtype", INTEGERS)
def test_ids_of_every_integer_dtype(vectors: np.ndarray, table: embmap.Table, dtype: type) -> None:
    ids = np.random.default_rng(1).integers(0, 120, (5, 7)).astype(dtype)
    np.testing.assert_array_equal(table[ids], vectors[ids])
    np.testing.assert_array_equal(table[ids.T], vectors[ids.T])
    np.testing.assert_array_equal(table[ids.astype(ids.dtype.newbyteorder())], vectors[ids])
    if np.issubdtype(dtype, np.signedinteger):
        np.testing.assert_array_equal(table[-ids - 1], vectors[-ids - 1])
    unaligned = np.frombuffer(b"\0" + ids.tobytes(), np.uint8)[1:].view(dtype)
    np.testing.assert_array_equal(table[unaligned], vectors[unaligned])


@pytest.mark.parametrize(
    ("key", "id"),
    [
        (1000, 1000),
        (-1001, -1001),
        (2**70, 2**70),
        (2**200, 2**200),
        ([0, 2**70], 2**70),
        ([0, -(2**200)], -(2**200)),
        ([[3], [2**63]], 2**63),
        ([[-1, 2**63]], 2**63),
        ([0, 1000], 1000),
        (np.array([[3, -1001]]), -1001),
        (np.array([2**64 - 1], np.uint64), 2**64 - 1),
        (np.array([-(2**63)]), -(2**63)),
    ],
)
def test_ids_without_a_row_are_named(table: embmap.Table, key: object, id: int) -> None:
    out = np.full(np.shape(key) + (24,), 7, np.float32)
    with pytest.raises(IndexError, match=rf"id {id}\b.*1,?000 rows"):
        table[key]
    if not isinstance(key, int):
        with pytest.raises(IndexError, match=rf"id {id}\b"):
            table.gather(key, out=out)
        assert (out == 7).all(), "nothing was written"


def test_negative_ids_can_be_refused(table: embmap.Table) -> None:
    with pytest.raises(IndexError, match="id -1 .*position 1"):
        table.gather([0, -1], from_end=False)


@pytest.mark.parametrize(
    "key",
    [True, None, "cat", 1.0, (1, 2), ..., [True, False], [1.5], np.zeros(1000, bool), np.bool_(True),
     np.array([1.0]), np.array(["a"]), np.array([None]), object()],
)
def test_what_is_no_id_is_refused(table: embmap.Table, key: object) -> None:
    with pytest.raises(TypeError, match="expected ids"):
        table[key]


def test_rows_and_slices_are_views_that_cannot_be_written(table: embmap.Table) -> None:
    for view in [table[5], table[2:9], table[::-3], np.asarray(table)]:
        assert not view.flags.owndata
        assert np.shares_memory(view, np.asarray(table))
        with pytest.raises(ValueError, match="read-only"):
            view[0] = 1
        with pytest.raises(ValueError):
            view.flags.writeable = True
    assert table[[5]].flags.writeable


def test_views_outlive_the_table(vectors: np.ndarray, tmp_path: Path) -> None:
    table = embmap.from_numpy(vectors, tmp_path / "t.emb")
    row, rows, whole = table[5], table[2:9], np.asarray(table)
    table.close()
    table.close()
    del table
    gc.collect()
    (tmp_path / "t.emb").unlink()
    np.testing.assert_array_equal(row, vectors[5])
    np.testing.assert_array_equal(rows, vectors[2:9])
    np.testing.assert_array_equal(whole, vectors)


def test_a_closed_table_says_so(table: embmap.Table) -> None:
    with table as same:
        assert same is table
        assert not table.closed
    assert table.closed
    assert repr(table).endswith("closed>")
    for use in [lambda: table[0], lambda: len(table), lambda: table.shape, lambda: table.gather([1]),
                lambda: table.residency(), lambda: table.token(0)]:
        with pytest.raises(ValueError, match="closed"):
            use()


def test_padded_rows_are_views_too() -> None:
    table = embmap.open(FIXTURES / "v1" / "bf16-align64.emb")
    assert table.dtype == ml_dtypes.bfloat16
    whole = np.asarray(table)
    assert whole.strides[0] % 64 == 0
    copies = table.gather(np.arange(len(table)), dtype="f32")
    np.testing.assert_array_equal(whole.astype(np.float32), copies)
    np.testing.assert_array_equal(table[1].astype(np.float32), copies[1])


def test_misaligned_rows_of_a_checkpoint(tmp_path: Path) -> None:
    header = b'{"wte.weight":{"dtype":"F32","shape":[3,2],"data_offsets":[0,24]}}'
    header += b" " * (7 - len(header) % 8)
    rows = np.arange(6, dtype=np.float32).reshape(3, 2)
    file = tmp_path / "odd.safetensors"
    file.write_bytes(len(header).to_bytes(8, "little") + header + rows.tobytes())
    table = embmap.open(file)
    np.testing.assert_array_equal(table[1], rows[1])
    np.testing.assert_array_equal(table[:], rows)
    np.testing.assert_array_equal(table[[2, 0]], rows[[2, 0]])


def test_a_table_without_rows() -> None:
    table = embmap.open(FIXTURES / "v1" / "no-rows.emb")
    assert table.shape[0] == 0
    assert table[:].shape == table.shape == np.asarray(table).shape
    assert table[[]].shape == (0, table.dim)
    with pytest.raises(IndexError):
        table[0]


def test_iterating_goes_over_the_rows(table: embmap.Table, vectors: np.ndarray) -> None:
    np.testing.assert_array_equal(np.stack(list(table)), vectors)
    rows = iter(table)
    first = next(rows)
    table.close()
    np.testing.assert_array_equal([first, next(rows)], vectors[:2])
    assert len(list(rows)) == len(vectors) - 2, "it keeps the rows, as a view does"
    assert list(rows) == []
    with pytest.raises(ValueError, match="closed"):
        iter(table)


def test_the_array_protocols(table: embmap.Table, vectors: np.ndarray) -> None:
    np.testing.assert_array_equal(np.asarray(table), vectors)
    assert np.asarray(table, dtype=np.float64).dtype == np.float64
    assert np.array(table).flags.writeable
    assert np.array(table, copy=False).base is not None
    with pytest.raises(ValueError):
        np.array(table, dtype=np.float64, copy=False)
    with pytest.raises(ValueError):
        np.array(embmap.open(table.path, access="read"), copy=False)
    np.testing.assert_array_equal(np.array(embmap.open(table.path, access="read")), vectors)


def test_dlpack_is_versioned_and_read_only(table: embmap.Table, vectors: np.ndarray) -> None:
    assert table.__dlpack_device__() == (1, 0)
    shared = np.from_dlpack(table)
    assert not shared.flags.writeable
    assert np.shares_memory(shared, np.asarray(table))
    table.close()
    np.testing.assert_array_equal(shared, vectors)
    with pytest.raises(ValueError, match="closed"):
        table.__dlpack__(max_version=(1, 0))


def test_an_unversioned_dlpack_cannot_say_read_only(table: embmap.Table) -> None:
    for asked in [{}, {"max_version": (0, 8)}, {"max_version": (1, 0), "dl_device": (2, 0)},
                  {"max_version": (1, 0), "stream": 1}]:
        with pytest.raises(BufferError):
            table.__dlpack__(**asked)


class Capsule(ctypes.Structure):
    """DLManagedTensorVersioned of dlpack.h, and the DLTensor in it."""

    _fields_ = [
        ("major", ctypes.c_uint32), ("minor", ctypes.c_uint32), ("context", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p), ("flags", ctypes.c_uint64), ("data", ctypes.c_void_p),
        ("device", ctypes.c_int32), ("device_id", ctypes.c_int32), ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)), ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("offset", ctypes.c_uint64),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("dtype", "code"),
    [("float32", (2, 32)), ("float16", (2, 16)), ("float64", (2, 64)), ("int8", (0, 8)), ("uint8", (1, 8)),
     ("bfloat16", (4, 16)), ("float8_e4m3fn", (10, 8)), ("float8_e5m2", (12, 8)),
     ("float8_e4m3fnuz", (11, 8)), ("float8_e5m2fnuz", (13, 8))],
)
def test_dlpack_of_every_dtype(tmp_path: Path, dtype: str, code: tuple[int, int]) -> None:
    array = np.arange(24).reshape(6, 4).astype(getattr(ml_dtypes, dtype, dtype))
    table = embmap.from_numpy(array, tmp_path / "t.emb", align=64)
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    for copy, flags in [(None, 1), (False, 1), (True, 2)]:
        capsule = table.__dlpack__(max_version=(1, 1), copy=copy)
        held = Capsule.from_address(pointer(capsule, b"dltensor_versioned"))
        assert (held.major, held.flags, held.device, held.ndim) == (1, flags, 1, 2)
        assert (held.code, held.bits, held.lanes, held.offset) == (*code, 1, 0)
        stride = 4 if copy else 64 // array.itemsize
        assert (held.shape[:2], held.strides[:2]) == ([6, 4], [stride, 1])
        last = (ctypes.c_char * (4 * array.itemsize)).from_address(held.data + 5 * stride * array.itemsize)
        assert last.raw == array[5].tobytes()
        in_place = held.data == np.asarray(table).ctypes.data
        assert in_place == (copy is not True)


def test_dlpack_copies_what_is_not_one_run(tmp_path: Path, vectors: np.ndarray, table: embmap.Table) -> None:
    read = embmap.open(table.path, access="read")
    with pytest.raises(BufferError, match="copy"):
        read.__dlpack__(max_version=(1, 0), copy=False)
    for copied in [np.from_dlpack(read), np.from_dlpack(table, copy=True)]:
        np.testing.assert_array_equal(copied, vectors)
        assert copied.flags.writeable


def test_capsules_hold_the_map_and_let_it_go(vectors: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "t.emb"
    table = embmap.from_numpy(vectors, path)
    capsules = [table.__dlpack__(max_version=(1, 0)) for _ in range(100)]
    used = np.from_dlpack(table)
    table.close()
    capsules.clear()
    assert str(path) in Path("/proc/self/maps").read_text()
    np.testing.assert_array_equal(used, vectors)
    del used
    gc.collect()
    assert str(path) not in Path("/proc/self/maps").read_text()


def test_tokens_beyond_the_rows_have_ids(tmp_path: Path) -> None:
    with embmap.Writer(tmp_path / "t.emb", 2) as writer:
        writer.write(np.zeros((2, 2), np.float32), ["a", "b"])
        writer._writer.push_tokens(["c"])
    table = embmap.open(tmp_path / "t.emb")
    assert [table.token(0), table.token(2), table.token(-1)] == ["a", "c", "b"]
    assert table.id_of("c") == 2
    with pytest.raises(IndexError):
        table.token(3)


def test_tokens_and_text(minilm: embmap.Table) -> None:
    cat = minilm.id_of("cat")
    assert cat == 1811
    assert minilm.token(cat) == "cat"
    assert minilm.token(np.int64(cat)) == "cat"
    assert minilm.id_of("no such token") is None
    assert "cat" in minilm and "no such token" not in minilm
    with pytest.raises(TypeError):
        5 in minilm
    with pytest.raises(TypeError, match="id_of"):
        minilm["cat"]
    assert minilm.encode("the cat sat on the mat") == [2, 92, 1811, 919, 102, 92, 1990, 3]
    assert minilm.encode("the cat", special_tokens=False) == [92, 1811]
    assert minilm[minilm.encode("the cat sat")].shape == (5, 384)
    assert minilm.token(-1) == minilm.token(2002)
    for beyond in [10**6, -2004, 2**100]:
        with pytest.raises(IndexError, match=str(beyond)):
            minilm.token(beyond)
    with pytest.raises(ValueError, match="tokenizer"):
        embmap.open(FIXTURES / "v1" / "f32.emb").encode("a")


def test_a_tensor_by_name() -> None:
    names = [name for name, _, _ in embmap.tensors(FIXTURES / "sharded")]
    assert "lm_head.weight" in names
    table = embmap.open(FIXTURES / "sharded", tensor="lm_head.weight")
    assert table.shape == (256, 64)
    with pytest.raises(ValueError, match="tensor="):
        embmap.open(FIXTURES / "sharded", tensor="no.such")


def test_errors_are_pythons_own(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as missing:
        embmap.open(tmp_path / "missing.emb")
    assert missing.value.filename == str(tmp_path / "missing.emb")
    damaged = tmp_path / "damaged.emb"
    damaged.write_bytes((FIXTURES / "v1" / "f32.emb").read_bytes()[:-1])
    with pytest.raises(embmap.FormatError, match="damaged.emb"):
        embmap.open(damaged)
    assert issubclass(embmap.FormatError, ValueError)
    (tmp_path / "text.emb").write_text("not a table")
    with pytest.raises(embmap.FormatError):
        embmap.open(tmp_path / "text.emb")
    for wrong in [{"access": "fast"}, {"temperature": "hot"}, {"threads": 0}]:
        with pytest.raises(ValueError):
            embmap.open(FIXTURES / "minilm-2k", **wrong)[[1, 2]]
    with pytest.raises(TypeError):
        embmap.open(FIXTURES / "minilm-2k", "map")


def test_no_message_speaks_of_rust(tmp_path: Path) -> None:
    (tmp_path / "there.emb").write_bytes((FIXTURES / "v1" / "f32.emb").read_bytes())
    calls = [
        lambda: embmap.open(FIXTURES / "sharded", tensor="no.such"),
        lambda: embmap.open(FIXTURES / "sharded", tensor="model.norm.weight"),
        lambda: embmap.open(FIXTURES / "pieces", scales="no.such"),
        lambda: embmap.open(tmp_path),
        lambda: embmap.open(tmp_path / "there.emb", tensor="x"),
        lambda: embmap.convert(FIXTURES / "minilm-2k", tmp_path / "there.emb"),
        lambda: embmap.convert(FIXTURES / "minilm-2k", tmp_path / "new.emb", rows=(5, 4)),
        lambda: embmap.open(FIXTURES / "v1" / "f32.emb").encode("a"),
        lambda: embmap.open(FIXTURES / "minilm-2k").gather([1], threads=0),
        lambda: embmap.open(FIXTURES / "minilm-2k").bag([1], [0, 1], "max", [1.0]),
    ]
    for call in calls:
        with pytest.raises((ValueError, OSError)) as told:
            call()
        for word in ["::", " --", "Access", "Options"]:
            assert word not in str(told.value), told.value
    with pytest.raises(ValueError, match=r"name one with `tensor=`\. "):
        calls[0]()
    with pytest.raises(FileExistsError, match=r"with `replace=True`$"):
        calls[5]()
