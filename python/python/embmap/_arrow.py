"""Reading Arrow data through its PyCapsule interface and C data interface, with numpy alone.

Structures and layouts: https://arrow.apache.org/docs/format/CDataInterface.html and
https://arrow.apache.org/docs/format/CStreamInterface.html. What is read is the part that
embedding tables come as: lists of floats, and strings.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from typing import Any

import numpy as np

_Floats = np.ndarray[Any, Any]

_INTEGERS = {
    b"c": np.int8, b"C": np.uint8, b"s": np.int16, b"S": np.uint16,
    b"i": np.int32, b"I": np.uint32, b"l": np.int64, b"L": np.uint64,
}  # fmt: skip

_FLOATS = {b"e": np.dtype("<f2"), b"f": np.dtype("<f4"), b"g": np.dtype("<f8")}


class _Schema(ctypes.Structure):
    pass


class _Array(ctypes.Structure):
    pass


class _Stream(ctypes.Structure):
    pass


_Schema._fields_ = [
    ("format", ctypes.c_char_p),
    ("name", ctypes.c_char_p),
    ("metadata", ctypes.c_void_p),
    ("flags", ctypes.c_int64),
    ("n_children", ctypes.c_int64),
    ("children", ctypes.POINTER(ctypes.POINTER(_Schema))),
    ("dictionary", ctypes.POINTER(_Schema)),
    ("release", ctypes.CFUNCTYPE(None, ctypes.POINTER(_Schema))),
    ("private_data", ctypes.c_void_p),
]
_Array._fields_ = [
    ("length", ctypes.c_int64),
    ("null_count", ctypes.c_int64),
    ("offset", ctypes.c_int64),
    ("n_buffers", ctypes.c_int64),
    ("n_children", ctypes.c_int64),
    ("buffers", ctypes.POINTER(ctypes.c_void_p)),
    ("children", ctypes.POINTER(ctypes.POINTER(_Array))),
    ("dictionary", ctypes.POINTER(_Array)),
    ("release", ctypes.CFUNCTYPE(None, ctypes.POINTER(_Array))),
    ("private_data", ctypes.c_void_p),
]
_Stream._fields_ = [
    ("get_schema", ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(_Stream), ctypes.POINTER(_Schema))),
    ("get_next", ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(_Stream), ctypes.POINTER(_Array))),
    ("get_last_error", ctypes.CFUNCTYPE(ctypes.c_char_p, ctypes.POINTER(_Stream))),
    ("release", ctypes.CFUNCTYPE(None, ctypes.POINTER(_Stream))),
    ("private_data", ctypes.c_void_p),
]

_pointer_of = ctypes.pythonapi.PyCapsule_GetPointer
_pointer_of.restype = ctypes.c_void_p
_pointer_of.argtypes = [ctypes.py_object, ctypes.c_char_p]


def speaks(data: Any) -> bool:
    """True for what hands out Arrow data: an array, a batch, or a stream of them."""
    return hasattr(data, "__arrow_c_stream__") or hasattr(data, "__arrow_c_array__")


def batches(
    data: Any, dim: int, column: str | None, token_column: str | None
) -> Iterator[tuple[_Floats, list[str | None] | None]]:
    """Rows of shape (n, dim), and their tokens where there are any, batch by batch.

    What is yielded lies in Arrow's memory, and is valid until the next one is asked for.
    """
    # A capsule owns its structure, and releases it when it is gone.
    if hasattr(data, "__arrow_c_stream__"):
        capsule = data.__arrow_c_stream__()
        stream = ctypes.cast(_pointer_of(capsule, b"arrow_array_stream"), ctypes.POINTER(_Stream))
        schema = _Schema()
        _check(stream, stream.contents.get_schema(stream, ctypes.byref(schema)))
        try:
            while True:
                array = _Array()
                _check(stream, stream.contents.get_next(stream, ctypes.byref(array)))
                if not array.release:
                    return
                try:
                    yield _rows(schema, array, dim, column, token_column)
                finally:
                    array.release(ctypes.byref(array))
        finally:
            schema.release(ctypes.byref(schema))
    else:
        of_schema, of_array = data.__arrow_c_array__()
        schemas = ctypes.cast(_pointer_of(of_schema, b"arrow_schema"), ctypes.POINTER(_Schema))
        arrays = ctypes.cast(_pointer_of(of_array, b"arrow_array"), ctypes.POINTER(_Array))
        yield _rows(schemas.contents, arrays.contents, dim, column, token_column)
        del of_schema, of_array


def _check(stream: Any, code: int) -> None:
    if code != 0:
        reason = stream.contents.get_last_error(stream)
        raise ValueError(f"the Arrow stream failed: {(reason or b'no reason given').decode(errors='replace')}")


def _rows(
    schema: _Schema, array: _Array, dim: int, column: str | None, token_column: str | None
) -> tuple[_Floats, list[str | None] | None]:
    if schema.format != b"+s":
        if column is not None or token_column is not None:
            raise ValueError("column, token_column: this Arrow data has a single column")
        return _vectors(schema, array, array.offset, array.length, dim), None
    columns = {}
    for index in range(schema.n_children):
        child = schema.children[index].contents
        columns[(child.name or b"").decode()] = (child, array.children[index].contents)
    kinds = {name: _kind(child) for name, (child, _) in columns.items()}
    vectors = _choose(kinds, column, "vectors", "column")
    words = [name for name, kind in kinds.items() if kind == "strings"]
    if token_column is None and len(words) != 1:
        tokens = None
    else:
        tokens = _choose(kinds, token_column, "strings", "token_column")
    if array.null_count != 0 and _missing(array, array.offset, array.length).any():
        raise ValueError("expected no rows that are null")
    child, values = columns[vectors]
    rows = _vectors(child, values, values.offset + array.offset, array.length, dim)
    if tokens is None:
        return rows, None
    child, values = columns[tokens]
    return rows, _strings(child, values, values.offset + array.offset, array.length)


def _kind(schema: _Schema) -> str:
    if schema.format.startswith(b"+w:") or schema.format in (b"+l", b"+L"):
        if schema.children[0].contents.format in _FLOATS:
            return "vectors"
    # Of a dictionary the format is that of its indices.
    values = schema.dictionary.contents if schema.dictionary else schema
    if values.format in (b"u", b"U", b"vu"):
        return "strings"
    return "other"


def _choose(kinds: dict[str, str], asked: str | None, kind: str, option: str) -> str:
    if asked is not None:
        if asked not in kinds:
            raise ValueError(f"{option}: no column {asked!r}; there are {', '.join(kinds)}")
        if kinds[asked] != kind:
            raise ValueError(f"{option}: column {asked!r} is none of {kind}")
        return asked
    found = [name for name, other in kinds.items() if other == kind]
    if len(found) != 1:
        raise ValueError(
            f"expected one column of lists of floats, found {len(found)} among "
            f"{', '.join(kinds) or 'none'}; name one with {option}="
        )
    return found[0]


def _buffer(array: _Array, index: int, dtype: Any, start: int, count: int) -> np.ndarray[Any, Any]:
    """Elements of a buffer, from an element on."""
    dtype = np.dtype(dtype)
    address = array.buffers[index]
    if count == 0 or not address:
        return np.zeros(count, dtype)
    memory = (ctypes.c_char * (count * dtype.itemsize)).from_address(address + start * dtype.itemsize)
    return np.frombuffer(memory, dtype)


def _missing(array: _Array, start: int, count: int) -> np.ndarray[Any, Any]:
    """Which elements are null."""
    if array.null_count == 0 or array.n_buffers == 0 or not array.buffers[0]:
        return np.zeros(count, bool)
    first = start // 8
    bits = _buffer(array, 0, np.uint8, first, -(-(start + count) // 8) - first)
    valid = np.unpackbits(bits, bitorder="little")[start - first * 8 :][:count]
    missing: np.ndarray[Any, Any] = valid == 0
    return missing


def _vectors(schema: _Schema, array: _Array, start: int, count: int, dim: int) -> _Floats:
    if _kind(schema) != "vectors":
        raise ValueError(f"expected lists of floats, found Arrow data of format {schema.format!r}")
    if _missing(array, start, count).any():
        raise ValueError("expected no rows that are null")
    element, values = schema.children[0].contents, array.children[0].contents
    if schema.format.startswith(b"+w:"):
        width = int(schema.format[3:])
        if width != dim:
            raise ValueError(f"expected rows of {dim}, found lists of {width}")
        first = start * dim
    else:
        wide = np.int64 if schema.format == b"+L" else np.int32
        offsets = _buffer(array, 1, wide, start, count + 1)
        lengths = np.diff(offsets)
        if (lengths != dim).any():
            wrong = int(np.flatnonzero(lengths != dim)[0])
            raise ValueError(f"expected rows of {dim}, found a list of {lengths[wrong]} at {wrong}")
        first = int(offsets[0]) if count else 0
    first += values.offset
    if _missing(values, first, count * dim).any():
        raise ValueError("expected no elements that are null")
    floats = _buffer(values, 1, _FLOATS[element.format], first, count * dim)
    return floats.reshape(count, dim)


def _strings(schema: _Schema, array: _Array, start: int, count: int) -> list[str | None]:
    missing = _missing(array, start, count)
    if schema.dictionary:
        known = array.dictionary.contents
        values = _strings(schema.dictionary.contents, known, known.offset, known.length)
        indices = _buffer(array, 1, _INTEGERS[schema.format], start, count)
        return [None if null else values[i] for i, null in zip(indices.tolist(), missing.tolist())]
    if schema.format == b"vu":
        words = _views(array, start, count)
    else:
        wide = np.int64 if schema.format == b"U" else np.int32
        offsets = _buffer(array, 1, wide, start, count + 1)
        first, end = (int(offsets[0]), int(offsets[-1])) if count else (0, 0)
        text = _buffer(array, 2, np.uint8, first, end - first).tobytes()
        words = [text[a - first : b - first] for a, b in zip(offsets[:-1].tolist(), offsets[1:].tolist())]
    return [None if null else word.decode() for word, null in zip(words, missing.tolist())]


def _views(array: _Array, start: int, count: int) -> list[bytes]:
    """Strings of up to 12 bytes lie in their view, longer ones in a buffer that it names."""
    words = []
    for view in _buffer(array, 1, np.dtype("V16"), start, count).tolist():
        length = int.from_bytes(view[:4], "little")
        if length <= 12:
            words.append(view[4 : 4 + length])
        else:
            index = int.from_bytes(view[8:12], "little")
            offset = int.from_bytes(view[12:], "little")
            words.append(_buffer(array, 2 + index, np.uint8, offset, length).tobytes())
    return words
