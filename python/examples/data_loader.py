#!/usr/bin/env python3
"""A DataLoader whose workers gather rows, and share one copy of them. Needs torch.

    python3 python/examples/data_loader.py [--workers N] [--start fork|spawn|forkserver]

What goes to a worker is the table's path. Each opens the file for itself, and the rows lie in
memory once, in the page cache, however many workers there are.
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from pathlib import Path

import torch
from torch.utils.data import DataLoader, Dataset

import embmap

# Forking a process that has threads is what this shows to be fine here.
warnings.filterwarnings("ignore", message=".*fork.*", category=DeprecationWarning)


class Sentences(Dataset):  # type: ignore[type-arg,unused-ignore]
    """Sentences of a random language: ids, and whether most of them are even."""

    def __init__(self, table: embmap.Table, count: int, length: int = 32) -> None:
        self.table = table
        generator = torch.Generator().manual_seed(1)
        self.ids = torch.randint(0, table.vocab, (count, length), generator=generator)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        (item,) = self.__getitems__([index])
        return item

    def __getitems__(self, indices: list[int]) -> list[tuple[torch.Tensor, torch.Tensor]]:
        # One gather for the whole batch, in the worker.
        ids = self.ids[indices]
        return list(zip(self.table[ids], (ids % 2 == 0).float().mean(dim=1)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--start", default="fork", choices=["fork", "spawn", "forkserver"])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        weight = torch.randn(10_000, 64, generator=torch.Generator().manual_seed(2))
        # The first element tells even ids from odd ones, so that there is something to learn.
        weight[:, 0] = torch.where(torch.arange(10_000) % 2 == 0, 1.0, -1.0)
        table = embmap.from_numpy(weight, Path(directory) / "rows.emb")
        loader = DataLoader(
            Sentences(table, 2048),
            batch_size=128,
            num_workers=options.workers,
            multiprocessing_context=options.start if options.workers else None,
        )
        model = torch.nn.Linear(64, 1)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.03)
        for epoch in range(3):
            total = 0.0
            for rows, target in loader:
                loss = torch.nn.functional.mse_loss(model(rows.mean(dim=1)).squeeze(1), target)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                total += loss.item()
            print(f"epoch {epoch}: loss {total / len(loader):.4f}")


if __name__ == "__main__":
    main()
