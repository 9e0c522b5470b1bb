#!/usr/bin/env python3
"""A recommender: what users have seen, pooled from a table on disk. Needs torch.

    python3 python/examples/recommender_bag.py [--steps N]

The table stays in its file and is not trained; what is trained is the small network on top.
EmbeddingBag is used as nn.EmbeddingBag is, but for its first argument.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch
from torch import nn

import embmap
from embmap.torch import EmbeddingBag

ITEMS, DIM = 50_000, 32


class Recommender(nn.Module):
    """How likely a user is to like an item."""

    def __init__(self, items: embmap.Table) -> None:
        super().__init__()
        self.history = EmbeddingBag(items, mode="mean", include_last_offset=True)
        self.item = embmap.torch.Embedding(items)
        self.top = nn.Sequential(nn.Linear(2 * DIM, 32), nn.ReLU(), nn.Linear(32, 1))

    def forward(self, seen: torch.Tensor, offsets: torch.Tensor, item: torch.Tensor) -> torch.Tensor:
        both = torch.cat([self.history(seen, offsets), self.item(item)], dim=1)
        scores: torch.Tensor = self.top(both).squeeze(1)
        return scores


def batch(weight: torch.Tensor, users: int) -> tuple[torch.Tensor, ...]:
    """Users with histories of different lengths, and an item each; liked if it is like theirs."""
    lengths = torch.randint(1, 40, (users,))
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
    seen = torch.randint(0, ITEMS, (int(offsets[-1]),))
    item = torch.randint(0, ITEMS, (users,))
    taste = torch.stack([weight[ids].mean(dim=0) for ids in seen.split(lengths.tolist())])
    return seen, offsets, item, (taste[:, 0] * weight[item, 0] > 0).float()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=300)
    options = parser.parse_args()
    torch.manual_seed(1)
    with tempfile.TemporaryDirectory() as directory:
        weight = torch.randn(ITEMS, DIM)
        # Tastes are seen in a mean of many items only where items go together.
        weight[:, 0] += 0.5
        model = Recommender(embmap.from_numpy(weight, Path(directory) / "items.emb"))
        trained = sum(parameter.numel() for parameter in model.parameters())
        print(f"{ITEMS:,} items of {DIM} on disk, {trained:,} parameters in memory")
        optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
        for step in range(options.steps + 1):
            seen, offsets, item, liked = batch(weight, 256)
            loss = nn.functional.binary_cross_entropy_with_logits(model(seen, offsets, item), liked)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if step % 100 == 0:
                print(f"step {step}: loss {loss.item():.3f}")


if __name__ == "__main__":
    main()
