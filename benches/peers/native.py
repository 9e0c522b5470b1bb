"""The functions of the Rust side."""

from __future__ import annotations

import ctypes
import functools
import os
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent

_POINTER, _SIZE = ctypes.c_void_p, ctypes.c_size_t
_TYPES = {
    "ours_open": (_POINTER, [ctypes.c_char_p, ctypes.c_int]),
    "ours_convert": (ctypes.c_int, [ctypes.c_char_p, ctypes.c_char_p]),
    "ours_warm": (ctypes.c_int, [_POINTER]),
    "ours_evict": (ctypes.c_int64, [_POINTER]),
    "ours_gather": (ctypes.c_int, [_POINTER, _POINTER, _SIZE, _POINTER, _SIZE, _SIZE]),
    "ours_fresh": (_POINTER, [_POINTER, _POINTER, _SIZE]),
    "ours_recycled": (_POINTER, [_POINTER, _POINTER, _SIZE]),
    "ours_drop_fresh": (None, [_POINTER]),
    "ours_bag": (ctypes.c_int, [_POINTER, _POINTER, _SIZE, _POINTER, _SIZE, _POINTER, _SIZE, _SIZE]),
    "finalfusion_write": (ctypes.c_int, [ctypes.c_char_p, _POINTER, _SIZE, _SIZE]),
    "finalfusion_open": (_POINTER, [ctypes.c_char_p]),
    "finalfusion_gather": (ctypes.c_int, [_POINTER, _POINTER, _SIZE, _POINTER, _SIZE]),
    "finalfusion_fresh": (_POINTER, [_POINTER, _POINTER, _SIZE]),
    "lmdb_write": (ctypes.c_int, [ctypes.c_char_p, _POINTER, _SIZE, _SIZE]),
    "lmdb_open": (_POINTER, [ctypes.c_char_p]),
    "lmdb_gather": (ctypes.c_int, [_POINTER, _POINTER, _SIZE, _POINTER, _SIZE]),
    "limit_open": (_POINTER, [ctypes.c_char_p]),
    "limit_close": (None, [_POINTER]),
    "limit_loops": (_SIZE, []),
    "limit_gather": (ctypes.c_int, [_POINTER, _POINTER, _SIZE, _POINTER, _SIZE, _SIZE, _SIZE]),
}


@functools.cache
def native() -> ctypes.CDLL:
    target = os.environ.get("CARGO_TARGET_DIR", HERE.parent.parent / "target" / "peers" / "rust")
    library = ctypes.CDLL(str(Path(target) / "release" / "libembmap_peers.so"))
    for name, (result, arguments) in _TYPES.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


def check(status: int) -> None:
    if status != 0:
        raise RuntimeError("see standard error")


def handle(opened: int | None) -> int:
    if opened is None:
        raise RuntimeError("see standard error")
    return opened


def pointer(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]
