"""Writing tables: numpy, torch and Arrow batches into an .emb file."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from . import _arrow, _embmap

if TYPE_CHECKING:
    from . import Table, Written

_Path = str | os.PathLike[str]

# What rows may be: embmap's name, and the integers that they lie as where numpy has no such type.
_KINDS: dict[str, tuple[str, Any]] = {
    "float32": ("f32", None),
    "float16": ("f16", None),
    "float64": ("f64", None),
    "int8": ("i8", None),
    "uint8": ("u8", None),
    "bfloat16": ("bf16", np.int16),
    "float8_e4m3fn": ("f8_e4m3", np.int8),
    "float8_e5m2": ("f8_e5m2", np.int8),
    "float8_e4m3fnuz": ("f8_e4m3fnuz", np.int8),
    "float8_e5m2fnuz": ("f8_e5m2fnuz", np.int8),
}

# The rows that a dataset hands over at once.
_BATCH = 4096


class Writer:
    """Writes a table to an .emb file, streaming: the file appears whole or not at all.

    Used with `with`, it publishes the file at the end, and leaves nothing where an exception
    came first. Rows of another floating-point dtype than the table's are rounded once; those of
    8 bits are written as they are, and nothing is rounded to them: convert quantizes.

        with embmap.Writer("words.emb", dim=300, dtype="f16") as writer:
            writer.write(vectors, tokens=words)

    metadata is anything that JSON can say, tokenizer the text of a tokenizer.json, align what
    the row stride is rounded up to, vocab the number of rows where it is known: their space is
    then set aside at once.
    """

    def __init__(
        self,
        path: _Path,
        dim: int,
        dtype: Any = "f32",
        *,
        vocab: int | None = None,
        align: int | None = None,
        metadata: Mapping[str, Any] | None = None,
        tokenizer: str | None = None,
        replace: bool = False,
        file_id: bytes | None = None,
    ) -> None:
        self.dim = dim
        """The number of elements in a row."""
        self._writer = _embmap.Writer(
            path,
            dim,
            dtype,
            vocab=vocab,
            align=align,
            metadata=None if metadata is None else json.dumps(metadata),
            tokenizer=tokenizer,
            replace=replace,
            file_id=file_id,
        )

    @property
    def dtype(self) -> str:
        """The name of the element type that is stored: "f32", "f16", ..."""
        return self._writer.dtype

    def write(
        self,
        rows: Any,
        tokens: Iterable[str | None] | None = None,
        *,
        column: str | None = None,
        token_column: str | None = None,
    ) -> None:
        """Adds rows, in the order of their ids, and their tokens.

        rows is an array or a tensor of shape (n, dim) or (dim,), or anything that speaks
        Arrow's PyCapsule interface: an array of lists, a record batch, a table, a stream
        (pyarrow, polars, duckdb), or a dataset of Hugging Face's datasets. Of several columns,
        the one of lists of floats is the rows and, where there is one alone, the one of strings
        the tokens; column and token_column name others.
        """
        if hasattr(rows, "with_format") and hasattr(rows, "iter"):
            # A dataset knows its order, which its table does not.
            for batch in rows.with_format("arrow").iter(batch_size=_BATCH):
                self.write(batch, tokens, column=column, token_column=token_column)
            return
        if _arrow.speaks(rows):
            if tokens is not None:
                raise ValueError("tokens: they are a column of Arrow data; name it with token_column=")
            for values, words in _arrow.batches(rows, self.dim, column, token_column):
                self._push(values, values.dtype.name)
                if words is not None:
                    self._writer.push_tokens(words)
            return
        if column is not None or token_column is not None:
            raise ValueError("column, token_column: they go with Arrow data alone")
        array, dtype = _as_array(rows, self.dtype)
        self._push(array, dtype)
        if tokens is not None:
            words = list(tokens)
            count = array.size // self.dim
            if len(words) != count:
                raise ValueError(f"tokens: expected one for each of {count} rows, found {len(words)}")
            self._writer.push_tokens(words)

    def finish(self) -> Written:
        """Completes the file, flushes it and publishes it."""
        return self._writer.finish()

    def abort(self) -> None:
        """Gives up: the destination stays as it was."""
        self._writer.abort()

    def __enter__(self) -> Writer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is None:
            self.finish()
        else:
            self.abort()

    def _push(self, array: np.ndarray[Any, Any], dtype: str) -> None:
        if dtype not in _KINDS:
            raise TypeError(f"expected rows of floating-point numbers, found {dtype}; convert them first")
        if array.ndim not in (1, 2) or array.shape[-1] != self.dim:
            raise ValueError(f"expected rows of shape (n, {self.dim}), found {array.shape}")
        name, carrier = _KINDS[dtype]
        if carrier is not None and array.dtype != carrier:
            array = np.ascontiguousarray(array).view(carrier)
        native = array.dtype.newbyteorder("=")
        self._writer.push(np.require(array, dtype=native, requirements=["C", "A"]), name)


def _as_array(rows: Any, kept: str | None = None) -> tuple[np.ndarray[Any, Any], str]:
    """Rows as an array, and the name of their dtype; what numpy has not comes as integers.

    Floats of 8 bits of another dtype than the table's become f32, which holds them all.
    """
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(rows, torch.Tensor):
        tensor = rows.detach().cpu().contiguous()
        name = str(tensor.dtype).removeprefix("torch.")
        if _to_be_widened(name, kept):
            return tensor.float().numpy(), "float32"
        _, carrier = _KINDS.get(name, ("", None))
        if carrier is not None:
            return tensor.view(getattr(torch, np.dtype(carrier).name)).numpy(), name
        array: np.ndarray[Any, Any] = tensor.numpy()
    else:
        array = np.asarray(rows)
        if _to_be_widened(array.dtype.name, kept):
            array = array.astype(np.float32)
    return array, array.dtype.name


def _to_be_widened(name: str, kept: str | None) -> bool:
    return kept is not None and name.startswith("float8") and _KINDS.get(name, ("", None))[0] != kept


def from_numpy(
    array: Any,
    path: _Path,
    *,
    tokens: Iterable[str | None] | None = None,
    dtype: Any = None,
    **options: Any,
) -> Table:
    """Writes an array (or a tensor) of shape (vocab, dim) to an .emb file, and opens that.

    dtype is the array's unless said; options are those of Writer.
    """
    rows, name = _as_array(array)
    if rows.ndim != 2:
        raise ValueError(f"expected an array of shape (vocab, dim), found {rows.shape}")
    if dtype is None and name not in _KINDS:
        raise TypeError(f"expected an array of floating-point numbers, found {name}; convert it first")
    vocab, dim = rows.shape
    with Writer(path, dim, name if dtype is None else dtype, vocab=vocab, **options) as writer:
        writer.write(array, tokens)
    return _embmap.open(path)
