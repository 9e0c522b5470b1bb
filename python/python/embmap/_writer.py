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
_FLOATS = ("float32", "float16", "bfloat16", "float64")


class Writer:
    """Writes a table to an .emb file, streaming: the file appears whole or not at all.

    Used with `with`, it publishes the file at the end, and leaves nothing where an exception
    came first. Rows of another floating-point dtype than the table's are rounded once.

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
        (pyarrow, polars, duckdb, datasets). Of several columns, the one of lists of floats is
        the rows and, where there is one alone, the one of strings the tokens; column and
        token_column name others.
        """
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
        array, dtype = _as_array(rows)
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
        if dtype not in _FLOATS:
            raise TypeError(f"expected rows of floating-point numbers, found {dtype}; convert them first")
        if array.ndim not in (1, 2) or array.shape[-1] != self.dim:
            raise ValueError(f"expected rows of shape (n, {self.dim}), found {array.shape}")
        if dtype == "bfloat16" and array.dtype != np.int16:
            array = np.ascontiguousarray(array).view(np.int16)
        native = array.dtype.newbyteorder("=")
        self._writer.push(np.require(array, dtype=native, requirements=["C", "A"]), dtype)


def _as_array(rows: Any) -> tuple[np.ndarray[Any, Any], str]:
    """Rows as an array, and the name of their dtype; bf16 of torch comes as int16."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(rows, torch.Tensor):
        tensor = rows.detach().cpu().contiguous()
        if tensor.dtype == torch.bfloat16:
            return tensor.view(torch.int16).numpy(), "bfloat16"
        array: np.ndarray[Any, Any] = tensor.numpy()
    else:
        array = np.asarray(rows)
    return array, array.dtype.name


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
    if dtype is None and name not in _FLOATS:
        raise TypeError(f"expected an array of floating-point numbers, found {name}; name a dtype")
    vocab, dim = rows.shape
    with Writer(path, dim, name if dtype is None else dtype, vocab=vocab, **options) as writer:
        writer.write(array, tokens)
    return _embmap.open(path)
