"""Rows of embedding tables of any size, straight from the file, for numpy and torch.

    import embmap

    table = embmap.open("model/")          # .emb, .safetensors, a model directory
    table[5], table[2:9]                   # read-only views, nothing is copied
    table[ids]                             # a gather: ids of any shape and integer dtype
    table.gather(ids, out=out)             # into memory that is there already

See docs/python.md for the whole of it, and embmap.torch for drop-in modules.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from ._embmap import (
    FormatError,
    Table,
    Warming,
    __version__,
    convert,
    open,
    output_cache,
    tensors,
)

if TYPE_CHECKING:
    import os

    import numpy as np
    import numpy.typing as npt


class Nearest(NamedTuple):
    """What Table.nearest found, the nearest first: of shape (k,), or (queries, k) for several.

    Where rows are excluded, or have no direction, there may be fewer: the last ids are -1 then.
    """

    ids: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]


class Residency(NamedTuple):
    """How much of a table's rows is in memory: what Table.residency found, in bytes."""

    total_bytes: int
    """Of all rows."""
    cached_bytes: int | None
    """Held by the page cache, whoever brought them there; None where the system does not tell."""
    mapped_bytes: int | None
    """Mapped by this process; None where the table is not mapped."""


class Verification(NamedTuple):
    """What Table.verify found."""

    sound: bool
    """True where nothing is damaged. NaNs and infinities are no damage."""
    bytes: int
    """That were read."""
    blocks: int
    """That were compared with their sums; 0 for formats that have none."""
    nan: int
    infinite: int
    first_non_finite_row: int | None
    damage: list[str]
    """What is wrong, as far as it was kept."""


class Loss(NamedTuple):
    """What quantizing cost: how far what is read back is from what was written."""

    max_error: float
    rms_error: float
    mean_cosine: float
    min_cosine: float


class Written(NamedTuple):
    """What convert and Writer.finish published."""

    path: os.PathLike[str]
    file_bytes: int
    vocab: int
    row_stride: int
    tokens: int
    file_id: bytes
    loss: Loss | None
    """Where convert quantized the rows."""


def _reopen(path: str | os.PathLike[str], options: dict[str, Any]) -> Table:
    """What a pickled table becomes."""
    return open(path, **options)


from ._writer import Writer, from_numpy  # noqa: E402

__all__ = [
    "FormatError",
    "Loss",
    "Nearest",
    "Residency",
    "Table",
    "Verification",
    "Warming",
    "Writer",
    "Written",
    "__version__",
    "convert",
    "from_numpy",
    "open",
    "output_cache",
    "tensors",
]
