"""Writing, converting, and what Arrow hands over."""

from __future__ import annotations

import json
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from conftest import FIXTURES

import embmap

WORDS = ["the", None, "", "a word of more than twelve bytes", "café", "x" * 12]


def test_rows_and_tokens_come_back(tmp_path: Path, vectors: np.ndarray) -> None:
    path = tmp_path / "t.emb"
    with embmap.Writer(path, dim=24, metadata={"licence": "MIT"}, align=128) as writer:
        writer.write(vectors[:6], tokens=WORDS)
        writer.write(vectors[6])
        writer.write(vectors[7:].tolist() and vectors[7:])
        assert not path.exists()
    table = embmap.open(path)
    np.testing.assert_array_equal(table[:], vectors)
    assert [table.token(id) for id in range(6)] == WORDS
    assert table.metadata == {"licence": "MIT"}
    assert np.asarray(table).strides == (128, 4)


def test_finish_tells_what_was_written(tmp_path: Path) -> None:
    writer = embmap.Writer(tmp_path / "t.emb", 3, "bf16", file_id=b"0123456789abcdef")
    writer.write(np.zeros((5, 3), np.float32), ["a", "b", "c", "d", "e"])
    written = writer.finish()
    assert (written.vocab, written.tokens, written.file_id) == (5, 5, b"0123456789abcdef")
    assert written.file_bytes == (tmp_path / "t.emb").stat().st_size
    with pytest.raises(ValueError, match="closed"):
        writer.write(np.zeros((5, 3), np.float32))


def test_an_exception_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        with embmap.Writer(tmp_path / "t.emb", 3) as writer:
            writer.write(np.zeros((5, 3), np.float32))
            raise KeyError
    with pytest.raises(ValueError, match="expect 7 rows"):
        with embmap.Writer(tmp_path / "t.emb", 3, vocab=7) as writer:
            writer.write(np.zeros((5, 3), np.float32))
    assert list(tmp_path.iterdir()) == []


def test_an_existing_file_is_replaced_on_request_alone(tmp_path: Path, vectors: np.ndarray) -> None:
    table = embmap.from_numpy(vectors, tmp_path / "t.emb")
    with pytest.raises(FileExistsError, match="replace=True"):
        embmap.from_numpy(vectors, tmp_path / "t.emb")
    fresh = embmap.from_numpy(-vectors, tmp_path / "t.emb", replace=True)
    np.testing.assert_array_equal(table[:], vectors)
    np.testing.assert_array_equal(fresh[:], -vectors)


@pytest.mark.parametrize("to", ["f32", "f16", "bf16", "f64"])
@pytest.mark.parametrize("given", [np.float32, np.float16, ml_dtypes.bfloat16, np.float64])
def test_rows_are_rounded_once(tmp_path: Path, given: type, to: str) -> None:
    names = {"f32": np.float32, "f16": np.float16, "bf16": ml_dtypes.bfloat16, "f64": np.float64}
    array = np.random.default_rng(2).standard_normal((700, 9)).astype(given)
    table = embmap.from_numpy(array, tmp_path / "t.emb", dtype=to)
    expected = array.astype(names[to])
    if given is np.float64 and to == "bf16":
        assert np.abs(table[:].astype(np.float64) - array).max() <= 2.0**-8 * np.abs(array).max()
        return
    np.testing.assert_array_equal(table[:], expected)


@pytest.mark.parametrize("given", ["float8_e4m3fn", "float8_e5m2", "int8", "uint8"])
def test_rows_of_8_bits_are_kept_or_widened(tmp_path: Path, given: str) -> None:
    array = np.arange(24).reshape(6, 4).astype(getattr(ml_dtypes, given, given))
    same = embmap.from_numpy(array, tmp_path / "same.emb")
    assert same[:].tobytes() == array.tobytes()
    if given.startswith("float8"):
        wide = embmap.from_numpy(array[::-1], tmp_path / "wide.emb", dtype="f16")
        np.testing.assert_array_equal(wide[:], array[::-1].astype(np.float16))
    else:
        with pytest.raises(ValueError, match="convert them first"):
            embmap.from_numpy(array, tmp_path / "wide.emb", dtype="f16")
    with pytest.raises(ValueError, match="quantize"):
        embmap.from_numpy(np.ones((2, 4), np.float32), tmp_path / "none.emb", dtype=given)
    assert not (tmp_path / "none.emb").exists()


