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

_TORCH = {
    "f32": "float32",
    "f16": "float16",
    "bf16": "bfloat16",
    "f64": "float64",
    "i8": "int8",
    "u8": "uint8",
    "f8_e4m3": "float8_e4m3fn",
    "f8_e5m2": "float8_e5m2",
    "f8_e4m3fnuz": "float8_e4m3fnuz",
    "f8_e5m2fnuz": "float8_e5m2fnuz",
}

# Untyped in torch's own annotations.
_nn: Any = nn


class _OverTable(nn.Module):
    """What both modules share: the table, and what rows come as."""

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
        name = _TORCH.get(self.table.stored) if self.table.codec == "plain" else None
        stored: torch.dtype = getattr(torch, name or "float32")
        self.dtype: torch.dtype = stored if dtype is None else dtype
        # What the table cannot give itself is made of f32.
        gives = (stored, torch.float32, torch.float16, torch.bfloat16)
        self._gathered = self.dtype if self.dtype in gives else torch.float32

    @property
    def num_embeddings(self) -> int:
        return self.table.vocab

    @property
    def embedding_dim(self) -> int:
        return self.table.dim

    def __getattr__(self, name: str) -> Any:
        if name == "weight":
            raise AttributeError(
                "the rows lie in a file and are no parameter: there is no weight; to_nn() makes a "
                "module that holds them in memory"
            )
        return super().__getattr__(name)

    def _every_row(self) -> Tensor:
        every = torch.arange(self.num_embeddings)
        rows: Tensor = self.table.gather(every, dtype=self._gathered)
        return rows.to(self.dtype)


class Embedding(_OverTable):
    """nn.Embedding over a table on disk: the rows of ids, on the ids' device.

    table is a path, with the options of embmap.open, or an open table. The rows are those of
    the file: there is no parameter, nothing in the state dict, and no gradient. dtype is what
    rows come as, the stored type unless said. Ids below 0 are refused, as nn.Embedding does.
    For ids on a GPU the rows go there through pinned memory, while the CPU goes on.
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
        rows: Tensor
        if not ids.is_cuda:
            rows = self.table.gather(ids.cpu(), dtype=self._gathered, from_end=False)
            return rows.to(device=ids.device, dtype=self.dtype)
        # Torch keeps pinned memory for the next call, and hands it out once its copy is done.
        shape = (*ids.shape, self.embedding_dim)
        rows = torch.empty(shape, dtype=self._gathered, pin_memory=True)
        self.table.gather(ids.cpu(), out=rows, from_end=False)
        return rows.to(ids.device, non_blocking=True).to(self.dtype)

    def to_nn(self) -> nn.Embedding:
        """The same as an nn.Embedding that holds its weights in memory, frozen."""
        made: nn.Embedding = _nn.Embedding.from_pretrained(
            self._every_row(), freeze=True, padding_idx=self.padding_idx
        )
        return made

    def extra_repr(self) -> str:
        padding = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        return f"{self.num_embeddings}, {self.embedding_dim}{padding}, dtype={self.dtype}, {self.table!r}"


class EmbeddingBag(_OverTable):
    """nn.EmbeddingBag over a table on disk: bags of rows pooled in f32, on the ids' device.

    Its arguments are those of nn.EmbeddingBag as far as a table on disk has them. Gradients go
    to per_sample_weights, and to nothing else.
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
        if offsets is None:
            bags, length = ids.shape
            offsets = torch.arange(bags + 1) * length
        else:
            offsets = offsets.cpu()
            if not self.include_last_offset:
                offsets = torch.cat([offsets, offsets.new_tensor([ids.numel()])])
        pooled: Tensor
        if per_sample_weights is None:
            pooled = self._pool(ids.flatten(), offsets, None)
        else:
            weights = per_sample_weights.cpu().flatten()
            pooled = _WeightedSum.apply(weights, self, ids.flatten(), offsets)  # type: ignore[no-untyped-call, unused-ignore]
        return pooled.to(device=input.device, dtype=self.dtype)

    def _pool(self, ids: Tensor, offsets: Tensor, weights: Tensor | None) -> Tensor:
        pooled: Tensor = self.table.bag(
            ids, offsets, self.mode, weights, padding_id=self.padding_idx, from_end=False
        )
        return pooled

    def to_nn(self) -> nn.EmbeddingBag:
        """The same as an nn.EmbeddingBag that holds its weights in memory, frozen."""
        made: nn.EmbeddingBag = _nn.EmbeddingBag.from_pretrained(
            self._every_row(),
            freeze=True,
            mode=self.mode,
            include_last_offset=self.include_last_offset,
            padding_idx=self.padding_idx,
        )
        return made

    def extra_repr(self) -> str:
        padding = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        return f"{self.num_embeddings}, {self.embedding_dim}, mode={self.mode}{padding}, {self.table!r}"


class _WeightedSum(torch.autograd.Function):
    """A weighted sum of rows, whose gradient goes to the weights: the product of each row with
    the gradient of its bag."""

    @staticmethod
    def forward(ctx: Any, weights: Tensor, module: EmbeddingBag, ids: Tensor, offsets: Tensor) -> Tensor:
        ctx.module, ctx.ids, ctx.offsets, ctx.kind = module, ids, offsets, weights.dtype
        return module._pool(ids, offsets, weights)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        module: EmbeddingBag = ctx.module
        lengths = ctx.offsets.diff()
        bags = torch.arange(lengths.numel()).repeat_interleave(lengths)
        skipped = torch.zeros(ctx.ids.shape, dtype=torch.bool)
        if module.padding_idx is not None:
            skipped = ctx.ids == module.padding_idx
        rows = module.table.gather(ctx.ids, dtype=torch.float32, from_end=False)
        products = (rows * gradient.float()[bags]).sum(dim=1)
        return products.masked_fill(skipped, 0).to(ctx.kind), None, None, None


def _padding(index: int | None, vocab: int) -> int | None:
    """Counts from the end where it is negative, as torch does."""
    if index is None:
        return None
    if not -vocab <= index < vocab:
        raise ValueError(f"padding_idx: expected -{vocab} to {vocab - 1}, found {index}")
    return index % vocab
