"""Drop-in modules for torch: embeddings that do not hold their weights in memory.

    embedding = embmap.torch.Embedding("model/")      # instead of nn.Embedding
    embedding(ids)                                    # on the ids' device
"""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import Tensor, nn

from . import Table, open

__all__ = ["Embedding", "EmbeddingBag"]

_TORCH = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16, "f64": torch.float64}


class _Staging:
    """Pinned memory between the file and a device: filled on the CPU while the copy of the
    one before is under way."""

    def __init__(self) -> None:
        self._slots: list[tuple[Tensor, Any] | None] = [None, None]
        self._next = 0

    def take(self, elements: int, dtype: torch.dtype) -> Tensor:
        slot, self._next = self._next, 1 - self._next
        held = self._slots[slot]
        if held is not None:
            memory, copied = held
            copied.synchronize()
            if memory.dtype == dtype and memory.numel() >= elements:
                return memory[:elements]
        memory = torch.empty(elements, dtype=dtype, pin_memory=True)
        self._slots[slot] = (memory, torch.cuda.Event())
        return memory

    def sent(self) -> None:
        held = self._slots[1 - self._next]
        if held is not None:
            held[1].record()


class _OverTable(nn.Module):
    """What both modules share: the table, the dtype, and the way to a device."""

    def __init__(
        self, table: Table | str | os.PathLike[str], dtype: torch.dtype | None, options: dict[str, Any]
    ) -> None:
        super().__init__()
        if isinstance(table, Table):
            if options:
                raise TypeError(f"{', '.join(options)}: they go with a path, not with an open table")
            self.table = table
        else:
            self.table = open(table, **options)
        # Rows that are no plain elements come as f32.
        stored = _TORCH.get(self.table.stored, torch.float32)
        if self.table.codec != "plain":
            stored = torch.float32
        self.dtype = stored if dtype is None else dtype
        self._staging: _Staging | None = None

    @property
    def num_embeddings(self) -> int:
        return self.table.vocab

    @property
    def embedding_dim(self) -> int:
        return self.table.dim

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        state["_staging"] = None
        return state

    def _staged(self, shape: torch.Size, dtype: torch.dtype) -> Tensor:
        if self._staging is None:
            self._staging = _Staging()
        return self._staging.take(shape.numel(), dtype).view(shape)

    def _send(self, rows: Tensor, device: torch.device) -> Tensor:
        sent = rows.to(device, non_blocking=True)
        if self._staging is not None:
            self._staging.sent()
        return sent


class Embedding(_OverTable):
    """nn.Embedding over a table on disk: the rows of ids, on the ids' device.

    table is a path, with the options of embmap.open, or an open table. The rows are those of
    the file: there is no parameter, nothing in the state dict, and no gradient. dtype is what
    rows come as, the stored type unless said. Ids below 0 are refused, as nn.Embedding does.
    """

    def __init__(
        self,
        table: Table | str | os.PathLike[str],
        *,
        padding_idx: int | None = None,
        dtype: torch.dtype | None = None,
        **options: Any,
    ) -> None:
        super().__init__(table, dtype, options)
        self.padding_idx = _padding(padding_idx, self.num_embeddings)

    def forward(self, ids: Tensor) -> Tensor:
        if ids.device.type == "cpu":
            rows: Tensor = self.table.gather(ids, dtype=self.dtype, from_end=False)
            return rows
        here = ids.cpu()
        if ids.device.type != "cuda":
            rows = self.table.gather(here, dtype=self.dtype, from_end=False)
            return rows.to(ids.device)
        out = self._staged(here.shape + (self.embedding_dim,), self.dtype)
        self.table.gather(here, out=out, from_end=False)
        return self._send(out, ids.device)

    def to_nn(self) -> nn.Embedding:
        """The same as an nn.Embedding that holds its weights in memory, frozen."""
        every = torch.arange(self.num_embeddings)
        weight = self.table.gather(every, dtype=self.dtype)
        return nn.Embedding.from_pretrained(weight, freeze=True, padding_idx=self.padding_idx)

    def extra_repr(self) -> str:
        padding = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        return f"{self.num_embeddings}, {self.embedding_dim}{padding}, dtype={self.dtype}, {self.table!r}"


class EmbeddingBag(_OverTable):
    """nn.EmbeddingBag over a table on disk: bags of rows pooled in f32, on the ids' device.

    Its arguments are those of nn.EmbeddingBag as far as a table on disk has them.
    """

    def __init__(
        self,
        table: Table | str | os.PathLike[str],
        *,
        mode: str = "mean",
        padding_idx: int | None = None,
        include_last_offset: bool = False,
        dtype: torch.dtype | None = None,
        **options: Any,
    ) -> None:
        super().__init__(table, dtype, options)
        if mode not in ("sum", "mean", "max"):
            raise ValueError(f"mode: expected 'sum', 'mean' or 'max', found {mode!r}")
        self.mode = mode
        self.padding_idx = _padding(padding_idx, self.num_embeddings)
        self.include_last_offset = include_last_offset

    def forward(
        self, input: Tensor, offsets: Tensor | None = None, per_sample_weights: Tensor | None = None
    ) -> Tensor:
        if (input.dim() == 1) != (offsets is not None):
            raise ValueError("ids of one dimension go with offsets, ids of two dimensions without")
        if per_sample_weights is not None and self.mode != "sum":
            raise ValueError("per_sample_weights go with mode='sum'")
        ids = input.cpu()
        if offsets is not None:
            offsets = offsets.cpu()
            if not self.include_last_offset:
                offsets = torch.cat([offsets, offsets.new_tensor([ids.numel()])])
        weights = None if per_sample_weights is None else per_sample_weights.detach().cpu()
        pooled: Tensor = self.table.bag(
            ids, offsets, self.mode, weights, padding_id=self.padding_idx, from_end=False
        )
        return pooled.to(device=input.device, dtype=self.dtype)

    def to_nn(self) -> nn.EmbeddingBag:
        """The same as an nn.EmbeddingBag that holds its weights in memory, frozen."""
        every = torch.arange(self.num_embeddings)
        weight = self.table.gather(every, dtype=self.dtype)
        return nn.EmbeddingBag.from_pretrained(
            weight,
            freeze=True,
            mode=self.mode,
            include_last_offset=self.include_last_offset,
            padding_idx=self.padding_idx,
        )

    def extra_repr(self) -> str:
        padding = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        return f"{self.num_embeddings}, {self.embedding_dim}, mode={self.mode}{padding}, {self.table!r}"


def _padding(index: int | None, vocab: int) -> int | None:
    """Counts from the end where it is negative, as torch does."""
    if index is None:
        return None
    if not -vocab <= index < vocab:
        raise ValueError(f"padding_idx: expected -{vocab} to {vocab - 1}, found {index}")
    return index % vocab