def test_converting_quantizes_and_tells_the_cost(tmp_path: Path, minilm: embmap.Table) -> None:
    rows = minilm[:].astype(np.float32)
    for dtype in ["i8", "f8_e4m3", "q8_0"]:
        written = embmap.convert(minilm, tmp_path / "t.emb", dtype=dtype, replace=True)
        table = embmap.open(tmp_path / "t.emb")
        assert (table.stored, table.dtype) == (dtype, np.float32)
        found = table[:]
        assert written.loss is not None
        assert written.row_stride == table.row_bytes
        assert np.abs(found - rows).max() == pytest.approx(written.loss.max_error)
        assert 0 < written.loss.max_error < 0.1 and 0.99 < written.loss.min_cosine < 1


def test_options_of_a_path_do_not_go_with_a_table(tmp_path: Path, minilm: embmap.Table) -> None:
    for option in [{"tensor": "x"}, {"scales": "x"}, {"follow_links": True}]:
        with pytest.raises(TypeError, match="path"):
            embmap.convert(minilm, tmp_path / "t.emb", **option)


def test_rows_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    writer = embmap.Writer(tmp_path / "t.emb", 3)
    for rows in [np.zeros((5, 4), np.float32), np.zeros((2, 5, 3), np.float32), np.float32(1)]:
        with pytest.raises(ValueError, match="shape"):
            writer.write(rows)
    with pytest.raises(TypeError, match="floating-point"):
        writer.write(np.zeros((5, 3), np.int64))
    with pytest.raises(ValueError, match="tokens"):
        writer.write(np.zeros((5, 3), np.float32), ["a"])
    with pytest.raises(ValueError, match="column"):
        writer.write(np.zeros((5, 3), np.float32), column="a")
    writer.write(np.asfortranarray(np.ones((2, 3), ">f8"))[::-1])
    writer.abort()
    assert list(tmp_path.iterdir()) == []


def test_what_writer_refuses_at_once(tmp_path: Path) -> None:
    for wrong in [{"dim": 0}, {"dim": 3, "align": 3}, {"dim": 3, "dtype": "i9"}]:
        with pytest.raises(ValueError):
            embmap.Writer(tmp_path / "t.emb", **wrong)
    with pytest.raises(ValueError, match="shape"):
        embmap.from_numpy(np.zeros(3, np.float32), tmp_path / "t.emb")
    with pytest.raises(TypeError, match="int64"):
        embmap.from_numpy(np.zeros((3, 3), np.int64), tmp_path / "t.emb")


def test_converting_a_model(tmp_path: Path, minilm: embmap.Table) -> None:
    told: list[tuple[int, int]] = []
    written = embmap.convert(
        FIXTURES / "minilm-2k", tmp_path / "t.emb", dtype="f32", progress=lambda *step: told.append(step)
    )
    assert written.vocab == 2003
    assert told[-1] == (2003, 2003)
    table = embmap.open(tmp_path / "t.emb")
    np.testing.assert_array_equal(table[:], minilm[:].astype(np.float32))
    assert table.token(1811) == "cat"
    assert table.encode("the cat") == minilm.encode("the cat")
    assert table.metadata["source"]["dtype"] == "f16"
    some = embmap.convert(minilm, tmp_path / "some.emb", rows=(10, 20))
    assert some.vocab == 10
    np.testing.assert_array_equal(embmap.open(some.path)[:], minilm[10:20])


