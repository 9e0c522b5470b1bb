"""The native half of embmap."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Literal, Protocol, TypeAlias, final, overload

import numpy as np
import numpy.typing as npt

from . import Nearest, Residency, Verification, Written

_Path: TypeAlias = str | os.PathLike[str]
_Array: TypeAlias = npt.NDArray[Any]

class _Tensor(Protocol):
    """A torch tensor, without asking for torch."""

    def detach(self) -> Any: ...
    def data_ptr(self) -> int: ...

_Ids: TypeAlias = _Tensor | npt.ArrayLike
_Numbers: TypeAlias = _Tensor | npt.ArrayLike
_DType: TypeAlias = str | type[Any] | np.dtype[Any] | Any
_Access: TypeAlias = Literal["map", "read", "memory", "direct"]

__all__ = [
    "FormatError",
    "Table",
    "Warming",
    "Writer",
    "__version__",
    "convert",
    "open",
    "output_cache",
    "tensors",
]

__version__: str

class FormatError(ValueError):
    """A file is damaged, cut, of an unknown version, or no embedding table at all."""

@final
class Table:
    """An embedding table, open for reading: rows by id, as numpy arrays or torch tensors."""

    @property
    def shape(self) -> tuple[int, int]: ...
    ndim: ClassVar[int]
    @property
    def vocab(self) -> int: ...
    @property
    def dim(self) -> int: ...
    @property
    def dtype(self) -> np.dtype[Any]: ...
    @property
    def stored(self) -> str: ...
    @property
    def codec(self) -> str: ...
    @property
    def access(self) -> _Access: ...
    @property
    def path(self) -> Path: ...
    @property
    def row_bytes(self) -> int: ...
    @property
    def files(self) -> list[Path]: ...
    @property
    def format(self) -> str: ...
    @property
    def tensor(self) -> str | None: ...
    @property
    def metadata(self) -> Any: ...
    @property
    def closed(self) -> bool: ...
    def __len__(self) -> int: ...
    def __contains__(self, token: str, /) -> bool: ...
    def __iter__(self) -> Iterator[_Array]: ...
    @overload
    def __getitem__(self, key: int | np.integer[Any] | slice | _Array | Sequence[Any], /) -> _Array: ...
    @overload
    def __getitem__(self, key: _Ids, /) -> Any: ...
    def gather(
        self,
        ids: _Ids,
        out: Any | None = None,
        dtype: _DType | None = None,
        threads: int | None = None,
        *,
        from_end: bool = True,
    ) -> Any: ...
    def bag(
        self,
        ids: _Ids,
        offsets: _Ids | None = None,
        mode: str = "mean",
        weights: _Numbers | None = None,
        *,
        out: Any | None = None,
        padding_id: int | None = None,
        threads: int | None = None,
        from_end: bool = True,
    ) -> Any: ...
    def prefetch(self, ids: _Ids, *, from_end: bool = True) -> None: ...
    def warm(self, start: int = 0, stop: int | None = None) -> None: ...
    def warm_in_background(self, start: int = 0, stop: int | None = None) -> Warming: ...
    def prefault(self, start: int = 0, stop: int | None = None) -> None: ...
    def release(self) -> None: ...
    def residency(self) -> Residency: ...
    def evict(self) -> Residency: ...
    def verify(self, *, progress: Callable[[int, int], object] | None = None) -> Verification: ...
    def check_alive(self) -> None: ...
    def token(self, id: int | np.integer[Any]) -> str | None: ...
    def id_of(self, token: str) -> int | None: ...
    def encode(self, text: str, *, special_tokens: bool = True) -> list[int]: ...
    def embed(self, texts: str | Iterable[str]) -> npt.NDArray[np.float32]: ...
    def nearest(
        self,
        query: int | str | Sequence[str] | _Ids | _Numbers,
        k: int = 10,
        *,
        metric: Literal["cosine", "dot"] = "cosine",
        exclude: int | str | Sequence[str] | _Ids | None = None,
        threads: int | None = None,
        progress: Callable[[int, int], object] | None = None,
    ) -> Nearest: ...
    def close(self) -> None: ...
    def __enter__(self) -> Table: ...
    def __exit__(
        self,
        *_exception: type[BaseException] | BaseException | TracebackType | None,
    ) -> None: ...
    def __reduce__(self) -> tuple[Any, ...]: ...
    def __array__(
        self, dtype: npt.DTypeLike | None = None, copy: bool | None = None
    ) -> _Array: ...
    def __dlpack__(
        self,
        *,
        stream: Any | None = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> Any: ...
    @staticmethod
    def __dlpack_device__() -> tuple[int, int]: ...

@final
class Warming:
    """A table that a thread is reading into memory; made by Table.warm_in_background."""

    @property
    def progress(self) -> tuple[int, int] | None: ...
    @property
    def done(self) -> bool: ...
    def wait(self) -> None: ...
    def cancel(self) -> None: ...

@final
class Writer:
    """Rows and tokens go in, and finish publishes the file."""

    def __new__(
        cls,
        path: _Path,
        dim: int,
        dtype: _DType,
        *,
        vocab: int | None = None,
        align: int | None = None,
        metadata: str | None = None,
        tokenizer: str | None = None,
        replace: bool = False,
        file_id: bytes | None = None,
    ) -> Writer: ...
    @property
    def dtype(self) -> str: ...
    def push(self, rows: _Array, dtype: _DType) -> None: ...
    def push_tokens(self, tokens: Sequence[str | None]) -> None: ...
    def finish(self) -> Written: ...
    def abort(self) -> None: ...

def open(
    path: _Path,
    *,
    tensor: str | None = None,
    scales: str | None = None,
    biases: str | None = None,
    access: _Access = "map",
    threads: int | None = None,
    temperature: Literal["warm", "cold"] | None = None,
    rss_budget: int | None = None,
    spin: float | None = None,
    allow_network_map: bool = False,
    follow_links: bool = False,
    io_uring: bool = True,
) -> Table: ...
def tensors(
    path: _Path, *, follow_links: bool = False
) -> list[tuple[str, list[int], str]]: ...
def convert(
    src: _Path | Table,
    dst: _Path,
    *,
    tensor: str | None = None,
    scales: str | None = None,
    biases: str | None = None,
    dtype: _DType | None = None,
    align: int | None = None,
    rows: tuple[int, int] | None = None,
    replace: bool = False,
    file_id: bytes | None = None,
    follow_links: bool = False,
    progress: Callable[[int, int], object] | None = None,
) -> Written: ...
def output_cache(limit: int | None = None) -> int: ...