def test_an_exception_stops_a_conversion(tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        raise LookupError("enough")

    with pytest.raises(LookupError, match="enough"):
        embmap.convert(FIXTURES / "minilm-2k", tmp_path / "t.emb", progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_arrow_lists_of_every_kind(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    rows = np.random.default_rng(1).standard_normal((10, 4)).astype(np.float32)
    kinds = {
        "fixed": arrow.list_(arrow.float32(), 4), "list": arrow.list_(arrow.float32()),
        "large": arrow.large_list(arrow.float32()), "half": arrow.list_(arrow.float16(), 4),
        "double": arrow.list_(arrow.float64()),
    }
    for name, kind in kinds.items():
        array = arrow.array(rows.tolist() if name != "half" else [list(row) for row in rows.astype(np.float16)], kind)
        chunked = arrow.chunked_array([array[:3], array[3:3], array[3:]])
        for data in [array, array[2:7], chunked]:
            with embmap.Writer(tmp_path / "t.emb", 4, replace=True) as writer:
                writer.write(data)
            expected = rows[2:7] if len(data) == 5 else rows
            found = embmap.open(tmp_path / "t.emb")[:]
            np.testing.assert_array_equal(found, expected.astype(np.float16) if name == "half" else expected)


@pytest.mark.parametrize("library", ["pyarrow", "pyarrow views", "polars", "duckdb"])
def test_arrow_tables_with_tokens(tmp_path: Path, library: str) -> None:
    arrow = pytest.importorskip("pyarrow")
    pytest.importorskip(library.split()[0])
    rows = np.random.default_rng(1).standard_normal((6, 4)).astype(np.float32)
    strings = arrow.string_view() if library == "pyarrow views" else arrow.large_string()
    data = arrow.table({
        "id": list(range(6)),
        "token": arrow.array(WORDS, strings),
        "vector": arrow.array(rows.tolist(), arrow.list_(arrow.float32(), 4)),
    })
    data = arrow.concat_tables([data.slice(0, 1), data.slice(1, 3), data.slice(4)])
    if library == "polars":
        import polars

        data = polars.from_arrow(data)
    if library == "duckdb":
        import duckdb

        data = duckdb.sql("SELECT * FROM data ORDER BY id")
        if not hasattr(data, "__arrow_c_stream__"):
            pytest.skip("this duckdb has no Arrow capsules")
    with embmap.Writer(tmp_path / "t.emb", 4) as writer:
        writer.write(data)
    table = embmap.open(tmp_path / "t.emb")
    np.testing.assert_array_equal(table[:], rows)
    assert [table.token(id) for id in range(6)] == WORDS


def test_arrow_tokens_by_a_dictionary(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    words = arrow.array(["b", None, "a", "b", "c"]).dictionary_encode()
    rows = arrow.array([[float(i)] * 2 for i in range(5)], arrow.list_(arrow.float32(), 2))
    with embmap.Writer(tmp_path / "t.emb", 2) as writer:
        writer.write(arrow.table({"token": words, "vector": rows}).slice(1))
    table = embmap.open(tmp_path / "t.emb")
    assert [table.token(id) for id in range(4)] == [None, "a", "b", "c"]


def test_a_dataset_of_hugging_face(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="datasets is not installed")
    data = datasets.Dataset.from_dict({"token": ["a", "b", "c"], "vector": [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]})
    with embmap.Writer(tmp_path / "t.emb", 2) as writer:
        writer.write(data.select([2, 0]))
    table = embmap.open(tmp_path / "t.emb")
    np.testing.assert_array_equal(table[:], [[5.0, 6.0], [1.0, 2.0]])
    assert [table.token(0), table.token(1)] == ["c", "a"]


def test_arrow_batches_and_columns_by_name(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    a, b = np.zeros((3, 2), np.float32), np.ones((3, 2), np.float32)
    kind = arrow.list_(arrow.float32(), 2)
    batch = arrow.record_batch(
        [arrow.array(a.tolist(), kind), arrow.array(b.tolist(), kind), arrow.array(["x", "y", "z"]),
         arrow.array(["u", "v", "w"])],
        names=["a", "b", "s", "t"],
    )
    with embmap.Writer(tmp_path / "t.emb", 2) as writer:
        with pytest.raises(ValueError, match="column="):
            writer.write(batch)
        with pytest.raises(ValueError, match="no column"):
            writer.write(batch, column="c")
        with pytest.raises(ValueError, match="none of"):
            writer.write(batch, column="s")
        writer.write(batch.slice(1), column="b", token_column="t")
    table = embmap.open(tmp_path / "t.emb")
    np.testing.assert_array_equal(table[:], b[1:])
    assert [table.token(0), table.token(1)] == ["v", "w"]


def test_arrow_data_that_is_no_rows_is_refused(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    writer = embmap.Writer(tmp_path / "t.emb", 2)
    for data in [
        arrow.array([1.0, 2.0]), arrow.array([[1.0], [1.0, 2.0]]), arrow.array([[1.0, 2.0], None]),
        arrow.array([[1.0, None]]), arrow.array([[1, 2]]), arrow.array([[1.0] * 3], arrow.list_(arrow.float32(), 3)),
        arrow.table({"a": [1]}), arrow.table({"a": [[1.0, 2.0]], "b": [[1.0, 2.0]]}),
    ]:
        with pytest.raises(ValueError):
            writer.write(data)
    with pytest.raises(ValueError, match="token_column"):
        writer.write(arrow.array([[1.0, 2.0]]), tokens=["a"])
    writer.abort()


def test_metadata_is_json(tmp_path: Path) -> None:
    with embmap.Writer(tmp_path / "t.emb", 2, metadata={"a": [1, None, "é"]}) as writer:
        writer.write(np.zeros((1, 2), np.float32))
    metadata = embmap.open(tmp_path / "t.emb").metadata
    assert json.loads(json.dumps(metadata)) == {"a": [1, None, "é"]}
